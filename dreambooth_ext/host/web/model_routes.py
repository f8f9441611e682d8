"""The routes of what training made: to publish, draw, compare and judge it; and of models got by link."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ..service.service import Service
from .endpoint import Action, Call, Methods, change, show
from .responses import picture
from .small_pictures import as_it_is


def publish(call: Call) -> dict[str, Any]:
    return call.service.models.publish(call.path["id"], call.text("artifact"), call.flag("select"))


def unpublish(call: Call) -> dict[str, Any]:
    return call.service.models.unpublish(call.path["id"], call.text("artifact"))


def draw(call: Call) -> dict[str, Any]:
    given = {name: call.count(name) for name in ("num_images", "seed", "steps")}
    wanted = {"num_images": 1, "seed": 0} | {name: value for name, value in given.items() if value is not None}
    call.service.models.draw(call.path["id"], call.text("artifact"), wanted)
    return {}


def show_drawn(call: Call) -> Response:
    path, kind = call.service.models.drawn_picture(call.path["id"], call.path["artifact"], call.path["file"])
    return picture(call.headers, path, kind, path.read_bytes)


def judge(call: Call) -> Any:
    model = call.text("judge") if call.values.get("judge") is not None else None
    return call.service.judge(call.path["id"], call.flag("steps_only"), model)


def show_judged(call: Call) -> Response:
    return as_it_is(call, *call.service.verdicts.picture(call.path["id"], call.path["file"]))


def show_compared(call: Call) -> Response:
    return as_it_is(call, *call.service.comparisons.picture(call.path["id"], call.path["file"]))


def change_download(call: Call) -> dict[str, Any]:
    given = {name: call.text(name, "") for name in ("link", "file")}
    return call.service.change_download(call.path["id"], call.text("action"), **given)


def table(s: Service) -> dict[str, Methods]:
    return {
        "/runs/{id}/artifacts": {"GET": show(s.models.list, "id")},
        "/runs/{id}/artifacts/{file}": {"DELETE": change(s.models.delete, "id", "file")},
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
        "/downloads": {
            "GET": Action(lambda call: {"downloads": s.downloads.listed()}),
            "POST": Action(lambda call: s.look_up(call.text("link"), call.text("file", "")), 202, "json", slow=True),
        },
        "/downloads/{id}": {
            "GET": show(s.downloads.show, "id"),
            "POST": Action(change_download, 202, "json", slow=True),
            "DELETE": change(s.downloads.remove, "id"),
        },
    }
