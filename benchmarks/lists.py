"""What a long life with the program costs its users: long runs, many runs, many pictures.

python -m benchmarks.lists [--steps 100000] [--runs 2000] [--pictures 20000]: inside the trainer's environment. All is
made anew, and deleted afterwards. Goals on two idle cores: curves in 1.5 s, the list in 1 s, the check in 10 s.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.guide.demo_recipe import BASE
from dreambooth_ext.host.runs.curves import RunCurves
from dreambooth_ext.host.runs.run_index import RunIndex

from .large import make, measured

STEP = {"total": 1, "epoch": 0.5, "loss": 0.123456789, "grad_norm": 0.5, "lr": {"unet": 1e-6, "text_encoder": 1e-6}}
STEP |= {"it_per_s": 3.21, "eta_s": 1234.5, "memory": {"now": 123456789, "peak": 223456789}}


def long_run(folder: Path, steps: int) -> None:
    path = folder / "events.jsonl"
    with path.open("w", encoding="utf-8") as stream:
        for step in range(1, steps + 1):
            stream.write(json.dumps({"n": step, "time": step, "type": "step", "step": step, **STEP}) + "\n")
    curves = RunCurves()
    with measured(f"curves of {steps} steps, first"):
        answer = json.dumps(curves.whole(path))
    with measured("the same again"):
        curves.whole(path)
    with measured("100 steps of them, each"):
        curves.part(path, steps // 2, steps // 2 + 100)
    print(f"{'':<34} an answer of {len(answer) / 1024:.0f} KB")


def many_runs(folder: Path, count: int) -> None:
    config = json.dumps(RunConfig(method="lora", name="x").as_dict(), indent=2)
    state = {"status": "done", "step": 1, "total": 1, "pid": 1, "heartbeat": 1.0, "host": None, "created": 1.0}
    for number in range(count):
        run = folder / f"20260101-{number:06}-x"
        for name in ("artifacts", "commands", "checkpoints", "samples/1"):
            (run / name).mkdir(parents=True)
        (run / "config.json").write_text(config, encoding="utf-8")
        (run / "state.json").write_text(json.dumps(state), encoding="utf-8")
        (run / "events.jsonl").write_text('{"n": 1, "time": 1, "type": "status", "status": "done"}\n', encoding="utf-8")
        (run / "samples" / "1" / "0_1.png").write_bytes(b"x")
    index = RunIndex(folder)
    with measured(f"list of {count} runs, first"):
        answer = index.changed()
    looks = 1
    while any(run["size"] is None for run in index.all()):
        looks += 1
    answer = index.changed()
    with measured(f"a poll, after {looks} with sizes"):
        news = index.changed(answer["revision"])
    sizes = [len(json.dumps(one)) / 1024 for one in (answer, news)]
    print(f"{'':<34} answers of {sizes[0]:.0f} and {sizes[1]:.1f} KB")


def many_pictures(folder: Path, count: int) -> None:
    make(folder, count)
    settings = {"method": "finetune", "name": "x", "base-model": BASE, "instance-data-dir": folder, "resolution": 64}
    options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
    with measured(f"check of {count} pictures"):
        subprocess.run(
            [sys.executable, "-m", "dreambooth_ext", "check", *options], check=True, stdout=subprocess.DEVNULL
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.lists", description=__doc__)
    for name, default in (("steps", 100_000), ("runs", 2000), ("pictures", 20_000)):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    for work, count in ((long_run, given.steps), (many_runs, given.runs), (many_pictures, given.pictures)):
        with tempfile.TemporaryDirectory(prefix="dreambooth-lists-") as folder:
            work(Path(folder), count)


if __name__ == "__main__":
    main()
