"""What a request tells of its sender, by its headers alone: standard library only, for both of our servers.

`Headers`: any mapping of names in any case, which also has `getlist` for those that came several times.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import secrets
from collections.abc import Mapping
from typing import Protocol

from ..errors import Refusal

HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\[\]:/@?#\s]+)(?::([0-9]{1,5}))?")
FORWARDED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via", "cf-connecting-ip")


class Headers(Protocol):
    def get(self, key: str, default: str, /) -> str: ...

    def getlist(self, key: str, /) -> list[str]: ...

    def __contains__(self, key: object, /) -> bool: ...


def is_local(address: str, headers: Headers) -> bool:
    """Whether it comes from a program on this machine. address: the sender's, "" where it is not known."""
    return bool(address) and _is_loopback(address) and not any(name in headers for name in FORWARDED)


def _is_loopback(text: str, or_any: bool = False) -> bool:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return False
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or (or_any and address.is_unspecified)


def names_this_machine(headers: Headers) -> bool:
    """Against DNS rebinding: the name in the address bar is the attacker's own, which leads to this machine."""
    given = headers.getlist("host")
    if len(given) != 1:
        return False
    name = _split(given[0])[0]
    return name == "localhost" or _is_loopback(name, or_any=True)


def is_foreign(headers: Headers) -> bool:
    """Whether a page from another address makes its reader's browser ask. Programs that are no browsers send none of
    these headers."""
    sites = headers.getlist("sec-fetch-site")  # of all newer browsers; pages cannot change it
    if sites:
        return any(site not in ("same-origin", "none") for site in sites)
    hosts = headers.getlist("host")
    return any(not any(_is_same(origin, host) for host in hosts) for origin in headers.getlist("origin"))


def _is_same(origin: str, host: str) -> bool:
    """Whether an Origin header names the place that the Host header does. The scheme may be a proxy's own."""
    scheme, _, place = origin.partition("://")
    usual = {"http": 80, "https": 443}.get(scheme)
    (name, port), (own_name, own_port) = _split(place), _split(host)
    return bool(usual and name) and (name, port or usual) == (own_name, own_port or usual)


def _split(host: str) -> tuple[str, int | None]:
    """(name, port) of a Host header; no name where it is none."""
    parts = HOST.fullmatch(host)
    if not parts:
        return "", None
    return parts[1].strip("[]").rstrip(".").lower(), int(parts[2]) if parts[2] else None


def basic_user(headers: Headers, passwords: Mapping[str, str]) -> str | None:
    """The user that Basic authentication names, with the right password. None without; takes the same time always."""
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


def unknown(code: str, asks: bool) -> Refusal:
    """The refusal of a caller without a login or password. asks: the browser then asks for a password, which is no use
    where only a cookie counts."""
    refusal = Refusal(401, code)
    if asks:
        refusal.headers = {"WWW-Authenticate": 'Basic realm="DreamBooth", charset="UTF-8"'}
    return refusal


def check_local(local: bool, foreign: bool, headers: Headers) -> None:
    """Check a caller when there is no authentication at all. Raises a Refusal (403)."""
    if not local:
        raise Refusal(403, "web.other_machine")
    if not names_this_machine(headers):
        raise Refusal(403, "web.other_name")
    if foreign:
        raise Refusal(403, "web.foreign_read")
