"""Unconditional models that draw for the tab: a `generate` that only pretends, asked for over the API."""

from __future__ import annotations

import sys
import time

import pytest

pytest.importorskip("starlette")
Image = pytest.importorskip("PIL.Image")

from dreambooth_ext.core.config.run_config import RunConfig  # noqa: E402
from dreambooth_ext.core.runs import run_folder  # noqa: E402
from dreambooth_ext.core.system import files  # noqa: E402
from tests.host.asking import FAR, Asked  # noqa: E402

# What `generate` does as far as anybody sees it from outside; it waits for the file "go" and fails where "broken" is.
PRETENDED = """
import sys, time, pathlib
from PIL import Image
options = dict(zip(sys.argv[4::2], sys.argv[5::2]))
out, model = pathlib.Path(options["--out"]), pathlib.Path(options["--model"])
while not (model / "go").exists():
    time.sleep(0.02)
if (model / "broken").exists():
    sys.exit("error: model: it is damaged.")
out.mkdir(parents=True, exist_ok=True)
first = int(options["--seed"])
for seed in range(first, first + int(options["--num-images"])):
    Image.new("RGB", (8, 8), (seed % 255, int(options.get("--steps", 0)) % 255, 0)).save(out / f"0_{seed}.png")
"""


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = Asked(tmp_path)
    script = tmp_path / "pretended.py"
    script.write_text(PRETENDED, encoding="utf-8")
    trainer = made.service.environment
    trainer.command = lambda argv: [sys.executable, str(script), *argv]
    trainer.variables = lambda changes=None: None
    return made


@pytest.fixture
def run(asked) -> run_folder.Run:
    made = run_folder.create(asked.service.runs_dir, RunConfig(method="unconditional", name="flowers"))
    made.write_state(status="done", step=4)
    model = made.artifacts / "flowers"
    files.write_json(model / "model_index.json", {"_class_name": "DDPMPipeline"})
    about = {"kind": "unconditional", "name": "flowers", "file": "flowers", "step": 4, "final": True}
    made.events.append("artifact", **about, path=str(model), size=7)
    return made


def draw(asked: Asked, run: run_folder.Run, **wanted):
    return asked.post(f"runs/{run.id}/draw", {"artifact": "flowers", **wanted})


def ended(asked: Asked, run: run_folder.Run) -> dict:
    deadline = time.monotonic() + 30
    while (found := asked.get(f"runs/{run.id}/draw").json())["state"] == "drawing" and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_pictures_are_drawn_one_drawing_at_a_time(asked, run, tmp_path):
    assert asked.get(f"runs/{run.id}/draw").json() == {
        "state": "none", "done": 0, "of": 0, "problem": "", "pictures": []
    }  # fmt: skip
    assert draw(asked, run, num_images=3, seed=5, steps=9).status == 202
    found = asked.get(f"runs/{run.id}/draw").json()
    assert (found["state"], found["done"], found["of"]) == ("drawing", 0, 3)
    refused = draw(asked, run)
    assert refused.status == 409 and "are being drawn" in refused.json()["error"]
    (run.artifacts / "flowers" / "go").touch()
    found = ended(asked, run)
    assert (found["state"], found["done"], found["problem"]) == ("done", 3, "")
    assert sorted(one["seed"] for one in found["pictures"]) == [5, 6, 7]
    picture = asked.get(f"runs/{run.id}/drawn/flowers/0_6.png")
    assert picture.status == 200 and picture.headers["content-type"] == "image/png"
    path = run.path / "drawn" / "flowers" / "0_6.png"
    assert picture.body == path.read_bytes() and Image.open(path).getpixel((0, 0)) == (6, 9, 0)
    assert draw(asked, run, seed=6).status == 202  # the same seed again, without steps
    assert ended(asked, run)["pictures"][0]["seed"] == 6
    assert Image.open(path).getpixel((0, 0)) == (6, 0, 0)


def test_what_went_wrong_is_told(asked, run):
    for name in ("go", "broken"):
        (run.artifacts / "flowers" / name).touch()
    draw(asked, run)
    found = ended(asked, run)
    assert found["state"] == "failed" and found["problem"] == "model: it is damaged."


def test_what_cannot_be_drawn_is_refused(asked, run, tmp_path):
    assert draw(asked, run, num_images=65).status == 422
    assert draw(asked, run, num_images=0).json()["field"] == "num_images"
    assert draw(asked, run, steps="many").status == 422
    assert draw(asked, run, artifact="../flowers").status == 404
    assert asked.post("runs/none/draw", {"artifact": "flowers"}).status == 404
    assert asked.get(f"runs/{run.id}/drawn/flowers/0_0.png").status == 404
    for part in ("..", "config.json", "..\\x.png"):
        assert asked.get(f"runs/{run.id}/drawn/{part}/0_0.png").status == 404
    assert asked.post(f"runs/{run.id}/draw", {"artifact": "flowers"}, client=FAR).status in (401, 403)
    other = run_folder.create(asked.service.runs_dir, RunConfig(name="checkpoint"))
    (other.artifacts / "mine.safetensors").write_bytes(b"x")
    about = {"kind": "checkpoint", "name": "mine", "file": "mine.safetensors", "step": 4, "final": True}
    other.events.append("artifact", **about, path="", size=1)
    assert asked.post(f"runs/{other.id}/draw", {"artifact": "mine.safetensors"}).status == 422
    asked.service.dispatcher.running = [other]
    assert draw(asked, run).status == 409


def test_it_is_for_no_webui(asked, run, tmp_path):
    assert "base_model" not in asked.post("check", {"config": {"method": "unconditional"}}).json()["filled_in"]
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    Image.new("RGB", (64, 64)).save(pictures / "a.png")
    values = {"method": "unconditional", "name": "roses", "train_data_dir": str(pictures)}
    made = asked.post("runs", {"config": values})
    assert made.status == 201, made.json()
    config = asked.get(f"runs/{made.json()['id']}/config").json()
    assert config["train_data_dir"] == str(pictures) and config["base_model"] == ""


def test_a_shared_servers_login_and_disk_are_its_owners(asked, monkeypatch):
    monkeypatch.setattr(asked.host, "restricted", lambda: "It is shared.")
    for given in ({"push_to_hub": True}, {"dataset_name": "me/world"}, {"train_data_dir": "/etc"}):
        answer = asked.post("check", {"config": {"method": "unconditional", **given}})
        assert answer.status == 403 and answer.json()["field"] == next(iter(given))
