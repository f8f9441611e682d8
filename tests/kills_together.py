"""Kills while several processes train one run together: `python -m tests.kills --processes N`.

A chain is one run. Its terminal, its launcher or one of its workers is killed at a random instant, and the run resumed:
in turn with as many processes as before, with another number, and with N again. After each kill all others have to end
within ten seconds; after the terminal's, which is a stop, when the step that they are at is taken and saved. What is
listed has to be whole, and the run has to go on from its newest training state.

In the end, all that each process noted of its batches (`noting`) is put together. No picture may be left out or come
twice in an epoch, whatever the number of processes was. Losses, weights, moments and averages have to be, to the bit,
those of one process that nobody kills, and that accumulates in each step as many batches as there were processes. Of
more than two processes the sums have another order: losses and weights agree to a hundred-thousandth.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from dreambooth_ext.core.runs import run_list
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine.tensors.tensor_file import open_tensors
from dreambooth_ext.engine.training import training_state
from dreambooth_ext.engine.training.loop import Loop
from tests import noting, training
from tests.noting import Note
from tests.training import Trainer

STEPS, PICTURES, BATCH = 60, 5, 2  # an epoch is 3 batches, of 2, 2 and 1 pictures
TERMINAL = "the terminal"
ENDING = 10.0  # seconds in which all have to end when one of them is killed
STOPPING = 60.0  # the same for the terminal: that is a stop, and what they are at is finished and saved
LONGEST = 600.0  # for a whole run
TRUE_TO = 1e-5  # how far sums in another order may be apart
SETTINGS = {
    "max_train_steps": STEPS, "train_batch_size": BATCH, "checkpointing_steps": 2, "checkpoints_total_limit": 3,
    "save_intermediate_models": False, "use_ema": True, "ema_decay": 0.9, "optimizer": "adamw",
    "lr_scheduler": "constant", "text_encoder_steps": STEPS // 2, "text_encoder_lr": 1e-3,
}  # fmt: skip
ROUNDED: dict[str, Any] = {
    "optimizer": "sgd",
    "learning_rate": 0.05,
}  # of adamw, a gradient near 0 is a step of full size


class Together:
    """One run in `folder`, trained by up to `processes` and killed again and again."""

    def __init__(self, folder: Path, processes: int, dice: random.Random):
        self.folder, self.processes, self.dice = folder, processes, dice
        folder.mkdir()
        self.is_exact = processes <= 2
        pictures = training.pictures(folder / "pictures", PICTURES)
        self.trainer = Trainer(folder, instance_data_dir=pictures, **SETTINGS | ({} if self.is_exact else ROUNDED))
        self.runs = folder / "killed"
        self.kills: Counter[str] = Counter()  # by what was killed, among how many processes
        self.tries: list[tuple[int, int | None]] = []  # notes before each try, and the newest training state's step
        self.slowest = {"a process": 0.0, TERMINAL: 0.0}  # seconds from its kill to the end of all
        self.faults: list[str] = []

    def run(self) -> Run | None:
        """None as long as it has not been made."""
        return next(iter(run_list.list_runs(self.runs)), None)

    # --- trying

    def survive(self, kills: int) -> list[str]:
        """What is wrong in the end; nothing, if all is well."""
        while self.kills.total() < kills and not self.is_done() and len(self.tries) < 3 * kills:
            terminal, count = self.begin()
            if victim := self.kill(terminal, count):
                self.kills[f"{victim}, {count} at work"] += 1
            kind = victim if victim == TERMINAL else "a process"
            taken = self.see_all_end(terminal, STOPPING if victim == TERMINAL else ENDING)
            self.slowest[kind] = max(self.slowest[kind], taken)
            self.check_what_is_there()
        if not self.is_done():
            terminal, _ = self.begin()
            self.see_all_end(terminal, LONGEST)
            if terminal.returncode:
                self.faults.append(f"it ended with {terminal.returncode} in the end:\n{self.said()}")
        return self.faults or self.differences()

    def is_done(self) -> bool:
        run = self.run()
        return run is not None and run.state()["status"] == "done"

    def begin(self) -> tuple[subprocess.Popen, int]:
        """A terminal that trains the run, and with how many processes."""
        count = self.processes
        if len(self.tries) % 3 == 2:
            count = self.dice.choice([n for n in range(1, self.processes + 1) if n != count])
        run = self.run()
        words = ["resume", str(run.path)] if run else ["train", *self.options(), "--runs-dir", str(self.runs)]
        notes = noting.read(noting.path_of(run.path)) if run else []
        states = training_state.found(run.checkpoints) if run else []
        self.tries.append((len(notes), states[-1].step if states else 0))
        with (self.folder / "said.txt").open("a") as said:
            said.write(f"$ {' '.join(words[:2])} --processes {count}\n")
            said.flush()
            command = [sys.executable, "-m", noting.THIS, *words, "--processes", str(count)]
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(training.REPOSITORY)}
            places = {"cwd": training.REPOSITORY, "env": environment, "stdin": subprocess.DEVNULL}
            return subprocess.Popen(command, **places, stdout=said, stderr=said, start_new_session=True), count

    def options(self) -> list[str]:
        given = {name: value for name, value in self.trainer.settings.items() if value is not None}
        given["output_dir"] = self.folder / "published"
        said = {True: "true", False: "false"}
        return [
            f"--{name.replace('_', '-')}={said[value] if isinstance(value, bool) else value}"
            for name, value in given.items()
        ]

    def kill(self, terminal: subprocess.Popen, count: int) -> str:
        """Kill one of them at some instant; returns which, "" if they have all ended before it."""
        self.wait(terminal, count)
        there = {TERMINAL: terminal.pid, **self.members()} if terminal.poll() is None else {}
        if not there:
            return ""
        victim = self.dice.choice(sorted(there))
        with contextlib.suppress(ProcessLookupError):
            os.kill(there[victim], signal.SIGKILL)
            return victim
        return ""

    def wait(self, terminal: subprocess.Popen, count: int) -> None:
        """For a random instant: while they prepare, or after some steps."""
        deadline = time.monotonic() + 120
        workers = 0
        while terminal.poll() is None and workers < count and time.monotonic() < deadline:
            workers = sum("worker" in name for name in self.members())
            time.sleep(0.02)
        if self.dice.random() < 0.25:
            time.sleep(self.dice.random() * 6)  # importing PyTorch, meeting, reading the base
            return
        run = self.run()
        known = run.events.read() if run else []
        wanted, after = self.dice.randint(1, 12), known[-1]["n"] if known else 0
        while run and terminal.poll() is None and time.monotonic() < deadline:
            if sum(event["type"] == "step" for event in run.events.read(after=after)) >= wanted:
                break
            time.sleep(0.005)
        time.sleep(self.dice.random() * 0.2)

    def members(self) -> dict[str, int]:
        """The pids of the launcher and the workers that there are, by what they are."""
        found = {}
        for path in Path("/proc").glob("[0-9]*"):
            try:
                words = [os.fsdecode(word) for word in (path / "cmdline").read_bytes().split(b"\0")]
                places = dict(
                    os.fsdecode(one).partition("=")[::2] for one in (path / "environ").read_bytes().split(b"\0")
                )
            except OSError:
                continue
            if noting.THIS not in words or not any(word.startswith(f"{self.runs}{os.sep}") for word in words):
                continue
            if "resume" in words:
                continue
            is_launcher = any(word.startswith("--processes=") for word in words)
            name = "the launcher" if is_launcher else f"worker {int(places.get('RANK', 0)) + 1}"
            found[name] = int(path.name)
        return found

    def see_all_end(self, terminal: subprocess.Popen, seconds: float) -> float:
        """Return after how many seconds all have ended. What is left after `seconds` is a fault, and killed."""
        begun = time.monotonic()
        while (there := self.members()) or terminal.poll() is None:
            if time.monotonic() - begun > seconds:
                names = [*there, *([TERMINAL] if terminal.poll() is None else [])]
                self.faults.append(f"{', '.join(names)} still there after {seconds:.0f} seconds:\n{self.said()}")
                for pid in [*there.values(), terminal.pid]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                break
            time.sleep(0.02)
        terminal.wait()
        return time.monotonic() - begun

    def said(self) -> str:
        run = self.run()
        log = run.path / "log.txt" if run else None
        texts = [(self.folder / "said.txt").read_text()[-1500:]]
        return "\n".join([*texts, log.read_text(encoding="utf-8")[-1500:] if log and log.exists() else ""])

    def check_what_is_there(self) -> None:
        """All that is listed is whole."""
        run = self.run()
        if run is None:
            return
        for state in training_state.found(run.checkpoints):
            state.trainer()
            if not all(len(dict(tensors)) for tensors in state.weights().values()):
                self.faults.append(f"the training state of step {state.step} is empty")
        for event in run.artifact_events():
            if not all(tensor.isfinite().all() for tensor in open_tensors(run.artifacts / event["file"]).values()):
                self.faults.append(f"{event['file']} is broken")
        numbers = [event["n"] for event in run.events.read()]
        if numbers != list(range(1, len(numbers) + 1)):
            self.faults.append(f"events are missing or come twice: {numbers}")

    # --- judging

    def differences(self) -> list[str]:
        """What differs from a run that nobody killed."""
        run = self.run()
        assert run
        notes = noting.read(noting.path_of(run.path))
        taken, faults = lineage(notes, self.tries)
        if faults:
            return faults
        faults = skipped_or_repeated(taken)
        worlds = [taken[step][0].world for step in range(STEPS)]
        whole = unbroken(self.trainer, worlds)
        last = {event["step"]: event["loss"] for event in training.events(run, "step")}
        losses = [last.get(step + 1) for step in range(STEPS)]
        expected = training.losses(whole)
        try:
            if self.is_exact:
                assert losses == expected, f"losses: {losses} and {expected}"
                training.assert_same_run(whole, run)
            else:
                assert losses == pytest.approx(expected, rel=TRUE_TO)
                torch.testing.assert_close(training.weights(run), training.weights(whole), rtol=TRUE_TO, atol=TRUE_TO)
        except AssertionError as error:
            faults.append(f"another run, with {worlds} processes in turn: {error}")
        if not any((self.folder / "published").glob("*.safetensors")):
            faults.append("the model has not been published")
        return faults


def lineage(notes: list[Note], tries: list[tuple[int, int | None]]) -> tuple[dict[int, list[Note]], list[str]]:
    """The notes of each step that counts in the end, where a later try has done again what an earlier one did."""
    taken: dict[int, list[Note]] = {}
    faults: list[str] = []
    ends = [begin for begin, _ in tries[1:]] + [len(notes)]
    for (begin, saved), end in zip(tries, ends, strict=True):
        own = notes[begin:end]
        if not own:
            continue
        first = min(note.step for note in own)
        if first != saved:
            faults.append(f"a try began with step {first}, though the newest training state was of {saved}")
        if first > len(taken):
            faults.append(f"steps {len(taken)} to {first - 1} were never taken")
        taken = {step: known for step, known in taken.items() if step < first}
        for note in dict.fromkeys(own):
            taken.setdefault(note.step, []).append(note)
    for step in range(STEPS):
        known = sorted(taken.get(step, ()), key=lambda note: note.batch)
        if not known or [note.batch for note in known] != list(range(known[0].world)):
            faults.append(f"step {step} was taken with {known}")
        taken[step] = known
    return taken, faults


def skipped_or_repeated(taken: dict[int, list[Note]]) -> list[str]:
    """Epochs that do not have each picture once. The last one may be cut short."""
    batches = [note.pictures for step in sorted(taken) for note in taken[step]]
    each, faults = -(-PICTURES // BATCH), []
    for begin in range(0, len(batches), each):
        some = batches[begin : begin + each]
        counts = Counter(picture for batch in some for picture in batch)
        if max(counts.values()) > 1 or (len(some) == each and len(counts) != PICTURES):
            faults.append(f"epoch {begin // each} has {dict(counts)}")
    return faults


def unbroken(trainer: Trainer, worlds: list[int]) -> Run:
    """One process that nobody kills. worlds: how many batches it accumulates in each step."""
    accumulate = Loop._accumulate

    def as_many(loop: Loop) -> list[torch.Tensor]:
        step, order = loop.state.step, loop.dataset.order
        order.go_on(step, order.consumed(step))
        for owner in (loop, loop.state, order):
            owner.config = owner.config.replace(gradient_accumulation_steps=worlds[step])
        return accumulate(loop)

    with mock.patch.object(Loop, "_accumulate", as_many):
        return trainer.train()


def prove(
    folder: Path, processes: int, kills: int, seed: int, each: int = 10, seconds: float = float("inf")
) -> tuple[Counter, list[str]]:
    """(kills by what they hit, faults) of as many chains as so many kills need, or so many seconds allow."""
    torch.set_num_threads(1)
    dice, total, faults = random.Random(seed), Counter(), []
    deadline, number, again, slowest = time.monotonic() + seconds, 0, 0, Counter[str]()
    while total.total() < kills and time.monotonic() < deadline:
        number += 1
        chain = Together(folder / f"chain {number}", processes, dice)
        found = chain.survive(min(each, kills - total.total()))
        total += chain.kills
        slowest |= Counter(chain.slowest)  # the maximum
        run = chain.run()
        again += len(training.events(run, "step")) - STEPS if run else 0
        faults += [f"{chain.folder}: {fault}" for fault in found]
        print(f"chain {number}: {total.total()} kills so far, {len(faults)} faults", *found, sep="\n  ", flush=True)
    for victim, taken in slowest.items():
        print(f"{taken:5.1f} seconds at most from the kill of {victim} to the end of all")
    print(f"{again:5} of {number * STEPS} steps were taken again")
    return total, faults
