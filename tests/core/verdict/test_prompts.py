"""What is drawn to judge a run: the word is found, the subject's prompts, and what is left of them without it."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.data.entry import Entry
from dreambooth_ext.core.guide import tables
from dreambooth_ext.core.verdict.measuring import UNRELATED
from dreambooth_ext.core.verdict.prompts import holds, prompts_of, without, word_of


def entries(*captions: str, identifier: str = "", word: str = "") -> list[Entry]:
    return [Entry(Path(f"{n}.png"), text, 0, identifier=identifier, word=word) for n, text in enumerate(captions)]


def found(config: RunConfig, known: list[Entry]) -> str:
    return word_of(config, Subjects.of(config), known)


def test_the_word_of_an_instance_prompt():
    config = RunConfig(instance_prompt="a photo of sksper person", class_prompt="a photo of a person")
    assert found(config, entries("a photo of sksper person")) == "sksper"


def test_the_word_in_file_names_and_captions():
    config = RunConfig(instance_prompt="[filewords]", class_prompt="[filewords]")
    assert found(config, entries("a big zkz figure on sand", "a zkz figure at night", identifier="zkz")) == "zkz"
    named = entries("a star in zqx style", "a moon on the grass in zqx style", "a cross in zqx style")
    assert found(config, named) == "zqx"


def test_the_word_that_is_taught():
    config = RunConfig(method="textual_inversion", name="mycat", placeholder_token="mycat")
    assert found(config, entries("a photo of mycat", word="mycat")) == "mycat"


def test_lines_of_a_template_are_what_the_run_was_told():
    config = RunConfig(method="textual_inversion", name="mycat")
    known = [Entry(Path("0.png"), "on grass", 0, word="mycat", lines=("a photo of a [name], [filewords]", "a [name]"))]
    assert prompts_of(config, Subjects.of(config), known).photo == ["a photo of a mycat, on grass"]


def test_no_word_is_made_up():
    config = RunConfig(method="finetune")
    assert found(config, entries("a red house", "a blue house")) == ""


def test_the_guides_prompts_and_the_usual_world():
    config = RunConfig(instance_prompt="sksper person", subject_type="person")
    prompts = prompts_of(config, Subjects.of(config), entries("sksper person"))
    guide = tables.test_prompts("person", "sksper")
    assert [each.prompt for each in prompts.subject] == guide[:4]
    assert prompts.plain[0] == "person, professional portrait, studio lighting"
    assert prompts.world == list(UNRELATED) and prompts.photo == ["sksper person"]


def test_ones_own_preview_prompts_come_first():
    own = ["zkz cat on the moon", "zkz cat, oil painting", "a red circle", "a green star"]
    config = RunConfig(instance_prompt="zkz cat", class_prompt="cat", validation_prompts=own)
    prompts = prompts_of(config, Subjects.of(config), entries("zkz cat"))
    assert [each.prompt for each in prompts.subject] == own[:2] and prompts.world == own[2:]


def test_captions_are_drawn_where_there_is_no_word():
    config = RunConfig(method="finetune")
    prompts = prompts_of(config, Subjects.of(config), entries("a red house", "a blue house", "a red house"))
    assert [each.prompt for each in prompts.subject] == ["a red house", "a blue house"] and not prompts.plain


def test_captions_of_photographs_are_chosen_evenly():
    config = RunConfig(instance_prompt="[filewords]")
    known = entries(*(f"zkz at {hour} o'clock" for hour in range(12)), identifier="zkz")
    photo = prompts_of(config, Subjects.of(config), known).photo
    assert photo == ["zkz at 0 o'clock", "zkz at 4 o'clock", "zkz at 8 o'clock"]


@pytest.mark.parametrize(
    "prompt, left",
    [
        ("a photo of sksper person", "a photo of person"),
        ("a cat in sksper style", "a cat"),
        ("sksper", ""),
        ("a sksper on the", ""),
        ("portrait, SKSPER, at noon", "portrait, at noon"),
        ("sksperson", "sksperson"),
    ],
)
def test_the_word_is_taken_out_with_what_belongs_to_it(prompt, left):
    assert without(prompt, "sksper") == left


def test_a_word_is_not_part_of_another():
    assert holds("a sks, cat", "sks") and not holds("a sksper cat", "sks")
