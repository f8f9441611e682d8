"""Run by Forge and Forge Neo as an extension's script. Tables of sizes tell them models, no yaml: the tests' are added.

`sizes.json`, in the extension's folder, is written by tests/webui/sizes.py.
"""

import functools
import json
from pathlib import Path

from backend import loader
from backend.diffusion_engine import sdxl
from backend.text_processing.classic_engine import ClassicTextProcessingEngine
from huggingface_guess import model_list

KINDS = {"sd1": "SD15", "sd2": "SD20", "sdxl": "SDXL"}


def kind(family, unet, heads, folder, time):
    if time:  # of a picture's sizes, as SDXL is told them
        sdxl.Timestep = functools.partial(lambda usual, _: usual(time), sdxl.Timestep)
    usual = getattr(model_list, KINDS[family])
    told_by = {key: unet.get(key, usual.unet_config[key]) for key in ("context_dim", "model_channels")}
    more = {"unet_config": told_by, "unet_extra_config": heads, "huggingface_repo": folder}
    ours = type(f"Tiny{usual.__name__}", (usual,), more)
    for engine in loader.possible_models:
        if usual in engine.matched_guesses:  # Neo takes no class for one that it is derived from
            engine.matched_guesses = [*engine.matched_guesses, ours]
    return ours


def with_width(init):
    """An embedding has to be as wide as the text encoder; with two encoders, as in SDXL, as before."""

    @functools.wraps(init)
    def wrapped(self, text_encoder, tokenizer, *arguments, embedding_expected_shape=768, **more):
        if embedding_expected_shape in (768, 1024):
            embedding_expected_shape = text_encoder.transformer.config.hidden_size
        init(self, text_encoder, tokenizer, *arguments, embedding_expected_shape=embedding_expected_shape, **more)

    return wrapped


sizes = json.loads((Path(__file__).parents[1] / "sizes.json").read_text(encoding="utf-8"))
model_list.models[:0] = [kind(**size) for size in sizes]
ClassicTextProcessingEngine.__init__ = with_width(ClassicTextProcessingEngine.__init__)
