"""What a page that stays open costs the browser: heap, elements and listeners, hour by hour of a day's training.

python -m benchmarks.page [--hours 24] [--minutes 6] [--polls 5000]: inside the trainer's environment, with Playwright
and Chromium. Page, server and API are the real ones; only the worker is played: events, previews, models and log lines
of two steps a second are written into a run's folder as fast as the minutes allow, and the page's own pauses of up to
ten seconds are shortened as much. Every hour somebody enlarges a preview, zooms and goes through the tabs. Heap and
nodes are counted after a forced collection: what is left is held. Then the page asks so many times more while nothing
is new, for a real day has 86 400 polls and one that is played far fewer.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.core.runs.run_folder import Run, this_worker
from dreambooth_ext.host.hosts.folder_host import FolderHost
from dreambooth_ext.host.service.service import Service
from dreambooth_ext.host.web import server

PACE = 2  # steps a second of the training that is played
PREVIEWS, SAVES = 500, 2000  # steps from one to the next
PROMPTS = [f"a photo of zkz person {place}" for place in ("", "on a beach", "in armour", "as a statue")]
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
OPTIONS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
QUICK = """const wait = window.setTimeout;
window.setTimeout = (run, pause = 0, ...rest) => wait(run, pause <= 10000 ? pause / FACTOR : pause, ...rest);"""


class Player:
    """Writes a run's folder as its worker would, up to any moment of the training."""

    def __init__(self, run: Run, total: int):
        self.run, self.total = run, total
        self.step, self.number, self.began = 0, 0, time.time()
        self.picture = run.path / "picture.png"
        Image.new("RGB", (64, 64), "teal").save(self.picture)
        run.events.path.unlink(missing_ok=True)
        self.lines: list[str] = []
        for status in ("queued", "preparing", "training"):
            self.tell("status", status=status)
        self.draw()
        self.flush()

    def tell(self, type: str, **data: Any) -> None:
        self.number += 1
        moment = self.began + self.step / PACE
        self.lines.append(json.dumps({"n": self.number, "time": moment, "type": type, **data}) + "\n")

    def flush(self) -> None:
        with self.run.events.path.open("a", encoding="utf-8") as stream:
            stream.writelines(self.lines)
        with (self.run.path / "log.txt").open("a", encoding="utf-8") as stream:
            stream.writelines(f"step {self.step}/{self.total}, loss 0.1, {line[:60]}\n" for line in self.lines[::20])
        self.lines.clear()
        here = {"heartbeat": time.time(), **this_worker()}
        self.run.write_state(status="training", step=self.step, total=self.total, **here)

    def play(self, until: int) -> None:
        while self.step < min(until, self.total):
            self.step += 1
            rates = {"unet": 2e-6, "text_encoder": 1e-6}
            figures = {"epoch": self.step / 12, "loss": 0.1 + self.step % 17 / 100, "lr": rates, "grad_norm": 0.4}
            left, memory = (self.total - self.step) / PACE, {"now": 9_800_000_000, "peak": 11_200_000_000}
            self.tell("step", step=self.step, total=self.total, **figures, it_per_s=PACE, eta_s=left, memory=memory)
            if self.step % PREVIEWS == 0:
                self.draw()
            if self.step % SAVES == 0:
                self.save()
        self.flush()

    def draw(self) -> None:
        folder = self.run.samples / str(self.step)
        folder.mkdir(parents=True)
        for index, prompt in enumerate(PROMPTS):
            os.link(self.picture, folder / f"{index}_0.png")
            self.tell("sample", step=self.step, prompt=prompt, seed=0, path=str(folder / f"{index}_0.png"))

    def save(self) -> None:
        self.tell("status", status="saving", step=self.step)
        self.tell("checkpoint", step=self.step, path=str(self.run.checkpoints / str(self.step)))
        file = self.run.artifacts / f"zkz_{self.step}.safetensors"
        file.write_bytes(b"weights")
        about = {"kind": "checkpoint", "name": file.stem, "file": file.name, "path": str(file), "size": 7}
        self.tell("artifact", step=self.step, final=False, stops=False, **about)
        self.tell("status", status="training", step=self.step)
        self.tell("warning", what=f"the pictures of step {self.step} are dark", remedy="Use brighter ones.")


@contextlib.contextmanager
def serving(service: Service) -> Iterator[str]:
    listening = server.bound("127.0.0.1", 0)
    web = uvicorn.Server(uvicorn.Config(server.application(service), lifespan="off", log_level="error"))
    thread = threading.Thread(target=web.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    yield server.address_of(listening)
    web.should_exit = True
    thread.join(10)


def look(page: Page) -> None:
    """What somebody does who passes by."""
    page.click(".db-preview >> nth=-1")
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown", "Escape"):
        page.keyboard.press(key)
    page.focus("canvas >> nth=0")
    for key in ("+", "+", "ArrowLeft", "0"):
        page.keyboard.press(key)
    for tab in ("runs", "train", "monitor"):
        page.click(f"#dreambooth_tab_{tab}")
        page.wait_for_timeout(100)


class Counting:
    """Counts what a page holds, and says it; `polls`: how often it has asked for the state."""

    def __init__(self, page: Page):
        self.page, self.polls = page, 0
        self.session = page.context.new_cdp_session(page)
        self.session.send("Performance.enable")
        page.on("request", self._asked)

    def _asked(self, request: Any) -> None:
        self.polls += request.url.endswith("/state")

    def say(self, what: str) -> None:
        self.page.wait_for_timeout(1000)
        for _ in range(2):
            self.session.send("HeapProfiler.collectGarbage")
        known = {one["name"]: one["value"] for one in self.session.send("Performance.getMetrics")["metrics"]}
        shown = self.page.evaluate("document.querySelectorAll('*').length")
        counted = f"{known['Nodes']} nodes, {shown} elements shown, {known['JSEventListeners']} listeners"
        print(f"{what}, {self.polls} polls: {known['JSHeapUsedSize'] / 2**20:.2f} MB, {counted}", flush=True)


def play(page: Page, player: Player, counting: Counting, hours: int, minutes: float) -> None:
    """The training, hour by hour."""
    for hour in range(hours + 1):
        begin = time.monotonic()
        while hour and (passed := (time.monotonic() - begin) / (60 * minutes / hours)) < 1:
            player.play(int((hour - 1 + passed) * 3600 * PACE))
            page.wait_for_timeout(50)
        player.play(hour * 3600 * PACE)
        shown = "step => document.querySelector('.db-figure dd').textContent.includes(step)"
        page.wait_for_function(shown, arg=f"{player.step:,}")
        if hour:
            look(page)
        counting.say(f"hour {hour}, {player.step} steps")


def wait(page: Page, counting: Counting, polls: int) -> None:
    """Nothing is new for so many polls."""
    for part in range(5):
        until = counting.polls + polls // 5
        while counting.polls < until:
            page.wait_for_timeout(500)
        counting.say(f"nothing new, part {part + 1} of 5")


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.page", description=__doc__)
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--minutes", type=float, default=6)
    parser.add_argument("--polls", type=int, default=5000)
    given = parser.parse_args()
    browser_path = os.environ.get("CHROMIUM") or next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        runs = Path(folder) / "runs"
        config = RunConfig(name="zkz", validation_steps=PREVIEWS, validation_prompts=PROMPTS)
        run = run_folder.create(runs, config)
        player = Player(run, given.hours * 3600 * PACE)
        service = Service(FolderHost(Path(folder), runs=runs))
        held = run.take()  # as its worker does
        with serving(service) as address, contextlib.closing(service):
            browser = playwright.chromium.launch(executable_path=browser_path, args=OPTIONS)
            page = browser.new_page(viewport={"width": 1280, "height": 900})
            page.set_default_timeout(60_000)
            page.add_init_script(QUICK.replace("FACTOR", str(given.hours * 60 / given.minutes)))
            page.goto(address)
            page.click("#dreambooth_tab_runs")
            page.click(".db-run-name")
            page.wait_for_selector(".db-preview")
            page.click(".db-monitor summary:has-text('Log')")
            counting = Counting(page)
            play(page, player, counting, given.hours, given.minutes)
            wait(page, counting, given.polls)
            browser.close()
        if held:
            held.close()


if __name__ == "__main__":
    main()
