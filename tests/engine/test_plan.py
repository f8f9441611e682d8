"""What a run is said to take: refused where it cannot fit, and told where others are in the way."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from accelerate import init_empty_weights

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.facts.optimizer_facts import OPTIMIZERS
from dreambooth_ext.engine import memory_estimate, plan, worker
from dreambooth_ext.engine.deep_check import inspect
from dreambooth_ext.engine.methods.hypernetwork import HypernetworkTraining
from dreambooth_ext.engine.models.architecture import shipped
from dreambooth_ext.engine.models.base_model import LatentBase, open_base
from dreambooth_ext.engine.models.key_maps import folded_shape, ties
from dreambooth_ext.engine.runtime import memory
from tests import training
from tests.training import Trainer

GB = 10**9


def device_of(monkeypatch, total: float, free: float) -> None:
    monkeypatch.setattr(memory, "total", lambda device: int(total * GB))
    monkeypatch.setattr(memory, "free", lambda device: int(free * GB))


def test_memory_that_others_hold_is_a_warning_and_the_run_trains(trainer, monkeypatch):
    device_of(monkeypatch, total=8, free=0.1)
    run = trainer.train()
    (warning,) = training.events(run, "warning")
    assert "of 7.5 GB are free, other programs hold the rest" in warning["what"]
    assert warning["remedy"].startswith("What helps: close other programs; ") and warning["field"] == "device"
    answer = inspect(trainer.config().as_dict(), trainer.folder)
    assert answer["problems"] == [] and answer["warnings"][-1]["message"] == warning["what"]
    assert answer["plan"]["memory_free"] == GB / 10 and answer["plan"]["memory_available"] == 8 * GB


def test_memory_that_the_device_does_not_have_is_a_problem(trainer, monkeypatch):
    device_of(monkeypatch, total=0.5, free=0.4)
    monkeypatch.setattr(worker, "make_method", None)
    run = trainer.train(ends=worker.BAD_INPUT)
    (error,) = training.events(run, "error")
    assert "which has 476.8 MB" in error["what"] and error["field"] == "train_batch_size"
    assert training.events(run, "warning") == []


def test_several_processes_do_not_clip_by_an_earlier_norm_and_say_so(trainer):
    asked = trainer.config(clip_grad_mode="previous_norm", optimizer="adamw", max_grad_norm=1)
    with closing(open_base(str(trainer.base))) as base:
        config = plan.resolve(asked, base)
        assert plan.warnings(asked, config, base) == []
        (warning,) = plan.warnings(asked, config.replace(processes=3), base)
    assert warning.code == "plan.clip_with_processes" and "3 processes" in warning.message


def test_memory_that_is_free_is_nothing_to_speak_of(trainer, monkeypatch):
    device_of(monkeypatch, total=8, free=4)
    assert training.events(trainer.train(), "warning") == []


def test_what_is_free_on_a_card_includes_what_this_process_has_reserved():
    with (
        mock.patch("torch.cuda.mem_get_info", return_value=(3 * GB, 12 * GB)),
        mock.patch("torch.cuda.memory_reserved", return_value=2 * GB),
    ):
        assert memory.free(torch.device("cuda", 0)) == 5 * GB
    assert 0 < memory.free(torch.device("cpu")) <= memory.total(torch.device("cpu"))


class Full(LatentBase):
    """A model of full size, of which there are only the sizes."""

    def __init__(self, family: str):
        self.architecture = shipped(family)
        self._chosen_prediction, self.sidecar_yaml = "epsilon", None

    def ldm_tensors(self, component: str) -> dict[str, SimpleNamespace]:
        with init_empty_weights():
            parts = self._maker(component)().state_dict()
        return {
            tie.ldm: SimpleNamespace(shape=folded_shape(tie, parts[tie.diffusers[0]].shape))
            for tie in ties(self.architecture)[component]
        }

    def parameter_counts(self) -> dict[str, int]:
        return {name: count * 1_000_000 for name, count in COUNTS[self.family.name].items()}


COUNTS = {  # in millions
    "sd1": {"unet": 860, "vae": 84, "text_encoders": 123},
    "sdxl": {"unet": 2567, "vae": 84, "text_encoders": 817},
}
USUAL = {"mixed_precision": "bf16", "gradient_checkpointing": True, "resolution": None, "device": "cuda:0"}
FULL = {**USUAL, "method": "dreambooth", "optimizer": "adamw8bit", "text_encoder_steps": 0}
LORA = {**USUAL, "method": "lora", "rank": 16, "target_modules": ["attention", "feed_forward"], "optimizer": "adamw"}
LORA |= {"text_encoder_steps": 0, "network_type": "lora"}
HYPER = {**USUAL, "method": "hypernetwork", "optimizer": "adamw", "text_encoder_steps": 0}
WHOLE, FUSED = {"gradient_checkpointing": False}, {"max_grad_norm": 0}
BEFORE, HALVED = {"clip_grad_mode": "previous_norm"}, {"weight_precision": "bf16"}
SMALLEST = {"optimizer": "adafactor"}


def estimate(family: str, *, draws: bool = False, **settings) -> float:
    """In GB, as for a card."""
    config, base = RunConfig(**settings), Full(family)
    config = config.replace(resolution=config.resolution or base.resolution, cache_latents=True)
    return plan.estimate(config, base, Subjects.of(config), draws) / GB


# Counted by benchmarks/count.py, on full-size UNets: weights, what learns, optimizer states, the step's peak
STEPS = {
    "SD 1.5, all weights": ("sd1", FULL, 3.44 + 1.72 + 3.55),
    "and in the backward pass": ("sd1", FULL | FUSED, 3.44 + 1.72 + 0.50),
    "and without checkpoints": ("sd1", FULL | WHOLE, 3.44 + 1.72 + 3.75),
    "SD 1.5, weights in bf16": ("sd1", FULL | HALVED, 1.72 + 1.72 + 1.85),
    "bf16 in the backward pass": ("sd1", FULL | HALVED | BEFORE, 1.72 + 1.72 + 0.31),
    "bf16 with Adafactor": ("sd1", FULL | HALVED | BEFORE | SMALLEST, 1.72 + 0.69),
    "SD 1.5, LoRA": ("sd1", LORA, 1.75 + 0.05 + 0.31),
    "LoRA without checkpoints": ("sd1", LORA | WHOLE, 1.75 + 0.05 + 1.29),
    "LoRA of 768": ("sd1", LORA | {"resolution": 768}, 1.75 + 0.05 + 0.70),
    "SDXL, all weights": ("sdxl", FULL, 10.27 + 5.13 + 10.54),
    "SDXL in the backward pass": ("sdxl", FULL | FUSED, 10.27 + 5.13 + 1.06),
    "SDXL without checkpoints": ("sdxl", FULL | WHOLE, 10.27 + 5.13 + 13.17),
    "SDXL, weights in bf16": ("sdxl", FULL | HALVED, 5.13 + 5.13 + 5.44),
    "SDXL, bf16 in the backward pass": ("sdxl", FULL | HALVED | BEFORE, 5.13 + 5.13 + 1.03),
    "SDXL, bf16 with Adafactor": ("sdxl", FULL | HALVED | BEFORE | SMALLEST, 5.13 + 1.03),
    "SDXL, LoRA": ("sdxl", LORA, 5.31 + 0.34 + 0.81),
    "SDXL, LoRA without checkpoints": ("sdxl", LORA | WHOLE, 5.31 + 0.34 + 8.57),
}


@pytest.mark.parametrize(("family", "settings", "counted"), STEPS.values(), ids=STEPS)
def test_a_step_takes_what_was_counted(family, settings, counted):
    assert estimate(family, **settings) == pytest.approx(counted + 0.7, rel=0.04)


WORDS = {**USUAL, "method": "textual_inversion", "optimizer": "adamw", "num_vectors": 4, "placeholder_token": "zkz"}
WHOLE_RUNS = {  # the same, of what else a run holds; with 0.7 for the libraries, as `python -m benchmarks.count` tells
    "SDXL, LoRA of rank 128 with the text encoders": ("sdxl", LORA | {"text_encoder_steps": 10, "rank": 128}, 14.97),
    "SD 1.5, LoHa without checkpoints": ("sd1", LORA | WHOLE | {"network_type": "loha"}, 3.89),
    "SD 1.5, a word": ("sd1", WORDS, 3.00),
    "SDXL, a word": ("sdxl", WORDS, 8.48),
    "SD 1.5, a batch of four": ("sd1", FULL | {"method": "finetune", "train_batch_size": 4}, 9.90),
    "SD 1.5 with its average": ("sd1", FULL | BEFORE | {"use_ema": True}, 6.44),
    "SD 1.5 with captions that vary": ("sd1", FULL | BEFORE | {"use_captions": True, "shuffle_tags": True}, 6.39),
    "SDXL, half streamed": ("sdxl", FULL | HALVED | BEFORE | SMALLEST | {"offload": "0.5"}, 4.54),
    "SDXL, all streamed": ("sdxl", FULL | BEFORE | {"offload": "1", "vae_tiling": "on"}, 2.65),
    "SDXL, hypernetwork": ("sdxl", HYPER, 7.38),
}


@pytest.mark.parametrize(("family", "settings", "counted"), WHOLE_RUNS.values(), ids=WHOLE_RUNS)
def test_a_run_takes_what_was_counted(family, settings, counted):
    assert estimate(family, **settings) == pytest.approx(counted, rel=0.08)


TEXTS, WORD = {"text_encoder_steps": 350}, {"method": "textual_inversion", "num_vectors": 4, "placeholder_token": "zkz"}
TOLD = {  # rows of the tables in docs/methods: of what all methods cost, and on each one's own page
    "DreamBooth with the text encoder": FULL | TEXTS,
    "DreamBooth, `text_encoder_steps` 0": FULL,
    "the same, `clip_grad_mode` previous_norm": FULL | BEFORE,
    "the same, `weight_precision` bf16": FULL | BEFORE | HALVED,
    "the same, `optimizer` adafactor": FULL | BEFORE | HALVED | SMALLEST,
    "Fine-tuning, batch of 4": FULL | {"method": "finetune", "train_batch_size": 4},
    "LoRA, rank 16, with the text encoder": LORA | TEXTS,
    "LoRA, rank 128, with the text encoder": LORA | TEXTS | {"rank": 128},
    "LoRA, rank 16, `text_encoder_steps` 0": LORA,
    "the same, `frozen_precision` int8": LORA | {"frozen_precision": "int8"},
    "the same, `frozen_precision` nf4": LORA | {"frozen_precision": "nf4"},
    "Textual Inversion": HYPER | WORD,
    "Hypernetwork": HYPER,
}


@pytest.mark.parametrize(("row", "settings"), TOLD.items(), ids=TOLD)
def test_the_documentation_tells_these_estimates(row, settings):
    sizes = [f"{estimate(family, **settings):.1f} GB" for family in ("sd1", "sdxl")]
    for page in ("README", settings["method"]):
        text = (Path(__file__).parents[2] / "docs" / "methods" / f"{page}.md").read_text(encoding="utf-8")
        assert f"| {row} | {sizes[0]} | {sizes[1]} |" in text, page


def test_several_processes_hold_all_gradients_while_a_step_computes():
    """In the buckets by which they are averaged, as the counted step's activations are there, too."""
    whole = 10.27 + 5.13 + 13.17  # weights, states, and a step's activations and copies
    assert estimate("sdxl", **FULL | WHOLE, processes=2) == pytest.approx(0.7 + whole + 10.27, rel=0.04)
    assert estimate("sdxl", **FULL | HALVED, processes=2) > estimate("sdxl", **FULL | HALVED)
    assert estimate("sdxl", **LORA, processes=8) < estimate("sdxl", **LORA) + 0.2


def test_gradients_stay_beside_the_later_passes_of_a_step():
    """Of accumulated batches, and of class pictures in another bucket. Counted by benchmarks/count.py."""
    assert estimate("sd1", **FULL, gradient_accumulation_steps=2) == pytest.approx(9.83, rel=0.02)
    assert estimate("sd1", **FULL | WHOLE, gradient_accumulation_steps=2) > estimate("sd1", **FULL | WHOLE) + 2
    buckets = {"with_prior_preservation": True, "enable_bucket": True}
    assert estimate("sd1", **FULL | HALVED | BEFORE | buckets) == pytest.approx(6.17, rel=0.02)


def test_the_peak_is_the_largest_stages_and_not_their_sum():
    """Pictures are encoded before the models that train are there; previews come between two steps, without
    gradients; class pictures are drawn before anything else."""
    assert estimate("sd1", **LORA | {"resolution": 2048}) == pytest.approx(0.7 + 0.33 + 10.74, rel=0.01)
    assert estimate("sd1", **LORA, validation_prompts=["x"]) == pytest.approx(0.7 + 1.80 + 0.33 + 0.81, rel=0.02)
    assert estimate("sd1", **FULL, validation_prompts=["x"]) == estimate("sd1", **FULL)
    prior = LORA | {"with_prior_preservation": True}
    assert estimate("sdxl", **prior, draws=True) == pytest.approx(0.7 + 5.13 + 0.34 + 3.22, rel=0.01)
    assert estimate("sdxl", **prior) < 9  # they are there


def test_where_class_pictures_take_the_most_the_remedy_is_to_bring_some():
    """A LoRA's training takes less than the base that draws; a whole model's takes more."""
    lora = RunConfig(**LORA | {"resolution": 1024, "with_prior_preservation": True})
    assert "plan.own_class_pictures" in codes(plan.memory_remedies(lora))
    for other in (lora.replace(with_prior_preservation=False), lora.replace(method="dreambooth")):
        assert "plan.own_class_pictures" not in codes(plan.memory_remedies(other))


def test_a_base_in_fewer_bits_is_a_remedy_where_it_is_frozen():
    def fewer(**settings) -> list[str]:
        remedies = plan.memory_remedies(RunConfig(**LORA | {"resolution": 512} | settings))
        return [remedy.values["precision"] for remedy in remedies if remedy.code == "plan.frozen_in"]

    assert [fewer(frozen_precision=bits) for bits in ("auto", "bf16", "int8", "nf4")] == [["int8"]] * 2 + [["nf4"], []]
    assert not fewer(method="dreambooth")


def codes(remedies) -> list[str]:
    return [remedy.code for remedy in remedies]


@pytest.mark.parametrize("optimizer", ["auto", *OPTIMIZERS])
def test_a_smaller_optimizer_is_only_offered_where_it_takes_the_same_steps(optimizer):
    """8-bit AdamW has a larger state than Adafactor and SGD, and steps unlike Lion's and Prodigy's."""
    remedies = plan.memory_remedies(RunConfig(**FULL | {"optimizer": optimizer}))
    assert ("plan.small_optimizer" in codes(remedies)) == (optimizer in ("auto", "adamw"))


def test_what_helps_where_memory_lacks_is_one_sentence():
    config = RunConfig(**FULL | {"optimizer": "adamw", "train_batch_size": 2, "device": "cpu"})
    made = SimpleNamespace(disk=0, disk_available=10**12, memory=8 * 2**30, memory_available=4 * 2**30, device="cpu")
    (problem,) = plan.resource_problems(made, config)
    assert problem.code == "plan.memory" and problem.field == "train_batch_size"
    assert problem.remedy.startswith("What helps, the most effective first: set train_batch_size to 1 (")
    assert "; use an optimizer with a smaller state (adamw8bit, paged_adamw8bit); " in problem.remedy
    assert problem.remedy.endswith("; close other programs.")


def test_a_vae_that_stays_takes_its_room_beside_the_training():
    config = RunConfig(**LORA | {"resolution": 1024, "cache_latents": False})
    kept = plan.estimate(config, Full("sd1"), Subjects.of(config), False)
    assert kept / GB == pytest.approx(0.7 + 1.80 + 0.33 + 2.68, rel=0.02)


@pytest.mark.parametrize("settings", [LORA, FULL, HYPER])
def test_text_encoders_that_stay_for_tags_that_vary_take_their_room(settings):
    """In 16 bits, beside the training; where they learn, or a word does, they are counted already."""
    fixed, varied = estimate("sdxl", **settings), estimate("sdxl", **settings, shuffle_tags=True)
    assert varied - fixed == pytest.approx(2 * 0.817, rel=0.01)
    assert estimate("sdxl", **settings, tag_dropout=0.1) == varied


def test_text_encoders_that_learn_are_counted_once():
    for learning in ({**LORA, "text_encoder_steps": 5}, {**FULL, "text_encoder_steps": 5}):
        assert estimate("sd1", **learning, shuffle_tags=True) == estimate("sd1", **learning)


def test_autocasts_copies_count_where_it_keeps_them(monkeypatch):
    """A hypernetwork's, two bytes for each of its numbers."""
    settings = {**HYPER, "layer_structure": [1, 4, 4, 1], "max_grad_norm": 0, "resolution": 512}
    kept = estimate("sd1", **settings)
    learning = HypernetworkTraining.share(RunConfig(**settings), Full("sd1")).unet
    assert learning > 10**7
    monkeypatch.setattr(memory_estimate, "COPIES", 0)
    assert kept - estimate("sd1", **settings) == pytest.approx(2 * learning / GB, rel=0.01)


def test_class_pictures_that_are_there_are_not_drawn_again(tmp_path, monkeypatch):
    asked = []
    original = plan.estimate
    monkeypatch.setattr(plan, "estimate", lambda *a, draws, **b: asked.append(draws) or original(*a, draws, **b))
    trainer = Trainer(tmp_path)
    prior = {"class_prompt": "a photo of a person", "num_class_images": 1}
    inspect(trainer.config(**prior).as_dict(), trainer.folder / "runs")
    trainer.train(**prior)
    inspect(trainer.config(**prior).as_dict(), trainer.folder / "runs")
    assert asked == [True] * 4 + [False] * 3  # two estimates where it is still to say when pictures are encoded
