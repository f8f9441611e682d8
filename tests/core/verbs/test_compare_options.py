from __future__ import annotations

import argparse

import pytest

from dreambooth_ext.core.guide.tables import test_prompts as prompts_of
from dreambooth_ext.core.verbs.compare_options import add_arguments, models, problems, prompts


def parse(*extra: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(["--base", "m", "--out", "o", *extra])


def test_names_are_unique_and_fit_for_files(tmp_path):
    given = ["a/мой кот.safetensors", "b/мой кот.safetensors", "мой кот.safetensors:0.8", "base.ckpt", "x/a:b.pt:1"]
    found = models(parse(*(word for text in given for word in ("--model", text))))
    assert [model.name for model in found] == ["мой кот", "мой кот_2", "мой кот-0.8", "base_2", "a_b-1"]
    assert [model.weight for model in found] == [None, None, 0.8, None, 1.0]


def test_the_guides_prompts_come_first_and_each_once():
    known = prompts_of("pet", "zkz")
    asked = parse("--model", "m", "--subject-type", "pet", "--word", "zkz", "--prompt", "a cat", "--prompt", known[1])
    assert prompts(asked) == [*known, "a cat"]


@pytest.mark.parametrize(
    "options, field, code",
    [
        (["--subject-type", "pet"], "word", "command.word_and_subject"),
        (["--word", "zkz", "--prompt", "a cat"], "subject_type", "command.word_and_subject"),
        ([], "prompt", "command.nothing_to_compare"),
        (["--prompt", "a cat", "--steps", "0"], "steps", "settings.out_of_range"),
    ],
)
def test_what_is_missing_or_out_of_range_is_named(tmp_path, options, field, code):
    (tmp_path / "m.pt").touch()
    (problem,) = problems(parse("--model", str(tmp_path / "m.pt"), *options))
    assert (problem.field, problem.code) == (field, code)


def test_files_and_weights_are_looked_at(tmp_path):
    found = problems(parse("--model", f"{tmp_path / 'none.pt'}:11", "--prompt", "a cat"))
    assert [problem.code for problem in found] == ["command.model_missing", "command.weight"]
