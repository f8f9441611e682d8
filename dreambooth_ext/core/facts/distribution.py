"""The setting `distribution`: how several processes share a run. With ddp each holds the whole model, with fsdp a
part of it."""

from __future__ import annotations

AUTO, DDP, FSDP = DISTRIBUTIONS = "auto", "ddp", "fsdp"
