"""Measure: `python -m benchmarks [--case NAME ...] [--device cpu|cuda] [--write]`; the cases are in cases.py.

Every case runs in processes of their own, one after the other: our worker as the WebUI starts it, and the plain loop.
This process stays small and imports no torch, for a child's peak memory starts from its parent's.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config import parsing
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.system import files

from . import table
from .cases import CASES, LONGEST, Case

REPOSITORY = Path(__file__).parents[1]
DEMO = REPOSITORY / "dreambooth_ext" / "demo" / "base" / "demo-base.safetensors"
PROMPT = "a photo of sksper person"
RATES = {"sgd": 1e-2}  # random weights take any rate; this one changes them enough to be seen in fp16
IDLE = 15  # percent of the processor that others may use
TRAINERS = ("ours", "plain", "plain, cached")


@dataclass
class Finished:
    code: int
    seconds: float
    started: float  # time.time() when the process was started
    peak: int  # bytes, resident
    output: str  # its last lines


def launch(arguments: list[str], threads: int) -> Finished:
    """Run a Python module to its end. If memory runs out it is the one that the system ends (Linux)."""
    variables = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, **variables, "PYTHONUTF8": "1", "TQDM_DISABLE": "1"}
    with tempfile.TemporaryFile() as stream:
        started, began = time.time(), time.monotonic()
        command = [sys.executable, "-m", *arguments]
        process = subprocess.Popen(command, cwd=REPOSITORY, env=environment, stdout=stream, stderr=subprocess.STDOUT)
        score = Path(f"/proc/{process.pid}/oom_score_adj")
        if score.exists():
            score.write_text("1000")
        peak = wait(process)
        stream.seek(0)
        output = stream.read().decode("utf-8", "replace")[-2000:]
    return Finished(process.returncode, time.monotonic() - began, started, peak, output)


def wait(process: subprocess.Popen) -> int:
    """Wait for the end; the peak of resident memory in bytes. Mapped pages of a file count as long as they are used."""
    if os.name != "nt":
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    peak, watched = 0, psutil.Process(process.pid)
    while process.poll() is None:
        try:
            peak = max(peak, watched.memory_info().peak_wset)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.05)
    process.wait()
    return peak


class Bench:
    """`folder` holds the bases, which are kept, and the runs, which are not."""

    def __init__(self, folder: Path, threads: int, machine: dict[str, Any]):
        self.folder, self.threads, self.machine = folder, threads, machine
        self.pictures = folder / "pictures"

    def base(self, name: str) -> Path:
        return DEMO if name == "demo" else self.folder / f"{name}.safetensors"

    def configs(self, name: str) -> Path:
        return self.folder / f"{name}-configs"

    def prepare(self, name: str) -> None:
        """The base and the pictures, made where they are missing; read once, so that each trainer finds the file in
        the system's cache."""
        if not (self.base(name).exists() and self.configs(name).is_dir() and self.pictures.is_dir()):
            print(f"making {self.base(name)}", file=sys.stderr)
            made = launch(["benchmarks.bases", str(self.folder), name, str(self.base(name))], self.threads)
            if made.code:
                raise SystemExit(made.output)
        with self.base(name).open("rb") as stream:
            while stream.read(2**24):
                pass

    def obstacle(self, case: Case) -> str:
        """Why a case cannot be measured here, or ""."""
        if case.base == "demo" and not DEMO.exists():
            return "not measured: the demo base is not there"
        if case.device == "cuda":
            if not self.machine["card"]:
                return "not measured yet: no GPU at hand"
            there = self.machine["card_memory"]
        else:
            there = psutil.virtual_memory().available
        if there < case.memory * 1e9:
            return f"not measured: needs about {case.memory:g} GB of memory, and {there / 1e9:.1f} GB are free"
        return ""

    def train(self, case: Case, trainer: str) -> dict[str, Any]:
        """One case by one trainer, as a row of the table."""
        out = self.folder / "runs"
        shutil.rmtree(out, ignore_errors=True)
        measure = self.ours if trainer == "ours" else self.plain
        try:
            finished, events = measure(case, trainer, out)
        finally:
            shutil.rmtree(out, ignore_errors=True)
        if finished.code:
            ended = "killed, out of memory" if finished.code in (-9, 137) else f"failed ({finished.code})"
            print(finished.output, file=sys.stderr)
            return {"problem": ended, "peak": finished.peak}
        return figures(case, finished, events)

    def ours(self, case: Case, trainer: str, out: Path) -> tuple[Finished, list[dict[str, Any]]]:
        """Our worker, in a run as the command line would make it."""
        config, problems = parsing.parse(self.settings(case))
        config, _, _, more, _ = config_checks.check(config)
        assert not problems + more, [str(problem) for problem in problems + more]
        run = run_folder.create(out, config)
        finished = launch(["dreambooth_ext.engine.worker", str(run.path)], self.threads)
        return finished, run.events.read()

    def settings(self, case: Case) -> dict[str, Any]:
        rate = RATES.get(case.optimizer, 1e-4)
        text = {"text_encoder_steps": case.steps, "text_encoder_lr": rate}
        return {
            "name": "benchmark",
            "base_model": str(self.base(case.base)),
            "instance_data_dir": str(self.pictures),
            "instance_prompt": PROMPT,
            "resolution": case.resolution,
            "train_batch_size": case.batch,
            "max_train_steps": case.steps,
            **(text if case.text_encoder else {"text_encoder_steps": 0}),
            "learning_rate": rate,
            "optimizer": case.optimizer,
            "mixed_precision": case.precision,
            "gradient_checkpointing": case.checkpointing,
            **({"weight_precision": "bf16", "max_grad_norm": 0} if case.bf16_weights else {}),
            "device": case.device,
            **({"clip_grad_mode": "previous_norm"} if case.frees else {}),
            "compile": "on" if case.compiled else "off",
            "offload": "1" if case.offload else "off",
            "checkpointing_steps": 0,
            "keep_back_pictures": False,  # the plain loop trains on all
            "report_to": "none",
        }

    def plain(self, case: Case, trainer: str, out: Path) -> tuple[Finished, list[dict[str, Any]]]:
        events = out / "events.json"
        job = {
            "case": case.as_dict(),
            "base": str(self.base(case.base)),
            "configs": str(self.configs(case.base)),
            "pictures": str(self.pictures),
            "prompt": PROMPT,
            "rate": RATES.get(case.optimizer, 1e-4),
            "cached": trainer == "plain, cached",
            "out": str(out),
            "events": str(events),
        }
        out.mkdir(parents=True)
        files.write_json(out / "job.json", job)
        finished = launch(["benchmarks.plain_loop", str(out / "job.json")], self.threads)
        return finished, files.read_json(events) if events.exists() else []

    def load(self, name: str, trainer: str) -> dict[str, Any]:
        """Loading all of a base's parts, best of three."""
        found = []
        for _ in range(3):
            done = launch(["benchmarks.load", trainer, str(self.base(name)), str(self.configs(name))], self.threads)
            if done.code:
                return {"problem": done.output.strip().splitlines()[-1]}
            found.append(json.loads(done.output.strip().splitlines()[-1]))
        best = min(found, key=lambda row: row["seconds"])
        return {"seconds": best["seconds"], "peak": best["peak"], "bytes": self.base(name).stat().st_size}


def figures(case: Case, finished: Finished, events: list[dict[str, Any]]) -> dict[str, Any]:
    """A row from a process's events. Times in seconds, sizes in bytes."""
    steps = [event for event in events if event["type"] == "step"]
    times = [after["time"] - before["time"] for before, after in itertools.pairwise(steps)]
    counted = times[max(0, case.warm_up - 1) :]
    return {
        "step": statistics.median(counted),
        "slowest": max(counted),
        "counted": len(counted),
        "first_step": steps[0]["time"] - finished.started,
        "training_peak": steps[-1]["memory"]["peak"],  # on the device that trains
        "peak": finished.peak,  # of the process, over all
        "state": duration(events, "checkpoint"),
        "model": duration(events, "artifact"),
        "model_bytes": next(event["size"] for event in events if event["type"] == "artifact"),
        "whole": finished.seconds,
    }


def duration(events: list[dict[str, Any]], type: str) -> float:
    """From the last word before it that saving has begun, to the event that says what was saved."""
    last = max(i for i, event in enumerate(events) if event["type"] == type)
    began = max(event["time"] for event in events[:last] if event.get("status") == "saving")
    return events[last]["time"] - began


def busy() -> float:
    """Percent of the processor that others use now."""
    return psutil.cpu_percent(interval=3)


def choose(arguments: argparse.Namespace) -> list[Case]:
    if arguments.case:
        return [case for case in CASES if case.name in arguments.case]
    return [case for case in CASES if arguments.device in (None, case.device)]


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure our trainer and a plain loop.")
    parser.add_argument("--case", nargs="+", choices=[case.name for case in CASES], help="only these cases")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="only the cases of this device")
    parser.add_argument("--trainer", choices=TRAINERS, help="only this trainer")
    parser.add_argument("--load", action="store_true", help="measure loading of the cases' bases instead of training")
    parser.add_argument("--folder", type=Path, default=REPOSITORY / "outputs" / "benchmarks", help="bases and runs")
    parser.add_argument("--threads", type=int, default=psutil.cpu_count(logical=False) or 1, help="default: all cores")
    parser.add_argument("--write", action="store_true", help="keep the results, and put the tables into README.md")
    parser.add_argument("--anyway", action="store_true", help="measure on a busy machine too")
    arguments = parser.parse_args(argv)
    if (used := busy()) > IDLE and not arguments.anyway:
        print(f"Others use {used:.0f} % of the processor: the times would mean nothing (--anyway).", file=sys.stderr)
        return 1
    machine = launch(["benchmarks.machine"], arguments.threads)
    facts = {**json.loads(machine.output.strip().splitlines()[-1]), "threads": arguments.threads}
    bench = Bench(arguments.folder.resolve(), arguments.threads, facts)
    rows = []
    for row in measured(bench, choose(arguments), arguments):
        print(json.dumps({key: value for key, value in row.items() if key != "machine"}), file=sys.stderr)
        rows.append(row)
        if arguments.write:
            table.keep([row])
    print(table.render(rows))
    return 0


def trainers_of(case: Case) -> tuple[str, ...]:
    if case.alone or case.bf16_weights:
        return TRAINERS[:1]
    return TRAINERS if case.plain_cached else TRAINERS[:2]


def measured(bench: Bench, cases: list[Case], arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Rows of the table, one after the other."""
    began = time.monotonic()
    about = {"machine": bench.machine, "date": time.strftime("%Y-%m-%d")}
    names = dict.fromkeys(case.base for case in cases if not bench.obstacle(case)) if arguments.load else []
    jobs = [("load", name, name) for name in names] or [("train", case, case.base) for case in cases]
    for kind, job, base in jobs:
        trainers = trainers_of(job) if kind == "train" else TRAINERS[:2]
        for trainer in [t for t in trainers if arguments.trainer in (None, t)]:
            if kind == "load":
                bench.prepare(base)
                row = {"load": base, **bench.load(base, trainer)}
            elif obstacle := bench.obstacle(job):
                row = {"case": job.name, "problem": obstacle}
            elif job.device == "cuda" and time.monotonic() - began + job.seconds > LONGEST:
                row = {"case": job.name, "problem": f"not measured: {LONGEST / 60:g} minutes would not have sufficed"}
            else:
                bench.prepare(base)
                row = {"case": job.name, **bench.train(job, trainer)}
            yield {**row, "trainer": trainer, **about}


if __name__ == "__main__":
    sys.exit(main())
