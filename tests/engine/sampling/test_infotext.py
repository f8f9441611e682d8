"""The text in pictures is what the WebUI would write there."""

from __future__ import annotations

from dreambooth_ext.engine.sampling.infotext import infotext


def test_infotext_is_the_webuis():
    values = {"steps": 20, "cfg_scale": 7.0, "seed": 3, "width": 512, "height": 640}
    values |= {"model": "my: model", "model_hash": "0123456789"}
    text = infotext(prompt="a cat", negative_prompt="dog", sampler="DPM++ 2M Karras", clip_skip=2, **values)
    first, negative, last = text.splitlines()
    assert (first, negative) == ("a cat", "Negative prompt: dog")
    assert last.startswith(
        "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7, Seed: 3, Size: 512x640, "
        'Model hash: 0123456789, Model: "my: model", Clip skip: 2, RNG: CPU, Version: '
    )
    bare = infotext(prompt="a", negative_prompt="", sampler="Euler a", clip_skip=1, **{**values, "model_hash": None})
    assert "Negative" not in bare and "hash" not in bare and "Clip skip" not in bare
    assert "Sampler: Euler a, Schedule type: Automatic" in bare
