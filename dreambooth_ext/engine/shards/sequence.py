"""The endless sequence of batches: windows are read in a thread while the one before is trained on."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future

from .windows import Builder, Place, Stopped, Window

LOOKS = 0.3  # seconds between looks at a window that is waited for
PLACES = 256  # of windows that have passed, to tell how far a step is

Look = Callable[[int, int], None]  # samples read, samples of a window; may raise to end the waiting


class Sequence:
    """The windows of a run, asked for by the number of a batch, from `begin` on. Thread-safe. slack: batches for which
    a window stays after the last one that was asked for."""

    def __init__(self, builder: Builder, slack: int):
        self.builder, self.slack = builder, slack
        self._lock = threading.Lock()
        self._windows: list[Window] = []  # read, in order
        self._places: deque[Place] = deque([Place()], PLACES)
        self._coming: Future[Window] | None = None

    def begin(self, place: Place) -> None:
        """Let the sequence go on at a place that a training state has noted."""
        assert self._coming is None and not self._windows, "nothing has been read"
        self._places = deque([place], PLACES)

    def of(self, number: int, look: Look | None = None) -> Window:
        """Return the window that contains a batch; waits until it has been read. Raises what reading it raised."""
        while True:
            with self._lock:
                for window in reversed(self._windows):
                    if window.place.batches <= number < window.next.batches:
                        return window
                assert number >= self._places[-1].batches, "batches are asked for in order"
                self._coming = coming = self._coming or self._started(self._places[-1])
            self._take(coming, self._waited(coming, look), number)

    def place(self, number: int) -> Place:
        """Return the last known place that is not behind a batch."""
        with self._lock:
            return next((place for place in reversed(self._places) if place.batches <= number), self._places[0])

    def close(self) -> None:
        """Stop reading, and delete what is kept of windows."""
        self.builder.is_over = True
        coming = self._coming
        if coming is not None:
            concurrent.futures.wait([coming], timeout=5.0)
            if coming.done() and not coming.exception():
                coming.result().close()
        for window in self._windows:
            window.close()

    def _take(self, coming: Future[Window], window: Window, number: int) -> None:
        """Add a window that has been read, if no other thread has, and begin to read the next."""
        with self._lock:
            if self._coming is not coming:
                return
            self._windows.append(window)
            self._places.append(window.next)
            self._coming = self._started(window.next)
            while self._windows[0].next.batches + self.slack <= number:
                self._windows.pop(0).close()

    def _waited(self, coming: Future[Window], look: Look | None) -> Window:
        while not concurrent.futures.wait([coming], LOOKS).done:
            if self.builder.is_over:  # what it reads may hang
                raise Stopped
            if look:
                look(self.builder.done, self.builder.config.shuffle_buffer)
        return coming.result()

    def _started(self, place: Place) -> Future[Window]:
        coming: Future[Window] = Future()

        def read() -> None:
            try:
                coming.set_result(self.builder.build(place, self._rest))
            except BaseException as error:  # raised where the window is asked for
                coming.set_exception(error)

        threading.Thread(target=read, name="shards", daemon=True).start()
        return coming

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.builder.is_over:
                raise Stopped
            time.sleep(min(0.2, seconds))
