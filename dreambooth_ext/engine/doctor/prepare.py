"""`prepare`: look at every picture of a folder, say what is wrong, and write mended copies into another."""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.config.parsing import some
from ...core.data import mask_files
from ...core.data.folder_scan import FORMATS, TEXTS
from ...core.errors import UserError
from ...core.messages.message import reason_of
from ...core.pictures import mask_kinds, viewable
from ...core.pictures.edit import Edit
from ...core.system.terminal import Progress
from ..pictures import contact_sheet
from ..pictures.conversion import convert
from ..pictures.editing import carried
from ..pictures.masks import make_mask
from ..pictures.other_formats import readable_formats
from ..pictures.picture_file import open_grey, picture_size
from . import whole_set
from .finding import ERROR, HINT, WARNING, unreadable
from .looking import look

LEFT_OUT = ("unreadable", "duplicate")  # kinds of which no copy is made


def run(arguments: argparse.Namespace) -> list[str]:
    """Look, and write the copies. Raises UserError if the folder cannot be used at all."""
    folder, out = arguments.folder, arguments.out
    mask = mask_kinds.kind_of(arguments.mask) if arguments.mask is not None else None
    if mask and out is None:
        raise UserError("masks.needs_out", "mask")
    paths = pictures_in(folder)
    if out is not None:
        check_out(folder, out)
    if arguments.sheet is not None:
        check_sheet(folder, arguments.sheet)
    looks = look_at_all(folder, paths, arguments.resolution)
    require_some(folder, looks)
    judged = whole_set.judge(looks, arguments.subject_type)
    told = answer(looks, judged, out)
    copied = write_copies(folder, out, paths, told["pictures"], mask) if out is not None else 0
    if arguments.sheet is not None:
        draw_sheet(folder, arguments.sheet, told["pictures"])
    if arguments.json:
        return [json.dumps(told, ensure_ascii=False)]
    return in_words(told, copied, arguments.sheet)


def pictures_in(folder: Path) -> list[Path]:
    """Return the folder's pictures. Raises UserError if there are none, or it cannot be read."""
    if not folder.exists():
        raise UserError("pictures.no_folder", "folder", folder=str(folder), formats=FORMATS)
    if not folder.is_dir():
        raise UserError("pictures.folder_is_file", "folder", folder=str(folder), formats=FORMATS)
    try:
        found = viewable.list_viewable(folder)
    except OSError as error:
        raise UserError("pictures.folder_unreadable", "folder", folder=str(folder), error=reason_of(error)) from None
    if not found:
        formats = f"{FORMATS}, {viewable.CONVERTED_FORMATS}"
        raise UserError("pictures.none", "folder", folder=str(folder), formats=formats)
    return found


def check_out(folder: Path, out: Path) -> None:
    """Raise UserError if copies in `out` would come among the originals, or among other files."""
    real, source = Path(os.path.realpath(out)), Path(os.path.realpath(folder))
    if real == source or source in real.parents:
        raise UserError("findings.out_in_source", "out", folder=str(out))
    if real in source.parents:
        raise UserError("findings.out_above_source", "out", folder=str(out))
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError("findings.out_not_empty", "out", folder=str(out))
    except OSError as error:
        raise UserError("findings.out_unwritable", "out", folder=str(out), error=reason_of(error)) from None


def check_sheet(folder: Path, sheet: Path) -> None:
    """Raise UserError if no contact sheet can be written there."""
    real, source = Path(os.path.realpath(sheet)), Path(os.path.realpath(folder))
    if sheet.suffix.lower() not in (".jpg", ".png"):
        raise UserError("findings.sheet_format", "sheet", file=str(sheet))
    if source in real.parents:
        raise UserError("findings.sheet_in_source", "sheet", file=str(sheet))
    if sheet.exists():
        raise UserError("findings.sheet_exists", "sheet", file=str(sheet))


def draw_sheet(folder: Path, sheet: Path, pictures: Sequence[dict[str, Any]]) -> None:
    """Draw a contact sheet of what `answer` tells of the pictures."""
    shown = []
    for picture in pictures:
        severities = [one["severity"] for one in picture["findings"]]
        kinds = dict.fromkeys(one["label"] for one in picture["findings"])
        shown.append(
            {
                "path": str(folder / picture["file"]),
                "name": picture["file"],
                "severity": next((level for level in (ERROR, WARNING, HINT) if level in severities), ""),
                "marks": [{"text": kind, "english": kind} for kind in kinds],
            }
        )
    try:
        sheet.parent.mkdir(parents=True, exist_ok=True)
        contact_sheet.sheet(shown, str(sheet.with_suffix(sheet.suffix.lower())), folder.resolve().name)
    except OSError as error:
        raise UserError("findings.sheet_unwritable", "sheet", file=str(sheet), error=reason_of(error)) from None


def look_at_all(folder: Path, paths: Sequence[Path], resolution: int) -> list[dict[str, Any]]:
    """Return the result of `look` for each picture, with its name; of one that cannot be read its finding alone."""
    looks = []
    with Progress(len(paths), "Looking") as progress:
        for count, path in enumerate(paths):
            name = path.relative_to(folder).as_posix()
            progress.update(count, name)
            looks.append({"name": name, **looked(path, resolution)})
        progress.update(len(paths))
    return looks


def require_some(folder: Path, looks: Sequence[dict[str, Any]]) -> None:
    """Raise UserError if no picture can be read."""
    kinds = [[one["kind"] for one in look["findings"]] for look in looks]
    if all("unreadable" in found for found in kinds):
        formats = f"{FORMATS}, {viewable.CONVERTED_FORMATS}"
        names = some([look["name"] for look in looks])
        raise UserError("pictures.none_readable", "folder", folder=str(folder), names=names, formats=formats)


def looked(path: Path, resolution: int) -> dict[str, Any]:
    """Return the result of `look`, or {"findings"} with the one that it cannot be read."""
    try:
        return look(str(path), resolution)
    except UserError as error:
        return {"findings": [unreadable(error.problem, path.name)]}


def answer(looks: Sequence[dict[str, Any]], judged: dict[str, Any], out: Path | None) -> dict[str, Any]:
    """Return what `prepare --json` prints."""
    pictures = [
        {
            "file": one["name"],
            "findings": [*one["findings"], *more],
            "crop": one.get("crop", []),
            "faces": one.get("faces", []),
        }
        for one, more in zip(looks, judged["pictures"], strict=True)
    ]
    known = {name: judged[name] for name in ("score", "set", "reasons", "missing")}
    return {**known, "pictures": pictures, "out": str(out) if out is not None else None}


def write_copies(
    folder: Path,
    out: Path,
    paths: Sequence[Path],
    pictures: Sequence[dict[str, Any]],
    mask: tuple[str, str] | None = None,
) -> int:
    """Write the mended copies with their captions and masks; return how many pictures there are now.

    mask: the kind and the model that make those of pictures without one. Why a copy has no mask, though it should, is
    told in `pictures`, as "no_mask". Raises UserError.
    """
    copied = 0
    try:
        with Progress(len(paths), "Writing") as progress:
            for count, (path, told) in enumerate(zip(paths, pictures, strict=True)):
                progress.update(count, told["file"])
                if any(one["kind"] in LEFT_OUT for one in told["findings"]):
                    continue
                place = out / Path(told["file"]).parent
                place.mkdir(parents=True, exist_ok=True)
                stem = free_stem(place, path)
                written = convert(str(path), str(place / stem), told["crop"])
                own, target = mask_files.beside(path), place / f"{stem}-masklabel.png"
                if own:
                    told["no_mask"] = crop_mask(path, path.with_name(own[0]), told["crop"], target)
                elif mask:
                    told["no_mask"] = write_mask(place / written["file"], target, mask)
                for ending in TEXTS:
                    if path.with_suffix(ending).is_file():
                        shutil.copyfile(path.with_suffix(ending), place / (stem + ending))
                copied += 1
            progress.update(len(paths))
    except OSError as error:
        raise UserError("findings.out_unwritable", "out", folder=str(out), error=reason_of(error)) from None
    return copied


def crop_mask(picture: Path, mask: Path, crop: list[int], target: Path) -> str:
    """Write the part of a picture's own mask that belongs to its copy; return why there is none, or ""."""
    try:
        size, image = picture_size(picture, readable_formats()), open_grey(mask)
        if not mask_files.fits(size, image.size):
            sizes = {"width": image.width, "height": image.height, "wide": size[0], "high": size[1]}
            raise UserError("masks.other_shape", "masked_loss", file=mask.name, picture=picture.name, **sizes)
        box = (crop[0], crop[1], crop[2], crop[3])
        carried(image, Edit(), Edit(crop=box), size).save(target, "PNG")
    except UserError as error:
        return str(error.problem.message)
    return ""


def write_mask(picture: Path, target: Path, mask: tuple[str, str]) -> str:
    """Write the mask of a copy beside it; return why there is none, or "". Raises UserError for what fails for all."""
    by, model = mask
    try:
        make_mask(str(picture), str(target), by, model=model)
    except UserError as error:
        if error.problem.field != "picture":
            raise
        return str(error.problem.message)
    return ""


def free_stem(place: Path, path: Path) -> str:
    """Return the picture's name without its suffix; with it, if another picture's copy has that name already."""
    taken = any((place / (path.stem + suffix)).exists() for suffix in (".jpg", ".png"))
    return f"{path.stem} ({path.suffix.lstrip('.').lower()})" if taken else path.stem


def in_words(told: dict[str, Any], copied: int, sheet: Path | None) -> list[str]:
    """Return what is printed for people."""
    lines = []
    for picture in told["pictures"]:
        lines += [f"{picture['file']}: {one['message']} {one['remedy']}".rstrip() for one in picture["findings"]]
    lines += [f"No mask: {picture['no_mask']}" for picture in told["pictures"] if picture.get("no_mask")]
    lines += [f"All pictures: {one['message']} {one['remedy']}".rstrip() for one in told["set"]]
    lines += [f"Left out: {why['text']}" for why in told["missing"]]
    good = sum(not picture["findings"] for picture in told["pictures"])
    lines.append(f"Pictures: {len(told['pictures'])}, without any fault: {good}. Score: {told['score']} of 100.")
    lines += [f"  {reason['text']}" for reason in told["reasons"]]
    others = [picture["file"] for picture in told["pictures"] if viewable.is_converted(picture["file"])]
    if others and told["out"] is None:
        formats = viewable.CONVERTED_FORMATS
        lines.append(f"Training does not read {formats}: {some(others)}. --out converts them, and so does the tab.")
    if sheet is not None:
        lines.append(f"Contact sheet: {sheet}")
    if told["out"] is not None:
        lines.append(f"Mended copies: {copied} in {told['out']}. The originals are as they were.")
    return lines
