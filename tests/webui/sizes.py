"""Models of the tests' sizes in WebUIs that know others only: how each of them is told, by an extension of its own.

A yaml beside the checkpoint tells AUTOMATIC1111's of SD1 and of all UNets; the forks read no sizes there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from dreambooth_ext.core.system.files import write_json, write_text
from dreambooth_ext.engine.models.architecture import Architecture, write_clip_folder
from dreambooth_ext.engine.models.ldm_config_writer import unet_to_yaml, vae_to_yaml

INSIDE = Path(__file__).parent / "inside"
OPENCLIP = {"sd2": "ViT-H-14", "sdxl": "ViT-bigG-14"}  # the only names under which the WebUI makes these encoders
FORGE = {  # where Forge keeps the configurations of a family's parts
    "sd1": "runwayml/stable-diffusion-v1-5",
    "sd2": "stabilityai/stable-diffusion-2-1",
    "sdxl": "stabilityai/stable-diffusion-xl-base-1.0",
}

# Run by the WebUI as an extension: a yaml cannot say the size of an OpenCLIP encoder.
OPENCLIP_SIZES = """
import json, pathlib
import open_clip.factory
models = json.loads((pathlib.Path(__file__).parents[1] / "models.json").read_text(encoding="utf-8"))
open_clip.factory._MODEL_CONFIGS.update(models)
"""


def families(root: Path) -> set[str]:
    """Of which families the WebUI in `root` can be told small models."""
    if (root / "backend" / "huggingface").is_dir():  # Forge Neo knows no Stable Diffusion 2
        return {family for family, folder in FORGE.items() if (root / "backend" / "huggingface" / folder).is_dir()}
    return {"sd1"} if (root / "ldm_patched").is_dir() else {"sd1", *OPENCLIP}


def shrink(root: Path, data: Path, models: dict[str, Architecture]) -> None:
    """Have the WebUI in `root`, with its data in `data`, load these models, one of each family."""
    extension = data / "extensions" / "tiny-models"
    if (root / "backend" / "huggingface").is_dir():
        shrink_forge(root, extension, models)
    elif (root / "ldm_patched").is_dir():
        shrink_patched(extension, models["sd1"])
    else:
        shrink_a1111(extension, data / "hub" / "hub", models)


def shrink_a1111(extension: Path, hub: Path, models: dict[str, Architecture]) -> None:
    """OpenCLIP's encoders by an extension, and SDXL's CLIP where the Hub keeps its files."""
    configs = {name: openclip_config(models[family]) for family, name in OPENCLIP.items()}
    write_json(extension / "models.json", configs)
    write_text(extension / "scripts" / "tiny_models.py", OPENCLIP_SIZES)
    cached = hub / "models--openai--clip-vit-large-patch14"
    write_text(cached / "refs" / "main", "0")
    write_clip_folder(models["sdxl"].text_encoders[0], cached / "snapshots" / "0")


def openclip_config(architecture: Architecture) -> dict[str, Any]:
    """open_clip's configuration for the text encoder, and for a picture encoder, which the WebUI throws away."""
    text, slot = architecture.text_encoders[-1], architecture.family.text.slots[-1]
    return {
        "embed_dim": text["hidden_size"],
        "vision_cfg": {"image_size": 28, "layers": 1, "width": 64, "patch_size": 14},
        "text_cfg": {
            "context_length": text["max_position_embeddings"],
            "vocab_size": text["vocab_size"],
            "width": text["hidden_size"],
            "heads": text["num_attention_heads"],
            "layers": text["num_hidden_layers"] + slot.dropped_layers,
        },
    }


def shrink_forge(root: Path, extension: Path, models: dict[str, Architecture]) -> None:
    """The UNet's sizes as it finds them in the file, the other parts' as in a folder of configurations of ours."""
    sizes = []
    for family in sorted(families(root)):
        architecture = models[family]
        folder = extension / "configurations" / family
        shutil.copytree(root / "backend" / "huggingface" / FORGE[family], folder, dirs_exist_ok=True)
        names = architecture.family.components[2:]
        parts = {"vae": architecture.vae, **dict(zip(names, architecture.text_encoders, strict=True))}
        for name, config in parts.items():
            path = folder / name / "config.json"
            write_json(path, {**json.loads(path.read_text(encoding="utf-8")), **config})
        sizes.append({"family": family, "folder": str(folder), **unet_sizes(architecture)})
        sizes[-1]["time"] = architecture.unet.get("addition_time_embed_dim")
    write_json(extension / "sizes.json", sizes)
    write_text(extension / "scripts" / "tiny_models.py", (INSIDE / "forge.py").read_text(encoding="utf-8"))


def shrink_patched(extension: Path, architecture: Architecture) -> None:
    """The UNet's sizes as it finds them in the file, the other parts' as its loader takes them."""
    vae = vae_to_yaml(architecture, "")["params"]
    clip = extension / "clip.json"
    write_json(clip, architecture.text_encoders[0])
    parts = {"vae": {key: vae[key] for key in ("ddconfig", "embed_dim")}, "clip": str(clip)}
    write_json(extension / "sizes.json", {**unet_sizes(architecture), **parts})
    write_text(extension / "scripts" / "tiny_models.py", (INSIDE / "ldm_patched.py").read_text(encoding="utf-8"))


def unet_sizes(architecture: Architecture) -> dict[str, Any]:
    """As LDM's UNet takes them; the heads apart, which no file tells."""
    unet = unet_to_yaml(architecture)
    return {"unet": unet, "heads": {key: unet.get(key, -1) for key in ("num_heads", "num_head_channels")}}
