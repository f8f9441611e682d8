"""A run's artifacts into the folders where the WebUI lists them, whole or not at all.

What this tool published carries a mark in its `.json` sidecar. A model of the same name that has it is replaced, so
that continuing a run renews its model; one without is somebody else's and is never touched.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files import TEMPORARY, flush_to_disk, free_bytes, human_size, read_json, remove, replace, write_json

WEBUI_FOLDERS = {
    "checkpoint": Path("models", "Stable-diffusion"),
    "lora": Path("models", "Lora"),
    "textual_inversion": Path("embeddings"),
    "hypernetwork": Path("models", "hypernetworks"),
}
MODEL_SUFFIXES = (".safetensors", ".ckpt", ".pt")
SIDECAR_SUFFIXES = (".yaml", ".json", ".preview.png")
CLIP = "-clip"  # a folder beside a model, whose yaml names it: what the WebUI makes an unusual text encoder from
CLIP_LINE = re.compile(r'^(\s*version: )".*"$', re.MULTILINE)  # as the engine writes it, a JSON string
MARK = "dreambooth_ext"  # key in the .json sidecar: {"run", "name", "file"}


def webui_folder(webui: Path, kind: str) -> Path:
    """The folder of a WebUI for one of WEBUI_FOLDERS' kinds. Raises UserError where `webui` is none."""
    signs = (WEBUI_FOLDERS["checkpoint"], Path("webui.py"), Path("launch.py"))
    is_empty = webui.is_dir() and not any(webui.iterdir())  # a place that is to become one
    if not is_empty and not any((webui / sign).exists() for sign in signs):
        raise UserError(
            "webui",
            f"{webui} does not look like a WebUI: it has no models/Stable-diffusion, webui.py or launch.py.",
            "Name the folder that holds webui.py; `train` takes any other folder as --output-dir.",
        )
    return webui / WEBUI_FOLDERS[kind]


def publish(artifact: Path, folder: Path, *, run: str, name: str) -> Path:
    """Put a model file and its sidecars into `folder`, sidecars first; returns the published model's path.

    run: the run's id; name: its `name` setting, both for the mark. Raises UserError where a model of that name is
    there which this tool did not publish, or the disk is full.
    """
    target = folder / artifact.name
    if folder.exists() and folder.samefile(artifact.parent):
        return target  # published where it was made
    previous = check_ours(target)
    check_room(artifact, folder)
    folder.mkdir(parents=True, exist_ok=True)
    sidecars = {suffix: path for suffix in SIDECAR_SUFFIXES if (path := sidecar(artifact, suffix)).exists()}
    if previous and previous != target.name:  # its container changed, and one set of sidecars serves one model
        (folder / previous).unlink(missing_ok=True)
    describe(target, sidecars.get(".json"), {"run": run, "name": name, "file": target.name})  # from here on it is ours
    has_clip = sidecar(artifact, CLIP).is_dir()
    if has_clip:
        put_folder(sidecar(artifact, CLIP), sidecar(target, CLIP))
    for suffix, source in sidecars.items():
        if suffix != ".json":
            naming = has_clip and suffix == ".yaml"
            put(source, sidecar(target, suffix), copy_naming(sidecar(target, CLIP)) if naming else shutil.copyfile)
    if ".yaml" not in sidecars:  # the WebUI would build the new model by an old one's
        sidecar(target, ".yaml").unlink(missing_ok=True)
    put(artifact, target, link_or_copy)
    if not has_clip and sidecar(target, CLIP).is_dir():
        remove(sidecar(target, CLIP))
    return target


def describe(target: Path, described: Path | None, mark: dict[str, str]) -> None:
    """The marked `.json`. What the WebUI's user added to the old one (a VAE, a weight) stays."""
    path = sidecar(target, ".json")
    old = read_json(path) if path.exists() else {}
    new = read_json(described) if described else {}
    write_json(path, {**old, **new, MARK: mark})


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
        raise UserError(
            "name",
            f"{present[0]} is already there and was not made by this tool.",
            "Choose another `name`, or move that file away.",
        )
    if mark is None:
        return None
    ours = str(mark.get("file", ""))
    strangers = [path for path in present if path.suffix in MODEL_SUFFIXES and path.name != ours]
    if strangers:
        raise UserError(
            "name", f"{strangers[0]} has the same name and was not made by this tool.", "Choose another `name`."
        )
    return ours if Path(ours).stem == target.stem and Path(ours).suffix in MODEL_SUFFIXES else None


def check_room(artifact: Path, folder: Path) -> None:
    needed, free = artifact.stat().st_size, free_bytes(folder)
    if free < needed and not same_disk(artifact, folder):  # on the same disk a link needs no room
        raise UserError(
            "output_dir",
            f"{folder} has {human_size(free)} free and the model needs {human_size(needed)}.",
            "Free some space; the model stays in the run's artifacts folder.",
        )


def same_disk(artifact: Path, folder: Path) -> bool:
    while not folder.exists():
        folder = folder.parent
    return folder.stat().st_dev == artifact.stat().st_dev


def put(source: Path, target: Path, copy: Callable[[Path, Path], Any]) -> None:
    """Copy under a name that no listing takes for a model (they go by suffix), to the disk, then rename."""
    temporary = target.with_name(f"{TEMPORARY}{os.getpid()}-{target.name}.part")
    try:
        copy(source, temporary)
        flush_to_disk(temporary)
        replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)


def put_folder(source: Path, target: Path) -> None:
    """`put` for a folder."""
    temporary = target.with_name(f"{TEMPORARY}{os.getpid()}-{target.name}")
    try:
        shutil.copytree(source, temporary)
        flush_to_disk(temporary)
        replace(temporary, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def copy_naming(clip: Path) -> Callable[[Path, Path], None]:
    """Copies a yaml so that it names this CLIP folder: the model works without the run and the base it came from."""

    def copy(source: Path, target: Path) -> None:
        path = json.dumps(str(clip.resolve()), ensure_ascii=False)
        text = CLIP_LINE.sub(lambda line: line[1] + path, source.read_text(encoding="utf-8"))
        target.write_text(text, encoding="utf-8")

    return copy


def link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same file where the file system can, for a checkpoint has gigabytes."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another disk, or a file system without links
        shutil.copyfile(source, target)
