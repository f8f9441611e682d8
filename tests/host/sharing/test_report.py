"""A run's page for others: everything that was learned, nothing that names the machine or its user."""

from __future__ import annotations

import base64
import getpass
import io
import json
import platform
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.host.sharing import html_file
from dreambooth_ext.host.sharing.run_page import evenly, file_name, run_page, smoothed

SECRET = "geheim"
MEASURED = {
    "learned": {"low": 0.5, "high": 0.125},
    "class": None,
    "word": 0.5,
    "good": 40,
    "overfitting": 79,
    "is_sure": False,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished one with previews of two prompts at eight steps, in Anna's folders."""
    folder = tmp_path_factory.mktemp("Anna Müller")
    config = RunConfig(
        name="zkz <b>person</b>",
        method="lora",
        base_model=f"https://anna:{SECRET}@example.org/sd15.safetensors?token={SECRET}",
        instance_data_dir=str(folder / "annas" / "photos"),
        network_weights="annas/own/start.safetensors",
        instance_prompt="a photo of zkz person",
        learning_rate=2e-4,
        max_train_steps=80,
        validation_prompts=["zkz & a dog", "zkz on a beach"],
    )
    made = run_folder.create(folder / "runs", config)
    plan = {"family": "SD 1.x", "pictures": 12, "class_pictures": 0, "device": "cuda", "mixed_precision": "fp16"}
    made.events.append("status", status="preparing", step=0)
    for step in range(1, 81):
        made.events.append("step", step=step, total=80, loss=None if step == 7 else 1 / step, lr={"unet": 2e-4})
        if step % 10 == 0:
            made.events.append("validation", step=step, loss=0.5 - step / 1000)
            made.events.append("measurement", step=step, held=1 - step / 100, drift=step / 1000, **MEASURED)
            draw(made, step)
    made.write_state(status="done", step=80, total=80, plan=plan, host=platform.node())
    return made


def draw(run, step: int) -> None:
    folder = run.samples / str(step)
    folder.mkdir(parents=True)
    for index, prompt in enumerate(["zkz & a dog", "zkz on a beach"]):
        info = PngInfo()
        info.add_text("parameters", f"hidden in a picture: {run.path}")
        path = folder / f"{index}_0.png"
        Image.new("RGB", (64, 64), (step, 100 * index, 0)).save(path, pnginfo=info)
        run.events.append("sample", step=step, prompt=prompt, seed=0, path=str(path))


@pytest.fixture(scope="module")
def text(run):
    return html_file.html(run_page(run))


def pictures(text: str) -> list[Image.Image]:
    found = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    return [Image.open(io.BytesIO(base64.b64decode(one))) for one in found]


def test_nothing_names_the_machine_its_user_or_a_folder(run, text):
    hidden = [SECRET, "annas", str(run.path), run.path.parent.name + "/", "Anna M", str(Path.home())]
    hidden += [platform.node(), f"/{getpass.getuser()}"]
    assert [word for word in hidden if word in text] == []
    assert "sd15.safetensors" in text and "start.safetensors" in text and "photos" in text
    for picture in pictures(text):
        assert not picture.getexif() and "comment" not in picture.info and "parameters" not in picture.info


def test_fields_that_the_trainer_writes_are_redacted_as_well(tmp_path):
    """Of a folder that somebody else has written, or an error's text in the wrong place."""
    said = "in /home/annam/x C:\\Users\\annam\\y hf_abcdefghijklmnop sk-abcdefghijklmnopqrstuv "
    said += f"https://annam:{SECRET}@x.org/a?token={SECRET}"
    made = run_folder.create(tmp_path / "runs", RunConfig(name="zkz", method="lora"))
    made.events.append("status", status="preparing", step=0)
    made.events.append("step", step=1, total=2, loss=0.5, lr={"unet": 1e-4, said: 1e-4})
    plan = dict.fromkeys(("family", "device", "mixed_precision"), said)
    made.write_state(status="done", step=1, total=2, plan=plan, version=said)
    shown = html_file.html(run_page(made))
    for part in ("annam", "hf_", "hf abc", "sk-", SECRET):
        assert part not in shown


def test_it_loads_nothing_and_runs_nothing(text):
    tags, links, reader = set(), [], HTMLParser()

    def noted(tag, attributes):
        tags.add(tag)
        links.extend(value for name, value in attributes if name in ("src", "href", "action", "data"))

    reader.handle_starttag = noted
    reader.feed(text)
    assert tags.isdisjoint({"script", "link", "iframe", "object", "form", "b"})  # the name's <b> is text
    assert links and all(link.startswith("data:image/jpeg") for link in links)
    assert "url(" not in text and "default-src 'none'" in text


def test_previews_stand_by_prompt_and_step(run, text):
    page = run_page(run)
    assert page.steps == [10, 20, 40, 50, 70, 80]
    assert [(row.prompt, len(row.pictures)) for row in page.rows] == [("zkz & a dog", 6), ("zkz on a beach", 6)]
    assert [prompt for prompt, _ in page.last] == ["zkz & a dog", "zkz on a beach"]
    shown = pictures(text)
    assert len(shown) == 2 + 12
    last, first = shown[0].getpixel((32, 32)), shown[2].getpixel((32, 32))
    assert abs(last[0] - 80) < 4 and abs(first[0] - 10) < 4


def test_facts_settings_and_versions_are_said_in_labels(text):
    shown = re.sub(r"<[^>]+>", " ", text)
    for part in ("LoRA", "80 of 80", "12", "SD 1.x", "Learning rate", "2e-4", "zkz &amp; a dog", "torch"):
        assert part in shown
    assert "learning_rate" not in shown and "instance_prompt" not in shown


def test_curves_have_a_line_for_each_series(run):
    loss, rate, measured = run_page(run).charts
    assert loss.count("<path") == 3  # the step without a loss cuts the first one in two
    assert "loss on pictures held out" in loss and "UNet" in rate
    assert measured.count("<path") == 3  # no class pictures were measured
    shown = ["your own pictures", "pictures kept back", "change for other prompts", "class pictures"]
    assert [label in measured for label in shown] == [True, True, True, False]
    bands = re.findall(r'<rect x="([\d.]+)" y="12" width="([\d.]+)".*?<title>(.*?)</title>', measured)
    assert [label for _, _, label in bands] == ["learning", "good to use", "perhaps overfitting"]
    across = 720 - 70 - 12
    assert float(bands[1][0]) == pytest.approx(70 + across * 40 / 80, abs=0.1)
    assert float(bands[1][1]) == pytest.approx(across * 39 / 80, abs=0.1)
    assert "perhaps overfitting</text>" not in measured  # it is too narrow for that


def test_the_verdict_is_shown_without_training_pictures_paths_and_names(tmp_path):
    made = run_folder.create(tmp_path / "runs", RunConfig(name="zkz", instance_data_dir=str(tmp_path / "annas")))
    made.write_state(status="done", step=80, total=80)
    folder = made.path / "verdict"
    folder.mkdir()
    for name, red in (("900_subject_0_1.png", 200), ("nearest_0.png", 20)):
        Image.new("RGB", (64, 64), (red, 0, 0)).save(folder / name)
    drawn = {"file": "verdict/900_subject_0_1.png", "nearest": "verdict/nearest_0.png"}
    proof = {**drawn, "step": 40, "caption": "a <hat>, as in me.png"}
    noted = json.dumps({"path": str(tmp_path / "annas" / "me.png")})
    (made.path / "pictures.jsonl").write_text(noted + "\n", encoding="utf-8")
    scores = {"likeness": 0.9, "prompt": 0.75, "variety": None, "copies": 0.02}
    verdict = {
        "sentence": f"Keep step 40 & no other of {tmp_path}/annas/me.png.",
        "run": "overtrained",
        "checkpoints": [{"step": 40, "state": "good", **scores}, {"step": 80, "state": "overtrained", **scores}, 3],
        "base": {"likeness": 0.1},
        "trust": {"level": "low", "sentence": f"Low: look into {tmp_path}/annas."},
        "judge": {"sentence": "The base judged."},
        "next_run": {"max_train_steps": 50, "with_prior_preservation": False},
        "next_run_sentence": "Fewer steps.",
        "proof": [proof, {**proof, "file": "verdict/nearest_0.png"}, {**proof, "file": "../../x.png"}],
    }
    (made.path / "verdict.json").write_text(json.dumps(verdict), encoding="utf-8")
    text = html_file.html(run_page(made))
    assert str(tmp_path) not in text and "me.png" not in re.sub(r"base64,[^\"]*", "", text)
    for part in (
        "Keep step 40 &amp; no other",
        "overtrained",
        "0.75",
        "The base judged.",
        "Steps: 50",
        "a &lt;hat&gt;",
    ):
        assert part in text, part
    assert "<th>base</th><td></td><td>0.10</td><td></td>" in text
    (shown,) = pictures(text)
    assert abs(shown.getpixel((32, 32))[0] - 200) < 6
    for broken in ("[1]", "{", '{"sentence": 3}', '{"sentence": "x", "checkpoints": 3, "proof": [4], "next_run": []}'):
        (made.path / "verdict.json").write_text(broken, encoding="utf-8")
        assert "</html>" in html_file.html(run_page(made))


def test_a_page_that_is_there_is_not_replaced_unasked(run, tmp_path, monkeypatch, capsys):
    out = tmp_path / "отчёт.html"
    monkeypatch.setattr(sys, "argv", ["report", str(run.path), "--out", str(out)])
    assert html_file.main() == 0
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert html_file.main() == 1
    assert "already exists" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--overwrite"])
    assert html_file.main() == 0
    monkeypatch.setattr(sys, "argv", ["report", str(run.path), "--out", str(tmp_path / "a.exe")])
    assert html_file.main() == 1
    quoted = f'"{tmp_path / "quoted.html"}"'
    monkeypatch.setattr(sys, "argv", ["report", run.id, "--runs-dir", f"'{run.path.parent}'", "--out", quoted])
    assert html_file.main() == 0 and (tmp_path / "quoted.html").is_file()


def test_a_run_that_has_drawn_and_measured_nothing_has_a_page(tmp_path):
    config = RunConfig(base_model="sd15.safetensors", instance_data_dir="photos", max_train_steps=3)
    made = run_folder.create(tmp_path, config.replace(instance_prompt="[filewords]"))
    made.write_state(plan={"device": "cpu", "mixed_precision": "no"})
    text = html_file.html(run_page(made))
    assert (
        "<dt>Words</dt>" not in text
        and "cpu, fp32" in text
        and "queued" in text
        and "<svg" not in text
        and "<img" not in text
    )


def test_a_damaged_run_is_named(run, tmp_path):
    made = run_folder.create(tmp_path, RunConfig(method="unconditional", train_data_dir="photos", max_train_steps=3))
    (made.path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        run_page(made)
    assert "config.json" in str(caught.value)


@pytest.mark.parametrize(
    "field, path, shown",
    [
        ("base_model", "stabilityai/sdxl-base", "stabilityai/sdxl-base"),
        ("base_model", r"C:\Users\anna\sd15.ckpt", "sd15.ckpt"),
        ("base_model", "/home/anna/sd15.ckpt", "sd15.ckpt"),
        ("base_model", "~/sd15.ckpt", "sd15.ckpt"),
        ("instance_data_dir", "anna/photos", "photos"),
        ("concepts[0].class_data_dir", "anna/photos/", "photos"),
    ],
)
def test_of_a_path_the_last_name_is_left(field, path, shown):
    assert file_name(field, path) == shown


def test_smoothing_is_a_mean_of_what_came_before():
    assert smoothed([1.0, 3.0, None, 5.0]) == [1.0, 2.0, None, 3.0]
    assert evenly([1, 2, 3], 6) == [1, 2, 3] and evenly(list(range(101)), 5) == [0, 25, 50, 75, 100]
