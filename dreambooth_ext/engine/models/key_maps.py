"""Translate single-file (LDM) keys to diffusers keys and back, for any sizes: each tensor's names and forms in both.

The names follow from the configuration alone, so a missing tensor is noticed before anything is read, and the same list
serves both directions. Sources: CompVis latent-diffusion's `openaimodel.py` and `model.py`, open_clip's
`transformer.py`, diffusers' `UNet2DConditionModel` and `AutoencoderKL`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .architecture import Architecture, per_level
from .families import TextSlot

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
EMA_PREFIX = "model_ema."  # outdated as soon as anything is trained, so never copied


class Tie(NamedTuple):
    """A tensor in a single file, and the tensor or tensors in diffusers that hold the same numbers."""

    ldm: str
    diffusers: tuple[str, ...]
    form: str = "same"  # in the single file, "conv": [o, i, 1, 1] for [o, i]; "rows": q, k, v stacked; "transposed"


def ties(architecture: Architecture) -> dict[str, list[Tie]]:
    """Return every tensor of every component: {"unet": [...], "vae": [...], "text_encoder": [...], ...}."""
    found = {"unet": unet_ties(architecture.unet), "vae": vae_ties(architecture.vae)}
    names = architecture.family.components[2:]
    for name, slot, config in zip(names, architecture.family.text.slots, architecture.text_encoders, strict=True):
        found[name] = text_ties(config, slot)
    return found


def unet_key_map(config: Mapping[str, Any]) -> dict[str, str]:
    """Return {key in a single file: key in diffusers} for the whole UNet, whose tensors are the same in both."""
    return {tie.ldm: tie.diffusers[0] for tie in unet_ties(config)}


def to_diffusers(state: Mapping[str, Tensor], architecture: Architecture) -> dict[str, dict[str, Tensor]]:
    """Convert a single file's tensors to diffusers' keys, by component. Raises KeyError if one is missing."""
    return {name: component_to_diffusers(state, part) for name, part in ties(architecture).items()}


def to_ldm(components: Mapping[str, Mapping[str, Tensor]], architecture: Architecture) -> dict[str, Tensor]:
    """Convert components to a single file's tensors, the inverse of `to_diffusers`. Components not given are left
    out."""
    state: dict[str, Tensor] = {}
    for name, part in ties(architecture).items():
        if name in components:
            state.update(component_to_ldm(components[name], part))
    return state


def component_to_diffusers(state: Mapping[str, Tensor], part: Sequence[Tie]) -> dict[str, Tensor]:
    return {key: tensor for tie in part for key, tensor in zip(tie.diffusers, unfold(tie, state[tie.ldm]), strict=True)}


def component_to_ldm(state: Mapping[str, Tensor], part: Sequence[Tie]) -> dict[str, Tensor]:
    return {tie.ldm: fold(tie, [state[key] for key in tie.diffusers]) for tie in part}


def unfold(tie: Tie, tensor: Tensor) -> tuple[Tensor, ...]:
    """Convert a single file's tensor to diffusers' form, contiguous."""
    if tie.form == "conv":
        return (tensor.reshape(tensor.shape[:2]),)
    if tie.form == "rows":
        return tuple(rows.contiguous() for rows in tensor.chunk(3))
    if tie.form == "transposed":
        return (tensor.T.contiguous(),)
    return (tensor,)


def fold(tie: Tie, tensors: Sequence[Tensor]) -> Tensor:
    """Convert diffusers' tensors to a single file's form, the inverse of `unfold`."""
    if tie.form == "rows":
        return torch.cat(list(tensors))
    (tensor,) = tensors
    if tie.form == "conv":
        return tensor.reshape(*tensor.shape[:2], 1, 1)
    return tensor.T.contiguous() if tie.form == "transposed" else tensor


def folded_shape(tie: Tie, shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of `fold`'s result, given the shape of its first tensor."""
    if tie.form == "conv":
        return (*shape[:2], 1, 1)
    if tie.form == "rows":
        return (shape[0] * 3, *shape[1:])
    return tuple(reversed(shape)) if tie.form == "transposed" else tuple(shape)


def pair(ldm: str, diffusers: str, form: str = "same", leaves: Sequence[str] = ("weight", "bias")) -> list[Tie]:
    """Return the ties of a layer's weight and bias. Only the weight can have another form, since a bias has one
    axis."""
    return [Tie(f"{ldm}.{x}", (f"{diffusers}.{x}",), form if x == "weight" else "same") for x in leaves]


# UNet


def unet_ties(config: Mapping[str, Any]) -> list[Tie]:
    part = [
        *pair("time_embed.0", "time_embedding.linear_1"),
        *pair("time_embed.2", "time_embedding.linear_2"),
        *pair("input_blocks.0.0", "conv_in"),
        *pair("out.0", "conv_norm_out"),
        *pair("out.2", "conv_out"),
    ]
    if config.get("addition_embed_type") == "text_time":
        part += pair("label_emb.0.0", "add_embedding.linear_1") + pair("label_emb.0.2", "add_embedding.linear_2")
    levels = len(config["block_out_channels"])
    depths = per_level(config.get("transformer_layers_per_block", 1), levels)
    down, skips = unet_down_ties(config, depths)
    middle = unet_resnet_ties("middle_block.0", "mid_block.resnets.0", False)
    middle += transformer_ties("middle_block.1", "mid_block.attentions.0", depths[-1])
    middle += unet_resnet_ties("middle_block.2", "mid_block.resnets.1", False)
    part += down + middle + unet_up_ties(config, depths, skips)
    return [tie._replace(ldm=UNET_PREFIX + tie.ldm) for tie in part]


def unet_down_ties(config: Mapping[str, Any], depths: Sequence[int]) -> tuple[list[Tie], list[int]]:
    """Return the ties of the way down, and the channels of each skip connection."""
    channels = config["block_out_channels"]
    layers = per_level(config["layers_per_block"], len(channels))
    part: list[Tie] = []
    width, skips = channels[0], [channels[0]]
    block = 0
    for level, out in enumerate(channels):
        here = f"down_blocks.{level}"
        for layer in range(layers[level]):
            block += 1
            part += unet_resnet_ties(f"input_blocks.{block}.0", f"{here}.resnets.{layer}", width != out)
            if config["down_block_types"][level].startswith("CrossAttn"):
                part += transformer_ties(f"input_blocks.{block}.1", f"{here}.attentions.{layer}", depths[level])
            width = out
            skips.append(width)
        if level < len(channels) - 1:
            block += 1
            part += pair(f"input_blocks.{block}.0.op", f"{here}.downsamplers.0.conv")
            skips.append(width)
    return part, skips


def unet_up_ties(config: Mapping[str, Any], depths: Sequence[int], skips: list[int]) -> list[Tie]:
    channels = config["block_out_channels"]
    layers = per_level(config["layers_per_block"], len(channels))
    part: list[Tie] = []
    width, skips, block = channels[-1], list(skips), 0
    for up, level in enumerate(reversed(range(len(channels)))):
        here, out = f"up_blocks.{up}", channels[level]
        attends = config["down_block_types"][level].startswith("CrossAttn")
        for layer in range(layers[level] + 1):
            shortcut = width + skips.pop() != out
            part += unet_resnet_ties(f"output_blocks.{block}.0", f"{here}.resnets.{layer}", shortcut)
            if attends:
                part += transformer_ties(f"output_blocks.{block}.1", f"{here}.attentions.{layer}", depths[level])
            if level and layer == layers[level]:
                part += pair(f"output_blocks.{block}.{2 if attends else 1}.conv", f"{here}.upsamplers.0.conv")
            width = out
            block += 1
    return part


def unet_resnet_ties(ldm: str, diffusers: str, shortcut: bool) -> list[Tie]:
    names = {
        "in_layers.0": "norm1",
        "in_layers.2": "conv1",
        "emb_layers.1": "time_emb_proj",
        "out_layers.0": "norm2",
        "out_layers.3": "conv2",
    }
    if shortcut:
        names["skip_connection"] = "conv_shortcut"
    return [tie for a, b in names.items() for tie in pair(f"{ldm}.{a}", f"{diffusers}.{b}")]


def transformer_ties(ldm: str, diffusers: str, depth: int) -> list[Tie]:
    """Return the ties of a spatial transformer, whose inner names are the same in both."""
    names = ["norm", "proj_in", "proj_out"]
    bare = []
    for index in range(depth):
        block = f"transformer_blocks.{index}"
        names += [f"{block}.{x}" for x in ("norm1", "norm2", "norm3", "ff.net.0.proj", "ff.net.2")]
        names += [f"{block}.{attention}.to_out.0" for attention in ("attn1", "attn2")]
        bare += [f"{block}.{attention}.to_{x}" for attention in ("attn1", "attn2") for x in "qkv"]
    part = [tie for name in names for tie in pair(f"{ldm}.{name}", f"{diffusers}.{name}")]
    return part + [tie for x in bare for tie in pair(f"{ldm}.{x}", f"{diffusers}.{x}", leaves=["weight"])]


# Autoencoder


def vae_ties(config: Mapping[str, Any]) -> list[Tie]:
    part = [*pair("quant_conv", "quant_conv"), *pair("post_quant_conv", "post_quant_conv")]
    for side in ("encoder", "decoder"):
        part += pair(f"{side}.conv_in", f"{side}.conv_in") + pair(f"{side}.conv_out", f"{side}.conv_out")
        part += pair(f"{side}.norm_out", f"{side}.conv_norm_out") + vae_middle_ties(side)
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    last = len(channels) - 1
    width = channels[0]
    for level, out in enumerate(channels):
        ldm, diffusers = f"encoder.down.{level}", f"encoder.down_blocks.{level}"
        for layer in range(layers):
            part += vae_resnet_ties(f"{ldm}.block.{layer}", f"{diffusers}.resnets.{layer}", width != out)
            width = out
        if level < last:
            part += pair(f"{ldm}.downsample.conv", f"{diffusers}.downsamplers.0.conv")
    for level in reversed(range(len(channels))):  # the single file counts the way up from the fine end
        out, ldm, diffusers = channels[level], f"decoder.up.{level}", f"decoder.up_blocks.{last - level}"
        for layer in range(layers + 1):
            part += vae_resnet_ties(f"{ldm}.block.{layer}", f"{diffusers}.resnets.{layer}", width != out)
            width = out
        if level:
            part += pair(f"{ldm}.upsample.conv", f"{diffusers}.upsamplers.0.conv")
    return [tie._replace(ldm=VAE_PREFIX + tie.ldm) for tie in part]


def vae_middle_ties(side: str) -> list[Tie]:
    ldm, diffusers = f"{side}.mid", f"{side}.mid_block"
    part = vae_resnet_ties(f"{ldm}.block_1", f"{diffusers}.resnets.0", False)
    part += vae_resnet_ties(f"{ldm}.block_2", f"{diffusers}.resnets.1", False)
    part += pair(f"{ldm}.attn_1.norm", f"{diffusers}.attentions.0.group_norm")
    for a, b in {"q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}.items():
        part += pair(f"{ldm}.attn_1.{a}", f"{diffusers}.attentions.0.{b}", form="conv")
    return part


def vae_resnet_ties(ldm: str, diffusers: str, shortcut: bool) -> list[Tie]:
    names = {"norm1": "norm1", "conv1": "conv1", "norm2": "norm2", "conv2": "conv2"}
    if shortcut:
        names["nin_shortcut"] = "conv_shortcut"
    return [tie for a, b in names.items() for tie in pair(f"{ldm}.{a}", f"{diffusers}.{b}")]


# Text encoders


def text_ties(config: Mapping[str, Any], slot: TextSlot) -> list[Tie]:
    part = openclip_ties(config, slot.projected) if slot.kind == "openclip" else clip_ties(config)
    return [tie._replace(ldm=slot.prefix + tie.ldm) for tie in part]


def clip_ties(config: Mapping[str, Any]) -> list[Tie]:
    names = ["text_model.final_layer_norm"]
    for layer in range(config["num_hidden_layers"]):
        here = f"text_model.encoder.layers.{layer}"
        names += [f"{here}.self_attn.{x}_proj" for x in ("q", "k", "v", "out")]
        names += [f"{here}.{x}" for x in ("layer_norm1", "layer_norm2", "mlp.fc1", "mlp.fc2")]
    part = [tie for name in names for tie in pair(name, name)]
    for name in ("token_embedding", "position_embedding"):
        part += pair(f"text_model.embeddings.{name}", f"text_model.embeddings.{name}", leaves=["weight"])
    return part


def openclip_ties(config: Mapping[str, Any], projected: bool) -> list[Tie]:
    embeddings = "text_model.embeddings"
    part = [
        Tie("token_embedding.weight", (f"{embeddings}.token_embedding.weight",)),
        Tie("positional_embedding", (f"{embeddings}.position_embedding.weight",)),
        *pair("ln_final", "text_model.final_layer_norm"),
    ]
    if projected:
        part.append(Tie("text_projection", ("text_projection.weight",), "transposed"))
    for layer in range(config["num_hidden_layers"]):
        ldm, diffusers = f"transformer.resblocks.{layer}", f"text_model.encoder.layers.{layer}"
        for x in ("weight", "bias"):
            rows = tuple(f"{diffusers}.self_attn.{y}_proj.{x}" for y in "qkv")
            part.append(Tie(f"{ldm}.attn.in_proj_{x}", rows, "rows"))
        part += pair(f"{ldm}.attn.out_proj", f"{diffusers}.self_attn.out_proj")
        for a, b in {"ln_1": "layer_norm1", "ln_2": "layer_norm2"}.items():
            part += pair(f"{ldm}.{a}", f"{diffusers}.{b}")
        part += pair(f"{ldm}.mlp.c_fc", f"{diffusers}.mlp.fc1") + pair(f"{ldm}.mlp.c_proj", f"{diffusers}.mlp.fc2")
    return part
