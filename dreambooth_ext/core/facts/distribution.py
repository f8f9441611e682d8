"""The setting `distribution`: how several processes share a run. With ddp each holds the whole model, with fsdp a
part of it, with zero1 and zero2 (the stages of DeepSpeed's ZeRO) the whole model and a part of what trains it."""

from __future__ import annotations

AUTO, DDP, FSDP, ZERO1, ZERO2 = DISTRIBUTIONS = "auto", "ddp", "fsdp", "zero1", "zero2"
STAGES = {ZERO1: 1, ZERO2: 2}  # of ZeRO
OTHER_ZEROS = ("zero", "zero3", "deepspeed")  # what users of other programs ask for
DIVIDED = (FSDP, *STAGES)  # each process has a part of the optimizer's state
