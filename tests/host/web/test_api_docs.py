"""docs/api.md: names every route, and its examples run as they are."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest

uvicorn = pytest.importorskip("uvicorn")

from dreambooth_ext.host.web import routes as api  # noqa: E402
from tests.host.asking import Asked  # noqa: E402

REPOSITORY = Path(__file__).parents[3]
TEXT = (REPOSITORY / "docs" / "api.md").read_text(encoding="utf-8")


def test_every_route_and_method_is_there(tmp_path):
    routes = {
        (method, path.lstrip("/").replace(":path", ""))
        for path, methods in api.table(Asked(tmp_path).service).items()
        for method in methods
    }
    told = set(re.findall(r"`(GET|POST|PUT|DELETE) ([a-z]+(?:/[a-z{}]+)*)", TEXT))
    assert routes <= told
    assert {known for known in told if known not in routes} <= {
        ("PUT", "pictures/{set}/{stem}"),
        ("GET", "pictures/folder/{name}"),
        ("GET", "runs/nobody"),
    }


@pytest.mark.skipif(
    os.name == "nt" or not shutil.which("curl") or not shutil.which("bash"), reason="needs bash and curl"
)
def test_the_examples_run(tmp_path):
    asked = Asked(tmp_path)
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(asked.app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        blocks = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
        script = "\n".join(blocks).replace("127.0.0.1:7870", f"127.0.0.1:{listening.getsockname()[1]}")
        script = script.replace("curl -s", "curl -s -w '\\n%{http_code} %{url_effective}\\n'")
        script = re.sub(r"\$\(curl -s -w '[^']*'", "$(curl -s", script)  # what is looked for in an answer
        (tmp_path / "dreambooth_ext").symlink_to(REPOSITORY / "dreambooth_ext")
        done = subprocess.run(["bash", "-eu", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
        answered = re.findall(r"^(\d{3}) (http\S+)$", done.stdout, re.MULTILINE)
        assert len(answered) > 35 and [one for one in answered if not one[0].startswith("2")] == [], done.stdout
    finally:
        server.should_exit = True
        thread.join(10)
    answers = [json.loads(example) for example in re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)]
    assert answers == [asked.service.version(), asked.get("runs/nobody").json()]


def test_what_is_refused_or_warned_of_has_a_code(tmp_path):
    asked = Asked(tmp_path)
    answer = asked.post("runs", {"config": {"name": "a/b", "max_train_steps": -1}}).json()
    faults = [answer, *answer["problems"]]
    found = asked.post("check", {"config": {"max_train_steps": -1}}).json()
    assert answer["code"] == answer["problems"][0]["code"] and len(faults) > 2
    for told in [*faults, *found["problems"], *found["warnings"], asked.get("nowhere").json()]:
        assert told["code"] and isinstance(told["values"], dict) and told["remedy"], told
