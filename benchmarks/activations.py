"""What a training step takes beside weights and optimizer, counted without computing: `benchmarks.activations`.

PyTorch's fake tensors have sizes and no numbers, so a full-size UNet goes forward and backward in no memory, on any
machine, in a minute or two. Norms compute in float32, as they do on a card. Convolutions' and matrix products' scratch
memory is not in it. engine/plan.py's estimate of a run's memory rests on these numbers.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import weakref
from collections.abc import Iterable, Iterator
from typing import Any
from unittest import mock

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel, UNet2DModel
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.system.files import human_size
from dreambooth_ext.engine.models.architecture import shipped
from dreambooth_ext.engine.models.unconditional_base import DEFAULT
from dreambooth_ext.engine.networks import lora_network
from dreambooth_ext.engine.optimization import single_steps

LORA = {"rank": 16, "alpha": 16.0, "network_type": "lora", "target_modules": ["attention", "feed_forward"]}


class Alive(TorchDispatchMode):
    """Bytes of all tensors that are made inside and not gone yet, `now` and at the `peak`; those `known` are free."""

    def __init__(self, known: Iterable[Tensor]):
        super().__init__()
        self.now = self.peak = 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = function(*args, **(kwargs or {}))
        for tensor in tree_leaves(made):
            if isinstance(tensor, Tensor):
                self._take(tensor.untyped_storage())
        return made

    def _take(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.now += self._sizes[key]
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._drop, key)

    def _drop(self, key: int) -> None:
        self.now -= self._sizes.pop(key)


@contextlib.contextmanager
def card_rules() -> Iterator[None]:
    """autocast as on a card, where the norms compute in float32; on the CPU they stay in 16 bits."""

    def forward(original: Any) -> Any:
        def in_float32(layer: nn.Module, inputs: Tensor) -> Tensor:
            if not torch.is_autocast_enabled("cpu"):
                return original(layer, inputs)
            with torch.autocast("cpu", enabled=False):
                return original(layer, inputs.float())

        return in_float32

    with contextlib.ExitStack() as patches:
        for kind in (nn.GroupNorm, nn.LayerNorm):
            patches.enter_context(mock.patch.object(kind, "forward", forward(kind.forward)))
        yield


def make_unet(
    config: dict[str, Any], checkpointing: bool, half: bool, lora: bool, bf16_weights: bool = False
) -> tuple[nn.Module, list[Tensor]]:
    """A UNet without numbers, and what learns of it: all of it, or a LoRA of rank 16 on a base kept in 16 bits."""
    unet = (UNet2DConditionModel if "cross_attention_dim" in config else UNet2DModel).from_config(config).train()
    if checkpointing:
        unet.enable_gradient_checkpointing()
    if not lora:
        for layer in unet.modules() if bf16_weights else ():
            for name, parameter in layer.named_parameters(recurse=False):
                setattr(layer, name, nn.Parameter(parameter.to(torch.bfloat16)))
        return unet, list(unet.parameters())
    unet.requires_grad_(False)
    for _, layer in lora_network.named_layers(unet) if half else ():
        for name, parameter in layer.named_parameters(recurse=False):  # fake tensors cannot be converted in place
            setattr(layer, name, nn.Parameter(parameter.to(torch.bfloat16), requires_grad=False))
    made = lora_network.create(RunConfig(method="lora", **LORA), "unet", unet)
    lora_network.attach(unet, made, 0.0)
    return unet, [parameter for adapter in made.values() for parameter in adapter.parameters()]


def inputs_of(config: dict[str, Any], batch: int, side: int) -> dict[str, Any]:
    """What such a UNet takes, of so many pixels a side."""
    given: dict[str, Any] = {"sample": torch.randn(batch, config["in_channels"], side, side)}
    given["timestep"] = torch.zeros(batch, dtype=torch.long)
    if "cross_attention_dim" in config:
        given["encoder_hidden_states"] = torch.randn(batch, 77, config["cross_attention_dim"])
    if config.get("projection_class_embeddings_input_dim"):
        given["added_cond_kwargs"] = {"text_embeds": torch.randn(batch, 1280), "time_ids": torch.zeros(batch, 6)}
    return given


def stepped(parameter: Tensor) -> None:
    """What a step of one parameter takes, and its gradient's end."""
    if parameter.dtype == torch.bfloat16:
        held = [parameter.detach().float(), parameter.grad.float(), torch.zeros(parameter.shape)]
        single_steps.rounded(held[0], torch.Generator())
    parameter.grad = None


def count(
    config: dict[str, Any],
    side: int,
    batch: int = 1,
    *,
    checkpointing: bool = False,
    half: bool = False,
    lora: bool = False,
    fused: bool = False,
    cache: bool = False,
    bf16_weights: bool = False,
) -> dict[str, int]:
    """Bytes of a step of a UNet with that config on pictures of so many of its pixels a side: what is alive besides
    weights "after forward" and at the "peak", all "gradients" included.

    fused: each gradient goes as soon as it is complete. cache: autocast keeps its 16-bit copies of weights.
    bf16_weights: what learns is in bfloat16; a step holds one parameter, its gradient and its update in float32.
    """
    with FakeTensorMode(), card_rules():
        unet, learning = make_unet(config, checkpointing, half, lora, bf16_weights)
        for parameter in learning if fused else ():
            parameter.register_post_accumulate_grad_hook(stepped)
        given = inputs_of(config, batch, side)
        with Alive([*unet.parameters(), *unet.buffers(), *learning]) as alive:
            with torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=cache):
                predicted_bchw = unet(**given).sample
                forward = alive.now
            loss = predicted_bchw.float().pow(2).mean()
            del predicted_bchw
            loss.backward()
        gradients = sum(parameter.nbytes for parameter in learning)
    return {"after forward": forward, "peak": alive.peak, "gradients": gradients}


def count_drawing(config: dict[str, Any], side: int, batch: int = 1, half: bool = False) -> dict[str, int]:
    """Bytes at the "peak" of one pass of a UNet that only draws."""
    with FakeTensorMode(), card_rules(), torch.no_grad():
        unet, _ = make_unet(config, False, False, False)
        given = inputs_of(config, batch, side)
        with (
            Alive(unet.parameters()) as alive,
            torch.autocast("cpu", torch.bfloat16, enabled=half, cache_enabled=False),
        ):
            unet(**given)
    return {"peak": alive.peak}


def count_vae(config: dict[str, Any], resolution: int, batch: int = 1, *, encoding: bool) -> dict[str, int]:
    """Bytes: the autoencoder's "weights", and at the "peak" of encoding pictures or of drawing them what is alive
    besides; float32."""
    with FakeTensorMode(), torch.no_grad():
        vae = AutoencoderKL.from_config(config).eval()
        weights = 4 * sum(parameter.numel() for parameter in vae.parameters())
        side = resolution // 8
        given = torch.randn(batch, 3, resolution, resolution) if encoding else torch.randn(batch, 4, side, side)
        with Alive(vae.parameters()) as alive:
            (vae.encode if encoding else vae.decode)(given)
    return {"weights": weights, "peak": alive.peak}


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.activations", description=__doc__.splitlines()[0])
    parser.add_argument("family", choices=("sd1", "sd2", "sdxl", "unconditional"))
    parser.add_argument("--resolution", type=int, default=512, help="in pixels; 64 is usual for unconditional")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--half", action="store_true", help="mixed precision")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--lora", action="store_true", help="of rank 16, instead of all weights")
    parser.add_argument("--fused", action="store_true", help="the optimizer steps in the backward pass")
    parser.add_argument("--bf16-weights", action="store_true", help="what learns is in bfloat16")
    parser.add_argument("--cache", action="store_true", help="autocast keeps its copies of the weights")
    parser.add_argument("--drawing", action="store_true", help="one pass of the UNet without a backward one instead")
    parser.add_argument("--decoding", action="store_true", help="of the autoencoder that draws the pictures instead")
    parser.add_argument("--encoding", action="store_true", help="of the autoencoder that encodes them instead")
    given = vars(parser.parse_args(argv))
    pixels = given["family"] == "unconditional"
    resolution, batch, half = given["resolution"], given["batch"], given["half"]
    config = {**DEFAULT, "sample_size": resolution} if pixels else shipped(given["family"]).unet
    side = resolution if pixels else resolution // 8
    if given["decoding"] or given["encoding"]:
        counted = count_vae(shipped(given["family"]).vae, resolution, batch, encoding=given["encoding"])
    elif given["drawing"]:
        counted = count_drawing(config, side, batch, half)
    else:
        ways = {name: given[name] for name in ("checkpointing", "lora", "fused", "cache", "bf16_weights")}
        counted = count(config, side, batch, half=half, **ways)
    for name, size in counted.items():
        print(f"{name}: {human_size(size)} ({size / 1e9:.2f} GB)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
