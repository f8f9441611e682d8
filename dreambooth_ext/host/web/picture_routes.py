"""The routes of pictures: sets and folders of them, edits, and what a training crop leaves of one."""

from __future__ import annotations

import math
from typing import Any

from starlette.responses import Response, StreamingResponse

from ...core.config.parsing import shown
from ...core.config.run_config import SETTINGS
from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.pictures import mask_kinds, training_crop, viewable
from ..errors import Refusal
from ..pictures import converted, edit_files, image_decoding, set_archive, uploads
from ..service.service import Service
from . import localization
from .endpoint import Action, Call, Methods, change, show
from .responses import picture, tagged, to_json
from .small_pictures import thumbnail

ACTIONS = ("change", "undo", "redo", "restore", "crop")
SHEET = {"Content-Disposition": 'inline; filename="contact sheet.jpg"', "Cache-Control": "no-store"}
LARGEST = 10**6  # pixels of a side


def list_pictures(call: Call) -> dict[str, Any]:
    return call.service.pictures.list(call.query.get("set"), call.query.get("folder"), call.number("start", 0) or 0)


def put_picture(call: Call) -> Response:
    name, file = call.path["set"], call.path["name"]
    if file.lower().endswith(".txt"):
        seen = {key: call.query.get(key, "") for key in ("picture", "stamp")}
        return to_json(call.service.sets.put_caption(name, file, call.data, **seen))
    if viewable.is_converted(file):
        kept = converted.put(call.service.sets, call.service.picture_worker, name, file, call.data)
    else:
        kept = call.service.sets.put(name, file, call.data)
    return to_json(kept, 201 if kept["new"] else 200)


def delete_picture(call: Call) -> dict[str, Any]:
    call.service.pictures.delete(call.path["set"], call.path["name"], call.query.get("stamp", ""))
    return {}


def show_picture(call: Call) -> Response:
    size = uploads.fitting(call.number("size") or uploads.SIZES[-1])
    path = call.service.pictures.file(call.path["set"], call.path["name"], call.query.get("folder"))
    if call.query.get("mask") and (mask := edit_files.mask_beside(path)):
        tag = f"{uploads.stamp_of(path)}-{uploads.stamp_of(mask)}-{size}"
        return tagged(call.headers, tag, lambda: image_decoding.masked_thumbnail(path, mask, size), "image/jpeg")
    return picture(call.headers, path, "image/jpeg", lambda: image_decoding.thumbnail(path, size), size)


def edit(call: Call) -> dict[str, Any]:
    name, file, edits = call.path["set"], call.path["name"], call.service.edits
    stamp, action = call.text("stamp", ""), call.text("action")
    if action == "change":
        return edits.change(name, file, stamp, call.object("edit"))
    if action == "crop":
        return edits.crop_more(name, file, stamp, call.object("edit"))
    if action == "restore":
        return edits.restore(name, file, stamp)
    if action in ("undo", "redo"):
        return edits.go(name, file, stamp, -1 if action == "undo" else 1)
    raise UserError("web.no_choice", "action", value=shown(action), choices=list(ACTIONS))


def show_original(call: Call) -> Response:
    path = call.service.edits.original(call.path["set"], call.path["name"])
    return thumbnail(call, path)


def show_mask(call: Call) -> Response:
    path = call.service.edits.mask(call.path["set"], call.path["name"])
    size = uploads.fitting(call.number("size") or uploads.SIZES[-1])
    return picture(call.headers, path, "image/png", lambda: image_decoding.grey(path, size), size)


def put_mask(call: Call) -> dict[str, Any]:
    return call.service.edits.put_mask(call.path["set"], call.path["name"], call.query.get("stamp", ""), call.data)


def make_mask(call: Call) -> dict[str, Any]:
    by, box = call.text("by"), call.values.get("box")
    if box is not None and not (isinstance(box, list) and len(box) == 4 and all(map(_is_number, box))):
        raise UserError("masks.no_box", "box")
    why = call.service.host.restricted()
    if why and by not in mask_kinds.KINDS:
        raise Refusal(403, "masks.model_restricted", "by", reason=why, choices=list(mask_kinds.KINDS))
    return call.service.edits.make_mask(call.path["set"], call.path["name"], call.text("stamp", ""), by, box)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def delete_mask(call: Call) -> dict[str, Any]:
    return call.service.edits.delete_mask(call.path["set"], call.path["name"], call.query.get("stamp", ""))


def show_training_crop(call: Call) -> dict[str, Any]:
    """What training leaves of a picture of this size: `box` in its pixels, scaled to `target`."""
    width, height, resolution = (_side(call, name) for name in ("width", "height", "resolution"))
    bucket = call.query.get("enable_bucket", "") == "true"
    target = training_crop.training_size((width, height), resolution, bucket)
    sizes = training_crop.bucket_sizes(resolution) if bucket else [target]
    box = training_crop.centre_crop((width, height), target).box
    return {"target": list(target), "box": list(box), "sizes": [list(size) for size in sizes]}


def export_set(call: Call) -> Response:
    folder = call.service.sets.path(call.path["set"])
    call.service.sets.settle(folder)
    headers = {"Content-Disposition": "attachment"}  # the page's link gives it a name
    return StreamingResponse(set_archive.stream(folder), headers=headers, media_type="application/zip")


def import_set(call: Call) -> dict[str, Any]:
    assert call.file
    return set_archive.read(call.service.sets, call.file, call.query.get("title", ""))


def copy(call: Call) -> dict[str, Any]:
    return call.service.pictures.copy(call.text("set", ""), call.text("folder", ""))


def show_findings(call: Call) -> dict[str, Any]:
    return call.service.findings.show(*_looked_at(call), after=call.number("after", 0) or 0)


def show_sheet(call: Call) -> Response:
    """In the language of the page that asks, "ru" or "ru_RU"."""
    language = localization.named(call.query.get("language", ""))

    def say(message: Message) -> str:
        return localization.translated(message, language)

    sheet = call.service.findings.sheet(*_looked_at(call), say)
    return Response(sheet, media_type="image/jpeg", headers=SHEET)


def _looked_at(call: Call) -> tuple[Any, str, int]:
    """The folder, the type of subject and the resolution that a request is about."""
    choices = SETTINGS["subject_type"].choices or ()
    subject = call.query.get("subject_type", "") or str(SETTINGS["subject_type"].default)
    if subject not in choices:
        raise UserError("web.no_choice", "subject_type", value=shown(subject), choices=list(choices))
    resolution = call.number("resolution") or 512
    if not 64 <= resolution <= 4096:
        raise UserError("editing.no_side", "resolution", name="resolution", most=4096)
    folder = call.service.pictures.place(call.query.get("set"), call.query.get("folder"))
    return folder, subject, resolution


def _side(call: Call, name: str) -> int:
    most = 4096 if name == "resolution" else LARGEST
    value = call.number(name) or 0
    if not 1 <= value <= most:
        raise UserError("editing.no_side", name, name=name, most=most)
    return value


def table(s: Service) -> dict[str, Methods]:
    return {
        "/findings": {"GET": Action(show_findings, slow=True)},
        "/findings/sheet": {"GET": Action(show_sheet, slow=True)},
        "/crop": {"GET": Action(show_training_crop)},
        "/sets": {"PUT": Action(import_set, 201, "archive", slow=True)},
        "/sets/{set}": {
            "POST": Action(lambda call: s.pictures.rename(call.path["set"], call.text("title")), body="json")
        },
        "/sets/{set}/export": {"GET": Action(export_set, slow=True)},
        "/edits/{set}/{name}": {
            "GET": Action(lambda call: s.edits.show(call.path["set"], call.path["name"]), slow=True),
            "POST": Action(edit, body="json", slow=True),
        },
        "/edits/{set}/{name}/subject": {
            "GET": Action(lambda call: s.edits.subject(call.path["set"], call.path["name"]), slow=True)
        },
        "/edits/{set}/{name}/original": {"GET": Action(show_original, slow=True)},
        "/edits/{set}/{name}/mask": {
            "GET": Action(show_mask, slow=True),
            "PUT": Action(put_mask, body="file", slow=True),
            "POST": Action(make_mask, body="json", slow=True),
            "DELETE": Action(delete_mask, slow=True),
        },
        "/pictures": {"GET": Action(list_pictures, slow=True)},
        "/pictures/{set}": {"DELETE": change(s.pictures.delete, "set")},
        "/copies": {"POST": Action(copy, 202, "json", slow=True)},
        "/copies/{id}": {"GET": show(s.copies.show, "id"), "DELETE": change(s.copies.stop, "id")},
        "/pictures/{set}/{name:path}": {
            "GET": Action(show_picture, slow=True),
            "PUT": Action(put_picture, body="file", slow=True),
            "DELETE": Action(delete_picture, slow=True),
        },
    }
