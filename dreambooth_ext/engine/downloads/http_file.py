"""Download one file over HTTP. The link's secrets are only sent to its own host; interrupted downloads are resumed."""

from __future__ import annotations

import base64
import contextlib
import http.client
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message as Headers
from http import HTTPStatus
from http.client import HTTPMessage
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit
from urllib.request import Request

from ...core.config import links
from ...core.config.names import MODEL_SUFFIXES, RESERVED
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import free_bytes, human_size
from .progress_thread import MB, STAGE, Stage, watched

TIME_OUT = 30.0  # seconds for an answer, or for its next byte
STALL, LEAST = 60.0, 2**16  # seconds, and the bytes that must arrive in them
TRIES = 5  # consecutive tries without any data
PAUSE = 1.0  # seconds before a further try
MOST = 64 * 2**30  # bytes; no model is larger, and a server need not announce the size
RESERVE = 2**28  # bytes of the disk that stay free
CHUNK = 2**20  # bytes
SAFE = "/%:@!$&'()*+,;=~?[]"  # characters of a link that are not escaped
LONGEST_NAME = 120
# Problems that a login may solve -> their text for a resumed run, which says how to give the link again
OF_RUNS = {
    "download.web_page": "download.web_page_of_run",
    "download.login": "download.login_of_run",
    "download.refused": "download.refused_of_run",
}


class Stopped(Exception):
    """Nobody waits for the download any more."""


class Broken(http.client.HTTPException):
    """A connection that broke, and why."""


class Elsewhere(Exception):
    """A redirect that is not followed, with the scheme of its target."""


@dataclass(frozen=True)
class Offer:
    """What a server says about a file before sending it."""

    name: str
    size: int | None  # bytes
    validator: str  # with which the rest of the file can be requested; "" if there is none
    identity: str  # changes with the file's version; "" if unknown

    @property
    def is_resumable(self) -> bool:
        return bool(self.size and self.validator)


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
        old, new = urlsplit(req.full_url), urlsplit(newurl)
        known = req.unredirected_hdrs.get("Authorization")
        if made and known and (old.scheme, old.netloc) == (new.scheme, new.netloc):
            made.add_unredirected_header("Authorization", known)
        return made


OPENER = urllib.request.build_opener(Redirects)


def ask(link: str, start: int = 0, validator: str = "") -> http.client.HTTPResponse:
    """Request a complete link. Starts at byte `start` if the file still has this validator."""
    parts = urlsplit(link)
    host = parts.netloc.rpartition("@")[2]
    address = urlunsplit((parts.scheme, host, quote(parts.path, SAFE), quote(parts.query, SAFE), ""))
    request = urllib.request.Request(address, headers={"User-Agent": "dreambooth_ext"})
    if parts.username is not None:
        known = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        request.add_unredirected_header("Authorization", "Basic " + base64.b64encode(known.encode()).decode())
    if start:
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", validator)
    return OPENER.open(request, timeout=TIME_OUT)


class Transfer:
    """One download. link: a complete one. field: the setting that names it, for messages. All faults are UserErrors."""

    def __init__(self, link: str, field: str, stage: Stage):
        self.link, self.field, self.stage = link, field, stage
        self.shown = links.bare(link)
        self.host = urlsplit(self.shown).netloc or Message("download.its_host")
        self.done = 0  # bytes
        self._size = 0
        self._is_coming = False  # so that another try is worthwhile
        self._is_over = False
        self._marked = (0, time.monotonic())

    def offer(self) -> Offer:
        """Ask the server about the file."""
        found: list[Offer] = []
        self._watched(lambda: found.append(self._offer()))
        return found[0]

    def fetch(self, offer: Offer, path: Path) -> None:
        """Download the offered file to `path`, resuming a partial one."""
        self._size, self._is_coming = offer.size or 0, True
        self._watched(lambda: self._fetch(offer, path))

    def page(self) -> UserError:
        return UserError("download.web_page", self.field, link=self.shown)

    # --- in the thread that waits

    def _watched(self, work: Any) -> None:
        self._marked = (self.done, time.monotonic())
        try:
            watched([work], self._look)
        finally:
            self._is_over = True

    def _look(self) -> None:
        before, since = self._marked
        if self.done - before >= LEAST or self.done < before:
            self._marked = (self.done, time.monotonic())
        elif time.monotonic() - since > STALL:
            received, seconds = human_size(self.done - before), int(STALL)
            raise UserError("download.stalled", self.field, host=self.host, received=received, seconds=seconds)
        self.stage(STAGE, self.done // MB, self._size // MB)

    # --- in the thread that works

    def _offer(self) -> Offer:
        self._is_over = False
        with self._explained(), ask(self.link) as answer:
            headers = answer.headers
            if headers.get_content_type() in ("text/html", "application/xhtml+xml"):
                raise self.page()
            etag, changed = (headers.get(name, "").strip() for name in ("ETag", "Last-Modified"))
            identity = etag or (f"{changed} {answer.length}" if changed else "")
            name = name_of(self.shown, headers.get("Content-Disposition", ""))
            return Offer(name, answer.length, validator_of(headers), identity)

    def _fetch(self, offer: Offer, path: Path) -> None:
        self._is_over, tries = False, 0
        while True:
            before = self.done
            reason: str = Message("download.connection_lost")
            try:
                if self._once(offer, path):
                    return
            except (http.client.HTTPException, OSError, ValueError) as error:
                reason = why(error)
            tries = 0 if self.done > before else tries + 1
            if not offer.is_resumable or tries >= TRIES:
                raise self._interrupted(offer, reason)
            time.sleep(PAUSE)

    def _once(self, offer: Offer, path: Path) -> bool:
        """Download over one connection. Returns whether the file is complete, as far as the server says its size."""
        self.done = have = self._there(offer, path)
        if have and have == offer.size:
            return True
        self._require_space((offer.size or 0) - have, path)
        with self._explained(), ask(self.link, have, offer.validator) as answer:
            if validator_of(answer.headers) not in ("", offer.validator):
                raise UserError("download.changed", self.field, link=self.shown)
            self._write(answer, have, path)
        return offer.size is None or self.done == offer.size

    def _there(self, offer: Offer, path: Path) -> int:
        """Return the bytes of the partial file from which the download can resume."""
        have = path.stat().st_size if offer.is_resumable and path.is_file() else 0
        return have if have <= (offer.size or 0) else 0

    def _write(self, answer: http.client.HTTPResponse, have: int, path: Path) -> None:
        goes_on = answer.status == HTTPStatus.PARTIAL_CONTENT
        if goes_on and not answer.headers.get("Content-Range", "").startswith(f"bytes {have}-"):
            raise UserError("download.wrong_part", self.field, host=self.host)
        self.done = looked = have if goes_on else 0
        with self._saved(), path.open("ab" if goes_on else "wb", buffering=0) as file:
            while block := memoryview(self._read(answer)):
                if self._is_over:
                    raise Stopped
                self.done += len(block)
                while block:
                    block = block[file.write(block) :]
                if self.done - looked >= 16 * MB:
                    looked = self.done
                    self._require_space(0, path)

    def _read(self, answer: http.client.HTTPResponse) -> bytes:
        try:
            return answer.read1(CHUNK)
        except OSError as error:
            raise Broken(why(error)) from None

    def _require_space(self, need: int, path: Path) -> None:
        if self.done + need > MOST:
            raise UserError("download.too_large", self.field, link=self.shown, most=human_size(MOST))
        free = free_bytes(path.parent)
        if need + RESERVE <= free:
            return
        if need:
            raise UserError("download.disk_full", self.field, need=human_size(need), free=human_size(free))
        raise UserError("download.disk_full_of_more", self.field, free=human_size(free))

    def _interrupted(self, offer: Offer, reason: str) -> UserError:
        done = human_size(self.done)
        if not offer.is_resumable:
            return UserError("download.broken_off", self.field, host=self.host, done=done, reason=reason)
        size = human_size(offer.size or 0)
        return UserError("download.interrupted", self.field, host=self.host, done=done, size=size, reason=reason)

    @contextlib.contextmanager
    def _saved(self) -> Iterator[None]:
        """Turn disk errors into UserErrors."""
        try:
            yield
        except OSError as error:
            raise UserError("download.cannot_save", self.field, error=reason_of(error)) from error

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn errors of the link or the server into UserErrors."""
        try:
            yield
        except urllib.error.HTTPError as error:
            raise self._refused(error.code) from None
        except Elsewhere as error:
            scheme = f"{str(error)[:20]}://"
            raise UserError("download.leads_elsewhere", self.field, link=self.shown, scheme=scheme) from None
        except (http.client.HTTPException, OSError, ValueError) as error:
            if self._is_coming:
                raise
            raise UserError("download.unreachable", self.field, link=self.shown, reason=why(error)) from None

    def _refused(self, code: int) -> UserError:
        if code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return UserError("download.login", self.field, host=self.host, link=self.shown, status=code)
        phrase = http.client.responses.get(code, "?")  # the server's own phrase might repeat the link
        later = code == HTTPStatus.TOO_MANY_REQUESTS or code >= HTTPStatus.INTERNAL_SERVER_ERROR
        told = "download.busy" if later else "download.refused"
        return UserError(told, self.field, host=self.host, link=self.shown, status=code, phrase=phrase)


def validator_of(headers: Headers) -> str:
    """Return what identifies the file when resuming: its strong ETag, else the time of its last change."""
    etag = headers.get("ETag", "").strip()
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "").strip()


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


def name_of(link: str, disposition: str) -> str:
    """Return the file's name: from the server (civitai), else the link's last part; without folders or unusual
    characters."""
    said = re.search(r"filename\*?=(?:UTF-8'')?\"?([^\";]+)", disposition)
    name = unquote(said.group(1) if said else urlsplit(link).path.rsplit("/", 1)[-1])
    name = re.sub(r"[^\w.()\[\] -]", "_", name).strip(". ")
    stem, suffix = Path(name).stem[:LONGEST_NAME].strip(". "), Path(name).suffix
    if suffix.lower() not in MODEL_SUFFIXES:
        stem, suffix = name[:LONGEST_NAME].strip(". "), ""
    return ("model" if not stem or RESERVED.fullmatch(stem) else stem) + suffix
