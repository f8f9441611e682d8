"""Reads a shard over http from any place on. A connection that breaks or stalls is made again where it was."""

from __future__ import annotations

import contextlib
import http.client
from http import HTTPStatus

from ...core.errors import UserError
from ...core.shards.shard_names import FIELD
from ..downloads.connections import Address, after, ask
from ..downloads.http_file import beginning, validator_of
from ..downloads.refusals import NETWORK, Broken, explained, patiently, why
from .retries import PAUSES, Rest

CHUNK = 2**18  # bytes
GONE = (HTTPStatus.NOT_FOUND, HTTPStatus.GONE)


class HttpReader:
    """A `Reader` of a link. identity: the server's ETag or time of the file, by which a change shows.

    Servers that give no parts of files are read from the beginning again.
    """

    def __init__(self, link: str, name: str, at: int, identity: str, rest: Rest):
        self.name, self.at, self.identity, self._rest = name, at, identity, rest
        self._address = Address(link, refusal=self._refusal)
        self._answer: http.client.HTTPResponse | None = None
        self._size: int | None = None  # of the whole shard, once the server has said it

    def read(self, count: int) -> bytes:
        parts, left = [], count
        while left and (block := self._some(min(left, CHUNK))):
            parts.append(block)
            left -= len(block)
        return b"".join(parts)

    def skip(self, count: int) -> None:
        while count:
            block = self._some(min(count, CHUNK))
            if not block:
                raise UserError("shards.cut", FIELD, shard=self.name, at=self.at)
            count -= len(block)

    def close(self) -> None:
        if self._answer is not None:
            with contextlib.suppress(*NETWORK):
                self._answer.close()
            self._answer = None

    def _some(self, count: int) -> bytes:
        """Return at least one byte, unless the shard ends here."""
        for pause in (*PAUSES, None):
            try:
                if self._answer is None:
                    self._answer = patiently(self._connected, self._rest)
                block = self._answer.read1(count)
                if not block and self._size is not None and self.at < self._size:
                    raise Broken("the connection ended early")
                self.at += len(block)
                return block
            except UserError as error:
                if error.problem.code != "download.busy" or pause is None:
                    raise
            except NETWORK as error:
                if pause is None:
                    tries = len(PAUSES) + 1
                    known = {"shard": self.name, "tries": tries, "error": why(error)}
                    raise UserError("shards.unreachable", FIELD, **known) from error
            self.close()
            assert pause is not None
            self._rest(pause)
        raise AssertionError("unreachable")

    def _connected(self) -> http.client.HTTPResponse:
        """Return an answer whose next byte is the one at `at`."""
        start = self.at if self.identity else 0
        with explained(self._address, FIELD, is_coming=True):
            answer = ask(self._address, start, self.identity)
        self._address = after(self._address, answer)
        said = validator_of(answer.headers)
        if self.identity and said and said != self.identity:
            answer.close()
            raise UserError("shards.changed", FIELD, shard=self.name)
        self.identity = self.identity or said
        begins, size = beginning(answer, start, FIELD, self.name), answer.length
        if answer.status == HTTPStatus.PARTIAL_CONTENT:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            size = int(total) if total.isdigit() else None
        if self._size is not None and size is not None and size != self._size:
            answer.close()
            raise UserError("shards.changed", FIELD, shard=self.name)
        self._size = size if self._size is None else self._size
        self._pass_over(answer, self.at - begins)
        return answer

    def _pass_over(self, answer: http.client.HTTPResponse, count: int) -> None:
        """Read what comes before the place, from a server that gives no parts."""
        while count:
            block = answer.read1(min(count, CHUNK))
            if not block:
                raise Broken("the connection ended early")
            count -= len(block)

    def _refusal(self, status: int, body: bytes) -> UserError | None:
        if status in GONE:
            return UserError("shards.missing", FIELD, shard=self.name)
        return None
