"""Read LDM configurations: the yaml beside a checkpoint, interpreted as the WebUI does. (`ldm_config_writer` writes
them.)"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from .architecture import Architecture, per_level
from .config_limits import between, read_config, require_usual, whole
from .detection import Shapes, block_types, recognise
from .families import FAMILIES, Family
from .ldm_config_writer import CLIP_FOLDER, with_clip, written

LARGEST_YAML = 64 * 1024  # bytes; usual are 3 KB, and reading takes long
FREE_HEADS = -1  # LDM's "not given" of num_heads and num_head_channels


class _Tree(yaml.SafeLoader):
    """A yaml loader that refuses aliases, with which a few lines can expand to millions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise ValueError(Message("base.yaml_aliases"))
        return super().compose_node(parent, index)


@dataclass(frozen=True)
class Described:
    """What a yaml says about a checkpoint."""

    architecture: Architecture
    prediction_type: str
    clip_folder: Path | None  # the local folder its text encoder and tokenizer are made from


def sidecar_of(path: Path) -> Path | None:
    """Return `model.yaml` beside `model.safetensors`, if it exists."""
    sidecar = path.with_suffix(".yaml")
    return sidecar if sidecar.is_file() else None


def from_yaml(text: str, folder: Path, shapes: Shapes, *, name: str, field: str = "base_model") -> Described:
    """Return the architecture that a yaml describes. What it leaves open is taken from the file's shapes.

    folder: the yaml's folder; a relative CLIP folder in it is looked up there, then in the working directory. Raises
    UserError if the yaml cannot be read, is for another kind of model, or does not fit the file.
    """
    params = parameters(text, name, field)
    try:
        family = family_of_yaml(params)
        return described(params, family, folder, shapes, name, field)
    except (LookupError, TypeError, AttributeError, ValueError, ZeroDivisionError, OSError) as error:
        raise UserError("base.yaml_incomplete", field, file=name, error=reason_of(error)) from error


def loaded(text: str) -> Any:
    """Parse a yaml. Raises yaml.YAMLError and ValueError."""
    return copy.deepcopy(_parsed(text))


@functools.lru_cache(maxsize=2)  # a run asks three times for that of its base
def _parsed(text: str) -> Any:
    loader = _Tree(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def parameters(text: str, name: str, field: str) -> dict[str, Any]:
    try:
        content = loaded(text)
        require_usual(content)
    except ValueError as error:
        raise UserError("base.yaml_refused", field, file=name, reason=reason_of(error)) from error
    except yaml.YAMLError as error:
        raise UserError("base.yaml_invalid", field, file=name, error=reason_of(error)) from error
    except RecursionError as error:
        raise UserError("base.yaml_too_deep", field, file=name) from error
    model = content.get("model") if isinstance(content, dict) else None
    if not isinstance(model, dict) or not isinstance(model.get("params"), dict):
        raise UserError("base.yaml_not_a_model", field, file=name)
    return model["params"]


def family_of_yaml(params: Mapping[str, Any]) -> Family:
    """Return the family, by the software that the yaml is for and the kind of text encoder it asks for."""
    if "conditioner_config" in params:
        software, encoder = "sgm", "clip"
    else:
        software = "ldm"
        encoder = "openclip" if "OpenCLIP" in params["cond_stage_config"]["target"] else "clip"
    return next(f for f in FAMILIES.values() if (f.software, f.text.slots[0].kind) == (software, encoder))


def described(
    params: Mapping[str, Any], family: Family, folder: Path, shapes: Shapes, name: str, field: str
) -> Described:
    try:
        seen = recognise(shapes)
    except (KeyError, StopIteration) as error:
        raise UserError("base.yaml_of_incomplete_file", field, file=name, tensor=str(error)) from error
    if seen.family != family:
        known = {"file": name, "described": family.title, "family": seen.family.title}
        raise UserError("base.yaml_other_family", field, **known)
    layer = encoder_parameters(params)[-1].get("layer", "penultimate")
    slot = family.text.slots[-1]
    if slot.dropped_layers and layer == "last":
        whole_slot = replace(slot, dropped_layers=0)
        family = replace(family, text=replace(family.text, slots=(*family.text.slots[:-1], whole_slot)))
        text = {**seen.text_encoders[0], "num_hidden_layers": seen.text_encoders[0]["num_hidden_layers"] + 1}
        seen = replace(seen, family=family, text_encoders=(text,))
    clip_folder = local_clip(encoder_parameters(params)[0].get("version"), folder)
    texts = list(seen.text_encoders)
    if clip_folder is not None and family.text.slots[0].kind == "clip":
        texts[0] = {**texts[0], **clip_config(clip_folder)}
    prediction = "v_prediction" if predicts_v(params) else "epsilon"
    unet = {**seen.unet, **unet_from_yaml(unet_parameters(params), seen.unet)}
    vae = {**seen.vae, **vae_from_yaml(params, name, field)}
    unet["sample_size"] = sample_size(params, family, prediction, unet["sample_size"])
    vae["sample_size"] = unet["sample_size"] * 2 ** (len(vae["block_out_channels"]) - 1)
    scheduler = {**seen.scheduler, **scheduler_from_yaml(params, name, field), "prediction_type": prediction}
    architecture = Architecture(family, unet, vae, tuple(texts), scheduler)
    require_fit(architecture, seen, name, field)
    return Described(architecture, prediction, clip_folder)


def unet_parameters(params: Mapping[str, Any]) -> Mapping[str, Any]:
    return (params.get("unet_config") or params["network_config"])["params"]  # SDXL's software says "network"


def encoder_parameters(params: Mapping[str, Any]) -> list[dict[str, Any]]:
    if "conditioner_config" in params:
        embedders = params["conditioner_config"]["params"]["emb_models"]
        return [e.get("params") or {} for e in embedders if "CLIP" in e["target"]]
    return [params["cond_stage_config"].get("params") or {}]


def local_clip(version: Any, folder: Path) -> Path | None:
    """Return the local folder that `version` names, if there is one; else it is a Hugging Face name, which is not
    needed."""
    if not isinstance(version, str):
        return None
    for place in (folder / version, Path(version)):
        if (place / "config.json").is_file():
            return place.resolve()
    return None


def absolute_clip(text: str, folder: Path | str | None) -> str:
    """Return the yaml with the full path of its CLIP folder, so that it also works beside a copy of the model
    elsewhere."""
    if folder is None:
        return text
    content = loaded(text)
    params = content["model"]["params"]
    if "conditioner_config" in params:
        encoder_parameters(params)[0]["version"] = CLIP_FOLDER
    else:  # which may have no parameters yet
        stage = params["cond_stage_config"]
        stage["params"] = {**(stage.get("params") or {}), "version": CLIP_FOLDER}
    return with_clip(written(content), str(folder))


def clip_config(folder: Path) -> dict[str, Any]:
    config = read_config(folder / "config.json")
    config = config.get("text_config", config)  # a whole CLIP's, with the picture side
    keys = "vocab_size max_position_embeddings hidden_size intermediate_size num_hidden_layers num_attention_heads"
    keys += " hidden_act layer_norm_eps projection_dim bos_token_id eos_token_id"
    return {key: config[key] for key in keys.split() if key in config}


def unet_from_yaml(config: Mapping[str, Any], seen: Mapping[str, Any]) -> dict[str, Any]:
    channels = [whole(config["model_channels"]) * whole(factor) for factor in config["channel_mult"]]
    levels = len(channels)
    attention = [2**level in config["attention_resolutions"] for level in range(levels)]
    depth = config.get("transformer_depth", 1)
    context = config["context_dim"]
    heads, width = config.get("num_heads", FREE_HEADS), config.get("num_head_channels", FREE_HEADS)
    unet: dict[str, Any] = {
        "in_channels": config["in_channels"],
        "out_channels": config["out_channels"],
        "block_out_channels": channels,
        "layers_per_block": config["num_res_blocks"],
        "transformer_layers_per_block": depth if isinstance(depth, int) else list(depth),
        "cross_attention_dim": context if isinstance(context, int) else context[0],
        "use_linear_projection": bool(config.get("use_linear_in_transformer", False)),
        "attention_head_dim": heads if width == FREE_HEADS else [c // width for c in channels],
        **block_types(attention),
    }
    if not all(attention) and not isinstance(depth, int):
        unet["transformer_layers_per_block"] = [d or 1 for d in depth]  # 0 where a level has no transformer
    if seen.get("addition_embed_type"):
        unet["projection_class_embeddings_input_dim"] = config["adm_in_channels"]
    return unet


def vae_from_yaml(params: Mapping[str, Any], name: str, field: str) -> dict[str, Any]:
    stage = params["first_stage_config"]["params"]
    config = stage["ddconfig"]
    if stage.get("embed_dim", config["z_channels"]) != config["z_channels"] or not config.get("double_z", True):
        raise UserError("base.yaml_vae_embed_dim", field, file=name)
    if config.get("attn_resolutions"):
        raise UserError("base.yaml_vae_attention", field, file=name)
    channels = [whole(config["ch"]) * whole(factor) for factor in config["ch_mult"]]
    return {
        "in_channels": config["in_channels"],
        "out_channels": config["out_ch"],
        "latent_channels": config["z_channels"],
        "block_out_channels": channels,
        "layers_per_block": config["num_res_blocks"],
        "scaling_factor": between(params.get("scale_factor", 1.0), 1e-6, 1e6, "scale_factor"),  # 1: LDM's own default
    }


def predicts_v(params: Mapping[str, Any]) -> bool:
    if "denoiser_config" in params:
        return "VScaling" in str(params["denoiser_config"]["params"].get("scaling_config", {}).get("target", ""))
    return params.get("parameterization", "eps") == "v"


def sample_size(params: Mapping[str, Any], family: Family, prediction: str, usual: int) -> int:
    """Return the latents' side. SD2's own v-prediction yaml says 64, though the model was trained at 768 pixels: 96."""
    size = params.get("image_size")
    if not isinstance(size, int):
        return usual
    between(size, 1, 1024, "image_size")
    of_v = family.denoiser.v_sample_size
    return of_v if of_v and prediction == "v_prediction" and size == family.default_resolution // 8 else size


def scheduler_from_yaml(params: Mapping[str, Any], name: str, field: str) -> dict[str, Any]:
    """Return the noise schedule. LDM's "linear" is linear in the square root: diffusers' "scaled_linear"."""
    schedule = params.get("beta_schedule", "linear")
    if schedule not in ("linear", "sqrt_linear"):
        raise UserError("base.yaml_noise_schedule", field, file=name, schedule=shown(schedule))
    return {
        "beta_start": between(params.get("linear_start", 0.00085), 0, 1, "linear_start"),
        "beta_end": between(params.get("linear_end", 0.012), 0, 1, "linear_end"),
        "num_train_timesteps": int(between(params.get("timesteps", 1000), 1, 10_000, "timesteps")),
        "beta_schedule": "scaled_linear" if schedule == "linear" else "linear",
    }


def require_fit(architecture: Architecture, seen: Architecture, name: str, field: str) -> None:
    """Raise UserError if the sizes in the yaml differ from the file's."""
    levels = len(seen.unet["block_out_channels"])
    pairs: list[tuple[str, Any, Any]] = []
    for key in ("in_channels", "block_out_channels", "cross_attention_dim", "use_linear_projection"):
        pairs.append((key, architecture.unet[key], seen.unet[key]))
    pairs.append(("down_block_types", architecture.unet["down_block_types"], seen.unet["down_block_types"]))
    for key in ("layers_per_block", "transformer_layers_per_block"):
        if len(architecture.unet["block_out_channels"]) == levels:
            pairs.append((key, per_level(architecture.unet[key], levels), per_level(seen.unet[key], levels)))
    for key in ("block_out_channels", "latent_channels", "layers_per_block"):
        pairs.append((f"vae.{key}", architecture.vae[key], seen.vae[key]))
    for said, held in zip(architecture.text_encoders, seen.text_encoders, strict=True):
        for key in ("vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size"):
            pairs.append((f"text_encoder.{key}", said[key], held[key]))
    wrong = [
        Message("base.yaml_difference", name=key, described=str(said), found=str(held))
        for key, said, held in pairs
        if said != held
    ]
    if wrong:
        raise UserError("base.yaml_does_not_fit", field, file=name, differences=wrong)
