"""Requests over HTTP that look at whom they connect to: secrets reach their own host alone, and nobody on the internet
leads into this machine or its network.

A name is resolved once, every address that it has is judged, and the connection goes to the address that was judged: a
name that resolves to another address a moment later (DNS rebinding) gains nothing.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import http.client
import ipaddress
import socket
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import Request

from ...core.errors import UserError
from ...core.version import __version__

TIME_OUT = 30.0  # seconds for an answer, or for its next byte
SAFE = "/%:@!$&'()*+,;=~?[]"  # characters of a link that are not escaped
NAT64 = ipaddress.ip_network("64:ff9b::/96")  # IPv4 addresses as IPv6 ones, in their last 32 bits


@dataclass(frozen=True)
class Address:
    """What is requested.

    link: a complete one; its user and password, or else `authorization`, are sent to its own host alone. public_only:
    refuse addresses of this machine and its network from the first; without, only redirects from the internet into
    them are refused. refusal: what this site means by a status and the body with it, if it is more than usual.
    """

    link: str
    authorization: str = ""
    public_only: bool = False
    refusal: Callable[[int, bytes], UserError | None] | None = None


class Elsewhere(Exception):
    """A redirect that is not followed, with the scheme of its target."""


class Private(Exception):
    """A host within this machine or its network that may not be asked, with its name."""


class Chain:
    """The connections of one request and its redirects. After one to a public address, all others must be, too."""

    def __init__(self, public_only: bool):
        self.public_only = public_only

    def judge(self, host: str, addresses: list[str]) -> None:
        """Raise Private if one of a host's addresses may not be connected to."""
        are_public = all(map(is_public, addresses))
        if self.public_only and not are_public:
            raise Private(host)
        self.public_only = self.public_only or are_public

    def connect(self, address: tuple[str, int], timeout: Any = TIME_OUT, source: Any = None) -> socket.socket:
        """`socket.create_connection` to an address that was judged. Raises Private, and OSError."""
        host, port = address
        found = resolved(host, port)
        self.judge(host, [str(target[0]) for _, target in found])
        failure: OSError = OSError("no address")
        for family, target in found:
            made = socket.socket(family, socket.SOCK_STREAM)
            try:
                made.settimeout(timeout if isinstance(timeout, int | float) else TIME_OUT)
                made.connect(target)
                return made
            except OSError as error:
                made.close()
                failure = error
        raise failure


def resolved(host: str, port: int) -> list[tuple[int, Any]]:
    """(family, address with port) of all that a name resolves to. Raises OSError, also for none."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError("no host has such a name") from None
    return [(family, target) for family, _, _, _, target in found]


def is_public(address: str) -> bool:
    """Whether an address is one of the internet, also where it only wraps another one (IPv4 in IPv6, 6to4, NAT64)."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo and ip.teredo[1])
        if inner:
            return is_public(str(inner))
        if int(ip) < 2**32:  # ::a.b.c.d, as it was before IPv4-mapped ones
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


# --- urllib's handlers, with a chain


class HttpConnection(http.client.HTTPConnection):
    def __init__(self, *arguments: Any, chain: Chain, **options: Any):
        super().__init__(*arguments, **options)
        self._create_connection = chain.connect


class HttpsConnection(http.client.HTTPSConnection):
    def __init__(self, *arguments: Any, chain: Chain, **options: Any):
        super().__init__(*arguments, **options)
        self._create_connection = chain.connect


def opening(request: Request, kind: Any) -> Any:
    """What makes the connection of a request. A proxy connects by itself: then its target is judged beforehand."""
    chain: Chain = request.chain  # type: ignore[attr-defined]
    tunnel = getattr(request, "_tunnel_host", None)
    if not tunnel and not request.has_proxy():
        return functools.partial(kind, chain=chain)
    host = urlsplit(request.full_url).hostname or ""
    try:
        addresses = [str(target[0]) for _, target in resolved(host, 443)]
    except OSError:  # only the proxy knows it: nobody can tell whether it is public
        addresses = [] if not chain.public_only else [""]
    if addresses:
        chain.judge(host, addresses)
    return kind.__mro__[1]


class HttpHandler(urllib.request.HTTPHandler):
    def http_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(opening(req, HttpConnection), req)


class HttpsHandler(urllib.request.HTTPSHandler):
    def https_open(self, req: Request) -> http.client.HTTPResponse:
        return self.do_open(opening(req, HttpsConnection), req)


class Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https only, never from https to http; user and password are only sent to the first
    host."""

    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        address = urljoin(req.full_url, headers.get("location") or headers.get("uri") or "")
        old, new = urlsplit(req.full_url).scheme, urlsplit(address).scheme
        if new not in ("http", "https") or (old == "https" and new == "http"):
            raise Elsewhere(new)
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        made = super().redirect_request(req, fp, 307 if code == 308 else code, msg, headers, newurl)
        if made is None:
            return None
        made.chain = req.chain  # type: ignore[attr-defined]
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        known = req.unredirected_hdrs.get("Authorization")
        if known and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            made.add_unredirected_header("Authorization", known)
        return made


OPENER = urllib.request.build_opener(HttpHandler, HttpsHandler, Redirects)


def ask(address: Address, start: int = 0, validator: str = "", most: int = 0) -> http.client.HTTPResponse:
    """Request an address. Starts at byte `start` if the file still has this validator. most: ask for so many of its
    first bytes."""
    parts = urlsplit(address.link)
    host = parts.netloc.rpartition("@")[2]
    link = urlunsplit((parts.scheme, host, quote(parts.path, SAFE), quote(parts.query, SAFE), ""))
    request = urllib.request.Request(link, headers={"User-Agent": f"dreambooth_ext/{__version__}"})
    if request.type not in ("http", "https"):
        raise Elsewhere(request.type)
    request.chain = Chain(address.public_only)  # type: ignore[attr-defined]
    authorization = address.authorization
    if parts.username is not None:
        known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = "Basic " + base64.b64encode(known.encode()).decode()
    if authorization:
        request.add_unredirected_header("Authorization", authorization)
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", validator)
    elif most:
        request.add_header("Range", f"bytes=0-{most - 1}")
    answer = OPENER.open(request, timeout=TIME_OUT)
    answer.chain = request.chain  # type: ignore[attr-defined]
    return answer


def after(address: Address, answer: http.client.HTTPResponse) -> Address:
    """The address for further requests: what has answered from the internet is asked there alone from then on."""
    return dataclasses.replace(address, public_only=answer.chain.public_only)  # type: ignore[attr-defined]
