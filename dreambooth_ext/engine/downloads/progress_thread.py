"""Run long transfers in threads, so that they report progress and can be stopped while no data arrives."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ...core.messages.message import Message
from ...core.system.terminal import Progress

LOOKS = 0.3  # seconds between looks
MB = 2**20
STAGE = Message("stages.downloading")
Stage = Callable[[Message, int, int], None]  # (what is going on, amount done, total or 0); may raise to end it


def silent(stage: Message, done: int, of: int) -> None:
    """Ignore progress, for callers without a screen."""


class TerminalStage:
    """Shows a stage's progress on the terminal, for verbs such as generate and convert."""

    def __init__(self) -> None:
        self.line: Progress | None = None

    def __call__(self, stage: Message, done: int, of: int) -> None:
        self.line = self.line or Progress(of, stage)
        self.line.total = of
        self.line.update(done)
        if done >= of > 0:
            self.line.close()


@dataclass
class Fetch:
    """How to download for a caller: where progress goes, and which files a resumed run started with."""

    stage: Stage = silent
    known: dict[str, str] = field(default_factory=dict)  # bare link -> its file, below the folder of the models
    note: Callable[[dict[str, str]], None] = lambda known: None  # called with `known` when it has grown

    def keep(self, link: str, file: str) -> None:
        self.known = {**self.known, link: file}
        self.note(self.known)


def watched(works: Iterable[Callable[[], None]], look: Callable[[], None], threads: int = 1) -> None:
    """Run all works in threads, several at once, calling `look` regularly. The first exception is raised here.

    The other threads are then left alone, and do not keep the process from ending.
    """
    waiting: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
    for work in works:
        waiting.put(work)
    failures: list[BaseException] = []
    over = threading.Event()

    def do() -> None:
        try:
            while not over.is_set():
                waiting.get_nowait()()
        except queue.Empty:
            pass
        except BaseException as error:  # re-raised in the waiting thread
            failures.append(error)

    hands = [threading.Thread(target=do, name="download", daemon=True) for _ in range(threads)]
    try:
        for hand in hands:
            hand.start()
        while not failures and (busy := [hand for hand in hands if hand.is_alive()]):
            busy[0].join(LOOKS)
            look()
        if failures:
            raise failures[0]
    finally:
        over.set()
