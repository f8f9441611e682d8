"""Recognise what a model file contains, and a checkpoint's architecture, from the names and shapes of its tensors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ...core.errors import UserError
from ...core.facts.lora_types import LORA_TYPES
from ...core.messages.message import Message
from .architecture import Architecture, shipped
from .families import FAMILIES, SD2, SDXL, Family, TextSlot, family_titles
from .key_maps import UNET_PREFIX, VAE_PREFIX

OTHER_LORA_PARTS = r"lora_(A|B)\b|\.lora\.|_lora\.|\.lora_linear_layer\.|lora_magnitude_vector"  # diffusers', PEFT's
LORA_PART = "|".join([*(facts.mark for facts in LORA_TYPES.values() if facts.mark), OTHER_LORA_PARTS])
Shapes = Mapping[str, tuple[int, ...]]

OLD_CLIP = re.compile(r"^cond_stage_model\.transformer\.(?=(embeddings|encoder|final_layer_norm)\.)")
SGM_SD2 = "conditioner.embedders.0.model."  # SD 2.1 Turbo: SD2's encoder where SDXL's software puts it
KINDS_BY_CHANNELS = {5: "kind.depth", 7: "kind.upscaler", 8: "kind.instruct_pix2pix"}  # by the UNet's input channels
SECOND_ENCODER = SDXL.text.slots[1].prefix + "ln_final.weight"


def canonical_names(shapes: Shapes) -> dict[str, str]:
    """Return {usual key: key in the file}, for files that name their text encoder in an older or different way."""
    turbo = shapes.get(SGM_SD2 + "ln_final.weight") == (1024,) and SECOND_ENCODER not in shapes
    names = {}
    for key in shapes:
        usual = OLD_CLIP.sub("cond_stage_model.transformer.text_model.", key)
        if turbo and key.startswith(SGM_SD2):
            usual = SD2.text.slots[0].prefix + key[len(SGM_SD2) :]
        names[usual] = key
    return names


def family_of(shapes: Shapes) -> Family | None:
    for family in reversed(FAMILIES.values()):
        marks = [token_embedding(slot) for slot in family.text.slots]
        if all(mark in shapes for mark in marks):
            return family
    return None


def token_embedding(slot: TextSlot) -> str:
    inner = "text_model.embeddings.token_embedding.weight" if slot.kind == "clip" else "token_embedding.weight"
    return slot.prefix + inner


def recognise(shapes: Shapes) -> Architecture:
    """Return the architecture of a file that is known to be a Stable Diffusion checkpoint.

    Attention heads do not show in shapes; they follow the family's rule (SD1: 8; SD2, SDXL: 64 channels each). Raises
    KeyError if a tensor that determines sizes is missing.
    """
    family = family_of(shapes)
    assert family is not None
    usual = shipped(family.name)
    texts = [
        {**config, **text_sizes(shapes, slot)}
        for slot, config in zip(family.text.slots, usual.text_encoders, strict=True)
    ]
    unet = {**usual.unet, **unet_sizes(shapes, family)}
    if unet.get("addition_embed_type"):
        # the label embedding takes the pooled text and six embedded numbers (sizes and crops)
        pooled = texts[-1]["projection_dim"]
        unet["addition_time_embed_dim"] = (unet["projection_class_embeddings_input_dim"] - pooled) // 6
    vae = {**usual.vae, **vae_sizes(shapes)}
    return Architecture(family, unet, vae, tuple(texts), dict(usual.scheduler))


def unet_sizes(shapes: Shapes, family: Family) -> dict[str, Any]:
    channels, layers, depths = unet_levels(shapes)
    middle = depth_of_transformer(shapes, "middle_block.1.")
    attention = [depth > 0 for depth in depths]
    depths = [depth or 1 for depth in depths]
    if not attention[-1]:
        depths[-1] = middle  # diffusers takes the middle's depth from the last level
    mark = next(level for level in inner_keys(shapes, UNET_PREFIX) if level.endswith("attn2.to_k.weight"))
    sizes: dict[str, Any] = {
        "in_channels": shapes[UNET_PREFIX + "input_blocks.0.0.weight"][1],
        "out_channels": shapes[UNET_PREFIX + "out.2.weight"][0],
        "block_out_channels": channels,
        "layers_per_block": layers[0] if len(set(layers)) == 1 else layers,
        "transformer_layers_per_block": depths[0] if len(set(depths)) == 1 else depths,
        "cross_attention_dim": shapes[UNET_PREFIX + mark][1],
        "use_linear_projection": len(shapes[UNET_PREFIX + "middle_block.1.proj_in.weight"]) == 2,
        "attention_head_dim": family.denoiser.heads or [max(1, width // 64) for width in channels],
        **block_types(attention),
    }
    if UNET_PREFIX + "label_emb.0.0.weight" in shapes:
        sizes["projection_class_embeddings_input_dim"] = shapes[UNET_PREFIX + "label_emb.0.0.weight"][1]
    return sizes


def block_types(attention: list[bool]) -> dict[str, list[str]]:
    """Return diffusers' names of the UNet's levels, for the way down and up."""
    kinds = ["CrossAttn" if attends else "" for attends in attention]
    return {
        "down_block_types": [f"{kind}DownBlock2D" for kind in kinds],
        "up_block_types": [f"{kind}UpBlock2D" for kind in reversed(kinds)],
    }


def unet_levels(shapes: Shapes) -> tuple[list[int], list[int], list[int]]:
    """Return each level's channels, number of residual layers and transformer depth (0: none)."""
    channels, layers, depths = [], [0], [0]
    block = 0
    while True:
        block += 1
        here = f"{UNET_PREFIX}input_blocks.{block}.0."
        if here + "op.weight" in shapes:
            layers.append(0)
            depths.append(0)
        elif here + "in_layers.2.weight" in shapes:
            width = shapes[here + "in_layers.2.weight"][0]
            if layers[-1] == 0:
                channels.append(width)
            layers[-1] += 1
            depths[-1] = depth_of_transformer(shapes, f"input_blocks.{block}.1.")
        else:
            return channels, layers, depths


def depth_of_transformer(shapes: Shapes, here: str) -> int:
    depth = 0
    while f"{UNET_PREFIX}{here}transformer_blocks.{depth}.norm1.weight" in shapes:
        depth += 1
    return depth


def vae_sizes(shapes: Shapes) -> dict[str, Any]:
    encoder = VAE_PREFIX + "encoder."
    channels: list[int] = []
    while f"{encoder}down.{len(channels)}.block.0.conv1.weight" in shapes:
        channels.append(shapes[f"{encoder}down.{len(channels)}.block.0.conv1.weight"][0])
    layers = 0
    while f"{encoder}down.0.block.{layers}.conv1.weight" in shapes:
        layers += 1
    return {
        "in_channels": shapes[encoder + "conv_in.weight"][1],
        "out_channels": shapes[VAE_PREFIX + "decoder.conv_out.weight"][0],
        "latent_channels": shapes[VAE_PREFIX + "decoder.conv_in.weight"][1],
        "block_out_channels": channels,
        "layers_per_block": layers,
        "down_block_types": ["DownEncoderBlock2D"] * len(channels),
        "up_block_types": ["UpDecoderBlock2D"] * len(channels),
    }


def text_sizes(shapes: Shapes, slot: TextSlot) -> dict[str, Any]:
    clip = slot.kind == "clip"
    layer = "text_model.encoder.layers" if clip else "transformer.resblocks"
    feed = "mlp.fc1.weight" if clip else "mlp.c_fc.weight"
    positions = "text_model.embeddings.position_embedding.weight" if clip else "positional_embedding"
    vocabulary, width = shapes[token_embedding(slot)]
    layers = 0
    while f"{slot.prefix}{layer}.{layers}.{feed}" in shapes:
        layers += 1
    projection = shapes.get(slot.prefix + "text_projection", (width, width))
    return {
        "vocab_size": vocabulary,
        "hidden_size": width,
        "max_position_embeddings": shapes[slot.prefix + positions][0],
        "intermediate_size": shapes[f"{slot.prefix}{layer}.0.{feed}"][0],
        "num_hidden_layers": layers - slot.dropped_layers,
        "num_attention_heads": max(1, width // 64),
        "projection_dim": projection[1],
    }


def inner_keys(shapes: Iterable[str], prefix: str) -> list[str]:
    return [key[len(prefix) :] for key in shapes if key.startswith(prefix)]


# Files that are not checkpoints


def refuse_others(shapes: Shapes, name: str, field: str) -> None:
    """Raise UserError, naming what the file is, unless it is a checkpoint of a family in `FAMILIES`."""
    known: dict[str, Any] = {"file": name, "families": family_titles()}
    if not shapes:
        raise UserError("base.no_tensors", field, **known)
    if what := addition_to_a_model(shapes):
        raise UserError("base.not_complete", field, kind=what, **known)
    if what := other_model(shapes):
        raise UserError("base.not_trainable", field, kind=what, **known)
    if not inner_keys(shapes, UNET_PREFIX):
        raise UserError("base.not_stable_diffusion", field, **known)
    if len(shapes.get(UNET_PREFIX + "input_blocks.0.0.weight", ())) != 4:
        raise UserError("base.unknown_diffusion", field, **known)
    channels = shapes[UNET_PREFIX + "input_blocks.0.0.weight"][1]
    if channels in KINDS_BY_CHANNELS:
        kind = Message(KINDS_BY_CHANNELS[channels])
        raise UserError("base.kind_channels", field, kind=kind, channels=channels, **known)
    if channels not in (4, 9):
        raise UserError("base.unknown_channels", field, channels=channels, **known)
    if family_of(shapes) is None:
        raise UserError("base.no_text_encoder", field, **known)
    if VAE_PREFIX + "encoder.conv_in.weight" not in shapes:
        raise UserError("base.no_vae", field, file=name)


def kind_of(content: Any) -> Message | None:
    """Return what kind of file this is, by the names in it, for errors about a wrong file. None: unknown."""
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        return None
    if "string_to_param" in content:
        return Message("kind.embedding")
    if "layer_structure" in content or any(isinstance(key, int) for key in content):
        return Message("kind.hypernetwork")
    keys = dict.fromkeys(key for key in content if isinstance(key, str))
    if any(key.startswith(UNET_PREFIX) for key in keys):
        return Message("kind.complete_model")
    return addition_to_a_model(keys) if keys else None


def addition_to_a_model(shapes: Iterable[str]) -> Message | None:
    keys = list(shapes)
    if any(re.search(LORA_PART, key) for key in keys):
        return Message("kind.lora")
    if set(keys) <= {"emb_params", "clip_l", "clip_g"}:
        return Message("kind.embedding")
    if any(key.startswith(("control_model.", "controlnet_", "input_hint_block.", "adapter.")) for key in keys):
        return Message("kind.controlnet")
    if all(key.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv.", "loss.")) for key in keys):
        return Message("kind.vae")
    if all(key.startswith((VAE_PREFIX, "vae.")) for key in keys):
        return Message("kind.vae")
    if any(key.startswith("down_blocks.") for key in keys):
        return Message("kind.diffusers_part")
    if all(key.startswith(("text_model.", "vision_model.", "transformer.", "text_projection")) for key in keys):
        return Message("kind.text_encoder")
    return None


def other_model(shapes: Shapes) -> Message | None:
    keys = list(shapes)
    if any("double_blocks." in key for key in keys):
        return Message("kind.flux")
    if any("joint_blocks." in key or "joint_transformer_blocks." in key for key in keys):
        return Message("kind.sd3")
    if "conditioner.embedders.0.model.ln_final.weight" in shapes and not set(shapes) & {SECOND_ENCODER}:
        return Message("kind.refiner")
    if any(key.startswith("cond_stage_model.roberta.") for key in keys):
        return Message("kind.alt_diffusion")
    if UNET_PREFIX + "input_blocks.0.0.weight" in shapes and UNET_PREFIX + "middle_block.1.norm.weight" not in shapes:
        return Message("kind.pruned_sdxl")
    if any(key.startswith("model_ema.") for key in keys) and not inner_keys(shapes, UNET_PREFIX):
        return Message("kind.averaged_only")
    return None
