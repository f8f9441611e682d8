"""What every base model can tell, whatever is trained from it: what plan, memory estimate, saver and worker ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from diffusers import AutoencoderKL

from ...core.errors import Problem
from .base_files import BaseFiles
from .families import Family


class Base(Protocol):
    """A base model. Only names and shapes are held; weights are read when a part is asked for."""

    @property
    def name(self) -> str:
        """The file's or folder's name, as messages call it; "" for a model that is new."""

    @property
    def family(self) -> Family:
        """Its row of `families`: what is known of such models beyond their sizes."""

    @property
    def files(self) -> BaseFiles:
        """The files that it is read from, as they were when it was opened."""

    @property
    def inpainting(self) -> bool:
        """Whether its UNet also takes a mask and the masked picture."""

    @property
    def scaling_factor(self) -> float:
        """What latents are multiplied by before the UNet sees them; 1 where it takes pixels."""

    @property
    def factor(self) -> int:
        """Pixels a side for each of the UNet's."""

    @property
    def resolution(self) -> int:
        """Pixels a side that it was trained at, or that a new one is made for."""

    @property
    def prediction_type(self) -> str:
        """What its UNet predicts: "epsilon", "v_prediction" or "sample"."""

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """The noise that it knows, as diffusers' schedulers are configured."""

    @property
    def text_layers(self) -> Sequence[int]:
        """How many layers each of its text encoders has; empty where it has none."""

    @property
    def activations(self) -> float:
        """Bytes that a forward pass keeps for the backward one, in float32, for a picture of 64 x 64 UNet pixels."""

    @property
    def checkpointed(self) -> float:
        """Of `activations`, what a step takes at the most with gradient checkpointing."""

    @property
    def warnings(self) -> Sequence[Problem]:
        """What is wrong with it and put right in models made from it."""

    def parameter_counts(self) -> dict[str, int]:
        """Numbers in its "unet", its "vae" and its "text_encoders"; 0 for what it does not have."""

    def vae(self, dtype: torch.dtype = torch.float32) -> AutoencoderKL | None:
        """The model between pixels and latents; None where the UNet takes pixels."""

    def require_sound(self, seconds: float) -> bool:
        """Raise UserError for weights that are NaN or infinite. Returns whether `seconds` were enough for all."""

    def close(self) -> None:
        """Let go of open files; they are opened again when something is read."""
