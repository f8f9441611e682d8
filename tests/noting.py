"""The programs that train a run, noting what they train on: `python -m tests.noting ...` stands for `dreambooth_ext`
with `train` or `resume`, else for the worker, or the launcher of several, that these start. `kills_together` reads it.

Each forward pass is a line of RUN.notes, beside the run's folder, written at once and whole.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

THIS = "tests.noting"


@dataclass(frozen=True)
class Note:
    """What one process has passed forward. step: counted from 0; batch: which of the step's, of all processes; part: of
    the batch; world: how many processes there were."""

    step: int
    batch: int
    part: int
    world: int
    pictures: tuple[str, ...]


def path_of(run: Path) -> Path:
    return run.with_name(f"{run.name}.notes")


def read(path: Path) -> list[Note]:
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [Note(**{**known, "pictures": tuple(known["pictures"])}) for known in map(json.loads, lines)]


def main(argv: list[str] | None = None, leash: Any = None) -> int:
    """The worker."""
    from dreambooth_ext.engine import worker
    from dreambooth_ext.engine.training.loop import Loop

    loss = Loop._loss

    def noted(loop: Loop, batch: Any, place: tuple[int, ...], *rest: Any) -> Any:
        known = Note(*place[:3], loop.accelerator.num_processes, tuple(Path(key).name for key in batch.keys))
        with path_of(loop.control.run.path).open("ab", buffering=0) as file:
            file.write(f"{json.dumps(asdict(known))}\n".encode())
        return loss(loop, batch, place, *rest)

    Loop._loss = noted
    return worker.main(argv, leash)


def terminal(argv: list[str]) -> int:
    from dreambooth_ext.__main__ import main
    from dreambooth_ext.host.jobs import worker_process

    program = worker_process.program
    worker_process.program = lambda *given: ["-m", THIS, *program(*given)[2:]]
    return main(argv)


def begin() -> int:
    words = sys.argv[1:]
    if words[0] in ("train", "resume"):
        return terminal(words)
    from dreambooth_ext.core.system.terminal import open_missing_streams, shield

    open_missing_streams()
    if any(word.startswith("--processes=") for word in words):
        from dreambooth_ext.engine.launching import launcher, member

        member.WORKER = THIS
        launcher.end_as(launcher.main())
    shield()
    if "RANK" not in os.environ:
        return main()
    from dreambooth_ext.engine.launching import leashed_worker

    leashed_worker.WORKER = THIS
    return leashed_worker.main()


if __name__ == "__main__":
    sys.exit(begin())
