"""A worker that only pretends: state, events, commands and models as the engine's, without anything to learn or load.

What it does follows from the run's name: "crash" dies before it begins, "asleep" never begins, "abort" dies in the
middle of training, "stuck" makes no progress though it beats, "refused" finds a problem, "lingers" does not end after
its last word; all others train, a step in 50 ms.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))

from dreambooth_ext.core.runs import events
from dreambooth_ext.core.runs.leader_lock import LeaderLock
from dreambooth_ext.core.runs.run_folder import Run, this_worker

STEP = 0.05  # seconds


class Worker:
    def __init__(self, run: Run):
        self.run, self.step, self.lock = run, run.state()["step"], threading.Lock()
        self.told: list[str] = []
        self.state = this_worker()

    def status(self, status: str, **state) -> None:
        self.beat(status=status, **state)
        self.run.events.append("status", status=status, **state)

    def end(self, how: str, **state) -> None:
        self.status(**self.run.ending(how), step=self.step, **state)

    def beat(self, **state) -> None:
        with self.lock:
            self.state |= state
            self.run.write_state(**self.state, heartbeat=time.time())

    def beats(self) -> None:
        while True:
            time.sleep(0.2)
            self.beat()

    def stop_without(self, leader_lock: LeaderLock) -> None:
        while leader_lock.is_taken():
            time.sleep(0.2)
        if leader_lock.stops_on_close():
            self.told.append("stop")

    def stop_with_parent(self) -> None:
        while os.read(0, 1):  # not buffered: its lock would keep the program from its end
            pass
        self.told.append("stop")

    def model(self, final: bool, stops: bool = False) -> None:
        name = self.run.config.name if final else f"{self.run.config.name}_{self.step}"
        path = self.run.artifacts / f"{name}.safetensors"
        path.write_bytes(f"weights of step {self.step}".encode())
        about = {
            "kind": "checkpoint",
            "name": name,
            "file": path.name,
            "step": self.step,
            "final": final,
            "stops": stops,
        }
        self.run.events.append("artifact", **about, path=str(path), size=path.stat().st_size)

    def train(self, total: int) -> int:
        config = self.run.config
        threading.Thread(target=self.beats, daemon=True).start()
        self.status("training", step=self.step, total=total)
        while self.step < total:
            if "stuck" in config.name and self.step == 2:
                time.sleep(2)
            if "abort" in config.name and self.step == 2:
                print("CUDA error: device-side assert", flush=True)
                os.abort()
            told = {*events.take_commands(self.run.commands), *self.told}
            if "stop_and_save" in told:
                self.model(final=False, stops=True)
            if told & {"stop", "stop_and_save"}:
                self.end("stopped")
                return 130
            time.sleep(STEP)
            self.step += 1
            self.state["step"] = self.step
            pace = {"it_per_s": 1 / STEP, "eta_s": (total - self.step) * STEP, "memory": {"now": 0, "peak": 0}}
            self.run.events.append("step", step=self.step, total=total, loss=0.1, lr={}, epoch=1.0, **pace)
            if config.checkpointing_steps and self.step % config.checkpointing_steps == 0 and self.step < total:
                self.model(final=False)
        self.model(final=True)
        self.end("done")
        if "lingers" in config.name:
            time.sleep(60)
        return 0


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", type=Path)
    parser.add_argument("--processes")
    parser.add_argument("--total", type=int)
    parser.add_argument("--led", action="store_true")
    parser.add_argument("--tied", action="store_true")
    arguments = parser.parse_args()
    run = Run(arguments.run)
    if "crash" in run.config.name:
        raise ModuleNotFoundError("No module named 'diffusers'")
    if "asleep" in run.config.name:
        time.sleep(60)
    with run.take() or sys.exit(1):
        worker = Worker(run)
        if arguments.led:
            threading.Thread(target=worker.stop_without, args=[LeaderLock(run.path.parent)], daemon=True).start()
        if arguments.tied:
            threading.Thread(target=worker.stop_with_parent, daemon=True).start()
        worker.status("preparing", ending=None)
        if "refused" in run.config.name:
            problem = {"field": "base_model", "message": "is no model.", "remedy": "Choose another."}
            run.events.append("error", what=problem["message"], remedy=problem["remedy"], field=problem["field"])
            worker.end("failed", problem=problem)
            return 1
        code = worker.train(arguments.total or run.config.max_train_steps)
        worker.lock.acquire()  # no beat after the end
        sys.stdout.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.exit(main())
