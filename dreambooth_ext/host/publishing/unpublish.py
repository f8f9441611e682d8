"""Removes a published model from the host's folders: only what we put there, and nothing that was changed since."""

from __future__ import annotations

import filecmp
from pathlib import Path

from ...core.system.files import read_json, remove, write_json
from ..errors import Refusal
from . import clip_folders
from .model_files import CLIP, MARK, published_mark, sidecar


def is_published(artifact: Path, target: Path, run: str) -> bool:
    """Whether `target` exists as this run's model, judged by its mark alone."""
    mark = published_mark(target) if target.is_file() else None
    return mark is not None and mark.get("run") == run and mark.get("file") == target.name == artifact.name


def check_unchanged(artifact: Path, target: Path, run: str) -> None:
    """Raise a Refusal unless `target` is still what `publish` made of `artifact`."""
    if not target.exists():
        raise Refusal(404, "publishing.gone", "artifact", file=target)
    if not is_published(artifact, target, run):
        raise Refusal(409, "publishing.not_of_run", "artifact", file=target)
    if not same_content(artifact, target):
        raise Refusal(409, "publishing.changed", "artifact", file=target)


def take_out(artifact: Path, target: Path, run: str) -> list[str]:
    """Delete the model, then each of its sidecars that nobody has changed; returns the names of what was deleted.

    A `.json` to which the WebUI's user added something stays, without our mark, and is theirs from then on. A CLIP
    folder that another model needs stays, too. Raises a Refusal if the model is not this run's, or was changed.
    """
    check_unchanged(artifact, target, run)
    names = (".yaml", ".preview.png", CLIP)
    ours = [sidecar(target, name) for name in names if same_content(sidecar(artifact, name), sidecar(target, name))]
    described, source = sidecar(target, ".json"), sidecar(artifact, ".json")
    notes = {key: value for key, value in read_json(described).items() if key != MARK}
    if notes == (read_json(source) if source.exists() else {}):
        ours.append(described)
    shared = clip_folders.shared_by(sidecar(target, ".yaml"))
    delete(target)  # first: a model without its yaml would be loaded wrongly
    if described not in ours:
        write_json(described, notes)
    for place in ours:
        delete(place)
    gone = [f"{clip_folders.SHELF}/{shared.name}"] if shared and clip_folders.let_go(shared, target.parent) else []
    return [target.name, *(place.name for place in ours), *gone]


def delete(path: Path) -> None:
    """Delete a file or folder. Raises a Refusal (409) if the system refuses: on Windows, while a program has the file
    open."""
    try:
        remove(path) if path.is_dir() else path.unlink()
    except OSError as error:
        raise Refusal(409, "publishing.not_deleted", "artifact", file=path, error=error) from error


def same_content(one: Path, other: Path) -> bool:
    """Whether both exist and are equal, files or folders; a yaml may name a different CLIP folder."""
    if one.is_dir() or other.is_dir():
        return one.is_dir() and other.is_dir() and same_folder(one, other)
    if not one.is_file() or not other.is_file():
        return False
    if one.suffix == ".yaml":
        texts = (
            clip_folders.LINE.sub(r'\1""', path.read_text(encoding="utf-8", errors="replace")) for path in (one, other)
        )
        return len(set(texts)) == 1
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)


def same_folder(one: Path, other: Path) -> bool:
    names = [sorted(path.relative_to(folder) for path in folder.rglob("*")) for folder in (one, other)]
    files = [name for name in names[0] if (one / name).is_file()]
    return names[0] == names[1] and all(same_content(one / name, other / name) for name in files)
