"""Download one file over HTTP. The link's secrets are only sent to its own host; interrupted downloads are resumed."""

from __future__ import annotations

import contextlib
import http.client
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message as Headers
from http import HTTPStatus
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ...core.config import links
from ...core.config.names import MODEL_SUFFIXES, RESERVED
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import free_bytes, human_size
from .connections import Address, after, ask
from .progress_thread import MB, STAGE, Stage, watched
from .refusals import NETWORK, Broken, explained, patiently, why

STALL, LEAST = 60.0, 2**16  # seconds, and the bytes that must arrive in them
TRIES = 5  # consecutive tries without any data
PAUSE = 1.0  # seconds before a further try
MOST = 64 * 2**30  # bytes; no model is larger, and a server need not announce the size
RESERVE = 2**28  # bytes of the disk that stay free
CHUNK = 2**20  # bytes
LONGEST_NAME = 120


class Stopped(Exception):
    """Nobody waits for the download any more."""


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


class Transfer:
    """One download. field: the setting that names its link, for messages. All faults are UserErrors."""

    def __init__(self, address: Address, field: str, stage: Stage):
        self.address, self.field, self.stage = address, field, stage
        self.shown = links.bare(address.link)
        self.host = urlsplit(self.shown).netloc or Message("download.its_host")
        self.done = 0  # bytes
        self._size = 0
        self._is_coming = False  # so that another try is worthwhile
        self._is_over = False
        self._marked = (0, time.monotonic())
        self._rests_until = 0.0  # by time.monotonic, because the server is busy

    def offer(self) -> Offer:
        """Ask the server about the file."""
        found: list[Offer] = []
        self._watched(lambda: found.append(patiently(self._offer, self._rest)))
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
        if self._rests_until > time.monotonic():
            since = time.monotonic()
        if self.done - before >= LEAST or self.done < before:
            self._marked = (self.done, time.monotonic())
        elif time.monotonic() - since > STALL:
            received, seconds = human_size(self.done - before), int(STALL)
            raise UserError("download.stalled", self.field, host=self.host, received=received, seconds=seconds)
        self.stage(STAGE, self.done // MB, self._size // MB)

    # --- in the thread that works

    def _offer(self) -> Offer:
        self._is_over = False
        with explained(self.address, self.field), ask(self.address) as answer:
            self.address = after(self.address, answer)
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
                if patiently(lambda: self._once(offer, path), self._rest):
                    return
            except NETWORK as error:
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
        goes_on = explained(self.address, self.field, is_coming=self._is_coming)
        with goes_on, ask(self.address, have, offer.validator) as answer:
            if validator_of(answer.headers) not in ("", offer.validator):
                raise UserError("download.changed", self.field, link=self.shown)
            self._write(answer, have, path)
        return offer.size is None or self.done == offer.size

    def _rest(self, seconds: float) -> None:
        """Wait as long as a busy server asks for, unless nobody waits for the download any more."""
        self._rests_until = until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._is_over:
                raise Stopped
            time.sleep(min(0.2, seconds))

    def _there(self, offer: Offer, path: Path) -> int:
        """Return the bytes of the partial file from which the download can resume."""
        have = path.stat().st_size if offer.is_resumable and path.is_file() else 0
        return have if have <= (offer.size or 0) else 0

    def _write(self, answer: http.client.HTTPResponse, have: int, path: Path) -> None:
        self.done = looked = beginning(answer, have, self.field, self.host)
        with self._saved(), path.open("ab" if self.done else "wb", buffering=0) as file:
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


def validator_of(headers: Headers) -> str:
    """Return what identifies the file when resuming: its strong ETag, else the time of its last change."""
    etag = headers.get("ETag", "").strip()
    return etag if etag and not etag.startswith("W/") else headers.get("Last-Modified", "").strip()


def beginning(answer: http.client.HTTPResponse, start: int, field: str, host: str) -> int:
    """Return the place in the file of an answer's first byte: `start`, which was asked for, or 0 where a server gives
    no parts. Raises UserError for another part."""
    if answer.status != HTTPStatus.PARTIAL_CONTENT:
        return 0
    if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
        raise UserError("download.wrong_part", field, host=host)
    return start


def name_of(link: str, disposition: str) -> str:
    """Return the file's name: from the server (civitai), else the link's last part; without folders or unusual
    characters."""
    said = re.search(r"filename\*?=(?:UTF-8'')?\"?([^\";]+)", disposition)
    return plain_name(unquote(said.group(1) if said else urlsplit(link).path.rsplit("/", 1)[-1]))


def plain_name(told: str) -> str:
    """A file's name as any system may have it, without folders or unusual characters; whoever uploaded it chose it."""
    name = re.sub(r"[^\w.()\[\] -]", "_", told).strip(". ")
    stem, suffix = Path(name).stem[:LONGEST_NAME].strip(". "), Path(name).suffix
    if suffix.lower() not in MODEL_SUFFIXES:
        stem, suffix = name[:LONGEST_NAME].strip(". "), ""
    return ("model" if not stem or RESERVED.fullmatch(stem) else stem) + suffix
