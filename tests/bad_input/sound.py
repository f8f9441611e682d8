"""What many cases begin with, made once: sound models, LoRAs and pictures, of which each case changes a copy."""

from __future__ import annotations

import functools
import io
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors.torch import save_file

from tests import tiny

_whole = tempfile.TemporaryDirectory(prefix="bad-input-")  # it goes with the process


def whole() -> Path:
    return Path(_whole.name)


@functools.cache
def checkpoint() -> Path:
    """An SD 1 with its yaml and CLIP folder."""
    folder = whole() / "checkpoint"
    folder.mkdir()
    return tiny.single_file(folder, name="sound")


def checkpoint_in(folder: Path) -> Path:
    """A copy that may be changed."""
    sound = checkpoint()
    shutil.copytree(sound.parent, folder, dirs_exist_ok=True)
    return folder / sound.name


@functools.cache
def _diffusers() -> Path:
    folder = whole() / "diffusers"
    folder.mkdir()
    return tiny.diffusers_folder(folder, name="base")


def diffusers_in(folder: Path) -> Path:
    """A copy of a pipeline's folder."""
    return Path(shutil.copytree(_diffusers(), folder / "base"))


@functools.cache
def pictures() -> Path:
    """Three that can be decoded."""
    folder = whole() / "Мои фото (1)"
    return pictures_in(folder)


def pictures_in(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(3):
        (folder / f"sksper ({number}).png").write_bytes(encoded("PNG"))
    return folder


def encoded(kind: str) -> bytes:
    """A picture of 64 pixels, another each time, as a file of the kind."""
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, kind)
    return stream.getvalue()


LAYER = "lora_unet_mid_block_attentions_0_proj_in"


def lora_tensors() -> dict[str, torch.Tensor]:
    return {f"{LAYER}.lora_down.weight": torch.ones(2, 64, 1, 1), f"{LAYER}.lora_up.weight": torch.ones(64, 2, 1, 1)}


@functools.cache
def lora() -> Path:
    """For one layer of the checkpoint."""
    path = whole() / "sound-lora.safetensors"
    save_file(lora_tensors(), path)
    return path


def settings(folder: Path) -> dict[str, Any]:
    """A config with nothing wrong in it, for what looks into no file: all of them are empty."""
    (folder / "base.safetensors").write_bytes(b"")
    return {
        "name": "model",
        "base_model": str(folder / "base.safetensors"),
        "instance_data_dir": str(empty_pictures(folder / "mine")),
        "instance_prompt": "a photo of sksper person",
        "max_train_steps": 100,
        "text_encoder_steps": 20,
    }


def empty_pictures(folder: Path, count: int = 5) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        (folder / f"sksper ({number}).jpg").write_bytes(b"")
    return folder
