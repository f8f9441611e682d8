"""What the plan chooses where a card is small: the fastest that fits what is free of it, and says so."""

from __future__ import annotations

import pytest

from benchmarks import cards
from benchmarks.fake_card import full_size
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.engine import memory_choices
from dreambooth_ext.engine.memory_estimate import estimate, stages, weight_bytes

GB = 10**9
DEFAULT = {c.setting: cards.RESOLVED.get(c.setting) for c in memory_choices.CHOICES} | {"gradient_checkpointing": False}


def made(method: str, family: str, free: float, **settings) -> dict:
    config, base = cards.resolved(method, family).replace(**settings), full_size(family)
    found = cards.chosen(config, base, int(free * GB))
    values = {setting: getattr(found, setting) for setting in DEFAULT if setting != "optimizer"}
    values["optimizer"] = found.optimizer
    first = DEFAULT | {"optimizer": config.optimizer}
    return {setting: value for setting, value in values.items() if value != first[setting]}


BEFORE, CHECKPOINTS, HALVED = (
    {"clip_grad_mode": "previous_norm"},
    {"gradient_checkpointing": True},
    {"weight_precision": "bf16"},
)
BANDS, SMALLEST = {"vae_tiling": "on"}, {"optimizer": "adafactor"}


@pytest.mark.parametrize(
    ("method", "family", "free", "wanted"),
    [
        ("Full", "sd1", 24, {}),
        ("Full", "sd1", 10, BEFORE),
        ("Full", "sd1", 7, {**BEFORE, **CHECKPOINTS}),
        ("Full", "sd1", 5, {**BEFORE, **CHECKPOINTS, **HALVED}),
        ("Full", "sd1", 3.3, {**BEFORE, **CHECKPOINTS, **HALVED, **SMALLEST}),
        ("Full", "sdxl", 13, {**BEFORE, **CHECKPOINTS, **HALVED}),
        ("Full", "sdxl", 7, {**BEFORE, **CHECKPOINTS, **HALVED, **SMALLEST}),
        ("Full", "sdxl", 6, {**BEFORE, **CHECKPOINTS, **HALVED, **SMALLEST, "offload": "0.5"}),
        ("LoRA, rank 16", "sd1", 6, {}),
        ("LoRA, rank 16", "sd1", 3, CHECKPOINTS),
        ("LoRA, rank 16", "sdxl", 24, {}),
        ("LoRA, rank 16", "sdxl", 8, CHECKPOINTS),
        ("LoRA, rank 16", "sdxl", 5, {**CHECKPOINTS, "frozen_precision": "int8"}),
    ],
)
def test_the_fastest_that_fits_is_chosen(method, family, free, wanted):
    assert made(method, family, free) == wanted


@pytest.mark.parametrize("family", cards.FAMILIES)
@pytest.mark.parametrize("method", cards.PROMPTED)
def test_for_every_card_it_fits_and_nothing_chosen_could_be_spared(method, family):
    config, base = cards.resolved(method, family), full_size(family)
    for card in cards.CARDS:
        free = card * 2**30 - cards.TAKEN
        found = cards.chosen(config, base, free)
        need = estimate(found, base, Subjects.of(found), draws=False)
        if need > free:
            continue  # the table says so
        for choice in memory_choices.CHOICES:
            usual = False if choice.setting == "gradient_checkpointing" else getattr(config, choice.setting)
            if getattr(found, choice.setting) == choice.value != usual:
                fewer = found.replace(**{choice.setting: usual})
                gaps = 1 if fewer.gradient_checkpointing else memory_choices.GAPS
                assert estimate(fewer, base, Subjects.of(fewer), draws=False) * gaps > free, choice


def test_the_table_of_the_documentation_is_what_the_plan_chooses():
    assert f"{cards.BEGINS}\n\n{cards.table()}\n\n{cards.ENDS}" in cards.DOCUMENT.read_text(encoding="utf-8")


@pytest.mark.parametrize("settings", [{"mixed_precision": "fp16"}, {"gradient_accumulation_steps": 2}])
def test_clipping_is_left_alone_where_that_saves_nothing(settings):
    assert "clip_grad_mode" not in made("Full", "sd1", 1, **settings)


def test_several_processes_average_all_gradients():
    found = made("Full", "sd1", 10, processes=2)
    assert found and "clip_grad_mode" not in found


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_several_processes_keep_their_gradients_memory(precision):
    config, base = cards.resolved("Full", "sdxl"), full_size("sdxl")
    config = config.replace(validation_prompts=("a",), weight_precision=precision, clip_grad_mode="norm")
    one, two = (stages(config.replace(processes=count), base, Subjects.of(config)) for count in (1, 2))
    gradients = weight_bytes(config) * base.parameter_counts()["unet"]
    assert two["previews"] - one["previews"] == pytest.approx(gradients, rel=0.01)
    assert 0 < two["training"] - one["training"] < gradients


def test_what_was_asked_for_is_left_alone(monkeypatch):
    config, base = cards.resolved("Full", "sd1").replace(optimizer="adamw"), full_size("sd1")
    for name in ("free", "total"):
        monkeypatch.setattr(memory_choices.memory, name, lambda device: GB)
    assert memory_choices.fitted(config, config, base) == config


def test_what_others_use_of_a_card_counts_unless_nothing_would_fit_then(monkeypatch):
    config, base = cards.resolved("LoRA, rank 16", "sdxl"), full_size("sdxl")
    asked = config.replace(gradient_checkpointing=None, frozen_precision="auto")
    monkeypatch.setattr(memory_choices, "missing_packing", lambda name, device: None)
    monkeypatch.setattr(memory_choices.memory, "total", lambda device: 24 * GB)
    for free, wanted in ((23, (False, "bf16")), (8, (True, "bf16")), (5, (True, "int8")), (0.5, (False, "bf16"))):
        monkeypatch.setattr(memory_choices.memory, "free", lambda device, free=free: int(free * GB))
        found = memory_choices.fitted(asked, config, base)
        assert (found.gradient_checkpointing, found.frozen_precision) == wanted


def test_class_pictures_that_are_to_be_drawn_have_to_fit_too():
    settings = {"with_prior_preservation": True, "class_prompt": "a person"}
    assert made("LoRA, rank 16", "sdxl", 9, **settings)["vae_tiling"] == "on"
    assert "vae_tiling" not in made("LoRA, rank 16", "sdxl", 9)


def test_one_sentence_names_what_was_chosen_why_and_its_cost(monkeypatch):
    monkeypatch.setattr(memory_choices.memory, "total", lambda device: 12 * 2**30)
    monkeypatch.setattr(memory_choices.memory, "free", lambda device: 8 * 2**30)
    config = cards.resolved("Full", "sd1")
    asked = config.replace(
        gradient_checkpointing=None, weight_precision="auto", optimizer="auto", clip_grad_mode="auto"
    )
    (said,) = memory_choices.warnings(asked, config.replace(weight_precision="bf16"))
    assert said.message.startswith(
        "cuda:0 has 8.0 GB of memory free, of 12.0 GB: so that the run fits, it trains with "
    )
    assert "weight_precision bf16 (weights are rounded at random" in said.message
    assert "gradient_checkpointing on" in said.message and "adamw8bit" not in said.message
    assert memory_choices.warnings(asked, config) == []  # as usual
    assert memory_choices.warnings(config, config.replace(weight_precision="fp32")) == []
