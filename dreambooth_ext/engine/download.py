"""Models by name or link: from Hugging Face into its own cache, from elsewhere into the folder `models`."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote, urlparse

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

from ..errors import UserError
from ..files import expanded, free_bytes, human_size, replacing

MODELS = Path(__file__).resolve().parents[2] / "models"
HUB_PAGE = re.compile(r"^https://huggingface\.co/([\w.-]+/[\w.-]+?)(?:/tree/main)?/?$")
HUB_NAME = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
CHUNK = 1 << 20  # bytes
PARTS = ("unet", "vae", "text_encoder", "text_encoder_2", "tokenizer", "tokenizer_2", "scheduler")


def download(name: str, field: str) -> Path:
    """The local path of a model that is given by path, Hugging Face name or https link."""
    name = name.strip()
    if not name:
        raise UserError(field, "no model is chosen.", "Give a file, a diffusers folder, a Hugging Face name or a link.")
    if page := HUB_PAGE.match(name):
        return from_hub(page.group(1), field)
    if name.startswith(("http://", "https://")):
        return from_link(name.replace("/blob/", "/resolve/") if "huggingface.co/" in name else name, field)
    path = expanded(name)
    try:
        path.exists()
    except (OSError, ValueError) as error:
        raise UserError(field, f"{name[:100]!r} cannot be a path ({error.__class__.__name__}).", "Check it.") from error
    if not path.exists() and HUB_NAME.match(name) and path.suffix.lower() not in (".safetensors", ".ckpt", ".pt"):
        return from_hub(name, field)
    if not path.exists():
        raise UserError(field, f"{name} does not exist.", "Check the path; a Hugging Face name looks like owner/model.")
    return path


def from_hub(name: str, field: str) -> Path:
    """The model's folder in the Hugging Face cache, which is completed first if the network is there."""
    wanted = ["model_index.json"]
    for part in PARTS:
        wanted += [f"{part}/{x}" for x in ("*.json", "merges.txt", "*.safetensors")]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*non_ema*", "*.fp16.*"]))
        missing = [part for part in ("unet", "vae", "text_encoder") if not any((folder / part).glob("*.safetensors"))]
        if missing and (folder / "model_index.json").is_file():  # only half precision, or only pickles
            wanted = [f"{part}/*{suffix}" for part in PARTS for suffix in (".fp16.safetensors", ".bin")]
            folder = Path(snapshot_download(name, allow_patterns=wanted, ignore_patterns=["*non_ema*"]))
        return folder
    except RepositoryNotFoundError as error:
        raise UserError(
            field,
            f"{name} is neither a file or folder here nor a public model on Hugging Face.",
            "Check the spelling; for a model behind a login run `huggingface-cli login` first.",
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        raise UserError(
            field,
            f"{name} is not a file or folder here, and Hugging Face cannot be reached ({type(error).__name__}).",
            "Check the network, or choose a file on this machine.",
        ) from error


def download_config(name: str, field: str) -> Path:
    """The folder with a diffusers model's configurations alone, from Hugging Face."""
    try:
        return Path(snapshot_download(name, allow_patterns=["config.json", "unet/config.json"]))
    except RepositoryNotFoundError as error:
        remedy = "Check the spelling; for a model behind a login run `huggingface-cli login` first."
        raise UserError(field, f"{name} is neither here nor a public model on Hugging Face.", remedy) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError, ValueError) as error:
        message = f"{name} is not here, and Hugging Face cannot be reached ({type(error).__name__})."
        raise UserError(field, message, "Check the network, or choose a file on this machine.") from error


def from_link(link: str, field: str) -> Path:
    """The file behind a link, downloaded once into `models`."""
    try:
        request = urllib.request.Request(link, headers={"User-Agent": "dreambooth_ext"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            if answer.headers.get("Content-Type", "").startswith("text/html"):
                raise UserError(
                    field,
                    f"{link} leads to a web page, not to a model file.",
                    "Copy the link of the site's download button; where a login is asked for, download in the browser.",
                )
            size = int(answer.headers.get("Content-Length") or 0)
            path = MODELS / name_of(link, answer.headers.get("Content-Disposition", ""))
            if path.is_file() and size in (0, path.stat().st_size):
                return path
            if size > free_bytes(MODELS):
                raise UserError(field, f"the model needs {human_size(size)} of disk.", "Free some space first.")
            with replacing(path) as temporary:
                with temporary.open("wb") as file:
                    while block := answer.read(CHUNK):
                        file.write(block)
                    got = file.tell()
                if got < size:
                    raise UserError(
                        field, f"the download broke off at {human_size(got)} of {human_size(size)}.", "Try again."
                    )
            return path
    except urllib.error.HTTPError as error:
        raise UserError(
            field, f"{link} answers {error.code} {error.reason}.", "Download the model in the browser instead."
        ) from error
    except (urllib.error.URLError, OSError, ValueError) as error:
        raise UserError(
            field, f"{link} cannot be reached ({error}).", "Check the link and the network, or choose a local file."
        ) from error


def name_of(link: str, disposition: str) -> str:
    """The file's name: what the server calls it (civitai), else the link's last part; no folders, odd letters out."""
    said = re.search(r"filename\*?=(?:UTF-8'')?\"?([^\";]+)", disposition)
    name = unquote(said.group(1) if said else urlparse(link).path.rsplit("/", 1)[-1])
    return re.sub(r"[^\w.()\[\] -]", "_", name).lstrip(". ") or "model.safetensors"
