"""Links to Hugging Face: a repository, one file in it, or a folder of it, at any revision."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from huggingface_hub import HfApi, constants
from huggingface_hub.errors import RevisionNotFoundError

from ...core.config.names import HUB_NAME
from ...core.errors import UserError
from ...core.messages.message import Message
from ..downloads import hub_files
from ..downloads.connections import Address
from .found import FOLDER, Choice, Found, Logins

HOSTS = ("huggingface.co", "www.huggingface.co", "hf.co")
SITE = "Hugging Face"
NO_MODELS = ("datasets", "spaces", "docs", "blog", "collections", "papers", "models", "settings")
VIEWS = ("blob", "resolve", "raw", "tree")  # before a revision in a link
SINGLE = (".safetensors", ".ckpt")


def is_ours(link: str) -> bool:
    hosts = (*HOSTS, urlsplit(constants.ENDPOINT).netloc)
    return urlsplit(link).netloc.lower() in hosts or ("/" in link and bool(HUB_NAME.fullmatch(link)))


def parsed(link: str, field: str) -> tuple[str, str, str]:
    """(repository, revision, path in it), the last two "" where the link does not tell."""
    parts = [unquote(part) for part in urlsplit(link).path.split("/") if part]
    if not parts or parts[0] in NO_MODELS:
        raise UserError("download.hub_no_model", field)
    if len(parts) > 2 and parts[2] in VIEWS:
        repository, (revision, *path) = parts[:2], parts[3:] or [""]
        if revision == "refs" and len(path) > 1:  # refs/pr/1
            revision, path = "/".join([revision, *path[:2]]), path[2:]
    elif len(parts) > 1 and parts[1] in VIEWS:  # of the old names without an owner
        repository, (revision, *path) = parts[:1], parts[2:] or [""]
    else:
        repository, revision, path = parts[:2], "", []
    name = "/".join(repository)
    if not HUB_NAME.fullmatch(name):
        raise UserError("download.no_model", field, name=name)
    return name, revision, "/".join(path)


def look_up(link: str, choice: str, logins: Logins, public_only: bool, field: str) -> Found:
    """What is behind a link. choice: the path of one of the repository's files. Raises UserError."""
    name, revision, path = parsed(link, field)
    info = about(name, revision, logins, field)
    sizes = {file.rfilename: file for file in info.siblings or []}
    is_file = path in sizes
    if path and not is_file and not any(file.startswith(f"{path}/") for file in sizes):
        raise UserError("download.hub_no_file", field, name=name, file=path)
    named = f"{constants.ENDPOINT}/{name}"
    if revision or path:
        at = quote(revision or "main", safe="/")
        named += f"/{'blob' if is_file else 'tree'}/{at}" + (f"/{quote(path)}" if path else "")
    told: dict[str, Any] = {"site": SITE, "title": name, "licence": licence(info), "revision": info.sha or revision}
    told["notes"] = (Message("download.gated"),) if info.gated else ()
    if is_file:
        return one_file(sizes[path], named, told, name, logins, public_only)
    models = single_files([file for file in sizes if file.startswith(f"{path}/" if path else "")])
    if choice and choice not in models:
        raise UserError("download.no_such_file", "file", name=choice, names=models)
    if models:
        choices = tuple(Choice(file, size_of(sizes[file])) for file in models) if len(models) > 1 else ()
        return one_file(sizes[choice or models[0]], named, {**told, "choices": choices}, name, logins, public_only)
    files = {} if path else hub_files.model_files({file: size_of(one) or 0 for file, one in sizes.items()})
    if not files:
        raise UserError("base.not_on_hub_as_diffusers", field, name=name)
    size = sum(files.values())
    return Found(link=named, address=Address(named), name=name, size=size, kind=FOLDER, files=files, **told)


def about(name: str, revision: str, logins: Logins, field: str) -> Any:
    """The Hub's ModelInfo. Raises UserError."""
    token = logins.hub or False
    try:
        return HfApi(endpoint=constants.ENDPOINT).model_info(
            name, revision=revision or None, files_metadata=True, timeout=hub_files.TIME_OUT, token=token
        )
    except RevisionNotFoundError as error:
        raise UserError("download.hub_no_revision", field, name=name, revision=revision) from error
    except hub_files.REACH as error:
        raise hub_files.away(field, name, error, "model") from error


def one_file(file: Any, named: str, told: dict[str, Any], name: str, logins: Logins, public_only: bool) -> Found:
    def refusal(status: int, body: bytes) -> UserError | None:
        return UserError("download.hub_login", "link", name=name) if status in (401, 403) else None

    link = f"{constants.ENDPOINT}/{name}/resolve/{quote(told['revision'], safe='')}/{quote(file.rfilename)}"
    authorization = f"Bearer {logins.hub}" if logins.hub else ""
    address = Address(link, authorization, public_only, refusal)
    file_name, sha256 = PurePosixPath(file.rfilename).name, sha256_of(file)
    return Found(link=named, address=address, name=file_name, size=size_of(file), sha256=sha256, **told)


def sha256_of(file: Any) -> str:
    """Told of large files only."""
    lfs = getattr(file, "lfs", None)
    return str((lfs.get("sha256") if isinstance(lfs, dict) else getattr(lfs, "sha256", "")) or "")


def single_files(names: list[str]) -> list[str]:
    """Those that may be whole models: outside a diffusers model's parts, safetensors first."""
    found = [
        name
        for name in names
        if name.lower().endswith(SINGLE) and not any(part in hub_files.PARTS for part in PurePosixPath(name).parts[:-1])
    ]
    weights = ("diffusion_pytorch_model", "model.", "pytorch_model")  # of a part that is a repository of its own
    found = [name for name in found if not PurePosixPath(name).name.startswith(weights)]
    return sorted(found, key=lambda name: (not name.endswith(SINGLE[0]), name.count("/"), name))


def size_of(file: Any) -> int | None:
    return file.size if isinstance(file.size, int) else None


def licence(info: Any) -> str:
    card = info.card_data
    told = [str(card.get(name) or "") for name in ("license_name", "license", "license_link")] if card else ["", "", ""]
    if told[0] and told[1] in ("", "other"):
        return told[0][:200]
    if told[1] and told[1] != "other":
        return told[1][:200]
    tags = [tag.partition(":")[2] for tag in info.tags or [] if tag.startswith("license:")]
    return (tags[0] if tags else told[2])[:200]
