"""Rows: settings of which only the base and the machine can tell that they do not fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from dreambooth_ext.core.config.run_config import RunConfig
from tests.bad_input.case import Case
from tests.bad_input.verbs import CHECK_RUN, TRAIN_RUN, config_of

SETTINGS: list[tuple[dict[str, Any], str, str]] = [
    ({"device": "gpu"}, "device", "is not a device"),
    ({"device": "cuda:99"}, "device", "is not on this machine"),
    ({"device": "meta"}, "device", "is not on this machine"),
    ({"mixed_precision": "fp16"}, "mixed_precision", "fp16 cannot be trained on 'cpu'"),
    ({"attention": "xformers"}, "attention", "NVIDIA"),
    ({"optimizer_args": {"foo": 1}}, "optimizer_args", "no argument 'foo'"),
    ({"optimizer_args": {"lr": 1}}, "optimizer_args", "has its own setting"),
    ({"optimizer_args": {"betas": "x"}}, "optimizer_args", "'betas' cannot be 'x'"),
    ({"optimizer_args": {"betas": [2, 3]}}, "optimizer_args", "does not accept them"),
    ({"text_encoder_2_lr": 1e-6}, "text_encoder_2_lr", "has one text encoder"),
    ({"clip_skip": 9}, "clip_skip", "has 3 layers"),
    ({"zero_terminal_snr": True}, "zero_terminal_snr", "cannot learn the last timestep"),
    ({"base_model": "нет.safetensors"}, "base_model", "does not exist"),
]


def on_this_machine(values: dict[str, Any]) -> Callable[[Path], RunConfig]:
    return lambda folder: config_of(**values)


CASES = [
    Case(f"machine: {values}", on_this_machine(values), (CHECK_RUN, TRAIN_RUN), field, words)
    for values, field, words in SETTINGS
]
