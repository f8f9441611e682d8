from __future__ import annotations

import argparse

import pytest

from dreambooth_ext.core.verbs.generate_options import add_arguments, infotext, problems


def parse(*extra: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--model", "m", "--prompt", "a cat", "--out", "o", *extra])


def test_defaults_are_fine():
    assert problems(parse()) == []


@pytest.mark.parametrize(
    "option, value, remedy",
    [
        ("--width", "500", "Try 512."),
        ("--height", "32", "range"),
        ("--steps", "0", "range"),
        ("--num-images", "0", "range"),
        ("--cfg-scale", "0.5", "range"),
        ("--seed", "-1", "range"),
        ("--batch-size", "0", "range"),
        ("--clip-skip", "0", "range"),
    ],
)
def test_bad_values_are_named(option, value, remedy):
    (problem,) = problems(parse(option, value))
    assert problem.field == option[2:].replace("-", "_")
    assert remedy in problem.remedy


def test_seeds_do_not_run_over():
    assert [p.field for p in problems(parse("--seed", str(2**32 - 1), "--num-images", "2"))] == ["seed"]


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
