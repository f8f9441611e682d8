"""Publishes a run's artifacts into the folders where the WebUI lists them, completely or not at all.

A published model carries a mark in its `.json` sidecar. A model of the same name with this mark is replaced, so that
continuing a run updates its model; one without it is somebody else's and is never changed.
"""

from __future__ import annotations

import filecmp
import functools
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ...core.config.run_config import RunConfig
from ...core.errors import Problem, UserError
from ...core.system.files import free_bytes, human_size, read_json
from . import clip_folders, staging

MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pt")
SIDECAR_SUFFIXES = (".yaml", ".json", ".preview.png")
CLIP = "-clip"  # a folder beside a model, whose yaml names it: what the WebUI makes an unusual text encoder from
MARK = "dreambooth_ext"  # key in the .json sidecar: {"run", "name", "file"}


def publish(
    artifact: Path,
    folder: Path,
    *,
    run: str,
    name: str,
    data: Path | None = None,
    versions: Mapping[str, str] | None = None,
) -> Path:
    """Put a model file and its sidecars into `folder`, completely or not at all; returns the published model's path.

    run: the run's id; name: its `name` setting, both for the mark. data: see `clip_folders.shelf_for`. versions: see
    host.Host. Files that are already there, byte for byte, are not rewritten. Raises UserError if a model of that name
    exists that we did not publish, or the disk is full.
    """
    target = folder / artifact.name
    if folder.exists() and folder.samefile(artifact.parent):
        return target  # published where it was made
    check_room(artifact, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with staging.alone(folder):
        staging.sweep(folder, check_ours)
        put(artifact, target, {"run": run, "name": name, "file": target.name}, data, versions or {})
    return target


def put(artifact: Path, target: Path, mark: dict[str, str], data: Path | None, versions: Mapping[str, str]) -> None:
    folder, previous = target.parent, check_ours(target)
    shelf = clip_folders.shelf_for(folder, data) if sidecar(artifact, CLIP).is_dir() else None
    shared = clip_folders.shared_by(sidecar(target, ".yaml"))
    with clip_folders.locked(shelf), staging.Staging(folder, target.name) as stage:
        described = description(target, sidecar(artifact, ".json"), mark, versions)
        stage_sidecars(stage, artifact, target, described, shelf)
        if previous and previous != target.name:  # its container changed, and one set of sidecars serves one model
            stage.drop(previous)
        if stage.changes_the_model() or not same_content(artifact, target):
            stage.put(target.name, functools.partial(link_or_copy, artifact))
        stage.commit()
    clip_folders.let_go(shared, folder)


def stage_sidecars(
    stage: staging.Staging, artifact: Path, target: Path, described: dict[str, Any], shelf: Path | None
) -> None:
    """Stage the sidecars that have changed, and drop those that only the old model had."""
    text = json.dumps(described, ensure_ascii=False, indent=2) + "\n"
    yaml, preview = (sidecar(artifact, suffix) for suffix in (".yaml", ".preview.png"))
    stage.put_bytes(sidecar(target, ".json").name, text.encode())
    clip = stage_clip(stage, sidecar(artifact, CLIP), sidecar(target, CLIP), shelf)
    if yaml.exists():
        content = yaml.read_bytes()
        stage.put_bytes(sidecar(target, ".yaml").name, naming(content, clip) if clip else content)
    else:  # the WebUI would build the new model by an old one's
        stage.drop(sidecar(target, ".yaml").name)
    if preview.exists():
        stage.put_bytes(sidecar(target, ".preview.png").name, preview.read_bytes())


def stage_clip(stage: staging.Staging, clip: Path, beside: Path, shelf: Path | None) -> Path | None:
    """The CLIP folder that the yaml is to name: in the shelf, else beside the model. None if it needs none."""
    if not clip.is_dir() or shelf:
        stage.drop(beside.name)
        return clip_folders.keep(clip, shelf) if shelf else None
    if not same_folder(clip, beside):
        stage.put(beside.name, functools.partial(shutil.copytree, clip))
    return beside


def description(target: Path, described: Path, mark: dict[str, str], versions: Mapping[str, str]) -> dict[str, Any]:
    """The marked `.json`. Entries that the WebUI's user added to the old one (a VAE, a weight) are kept."""
    old, new = (read_json(path) if path.exists() else {} for path in (sidecar(target, ".json"), described))
    if "sd version" in new:
        new["sd version"] = versions.get(new["sd version"], new["sd version"])
    return {**old, **new, MARK: mark}


def same_content(one: Path, other: Path) -> bool:
    """Whether both files exist and are equal: a kill can come between publishing and recording it."""
    if not other.is_file():
        return False
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)


def same_folder(one: Path, other: Path) -> bool:
    """Whether two folders have the same names and contents, however deep."""
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (one, other)]
    files = [name for name in names[0] if (one / name).is_file()]
    return other.is_dir() and names[0] == names[1] and all(same_content(one / name, other / name) for name in files)


def sidecar(model: Path, suffix: str) -> Path:
    return model.with_name(model.stem + suffix)


def published_mark(model: Path) -> dict[str, Any] | None:
    """The mark that `publish` left beside a model; None if there is none."""
    path = sidecar(model, ".json")
    try:
        content = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    mark = content.get(MARK) if isinstance(content, dict) else None
    return mark if isinstance(mark, dict) else None


def check_ours(target: Path) -> str | None:
    """The name of the file that would be replaced, None if the name is free. Raises UserError if it is not ours."""
    names = [sidecar(target, suffix) for suffix in (*MODEL_SUFFIXES, *SIDECAR_SUFFIXES, CLIP)]
    present = [path for path in names if path.exists()]
    mark = published_mark(target)
    if mark is None and present:
        raise UserError("publishing.not_ours", "name", file=present[0])
    if mark is None:
        return None
    ours = str(mark.get("file", ""))
    strangers = [path for path in present if path.suffix in MODEL_SUFFIXES and path.name != ours]
    if strangers:
        raise UserError("publishing.name_taken", "name", file=strangers[0])
    return ours if Path(ours).stem == target.stem and Path(ours).suffix in MODEL_SUFFIXES else None


def replaced(config: RunConfig, folder: str | Path | None) -> list[Problem]:
    """A warning if publishing replaces a model of an earlier run; files that are not ours are refused later."""
    try:
        ours = check_ours(Path(folder, config.model_file(config.name))) if folder and config.name else None
    except (UserError, OSError):
        return []
    if ours is None:
        return []
    return [Problem("publishing.replaces", "name", file=ours)]


def check_room(artifact: Path, folder: Path) -> None:
    needed, free = artifact.stat().st_size, free_bytes(folder)
    if free < needed and not same_disk(artifact, folder):  # on the same disk a link needs no room
        sizes = {"free": human_size(free), "needed": human_size(needed)}
        raise UserError("publishing.no_room", "output_dir", folder=folder, **sizes)


def same_disk(artifact: Path, folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_dev == artifact.stat().st_dev


def naming(yaml: bytes, clip: Path) -> bytes:
    """A yaml that names this CLIP folder, so that the model works without the run and its base."""
    path = json.dumps(str(clip.resolve()), ensure_ascii=False)
    return clip_folders.LINE.sub(lambda line: line[1] + path, yaml.decode("utf-8")).encode()


def link_or_copy(source: Path, target: Path) -> None:
    """Hard-link the file if the file system can, because a checkpoint has gigabytes; else copy it."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
