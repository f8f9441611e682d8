from __future__ import annotations

import argparse

import pytest

from dreambooth_ext.core.verbs.generate_options import add_arguments, problems


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
