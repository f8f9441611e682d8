"""The routes under /dreambooth/v1: HTTP on one side, `Service` on the other. docs/api.md tells how to use them.

Made with Starlette alone (0.26 to current), which every host has. Each path is one ASGI endpoint, so that the host's
own error pages, body limits and middleware for FastAPI routes play no part.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from ...core.data import picture_entries
from ...core.errors import UserError
from ...core.system import files
from ..errors import Refusal
from . import image_decoding, localization, uploads
from .auth import Caller, admit
from .responses import HEADERS, picture, refused, tagged, to_json
from .service import WISHED, Service

PREFIX = "/dreambooth/v1"
NAME = "dreambooth_ext"  # of all our routes in the host's app
PAGE = Path(__file__).resolve().parents[1] / "page"
PAGE_TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}
QUICK_THREADS, SLOW_THREADS = 16, 6  # at once
LARGEST_JSON = 2**20  # bytes
POLITE = 8  # times the limit of a body that is read and thrown away, so that its sender hears the answer


@dataclass(frozen=True)
class Call:
    """One request, as a handler sees it."""

    service: Service
    caller: Caller
    path: Mapping[str, str]  # the parts of the path that have names
    query: Mapping[str, str]
    headers: Mapping[str, str]
    values: dict[str, Any]  # the body's JSON object
    data: bytes  # the body of an upload

    def text(self, name: str, default: str | None = None) -> str:
        """A text from the body. Raises UserError where it is none."""
        value = self.values.get(name, default)
        if not isinstance(value, str):
            raise UserError(name, "is missing." if value is None else "is not a text.", f'Send {{"{name}": "..."}}.')
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise UserError(name, "is neither true nor false.", "Send true or false.")
        return value

    def object(self, name: str) -> dict[str, Any]:
        value = self.values.get(name)
        if not isinstance(value, dict):
            raise UserError(name, "is missing." if value is None else "is no object.", f'Send {{"{name}": {{...}}}}.')
        return value

    def count(self, name: str) -> int | None:
        """A whole number that is not negative, from the body; None where it is left out."""
        value = self.values.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise UserError(name, "is not a whole number.", "Send a number, or leave it out.")
        return value

    def number(self, name: str, default: int | None = None) -> int | None:
        """The same from the query."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise UserError(name, f"{text[:40]!r} is not a whole number.", f"Use {name}=0 or more, or leave it out.")
        return int(text)


@dataclass(frozen=True)
class Action:
    """What one method of one path does: `run` answers with JSON's values or a Response."""

    run: Callable[[Call], Any]
    status: int = 200
    body: str = ""  # what it reads: "json", "file"
    slow: bool = False  # walks through folders, decodes, copies or waits for the trainer
    public: bool = False  # needs no guard


Methods = Mapping[str, Action]


class Lanes:
    """Threads of our own, few for slow work: the host's page shares the others, and must never wait for us."""

    def __init__(self) -> None:
        self._limits: dict[bool, anyio.CapacityLimiter] = {}

    async def run(self, work: Callable[[], Any], slow: bool) -> Any:
        if slow not in self._limits:  # made where it is used, inside the event loop
            self._limits[slow] = anyio.CapacityLimiter(SLOW_THREADS if slow else QUICK_THREADS)
        return await anyio.to_thread.run_sync(work, limiter=self._limits[slow])


# --- handlers that need more than a line


def create_run(call: Call) -> dict[str, Any]:
    run = call.service.create(call.object("config"), **{name: call.values.get(name) for name in WISHED})
    return {"id": run.id}


def check(call: Call) -> dict[str, Any]:
    return call.service.check(call.object("config"), call.flag("deep"))


def command_run(call: Call) -> dict[str, Any]:
    wanted = {name: call.values[name] for name in WISHED if call.values.get(name) is not None}
    total, new_pictures = call.count("max_train_steps"), call.flag("new_pictures")
    if call.values.get("base_model"):
        call.service.give_link(call.path["id"], call.text("base_model"))
    call.service.command(call.path["id"], call.text("command"), total, wanted, new_pictures)
    return {}


def curves(call: Call) -> dict[str, Any]:
    return call.service.curves(call.path["id"], *(call.number(name) for name in ("from", "to", "points")))


def publish(call: Call) -> dict[str, Any]:
    return call.service.publish(call.path["id"], call.text("artifact"), call.flag("select"))


def unpublish(call: Call) -> dict[str, Any]:
    return call.service.unpublish(call.path["id"], call.text("artifact"))


def about_host(call: Call) -> dict[str, Any]:
    return {**call.service.about_host(), "can_open": can_open(call)}


def can_open(call: Call) -> bool:
    return call.caller.is_local and not call.service.host.restricted()


def open_run(call: Call) -> dict[str, Any]:
    if not can_open(call):
        why = call.service.host.restricted()
        raise Refusal(403, f"folders are only opened on the machine itself. {why}".strip(), "Go to that machine.")
    call.service.open_folder(call.path["id"])
    return {}


def reorder(call: Call) -> dict[str, Any]:
    order = call.values.get("order")
    if not isinstance(order, list) or not all(isinstance(id, str) for id in order):
        raise UserError("order", "is not a list of runs' ids.", 'Send {"order": ["...", "..."]}.')
    return call.service.reorder(order)


def mend(call: Call) -> dict[str, Any]:
    call.service.mend(call.text("action"))
    return call.service.mending.status()


def save_preset(call: Call) -> dict[str, Any]:
    return call.service.save_preset(call.text("name"), call.object("settings"), call.text("description", ""))


def list_pictures(call: Call) -> dict[str, Any]:
    return call.service.list_pictures(call.query.get("set"), call.query.get("folder"), call.number("start", 0) or 0)


def check_kind(file: str, kind: str) -> None:
    """Raises a Refusal (415) for a body that is neither a picture nor, by its name, a caption."""
    if file.lower().endswith(".txt"):
        if kind != "text/plain":
            raise Refusal(415, "a caption is sent as text/plain.", "Set the Content-Type.", "Content-Type")
    elif kind not in uploads.TYPES:
        remedy = f"Send one of {picture_entries.FORMATS}, and say which; save others (HEIC, GIF) as one of these."
        raise Refusal(415, f"{kind[:60]!r} is no kind of picture for training.", remedy, "Content-Type")
    else:
        uploads.check_suffix(file)


def put_picture(call: Call) -> Response:
    name, file = call.path["set"], call.path["name"]
    if file.lower().endswith(".txt"):
        shown = {key: call.query.get(key, "") for key in ("picture", "stamp")}
        return to_json(call.service.sets.put_caption(name, file, call.data, **shown))
    kept = call.service.sets.put(name, file, call.data)
    return to_json(kept, 201 if kept["new"] else 200)


def delete_picture(call: Call) -> dict[str, Any]:
    call.service.delete_pictures(call.path["set"], call.path["name"], call.query.get("stamp", ""))
    return {}


def show_picture(call: Call) -> Response:
    size = uploads.fitting(call.number("size") or uploads.SIZES[-1])
    path = call.service.picture(call.path["set"], call.path["name"], call.query.get("folder"))
    return picture(call.headers, path, "image/jpeg", lambda: image_decoding.draw(path, size), size)


def show_sample(call: Call) -> Response:
    path, kind = call.service.sample(call.path["id"], call.path["step"], call.path["file"])
    size = call.number("size")
    if size:
        size = uploads.fitting(size)
        return picture(call.headers, path, "image/jpeg", lambda: image_decoding.draw(path, size), size)
    return picture(call.headers, path, kind, path.read_bytes)


def draw(call: Call) -> dict[str, Any]:
    given = {name: call.count(name) for name in ("num_images", "seed", "steps")}
    wanted = {"num_images": 1, "seed": 0} | {name: value for name, value in given.items() if value is not None}
    call.service.draw(call.path["id"], call.text("artifact"), wanted)
    return {}


def show_drawn(call: Call) -> Response:
    path, kind = call.service.drawn_picture(call.path["id"], call.path["artifact"], call.path["file"])
    return picture(call.headers, path, kind, path.read_bytes)


def show_page(call: Call) -> Response:
    file = call.path["file"]
    kind = PAGE_TYPES.get(Path(file).suffix)
    path = PAGE / file
    if not kind or not re.fullmatch(r"([a-z]+/)?[a-z][a-z0-9_-]*\.[a-z]+", file) or not path.is_file():
        raise Refusal(404, f"there is no page {file[:80]!r}.")
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
        "/host": {"GET": Action(about_host)},
        "/state": {"GET": show(s.state)},
        "/schema": {"GET": show(s.schema)},
        "/environment": {"GET": show(s.mending.status), "POST": Action(mend, 202, "json")},
        "/presets": {"GET": show(s.list_presets), "POST": Action(save_preset, 201, "json")},
        "/presets/{name}": {"GET": show(s.show_preset, "name"), "DELETE": change(s.delete_preset, "name")},
        "/languages": {"GET": Action(lambda call: {"languages": localization.languages()})},
        "/languages/{name}": {"GET": Action(lambda call: localization.language(call.path["name"]))},
        "/import": {"POST": Action(lambda call: s.read_import(call.text("text")), body="json", slow=True)},
        "/check": {"POST": Action(check, body="json", slow=True)},
        "/runs": {
            "GET": Action(lambda call: s.runs(call.query.get("since", "")), slow=True),
            "POST": Action(create_run, 201, "json", slow=True),
        },
        "/runs/{id}": {"GET": show(s.run, "id"), "DELETE": change(s.delete, "id")},
        "/runs/{id}/config": {"GET": show(s.config, "id")},
        "/runs/{id}/curves": {"GET": Action(curves, slow=True)},
        "/runs/{id}/pictures": {"GET": Action(lambda call: s.pictures_of(call.path["id"]), slow=True)},
        "/runs/{id}/events": {"GET": Action(lambda call: s.events(call.path["id"], call.number("after") or 0))},
        "/runs/{id}/log": {"GET": Action(lambda call: s.log(call.path["id"], call.number("after")))},
        "/runs/{id}/report": {"GET": show(s.report, "id")},
        "/runs/{id}/samples/{step}/{file}": {"GET": Action(show_sample, slow=True)},
        "/runs/{id}/artifacts": {"GET": show(s.artifacts, "id")},
        "/runs/{id}/commands": {"POST": Action(command_run, 202, "json")},
        "/runs/{id}/publish": {"POST": Action(publish, body="json", slow=True)},
        "/runs/{id}/unpublish": {"POST": Action(unpublish, body="json", slow=True)},
        "/runs/{id}/draw": {"GET": show(s.drawn, "id"), "POST": Action(draw, 202, "json")},
        "/runs/{id}/drawn/{artifact}/{file}": {"GET": Action(show_drawn, slow=True)},
        "/runs/{id}/open": {"POST": Action(open_run, body="json")},
        "/queue": {"GET": show(s.queue), "POST": Action(reorder, body="json")},
        "/pictures": {"GET": Action(list_pictures, slow=True)},
        "/pictures/{set}": {"DELETE": change(s.delete_pictures, "set")},
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
    """For any Starlette or FastAPI app."""
    lanes = Lanes()
    made = [
        Route(PREFIX + path, Endpoint(service, methods, lanes), name=NAME, include_in_schema=False)
        for path, methods in table(service).items()
    ]
    for route in made:  # names may hold a line's end: as Starlette has it, they would be the host's to answer
        route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    return made


def mount(app: Any, service: Service) -> None:
    """Put the routes into an app, before all others and in the place of older ones of ours."""
    known = app.router.routes
    known[:] = [*routes(service), *(route for route in known if getattr(route, "name", None) != NAME)]


class Endpoint:
    """One path as an ASGI program: guard, body, handler in a thread, answer."""

    def __init__(self, service: Service, methods: Methods, lanes: Lanes):
        self.service, self.methods, self.lanes = service, methods, lanes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self.answer(request)
        except ClientDisconnect:
            return
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        await response(scope, receive, send)

    async def answer(self, request: Request) -> Response:
        try:
            action = self.methods.get("GET" if request.method == "HEAD" else request.method)
            is_public = action is not None and action.public
            caller = Caller(False) if is_public else await admit(request.scope, self.service.host)
            if action is None:
                raise self._unknown(request.method)
            call = await self._call(request, caller, action)
            return await self.lanes.run(lambda: work(action, call), action.slow)
        except ClientDisconnect:
            raise
        except Exception as error:
            return refused(error)

    def _unknown(self, method: str) -> Refusal:
        if not self.methods:
            return Refusal(404, "there is nothing at this address.", "docs/api.md lists the routes.")
        refusal = Refusal(405, f"{method[:20]} does nothing here.", f"Use {' or '.join(self.methods)}.")
        refusal.headers = {"Allow": ", ".join(self.methods)}
        return refusal

    async def _call(self, request: Request, caller: Caller, action: Action) -> Call:
        values: dict[str, Any] = {}
        data = b""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if action.body == "json":
            if kind != "application/json":
                raise Refusal(415, "the body must be JSON.", "Send it with Content-Type: application/json.")
            values = from_json(await read_body(request, LARGEST_JSON))
        elif action.body == "file":
            check_kind(request.path_params["name"], kind)
            data = await read_body(request, uploads.LARGEST)
        path, query = request.path_params, dict(request.query_params)
        return Call(self.service, caller, path, query, request.headers, values, data)


def work(action: Action, call: Call) -> Response:
    result = action.run(call)
    return result if isinstance(result, Response) else to_json(result, action.status)


async def read_body(request: Request, limit: int) -> bytes:
    """Raises a Refusal (413), as a rule after the body has gone by: senders listen when they have said everything."""
    body, size = bytearray(), 0
    announced = request.headers.get("content-length", "")
    is_huge = announced.isdigit() and int(announced[:20]) > POLITE * limit
    if not is_huge:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limit:
                body += chunk
            else:
                body.clear()
            if size > POLITE * limit:
                break
    if is_huge or size > limit:
        raise Refusal(413, f"the body is larger than {files.human_size(limit)}.", "Send less at once.")
    return bytes(body)


def from_json(data: bytes) -> dict[str, Any]:
    """Raises a Refusal (400)."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    try:
        values = files.parse_json(data.decode("utf-8"), parse_constant=refuse) if data.strip() else {}
    except ValueError as error:
        raise Refusal(400, f"the body is no JSON: {error}."[:300], "Send one object: {...}.") from None
    if not isinstance(values, dict):
        raise Refusal(400, "the body is no JSON object.", "Send one object: {...}.")
    return values
