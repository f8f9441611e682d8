"""Decides who may use the API. The host does not protect routes that an extension adds, so this is the only check.

- The host's API asks for a password (`--api-auth`): Basic authentication with one of its pairs.
- The host's page asks for a login: the login's cookie, which the app's own route `/user` checks. Either is enough.
- Neither: only programs on this machine that address it by a local name (a foreign page whose name resolves here
uses its own name), and never a page from another site.

Pages from other sites can change nothing in any case, whatever their user is logged in to. What proxies say about the
caller (X-Forwarded-For) is never trusted; without authentication it only shows that the caller is somebody else.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from starlette.datastructures import Headers

from ..errors import Refusal
from .callers import basic_user, check_local, is_foreign, is_local, unknown

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

    from ..hosts.host import Host

READING = ("GET", "HEAD")
LOGIN_TIMEOUT = 5.0  # seconds
LARGEST_ANSWER = 64 * 1024  # bytes of what /user may say


@dataclass(frozen=True)
class Caller:
    """An admitted caller; `is_local`: a program on this machine, without a proxy in between."""

    is_local: bool
    user: str = ""


async def admit(scope: Scope, host: Host) -> Caller:
    """The caller of a request. Raises a Refusal (401, 403)."""
    headers = Headers(scope=scope)
    passwords = host.api_auth()
    foreign = is_foreign(headers)
    if foreign and scope["method"] not in READING:
        raise Refusal(403, "web.foreign_change")
    client = scope.get("client")
    local = is_local(client[0] if client else "", headers)
    user = basic_user(headers, passwords)
    if user is not None:
        return Caller(local, user)
    has_login = False
    if host.has_login():
        has_login, user = await logged_in(scope, headers)
        if user:
            return Caller(local, user)
    if has_login or passwords:
        raise _unknown(bool(passwords), has_login)
    check_local(local, foreign, headers)
    return Caller(local)


def _unknown(has_passwords: bool, has_login: bool) -> Refusal:
    both = has_login and has_passwords
    return unknown("web.login_or_password" if both else "web.login" if has_login else "web.password", has_passwords)


# --- the login


async def logged_in(scope: Scope, headers: Headers) -> tuple[bool, str]:
    """(whether there is a login at all, the user of the caller's cookie or ""), according to the app's own `/user`.

    The route is called inside the process: gradio keeps its tokens in a different place in every version, but `/user`
    works in all.
    """
    try:
        status, body = await _ask(scope["app"], scope, headers)
    except Exception:  # whatever breaks in the host's route, it lets nobody in
        status, body = 500, b""
    if status == 404:  # no page at all (--nowebui)
        return False, ""
    try:
        user = json.loads(body) if status == 200 else None
    except ValueError:
        user = None
    return True, user if isinstance(user, str) else ""


async def _ask(app: ASGIApp, scope: Scope, headers: Headers) -> tuple[int, bytes]:
    """(status, body) of GET /user with the caller's cookies."""
    answer: dict[str, Any] = {"status": 500}
    body = bytearray()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            answer["status"] = message["status"]
        elif message["type"] == "http.response.body" and len(body) < LARGEST_ANSWER:
            body.extend(message.get("body", b""))

    with anyio.move_on_after(LOGIN_TIMEOUT):
        await app(_user_scope(scope, headers), receive, send)
        return answer["status"], bytes(body)
    return 500, b""


def _user_scope(scope: Scope, headers: Headers) -> Scope:
    passed = [(name, value) for name, value in headers.raw if name in (b"cookie", b"host")]
    kept = {name: scope[name] for name in ("asgi", "http_version", "scheme", "client", "server") if name in scope}
    return {
        **kept,
        "type": "http",
        "method": "GET",
        "path": "/user",
        "raw_path": b"/user",
        "root_path": "",
        "query_string": b"",
        "headers": passed,
    }
