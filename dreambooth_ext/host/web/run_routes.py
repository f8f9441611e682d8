"""The routes of runs: to create, list, follow, command and annotate them."""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from ..errors import Refusal
from ..service.asked_options import ASKED
from ..service.service import Service
from .endpoint import Action, Call, Methods, can_open, change, show
from .small_pictures import as_it_is, thumbnail


def create_run(call: Call) -> dict[str, Any]:
    run = call.service.new_runs.create(call.object("config"), **{name: call.values.get(name) for name in ASKED})
    return {"id": run.id}


def note(call: Call) -> dict[str, Any]:
    given = {name: call.values.get(name) for name in ("note", "starred")}
    return call.service.runs.note(
        call.path["id"],
        None if given["note"] is None else call.text("note"),
        None if given["starred"] is None else call.flag("starred"),
    )


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


def open_run(call: Call) -> dict[str, Any]:
    if not can_open(call):
        why = call.service.host.restricted()
        raise Refusal(403, "web.open_restricted", reason=why) if why else Refusal(403, "web.open_elsewhere")
    call.service.runs.open_folder(call.path["id"])
    return {}


def show_subject(call: Call) -> Response:
    path = call.service.pictures.file_of_run(call.path["id"], call.path["number"])
    return thumbnail(call, path)


def show_sample(call: Call) -> Response:
    return as_it_is(call, *call.service.runs.sample(call.path["id"], call.path["step"], call.path["file"]))


def table(s: Service) -> dict[str, Methods]:
    return {
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
        "/runs/{id}/commands": {"POST": Action(command_run, 202, "json")},
        "/runs/{id}/open": {"POST": Action(open_run, body="json")},
    }
