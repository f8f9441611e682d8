"""Time estimates: the pace of a run like this one, else the guide's figure, else an honest "unknown"."""

from __future__ import annotations

import json
import platform

import pytest

from dreambooth_ext import runs
from dreambooth_ext.config import RunConfig
from dreambooth_ext.host import estimate

CARD = "NVIDIA GeForce RTX 4090, 24 GB, CUDA 12.1"
PLAN = {
    "family": "Stable Diffusion 1",
    "resolution": 512,
    "device": "cuda",
    "optimizer": "adamw8bit",
    "mixed_precision": "bf16",
    "memory": 10e9,
    "steps": 1500,
    "text_encoder_steps": 350,
}
CONFIG = RunConfig(name="a", max_train_steps=1500, checkpointing_steps=500, with_prior_preservation=False)


def past_run(runs_dir, steps=60, config=CONFIG, plan=PLAN, host=None):
    """A finished run: 2 s a step with the text encoder (a third of the steps), 1 s without; a preview takes 30 s;
    saving 8 s; loading and caching 20 s; class pictures 100 s."""
    run = runs.create(runs_dir, config)
    events, now = [], 1000.0

    def add(passed, **event):
        nonlocal now
        now += passed
        events.append({"n": len(events) + 1, "time": now, **event})

    add(0, type="status", status="queued")
    add(5, type="status", status="preparing")
    add(100, type="status", status="preparing", stage="drawing class pictures", done=1, of=1)
    add(15, type="status", status="preparing", stage="caching latents", done=1, of=1)
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
    answer = estimate.seconds(tmp_path, CONFIG, PLAN, CARD)
    assert answer == {"seconds": 350 * 2 + 1150 * 1 + 3 * 8 + 20, "source": f"the pace of {run.id} on this machine"}


def test_long_logs_are_read_at_both_ends(tmp_path, monkeypatch):
    past_run(tmp_path, steps=2000)
    monkeypatch.setattr(estimate, "REACH", 20_000)
    answer = estimate.seconds(tmp_path, CONFIG, PLAN)
    assert answer["seconds"] == pytest.approx(350 * 2 + 1150 + 3 * 8 + 20, abs=1)


def test_the_newest_run_counts(tmp_path):
    for number in range(2):
        run = past_run(tmp_path)
        run.path.rename(tmp_path / f"2026010{number}-000000-a")
    assert "20260101-000000-a" in estimate.seconds(tmp_path, CONFIG, PLAN)["source"]


@pytest.mark.parametrize(
    ("config", "plan", "host"),
    [
        ({"train_batch_size": 2}, {}, None),
        ({"with_prior_preservation": True}, {}, None),
        ({"gradient_checkpointing": False}, {}, None),
        ({}, {"resolution": 768}, None),
        ({}, {"family": "Stable Diffusion XL"}, None),
        ({}, {"device": "cpu"}, None),
        ({}, {"memory": 1e9}, None),  # a small base of the same family
        ({}, {}, "another"),
    ],
)
def test_other_runs_say_nothing(tmp_path, config, plan, host):
    past_run(tmp_path, config=CONFIG.replace(**config), plan={**PLAN, **plan}, host=host)
    assert estimate.seconds(tmp_path, CONFIG, PLAN) == {"seconds": None, "source": "no run on this machine yet"}


def test_damaged_runs_are_passed_over(tmp_path):
    good = past_run(tmp_path)
    good.path.rename(tmp_path / "20200101-000000-a")
    for damage in ("state.json", "config.json", "events.jsonl"):
        (past_run(tmp_path).path / damage).write_bytes(b"\xff{")
    past_run(tmp_path).write_state(plan={**PLAN, "memory": None})
    past_run(tmp_path, steps=1)  # no two steps to measure between
    assert "20200101-000000-a" in estimate.seconds(tmp_path, CONFIG, PLAN)["source"]


def test_the_guides_figure(tmp_path):
    answer = estimate.seconds(tmp_path, CONFIG, PLAN, CARD)
    assert answer == {"seconds": 600, "source": "the guide's 8 to 12 minutes for 1500 steps on a RTX 4090"}
    assert estimate.seconds(tmp_path, CONFIG, {**PLAN, "steps": 3000}, "Tesla T4, 15 GB")["seconds"] == 3600
    for card, plan in ((CARD, {"resolution": 768}), (CARD, {"device": "cpu"}), ("NVIDIA H200", {}), ("", {})):
        assert estimate.seconds(tmp_path, CONFIG, {**PLAN, **plan}, card)["seconds"] is None
    assert estimate.seconds(tmp_path, CONFIG.replace(train_batch_size=4), PLAN, CARD)["seconds"] is None


def test_without_a_plan(tmp_path):
    assert estimate.seconds(tmp_path, CONFIG, {})["seconds"] is None
