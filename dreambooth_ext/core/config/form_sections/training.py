"""Settings of training: steps, learning rates, optimizer and text encoders."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import METHOD_LABELS, PROMPTED, TUNING
from ...facts.optimizer_facts import AUTO, OPTIMIZERS
from ...facts.setting import setting

LR_SCHEDULERS = ("constant", "constant_with_warmup", "linear", "cosine", "cosine_with_restarts", "polynomial")
# A word's vectors are few, and their length means something: nothing draws them to 0.
DECAYED = {"methods": tuple(method for method in METHOD_LABELS if method != "textual_inversion")}


@dataclass(frozen=True)
class TrainingSettings:
    max_train_steps: int | None = setting(
        None,
        "Steps",
        "How many steps to train. Default: what the guide recommends for the subject and the number of pictures.",
        group="Training",
        minimum=1,
        maximum=10_000_000,
    )
    num_train_epochs: int | None = setting(
        None,
        "Epochs",
        "How many times to go through all pictures. Replaces the number of steps.",
        group="Training",
        minimum=1,
        maximum=1_000_000,
    )
    train_batch_size: int = setting(
        1, "Batch size", "Pictures per step. Larger batches need more memory.", group="Training", minimum=1, maximum=512
    )
    gradient_accumulation_steps: int = setting(
        1,
        "Gradient accumulation",
        "How many batches to add up before each step. Works like a larger batch, without needing more memory.",
        group="Training",
        minimum=1,
        maximum=1024,
    )
    learning_rate: float | str | None = setting(
        None,
        "Learning rate",
        "Learning rate of the UNet. For a whole model: 2e-6 standard, 1e-6 careful, 3e-6 to 5e-6 aggressive. Also "
        "takes a schedule: '2e-6:1000, 1e-6' means 2e-6 up to step 1000, then 1e-6.",
        group="Training",
        kind="rate",
    )
    text_encoder_lr: float | str | None = setting(
        None,
        "Text encoder learning rate",
        "About half the UNet's: 1e-6 standard, 4e-7 to 8e-7 careful, 2e-6 at most. Also takes a schedule.",
        group="Training",
        kind="rate",
        **TUNING,
    )
    text_encoder_2_lr: float | str | None = setting(
        None,
        "Second text encoder learning rate",
        "For SDXL's second text encoder. Default: the same as for the first.",
        group="Training",
        kind="rate",
        **TUNING,
    )
    text_encoder_steps: int | None = setting(
        None,
        "Text encoder steps",
        "For how many steps, from the start, the text encoder is trained as well. Then it is frozen, and its memory "
        "is freed. Faces 350, styles 500, objects 300; 0 does not train it.",
        group="Training",
        minimum=0,
        maximum=10_000_000,
        **TUNING,
    )
    lr_scheduler: str = setting(
        "constant",
        "Learning-rate schedule",
        "How the learning rate changes over the run.",
        group="Training",
        choices=LR_SCHEDULERS,
    )
    lr_warmup_steps: int = setting(
        0,
        "Warm-up steps",
        "Steps over which the learning rate rises from 0. Works with every schedule except 'constant'.",
        group="Training",
        minimum=0,
        maximum=1_000_000,
        goes_with=("lr_scheduler", *(name for name in LR_SCHEDULERS if name != "constant")),
    )
    lr_num_cycles: int = setting(
        1,
        "Restarts",
        "Number of cycles of the cosine_with_restarts schedule.",
        group="Training",
        minimum=1,
        maximum=1000,
        goes_with=("lr_scheduler", "cosine_with_restarts"),
    )
    lr_power: float = setting(
        1.0,
        "Power",
        "Exponent of the polynomial schedule.",
        group="Training",
        minimum=0,
        maximum=10,
        goes_with=("lr_scheduler", "polynomial"),
    )
    optimizer: str = setting(
        AUTO,
        "Optimizer",
        "'auto' is 8-bit AdamW when a whole model is trained on an NVIDIA card, and AdamW otherwise. Prodigy finds "
        "the learning rate by itself: set the learning rate to 1. prodigy_schedulefree does so with a quarter of the "
        "memory, and averages its steps instead of lowering the rate.",
        group="Training",
        choices=(AUTO, *OPTIMIZERS),
    )
    optimizer_args: dict = setting(
        {},
        "Optimizer arguments",
        'Further arguments of the optimizer, by name: {"betas": [0.9, 0.99], "eps": 1e-8}.',
        group="Training",
    )
    weight_decay: float = setting(
        1e-2,
        "Weight decay",
        "Decoupled weight decay; sgd adds it to the gradients instead (L2).",
        group="Training",
        minimum=0,
        maximum=10,
        **DECAYED,
    )
    max_grad_norm: float | str = setting(
        1.0,
        "Gradient clipping",
        "Largest global norm of the gradients, or a schedule such as '1:500, 0.1'. 0 turns clipping off and saves "
        "memory: each gradient is freed as soon as it has been used (not with fp16, gradient accumulation or Prodigy).",
        group="Training",
        kind="rate",
        minimum=0,
        maximum=1e6,
    )
    clip_grad_mode: str = setting(
        "auto",
        "Clip by",
        "norm: when their norm is too large, all gradients are scaled down together; previous_norm: the same, by the "
        "norm of the step before, so that each gradient is freed as soon as it has been used; value: each number is "
        "cut off at the limit by itself. 'auto' is norm, or previous_norm where memory would not suffice.",
        group="Training",
        choices=("auto", "norm", "previous_norm", "value"),
    )
    clip_skip: int | None = setting(
        None,
        "Clip skip",
        "Which of the text encoder's layers to use, counted from the end as in the WebUI: 1 is the last. Many anime "
        "models need 2.",
        group="Training",
        minimum=1,
        maximum=12,
        **PROMPTED,
    )
    max_token_length: int = setting(
        75,
        "Token length",
        "Maximum length of a caption in tokens, in chunks of 75 as in the WebUI.",
        group="Training",
        minimum=75,
        maximum=225,
        **PROMPTED,
    )
    use_ema: bool = setting(
        False, "EMA", "Keep a moving average of the UNet's weights, and save that as the model.", group="Training"
    )
    ema_decay: float = setting(
        0.9999, "EMA decay", "Upper limit of the moving average's decay.", group="Training", minimum=0, maximum=1
    )
    seed: int = setting(42, "Seed", "Same seed, same run.", group="Training", minimum=0, maximum=2**32 - 1)
