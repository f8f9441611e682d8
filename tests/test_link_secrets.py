"""Whole runs from a link with secrets, by the command line and by the service: nothing that is written holds them."""

from __future__ import annotations

import base64
import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreambooth_ext.core.config import links
from dreambooth_ext.core.runs import run_folder, run_list
from dreambooth_ext.host.environment.environment import Environment

REPOSITORY = Path(__file__).parents[1]
MODELS = REPOSITORY / "models"
READY = Environment().status().state == "ready"
pytestmark = pytest.mark.skipif(not READY, reason="the trainer's environment is not ready")

USER, PASSWORD, TOKEN = "user4711", "pass4711word", "SECRET4711TOKEN"
BASIC = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
SECRETS = [text.encode() for text in (USER, PASSWORD, TOKEN, BASIC, "type=Model", "fragment4711")]


class Server(http.server.ThreadingHTTPServer):
    """A model for who brings all secrets. It looks at the command lines of all programs meanwhile."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), Answers)
        self.content, self.given = content, 0
        self.command_lines: list[bytes] = []

    def handle_error(self, request, address) -> None:
        pass  # who only asked what there is hangs up

    @property
    def link(self) -> str:
        host = f"127.0.0.1:{self.server_address[1]}"
        return f"http://{USER}:{PASSWORD}@{host}/x.safetensors?type=Model&token={TOKEN}#fragment4711"


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):  # on Linux
            if b"dreambooth_ext.engine" in (line := read(path)):
                self.server.command_lines.append(line)
        known = self.headers.get("Authorization") == f"Basic {BASIC}"
        allowed = known and self.path == f"/x.safetensors?type=Model&token={TOKEN}"
        content = self.server.content if allowed else b""
        self.server.given += allowed
        self.send_response(200 if allowed else 401)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", '"1"')
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments) -> None:
        pass


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def server(tmp_path) -> Iterator[Server]:
    tiny = pytest.importorskip("tests.tiny")
    made = Server(tiny.single_file(tmp_path, sidecar=False).read_bytes())
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()
    for folder in downloads(made):
        shutil.rmtree(folder)


def downloads(server: Server) -> list[Path]:
    return list(MODELS.glob(f"127.0.0.1_{server.server_address[1]}-*"))


@pytest.fixture
def settings(tmp_path, server) -> dict[str, object]:
    training = pytest.importorskip("tests.training")
    chosen = {**training.USUAL, "instance_data_dir": training.pictures(tmp_path / "pictures"), "name": "taught"}
    left_out = ("checkpoints_total_limit", "optimizer")
    return {name: value for name, value in chosen.items() if name not in left_out} | {
        "base_model": server.link,
        "report_to": "tensorboard",
        "max_train_steps": 1,
    }


def assert_clean(*places: Path | str | bytes) -> None:
    """No secret in texts, nor in any byte of the files below folders, their names included."""
    for place in places:
        texts = [place.encode() if isinstance(place, str) else place] if not isinstance(place, Path) else []
        if isinstance(place, Path):
            assert place.exists(), place
            found = [place, *place.rglob("*")]
            texts = [os.fsencode(path) for path in found] + [path.read_bytes() for path in found if path.is_file()]
        for text in texts:
            for secret in SECRETS:
                assert secret not in text, (place, secret, text[max(0, text.find(secret) - 200) :][:400])


def call(*argv: object, **environment: str) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of the command line."""
    process = subprocess.run(
        [sys.executable, "-m", "dreambooth_ext", *map(str, argv)],
        capture_output=True,
        encoding="utf-8",
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONUTF8": "1", **environment},
        timeout=600,
    )
    assert_clean(process.stdout, process.stderr)
    return process.returncode, process.stdout, process.stderr


def test_by_the_command_line(tmp_path, server, settings):
    config = tmp_path / "config.json"
    config.write_text(json.dumps({**settings, "base_model": ""}), encoding="utf-8")
    places = ("--runs-dir", tmp_path / "runs", "--output-dir", tmp_path / "out")
    status, _, err = call("train", "--config", config, "--base-model", server.link, *places)
    assert status == 0, err
    assert "downloading the model" in err and (tmp_path / "out" / "taught.safetensors").is_file()
    (run,) = run_list.list_runs(tmp_path / "runs")
    assert run.config.base_model == links.bare(server.link)
    assert list((run.path / "tensorboard").rglob("*tfevents*"))
    (folder,) = downloads(server)
    assert_clean(tmp_path / "runs", tmp_path / "out", folder, json.dumps(run_list.describe(run)))
    assert server.given and all(line and not any(s in line for s in SECRETS) for line in server.command_lines)

    # the file is gone, and a run keeps no secrets: they are asked for, and can be given anew
    shutil.rmtree(folder)
    status, _, err = call("resume", run.path, "--max-train-steps", 2, *places)
    assert status == 1 and "401" in err and f"resume {run.id} --base-model LINK" in err
    status, _, err = call("resume", run.path, "--base-model", "https://other/x?y", *places, "--max-train-steps", 2)
    assert status == 1 and "began from" in err
    given = {links.VARIABLE: server.link}  # as whom a shell's history does not concern
    status, _, err = call("resume", run.path, "--max-train-steps", 2, *places, **given)
    assert status == 0, err
    assert_clean(tmp_path / "runs", tmp_path / "out", *downloads(server))
    assert run_folder.Run(run.path).state()["step"] == 2


def test_by_the_service(tmp_path, server, settings):
    """As a page asks: checked deeply, queued, trained, and once more after the program has forgotten."""
    starlette = pytest.importorskip("starlette.applications")
    from dreambooth_ext.host.hosts.folder_host import FolderHost
    from dreambooth_ext.host.service.service import Service
    from dreambooth_ext.host.web import routes
    from tests.host.asking import request

    answers: list[bytes] = []
    home = tmp_path / "home"

    def begin() -> Service:
        service = Service(FolderHost(home), Environment())
        routes.mount(app, service)
        service.start()
        return service

    def ask(method: str, path: str, values: object = None, refusable: bool = False) -> dict:
        body = json.dumps(values or {}).encode()
        headers = {"content-type": "application/json"}
        answer = request(app, method, f"{routes.PREFIX}/{path}", headers=headers, body=body)
        assert answer.status < 400 or refusable, answer.body
        answers.append(answer.body)
        return answer.json()

    def wait(id: str, step: int) -> dict:
        deadline = time.monotonic() + 400
        while (state := ask("GET", f"runs/{id}"))["status"] not in ("done", "failed") or state["step"] < step:
            assert time.monotonic() < deadline, state
            if state.get("problem"):  # a done run stays done where going on is refused
                break
            ask("GET", "queue")
            time.sleep(0.5)
        return state

    app = starlette.Starlette()
    service = begin()
    try:
        ask("POST", "presets", {"name": "mine", "settings": {"base_model": server.link}})
        checked = ask("POST", "check", {"config": settings, "deep": True})
        assert checked["problems"] == [] and checked["plan"]["steps"] == 1
        id = ask("POST", "runs", {"config": settings})["id"]
        assert wait(id, 1)["status"] == "done"
        for path in ("config", "events", "log", "artifacts"):
            ask("GET", f"runs/{id}/{path}")
        assert ask("GET", f"runs/{id}/config")["base_model"] == links.bare(server.link)
    finally:
        service.close()

    service = begin()  # which knows nothing of the link
    try:
        shutil.rmtree(downloads(server)[0])
        ask("POST", f"runs/{id}/commands", {"command": "continue", "max_train_steps": 2})
        failed = wait(id, 2)
        assert failed["problem"]["field"] == "base_model" and "--base-model LINK" in failed["problem"]["remedy"]
        again = {"command": "continue", "max_train_steps": 2, "base_model": server.link}
        deadline = time.monotonic() + 60
        while "error" in ask("POST", f"runs/{id}/commands", again, refusable=True):  # not settled yet
            assert time.monotonic() < deadline
            time.sleep(0.5)
        assert wait(id, 2)["status"] == "done"
    finally:
        service.close()
    assert_clean(home, *downloads(server), *answers)
    assert all(not any(secret in line for secret in SECRETS) for line in server.command_lines)


def test_the_look_for_secrets_finds_them(tmp_path):
    """Else the tests above would hold for anything."""
    (tmp_path / "x").mkdir()
    for content in (TOKEN.encode(), b"\0" + BASIC.encode()):
        (tmp_path / "x" / "file").write_bytes(content)
        with pytest.raises(AssertionError):
            assert_clean(tmp_path)
