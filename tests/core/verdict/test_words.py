"""The words of a run's subjects, as its prompts, file names, captions or trained words tell them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.data.entry import Entry
from dreambooth_ext.core.verdict.words import spoken, subject_words


def found(pictures: dict[str, str], **settings) -> list[str]:
    """pictures: by caption, what the file name calls the subject."""
    config = RunConfig(**settings)
    entries = [Entry(Path(f"{n}.png"), text, 0, identifier=name) for n, (text, name) in enumerate(pictures.items())]
    return subject_words(config, Subjects.of(config).concepts, entries)


@pytest.mark.parametrize(
    ("pictures", "settings", "words"),
    [
        ({"a photo of Sksper person": ""}, {"instance_prompt": "a photo of Sksper, person"}, ["Sksper"]),
        ({"": ""}, {"instance_prompt": "zkz qrt cat", "class_prompt": "a cat"}, ["zkz", "qrt"]),
        # File names: with captions, of which each names its own picture's subject
        ({"alix on sand": "alix", "alix at night": "alix", "borx on grass": "borx", "borx, close": "borx"}, {},
         ["alix", "borx"]),
        ({"zkz on a beach": "zkz on a beach", "zkz at night": "zkz at night", "zkz": "zkz"}, {}, ["zkz"]),
        ({"a house": "sunset", "a tree, sunset": "sunset", "zqx": "sunset"}, {}, []),
        ({"a star in zqx style": "", "a moon in zqx style": ""}, {}, ["zqx"]),
        ({"a zkz figure": ""}, {"placeholder_token": "<zkz>, <qrt>"}, ["<zkz>", "<qrt>"]),
        ({"a red house": "house"}, {"method": "finetune"}, []),
    ],
)  # fmt: skip
def test_words(pictures, settings, words):
    assert found(pictures, **{"instance_prompt": None, "method": "lora", **settings}) == words


def test_each_subject_has_its_own_and_class_pictures_have_none():
    concepts = [{"instance_data_dir": "a", "instance_prompt": "alix woman"}, {"instance_data_dir": "b"}]
    config = RunConfig(concepts=concepts, method="lora")
    entries = [
        Entry(Path("a.png"), "alix woman", 0),
        Entry(Path("b.png"), "a Borx on sand", 1, identifier="Borx"),
        Entry(Path("c.png"), "a Borx", 1, identifier="Borx"),
        Entry(Path("d.png"), "ALIX", 1, identifier="zzz", is_class=True),
    ]
    assert subject_words(config, Subjects.of(config).concepts, entries) == ["alix", "Borx"]


def test_words_as_captions_have_them():
    assert spoken(["<Zkz>", "my_sksper", "cat"]) == {"zkz", "sksper", "cat"}
