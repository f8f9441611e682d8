"""Key maps both ways, against diffusers' own reader as an independent implementation."""

from __future__ import annotations

import pytest
import torch
from diffusers.loaders.single_file_utils import (
    convert_ldm_clip_checkpoint,
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
    convert_open_clip_checkpoint,
)

from dreambooth_ext.engine.models.architecture import shipped
from dreambooth_ext.engine.models.key_maps import fold, folded_shape, ties, to_diffusers, to_ldm, unet_key_map
from tests import tiny

FAMILIES = ["sd1", "sd2", "sdxl"]


def same(one, other):
    return one.keys() == other.keys() and all(
        torch.equal(one[k], other[k]) and one[k].dtype == other[k].dtype for k in one
    )


def without_extras(state, parts):
    placed = {tie.ldm for part in ties(parts).values() for tie in part}
    return {key: value for key, value in state.items() if key in placed}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("inpainting", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_there_and_back_is_bit_equal(family, inpainting, dtype):
    parts = tiny.architecture(family, inpainting=inpainting)
    state = without_extras(tiny.ldm_state(family, inpainting=inpainting), parts)
    state = {key: value.to(dtype) for key, value in state.items()}
    components = to_diffusers(state, parts)
    assert same(to_ldm(components, parts), state)
    again = to_diffusers(to_ldm(components, parts), parts)
    assert all(same(again[name], components[name]) for name in components)


@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_diffusers(family):
    parts = tiny.architecture(family)
    state = tiny.ldm_state(family)
    state.pop("cond_stage_model.model.text_projection", None)
    ours = to_diffusers(state, parts)
    modules = tiny.models(parts)
    assert same(convert_ldm_unet_checkpoint(dict(state), parts.unet), ours["unet"])
    assert same(convert_ldm_vae_checkpoint(dict(state), parts.vae), ours["vae"])
    for name, slot in zip(parts.family.components[2:], parts.family.text.slots, strict=True):
        if slot.kind == "openclip":
            theirs = convert_open_clip_checkpoint(modules[name], dict(state), slot.prefix)
            theirs = {key: value for key, value in theirs.items() if key in ours[name]}  # less SD2's last layer
        else:
            theirs = convert_ldm_clip_checkpoint({k: v for k, v in state.items() if k.startswith(slot.prefix)})
            theirs.pop("text_model.embeddings.position_ids")
        assert same(theirs, ours[name])


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_of_the_modules_has_a_place(family):
    parts = tiny.architecture(family)
    for name, module in tiny.models(parts).items():
        state = module.state_dict()
        part = ties(parts)[name]
        keys = [key for tie in part for key in tie.diffusers]
        assert len(keys) == len(set(keys)) and set(keys) == set(state)
        for tie in part:
            folded = fold(tie, [state[key] for key in tie.diffusers])
            assert folded_shape(tie, state[tie.diffusers[0]].shape) == tuple(folded.shape)


@pytest.mark.parametrize(("family", "count"), [("sd1", 686), ("sd2", 686), ("sdxl", 1680)])
def test_full_size_unet_has_the_published_number_of_tensors(family, count):
    names = unet_key_map(shipped(family).unet)
    assert len(names) == len(set(names.values())) == count


def test_components_can_be_converted_alone():
    parts = tiny.architecture("sdxl")
    components = to_diffusers(tiny.ldm_state("sdxl"), parts)
    assert {k.split(".")[0] for k in to_ldm({"unet": components["unet"]}, parts)} == {"model"}
