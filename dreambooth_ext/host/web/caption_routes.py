"""The routes of captions, of what proposes them, and of the word."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from ...core.errors import UserError
from ..service.service import Service
from .endpoint import Action, Call, Methods, change, show
from .small_pictures import as_it_is


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
    return as_it_is(call, path, "image/png")


def table(s: Service) -> dict[str, Methods]:
    return {
        "/captions": {
            "GET": Action(list_captions, slow=True),
            "POST": Action(edit_captions, body="json", slow=True),
        },
        "/captions/undo": {"POST": Action(lambda call: s.captions.undo(call.text("set")), body="json", slow=True)},
        "/captions/redo": {
            "POST": Action(lambda call: s.captions.undo(call.text("set"), back=False), body="json", slow=True)
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
    }
