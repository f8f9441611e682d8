"""Decides who may use the API. The host does not protect routes that an extension adds, so this is the only check.

- The host's API asks for a password (`--api-auth`): Basic authentication with one of its pairs.
- The host's page asks for a login: the login's cookie, which the app's own route `/user` checks. Either is enough.
- Neither: only programs on this machine that address it by a local name (a foreign page whose name resolves here
uses its own name), and never a page from another site.

Pages from other sites can change nothing in any case, whatever their user is logged in to. What proxies say about the
caller (X-Forwarded-For) is never trusted; without authentication it only shows that the caller is somebody else.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
from starlette.datastructures import Headers

from ..errors import Refusal

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Scope

    from ..hosts.host import Host

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s]+)(?::([0-9]{1,5}))?")
READING = ("GET", "HEAD")
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via", "cf-connecting-ip")
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
    local = is_local(scope, headers)
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
    _check_local(local, foreign, headers)
    return Caller(local)


def _unknown(has_passwords: bool, has_login: bool) -> Refusal:
    both = has_login and has_passwords
    refusal = Refusal(401, "web.login_or_password" if both else "web.login" if has_login else "web.password")
    if has_passwords:  # browsers then ask for one, which is no use where only a cookie counts
        refusal.headers = {"WWW-Authenticate": 'Basic realm="DreamBooth", charset="UTF-8"'}
    return refusal


def _check_local(local: bool, foreign: bool, headers: Headers) -> None:
    """Check a caller when there is no authentication at all. Raises a Refusal (403)."""
    if not local:
        raise Refusal(403, "web.other_machine")
    if not _names_this_machine(headers):
        raise Refusal(403, "web.other_name")
    if foreign:
        raise Refusal(403, "web.foreign_read")


# --- what a request tells of itself


def is_local(scope: Scope, headers: Headers) -> bool:
    client = scope.get("client")
    return bool(client) and _is_loopback(client[0]) and not any(name in headers for name in FORWARDED)


def _is_loopback(text: str, or_any: bool = False) -> bool:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or (or_any and address.is_unspecified)


def _names_this_machine(headers: Headers) -> bool:
    """Whether the Host header names this machine; with DNS rebinding it is the attacker's name, which resolves here."""
    given = headers.getlist("host")
    if len(given) != 1:
        return False
    name = _split(given[0])[0]
    return name == "localhost" or _is_loopback(name, or_any=True)


def is_foreign(headers: Headers) -> bool:
    """Whether the request comes from a page of another site. Programs other than browsers send none of these
    headers."""
    sites = headers.getlist("sec-fetch-site")  # of all newer browsers; pages cannot change it
    if sites:
        return any(site not in ("same-origin", "none") for site in sites)
    hosts = headers.getlist("host")
    return any(not any(_is_same(origin, host) for host in hosts) for origin in headers.getlist("origin"))


def _is_same(origin: str, host: str) -> bool:
    """Whether an Origin header names the same place as the Host header. The scheme may differ behind a proxy."""
    scheme, _, place = origin.partition("://")
    usual = {"http": 80, "https": 443}.get(scheme)
    (name, port), (own_name, own_port) = _split(place), _split(host)
    return bool(usual and name) and (name, port or usual) == (own_name, own_port or usual)


def _split(host: str) -> tuple[str, int | None]:
    """(name, port) of a Host header; the name is "" if it is malformed."""
    parts = HOST.fullmatch(host)
    if not parts:
        return "", None
    return parts[1].strip("[]").rstrip(".").lower(), int(parts[2]) if parts[2] else None


# --- authentication


def basic_user(headers: Headers, passwords: Mapping[str, str]) -> str | None:
    """The user of Basic authentication with the right password; None otherwise. Compares in constant time."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(given.strip(), validate=True).decode("utf-8").partition(":")
    except (binascii.Error, ValueError):
        return None
    found = None
    for known, expected in passwords.items():
        is_user = secrets.compare_digest(user.encode(), known.encode())
        is_password = secrets.compare_digest(password.encode(), expected.encode())
        if colon and is_user & is_password:
            found = known
    return found


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
