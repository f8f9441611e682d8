"""What the loop knows of a method, and of the models that it trains: two protocols, and what goes through them.

A method (`methods`) is five verbs: prepare, parameter_groups, loss, state_dict and load_state_dict, export. A backbone
(`latent_backbone`, `pixel_backbone`) is the base's parts at work. The base itself is asked through `models.base.Base`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from .footprint import Footprint
from .loss import Objective

Weights = Mapping[str, Mapping[str, Tensor]]  # by component and name, as training states keep them


class FileOptions(TypedDict):
    """What a model's file says of itself, and how it is written."""

    precision: str
    metadata: Mapping[str, str]
    activation_text: str
    preview: Image.Image | None
    zero_terminal_snr: bool


@dataclass(frozen=True)
class Drawn:
    """A preview picture, and what it is of. index: the prompt's."""

    index: int
    prompt: str
    seed: int
    picture: Image.Image


BaseT_contra = TypeVar("BaseT_contra", bound=Base, contravariant=True)


class Backbone(Protocol[BaseT_contra]):
    """The parts of a base that a run works with. The method decides which of them learn."""

    def place(self, accelerator: Accelerator) -> None:
        """Put the models onto their device and under mixed precision."""

    def modules(self) -> list[nn.Module]:
        """All models that take part in `loss`: the validation loss turns their dropout off."""

    def loss(self, objective: Objective, batch: Batch, generator: torch.Generator) -> Tensor:
        """The batch's loss, a scalar with its graph. generator: of noise and timesteps, on the CPU."""

    def drawn(self, config: ResolvedConfig, base: BaseT_contra, told: Progress) -> Iterator[Drawn]:
        """Draw the previews, one after the other. told: how many are done, of how many."""


BackboneT = TypeVar("BackboneT", bound=Backbone)


class Method(Protocol[BaseT_contra, BackboneT]):
    """A way to train. A bare `Method` is one for whatever base and backbone go with it (`backbones.STARTS`)."""

    backbone: BackboneT

    def __init__(self, config: ResolvedConfig, objective: Objective, captions: list[str] | None, folder: Path):
        """captions: all that the run can train on, None where that cannot be told ahead. folder: takes the trained
        text encoders when they leave memory."""

    @staticmethod
    def problems(config: ResolvedConfig, base: BaseT_contra) -> list[Problem]:
        """What of the method's settings does not go with the base. Nothing has been loaded."""

    @staticmethod
    def warnings(config: ResolvedConfig, base: BaseT_contra) -> list[Problem]:
        """What of the files that it goes on from is worth knowing, and no reason to refuse them."""

    @staticmethod
    def share(config: ResolvedConfig, base: BaseT_contra) -> Footprint:
        """How much of the base learns, and how much is only held: for the estimates of memory and disk."""

    def prepare(
        self,
        backbone: BackboneT,
        accelerator: Accelerator,
        weight_dtype: torch.dtype,
        saved: Weights | None,
        step: int,
    ) -> None:
        """Take the models as they are before `step`: those of the base, or with the `saved` weights of a training
        state. weight_dtype: of weights that do not learn."""

    def parameter_groups(self) -> list[ParameterGroup]:
        """What learns from here on. The UNet comes first, so that the groups that leave are the last ones."""

    def averaged(self) -> list[nn.Parameter]:
        """What the moving average follows."""

    def enter(self, step: int) -> None:
        """Called before each step; what has stopped learning with it is in no group any more."""

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        """The batch's loss, a scalar with its graph."""

    def state_dict(self) -> Weights:
        """What has been learned, by component, for a training state."""

    def load_state_dict(self, weights: Weights) -> None:
        """Take what `state_dict` gave, into the models as they are now."""

    def about(self) -> dict[str, str]:
        """Metadata of the file beyond what every model's has."""

    def export(self, base: BaseT_contra, path: Path, **options: Unpack[FileOptions]) -> Exported:
        """Write the file that users take away. Raises UserError where the weights are not finite, do not fit the
        precision or are still the base's (`NothingLearned`), and where the disk is too full."""


@runtime_checkable
class CarriedByPictures(Protocol[BaseT_contra]):
    """A method whose result fits into a preview picture (`save_image_with_embedding`)."""

    def carried(self, base: BaseT_contra) -> PngInfo:
        """What has been learned, as text for a PNG file."""
