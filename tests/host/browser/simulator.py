"""The API as the page sees it, simulated: real schema, checks and presets, and runs that only pretend to train.

So the page's tests need neither torch nor an environment, and are quick. For a look by hand:
`python -m tests.host.browser.simulator`.
"""

from __future__ import annotations

import io
import json
import math
import random
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

from dreambooth_ext.core.captions import rare_words
from dreambooth_ext.core.captions.clip_vocabulary import VOCABULARIES
from dreambooth_ext.core.checks import config_checks, config_warnings
from dreambooth_ext.core.config import parsing
from dreambooth_ext.core.errors import Problem, UserError
from dreambooth_ext.core.guide import demo_recipe
from dreambooth_ext.core.messages.message import Message, beside
from dreambooth_ext.core.runs import events
from dreambooth_ext.host.errors import Problems, Refusal
from dreambooth_ext.host.hosts import model_lists
from dreambooth_ext.host.importers import read
from dreambooth_ext.host.jobs import planned_time
from dreambooth_ext.host.pictures import image_decoding, uploads
from dreambooth_ext.host.pictures.copy_jobs import CopyJobs
from dreambooth_ext.host.pictures.uploads import PictureSets
from dreambooth_ext.host.runs.curves import POINTS, Curves
from dreambooth_ext.host.service import schema
from dreambooth_ext.host.service.preset_store import Presets
from dreambooth_ext.host.service.run_commands import RUN_COMMANDS
from dreambooth_ext.host.web import localization
from dreambooth_ext.host.web.responses import refused

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = REPOSITORY / "dreambooth_ext" / "host" / "page"
STANDALONE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>DreamBooth</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="style.css"></head><body style="margin: 0"><div id="dreambooth_ext"></div>
<script type="module" src="dreambooth/v1/page/main.js"></script></body></html>"""
# What of a WebUI's page matters to ours: gradio's wrappers and variables, its buttons, its functions.
WEBUI = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>WebUI</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>:root { --body-text-color: #1f2937; --background-fill-primary: #fff; --border-color-primary: #e5e7eb; }
.dark { --body-text-color: #f3f4f6; --background-fill-primary: #0b0f19; --border-color-primary: #374151; }
.prose * { color: var(--body-text-color) } .prose button { margin-bottom: 9px }
.prose :last-child { margin-bottom: 0 !important } body { background:
var(--background-fill-primary) } select, [type=radio] { appearance: none } </style>
<link rel="stylesheet" href="style.css">
<script>
window.pressed = []; window.waiting = []; window.typed = {};
function gradioApp() { return document }
function onUiLoaded(callback) { window.waiting.push(callback) }
function switch_to_txt2img() { window.pressed.push("txt2img") }
function selectCheckpoint(title) { window.pressed.push("select " + title) }
</script><script src="javascript/dreambooth_ext.js"></script></head><body class="THEME">
<label id="txt2img_prompt"><textarea aria-label="prompt" oninput="typed.prompt = value"></textarea></label>
<label id="txt2img_neg_prompt"><textarea aria-label="negative" oninput="typed.negative = value"></textarea></label>
<button id="refresh_sd_model_checkpoint" onclick="pressed.push(this.id)">refresh</button>
<button id="txt2img_lora_extra_refresh_internal" onclick="pressed.push(this.id)">refresh</button>
<button id="img2img_lora_extra_refresh_internal" onclick="pressed.push(this.id)">refresh</button>
<div id="tab_dreambooth_ext"><div class="prose"><div id="dreambooth_ext" data-version="1.2.3">Loading</div></div></div>
<script>waiting.forEach(callback => callback())</script></body></html>"""


# The simulator looks at no pictures
NO_FINDINGS: dict[str, Any] = {
    **{"pictures": [], "next": 0, "count": 0, "waiting": 0, "trouble": "", "score": None},
    **{"set": [], "reasons": [], "missing": [], "extra": {}},
}


class Run:
    """A pretended run. Its steps follow from the clock, its losses from the step."""

    def __init__(self, id: str, config: dict[str, Any], total: int, speed: float):
        self.id, self.config, self.total, self.speed = id, config, total, speed
        self.status, self.step, self.problem = "queued", 0, None
        self.created = time.time()
        self.events: list[dict[str, Any]] = []
        self.changes: dict[str, list[str]] = {}  # among its pictures
        self.commands: list[str] = []
        self.measured: dict[int, dict[str, Any]] = {}  # what its measurements come to, by step
        self.log = ""
        self.last = 0.0  # when it was last advanced
        self.hold: int | None = None  # the step at which a test lets it rest
        self.since: float | None = None  # when it got the device
        self.queued: float = self.created  # when it was put into the queue
        self.about: dict[str, Any] = {"note": "", "starred": False}
        self.states = 0  # bytes of training states
        self.deleted: set[str] = set()  # files of its models
        self.planned: dict[str, Any] = {"steps": total, "seconds": total / speed}
        self.say("status", status="queued")

    def say(self, type: str, **data: Any) -> None:
        assert type in events.EVENT_TYPES
        self.events.append({"n": len(self.events) + 1, "time": round(time.time(), 3), "type": type, **data})

    def brief(self) -> dict[str, Any]:
        has_begun = self.status != "queued"
        return {
            "id": self.id,
            "name": self.config["name"],
            "method": self.config["method"],
            "resolution": self.config.get("resolution"),
            "version": "1.2.3",
            "host": "this machine" if has_begun else None,
            "pid": 4711 if has_begun else None,
            "status": self.status,
            "step": self.step,
            "total": self.total,
            "created": self.created,
            "heartbeat": time.time() if has_begun else None,
            **({"problem": self.problem} if self.problem else {}),
        }

    def describe(self) -> dict[str, Any]:
        samples = [event for event in self.events if event["type"] == "sample"]
        made = 2_130_000_000 + 1000 * self.step
        size = made + self.states
        return {
            **self.brief(),
            **self.about,
            "base": Path(self.config.get("base_model") or "").name,
            "words": self.config.get("instance_prompt") or "",
            "seconds": self.step * 1.5 or None,
            "in_host": sorted({event["path"].split("/")[-1] for event in self.events if event["type"] == "published"}),
            "size": size,
            "sizes": {"total": size, "checkpoints": self.states, "samples": 0, "artifacts": made},
            "picture": f"{samples[-1]['step']}/{Path(samples[-1]['path']).name}" if samples else None,
            "verdict": None,
        }

    def models(self) -> dict[str, dict[str, Any]]:
        """The events of the models that are still there, by file."""
        latest = {event["file"]: event for event in self.events if event["type"] == "artifact"}
        return {file: event for file, event in latest.items() if file not in self.deleted}

    def set(self, status: str, **about: Any) -> None:
        self.status = status
        self.say("status", status=status, **about)

    def begin(self) -> None:
        self.set("preparing")
        self.say("status", status="preparing", stage="encoding pictures", done=3, of=12)
        self.log += "loading base\nencoding 12 pictures\n"
        self.set("training", step=self.step, total=self.total)
        if self.config.get("validation_steps") and not self.step:
            self._samples()  # the base's
        if 0 in self.measured and not self.step:
            self.say("measurement", **self.measured[0])
        self.last = time.time()

    def advance(self) -> None:
        """Do the steps that are due."""
        due = int((time.time() - self.last) * self.speed)
        if due:
            self.last += due / self.speed
        end = self.total if self.hold is None else min(self.hold, self.total)
        for _ in range(min(due, end - self.step)):
            if self._obey():
                return
            self._train()
        if self._obey():
            return
        if self.step >= self.total:
            self._model(final=True)
            self.set("done")

    def _train(self) -> None:
        self.step += 1
        chance = random.Random(self.step)
        loss = 0.09 + 0.12 * math.exp(-self.step / 300) + chance.gauss(0, 0.03) * (1 + 2 * (chance.random() < 0.02))
        rates = {"unet": 2e-6 * min(1, self.step / 100)}
        if self.step <= 350:
            rates["text_encoder"] = 1e-6
        self.say(
            "step",
            step=self.step,
            total=self.total,
            epoch=round(self.step / 12, 3),
            loss=abs(loss),
            lr=rates,
            grad_norm=0.4,
            it_per_s=self.speed,
            eta_s=(self.total - self.step) / self.speed,
            memory={"now": 9_800_000_000, "peak": 11_200_000_000},
        )
        if self.config.get("validation_split") and self.step % 50 == 0:
            self.say("validation", step=self.step, loss=0.1 + 0.1 * math.exp(-self.step / 300))
        if self.measured and self.step in self.measured:
            self.say("measurement", **self.measured[self.step])
        every = self.config.get("validation_steps")
        if every and self.step % every == 0:
            self._samples()
        if self.step % 500 == 0 and self.step < self.total:
            self._model(final=False)

    def _obey(self) -> bool:
        for command in self.commands:
            self.log += f"told to {command}\n"
            if command == "sample":
                self._samples()
            if command in ("save", "stop_and_save"):
                self._model(final=False, stops=command == "stop_and_save")
        stop = any(command.startswith("stop") for command in self.commands)
        self.commands = []
        if stop:
            self.set("stopped", step=self.step)
        return stop

    def _samples(self) -> None:
        for index, prompt in enumerate(self.config.get("validation_prompts") or []):
            self.say(
                "sample",
                step=self.step,
                prompt=prompt,
                seed=0,
                path=f"/runs/{self.id}/samples/{self.step}/{index}_0.png",
            )

    def _model(self, final: bool, stops: bool = False) -> None:
        name = self.config["name"] if final else f"{self.config['name']}_{self.step}"
        self.say("checkpoint", step=self.step, path=f"/runs/{self.id}/checkpoints/{self.step}")
        self.say(
            "artifact",
            kind="checkpoint",
            name=name,
            file=f"{name}.safetensors",
            step=self.step,
            final=final,
            stops=stops,
            path=f"/runs/{self.id}/artifacts/{name}.safetensors",
            size=2_132_000_000,
        )


class Simulator:
    """All answers, and the strings that tests pull: `faults`, `host`, `environment`, `speed`."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.host: dict[str, Any] = {
            "name": "AUTOMATIC1111 v1.10.1",
            "version": "1.2.3",
            "current": str(folder / "sd15.safetensors"),
            "bases": [
                {"title": "sd15.safetensors [6ce0161689]", "path": str(folder / "sd15.safetensors"), "lacks": ""},
                {"title": "dreamlike.safetensors [abc]", "path": str(folder / "dreamlike.safetensors"), "lacks": ""},
            ],
            "folders": {},
            "files": {"lora": [{"title": "mine/old.safetensors", "path": str(folder / "old.safetensors")}]},
            "runs_folder": str(folder / "runs"),
            "publishing": None,  # a WebUI's own affair; see `alone`
            "devices": [
                {"name": "cuda:0", "title": "NVIDIA GeForce RTX 4090", "memory": 24 * 2**30},
                {"name": "cuda:1", "title": "NVIDIA GeForce RTX 3060", "memory": 12 * 2**30},
            ],
            "lacks": {},
            "restricted": "",
            "can_open": True,
            "options": {"select": "final", "while_training": "refuse", "publish": True, "subject_type": "person"},
        }
        for base in self.host["bases"]:
            Path(base["path"]).write_bytes(b"base")
        self.environment: dict[str, Any] = {
            "state": "ready",
            "reason": "",
            "building": None,
            "problem": None,
            "python": "/webui/venv/bin/python",
            "python_version": "3.10.13",
            "verified": None,
            "torch": "2.1.2+cu121",
            "torch_reason": "",
            "device": "NVIDIA GeForce RTX 4090",
            "devices": [{"name": "cuda:0", "title": "NVIDIA GeForce RTX 4090", "memory": 24 * 2**30}],
            "kind": "overlay",
            "folder": "/webui/extensions/dreambooth/environment",
            "packages": {"diffusers": "0.35.2"},
            "optional": {"xformers": beside("reason", Message("environment.not_installed"))},
        }
        self.presets = Presets(folder / "presets")
        self.sets = PictureSets(folder / "pictures")
        self.copies = CopyJobs(self.sets, lambda *question, **values: None)
        self.runs: dict[str, Run] = {}
        self.looks = 0  # answers with all runs
        self.waiting: list[str] = []
        self.paused = False
        self.revision, self.published = 0, []
        self.models_loaded: int | None = 1  # None: while one is being loaded
        self.placed: dict[tuple[str, str], str] = {}  # (run, file) -> where it was published
        self.chosen = ""  # the published model that the WebUI uses
        self.faults: dict[str, tuple[int, dict[str, Any]]] = {}  # "METHOD route" -> (status, answer); 0: no answer
        self.asked: list[tuple[str, str, Any]] = []  # what was asked for, except by GET
        self.speed = 40.0  # steps a second
        self.hold: int | None = None  # see Run
        self.devices = 1  # so many runs train side by side
        self.trouble: dict[str, Any] | None = None
        self.slow_start = False  # the worker has the device, and says nothing so far
        self.deep_problems: list[dict[str, str]] = []

    def alone(self) -> None:
        """Without a WebUI or any base, beside a ComfyUI."""
        known = {"folder": str(self.folder / "ComfyUI"), "program": "ComfyUI"}
        self.host |= {"bases": [], "current": "", "folders": {"checkpoint": str(self.folder / "models")}}
        self.host["publishing"] = {"folder": "", "program": "", "known": [known]}

    def publish_into(self, folder: str) -> dict[str, Any]:
        publishing = self.host["publishing"]
        if publishing:
            known = [one for one in publishing["known"] if one["folder"] == folder]
            if folder and not known:
                raise UserError("publishing.no_program", "folder", folder=folder)
            publishing |= known[0] if known else {"folder": "", "program": ""}
        return self.host

    # --- runs ---

    def running(self) -> list[Run]:
        return [run for run in self.runs.values() if run.since and run.status not in events.ENDED]

    def active(self) -> Run | None:
        return (self.running() or [None])[-1]

    def tick(self) -> None:
        """Let time pass: train, end, publish, begin the next."""
        for run in self.running():
            if run.status == "queued":
                if not self.slow_start:
                    run.begin()
                continue
            run.advance()
            self._publish(run)
        if len(self.running()) < self.devices and self.waiting and not self.paused:
            run = self.runs[self.waiting.pop(0)]
            run.since = time.time()
            if not self.slow_start:
                run.begin()

    def _publish(self, run: Run) -> None:
        done = {event["name"] for event in run.events if event["type"] == "published"}
        for event in [e for e in run.events if e["type"] == "artifact" and e["name"] not in done]:
            if event["final"] or event.get("stops"):
                self.announce(run, event, selected=True)

    def announce(self, run: Run, event: dict[str, Any], selected: bool) -> str:
        path = f"/webui/models/Stable-diffusion/{event['file']}"
        self.revision += 1
        title = f"{event['file']} [1234567890]"
        self.published.append(
            {"n": self.revision, "kind": "checkpoint", "path": path, "title": title, "selected": selected}
        )
        run.say("published", name=event["name"], path=path, step=event["step"])
        self.placed[run.id, event["file"]] = path
        self.chosen = path if selected else self.chosen
        return path

    def create(self, config: dict[str, Any], total: int) -> Run:
        id = f"20261121-{len(self.runs):06d}-{re.sub(r'[^A-Za-z0-9_-]', '_', config['name'])}"
        run = self.runs[id] = Run(id, config, total, self.speed)
        run.hold = self.hold
        self.waiting.append(id)
        return run

    def check_needed(self, folder: Path) -> None:
        for id in [*(run.id for run in self.running()), *self.waiting]:
            if self.runs[id].config.get("instance_data_dir") == str(folder):
                raise Refusal(409, "service.pictures_in_use", run=id)

    # --- answers ---

    def check(self, values: dict[str, Any], deep: bool) -> dict[str, Any]:
        if not values.get("base_model"):
            values = {**values, "base_model": self.host["current"]}
        config, unreadable = parsing.parse(values)
        completed, choices, entries, found, _ = config_checks.check(config)
        problems = [problem.as_dict() for problem in [*unreadable, *found]]
        warnings = [one.as_dict() for one in config_warnings.warnings(completed, len(entries))]
        plan: dict[str, Any] = {"steps": completed.max_train_steps, "pictures": len(entries), "class_pictures": 0}
        if deep:
            problems += self.deep_problems
            plan |= {
                "family": "SD 1.x",
                "resolution": 512,
                "epochs": 125.0,
                "text_encoder_steps": completed.text_encoder_steps,
                "held": sum(entry.is_held for entry in entries),
                "measurements": 9 if completed.measure_progress else 0,
                "measuring": 0.0158,
                "device": "cuda",
                "optimizer": "adamw8bit",
                "mixed_precision": "bf16",
                "memory": 9_700_000_000,
                "memory_available": 24_000_000_000,
                "disk": 14_000_000_000,
                "disk_available": 320_000_000_000,
            }
        filled = {name: {"value": one.value, **beside("reason", one.reason)} for name, one in choices.items()}
        source = Message("guide.time_of_run", run="mine")
        return {
            "plan": plan,
            "problems": problems,
            "warnings": warnings,
            "filled_in": filled,
            "superseded": False,
            "estimate": {"seconds": 640 if deep else None, **beside("source", source)},
        }

    def queue(self) -> dict[str, Any]:
        running = [{**run.brief(), "trouble": None, "since": run.since} for run in self.running()]
        if running:
            running[-1]["trouble"] = self.trouble
        return {
            "active": running[-1] if running else None,
            "running": running,
            "queue": self.waiting,
            "paused": self.paused,
            **self._timetable(),
            "waiting": "",
            "trouble": self.trouble,
            "models_away": "",
            "models_loaded": self.models_loaded,
        }

    def _timetable(self) -> dict[str, Any]:
        having, waiting = self.running(), [self.runs[id] for id in self.waiting]

        def job(run: Run) -> planned_time.Job:
            known = run.planned
            return planned_time.Job(
                run.id, ("cuda:0",), planned_time.left(known.get("seconds"), known.get("steps"), run.step, run.total)
            )

        begins, seconds = planned_time.beginnings(
            [job(run) for run in having] if self.devices == 1 else [planned_time.Job("", ("cuda:0",), None)],
            [job(run) for run in waiting],
        )
        planned = {run.id: dict(run.planned) for run in [*having, *waiting]}
        for run in waiting:
            planned[run.id] |= {"begins": None if self.paused else begins[run.id], "since": run.queued}
        return {"planned": planned, "seconds": seconds}

    def state(self) -> dict[str, Any]:
        return {
            "version": "1.2.3",
            "time": time.time(),
            "revision": self.revision,
            "published": self.published[-20:],
            "lists": model_lists.Mark(lambda: self.host)(),
            "job": None,
            "jobs_ended": 0,
            "downloads": {"revision": 0, "busy": False},
            **self.queue(),
            "environment": {k: self.environment[k] for k in ("state", "reason", "building", "problem")},
        }


def webui_page(request: Request) -> Response:
    return HTMLResponse(WEBUI.replace("THEME", request.query_params.get("__theme", "")))


def webui_script(request: Request) -> Response:
    return file(REPOSITORY / "javascript" / request.path_params["name"])


WEBUI_PAGE = [Route("/webui", webui_page), Route("/javascript/{name}", webui_script)]


class Application:
    """HTTP around a Simulator."""

    def __init__(self, simulator: Simulator):
        self.simulator = simulator
        methods = ["GET", "POST", "PUT", "DELETE"]
        self.app = Starlette(
            routes=[
                Route("/", lambda request: HTMLResponse(STANDALONE)),
                *WEBUI_PAGE,
                Route("/style.css", lambda request: file(REPOSITORY / "style.css")),
                Route("/dreambooth/v1/page/{name:path}", lambda request: file(PAGE / request.path_params["name"])),
                Route("/dreambooth/v1/{path:path}", self.answer, methods=methods),
            ]
        )

    async def answer(self, request: Request) -> Response:
        parts = request.path_params["path"].split("/")
        body = await request.body()
        given = json.loads(body) if body and "json" in request.headers.get("content-type", "") else body
        if request.method != "GET":
            self.simulator.asked.append((request.method, "/".join(parts), given))
        fault = self.simulator.faults.get(f"{request.method} {parts[0]}")
        if fault:
            return JSONResponse(fault[1], fault[0])
        self.simulator.tick()
        try:
            found = self.route(request.method, parts, dict(request.query_params), given)
        except UserError as error:
            return refused(error)
        return found if isinstance(found, Response) else JSONResponse(found)

    def route(self, method: str, parts: list[str], query: dict[str, str], given: Any) -> Any:
        sim = self.simulator
        if parts[0] in ("runs", "pictures", "presets", "environment", "comparisons", "copies", "job"):
            return getattr(self, parts[0])(method, parts[1:], query, given)
        plain = {
            "GET schema": schema.schema,
            "GET host": lambda: sim.host,
            "GET state": sim.state,
            "GET languages": lambda: (
                localization.language(parts[1]) if parts[1:] else {"languages": localization.languages()}
            ),
            "GET version": lambda: {"version": "1.2.3", "protocol": events.PROTOCOL, "host": sim.host["name"]},
            "GET queue": sim.queue,
            "GET findings": lambda: NO_FINDINGS,
            "GET demo": lambda: {"settings": demo_recipe.settings()},
            "POST host": lambda: sim.publish_into(given["folder"]),
        }
        if f"{method} {parts[0]}" in plain:
            return plain[f"{method} {parts[0]}"]()
        if parts == ["word"]:
            return self.word(given["word"])
        if parts == ["check"]:
            return sim.check(given["config"], given.get("deep", False))
        if parts == ["import"]:
            return read.read(given["text"]).as_dict()
        if parts == ["queue"] and method == "POST":
            sim.paused = given.get("paused", sim.paused)
            if "order" not in given:
                return sim.queue()
            strangers = set(given["order"]) - set(sim.waiting)
            if strangers:
                raise Refusal(409, "service.not_queued", "order", run=str(strangers))
            sim.waiting = [*given["order"], *(id for id in sim.waiting if id not in given["order"])]
            return sim.queue()
        raise Refusal(404, "web.no_route")

    def word(self, word: str) -> Any:
        vocabulary = VOCABULARIES.of()
        drawn = {"id": "0123456789abcdef", "state": "none", "done": 0, "total": 4, "problem": "", "pictures": []}
        told = {"suggestions": rare_words.suggestions(vocabulary), "drawn": drawn}
        return {**rare_words.report(word, vocabulary).as_dict(), **told}

    def environment(self, method: str, parts: list[str], query: dict[str, str], given: Any) -> Any:
        sim = self.simulator
        if method == "POST":
            sim.environment |= {
                "building": {"action": given["action"], "stage": "torch 2.1.2 (1 of 40)", "fraction": 0.4}
            }
            return JSONResponse(sim.environment, 202)
        return sim.environment

    # Nothing draws, compares or judges here: the page's tests of that have the true service (test_compare.py)

    def comparisons(self, method: str, parts: list[str], query: dict[str, str], given: Any) -> Any:
        if parts:
            raise Refusal(404, "drawing.no_comparison", "comparison", id=repr(parts[0]))
        if method == "POST":
            raise UserError("drawing.no_models", "models")
        return {"comparisons": []}

    def job(self, method: str, parts: list[str], query: dict[str, str], given: Any) -> Any:
        if method == "DELETE":
            raise Refusal(409, "drawing.nothing_to_stop", "job")
        return {"job": None}

    def presets(self, method: str, parts: list[str], query: dict[str, str], given: Any) -> Any:
        known = self.simulator.presets
        if method == "POST":
            return JSONResponse(known.save(given["name"], given["settings"]).as_dict(), 201)
        if parts and parts[0].casefold() not in {
            name.casefold() for it in known.list() for name in (it.name, it.title)
        }:
            raise Refusal(404, "service.no_preset", "preset", name=repr(parts[0]), names=["others"])
        if method == "DELETE":
            known.delete(parts[0])
            return {}
        if parts:
            return known.get(parts[0]).as_dict()
        return {"presets": [preset.as_dict() for preset in known.list()]}

    # --- pictures ---

    def pictures(self, method: str, parts: list[str], query: dict[str, str], given: Any) -> Any:
        sets = self.simulator.sets
        if not parts:
            if "folder" in query:
                return sets.list_folder(Path(query["folder"]))
            return sets.list(query["set"]) if "set" in query else {"sets": [{**one, "runs": []} for one in sets.sets()]}
        if method == "PUT":
            return self._put(parts, query, given)
        if method == "DELETE":
            self.simulator.check_needed(sets.path(parts[0]))
            sets.delete(parts[0], *parts[1:], stamp=query.get("stamp", ""))
            return {}
        path = Path(query["folder"], parts[1]) if "folder" in query else sets.picture(*parts)
        return Response(
            image_decoding.thumbnail(path, uploads.fitting(int(query.get("size", 160)))), media_type="image/jpeg"
        )

    def _put(self, parts: list[str], query: dict[str, str], data: bytes) -> Any:
        if parts[1].endswith(".txt"):
            shown = {key: query.get(key, "") for key in ("picture", "stamp")}
            return self.simulator.sets.put_caption(*parts, data, **shown)
        kept = self.simulator.sets.put(*parts, data)
        return JSONResponse(kept, 201 if kept["new"] else 200)

    def copies(self, method: str, parts: list[str], query: dict[str, str], given: Any) -> Any:
        known = self.simulator.copies
        if method == "POST":
            name, folder = given.get("set", ""), given.get("folder", "")
            place = self.simulator.sets.path(name) if name else Path(folder)
            return JSONResponse(known.start(place, name), 202)
        return known.show(parts[0]) if method == "GET" else known.stop(parts[0]) or {}

    # --- runs ---

    def runs(self, method: str, parts: list[str], query: dict[str, str], given: Any) -> Any:
        sim = self.simulator
        if not parts:
            if method == "GET":
                sim.looks += 1  # each answer tells all runs
                known = [run.describe() for run in reversed(sim.runs.values())]
                return {"runs": known, "gone": [], "revision": f"{sim.looks}-0"}
            found = sim.check(given["config"], deep=False)
            if found["problems"]:
                raise Problems([Problem.from_dict(problem) for problem in found["problems"]])
            filled = {name: choice["value"] for name, choice in found["filled_in"].items()}
            if folder := given["config"].get("instance_data_dir"):
                sim.sets.use(Path(folder))
            return JSONResponse({"id": sim.create({**filled, **given["config"]}, found["plan"]["steps"]).id}, 201)
        if parts[0] not in sim.runs:
            raise Refusal(404, "service.no_run", "run", run=repr(parts[0]))
        run = sim.runs[parts[0]]
        if len(parts) == 1:
            if method == "GET":
                wished = {"publish": True, "intermediate": False, "select": "final", "while_training": "refuse"}
                return {**run.describe(), "path": f"/runs/{run.id}", "wishes": wished}
            if run in sim.running():
                raise Refusal(409, "queue.training", "run", run=run.id)
            sim.waiting = [id for id in sim.waiting if id != run.id]
            return sim.runs.pop(run.id) and {}
        return getattr(self, f"run_{parts[1]}")(run, parts[2:], query, given)

    def run_events(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        after = int(query.get("after") or 0)
        found = run.events[after : after + 1000]
        return {"events": found, "next": after + len(found), "more": after + len(found) < len(run.events)}

    def run_curves(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        curves = Curves()
        for event in run.events:
            curves.take(event)
        if rest:
            named = {"Content-Disposition": f'attachment; filename="{run.id}.csv"'}
            return Response(curves.table(), headers=named, media_type="text/csv")
        if "from" in query:
            return curves.thinned(int(query["from"]), int(query["to"]), POINTS)
        return curves.whole()

    def run_subject(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        folder = run.config.get("instance_data_dir")
        paths = sorted(Path(folder).glob("*.png")) if folder else []
        if rest:
            size = uploads.fitting(int(query["size"]))
            return Response(image_decoding.thumbnail(paths[int(rest[0])], size), media_type="image/jpeg")
        return {
            "pictures": [{"number": n, "name": path.name} for n, path in enumerate(paths[:24])],
            "count": len(paths),
            "sets": [],
        }

    def run_pictures(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        return {"count": 12, "changes": run.changes}

    def run_log(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        after = int(query.get("after") or 0)
        return {"text": run.log[after:], "next": len(run.log), "size": len(run.log)}

    def run_notes(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        run.about |= given
        return run.about

    def run_states(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        if run in self.simulator.running():
            raise Refusal(409, "queue.training", "run", run=run.id)
        if not run.states:
            raise Refusal(409, "runs.no_states", "run", run=run.id)
        freed, run.states = run.states, 0
        run.about |= {"states_deleted": True}
        return {"freed": freed}

    def run_report(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        return {"text": f"DreamBooth extension 1.2.3\nrun: {run.status}\nend of the log:\n{run.log}" + "more\n" * 30}

    def run_config(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        return parsing.parse(run.config)[0].as_dict()

    def run_artifacts(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        sim = self.simulator
        if rest:
            return self._delete_artifact(run, rest[0])
        placed = [{**event, "published": sim.placed.get((run.id, file))} for file, event in run.models().items()]
        return {"artifacts": [{**it, "selected": it["published"] == sim.chosen != ""} for it in placed]}

    def _artifact(self, run: Run, file: str) -> dict[str, Any]:
        found = run.models().get(file)
        if not found:
            raise Refusal(404, "service.no_model", "artifact", run=run.id, file=repr(file))
        return found

    def _delete_artifact(self, run: Run, file: str) -> dict[str, Any]:
        event = self._artifact(run, file)
        if run in self.simulator.running() or run.id in self.simulator.waiting:
            raise Refusal(409, "queue.busy", "artifact", run=run.id)
        run.deleted.add(file)
        return {"freed": event["size"]}

    def run_publish(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        sim, select = self.simulator, given.get("select", False)
        path = sim.announce(run, self._artifact(run, given["artifact"]), select)
        return {"path": path, "selected": select, "revision": sim.revision}

    def run_unpublish(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        sim, event = self.simulator, self._artifact(run, given["artifact"])
        path = sim.placed.get((run.id, event["file"]))
        if not path:
            raise Refusal(404, "service.not_published", "artifact", file=event["file"])
        if path == sim.chosen:
            raise Refusal(409, "publishing.in_use", "artifact", file=event["file"], host="The WebUI")
        del sim.placed[run.id, event["file"]]
        sim.revision += 1
        run.say("unpublished", name=event["name"], step=event["step"], file=event["file"], path=path)
        return {"path": path, "removed": [event["file"]], "revision": sim.revision}

    def run_verdict(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        if rest[:1] == ["votes"]:
            raise UserError("drawing.no_such_pair", "models")
        if rest:
            raise Refusal(404, "drawing.no_picture", "file", file=repr(rest[-1]))
        if isinstance(given, dict):  # by POST, to judge it
            code = "drawing.nothing_to_judge" if run.status in events.ENDED else "queue.training"
            raise Refusal(409, code, "run", run=run.id)
        return {"verdict": None, "votes": {}, "job": None, "is_old": False}

    def run_open(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        return {}

    def run_samples(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        step, name = int(rest[0]), rest[1]
        hue = (40 * int(name.split("_")[0]) + step // 4) % 360
        picture = Image.new("RGB", (256, 256), f"hsl({hue}, 45%, 62%)")
        draw = ImageDraw.Draw(picture)
        size = 40 + min(80, step / 10)
        draw.ellipse((128 - size, 118 - size, 128 + size, 118 + size), fill=f"hsl({(hue + 150) % 360}, 60%, 45%)")
        draw.text((8, 238), f"step {step}", fill="white")
        return png(picture)

    def run_commands(self, run: Run, rest: list[str], query: dict[str, str], given: Any) -> Any:
        sim, command = self.simulator, given["command"]
        if command not in RUN_COMMANDS:
            raise UserError("web.no_choice", "command", value=repr(command), choices=list(RUN_COMMANDS))
        elif run.status in events.ENDED and command not in ("resume", "continue"):
            raise Refusal(409, "queue.not_training", "command", run=run.id)
        if run.id in sim.waiting and command == "stop":
            sim.waiting.remove(run.id)
            run.set("stopped")
        elif command in ("resume", "continue"):
            run.total = given.get("max_train_steps") or run.total
            run.set("queued")
            sim.waiting.append(run.id)
        elif command == "kill":
            advice = Message("queue.resume_from", step=run.step)
            run.problem = Problem("queue.ended_by_user", advice=advice).as_dict()
            run.set("failed")
        else:
            run.commands.append(command)
        return JSONResponse({}, 202)


def file(path: Path) -> Response:
    kinds = {".js": "text/javascript", ".css": "text/css"}
    if path.suffix not in kinds or not path.is_file():
        return Response("", 404)
    return Response(path.read_bytes(), media_type=kinds[path.suffix], headers={"Cache-Control": "no-cache"})


def png(picture: Image.Image) -> Response:
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    return Response(stream.getvalue(), media_type="image/png")


if __name__ == "__main__":
    import uvicorn

    with tempfile.TemporaryDirectory() as folder:
        uvicorn.run(Application(Simulator(Path(folder))).app, port=int(sys.argv[1]) if len(sys.argv) > 1 else 7870)
