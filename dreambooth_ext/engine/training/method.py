"""The protocols `Method` and `Backbone`: how the loop talks to a training method and to the models that it trains.

A method (`methods`) is five verbs: prepare, parameter_groups, loss, state_dict and load_state_dict, export. A backbone
(`latent_backbone`, `pixel_backbone`) holds the base's parts during training. The base itself is described by
`models.base.Base`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypedDict, TypeVar, runtime_checkable

import torch
from accelerate import Accelerator
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from torch import Tensor, nn
from typing_extensions import Unpack

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem
from ..data.batch import Batch
from ..formats.verified_write import Exported
from ..models.base import Base
from ..optimization.parameter_group import ParameterGroup
from ..sampling.sampler import Progress
from ..streaming.streaming import Streaming
from .footprint import Footprint
from .loss import Objective

Weights = Mapping[str, Mapping[str, Tensor]]  # by component and name, as training states keep them


class FileOptions(TypedDict):
    """Options for writing a model file: precision, metadata, activation text, preview."""

    precision: str
    metadata: Mapping[str, str]
    activation_text: str
    preview: Image.Image | None
    zero_terminal_snr: bool


@dataclass(frozen=True)
class Drawn:
    """A preview picture with its prompt and seed. index: the prompt's index."""

    index: int
    prompt: str
    seed: int
    picture: Image.Image


BaseT_contra = TypeVar("BaseT_contra", bound=Base, contravariant=True)


class Backbone(Protocol[BaseT_contra]):
    """The parts of a base that a run uses. The method decides which of them learn."""

    streamings: list[Streaming]  # of UNets that live in the computer's memory in part, once they are placed

    def place(self, accelerator: Accelerator) -> None:
        """Move the models to their device and set up mixed precision."""

    def modules(self) -> list[nn.Module]:
        """Return all models that take part in `loss`. The validation loss turns off their dropout."""

    def loss(self, objective: Objective, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the batch's loss, a scalar that can be backpropagated. generator: for noise and timesteps, on the
        CPU."""

    def latents(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Return what noise is added to, (b, c, h, w), and the UNet's further input channels, if it has any."""

    def predicted(
        self, input_bchw: Tensor, timesteps_b: Tensor, captions: Sequence[str], time_ids_b6: Tensor
    ) -> Tensor:
        """Return what the UNet predicts from noised latents, float32."""

    def remember(self, captions: Sequence[str]) -> None:
        """Note captions that `predicted` will be given, besides those of batches, before the text encoders leave
        memory."""

    def drawn(self, config: ResolvedConfig, base: BaseT_contra, told: Progress) -> Iterator[Drawn]:
        """Draw the previews one by one. told: called with the number of the current preview and how many there are."""


BackboneT = TypeVar("BackboneT", bound=Backbone)


class Method(Protocol[BaseT_contra, BackboneT]):
    """A training method. Without type arguments it stands for any matching base and backbone (`backbones.STARTS`)."""

    backbone: BackboneT
    objective: Objective

    def __init__(self, config: ResolvedConfig, objective: Objective, captions: list[str] | None, folder: Path):
        """captions: all captions that the run can train on, None if they cannot be listed in advance. folder: where
        trained text encoders are stored when they leave memory."""

    @staticmethod
    def problems(config: ResolvedConfig, base: BaseT_contra) -> list[Problem]:
        """Return the problems of the method's settings with this base. Nothing has been loaded yet."""

    @staticmethod
    def warnings(config: ResolvedConfig, base: BaseT_contra) -> list[Problem]:
        """Return warnings about the files that training continues from, such as a LoRA. They do not prevent
        training."""

    @staticmethod
    def share(config: ResolvedConfig, base: BaseT_contra) -> Footprint:
        """Return how much of the base is trained and how much is only held, for the estimates of memory and disk
        space."""

    def prepare(
        self,
        backbone: BackboneT,
        accelerator: Accelerator,
        weight_dtype: torch.dtype,
        saved: Weights | None,
        step: int,
    ) -> None:
        """Set up the models for `step`: with the base's weights, or the `saved` ones of a training state. weight_dtype:
        dtype of frozen weights."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameter groups that learn from here on. The UNet comes first, so that groups removed later are
        the last."""

    def averaged(self) -> list[nn.Parameter]:
        """Return the parameters that the moving average tracks."""

    def enter(self, step: int) -> None:
        """Called before each step. Removes what stops learning at this step from the parameter groups."""

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """Return the batch's loss, a scalar that can be backpropagated."""

    def state_dict(self) -> Weights:
        """Return the trained weights by component, for a training state."""

    def load_state_dict(self, weights: Weights) -> None:
        """Load weights from `state_dict` into the current models."""

    def about(self) -> dict[str, str]:
        """Return metadata for the model file beyond what every model has."""

    def export(self, base: BaseT_contra, path: Path, **options: Unpack[FileOptions]) -> Exported:
        """Write the model file. Raises UserError if the weights are not finite, do not fit the precision or still equal
        the base's (`NothingLearned`), or if the disk is too full."""


@runtime_checkable
class CarriedByPictures(Protocol[BaseT_contra]):
    """A method whose result can be embedded in a preview picture (`save_image_with_embedding`)."""

    def carried(self, base: BaseT_contra) -> PngInfo:
        """Return what has been learned as text for a PNG file."""
