"""Settings for training states, intermediate models and file formats."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import FORMATS
from ...facts.setting import setting


@dataclass(frozen=True)
class SavingSettings:
    checkpointing_steps: int = setting(
        500,
        "Save every N steps",
        "Save a training state to resume from, and a model to try; 0 saves only at the end.",
        group="Saving",
        minimum=0,
        maximum=10_000_000,
    )
    save_every_n_epochs: int = setting(
        0,
        "Save every N epochs",
        "Save at the end of every N-th epoch, instead of every N steps; 0 is off.",
        group="Saving",
        minimum=0,
        maximum=1_000_000,
    )
    checkpointing_start_step: int = setting(
        0, "Save from step", "Nothing is saved before this step.", group="Saving", minimum=0, maximum=10_000_000
    )
    checkpoints_total_limit: int | None = setting(
        1,
        "Keep training states",
        "How many training states to keep on disk (each is several times as large as the model); empty keeps all. "
        "Intermediate models are never deleted.",
        group="Saving",
        minimum=1,
        maximum=10_000,
    )
    save_intermediate_models: bool = setting(
        True, "Intermediate models", "Also write a model, <name>_<step>, at each save.", group="Saving"
    )
    save_precision: str = setting(
        "fp16",
        "Model precision",
        "Precision of the saved model.",
        group="Saving",
        choices=("fp16", "bf16", "fp32"),
    )
    save_format: str = setting(
        "safetensors",
        "File format",
        "safetensors is safe and fast. For old programs: ckpt, or pt for Textual Inversion.",
        group="Saving",
        choices=("safetensors", "ckpt", "pt"),
        methods=tuple(method for method, formats in FORMATS.items() if len(formats) > 1),
    )
