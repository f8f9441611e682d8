"""Steps, rates, optimizer and text encoders."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import METHODS, PROMPTED, TUNING
from ...facts.optimizer_facts import AUTO, OPTIMIZERS
from ...facts.setting import setting

LR_SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
# A word's vectors are few, and their length means something: nothing draws them to 0.
DECAYED = {"methods": tuple(method for method in METHODS if method != "textual_inversion")}


@dataclass(frozen=True)
class Training:
    max_train_steps: int | None = setting(
        None,
        "Steps",
        "How many steps to train. Left out: the guide's number for the subject and the number of pictures.",
        group="Training",
        minimum=1,
        maximum=10_000_000,
    )
    num_train_epochs: int | None = setting(
        None,
        "Epochs",
        "How many times to go through all pictures, instead of a number of steps.",
        group="Training",
        minimum=1,
        maximum=1_000_000,
    )
    train_batch_size: int = setting(
        1, "Batch size", "Pictures a step. More need more memory.", group="Training", minimum=1, maximum=512
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Gradient accumulation",
        "Batches whose gradients are added up before a step: a larger batch without more memory.",
        group="Training",
        minimum=1,
        maximum=1024,
    )
    learning_rate: float | str | None = setting(
        None,
        "Learning rate",
        "The UNet's rate. 2e-6 standard, 1e-6 careful, 3e-6 to 5e-6 aggressive. Or a schedule: '2e-6:1000, 1e-6' "
        "is 2e-6 up to step 1000, then 1e-6.",
        group="Training",
        kind="rate",
    )
    text_encoder_lr: float | str | None = setting(
        None,
        "Text encoder rate",
        "About half of the UNet's: 1e-6 standard, 4e-7 to 8e-7 careful, 2e-6 at most. A schedule as above.",
        group="Training",
        kind="rate",
        **TUNING,
    )
    text_encoder_2_lr: float | str | None = setting(
        None,
        "Second text encoder's rate",
        "SDXL's second text encoder. Left out: as the first.",
        group="Training",
        kind="rate",
        **TUNING,
    )
    text_encoder_steps: int | None = setting(
        None,
        "Text encoder steps",
        "The text encoder trains along from the start for so many steps, then is frozen and leaves memory. Faces 350, "
        "styles 500, objects 300; 0 leaves it alone.",
        group="Training",
        minimum=0,
        maximum=10_000_000,
        **TUNING,
    )
    lr_scheduler: str = setting(
        "constant", "Rate schedule", "How the rate goes over the run.", group="Training", choices=LR_SCHEDULERS
    )
    lr_warmup_steps: int = setting(
        0,
        "Warm-up steps",
        "Steps in which the rate rises from 0; every schedule but 'constant' has them.",
        group="Training",
        minimum=0,
        maximum=1_000_000,
        goes_with=("lr_scheduler", *(name for name in LR_SCHEDULERS if name != "constant")),
    )
    lr_num_cycles: int = setting(
        1,
        "Restarts",
        "Cycles of cosine_with_restarts.",
        group="Training",
        minimum=1,
        maximum=1000,
        goes_with=("lr_scheduler", "cosine_with_restarts"),
    )
    lr_power: float = setting(
        1.0,
        "Power",
        "Power of the polynomial schedule.",
        group="Training",
        minimum=0,
        maximum=10,
        goes_with=("lr_scheduler", "polynomial"),
    )
    optimizer: str = setting(
        AUTO,
        "Optimizer",
        "'auto' is 8-bit AdamW where a whole model learns on an NVIDIA card, and AdamW elsewhere. "
        "Prodigy finds its own rate (set it to 1).",
        group="Training",
        choices=(AUTO, *OPTIMIZERS),
    )
    optimizer_args: dict = setting(
        {},
        "Optimizer arguments",
        'Further arguments of the optimizer, by their names: {"betas": [0.9, 0.99], "eps": 1e-8}.',
        group="Training",
    )
    weight_decay: float = setting(
        1e-2,
        "Weight decay",
        "Decoupled weight decay; with sgd, as L2 in the gradients.",
        group="Training",
        minimum=0,
        maximum=10,
        **DECAYED,
    )
    max_grad_norm: float | str = setting(
        1.0,
        "Gradient clipping",
        "Largest global norm of the gradients, or a schedule as of rates, '1:500, 0.1'. 0 is off, and saves memory: "
        "each gradient is let go as soon as it was used (not with fp16, accumulation or Prodigy).",
        group="Training",
        kind="rate",
        minimum=0,
        maximum=1e6,
    )
    clip_grad_mode: str = setting(
        "norm",
        "Clip by",
        "norm: all gradients are made smaller together where their norm is too large; value: each number is cut off by "
        "itself at that limit.",
        group="Training",
        choices=("norm", "value"),
    )
    clip_skip: int | None = setting(
        None,
        "Clip skip",
        "Take the text encoder's last layer but so many (1 is the last), as in the WebUI. Many anime models want 2.",
        group="Training",
        minimum=1,
        maximum=12,
        **PROMPTED,
    )
    max_token_length: int = setting(
        75,
        "Token length",
        "Longest caption in tokens, in chunks of 75 as in the WebUI.",
        group="Training",
        minimum=75,
        maximum=225,
        **PROMPTED,
    )
    use_ema: bool = setting(
        False, "EMA", "Keep a moving average of the UNet's weights, and export that.", group="Training"
    )
    ema_decay: float = setting(
        0.9999, "EMA decay", "The average's highest decay.", group="Training", minimum=0, maximum=1
    )
    seed: int = setting(42, "Seed", "Same seed, same run.", group="Training", minimum=0, maximum=2**32 - 1)
