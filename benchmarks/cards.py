"""What the plan chooses for each card, as the table in docs/methods/README.md: `python -m benchmarks.count --cards`."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.facts.optimizer_facts import SMALL
from dreambooth_ext.engine import memory_choices
from dreambooth_ext.engine.memory_estimate import estimate
from dreambooth_ext.engine.models.base_model import LatentBase

from .fake_card import full_size

CARDS = (4, 6, 8, 12, 16, 24)  # GB as they are sold, which are 2^30 bytes
TAKEN = 600_000_000  # bytes of a card that its driver and a desktop take
SPARE = 16 * 10**9  # bytes of the computer's memory that are free
DOCUMENT = Path(__file__).parents[1] / "docs" / "methods" / "README.md"
BEGINS, ENDS = "<!-- cards: written by benchmarks.cards -->", "<!-- end of cards -->"

RESOLVED: dict[str, Any] = {  # what a card and the guide answer, before anything is chosen to fit
    "device": "cuda:0",
    "mixed_precision": "bf16",
    "gradient_checkpointing": True,
    "attention": "sdpa",
    "compile": "off",
    "prediction_type": "epsilon",
    "clip_skip": 1,
    "cache_latents": True,
    "zero_terminal_snr": False,
    "clip_grad_mode": "norm",
    "weight_precision": "fp32",
    "frozen_precision": "bf16",
    "vae_tiling": "off",
    "offload": "off",
    "distribution": "ddp",
    "learning_rate": 1e-5,
    "text_encoder_lr": 1e-5,
    "text_encoder_steps": 0,
    "offset_noise": 0.0,
    "use_captions": False,
    "with_prior_preservation": False,
}
METHODS: dict[str, dict[str, Any]] = {
    "Full": {"method": "dreambooth", "optimizer": SMALL},
    "LoRA, rank 16": {
        "method": "lora",
        "optimizer": "adamw",
        "network_type": "lora",
        "rank": 16,
        "alpha": 16.0,
        "target_modules": ["attention", "feed_forward"],
    },
    "Word": {
        "method": "textual_inversion",
        "optimizer": "adamw",
        "placeholder_token": "zkz",
        "initializer_token": "person",
        "num_vectors": 4,
    },
    "Hypernetwork": {"method": "hypernetwork", "optimizer": "adamw"},
    "Unconditional": {"method": "unconditional", "optimizer": SMALL, "resolution": 64, "cache_latents": False},
}
PROMPTED = tuple(METHODS)[:-1]  # those that train from a base
FAMILIES = {"sd1": "SD 1.5, 512", "sd2": "SD 2, 768", "sdxl": "SDXL, 1024"}
SIDES = {"sd1": 512, "sd2": 768, "sdxl": 1024}
WORDS = {  # of the table, by what is chosen
    ("clip_grad_mode", "previous_norm"): "norm before",
    ("vae_tiling", "on"): "VAE bands",
    ("weight_precision", "bf16"): "weights bf16",
    ("gradient_checkpointing", False): "no checkpoints",
    ("optimizer", "adafactor"): "adafactor",
    ("frozen_precision", "int8"): "base int8",
    ("frozen_precision", "nf4"): "base nf4",
    ("offload", "0.5"): "half streamed",
    ("offload", "1"): "streamed",
}


def resolved(method: str, family: str) -> RunConfig:
    """Return the config of one picture a step at the base's resolution, before anything is chosen to fit."""
    return RunConfig(**{**RESOLVED, "resolution": SIDES.get(family), **METHODS[method]})


def chosen(config: RunConfig, base: LatentBase, free: int) -> RunConfig:
    """Return a resolved config with what the plan chooses if so many bytes are free and nothing was asked for."""
    asked = config.replace(**{choice.setting: "auto" for choice in memory_choices.CHOICES})
    asked = asked.replace(gradient_checkpointing=None)
    with (
        mock.patch.object(memory_choices.memory, "free", lambda device: free),
        mock.patch.object(memory_choices.memory, "total", lambda device: free),
        mock.patch.object(memory_choices.memory, "spare", lambda: SPARE),
        mock.patch.object(memory_choices, "missing_packing", lambda name, device: None),
        mock.patch.object(memory_choices, "choose_optimizer", lambda method, device: SMALL),
    ):
        return memory_choices.fitted(asked, config, base)


def table() -> str:
    """Return the table in Markdown: for each card what is chosen, and how much the run then takes."""
    lines = ["| | " + " | ".join(f"{card} GB" for card in CARDS) + " |", "| --- " * (len(CARDS) + 1) + "|"]
    for family, title in FAMILIES.items():
        base = full_size(family)
        for method in PROMPTED:
            cells = [cell(resolved(method, family), base, card * 2**30 - TAKEN) for card in CARDS]
            lines.append(f"| {title}: {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(config: RunConfig, base: LatentBase, free: int) -> str:
    found = chosen(config, base, free)
    need = estimate(found, base, Subjects.of(found), draws=False)
    if need > free:
        return f"{need / 1e9:.1f} needed"
    made = [word for (setting, value), word in WORDS.items() if getattr(found, setting) == value]
    return f"{need / 1e9:.1f}: {', '.join(made)}" if made else f"{need / 1e9:.1f}"


def write() -> None:
    """Put the table into the document."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGINS)
    _, _, after = rest.partition(ENDS)
    DOCUMENT.write_text(f"{before}{BEGINS}\n\n{table()}\n\n{ENDS}{after}", encoding="utf-8", newline="\n")
