"""Translations belong to texts that are there, say the same, and in Russian and Arabic are complete."""

from __future__ import annotations

import re

import pytest

from dreambooth_ext.core.config.run_config import SETTINGS
from dreambooth_ext.core.messages.message import Message, catalogue
from dreambooth_ext.host.web import localization

FILES = sorted(localization.FOLDER.glob("*.json"))
COMPLETE = ("ar_AR", "ru_RU")
LEAST = 0.95  # of the page's own texts, in the others


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w+\}", text))


def test_the_languages_that_the_readers_of_the_guide_speak():
    assert {"ru_RU", "ar_AR"} <= {path.stem for path in FILES}


def test_the_sources_are_found():
    texts = localization.sources()
    assert len(texts) == len(set(texts)) > 400
    assert {known.label for known in SETTINGS.values()} - localization.SAME <= set(texts)
    assert "Train" in texts and "{count} pictures" in texts and not localization.STYLES & set(texts)


def test_the_page_asks_for_translations():
    assert "export const TEXTS = localised({" in localization.TEXTS[0].read_text(encoding="utf-8")
    assert sorted(localization.TEXTS) == sorted(localization.PAGE.rglob("texts.js"))
    assert "localisedSchema(" in (localization.PAGE / "main.js").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_translation_is_dead_or_out_of_order(path):
    translations = localization.read(path)
    known = set(localization.needed())
    dead = [text for text in translations if text not in known]
    assert not dead, (
        f"run python -m dreambooth_ext.host.web.localization; {path.name} translates what is not there: {dead}"
    )
    assert list(translations) == list(localization.ordered(translations))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_translations_say_the_same(path):
    """The same values in them, the same numbers of the guide, and words of the language."""
    for key, translation in localization.read(path).items():
        text = catalogue().get(key, key)
        assert isinstance(translation, str) and translation.strip() == translation != ""
        assert placeholders(text) == placeholders(translation), text
        numbers = re.compile(r"\d+e-\d+|\d{3,}|\b\w+_\w+\b", re.ASCII)  # others' letters may stand beside names
        assert sorted(numbers.findall(text)) == sorted(numbers.findall(translation)), text
        assert "\u2028" not in translation and "<" not in translation.replace("<name>_<step>", "")


def test_a_message_outside_our_page_is_translated_where_it_can_be():
    message = Message("service.preset_name_long", count=70, most=60)
    assert localization.translated(message, "ru_RU") == "В имени символов: 70."
    for language in ("", "None", "xx_XX", "../ru_RU"):
        assert localization.translated(message, language) == message


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_coverage(path):
    translations = localization.read(path)
    missing = localization.missing(translations)
    of_page = localization.sources()
    share = sum(text in translations for text in of_page) / len(of_page)
    if path.stem in COMPLETE:
        assert not missing, f"{path.name} has no translation of {missing}"
    lacks = [text for text in of_page if text not in translations]
    assert share >= LEAST, f"{path.name}: {share:.0%}, without {lacks}"


@pytest.mark.parametrize(
    ("code", "name"), [("ru", "ru_RU"), ("zh-CN", "zh_CN"), ("de_AT", "de_DE"), ("en", ""), ("", ""), ("../x", "")]
)
def test_a_languages_code(code, name):
    assert localization.named(code) == name
