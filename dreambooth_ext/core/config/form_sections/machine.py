"""Settings of device, precision and memory."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.distribution import AUTO, DISTRIBUTIONS
from ...facts.methods import CHECKPOINT, FROZEN, PROMPTED
from ...facts.setting import setting


@dataclass(frozen=True)
class MachineSettings:
    device: str = setting(
        "auto", "Device", "auto, cuda, cuda:1, mps or cpu; cuda:0,1 trains the run on two cards.", group="Machine"
    )
    processes: int = setting(
        1,
        "Processes",
        "How many processes train the run together, each on a card of its own, from the device's card on. Each takes a "
        "batch of its own: a step learns from as many times more pictures.",
        group="Machine",
        minimum=1,
        maximum=64,
    )
    distribution: str = setting(
        AUTO,
        "Distribution",
        "How several processes share the work. ddp: each holds the whole model, which is fastest. fsdp: each holds a "
        "part of the weights, gradients and optimizer states, of a model trained in full that does not fit one card; "
        "more is sent in each step. zero1, zero2: DeepSpeed's ZeRO, if it is installed: each holds all weights and a "
        "part of the optimizer states, in zero2 also a part of the gradients. The result is the same. 'auto' is ddp, "
        "or fsdp where ddp would not fit.",
        group="Machine",
        choices=DISTRIBUTIONS,
    )
    mixed_precision: str = setting(
        "auto",
        "Mixed precision",
        "'auto' is bf16 on cards that support it, fp16 on other NVIDIA cards, and no on a CPU.",
        group="Machine",
        choices=("auto", "no", "fp16", "bf16"),
    )
    weight_precision: str = setting(
        "auto",
        "Precision of the weights",
        "Of the model in training. bf16 takes half the memory of fp32, and rounds at random so that small steps are "
        "not lost; it needs bf16 as mixed precision. 'auto' is fp32, or bf16 where memory would not suffice.",
        group="Machine",
        choices=("auto", "fp32", "bf16"),
        **CHECKPOINT,
    )
    frozen_precision: str = setting(
        "auto",
        "Precision of the base",
        "Of the model under a LoRA, a word or a hypernetwork, which stays as it is. bf16 means 16 bits, or 32 if mixed "
        "precision is 'no'. int8 and fp8 take half the memory of 16 bits, nf4 less than a third; steps take a little "
        "longer, and the base is slightly coarser. nf4 needs bitsandbytes. 'auto' is bf16, or int8 or nf4 where memory "
        "would not suffice.",
        group="Machine",
        choices=("auto", "bf16", "int8", "nf4", "fp8"),
        **FROZEN,
    )
    offload: str = setting(
        "auto",
        "Blocks in the computer's memory",
        "How much of the UNet stays in the computer's memory and is copied to the card block by block, while the block "
        "before computes: off, or a share such as 0.5; 1 is all of it. The result is the same. A fast card may have to "
        "wait for the copies, and the computer needs the memory that the card saves. 'auto' is off, unless the card is "
        "too small for anything else.",
        group="Machine",
    )
    gradient_checkpointing: bool | None = setting(
        None,
        "Gradient checkpointing",
        "Needs much less memory and about a fifth more time. Default: on for graphics cards whose memory would not "
        "suffice without, off on a CPU.",
        group="Machine",
    )
    vae_tiling: str = setting(
        "auto",
        "VAE in bands",
        "The VAE encodes and draws a few rows of a picture at a time: the same pictures but for rounding, in less than "
        "half the memory. On cards with bf16, previews and class pictures are then drawn in bf16. 'auto' does so only "
        "where memory would not suffice.",
        group="Machine",
        choices=("auto", "on", "off"),
        **PROMPTED,
    )
    compile: str = setting(
        "auto",
        "Compile the UNet",
        "With torch.compile, before the first step: that takes a minute or two, and makes each step faster. 'auto' "
        "does so on NVIDIA cards for runs of 2000 steps or more whose pictures have one size.",
        group="Machine",
        choices=("auto", "on", "off"),
    )
    attention: str = setting(
        "auto",
        "Attention",
        "'auto' is PyTorch's own fast attention (sdpa).",
        group="Machine",
        choices=("auto", "sdpa", "xformers", "eager"),
        **PROMPTED,
    )
