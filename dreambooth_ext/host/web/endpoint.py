"""One path of the API as an ASGI program: authentication, body, a handler in a thread, response."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ...core.config.parsing import shown
from ...core.data import picture_entries
from ...core.errors import UserError
from ...core.pictures import viewable
from ...core.system import files
from ..errors import Refusal
from ..pictures import set_archive, uploads
from ..service.service import Service
from .auth import Caller, admit
from .responses import HEADERS, refused, to_json

QUICK_THREADS, SLOW_THREADS = 16, 6  # at once
LARGEST_JSON = 2**20  # bytes
ARCHIVES = ("application/zip", "application/x-zip-compressed", "application/octet-stream")
POLITE = 8  # times the limit of a body that is read and thrown away, so that its sender hears the answer


@dataclass(frozen=True)
class Call:
    """One request as a handler sees it."""

    service: Service
    caller: Caller
    path: Mapping[str, str]  # the parts of the path that have names
    query: Mapping[str, str]
    headers: Mapping[str, str]
    values: dict[str, Any]  # the body's JSON object
    data: bytes  # the body of an upload
    file: Path | None = None  # the body of a larger one, which is gone after the answer

    def text(self, name: str, default: str | None = None) -> str:
        """A text from the body. Raises UserError if it is none."""
        value = self.values.get(name, default)
        if value is None:
            raise UserError("web.missing_text", name, name=name)
        if not isinstance(value, str):
            raise UserError("web.not_text", name, name=name)
        return value

    def flag(self, name: str, default: bool = False) -> bool:
        value = self.values.get(name, default)
        if not isinstance(value, bool):
            raise UserError("web.not_flag", name)
        return value

    def object(self, name: str) -> dict[str, Any]:
        value = self.values.get(name)
        if value is None:
            raise UserError("web.missing_object", name, name=name)
        if not isinstance(value, dict):
            raise UserError("web.not_object", name, name=name)
        return value

    def count(self, name: str) -> int | None:
        """A whole number, 0 or more, from the body; None if it is left out."""
        value = self.values.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 0):
            raise UserError("web.not_count", name)
        return value

    def number(self, name: str, default: int | None = None) -> int | None:
        """A whole number, 0 or more, from the query; `default` if it is left out."""
        text = self.query.get(name, "")
        if not text:
            return default
        if not re.fullmatch(r"[0-9]{1,15}", text):
            raise UserError("web.not_number", name, value=shown(text), name=name)
        return int(text)


@dataclass(frozen=True)
class Action:
    """One method of one path: `run` returns JSON values or a Response."""

    run: Callable[[Call], Any]
    status: int = 200
    body: str = ""  # what it reads: "json", "file", "archive"
    slow: bool = False  # walks through folders, decodes, copies or waits for the trainer
    public: bool = False  # needs no guard


Methods = Mapping[str, Action]


def show(run: Callable[..., Any], *names: str) -> Action:
    """Answer with what `run` returns for these parts of the path."""
    return Action(lambda call: run(*(call.path[name] for name in names)))


def change(run: Callable[..., Any], *names: str) -> Action:
    """Have `run` change what these parts of the path name, which may take a while."""
    return Action(lambda call: run(*(call.path[name] for name in names)) or {}, slow=True)


def can_open(call: Call) -> bool:
    """Whether a folder may be opened on the screen of this machine."""
    return call.caller.is_local and not call.service.host.restricted()


class Lanes:
    """Threads for handlers, few of them for slow work: the host's page uses the other threads and must never wait for
    us."""

    def __init__(self) -> None:
        self._limits: dict[bool, anyio.CapacityLimiter] = {}

    async def run(self, work: Callable[[], Any], slow: bool) -> Any:
        if slow not in self._limits:  # made where it is used, inside the event loop
            self._limits[slow] = anyio.CapacityLimiter(SLOW_THREADS if slow else QUICK_THREADS)
        return await anyio.to_thread.run_sync(work, limiter=self._limits[slow])


class Endpoint:
    """One path as an ASGI program: authentication, body, handler in a thread, response."""

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
            try:
                return await self.lanes.run(lambda: work(action, call), action.slow)
            finally:
                if call.file:
                    call.file.unlink(missing_ok=True)
        except ClientDisconnect:
            raise
        except Exception as error:
            return refused(error)

    def _unknown(self, method: str) -> Refusal:
        if not self.methods:
            return Refusal(404, "web.no_route")
        refusal = Refusal(405, "web.no_method", method=method[:20], methods=list(self.methods))
        refusal.headers = {"Allow": ", ".join(self.methods)}
        return refusal

    async def _call(self, request: Request, caller: Caller, action: Action) -> Call:
        values: dict[str, Any] = {}
        data, file = b"", None
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if action.body == "json":
            if kind != "application/json":
                raise Refusal(415, "web.not_sent_as_json", "Content-Type")
            values = from_json(await read_body(request, LARGEST_JSON))
        elif action.body == "file":
            check_kind(request.path_params["name"], kind)
            data = await read_body(request, uploads.LARGEST)
        elif action.body == "archive":
            if kind not in ARCHIVES:
                raise Refusal(415, "web.archive_type", "Content-Type")
            file = await keep_body(request, self.service.sets.folder, set_archive.LARGEST_ARCHIVE)
        path, query = request.path_params, dict(request.query_params)
        return Call(self.service, caller, path, query, request.headers, values, data, file)


def work(action: Action, call: Call) -> Response:
    result = action.run(call)
    return result if isinstance(result, Response) else to_json(result, action.status)


async def read_body(request: Request, limit: int) -> bytes:
    """The request's body. Raises a Refusal (413), usually after receiving the whole body, because senders read answers
    only then."""
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
        raise Refusal(413, "web.too_large", most=files.human_size(limit))
    return bytes(body)


async def keep_body(request: Request, folder: Path, limit: int) -> Path:
    """The request's body in a temporary file in `folder`. Raises a Refusal (413; 507 for a full disk)."""
    announced = request.headers.get("content-length", "")
    size = int(announced) if announced.isdigit() and len(announced) < 20 else 0
    folder.mkdir(parents=True, exist_ok=True)
    if size <= limit and files.free_bytes(folder) < size + uploads.SPARE:
        raise Refusal(507, "upload.disk_full", folder=str(folder))
    path = folder / f"{files.TEMPORARY}{secrets.token_hex(6)}.zip"
    size = 0 if size <= limit else size
    try:
        with path.open("wb") as kept:
            async for chunk in request.stream():
                size += len(chunk)
                if size > limit:
                    raise Refusal(413, "web.too_large", most=files.human_size(limit))
                kept.write(chunk)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return path


def from_json(data: bytes) -> dict[str, Any]:
    """The body's JSON object. Raises a Refusal (400)."""

    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is not JSON")

    try:
        values = files.parse_json(data.decode("utf-8"), parse_constant=refuse) if data.strip() else {}
    except ValueError as error:
        raise Refusal(400, "web.bad_json", error=str(error)[:300]) from None
    if not isinstance(values, dict):
        raise Refusal(400, "web.no_json_object")
    return values


def check_kind(file: str, kind: str) -> None:
    """Raise a Refusal (415) for a body that is neither a picture nor, by its name, a caption."""
    if file.lower().endswith(".txt"):
        if kind != "text/plain":
            raise Refusal(415, "web.caption_type", "Content-Type")
    elif kind not in uploads.TYPES:
        raise Refusal(415, "web.picture_type", "Content-Type", type=shown(kind), formats=picture_entries.FORMATS)
    else:
        if not viewable.is_converted(file):
            uploads.check_suffix(file)
