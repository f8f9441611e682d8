"""The protocol `Base`: what any base model must answer, for the run's plan, memory estimate, saver and worker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch

from ...core.errors import Problem
from ..runtime.diffusers_models import AutoencoderKL
from .base_files import BaseFiles
from .families import Family


class Base(Protocol):
    """A base model. Only names and shapes are held in memory; weights are read when a part is asked for."""

    @property
    def name(self) -> str:
        """The name of its file or folder in messages; "" for a new model."""

    @property
    def family(self) -> Family:
        """Its row in `families`: what is known of such models apart from their sizes."""

    @property
    def files(self) -> BaseFiles:
        """The files that it is read from, as they were when it was opened."""

    @property
    def inpainting(self) -> bool:
        """Whether its UNet also takes a mask and the masked picture."""

    @property
    def scaling_factor(self) -> float:
        """The factor that latents are multiplied by for the UNet; 1 if it works on pixels."""

    @property
    def factor(self) -> int:
        """Pixels per UNet pixel, along each side."""

    @property
    def resolution(self) -> int:
        """The picture side, in pixels, that it was trained at, or that a new one is made for."""

    @property
    def prediction_type(self) -> str:
        """What its UNet predicts: "epsilon", "v_prediction" or "sample"."""

    @property
    def scheduler_config(self) -> Mapping[str, Any]:
        """Its noise schedule, as a configuration of diffusers' schedulers."""

    @property
    def text_layers(self) -> Sequence[int]:
        """The number of layers of each text encoder; empty if it has none."""

    @property
    def activations(self) -> float:
        """Bytes of activations kept for the backward pass, in float32, for a picture of 64 x 64 UNet pixels."""

    @property
    def checkpointed(self) -> float:
        """The share of `activations` that a step needs at its peak with gradient checkpointing."""

    @property
    def warnings(self) -> Sequence[Problem]:
        """Warnings about faults of the base, which are repaired in models made from it."""

    def parameter_counts(self) -> dict[str, int]:
        """Return the number of parameters in "unet", "vae" and "text_encoders"; 0 for parts that it does not have."""

    def vae(self, dtype: torch.dtype = torch.float32) -> AutoencoderKL | None:
        """Return the VAE, or None if the UNet works on pixels."""

    def require_sound(self, seconds: float) -> bool:
        """Raise UserError if a weight is NaN or infinite. Returns whether `seconds` were enough to check all."""

    def close(self) -> None:
        """Close open files; they are reopened when something is read."""
