"""Publishes a run's artifacts into the folders where the WebUI lists them, whole or not at all.

What this extension published carries a mark in its `.json` sidecar. A model of the same name that has it is replaced,
so that continuing a run renews its model; one without it is somebody else's and is never touched.
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
    """Put a model file and its sidecars into `folder`, whole or not at all; returns the published model's path.

    run: the run's id; name: its `name` setting, both for the mark. data: see `clip_folders.shelf_for`. versions:
    see host.Host. What is already there, byte by byte, stays as it is.
    Raises UserError where a model of that name is there which we did not publish, or the disk is full.
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
    """What has changed of them, and what the old model had and the new one has not."""
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
    """The CLIP folder that the yaml is to name: in the shelf, else beside the model. None where it needs none."""
    if not clip.is_dir() or shelf:
        stage.drop(beside.name)
        return clip_folders.keep(clip, shelf) if shelf else None
    if not same_folder(clip, beside):
        stage.put(beside.name, functools.partial(shutil.copytree, clip))
    return beside


def description(target: Path, described: Path, mark: dict[str, str], versions: Mapping[str, str]) -> dict[str, Any]:
    """The marked `.json`. What the WebUI's user added to the old one (a VAE, a weight) stays."""
    old, new = (read_json(path) if path.exists() else {} for path in (sidecar(target, ".json"), described))
    if "sd version" in new:
        new["sd version"] = versions.get(new["sd version"], new["sd version"])
    return {**old, **new, MARK: mark}


def same_content(one: Path, other: Path) -> bool:
    """Whether both files are there and alike: a kill can come between publishing and saying so."""
    if not other.is_file():
        return False
    return one.samefile(other) or filecmp.cmp(one, other, shallow=False)


def same_folder(one: Path, other: Path) -> bool:
    """The same for folders, however deep."""
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (one, other)]
    files = [name for name in names[0] if (one / name).is_file()]
    return other.is_dir() and names[0] == names[1] and all(same_content(one / name, other / name) for name in files)


def sidecar(model: Path, suffix: str) -> Path:
    return model.with_name(model.stem + suffix)


def published_mark(model: Path) -> dict[str, Any] | None:
    """What `publish` noted beside a model; None where there is nothing of ours."""
    path = sidecar(model, ".json")
    try:
        content = read_json(path)
    except (FileNotFoundError, ValueError):
        return None
    mark = content.get(MARK) if isinstance(content, dict) else None
    return mark if isinstance(mark, dict) else None


def check_ours(target: Path) -> str | None:
    """The name of the file that is to be replaced, None where the name is free. Raises UserError if it is not ours."""
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
    """A warning where publishing replaces a model of an earlier run; what is not ours is refused later."""
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
    """A yaml that names this CLIP folder: the model works without the run and the base it came from."""
    path = json.dumps(str(clip.resolve()), ensure_ascii=False)
    return clip_folders.LINE.sub(lambda line: line[1] + path, yaml.decode("utf-8")).encode()


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same file where the file system can, for a checkpoint has gigabytes."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
