"""What went wrong with a request, in the user's words; and how long a busy server asks to be left alone."""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import time
import urllib.error
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlsplit

from ...core.config import links
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from .connections import TIME_OUT, Address, Elsewhere, Private

Result = TypeVar("Result")

LONGEST_REST = 120.0  # seconds that a busy server may ask for; for longer, the user is told
RESTS = 5  # in a row
LONGEST_BODY = 2**14  # bytes of a refusal's text
BUSY = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
NETWORK = (http.client.HTTPException, OSError, ValueError)  # what connections and broken answers raise
# Problems that a login may solve -> their text for a resumed run, which says how to give the link again
OF_RUNS = {
    "download.web_page": "download.web_page_of_run",
    "download.login": "download.login_of_run",
    "download.refused": "download.refused_of_run",
}


class Broken(http.client.HTTPException):
    """A connection that broke, and why."""


class Later(Exception):
    """A busy server that says when to come back: after `seconds`. told: the error for who does not wait."""

    def __init__(self, seconds: float, told: UserError):
        super().__init__(str(told))
        self.seconds, self.told = seconds, told


@contextlib.contextmanager
def explained(address: Address, field: str, is_coming: bool = False) -> Iterator[None]:
    """Turn errors of a link or its server into UserErrors, or Later. is_coming: leave those of the connection alone,
    because another try is worthwhile."""
    shown = links.bare(address.link)
    host = urlsplit(shown).netloc or Message("download.its_host")
    try:
        yield
    except urllib.error.HTTPError as error:
        told = refused(error.code, host, shown, field)
        if address.refusal:
            told = address.refusal(error.code, body_of(error)) or told
        seconds = rest_of(error.headers.get("Retry-After", "")) if error.code in BUSY else None
        if seconds is not None and seconds <= LONGEST_REST:
            raise Later(seconds, told) from None
        raise told from None
    except Elsewhere as error:
        scheme = f"{str(error)[:20]}://"
        raise UserError("download.leads_elsewhere", field, link=shown, scheme=scheme) from None
    except Private as error:
        code = "download.private" if str(error) == urlsplit(shown).hostname else "download.leads_inside"
        raise UserError(code, field, link=shown, host=str(error)[:200]) from None
    except NETWORK as error:
        if is_coming:
            raise
        raise UserError("download.unreachable", field, link=shown, reason=why(error)) from None


def body_of(error: urllib.error.HTTPError) -> bytes:
    """The first part of what came with a refusal."""
    try:
        return error.read(LONGEST_BODY)
    except NETWORK:
        return b""


def refused(code: int, host: str, shown: str, field: str) -> UserError:
    if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return UserError("download.login", field, host=host, link=shown, status=code)
    phrase = http.client.responses.get(code, "?")  # the server's own phrase might repeat the link
    later = code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR
    told = "download.busy" if later else "download.refused"
    return UserError(told, field, host=host, link=shown, status=code, phrase=phrase)


def rest_of(told: str) -> float | None:
    """Seconds of a Retry-After header, which holds them or a date; None without one."""
    told = told.strip()
    if told.isascii() and told.isdigit():
        return float(told[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(told).timestamp() - time.time())
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def patiently(work: Callable[[], Result], rest: Callable[[float], None] = time.sleep) -> Result:
    """Do something as often as a busy server asks to come back later."""
    for _ in range(RESTS):
        try:
            return work()
        except Later as later:
            last = later
            rest(max(1.0, later.seconds))
    raise last.told


def why(error: BaseException) -> str:
    """Describe a network error in a few words, none of which come from the link."""
    if isinstance(error, Broken):
        return reason_of(error)
    reason = getattr(error, "reason", None) if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return Message("download.no_answer", seconds=int(TIME_OUT))
    if isinstance(reason, OSError) and reason.strerror:
        return str(reason.strerror)
    return type(error if isinstance(reason, str | None) else reason).__name__
