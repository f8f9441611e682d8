"""Write LDM configurations: the yaml from which the WebUI builds a model, made from an architecture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from .architecture import Architecture, per_level

CLIP_FOLDER = "the CLIP folder's path"  # placeholder, replaced after the rest is written


def written(content: Mapping[str, Any]) -> str:
    return yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True)


def with_clip(text: str, folder: str) -> str:
    """Replace CLIP_FOLDER in a yaml by the folder's path. The path is always on one line and in double quotes, so that
    publishing (which does not parse YAML) can replace it."""
    return text.replace(CLIP_FOLDER, json.dumps(folder, ensure_ascii=False))


def to_yaml(architecture: Architecture, prediction_type: str, *, clip: str | None = None) -> str:
    """Return the yaml with which the WebUI builds this model. clip: the CLIP folder of an SD1 text encoder of unusual
    sizes, as a path that the WebUI's process can reach."""
    if architecture.family.software == "sgm":
        target, params = "sgm.models.diffusion.DiffusionEngine", sgm_parameters(architecture, prediction_type)
    else:
        target, params = (
            "ldm.models.diffusion.ddpm.LatentDiffusion",
            ldm_parameters(architecture, prediction_type, clip),
        )
        if architecture.inpainting:
            target = "ldm.models.diffusion.ddpm.LatentInpaintDiffusion"
    text = written({"model": {"target": target, "params": params}})
    return text if clip is None else with_clip(text, clip)


def ldm_parameters(architecture: Architecture, prediction_type: str, clip: str | None) -> dict[str, Any]:
    schedule = architecture.scheduler
    params: dict[str, Any] = {
        "linear_start": schedule["beta_start"],
        "linear_end": schedule["beta_end"],
        "timesteps": schedule["num_train_timesteps"],
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": architecture.unet["sample_size"],
        "channels": architecture.vae["latent_channels"],
        "cond_stage_trainable": False,
        "conditioning_key": "hybrid" if architecture.inpainting else "crossattn",
        "monitor": "val/loss_simple_ema",
        "scale_factor": architecture.vae["scaling_factor"],
        "use_ema": False,
    }
    if prediction_type == "v_prediction":
        params = {"parameterization": "v", **params}
    if architecture.inpainting:
        params["finetune_keys"] = None
    params["unet_config"] = {
        "target": "ldm.modules.diffusionmodules.openaimodel.UNetModel",
        "params": unet_to_yaml(architecture),
    }
    params["first_stage_config"] = vae_to_yaml(architecture, "ldm.models.autoencoder.AutoencoderKL")
    params["cond_stage_config"] = {"target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder"}
    if architecture.family.text.slots[0].kind == "openclip":
        layer = "penultimate" if architecture.family.text.slots[0].dropped_layers else "last"
        params["cond_stage_config"] = {
            "target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
            "params": {"freeze": True, "layer": layer},
        }
    elif clip is not None:
        params["cond_stage_config"]["params"] = {"version": CLIP_FOLDER}
    return params


def unet_to_yaml(architecture: Architecture) -> dict[str, Any]:
    unet = architecture.unet
    channels: Sequence[int] = unet["block_out_channels"]
    attention = [kind.startswith("CrossAttn") for kind in unet["down_block_types"]]
    heads = per_level(unet["attention_head_dim"], len(channels))
    unused = {"image_size": 32} if architecture.family.software == "ldm" else {}  # required by ldm, refused by sgm
    params: dict[str, Any] = {
        **unused,
        "in_channels": unet["in_channels"],
        "out_channels": unet["out_channels"],
        "model_channels": channels[0],
        "attention_resolutions": [2**level for level, used in enumerate(attention) if used][::-1],
        "num_res_blocks": unet["layers_per_block"],
        "channel_mult": [width // channels[0] for width in channels],
        "use_spatial_transformer": True,
        "transformer_depth": unet["transformer_layers_per_block"],
        "context_dim": unet["cross_attention_dim"],
        "use_checkpoint": False,
        "legacy": False,
    }
    if len(set(heads)) == 1:
        params["num_heads"] = heads[0]
    else:
        params["num_head_channels"] = channels[0] // heads[0]
    if unet.get("use_linear_projection"):
        params["use_linear_in_transformer"] = True
    if unet.get("addition_embed_type"):
        params |= {"num_classes": "sequential", "adm_in_channels": unet["projection_class_embeddings_input_dim"]}
    return params


def vae_to_yaml(architecture: Architecture, target: str) -> dict[str, Any]:
    vae = architecture.vae
    channels = vae["block_out_channels"]
    config = {
        "double_z": True,
        "z_channels": vae["latent_channels"],
        "resolution": 256,
        "in_channels": vae["in_channels"],
        "out_ch": vae["out_channels"],
        "ch": channels[0],
        "ch_mult": [width // channels[0] for width in channels],
        "num_res_blocks": vae["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    params = {
        "embed_dim": vae["latent_channels"],
        "monitor": "val/rec_loss",
        "ddconfig": config,
        "lossconfig": {"target": "torch.nn.Identity"},
    }
    return {"target": target, "params": params}


def sgm_parameters(architecture: Architecture, prediction_type: str) -> dict[str, Any]:
    denoiser = "sgm.modules.diffusionmodules."
    scaling = "VScaling" if prediction_type == "v_prediction" else "EpsScaling"
    return {
        "scale_factor": architecture.vae["scaling_factor"],
        "disable_first_stage_autocast": True,
        "denoiser_config": {
            "target": denoiser + "denoiser.DiscreteDenoiser",
            "params": {
                "num_idx": architecture.scheduler["num_train_timesteps"],
                "weighting_config": {"target": denoiser + "denoiser_weighting.EpsWeighting"},
                "scaling_config": {"target": denoiser + f"denoiser_scaling.{scaling}"},
                "discretization_config": {"target": denoiser + "discretizer.LegacyDDPMDiscretization"},
            },
        },
        "network_config": {"target": denoiser + "openaimodel.UNetModel", "params": unet_to_yaml(architecture)},
        "conditioner_config": sgm_conditioner(architecture),
        "first_stage_config": vae_to_yaml(architecture, "sgm.models.autoencoder.AutoencoderKLInferenceWrapper"),
    }


def sgm_conditioner(architecture: Architecture) -> dict[str, Any]:
    encoders = "sgm.modules.encoders.modules."
    first = {"layer": "hidden", "layer_idx": architecture.text_encoders[0]["num_hidden_layers"] - 1}
    second = {
        "arch": "ViT-bigG-14",
        "version": "laion2b_s39b_b160k",
        "freeze": True,
        "layer": "penultimate",
        "always_return_pooled": True,
        "legacy": False,
    }
    models: list[dict[str, Any]] = [
        {"is_trainable": False, "input_key": "txt", "target": encoders + "FrozenCLIPEmbedder", "params": first},
        {"is_trainable": False, "input_key": "txt", "target": encoders + "FrozenOpenCLIPEmbedder2", "params": second},
    ]
    for key in ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple"):
        models.append(
            {
                "is_trainable": False,
                "input_key": key,
                "target": encoders + "ConcatTimestepEmbedderND",
                "params": {"outdim": architecture.unet["addition_time_embed_dim"]},
            }
        )
    return {"target": "sgm.modules.GeneralConditioner", "params": {"emb_models": models}}
