"""The routes below /dreambooth/v1, from HTTP to `Service`. docs/api.md explains how to use them.

They use only Starlette (0.26 to current), which every host has. Each path is one ASGI endpoint, so that the host's own
error pages, body limits and middleware for FastAPI routes do not apply.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

from starlette.responses import Response
from starlette.routing import Route

from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.guide import demo_recipe
from ..errors import Refusal
from ..service.service import Service
from . import caption_routes, localization, model_routes, page_files, picture_routes, run_routes
from .endpoint import Action, Call, Endpoint, Lanes, Methods, can_open, change, show
from .page_files import PREFIX
from .responses import tagged

NAME = "dreambooth_ext"  # of all our routes in the host's app


def check(call: Call) -> dict[str, Any]:
    return call.service.new_runs.check(call.object("config"), call.flag("deep"))


def about_host(call: Call) -> dict[str, Any]:
    return {**call.service.about_host(), "can_open": can_open(call)}


def publish_into(call: Call) -> dict[str, Any]:
    return {**call.service.publish_into(call.text("folder")), "can_open": can_open(call)}


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


def show_page(call: Call) -> Response:
    found = page_files.find(call.path["file"])
    if found is None:
        raise Refusal(404, "web.no_page", file=shown(call.path["file"]))
    path, kind = found
    content = path.read_bytes()
    return tagged(call.headers, hashlib.sha256(content).hexdigest()[:16], lambda: content, kind)


def table(s: Service) -> dict[str, Methods]:
    """Every path below PREFIX, and what its methods do."""
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
        "/queue": {"GET": show(s.queue), "POST": Action(change_queue, body="json")},
        **run_routes.table(s),
        **model_routes.table(s),
        **caption_routes.table(s),
        **picture_routes.table(s),
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
