"""DreamBooth and fine-tuning: train all weights of the UNet, and of the text encoders for the run's first steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from typing_extensions import Unpack

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem
from ..data.batch import Batch
from ..distribution.sharding import load_whole, own, whole_state
from ..formats.checkpoint_file import export_checkpoint
from ..formats.verified_write import Exported
from ..models.base_model import LatentBase
from ..networks.lora_network import TEXT_PARTS
from ..optimization.parameter_group import ParameterGroup
from ..tensors.tensor_file import open_tensors, save_tensors
from ..training.footprint import Footprint
from ..training.latent_backbone import LatentBackbone
from ..training.loss import Objective
from ..training.method import FileOptions, Weights
from .common import component_rates, drawn_prompts, halve_layers, keep_base_texts


class FullTraining:
    """Trains the whole model. captions: all that the run can train on, None if they cannot be listed in advance.

    folder: where trained text encoders are stored when they leave memory.
    """

    def __init__(self, config: ResolvedConfig, objective: Objective, captions: list[str] | None, folder: Path):
        self.config = config
        self.objective = objective
        self.captions = captions
        self.folder = folder
        self.backbone: LatentBackbone
        self.accelerator: Accelerator
        self.weight_dtype = torch.float32
        self._live: dict[str, nn.Module] = {}  # what learns currently, as the model's own modules
        self._frozen: dict[str, Mapping[str, Tensor]] = {}  # text encoders whose training has ended, memory-mapped

    @staticmethod
    def problems(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
        """Return no problems: this method's settings fit any base."""
        return []

    @staticmethod
    def warnings(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
        return []

    @staticmethod
    def share(config: ResolvedConfig, base: LatentBase) -> Footprint:
        counts = base.parameter_counts()
        texts = counts["text_encoders"] if config.text_encoder_steps else 0
        of_base = bool(config.masked_prior_preservation_weight) * (4 if config.mixed_precision == "no" else 2)
        return Footprint(counts["unet"], texts, frozen=of_base * counts["unet"], model=sum(counts.values()))

    def prepare(
        self,
        backbone: LatentBackbone,
        accelerator: Accelerator,
        weight_dtype: torch.dtype,
        saved: Weights | None,
        step: int,
    ) -> None:
        """Set up the models for `step`: with the base's weights, or the `saved` ones of a training state."""
        self.backbone, self.accelerator, self.weight_dtype = backbone, accelerator, weight_dtype
        prompts = backbone.prompts
        keeps_base = bool(self.config.masked_prior_preservation_weight)
        if keeps_base:
            keep_base_texts(backbone, self.captions, learns=bool(self.config.text_encoder_steps))
        if self.config.text_encoder_steps:
            prompts.train()
            self._live = dict(zip(TEXT_PARTS, prompts.stack.encoders, strict=False))
        if saved:
            self.load_state_dict(saved)
        if step >= self.config.text_encoder_steps:
            self._freeze_text()  # before the UNet comes, which has no room beside them on a small card
        unet = backbone.load_unet().requires_grad_(True).train()
        if keeps_base:
            halve_layers(backbone.keep_base_unet(), weight_dtype)
        if saved:
            load_whole(unet, saved["unet"])
        self._live = {"unet": unet, **self._live}
        backbone.place(accelerator)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameter groups that learn from here on. The UNet comes first, so that groups removed later are
        the last."""
        rates = component_rates(self.config)
        return [{"name": name, "rate": rates[name], "params": own(module)} for name, module in self._live.items()]

    def averaged(self) -> list[nn.Parameter]:
        """Return the parameters that the moving average tracks."""
        return own(self._live["unet"])

    def enter(self, step: int) -> None:
        """Called before each step. Removes what stops learning at this step from the parameter groups."""
        if step >= self.config.text_encoder_steps and any(name in TEXT_PARTS for name in self._live):
            self._freeze_text()

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.backbone.loss(self.objective, batch, generator)

    def state_dict(self) -> dict[str, Mapping[str, Tensor]]:
        """Return the trained weights by component, under diffusers' names."""
        return {name: whole_state(module) for name, module in self._live.items()} | self._frozen

    def load_state_dict(self, weights: Weights) -> None:
        for name, module in self._live.items():
            load_whole(module, weights[name])

    def about(self) -> dict[str, str]:
        """Return no metadata beyond what every model has."""
        return {}

    def export(self, base: LatentBase, path: Path, **options: Unpack[FileOptions]) -> Exported:
        """Write a complete checkpoint: the trained components, and the others from the base."""
        return export_checkpoint(base, self.state_dict(), path, **options)

    def _freeze_text(self) -> None:
        """Store the trained text encoders on disk, encode all captions with them, and release them. Only the first
        process reads them again, for training states and models: another machine may not have the file."""
        accelerator = self.accelerator
        for name in [name for name in TEXT_PARTS if name in self._live]:
            state, path = whole_state(self._live[name]), self.folder / f"{name}.safetensors"
            if accelerator.is_main_process:
                save_tensors(state, path)
            self._frozen[name] = open_tensors(path) if accelerator.is_main_process else {}
            del self._live[name]
        self.backbone.bare_encoders()
        self.backbone.freeze_text(accelerator, self.captions, self.weight_dtype, drawn_prompts(self.config))
