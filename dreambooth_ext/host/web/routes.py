"""The routes below /dreambooth/v1, from HTTP to `Service`. docs/api.md explains how to use them.

They use only Starlette (0.26 to current), which every host has. Each path is one ASGI endpoint, so that the host's own
error pages, body limits and middleware for FastAPI routes do not apply.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.guide import demo_recipe
from ...core.pictures import viewable
from ..errors import Refusal
from ..pictures import converted, edit_files, image_decoding, uploads
from ..service.asked_options import ASKED
from ..service.service import Service
from . import localization, page_files, picture_routes
from .endpoint import Action, Call, Endpoint, Lanes, Methods
from .page_files import PREFIX
from .responses import picture, tagged, to_json

NAME = "dreambooth_ext"  # of all our routes in the host's app


# --- handlers that need more than a line


def create_run(call: Call) -> dict[str, Any]:
    run = call.service.new_runs.create(call.object("config"), **{name: call.values.get(name) for name in ASKED})
    return {"id": run.id}


def check(call: Call) -> dict[str, Any]:
    return call.service.new_runs.check(call.object("config"), call.flag("deep"))


def command_run(call: Call) -> dict[str, Any]:
    wanted = {name: call.values[name] for name in ASKED if call.values.get(name) is not None}
    total, new_pictures = call.count("max_train_steps"), call.flag("new_pictures")
    if call.values.get("base_model"):
        call.service.commands.give_link(call.path["id"], call.text("base_model"))
    call.service.commands.command(call.path["id"], call.text("command"), total, wanted, new_pictures)
    return {}


def curves(call: Call) -> dict[str, Any]:
    return call.service.runs.curves(call.path["id"], *(call.number(name) for name in ("from", "to", "points")))


def curves_table(call: Call) -> Response:
    id = call.path["id"]
    name = re.sub(r"[^A-Za-z0-9._-]", "_", id)
    headers = {"Content-Disposition": f'attachment; filename="{name}.csv"'}
    return Response(call.service.runs.table(id), headers=headers, media_type="text/csv; charset=utf-8")


def publish(call: Call) -> dict[str, Any]:
    return call.service.models.publish(call.path["id"], call.text("artifact"), call.flag("select"))


def unpublish(call: Call) -> dict[str, Any]:
    return call.service.models.unpublish(call.path["id"], call.text("artifact"))


def about_host(call: Call) -> dict[str, Any]:
    return {**call.service.about_host(), "can_open": can_open(call)}


def publish_into(call: Call) -> dict[str, Any]:
    return {**call.service.publish_into(call.text("folder")), "can_open": can_open(call)}


def can_open(call: Call) -> bool:
    return call.caller.is_local and not call.service.host.restricted()


def open_run(call: Call) -> dict[str, Any]:
    if not can_open(call):
        why = call.service.host.restricted()
        raise Refusal(403, "web.open_restricted", reason=why) if why else Refusal(403, "web.open_elsewhere")
    call.service.runs.open_folder(call.path["id"])
    return {}


def note(call: Call) -> dict[str, Any]:
    given = {name: call.values.get(name) for name in ("note", "starred")}
    return call.service.runs.note(
        call.path["id"],
        None if given["note"] is None else call.text("note"),
        None if given["starred"] is None else call.flag("starred"),
    )


def change_queue(call: Call) -> dict[str, Any]:
    if "paused" not in call.values:
        return reorder(call)
    told = call.service.pause(call.flag("paused"))
    return reorder(call) if "order" in call.values else told


def reorder(call: Call) -> dict[str, Any]:
    order = call.values.get("order")
    if not isinstance(order, list) or not all(isinstance(id, str) for id in order):
        raise UserError("web.not_order", "order")
    return call.service.reorder(order)


def mend(call: Call) -> dict[str, Any]:
    call.service.mend(call.text("action"))
    return call.service.maintenance.status()


def save_preset(call: Call) -> dict[str, Any]:
    return call.service.save_preset(call.text("name"), call.object("settings"), call.text("description", ""))


def list_pictures(call: Call) -> dict[str, Any]:
    return call.service.pictures.list(call.query.get("set"), call.query.get("folder"), call.number("start", 0) or 0)


def put_picture(call: Call) -> Response:
    name, file = call.path["set"], call.path["name"]
    if file.lower().endswith(".txt"):
        shown = {key: call.query.get(key, "") for key in ("picture", "stamp")}
        return to_json(call.service.sets.put_caption(name, file, call.data, **shown))
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


def show_subject(call: Call) -> Response:
    path = call.service.pictures.file_of_run(call.path["id"], call.path["number"])
    size = uploads.fitting(call.number("size") or uploads.SIZES[-1])
    return picture(call.headers, path, "image/jpeg", lambda: image_decoding.thumbnail(path, size), size)


def show_sample(call: Call) -> Response:
    return drawn_picture(call, *call.service.runs.sample(call.path["id"], call.path["step"], call.path["file"]))


def draw(call: Call) -> dict[str, Any]:
    given = {name: call.count(name) for name in ("num_images", "seed", "steps")}
    wanted = {"num_images": 1, "seed": 0} | {name: value for name, value in given.items() if value is not None}
    call.service.models.draw(call.path["id"], call.text("artifact"), wanted)
    return {}


def show_drawn(call: Call) -> Response:
    path, kind = call.service.models.drawn_picture(call.path["id"], call.path["artifact"], call.path["file"])
    return picture(call.headers, path, kind, path.read_bytes)


def show_compared(call: Call) -> Response:
    return drawn_picture(call, *call.service.comparisons.picture(call.path["id"], call.path["file"]))


def judge(call: Call) -> Any:
    model = call.text("judge") if call.values.get("judge") is not None else None
    return call.service.judge(call.path["id"], call.flag("steps_only"), model)


def show_judged(call: Call) -> Response:
    return drawn_picture(call, *call.service.verdicts.picture(call.path["id"], call.path["file"]))


def change_download(call: Call) -> dict[str, Any]:
    given = {name: call.text(name, "") for name in ("link", "file")}
    return call.service.change_download(call.path["id"], call.text("action"), **given)


def drawn_picture(call: Call, path: Path, kind: str) -> Response:
    """A picture as it is, or small with `?size=`."""
    size = call.number("size") if kind != "image/svg+xml" else None
    if size:
        size = uploads.fitting(size)
        return picture(call.headers, path, "image/jpeg", lambda: image_decoding.thumbnail(path, size), size)
    return picture(call.headers, path, kind, path.read_bytes)


def list_captions(call: Call) -> dict[str, Any]:
    separator = call.query.get("separator", "")
    return call.service.captions.list(
        call.query.get("set"), call.query.get("folder"), **({"separator": separator} if separator.strip() else {})
    )


def edit_captions(call: Call) -> dict[str, Any]:
    names = call.values.get("names")
    if names is not None and not (isinstance(names, list) and all(isinstance(name, str) for name in names)):
        raise UserError("drawing.not_list", "names")
    return call.service.captions.apply(call.text("set"), call.object("edit"), names, call.flag("preview"))


def show_word(call: Call) -> Response:
    path = call.service.words.picture(call.path["id"], call.path["file"])
    return drawn_picture(call, path, "image/png")


def show_page(call: Call) -> Response:
    found = page_files.find(call.path["file"])
    if found is None:
        raise Refusal(404, "web.no_page", file=shown(call.path["file"]))
    path, kind = found
    content = path.read_bytes()
    return tagged(call.headers, hashlib.sha256(content).hexdigest()[:16], lambda: content, kind)


def table(s: Service) -> dict[str, Methods]:
    """Every path below PREFIX, and what its methods do."""

    def show(run: Callable[..., Any], *names: str) -> Action:
        return Action(lambda call: run(*(call.path[name] for name in names)))

    def change(run: Callable[..., Any], *names: str) -> Action:
        return Action(lambda call: run(*(call.path[name] for name in names)) or {}, slow=True)

    return {
        "/version": {"GET": show(s.version)},
        "/host": {"GET": Action(about_host), "POST": Action(publish_into, body="json", slow=True)},
        "/state": {"GET": show(s.state)},
        "/schema": {"GET": show(s.schema)},
        "/environment": {"GET": show(s.maintenance.status), "POST": Action(mend, 202, "json")},
        "/presets": {"GET": show(s.list_presets), "POST": Action(save_preset, 201, "json")},
        "/presets/{name}": {"GET": show(s.show_preset, "name"), "DELETE": change(s.delete_preset, "name")},
        "/demo": {"GET": Action(lambda call: {"settings": demo_recipe.settings()})},
        "/languages": {"GET": Action(lambda call: {"languages": localization.languages()})},
        "/languages/{name}": {"GET": Action(lambda call: localization.language(call.path["name"]))},
        "/import": {"POST": Action(lambda call: s.read_import(call.text("text")), body="json", slow=True)},
        "/check": {"POST": Action(check, body="json", slow=True)},
        "/runs": {
            "GET": Action(
                lambda call: s.runs.changed(call.query.get("since", ""), call.query.get("search", "")), slow=True
            ),
            "POST": Action(create_run, 201, "json", slow=True),
        },
        "/runs/{id}": {"GET": show(s.runs.describe, "id"), "DELETE": change(s.delete, "id")},
        "/runs/{id}/notes": {"POST": Action(note, body="json")},
        "/runs/{id}/states": {"DELETE": change(s.commands.delete_states, "id")},
        "/runs/{id}/config": {"GET": show(s.runs.config, "id")},
        "/runs/{id}/curves": {"GET": Action(curves, slow=True)},
        "/runs/{id}/curves/table": {"GET": Action(curves_table, slow=True)},
        "/runs/{id}/subject": {"GET": Action(lambda call: s.pictures.of_run(call.path["id"]), slow=True)},
        "/runs/{id}/subject/{number}": {"GET": Action(show_subject, slow=True)},
        "/runs/{id}/pictures": {"GET": Action(lambda call: s.runs.changed_pictures(call.path["id"]), slow=True)},
        "/runs/{id}/events": {"GET": Action(lambda call: s.runs.events(call.path["id"], call.number("after") or 0))},
        "/runs/{id}/log": {"GET": Action(lambda call: s.runs.log(call.path["id"], call.number("after")))},
        "/runs/{id}/report": {"GET": show(s.runs.report, "id")},
        "/runs/{id}/samples/{step}/{file}": {"GET": Action(show_sample, slow=True)},
        "/runs/{id}/artifacts": {"GET": show(s.models.list, "id")},
        "/runs/{id}/artifacts/{file}": {"DELETE": change(s.models.delete, "id", "file")},
        "/runs/{id}/commands": {"POST": Action(command_run, 202, "json")},
        "/runs/{id}/publish": {"POST": Action(publish, body="json", slow=True)},
        "/runs/{id}/unpublish": {"POST": Action(unpublish, body="json", slow=True)},
        "/runs/{id}/draw": {"GET": show(s.models.drawn, "id"), "POST": Action(draw, 202, "json")},
        "/runs/{id}/drawn/{artifact}/{file}": {"GET": Action(show_drawn, slow=True)},
        "/runs/{id}/verdict": {
            "GET": Action(lambda call: s.verdicts.show(call.path["id"]), slow=True),
            "POST": Action(judge, 202, "json", slow=True),
        },
        "/runs/{id}/verdict/votes": {
            "POST": Action(lambda call: s.verdicts.vote(call.path["id"], call.values), body="json")
        },
        "/runs/{id}/verdict/pictures/{file}": {"GET": Action(show_judged, slow=True)},
        "/runs/{id}/open": {"POST": Action(open_run, body="json")},
        "/comparisons": {
            "GET": Action(lambda call: s.comparisons.list(), slow=True),
            "POST": Action(lambda call: s.compare(call.values), 202, "json", slow=True),
        },
        "/comparisons/{id}": {
            "GET": Action(lambda call: s.comparisons.show(call.path["id"]), slow=True),
            "DELETE": change(s.comparisons.delete, "id"),
        },
        "/comparisons/{id}/votes": {
            "POST": Action(lambda call: s.comparisons.vote(call.path["id"], call.values), body="json")
        },
        "/comparisons/{id}/pictures/{file}": {"GET": Action(show_compared, slow=True)},
        "/job": {"GET": Action(lambda call: {"job": s.drawing.status()}), "DELETE": change(s.drawing.stop)},
        "/captions": {
            "GET": Action(list_captions, slow=True),
            "POST": Action(edit_captions, body="json", slow=True),
        },
        "/captions/undo": {"POST": Action(lambda call: s.captions.undo(call.text("set")), body="json", slow=True)},
        "/captions/redo": {
            "POST": Action(lambda call: s.captions.undo(call.text("set"), back=False), body="json", slow=True)
        },
        "/captions/copy": {
            "POST": Action(
                lambda call: s.captions.copy(call.text("set", ""), call.text("folder", "")), 201, "json", slow=True
            )
        },
        "/captions/trained": {
            "POST": Action(
                lambda call: s.captions_as_trained(call.object("config"), call.count("start") or 0),
                body="json",
                slow=True,
            )
        },
        "/captions/tag": {
            "POST": Action(
                lambda call: s.propose_captions(call.text("set"), call.text("tagger"), call.object("options")),
                202,
                "json",
                slow=True,
            )
        },
        "/captions/tag/{set}": {
            "GET": show(s.tagging.status, "set"),
            "DELETE": change(s.tagging.forget, "set"),
        },
        "/taggers": {"GET": Action(lambda call: s.tagging.list(), slow=True)},
        "/taggers/fetch": {"POST": Action(lambda call: s.fetch_tagger(call.text("name")), 202, "json", slow=True)},
        "/taggers/about": {"POST": Action(lambda call: s.tagging.about(call.text("name")), body="json", slow=True)},
        "/word": {
            "POST": Action(lambda call: s.words.check(call.text("word"), call.text("base_model", "")), body="json")
        },
        "/word/draw": {
            "POST": Action(lambda call: s.draw_word(call.text("word"), call.text("base_model", "")), 202, "json")
        },
        "/word/drawn/{id}/{file}": {"GET": Action(show_word, slow=True)},
        "/downloads": {
            "GET": Action(lambda call: {"downloads": s.downloads.listed()}),
            "POST": Action(lambda call: s.look_up(call.text("link"), call.text("file", "")), 202, "json", slow=True),
        },
        "/downloads/{id}": {
            "GET": show(s.downloads.show, "id"),
            "POST": Action(change_download, 202, "json", slow=True),
            "DELETE": change(s.downloads.remove, "id"),
        },
        "/queue": {"GET": show(s.queue), "POST": Action(change_queue, body="json")},
        **picture_routes.table(s),
        "/pictures": {"GET": Action(list_pictures, slow=True)},
        "/pictures/{set}": {"DELETE": change(s.pictures.delete, "set")},
        "/pictures/{set}/copy": {"POST": Action(lambda call: s.sets.copy(call.path["set"]), 201, "json", slow=True)},
        "/pictures/{set}/{name:path}": {
            "GET": Action(show_picture, slow=True),
            "PUT": Action(put_picture, body="file", slow=True),
            "DELETE": Action(delete_picture, slow=True),
        },
        "/page/{file:path}": {"GET": Action(show_page, public=True)},
        "/{rest:path}": {},
    }


# --- HTTP


def routes(service: Service) -> list[Route]:
    """The routes for any Starlette or FastAPI app."""
    lanes = Lanes()
    made = [
        Route(PREFIX + path, Endpoint(service, methods, lanes), name=NAME, include_in_schema=False)
        for path, methods in table(service).items()
    ]
    for route in made:  # names may hold a line's end: as Starlette has it, they would be the host's to answer
        route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    return made


def mount(app: Any, service: Service) -> None:
    """Add the routes to an app, before all others, replacing earlier ones of ours."""
    known = app.router.routes
    known[:] = [*routes(service), *(route for route in known if getattr(route, "name", None) != NAME)]
