"""Sum up a file while it is written, and read it ahead, so that the disk and both sides of the work never wait."""

from __future__ import annotations

import contextlib
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, BinaryIO, Protocol, TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")

SMALL = 2**16  # bytes


class Digest(Protocol):
    """Sums up bytes in order, as those of `hashlib` do."""

    def update(self, data: Any, /) -> None: ...


class Crc32:
    """CRC-32 as a digest. It detects a failing disk or cable, not tampering."""

    def __init__(self) -> None:
        self.sum = 0

    def update(self, data: Any) -> None:
        self.sum = zlib.crc32(data, self.sum)


class SummedFile:
    """A file opened for sequential writing, and the digest of everything written so far.

    Large blocks are summed in a thread while the disk writes, which costs next to nothing because both release the GIL.
    For small ones, of which there are thousands, the thread would cost more than the checksum.
    """

    def __init__(self, file: BinaryIO, digest: Digest, threads: ThreadPoolExecutor):
        self.file, self.digest, self.threads = file, digest, threads

    def write(self, data: Any) -> int:
        if memoryview(data).nbytes < SMALL:
            self.digest.update(data)
            return self.file.write(data)
        summed = self.threads.submit(self.digest.update, data)
        try:
            return self.file.write(data)
        finally:
            summed.result()  # even if the write fails: the caller may reuse `data` afterwards

    def flush(self) -> None:
        self.file.flush()


@contextlib.contextmanager
def summed(file: BinaryIO, digest: Digest) -> Iterator[SummedFile]:
    """Yield `file`, which stays the caller's to close, as one that sums up what is written."""
    with ThreadPoolExecutor(1) as threads:
        yield SummedFile(file, digest, threads)


def made_ahead(make: Callable[[Item], Made], items: Iterable[Item], ahead: int = 2) -> Iterator[Made]:
    """Yield `make(item)` in order; a thread makes the next `ahead` meanwhile. More than one: a small item between two
    large ones, as a bias is, takes no time in which the next large one could be made."""
    with ThreadPoolExecutor(1) as threads:
        coming: deque[Future[Made]] = deque()
        for item in items:
            coming.append(threads.submit(make, item))
            if len(coming) > ahead:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
