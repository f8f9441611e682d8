"""LoRA and its variants: train small changes to selected layers; the model itself stays frozen."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from typing_extensions import Unpack

from ...core.config.parsing import shown
from ...core.config.rates import scaled
from ...core.config.stages import ResolvedConfig
from ...core.data import prompt_templates
from ...core.errors import Problem, UserError
from ..data.batch import Batch
from ..formats import embedding_file, lora_file
from ..formats.lora_file import export_network
from ..formats.verified_write import Exported
from ..models.base_model import LatentBase
from ..networks import lora_network
from ..networks.adapter import Adapter, Trainable
from ..networks.lora_network import TEXT_PARTS, Network
from ..networks.switch import Switch
from ..optimization.parameter_group import ParameterGroup
from ..training.footprint import Footprint
from ..training.latent_backbone import LatentBackbone
from ..training.loss import Objective
from ..training.method import FileOptions, Weights
from . import learned_words
from .common import component_rates, drawn_prompts, frozen_text_bytes, frozen_unet_bytes, keep_base_texts
from .learned_words import Words


class LoRATraining:
    """Trains a LoRA. captions: all that the run can train on, None if they cannot be listed in advance."""

    def __init__(self, config: ResolvedConfig, objective: Objective, captions: list[str] | None, folder: Path):
        self.config = config
        self.objective = objective
        self.captions = captions
        self.backbone: LatentBackbone
        self.accelerator: Accelerator
        self.weight_dtype = torch.float32
        self.network: Network = {}
        self._layers: lora_file.Layers = {}
        self._live: list[str] = []  # components that learn currently
        self.words: Words | None = None  # trained along with the LoRA
        self._text_is_frozen = False
        self._switch = Switch()
        self._step = 0

    @staticmethod
    def problems(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
        found = continued_problems(config, base) if config.network_weights else new_problems(config, base)
        return found + learned_words.problems(config, base)

    @staticmethod
    def warnings(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
        return continued_warnings(config, base) if config.network_weights else []

    @staticmethod
    def share(config: ResolvedConfig, base: LatentBase) -> Footprint:
        stay = config.text_encoder_steps or config.placeholder_token
        frozen = frozen_unet_bytes(config, base) + (frozen_text_bytes(config, base) if stay else 0)
        if config.network_weights:
            size = sum(map(math.prod, lora_file.shapes(continued(config), "network_weights").values()))
            return Footprint(size, 0, frozen, size)
        sizes = lora_network.sizes(config, base)
        unet, model = sizes.get("unet", 0), sum(sizes.values())
        return Footprint(unet, model - unet, frozen, model)

    def prepare(
        self,
        backbone: LatentBackbone,
        accelerator: Accelerator,
        weight_dtype: torch.dtype,
        saved: Weights | None,
        step: int,
    ) -> None:
        """Attach adapters to the models for `step`: new ones, those of a LoRA file, or the `saved` ones of a training
        state."""
        self.backbone, self.accelerator, self.weight_dtype = backbone, accelerator, weight_dtype
        prompts, config = backbone.prompts, self.config
        if config.masked_prior_preservation_weight:
            keep_base_texts(backbone, self.captions, learns=bool(self._text_steps() or config.placeholder_token))
            backbone.base_unet = self._as_base
        self._step = step
        if config.placeholder_token:
            vectors = saved[learned_words.COMPONENT] if saved else None
            self.words = Words(config, prompts.stack, accelerator.device, vectors)
        if self._text_steps():
            prompts.train()
        self._attach_to_texts(saved)
        self._settle(step)  # text encoders that do not learn leave memory before the UNet comes
        self._attach({"unet": backbone.load_unet().requires_grad_(False).train()}, saved)
        self.network = {name: self.network[name] for name in ("unet", *TEXT_PARTS) if name in self.network}
        backbone.place(accelerator)

    def _text_steps(self) -> int:
        """Return the number of steps for which the text encoders stay in memory: while they or words learn."""
        return max(self.config.text_encoder_steps, self._word_steps())

    def _word_steps(self) -> int:
        """Return the number of steps for which words are trained along."""
        return (self.config.embedding_steps or 0) if self.words else 0

    def _attach_to_texts(self, saved: Weights | None) -> None:
        """Set up what learns and attach the text encoders' adapters. Nothing here keeps the text encoders."""
        texts = dict(zip(TEXT_PARTS, self.backbone.prompts.stack.encoders, strict=False))
        models = {"unet": self.backbone.unet, **texts}
        self._layers = lora_file.layers_of(models)
        self._live = [name for name in models if name == "unet" or self.config.text_encoder_steps]
        if self.config.network_weights and not saved:
            self.network = lora_file.read(continued(self.config), models, "network_weights")
        for encoder in texts.values():
            encoder.requires_grad_(False)
        self._attach(texts, saved)

    def _attach(self, models: dict[str, nn.Module], saved: Weights | None) -> None:
        """Attach adapters to these models: the saved ones, those that have been read from a file, or new ones."""
        for name, module in models.items():
            if saved:
                made = lora_network.from_flat(saved[name], module) if name in saved else {}
            elif self.config.network_weights:
                made = self.network.get(name, {})
            else:
                made = lora_network.create(self.config, name, module) if name in self._live else {}
            if made:
                self.network[name] = made
            unread = self._unread(name)
            for layer, adapter in made.items():
                adapter.to(self.accelerator.device)
                if module.get_submodule(layer) in unread:
                    adapter.requires_grad_(False)
            lora_network.attach(module, made, self.config.network_dropout, self._switch)

    def _unread(self, component: str) -> set[nn.Module]:
        """Return the modules of a text encoder that have no part in the loss."""
        if component not in TEXT_PARTS:
            return set()
        parts = self.backbone.prompts.stack.unread(TEXT_PARTS.index(component))
        return {module for part in parts for module in part.modules()}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameter groups that learn from here on. The UNet comes first, so that groups removed later are
        the last."""
        config, rates = self.config, component_rates(self.config)
        groups: list[ParameterGroup] = []
        for name in self._live:
            made = self.network.get(name, {}).values()
            fast = [p for adapter in made for p in adapter.fast()] if config.loraplus_lr_ratio != 1 else []
            known = set(map(id, fast))
            rest = [p for adapter in made for p in adapter.parameters() if id(p) not in known]
            groups.append({"name": name, "rate": rates[name], "params": rest})
            if fast:
                rate = scaled(rates[name], config.loraplus_lr_ratio)
                groups.append({"name": f"{name}_up", "rate": rate, "params": fast})
        if words := self._learning_words():
            groups.append(words.group(config.embedding_lr))
        return [group for group in groups if group["params"]]

    def averaged(self) -> list[nn.Parameter]:
        """Return the parameters that the moving average tracks."""
        return [parameter for adapter in self.network.get("unet", {}).values() for parameter in adapter.parameters()]

    def enter(self, step: int) -> None:
        """Called before each step. Removes what stops learning at this step from the parameter groups."""
        if words := self._learning_words():
            words.limit()
        self._settle(step)

    def _settle(self, step: int) -> None:
        """Freeze what has stopped learning before `step`. It stays active but gets no gradients."""
        self._step = step
        if step >= self.config.text_encoder_steps:
            self._live = ["unet"]
            for name in TEXT_PARTS:
                for adapter in self.network.get(name, {}).values():
                    adapter.requires_grad_(False)
        if self.words and not self._learning_words():
            self.words.freeze()
        if step >= self._text_steps() and not self._text_is_frozen:
            self._freeze_text()
            self._text_is_frozen = True

    def _learning_words(self) -> Words | None:
        return self.words if self._step < self._word_steps() else None

    @contextlib.contextmanager
    def _as_base(self) -> Iterator[nn.Module]:
        with self._switch.off():
            yield self.backbone.unet

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        loss = self.backbone.loss(self.objective, batch, generator)
        words = self._learning_words()
        return loss + words.nothing() if words else loss

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """Return all adapters by component, including those that have stopped learning."""
        learned = {learned_words.COMPONENT: self.words.state()} if self.words else {}
        return {name: lora_network.flat(made) for name, made in self.network.items()} | learned

    def load_state_dict(self, weights: Weights) -> None:
        """Load the weights of a training state of this network."""
        for name, made in self.network.items():
            for layer, adapter in made.items():
                for part, tensor in adapter.tensors().items():
                    tensor.copy_(weights[name][f"{layer}.{part}"])
        if self.words:
            self.words.load(weights[learned_words.COMPONENT])

    def about(self) -> dict[str, str]:
        """Return metadata for the file beyond what every model has."""
        return lora_file.metadata(self.config)

    def export(self, base: LatentBase, path: Path, **options: Unpack[FileOptions]) -> Exported:
        """Write the adapters under kohya's names. Words trained along are stored in the same file or beside it."""
        bundled = self.words.words if self.words and self.config.bundle_embedding else []
        names = lora_file.file_names(self._layers, base.architecture.unet, base.family)
        made = export_network(base, self.network, names, path, words=bundled, **options)
        if not self.words or bundled:
            return made
        beside = self.words.export(base, path, min(self._step, self._word_steps()), **options)
        others = (dataclasses.replace(other, kind="textual_inversion") for other in beside)
        return dataclasses.replace(made, others=tuple(others))

    def _freeze_text(self) -> None:
        """Encode all captions, and release the text encoders. If they stay, their adapters stay beside their weights,
        whose 16 bits would lose what was learned."""
        self.backbone.bare_encoders()
        self.backbone.freeze_text(self.accelerator, self.captions, self.weight_dtype, drawn_prompts(self.config))


def continued(config: ResolvedConfig) -> Path:
    assert config.network_weights, "it is a new one"
    return Path(config.network_weights).expanduser()


def continued_problems(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
    """Return the problems of the LoRA to continue with the base and the settings. The whole file is checked."""
    path, there, fixed, has_up = continued(config), set(), [], False
    if found := word_problems(config):
        return found
    try:
        for component, layer, adapter in adapters_of(config, base):
            there.add(component)
            fixed += [] if isinstance(adapter, Trainable) else [layer]
            has_up = has_up or bool(adapter.fast())
    except UserError as error:
        return [error.problem]
    if fixed:
        return [Problem("weights.whole_difference", "network_weights", file=path.name, layer=fixed[0])]
    found = []
    if config.text_encoder_steps and there == {"unet"}:
        found.append(Problem("weights.no_text_encoder", "text_encoder_steps"))
    if config.loraplus_lr_ratio != 1 and not has_up:
        found.append(Problem("weights.no_up_matrix", "loraplus_lr_ratio", file=path.name))
    return found


def continued_warnings(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
    """Warn of a DoRA with magnitudes per output. It stays one, but the WebUI (v1.10.1) reads it as one per input."""
    try:
        for _, layer, adapter in adapters_of(config, base):
            size = adapter.dora_scale
            if size is not None and len(size) == size.numel() > 1:
                known: dict[str, Any] = {"file": continued(config).name, "layer": layer}
                return [Problem("weights.dora_outputs", "network_weights", **known)]
    except UserError:
        return []  # reported as a problem
    return []


def adapters_of(config: ResolvedConfig, base: LatentBase) -> Iterator[tuple[str, str, Adapter]]:
    """Yield the adapters of the LoRA to continue, with their components and layers."""
    weights, unet = lora_network.shapes_of(base), base.architecture.unet
    return lora_file.adapters_of(continued(config), weights, unet, "network_weights")


def word_problems(config: ResolvedConfig) -> list[Problem]:
    """Return the words in the file that this run would lose, or train from scratch, as problems."""
    taught = {word.lower() for word in prompt_templates.tokens(config)}
    try:
        brought = [word.word for word in embedding_file.read_bundle(continued(config), "network_weights")]
    except UserError as error:
        return [error.problem]
    name = continued(config).name
    if lost := [word for word in brought if word.lower() not in taught]:
        return [Problem("weights.word_lost", "placeholder_token", file=name, word=shown(lost[0]), words=brought)]
    if brought and not config.embedding_weights:
        return [Problem("weights.word_anew", "embedding_weights", file=name, word=shown(brought[0]))]
    return []


def new_problems(config: ResolvedConfig, base: LatentBase) -> list[Problem]:
    """Return the problems of a new LoRA's settings with this base."""
    found = []
    if strange := lora_network.strange_blocks(config, base):
        found.append(Problem("weights.unknown_block", "block_ranks", block=shown(strange[0])))
    sizes = lora_network.sizes(config, base)
    if not any(sizes.values()) and not config.text_encoder_steps:
        found.append(Problem("weights.no_layers", "target_modules"))
    elif config.text_encoder_steps and not sum(sizes.values()) - sizes["unet"]:
        found.append(Problem("weights.none_in_text_encoder", "text_encoder_steps"))
    return found
