"""Hypernetwork: train small networks before the keys and values of attention layers; the model itself stays frozen."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from typing_extensions import Unpack

from ...core.config.parsing import shown
from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem, UserError
from ...core.system.files import expanded
from ..data.batch import Batch
from ..formats import hypernetwork_file
from ..formats.hypernetwork_file import export_hypernetwork
from ..formats.verified_write import Exported
from ..models.base_model import LatentBase
from ..networks import hypernetwork
from ..networks.hypernetwork import DEEPEST, WIDEST, Hypernetwork, Structure
from ..networks.switch import Switch
from ..optimization.parameter_group import ParameterGroup
from ..training.footprint import Footprint
from ..training.latent_backbone import LatentBackbone
from ..training.loss import Objective
from ..training.method import FileOptions, Weights
from .common import drawn_prompts, frozen_unet_bytes

COMPONENT = "hypernetwork"  # in training states
SAID = "said"  # in these: the structure and the steps before this run, JSON as bytes


class HypernetworkTraining:
    """Trains a hypernetwork. captions: all that the run can train on, None if they cannot be listed in advance."""

    def __init__(self, config: ResolvedConfig, objective: Objective, captions: list[str] | None, folder: Path):
        self.config = config
        self.objective = objective
        self.captions = captions
        self.backbone: LatentBackbone
        self.network: Hypernetwork
        self._learning: list[int] = []  # widths that the base has
        self._start: Mapping[str, Tensor] = {}  # the network's initial weights
        self._before = 0  # steps that the continued file had been trained for
        self._digest: str | None = None  # of the base
        self._switch = Switch()

    @staticmethod
    def problems(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
        return continued_problems(config, base) if config.hypernetwork_weights else new_problems(config, base)

    @staticmethod
    def warnings(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
        return []

    @staticmethod
    def share(config: ResolvedConfig, base: LatentBase) -> Footprint:
        frozen = frozen_unet_bytes(config, base)
        if config.hypernetwork_weights:
            content = hypernetwork_file.read(continued(config), "hypernetwork_weights")
            sizes, structure, size = set(content.states), content.structure, content.numbers
        else:
            sizes, structure = set(config.enable_sizes or hypernetwork.sizes_of(base)), Structure.of(config)
            size = hypernetwork.count(sizes, structure)
        learning = hypernetwork.count(sizes & set(hypernetwork.sizes_of(base)), structure)
        return Footprint(learning, 0, frozen, size, written_out=kept_bytes(config, base, sizes, structure))

    def prepare(
        self,
        backbone: LatentBackbone,
        accelerator: Accelerator,
        weight_dtype: torch.dtype,
        saved: Weights | None,
        step: int,
    ) -> None:
        """Attach the networks before the attention layers: new ones, those of a file, or the `saved` ones of a training
        state."""
        self.backbone = backbone
        if self.config.masked_prior_preservation_weight:
            backbone.base_unet = self._as_base
        backbone.freeze_text(accelerator, self.captions, weight_dtype, drawn_prompts(self.config))
        unet = backbone.load_unet().requires_grad_(False).train()
        widths = sorted({attention.to_k.in_features for attention in hypernetwork.attentions(unet)})
        self.network = self._began_with(widths)
        self._start = {key: tensor.clone() for key, tensor in self.network.state_dict().items()}
        if saved:
            said = json.loads(bytes(saved[COMPONENT][SAID].tolist()))
            self._before = said["before"]
            about = said["structure"]
            about |= {key: tuple(about[key]) for key in ("layers", "dropout")}
            self.network = Hypernetwork(said["sizes"], Structure(**about))
            self.load_state_dict(saved)
        self._learning = [size for size in self.network.sizes if size in widths]
        self.network.to(accelerator.device)
        hypernetwork.attach(unet, self.network, switch=self._switch)
        backbone.place(accelerator)

    def _began_with(self, widths: list[int]) -> Hypernetwork:
        if not self.config.hypernetwork_weights:
            return hypernetwork.create(self.config, self.config.enable_sizes or widths)
        content = hypernetwork_file.read(continued(self.config), "hypernetwork_weights")
        self._before = content.step
        return content.network()

    def parameter_groups(self) -> list[ParameterGroup]:
        return [{"name": "hypernetwork", "rate": self.config.learning_rate, "params": self.averaged()}]

    def averaged(self) -> list[nn.Parameter]:
        """Return the parameters that learn and that the moving average tracks. Widths that the base does not have stay
        fixed."""
        return [p for size in self._learning for part in self.network.pair(size) for p in part.parameters()]

    def enter(self, step: int) -> None:
        """Called before each step. Nothing stops learning before the end."""

    @contextlib.contextmanager
    def _as_base(self) -> Iterator[nn.Module]:
        with self._switch.off():
            yield self.backbone.unet

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        return self.backbone.loss(self.objective, batch, generator)

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return the networks' weights and their structure."""
        network = self.network
        said = {"structure": asdict(network.structure), "sizes": network.sizes, "before": self._before}
        text = torch.tensor(list(json.dumps(said).encode()), dtype=torch.uint8)
        return {COMPONENT: {**network.state_dict(), SAID: text}}

    def load_state_dict(self, weights: Weights) -> None:
        """Load the weights of a training state of this network."""
        self.network.load_state_dict({key: tensor for key, tensor in weights[COMPONENT].items() if key != SAID})

    def about(self) -> dict[str, str]:
        """Return metadata for the file beyond what every model has."""
        return {"ss_network_module": "hypernetwork"}

    def export(self, base: LatentBase, path: Path, **options: Unpack[FileOptions]) -> Exported:
        """Write the networks alone, in the format of the WebUI's Train tab."""
        self._digest = self._digest or base.short_hash()
        step = self._before + int(options["metadata"]["ss_steps"])
        return export_hypernetwork(base, self.network, self._start, path, step=step, digest=self._digest, **options)


def continued(config: ResolvedConfig) -> Path:
    assert config.hypernetwork_weights, "it is a new one"
    return expanded(config.hypernetwork_weights)


def continued_problems(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
    """Return the problems of the hypernetwork to continue with this base."""
    try:
        there = set(hypernetwork_file.read(continued(config), "hypernetwork_weights").states)
    except UserError as error:
        return [error.problem]
    if there & set(hypernetwork.sizes_of(base)):
        return []
    return [Problem("hypernetwork.other_widths", "hypernetwork_weights", widths=sorted(there))]


def new_problems(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
    """Return the problems of a new hypernetwork's settings with this base."""
    known = hypernetwork.sizes_of(base)
    if strange := [size for size in config.enable_sizes if size not in known]:
        return [Problem("hypernetwork.unknown_size", "enable_sizes", size=float(strange[0]), sizes=known)]
    structure = Structure.of(config)
    for size in config.enable_sizes or known:
        if not all(1 <= width <= WIDEST for width in structure.widths(int(size))) or len(structure.layers) > DEEPEST:
            shape = shown(config.layer_structure)
            code = "hypernetwork.layer_too_wide"
            return [Problem(code, "layer_structure", structure=shape, size=float(size))]
    return []


def kept_bytes(config: ResolvedConfig, base: LatentBase, sizes: set[int], structure: Structure) -> int:
    """Return the bytes of activations that the networks keep for the backward pass, in float32: the inputs of all their
    layers. The first layer's input is counted once for both networks, and the text once for all attention layers."""
    levels = len(base.architecture.unet["block_out_channels"])
    pixels = (config.resolution // 8) ** 2
    extra = structure.layer_norm + any(structure.dropout)
    activates = structure.activation != "linear"
    between, after = extra + activates, extra + (activates and structure.activate_output)
    numbers = 0
    for name, width in hypernetwork.contexts(base).items():
        if width in sizes:
            block, _, index = name.partition(".")
            level = int(index.split(".")[0]) if block == "down_blocks" else levels - 1
            level = levels - 1 - int(index.split(".")[0]) if block == "up_blocks" else level
            is_own = name.endswith("attn1")
            numbers_each = sum(structure.widths(width)[1:-1]) * (1 + between) + width * after
            numbers += (pixels // 4**level if is_own else 77) * (width * is_own + 2 * numbers_each)
    return 4 * numbers * config.train_batch_size
