"""Rows: what describes a model, beside it or around it: yaml files, and the configurations of a diffusers folder."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.engine.models.unconditional_base import open_pixels
from tests import tiny
from tests.bad_input import sound
from tests.bad_input.case import Case, Verb, rows
from tests.bad_input.verbs import BASES, CHECK_BASE, CONVERT, GENERATE, MERGE

BASE = "base_model"
Content = str | bytes | int | tuple[str, str] | dict[str, Any] | None


def put(path: Path, content: str | bytes | int) -> Path:
    """Write a file; a number makes one of so many zeros, that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, int):
        with path.open("wb") as file:
            file.truncate(content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def beside(content: str | bytes | tuple[str, str]) -> Callable[[Path], Path]:
    """A checkpoint with this yaml; a pair changes a sound one."""

    def make(folder: Path) -> Path:
        path = sound.checkpoint_in(folder)
        sidecar = path.with_suffix(".yaml")
        if isinstance(content, tuple):
            text = sidecar.read_text(encoding="utf-8")
            assert text.count(content[0]) == 1, content
            put(sidecar, text.replace(*content))
        else:
            put(sidecar, content)
        return path

    return make


ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
YAMLS: dict[str, tuple[str | bytes | tuple[str, str], str]] = {
    "empty": ("", "has no model.params"),
    "a list": ("- a", "has no model.params"),
    "words": ("plain words", "has no model.params"),
    "no params": ("model:\n  params:\n", "has no model.params"),
    "cut short": ("a: [1", "is not valid YAML"),
    "a tab": ("\ta: b", "is not valid YAML"),
    "control characters": (b"\0\1", "is not valid YAML"),
    "another encoding": (b"model: \xe9", "is not UTF-8 text"),
    "two thousand lists": ("a: " + "[" * 2_000, "is n"),  # not valid, or nested too deep: that depends on the Python
    "no unet_config": (("unet_config:", "unet_cfg:"), "lacks what a model's configuration needs"),
    "a scale in words": (("scale_factor: 0.18215", "scale_factor: much"), "or has it wrong"),
    "other channels": (
        ("model_channels: 32", "model_channels: 64"),
        "does not describe the file beside it: block_out_channels is [64, 128]",
    ),
    "another context": (
        ("context_dim: 16", "context_dim: 768"),
        "does not describe the file beside it: cross_attention_dim is 768",
    ),
    "another family": (("FrozenCLIPEmbedder", "FrozenOpenCLIPEmbedder"), "describes Stable Diffusion 2"),
    "a schedule in words": (("linear_start: 0.00085", "linear_start: x"), "or has it wrong"),
    "heads in words": (("num_heads: 8", "num_heads: many"), "configuration"),
    "a schedule without a number": (("linear_start: 0.00085", "linear_start: .nan"), "linear_start is nan"),
    "an infinite scale": (("scale_factor: 0.18215", "scale_factor: .inf"), "scale_factor is inf"),
    "a billion timesteps": (("timesteps: 1000", "timesteps: 1000000000000"), "timesteps is 1000000000000"),
    "no timesteps": (("timesteps: 1000", "timesteps: 0"), "timesteps is 0"),
    "texts times numbers": (("ch: 32", "ch: aaaaaa"), "configuration"),
    "20 MB": ("a: " + "x " * 10**7, "it has more than 64 KB"),
    "of one text": ("a: " + "x " * 30_000, "has no model.params"),
    "of many keys": ("".join(f"k{n}: 1\n" for n in range(7000)), "has no model.params"),
    "sixty thousand lists": ("[" * 60_000, "is n"),
    "that grows": (ALIASES, "refers to other places"),
    "that merges": (MERGES, "refers to other places"),
    "with a program": ("model: !!python/object/apply:os.system ['exit']\n", "is not valid YAML"),
}
SLOW_YAMLS = {"two thousand lists", "of one text", "of many keys", "sixty thousand lists", "20 MB"}


def inside(inner: str, content: Content) -> Callable[[Path], Path]:
    """A diffusers folder with this file, or with these values in it; None: without it."""

    def make(folder: Path) -> Path:
        base = sound.diffusers_in(folder)
        path = base / inner
        if inner.startswith("tokenizer"):
            put(path.with_name("merges.txt"), "")
        if inner.endswith("index.json") and "unet" in inner:
            (base / "unet/diffusion_pytorch_model.safetensors").unlink()
        if content is None:
            path.unlink()
        elif content == "cut":
            path.write_bytes(path.read_bytes()[:5000])
        elif isinstance(content, dict):
            put(path, json.dumps({**json.loads(path.read_text(encoding="utf-8")), **content}))
        else:
            assert not isinstance(content, tuple)
            put(path, content)
        return base

    return make


INDEX, WEIGHTS = "model_index.json", "unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
FOLDERS: dict[str, tuple[str, Content, str]] = {
    "an index that is a list": (INDEX, "[]", INDEX),
    "SDXL without a text encoder": (
        INDEX,
        '{"_class_name": "StableDiffusionXLPipeline", "text_encoder": null}',
        "cannot be trained here",
    ),
    "Flux": (INDEX, '{"_class_name": "FluxPipeline"}', "is a FluxPipeline"),
    "a UNet that is a list": ("unet/config.json", "[]", "unet/config.json"),
    "a UNet cut short": ("unet/config.json", "{", "unet/config.json"),
    "unknown blocks": (
        "unet/config.json",
        {"down_block_types": ["FooBlock", "DownBlock2D"]},
        "FooBlock does not exist",
    ),
    "eight channels": ("unet/config.json", {"in_channels": 8}, "takes 8 channels"),
    "odd groups": ("unet/config.json", {"norm_num_groups": 7}, "must be divisible"),
    "no VAE": ("vae/config.json", None, "lacks vae/config.json"),
    "a text encoder that is a text": ("text_encoder/config.json", '"x"', "text_encoder/config.json"),
    "odd heads": ("text_encoder/config.json", {"num_attention_heads": 3}, "must be divisible"),
    "a schedule that is a list": (SCHEDULER, "[]", "scheduler_config.json"),
    "an unknown prediction": (SCHEDULER, {"prediction_type": "sample"}, "predicts 'sample'"),
    "a schedule in words": (SCHEDULER, {"beta_start": "x"}, "scheduler_config.json"),
    "an unknown schedule": (SCHEDULER, {"beta_schedule": "foo"}, "foo is not implemented"),
    "no weights": (WEIGHTS, None, "unet in base has no weights"),
    "weights cut short": (WEIGHTS, "cut", "cut short"),
    "a broken list of weights": (f"{WEIGHTS}.index.json", "{", "index.json"),
    "a broken vocabulary": ("tokenizer/vocab.json", "{", "vocabulary"),
    "a vocabulary that is a list": ("tokenizer/vocab.json", "[]", "vocabulary"),
    "a config.json of a gigabyte": ("unet/config.json", 2**30, "it has more than 1.0 MB"),
    "a billion layers": ("unet/config.json", {"layers_per_block": 10**9}, "layers_per_block is 1000000000"),
    "a million layers of words": (
        "text_encoder/config.json",
        {"num_hidden_layers": 10**6},
        "num_hidden_layers is",
    ),
    "a billion timesteps": (SCHEDULER, {"num_train_timesteps": 10**9}, "timesteps is"),
    "a number that is none": ("vae/config.json", {"scaling_factor": float("nan")}, "scaling_factor is nan"),
    "an endless vocabulary": ("tokenizer/vocab.json", 2**30, "it has more than 16.0 MB"),
}


def sharded(folder: Path) -> Path:
    base = sound.diffusers_in(folder)
    weights = base / WEIGHTS
    weights.rename(folder / "elsewhere.safetensors")
    put(weights.with_name(f"{weights.name}.index.json"), '{"weight_map": {"a": "../../elsewhere.safetensors"}}')
    return base


def piped(folder: Path) -> Path:
    """Weights that would be waited for for ever."""
    base = sound.diffusers_in(folder)
    (base / WEIGHTS).unlink()
    os.mkfifo(base / WEIGHTS)
    return base


# --- what is no path at all


def given(text: str) -> Callable[[Path], str]:
    return lambda folder: text


PATHS = {
    "a path that is too long": ("x" * 5000, "cannot be a path"),
    "half a link": ("https://[broken/a.safetensors", "cannot be reached"),
    "a link to nowhere": ("https://", "cannot be reached"),
    "a file that is not there": (str(Path("no.ckpt").absolute()), "does not exist"),
}


# --- the configuration of an unconditional model


def new_model(**values: Any) -> Callable[[Path], Path]:
    return lambda folder: tiny.pixel_config(folder, **values)


def _opened(path: Path, folder: Path) -> None:
    open_pixels(RunConfig(method="unconditional", model_config=str(path), base_model=""))


NEW = (Verb("open", _opened),)
CASES: list[Case] = []
for name, (content, part) in YAMLS.items():
    CASES.append(Case(f"yaml: {name}", beside(content), (CHECK_BASE,) if name in SLOW_YAMLS else BASES, BASE, part))
for name, (inner, content, part) in FOLDERS.items():
    CASES.append(Case(f"folder: {name}", inside(inner, content), BASES, BASE, part))
CASES += rows("folder", BASES, {"weights elsewhere": (sharded, BASE, "names a file outside the folder")})
if hasattr(os, "mkfifo"):
    CASES += rows("folder", BASES, {"weights that are a pipe": (piped, BASE, "has no weights")})
CASES += rows("path", BASES, {name: (given(text), BASE, part) for name, (text, part) in PATHS.items()})
CASES.append(Case("path: a zero in it", given("a\0b"), (GENERATE, CONVERT, MERGE), BASE, "does not exist"))
CASES.append(Case("path: a folder of something else", lambda folder: folder, BASES, BASE, "not a diffusers model"))
CASES += rows(
    "model_config",
    NEW,
    {
        "a billion layers": (new_model(layers_per_block=10**9), "model_config", "layers_per_block is 1000000000"),
        "a gigabyte": (lambda folder: put(folder / "a.json", 2**30), "model_config", "1.0 MB"),
    },
)
