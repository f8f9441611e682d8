"""A row of the table of bad input, and how a verb's answer is judged."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreambooth_ext.core.errors import Problem, UserError
from dreambooth_ext.core.system.terminal import escaped

SECONDS = 5.0  # of work, whatever else the machine does
PATIENCE = 60.0  # for one that waits for ever
LONGEST = 700  # letters of a message with its remedy


@dataclass(frozen=True)
class Verb:
    """Something that reads input: a command, a request, or a reader that several of them share."""

    name: str
    read: Callable[[Any, Path], Any]  # (what the case made, an empty folder) -> problems; or raises UserError
    field: str = ""  # what the verb calls what it was given, where that is not the case's own word


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[Path], Any]  # writes into a folder what is bad, and returns what the verbs are given
    verbs: tuple[Verb, ...]
    field: str  # that is blamed
    words: str  # in the message or its remedy

    def prove(self, folder: Path) -> None:
        """Give it to every verb. Raises AssertionError with the name of one that does not refuse it as it has to."""
        given = self.make(made(folder / "given"))
        for number, verb in enumerate(self.verbs):
            try:
                self.judge(verb, timed(lambda verb=verb, n=number: verb.read(given, made(folder / str(n)))))
            except Exception as error:
                raise AssertionError(f"{verb.name}: {error!r}") from error

    def judge(self, verb: Verb, said: list[Problem]) -> None:
        """One message: of the field, in the words, short, on one line, and with what to do."""
        assert [problem.field for problem in said] == [verb.field or self.field], said
        text = escaped(str(said[0]))  # as every verb shows it
        assert self.words in text, text
        assert len(text) < LONGEST and "\n" not in str(said[0]), text
        assert re.search(r"[.?)]$|: python -m dreambooth_ext [a-z]+$", text), text
        assert said[0].remedy.strip(), text


def made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def timed(read: Callable[[], Any]) -> Any:
    """What a reader that takes its time says; it runs aside, for it might never end."""
    found: list[Any] = []

    def work() -> None:
        began = worked()
        try:
            value = read()
        except UserError as error:
            value = [error.problem]
        except BaseException as error:
            value = error
        found.extend((value, worked() - began))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it hangs"
    value, seconds = found
    if isinstance(value, BaseException):
        raise value
    assert seconds < SECONDS, f"it took {seconds:.1f} s"
    return value


def worked() -> float:
    """Seconds of work of this process and of those that it started and that have ended."""
    return sum(os.times()[:4])


def rows(prefix: str, verbs: tuple[Verb, ...], made: dict[str, tuple[Callable[[Path], Any], str, str]]) -> list[Case]:
    """Cases by name: (make, field, words)."""
    return [Case(f"{prefix}: {name}", make, verbs, field, words) for name, (make, field, words) in made.items()]
