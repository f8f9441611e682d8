"""Long transfers in threads of their own, so that they tell how far they are and hear a stop while nothing comes."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from ...core.messages.message import Message
from ...core.system.terminal import Progress

LOOKS = 0.3  # seconds between them
MB = 2**20
STAGE = Message("stages.downloading")
Stage = Callable[[Message, int, int], None]  # (what is done, how much of it is, of how much or 0); may raise to end it


def silent(stage: Message, done: int, of: int) -> None:
    """For callers without a screen."""


class TerminalStage:
    """A stage on this terminal, for verbs that draw or convert."""

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
    """Who waits for a download: where its progress goes, and which files a run that goes on has begun with."""

    stage: Stage = silent
    known: dict[str, str] = field(default_factory=dict)  # bare link -> its file, below the folder of the models
    note: Callable[[dict[str, str]], None] = lambda known: None  # told `known` when it has grown

    def keep(self, link: str, file: str) -> None:
        self.known = {**self.known, link: file}
        self.note(self.known)


def watched(works: Iterable[Callable[[], None]], look: Callable[[], None], threads: int = 1) -> None:
    """Do all works, several at once, and `look` now and then. What the first of them raises is raised here.

    The others are left to themselves then, and do not keep the process from ending.
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
        except BaseException as error:  # raised in the thread that waits
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
