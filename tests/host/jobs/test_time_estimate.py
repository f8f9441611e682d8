"""Time estimates: the pace of a run like this one, else the guide's figure, else an honest "unknown"."""

from __future__ import annotations

import json
import platform

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.host.jobs import time_estimate

CARD = "NVIDIA GeForce RTX 4090, 24 GB, CUDA 12.1"
PLAN = {
    "family": "Stable Diffusion 1",
    "unet_work": 1.0,
    "usual_bytes": 2e9,
    "resolution": 512,
    "device": "cuda",
    "optimizer": "adamw8bit",
    "mixed_precision": "bf16",
    "memory": 10e9,
    "steps": 1500,
    "text_encoder_steps": 350,
}
XL = {"family": "Stable Diffusion XL", "unet_work": 2.2, "usual_bytes": 6.9e9}
CONFIG = RunConfig(
    name="a", base_model="someone/model", max_train_steps=1500, checkpointing_steps=500, with_prior_preservation=False
)


def past_run(runs_dir, steps=60, config=CONFIG, plan=PLAN, host=None):
    """A finished run: 2 s a step with the text encoder (a third of the steps), 1 s without; a preview takes 30 s;
    saving 8 s; loading and caching 20 s; class pictures 100 s."""
    run = run_folder.create(runs_dir, config)
    events, now = [], 1000.0

    def add(passed, **event):
        nonlocal now
        now += passed
        events.append({"n": len(events) + 1, "time": now, **event})

    add(0, type="status", status="queued")
    add(5, type="status", status="preparing")
    add(100, type="status", status="preparing", stage_code="stages.class_pictures", done=1, of=1)
    add(15, type="status", status="preparing", stage_code="stages.caching_latents", done=1, of=1)
    add(5, type="status", status="preparing", plan=plan)
    add(0, type="status", status="training")
    for step in range(1, steps + 1):
        rates = {"unet": 1e-6, "text_encoder": 1e-6} if step <= steps // 3 else {"unet": 1e-6}
        add(2 if len(rates) > 1 else 1, type="step", step=step, loss=0.1, lr=rates)
        if step % 20 == 0:
            add(30, type="sample", step=step)
            add(0, type="status", status="saving")
            add(5, type="status", status="training")
            add(0, type="checkpoint", step=step)
            add(0, type="status", status="saving")
            add(3, type="artifact", step=step)
            add(0, type="status", status="training")
    add(0, type="status", status="done")
    run.events.path.write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    run.write_state(status="done", host=host or platform.node(), plan=plan)
    return run


def test_the_pace_of_an_earlier_run(tmp_path):
    run = past_run(tmp_path)
    answer = time_estimate.seconds(tmp_path, CONFIG, PLAN, CARD)
    assert answer["seconds"] == 350 * 2 + 1150 * 1 + 3 * 8 + 20
    assert answer["source"] == f"by the pace of {run.config.name}"


def test_long_logs_are_read_at_both_ends(tmp_path, monkeypatch):
    past_run(tmp_path, steps=2000)
    monkeypatch.setattr(time_estimate, "REACH", 20_000)
    answer = time_estimate.seconds(tmp_path, CONFIG, PLAN)
    assert answer["seconds"] == pytest.approx(350 * 2 + 1150 + 3 * 8 + 20, abs=1)


def test_the_newest_run_counts(tmp_path):
    for number, name in enumerate(("older", "newer")):
        run = past_run(tmp_path, config=CONFIG.replace(name=name))
        run.path.rename(tmp_path / f"2026010{number}-000000-a")
    assert "by the pace of newer" in time_estimate.seconds(tmp_path, CONFIG, PLAN)["source"]


def test_previews_are_counted_the_base_s_among_them(tmp_path):
    """As they were measured, in proportion to their sampling steps; else by the work of a step."""
    shown = CONFIG.replace(validation_steps=400, validation_prompts=["a", "b"], validation_num_images=2)
    past_run(tmp_path)
    plain = time_estimate.seconds(tmp_path, CONFIG, PLAN)["seconds"]
    count = 4 * (1 + 3 + 1)  # before the first step, at 400, 800 and 1200, and after the last
    assert time_estimate.previews(shown, 1500) == count and time_estimate.previews(CONFIG, 1500) == 0
    by_work = time_estimate.seconds(tmp_path, shown, PLAN)["seconds"] - plain
    assert by_work == round(count * 1 * 2 * 25 / 4)  # a step takes a second, and four passes
    run = past_run(tmp_path / "drew", config=shown)
    events = run.events.path.read_text(encoding="utf-8").replace(
        '"type": "sample"', '"type": "status", "status": "training", "stage_code": "stages.previews"'
    )
    lines = [json.loads(line) for line in events.splitlines()]
    drawn = []
    for event in lines:
        drawn.append(event)
        if event.get("stage_code") == "stages.previews":
            drawn.append({"time": event["time"] + 6, "type": "sample", "step": event["step"]})
    text = "".join(json.dumps({**event, "n": n}) + "\n" for n, event in enumerate(drawn, 1))
    run.events.path.write_text(text, encoding="utf-8")
    assert time_estimate.seconds(tmp_path / "drew", shown, PLAN)["seconds"] - plain == pytest.approx(count * 6, abs=1)
    slower = shown.replace(validation_inference_steps=50)
    assert time_estimate.seconds(tmp_path / "drew", slower, PLAN)["seconds"] - plain == pytest.approx(count * 12, abs=1)


@pytest.mark.parametrize(
    ("config", "plan", "times"),
    [
        ({"train_batch_size": 2}, {}, 2),
        ({"gradient_accumulation_steps": 4}, {}, 4),
        ({"with_prior_preservation": True}, {}, 2),  # a class picture with each
        ({"gradient_checkpointing": False}, {}, 3 / 4),  # forward, to the inputs, to the weights; without the second
        ({"method": "lora"}, {}, 3 / 4),  # without the way back to the weights
        ({"cache_latents": False}, {}, (4 + 1.6) / 4),
        ({}, {"resolution": 768}, 2.25),
        ({}, {"resolution": 256}, 1 / 4),
        ({}, {**XL, "resolution": 1024}, 4 * 2.2),
        ({}, {"mixed_precision": "no"}, 2),
        ({}, {"optimizer": "adamw"}, 1),
        ({"attention": "eager"}, {"memory": 20e9}, 1),
    ],
)
def test_a_run_of_another_size_in_proportion(tmp_path, config, plan, times):
    run = past_run(tmp_path)
    answer = time_estimate.seconds(tmp_path, CONFIG.replace(**config), {**PLAN, **plan}, CARD)
    saves = 3 * 8 if "method" not in config and "family" not in plan else 0  # others write other files
    assert answer["source"] == f"about, by {run.config.name}, a run of another size or kind"
    assert answer["source_code"] == "guide.time_of_other_run"
    assert answer["seconds"] == pytest.approx(times * (350 * 2 + 1150 * 1) + saves + 20, abs=1)


def test_steps_of_text_encoders_count_as_they_were_measured(tmp_path):
    past_run(tmp_path)
    plan = {**PLAN, "resolution": 1024, "text_encoder_steps": 0}
    assert time_estimate.seconds(tmp_path, CONFIG, plan)["seconds"] == 4 * 1500 + 3 * 8 + 20


def test_of_others_the_nearest_counts(tmp_path):
    for number, side in enumerate((256, 448, 1024)):
        run = past_run(tmp_path, config=CONFIG.replace(name=f"of_{side}"), plan={**PLAN, "resolution": side})
        run.path.rename(tmp_path / f"2026010{number}-000000-a")
    assert "by of_448" in time_estimate.seconds(tmp_path, CONFIG, PLAN)["source"]
    past_run(tmp_path)  # one like this comes before all
    assert time_estimate.seconds(tmp_path, CONFIG, PLAN)["source"].startswith("by the pace")


@pytest.mark.parametrize(("plan", "host"), [({"device": "cpu"}, None), ({}, "another"), ({"resolution": None}, None)])
def test_other_devices_say_nothing(tmp_path, plan, host):
    past_run(tmp_path, plan={**PLAN, **plan}, host=host)
    answer = time_estimate.seconds(tmp_path, CONFIG, PLAN)
    assert (answer["seconds"], answer["source"]) == (None, "no run on this device yet")


def test_a_small_model_says_nothing_of_a_large_one(tmp_path):
    sizes = {"small": 20e6, "half": 2e9, "full": 7.7e9, "xl": 6.9e9}
    for name, size in sizes.items():
        with (tmp_path / f"{name}.safetensors").open("wb") as stream:
            stream.truncate(int(size))  # takes no room on the disk
    of = {name: CONFIG.replace(base_model=str(tmp_path / f"{name}.safetensors")) for name in sizes}
    larger = {**PLAN, "resolution": 768}
    past_run(tmp_path / "runs", config=of["small"])
    assert time_estimate.seconds(tmp_path / "runs", of["half"], larger)["seconds"] is None
    assert time_estimate.seconds(tmp_path / "runs", of["small"], larger)["seconds"] == round(2.25 * 1850 + 24 + 20)
    past_run(tmp_path / "runs", config=of["half"])
    for name in ("full", "xl"):
        plan = {**larger, **XL} if name == "xl" else larger
        assert time_estimate.seconds(tmp_path / "runs", of[name], plan)["seconds"] > 1850
    assert (
        time_estimate.seconds(tmp_path / "runs", CONFIG.replace(base_model="someone/a-model"), larger)["seconds"] > 1850
    )
    gone = CONFIG.replace(base_model=str(tmp_path / "gone.safetensors"))
    assert time_estimate.seconds(tmp_path / "runs", gone, larger)["seconds"] is None


def test_damaged_runs_are_passed_over(tmp_path):
    good = past_run(tmp_path, config=CONFIG.replace(name="good"))
    good.path.rename(tmp_path / "20200101-000000-a")
    for damage in ("state.json", "config.json", "events.jsonl"):
        (past_run(tmp_path).path / damage).write_bytes(b"\xff{")
    past_run(tmp_path).write_state(plan={**PLAN, "memory": None, "resolution": "512"})
    past_run(tmp_path, steps=1)  # no two steps to measure between
    assert "by the pace of good" in time_estimate.seconds(tmp_path, CONFIG, PLAN)["source"]


def test_the_guides_figure(tmp_path):
    answer = time_estimate.seconds(tmp_path, CONFIG, PLAN, CARD)
    assert answer["seconds"] == 600
    assert answer["source"] == "about, by the guide's 8 to 12 minutes on a RTX 4090"
    assert time_estimate.seconds(tmp_path, CONFIG, {**PLAN, "steps": 3000}, "Tesla T4, 15 GB")["seconds"] == 3600
    assert time_estimate.seconds(tmp_path, CONFIG.replace(train_batch_size=4), PLAN, CARD)["seconds"] == 2400
    assert time_estimate.seconds(tmp_path, CONFIG, {**PLAN, "resolution": 1024}, CARD)["seconds"] == 2400
    for card, plan in ((CARD, {"device": "cpu"}), ("NVIDIA H200", {}), ("", {}), (CARD, {"unet_work": None})):
        assert time_estimate.seconds(tmp_path, CONFIG, {**PLAN, **plan}, card)["seconds"] is None


def test_without_a_plan(tmp_path):
    assert time_estimate.seconds(tmp_path, CONFIG, {})["seconds"] is None
