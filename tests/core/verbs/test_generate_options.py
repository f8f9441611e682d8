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
        ("--width", "500", "Use 512."),
        ("--height", "32", "Use "),
        ("--steps", "0", "Use "),
        ("--num-images", "0", "Use "),
        ("--cfg-scale", "0.5", "Use "),
        ("--seed", "-1", "Use "),
        ("--batch-size", "0", "Use "),
        ("--clip-skip", "0", "Use "),
    ],
)
def test_bad_values_are_named(option, value, remedy):
    (problem,) = problems(parse(option, value))
    assert problem.field == option[2:].replace("-", "_")
    assert remedy in problem.remedy


def test_seeds_do_not_run_over():
    assert [p.field for p in problems(parse("--seed", str(2**32 - 1), "--num-images", "2"))] == ["seed"]
