"""`download` from a terminal: a process of its own, and a server on this machine."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import pytest

from tests.commands.test_cli import call, needs_environment, start
from tests.engine.downloads.servers import Answers, whole

pytestmark = needs_environment


def test_facts_are_told_and_nobody_was_asked(server, model, tmp_path):
    """Without a terminal nothing is fetched before --yes; then it is where the WebUI finds it."""
    server.answers["/портрет.safetensors"] = whole(model)
    link = server.link("/портрет.safetensors?token=SECRET")
    (tmp_path / "Моя WebUI" / "models" / "Stable-diffusion").mkdir(parents=True)
    code, out, err = call("download", link, "--webui", tmp_path / "Моя WebUI")
    assert code == 1 and "Add --yes" in err and "портрет.safetensors" in out and "Stable Diffusion 1" in out
    assert "SECRET" not in out + err and not [path for path in tmp_path.rglob("*") if path.is_file()]
    code, out, err = call("download", link, "--webui", tmp_path / "Моя WebUI", "--yes")
    path = tmp_path / "Моя WebUI" / "models" / "Stable-diffusion" / "портрет.safetensors"
    assert code == 0 and out.splitlines()[-1] == str(path) and path.read_bytes() == model and "SECRET" not in out + err


def test_what_is_wrong_is_told(server, tmp_path):
    server.answers["/a.ckpt"] = whole(b"<html>")
    code, _, err = call("download", server.link("/a.ckpt"), "--into", tmp_path / "new", "--yes")
    assert code == 1 and "web page" in err
    assert call("download", "ftp://host/x", "--into", tmp_path)[0] == 1
    assert call("download", server.link(), "--webui", tmp_path / "nowhere")[0] == 1
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.skipif(sys.platform == "win32", reason="sends Ctrl-C as POSIX does")
def test_ctrl_c_and_the_same_command_again(server, model, tmp_path):
    half = len(model) // 2

    def slow(http: Answers) -> None:
        if "Range" in http.headers or len(server.asked) < 3:  # looks, and the second half
            return whole(model)(http)
        http.start(Content_Length=len(model), ETag='"1"')
        http.wfile.write(model[:half])
        server.released.wait(60)

    server.answers["/a.safetensors"] = slow
    words = ("download", server.link("/a.safetensors"), "--into", tmp_path, "--yes")
    process = start(*words, start_new_session=True)
    deadline = time.monotonic() + 120
    while sum(path.stat().st_size for path in tmp_path.rglob("*.part")) < half and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in err and "the same command goes on" in err
    assert not (tmp_path / "a.safetensors").exists()
    assert call(*words[:-1], "--discard")[0] == 0 and not [path for path in tmp_path.rglob("*") if path.is_file()]
    assert call(*words)[0] == 0 and Path(tmp_path, "a.safetensors").read_bytes() == model
