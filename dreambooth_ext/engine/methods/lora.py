"""LoRA and its relatives: small changes of chosen layers learn, the model itself stays as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from ...config import RunConfig
from ...errors import UserError
from ...rates import scaled
from .. import network, network_file
from ..backbone import Backbone
from ..base import Base
from ..batch import Batch
from ..export import Exported, export_network
from ..network import TEXT_PARTS, Network
from ..objective import Objective
from .full import Weights


class LoRA:
    """`captions` are all that the run can train on, or None where that cannot be told ahead."""

    def __init__(self, config: RunConfig, objective: Objective, captions: list[str] | None, folder: Path):
        self.config = config
        self.objective = objective
        self.captions = captions
        self.backbone: Backbone
        self.accelerator: Accelerator
        self.weight_dtype = torch.float32
        self.network: Network = {}
        self._names: network_file.Names = {}
        self._live: list[str] = []  # components that learn at this moment
        self._hooks: dict[str, list[Any]] = {}

    def prepare(
        self,
        backbone: Backbone,
        accelerator: Accelerator,
        weight_dtype: torch.dtype,
        saved: Weights | None,
        step: int,
    ) -> None:
        """Put adapters into the models, as they are before `step`: new ones, those of a LoRA file, or the `saved` ones
        of a training state."""
        self.backbone, self.accelerator, self.weight_dtype = backbone, accelerator, weight_dtype
        prompts, config = backbone.prompts, self.config
        models = {"unet": backbone.unet, **dict(zip(TEXT_PARTS, prompts.text.encoders, strict=False))}
        self._names = network_file.file_names(network_file.layers_of(models), backbone.unet.config)
        if config.text_encoder_steps:
            prompts.train()
        for module in models.values():
            module.requires_grad_(False)
        backbone.unet.train()
        halve_layers(backbone.unet, weight_dtype)
        self.network = self._adapters(models, saved)
        self._live = [name for name in models if name == "unet" or config.text_encoder_steps]
        for name, made in self.network.items():
            for adapter in made.values():
                adapter.to(accelerator.device)
            self._hooks[name] = network.attach(models[name], made, config.network_dropout)
        if step >= config.text_encoder_steps:
            self._freeze_text()
        backbone.unet = self._placed(backbone.unet)
        if prompts.training:
            prompts.text.encoders = [self._placed(encoder) for encoder in prompts.text.encoders]

    def _adapters(self, models: dict[str, nn.Module], saved: Weights | None) -> Network:
        config = self.config
        if saved:
            return {name: network.from_flat(saved[name], module) for name, module in models.items() if name in saved}
        if not config.network_weights:
            learning = [name for name in models if name == "unet" or config.text_encoder_steps]
            made = {name: network.create(config, name, models[name]) for name in learning}
            return {name: adapters for name, adapters in made.items() if adapters}
        path = Path(config.network_weights).expanduser()
        found, strangers = network_file.read(path, models, "network_weights")
        fixed = [layer for made in found.values() for layer, adapter in made.items() if not adapter.TRAINS]
        if strangers or fixed:
            what = f"{path.name} holds parts that cannot be trained on here, {(strangers or fixed)[0]} among them."
            raise UserError("network_weights", what, "Merge it into the base, and train a new LoRA on that.")
        return found

    def _placed(self, module: nn.Module) -> nn.Module:
        """As in `full.py`: gradients of several processes are averaged by the loop."""
        return self.accelerator.prepare_model(module, evaluation_mode=True)

    def parameter_groups(self) -> list[dict[str, Any]]:
        """What learns from here on. The UNet comes first, so that the groups that leave are the last ones."""
        config, groups = self.config, []
        second = config.text_encoder_lr if config.text_encoder_2_lr is None else config.text_encoder_2_lr
        rates = {"unet": config.learning_rate, "text_encoder": config.text_encoder_lr, "text_encoder_2": second}
        for name in self._live:
            made = self.network.get(name, {}).values()
            fast = [p for adapter in made for p in adapter.fast()] if config.loraplus_lr_ratio != 1 else []
            known = set(map(id, fast))
            rest = [p for adapter in made for p in adapter.parameters() if id(p) not in known]
            groups.append({"name": name, "rate": rates[name], "params": rest})
            if fast:
                rate = scaled(rates[name], config.loraplus_lr_ratio)
                groups.append({"name": f"{name}_up", "rate": rate, "params": fast})
        return [group for group in groups if group["params"]]

    def averaged(self) -> list[nn.Parameter]:
        """What the moving average follows."""
        return [parameter for adapter in self.network.get("unet", {}).values() for parameter in adapter.parameters()]

    def enter(self, step: int) -> list[str]:
        """Called before each step; names the groups that have stopped learning with it."""
        names = [group["name"] for group in self.parameter_groups() if group["name"].startswith("text_encoder")]
        if self._live == ["unet"] or step < self.config.text_encoder_steps:
            return []
        self._freeze_text()
        return names

    def loss(self, batch: Batch, generator: torch.Generator) -> Tensor:
        latents_bchw, extra_bchw = self.backbone.latents(batch, generator)
        conditioning = self.backbone.prompts(batch.captions)
        return self.objective.loss(
            self.backbone.unet, latents_bchw, conditioning, batch.time_ids_b6, batch.weights_b, generator, extra_bchw
        )

    def state_dict(self) -> dict[str, dict[str, Tensor]]:
        """All adapters by component, those that have stopped learning too."""
        return {name: network.flat(made) for name, made in self.network.items()}

    def load_state_dict(self, weights: Weights) -> None:
        """Take the numbers of a training state of this network."""
        for name, made in self.network.items():
            for layer, adapter in made.items():
                for part, tensor in adapter.tensors().items():
                    tensor.copy_(weights[name][f"{layer}.{part}"])

    def about(self) -> dict[str, str]:
        """What the file says of itself beyond what every model says."""
        return network_file.metadata(self.config)

    def export(self, base: Base, path: Path, **about: Any) -> Exported:
        """The adapters alone, as kohya's tools name them."""
        return export_network(base, self.network, self._names, path, **about)

    def _freeze_text(self) -> None:
        """Put what the text encoders have learned into their weights, encode all captions, and let them go."""
        accelerator, text = self.accelerator, self.backbone.prompts.text
        text.encoders = [accelerator.unwrap_model(encoder, keep_fp32_wrapper=False) for encoder in text.encoders]
        for name, encoder in zip(TEXT_PARTS, text.encoders, strict=False):
            for hook in self._hooks.pop(name, []):
                hook.remove()
            network.merge(encoder, self.network.get(name, {}))
        self._live = ["unet"]
        unet = accelerator.unwrap_model(self.backbone.unet)
        # accelerate holds on to all that it prepared, and has no call to forget one model
        accelerator._models[:] = [m for m in accelerator._models if accelerator.unwrap_model(m) is unet]
        drawn = [*self.config.validation_prompts, self.config.validation_negative_prompt]
        self.backbone.prompts.freeze(self.captions, self.weight_dtype, drawn)


def halve_layers(module: nn.Module, dtype: torch.dtype) -> None:
    """Keep frozen layers in the precision that they compute in under mixed precision: the same results, in half of the
    memory. Norms and embeddings stay, for they compute in float32."""
    for _, layer in network.named_layers(module):
        layer.to(dtype)
