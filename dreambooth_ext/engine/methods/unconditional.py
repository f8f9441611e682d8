"""Unconditional: train all weights of a UNet on pixels, without prompts (as diffusers' train_unconditional.py)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from typing_extensions import Unpack

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem
from ..data.batch import Batch
from ..distribution.sharding import load_whole, own, whole_state
from ..formats.ddpm_folder import export_pipeline
from ..formats.verified_write import Exported
from ..models.unconditional_base import PixelBase
from ..optimization.parameter_group import ParameterGroup
from ..training.footprint import Footprint
from ..training.loss import Objective
from ..training.method import FileOptions, Weights
from ..training.pixel_backbone import PixelBackbone


class UnconditionalTraining:
    """Trains a DDPM on pixels. `captions` and `folder` are unused: there are no captions and no text encoders."""

    def __init__(self, config: ResolvedConfig, objective: Objective, captions: list[str] | None, folder: Path):
        self.config = config
        self.objective = objective
        self.backbone: PixelBackbone
        self.unet: nn.Module

    @staticmethod
    def problems(config: ResolvedConfig, base: PixelBase) -> list[Problem]:
        """Return the problems of the settings with this model."""
        found = []
        if config.resolution % base.multiple:
            near = max(base.multiple, round(config.resolution / base.multiple) * base.multiple)
            sizes: dict[str, Any] = {"resolution": config.resolution, "multiple": base.multiple, "near": near}
            times = base.multiple.bit_length() - 1
            found.append(Problem("training.resolution_not_a_multiple", "resolution", times=times, **sizes))
        for name, value in base.trained_with.items():
            if getattr(config, name) != value:
                found.append(Problem("training.continued_with", name, value=value))
        return found

    @staticmethod
    def warnings(config: ResolvedConfig, base: PixelBase) -> list[Problem]:
        return []

    @staticmethod
    def share(config: ResolvedConfig, base: PixelBase) -> Footprint:
        unet = base.parameter_counts()["unet"]
        return Footprint(unet, 0, frozen=0, model=unet)

    def prepare(
        self,
        backbone: PixelBackbone,
        accelerator: Accelerator,
        weight_dtype: torch.dtype,
        saved: Weights | None,
        step: int,
    ) -> None:
        """Set up the UNet for `step`: new, the base's, or the `saved` one of a training state."""
        self.backbone = backbone
        self.unet = backbone.unet.requires_grad_(True).train()
        if saved:
            self.load_state_dict(saved)
        backbone.place(accelerator)

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"name": "unet", "rate": self.config.learning_rate, "params": self.averaged()}]

    def averaged(self) -> list[nn.Parameter]:
        """Return the parameters that the moving average tracks: all that learn."""
        return own(self.unet)

    def enter(self, step: int) -> None:
        """Called before each step. Nothing stops learning before the end."""

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.backbone.loss(self.objective, batch, generator)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        return {"unet": whole_state(self.unet)}

    def load_state_dict(self, weights: Weights) -> None:
        load_whole(self.unet, weights["unet"])

    def about(self) -> dict[str, str]:
        """Return no metadata beyond what every model has."""
        return {}

    def export(self, base: PixelBase, path: Path, **options: Unpack[FileOptions]) -> Exported:
        """Write a diffusers pipeline folder."""
        return export_pipeline(base, whole_state(self.unet), path, options["precision"], options["metadata"])
