"""The page's tests run on a simulated API (browser/simulator.py): to each request it answers as the true one does."""

from __future__ import annotations

import io
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
Image = pytest.importorskip("PIL.Image")

from dreambooth_ext.core.runs.run_folder import this_worker  # noqa: E402
from dreambooth_ext.host.web import routes  # noqa: E402
from tests.host.asking import Answer, Asked, request  # noqa: E402
from tests.host.browser.simulator import Application, Simulator  # noqa: E402

JSON, PNG, TEXT = "application/json", "image/png", "text/plain"
# Objects whose keys are names of things, not of the protocol's fields: of these, the values have to be alike
BY_NAME = {"filled_in", "folders", "files", "lacks", "options", "planned", "packages", "optional", "lr", "rates"}


def picture() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (64, 48), "teal").save(stream, "PNG")
    return stream.getvalue()


class Both:
    """The true service and the simulated one, each in a folder of its own."""

    def __init__(self, folder: Path):
        self.asked = Asked(folder / "true")
        self.simulator = Simulator(folder / "simulated")
        self.apps = (self.asked.app, Application(self.simulator).app)
        self.runs = ["", ""]
        self.config = good(folder)

    def ask(self, method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[Answer, Answer]:
        headers = {"content-type": kind} if kind else {}
        addresses = [f"{routes.PREFIX}/{path}".replace("{run}", run) for run in self.runs]
        return tuple(
            request(app, method, address, headers=headers, body=body)
            for app, address in zip(self.apps, addresses, strict=True)
        )

    def post(self, path: str, values: Any) -> tuple[Answer, Answer]:
        return self.ask("POST", path, json.dumps(values).encode(), JSON)


def good(folder: Path) -> dict[str, Any]:
    shown = folder / "pictures"
    shown.mkdir(parents=True)
    for number in range(6):
        (shown / f"sksper ({number}).png").write_bytes(picture())
    base = folder / "base.safetensors"
    base.write_bytes(b"x")
    given = {"name": "mine", "base_model": str(base), "instance_data_dir": str(shown), "method": "dreambooth"}
    return {**given, "instance_prompt": "a photo of sksper person", "max_train_steps": 40}


@pytest.fixture
def both(tmp_path) -> Both:
    (tmp_path / "simulated").mkdir()
    return Both(tmp_path)


def differences(true: Any, simulated: Any, place: str = "") -> list[str]:
    """Where two answers are not of one shape. Null stands for a value of any kind that is not there."""
    if true is None or simulated is None:
        return []
    if isinstance(true, dict) and isinstance(simulated, dict):
        if place.rpartition(".")[2] in BY_NAME:
            shared = sorted(true.keys() & simulated.keys())
            others = list(zip(true.values(), simulated.values(), strict=False))[:1]
            pairs = [(true[name], simulated[name]) for name in shared] or others
            return [text for one, other in pairs for text in differences(one, other, f"{place}[]")]
        lacks = [f"{place}.{key} is missing" for key in true.keys() - simulated.keys()]
        more = [f"{place}.{key} is not in the true answer" for key in simulated.keys() - true.keys()]
        shared = true.keys() & simulated.keys()
        codes = {key: f"{key.removesuffix('values')}code" for key in shared if key.endswith("values")}
        shared -= {key for key, code in codes.items() if true.get(code) != simulated.get(code)}  # other messages
        inner = [text for key in shared for text in differences(true[key], simulated[key], f"{place}.{key}")]
        return sorted([*lacks, *more, *inner])
    if isinstance(true, list) and isinstance(simulated, list):
        return differences(true[0], simulated[0], f"{place}[]") if true and simulated else []
    numbers = (int, float)
    if isinstance(true, numbers) and isinstance(simulated, numbers) and bool not in (type(true), type(simulated)):
        return []
    return [] if type(true) is type(simulated) else [f"{place}: {type(true).__name__} is {type(simulated).__name__}"]


def compare(answers: tuple[Answer, Answer]) -> None:
    true, simulated = answers
    assert true.status == simulated.status, (true.body, simulated.body)
    kinds = [answer.headers.get("content-type", "").partition(";")[0] for answer in answers]
    assert kinds[0] == kinds[1]
    if kinds[0] == JSON:
        assert differences(true.json(), simulated.json()) == []


def queue_a_run(both: Both) -> None:
    both.simulator.devices = 0  # it waits, as with a dispatcher that takes notes only
    answers = both.post("runs", {"config": both.config})
    compare(answers)
    both.runs = [answer.json()["id"] for answer in answers]


def begin_it(both: Both) -> None:
    """One that trains."""
    queue_a_run(both)
    run = both.asked.service.run_index.find(both.runs[0])
    both.asked.dispatcher.ids.clear()
    both.asked.dispatcher.running = [run]
    run.write_state(status="training", **this_worker(), heartbeat=time.time())
    both.held = run.take()  # as its worker does
    both.simulator.devices, both.simulator.runs[both.runs[1]].hold = 1, 0
    both.simulator.tick()


def train_it(both: Both) -> None:
    """To its end, with a model; by the run's own files in one, by the clock in the other."""
    queue_a_run(both)
    true, simulated = both.asked.service.run_index.find(both.runs[0]), both.simulator.runs[both.runs[1]]
    both.asked.dispatcher.ids.clear()
    both.simulator.waiting.clear()
    about = {"kind": "checkpoint", "name": "mine", "file": "mine.safetensors", "step": 40, "final": True}
    (true.artifacts / "mine.safetensors").write_bytes(b"weights")
    figures = {"loss": 0.1, "lr": {"unet": 1e-6}, "epoch": 0.5, "it_per_s": 2.0, "eta_s": 3.0, "grad_norm": 0.4}
    memory = {"memory": {"now": 1, "peak": 2}}
    for step in (1, 2):
        true.events.append("step", step=step, total=40, **figures, **memory)
    true.events.append("artifact", **about, stops=False, path="x", size=7)
    true.write_state(status="done", step=40, total=40)
    (true.path / "log.txt").write_text("words\n", encoding="utf-8")
    simulated.step, simulated.since = 38, 1.0
    simulated.begin()
    for _ in range(2):
        simulated._train()
    simulated._model(final=True)
    simulated.set("done")


def publish_it(both: Both) -> None:
    train_it(both)
    compare(both.post("runs/{run}/publish", {"artifact": "mine.safetensors", "select": False}))
    path = str(both.asked.host.folders()["checkpoint"] / "mine.safetensors")
    run = both.asked.service.run_index.find(both.runs[0])
    run.events.append("published", name="mine", step=40, file="mine.safetensors", path=path)


def upload(both: Both) -> None:
    compare(both.ask("PUT", "pictures/s/a (1).png", picture(), PNG))


def keep_a_preset(both: Both) -> None:
    compare(both.post("presets", {"name": "Mine", "settings": {"resolution": 768}}))


def nothing(both: Both) -> None:
    pass


RUN = "runs/{run}"
REQUESTS: list[tuple[Callable[[Both], None], str, str, Any]] = [
    *((nothing, "GET", path, None) for path in ("version", "host", "state", "queue", "schema", "environment", "demo")),
    *((nothing, "GET", path, None) for path in ("presets", "presets/Careful", "languages", "languages/ru_RU", "runs")),
    *((nothing, "GET", path, None) for path in ("pictures", "pictures?set=none", "pictures?folder=/none/x", "none")),
    *(
        (nothing, "GET", f"runs/none{path}", None)
        for path in ("", "/events", "/log", "/report", "/artifacts", "/config")
    ),
    *((nothing, "GET", path, None) for path in ("comparisons", "comparisons/none", "comparisons/none/pictures/x.png")),
    *((nothing, method, "job", None) for method in ("GET", "DELETE")),
    (nothing, "POST", "comparisons", {"prompts": ["a hat"]}),
    (nothing, "POST", "comparisons/none/votes", {}),
    (nothing, "DELETE", "comparisons/none", None),
    (nothing, "GET", "presets/none", None),
    (nothing, "GET", "languages/xx_XX", None),
    (nothing, "DELETE", "runs/none", None),
    (nothing, "DELETE", "presets/none", None),
    (nothing, "DELETE", "pictures/none", None),
    (nothing, "POST", "check", {"config": "{config}"}),
    (nothing, "POST", "check", {"config": {"train_batch_size": 9999, "name": "no name!"}}),
    (nothing, "POST", "runs", {"config": {"train_batch_size": 9999}}),
    (nothing, "POST", "import", {"text": '{"max_train_steps": 900, "something_new": 1}'}),
    (nothing, "POST", "import", {"text": "{"}),
    (nothing, "POST", "presets", {"name": "a/b", "settings": {}}),
    (nothing, "POST", "environment", {"action": "verify"}),
    (nothing, "POST", "host", {"folder": ""}),
    (nothing, "POST", "queue", {"order": ["none"]}),
    (nothing, "POST", "word", {"word": "sks"}),
    (keep_a_preset, "GET", "presets", None),
    (keep_a_preset, "DELETE", "presets/Mine", None),
    (nothing, "PUT", "pictures/s/b.png", b"no picture"),
    (upload, "PUT", "pictures/s/a (1).txt", b"a caption"),
    (upload, "PUT", "pictures/s/a (1).txt?picture=a (1).png&stamp=1", b"a caption"),
    (upload, "GET", "pictures", None),
    (upload, "GET", "pictures?set=s", None),
    (upload, "GET", "pictures/s/a (1).png?size=64", None),
    (upload, "GET", "pictures/s/none.png", None),
    (upload, "POST", "copies", {"set": "s"}),
    (upload, "POST", "copies", {"set": "none"}),
    (upload, "GET", "copies/none", None),
    (upload, "DELETE", "copies/none", None),
    (upload, "DELETE", "pictures/s/a (1).png?stamp=1", None),
    (upload, "DELETE", "pictures/s/a (1).png", None),
    (upload, "DELETE", "pictures/s", None),
    (queue_a_run, "GET", "state", None),
    (queue_a_run, "GET", "queue", None),
    (queue_a_run, "GET", "runs", None),
    *(
        (queue_a_run, "GET", f"{RUN}{path}", None)
        for path in ("", "/config", "/events", "/log", "/report", "/pictures", "/curves", "/curves/table", "/subject")
    ),
    *((begin_it, "GET", path, None) for path in ("state", "queue", "runs", RUN)),
    (begin_it, "POST", f"{RUN}/commands", {"command": "save"}),
    (begin_it, "DELETE", RUN, None),
    (begin_it, "DELETE", f"{RUN}/states", None),
    (begin_it, "POST", f"{RUN}/verdict", {}),
    (queue_a_run, "POST", "queue", {"order": []}),
    (queue_a_run, "POST", "queue", {"paused": True}),
    (queue_a_run, "POST", f"{RUN}/notes", {"note": "the first"}),
    (queue_a_run, "POST", f"{RUN}/commands", {"command": "stop"}),
    (queue_a_run, "POST", f"{RUN}/commands", {"command": "nonsense"}),
    (queue_a_run, "DELETE", RUN, None),
    (queue_a_run, "POST", f"{RUN}/verdict", {}),
    (queue_a_run, "POST", f"{RUN}/verdict/votes", {}),
    (queue_a_run, "GET", f"{RUN}/verdict/pictures/x.png", None),
    (queue_a_run, "DELETE", f"{RUN}/artifacts/none", None),
    (train_it, "GET", "runs", None),
    *((train_it, "GET", f"{RUN}{path}", None) for path in ("", "/events", "/log", "/artifacts", "/curves", "/verdict")),
    (train_it, "POST", f"{RUN}/commands", {"command": "continue", "max_train_steps": 60}),
    (train_it, "POST", f"{RUN}/commands", {"command": "save"}),
    (train_it, "POST", f"{RUN}/publish", {"artifact": "none"}),
    (train_it, "POST", f"{RUN}/unpublish", {"artifact": "mine.safetensors"}),
    (train_it, "DELETE", f"{RUN}/states", None),
    (train_it, "DELETE", f"{RUN}/artifacts/mine.safetensors", None),
    (train_it, "DELETE", RUN, None),
    (publish_it, "GET", "runs", None),
    (publish_it, "GET", f"{RUN}/artifacts", None),
    (publish_it, "POST", f"{RUN}/publish", {"artifact": "mine.safetensors", "select": True}),
    (publish_it, "POST", f"{RUN}/unpublish", {"artifact": "mine.safetensors"}),
]


@pytest.mark.parametrize(
    ("prepare", "method", "path", "given"), REQUESTS, ids=lambda it: it if isinstance(it, str) else ""
)
def test_both_answer_alike(both, prepare, method, path, given):
    prepare(both)
    if isinstance(given, bytes):
        answers = both.ask(method, path, given, TEXT if ".txt" in path else PNG)
    elif method == "POST":
        values = {"config": both.config} if given == {"config": "{config}"} else given
        answers = both.post(path, values)
    else:
        answers = both.ask(method, path)
    compare(answers)


# Not simulated, for no test of the page asks for them, or those that do have the true service; or drawn, where there
# is no shape to compare
LEFT_OUT = {
    ("GET", "/page/{file:path}"),
    ("GET", "/runs/{id}/samples/{step}/{file}"),
    ("GET", "/runs/{id}/subject/{number}"),
    ("GET", "/runs/{id}/draw"),
    ("POST", "/runs/{id}/draw"),
    ("GET", "/runs/{id}/drawn/{artifact}/{file}"),
    ("POST", "/runs/{id}/open"),
    *((method, "/captions") for method in ("GET", "POST")),
    *((method, "/downloads") for method in ("GET", "POST")),
    *((method, "/downloads/{id}") for method in ("GET", "POST", "DELETE")),
    *(("POST", f"/captions/{what}") for what in ("undo", "redo", "trained")),
    *(("POST", f"/{what}") for what in ("captions/tag", "taggers/about", "taggers/fetch", "word/draw")),
    *((method, "/captions/tag/{set}") for method in ("GET", "DELETE")),
    ("GET", "/taggers"),
    *(("GET", path) for path in ("/crop", "/findings", "/findings/sheet", "/sets/{set}/export")),
    *((method, "/edits/{set}/{name}") for method in ("GET", "POST")),
    *((method, "/edits/{set}/{name}/mask") for method in ("GET", "PUT", "POST", "DELETE")),
    *(("GET", f"/edits/{{set}}/{{name}}/{what}") for what in ("original", "subject")),
    *(("PUT", "/sets"), ("POST", "/sets/{set}")),
    ("GET", "/word/drawn/{id}/{file}"),
}


def test_every_route_is_compared(both):
    asked = [(method, f"/{path.partition('?')[0]}".replace(RUN, "runs/x")) for _, method, path, _ in REQUESTS]
    missing = set()
    for route, methods in routes.table(both.asked.service).items():
        pattern = re.compile(re.sub(r"\{(\w+):path\}", ".+", route).replace("{", "(?P<").replace("}", ">[^/]+)"))
        found = {method for method, path in asked if pattern.fullmatch(path)}
        missing |= {(method, route) for method in methods if method not in found}
    assert missing == LEFT_OUT


def test_differences_are_seen():
    true = {"a": 1, "list": [{"b": "x"}], "options": {"one": 1}, "none": None}
    assert differences(true, {"a": 2.5, "list": [{"b": "y"}], "options": {"other": 2}, "none": 5}) == []
    assert differences(true, {"a": True, "list": [{"c": "y"}], "options": {"other": "x"}, "more": 1}) == [
        ".a: int is bool",
        ".list[].b is missing",
        ".list[].c is not in the true answer",
        ".more is not in the true answer",
        ".none is missing",
        ".options[]: int is str",
    ]
