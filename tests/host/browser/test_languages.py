"""The page in other languages: the WebUI's localisation reaches sentences, tooltips and values, and breaks nothing."""

from __future__ import annotations

import json

import pytest

from dreambooth_ext.host import localization

from .test_page import DEMO, FILES

RUSSIAN = localization.read(localization.FOLDER / "ru_RU.json")


@pytest.fixture
def russian(open_page, server, screenshot):
    """The page as the WebUI gives it with --localization ru_RU: the texts are there before any script."""
    page = open_page("about:blank")
    page.context.add_init_script(f"window.localization = {json.dumps(RUSSIAN)}")
    page.goto(server)
    return page


def test_the_tab_speaks_russian(russian, screenshot):
    page = russian
    page.set_input_files(FILES, DEMO)
    page.fill(".db-word", "zkz")
    page.wait_for_selector("text=картинок")
    page.wait_for_selector(".db-sentence .db-value")
    sentence = page.inner_text(".db-sentence")
    assert sentence.startswith("Картинок: 12") and "шагов" in sentence  # the values stand where Russian wants them
    page.click("summary:has-text('Дополнительно')")
    texts = page.inner_text("body")
    for english in ("Learning rate", "Type of subject", "Prior preservation", "Base model", "Save every N steps"):
        assert english not in texts and RUSSIAN[english] in page.content()
    helps = page.eval_on_selector_all("[title]", "all => all.map(one => one.title)")
    assert any(text.startswith(RUSSIAN["Same seed, same run."]) for text in helps)
    # What programs read stays: the choices of a setting, and what is sent
    assert page.locator("option[value=constant]").first.text_content() == "constant"
    screenshot(page, "russian")


def test_a_bad_word_is_told_in_russian(russian):
    russian.fill(".db-word", "red")
    russian.wait_for_selector(f"text={RUSSIAN['is a word or name that the model knows']}")


def test_a_translation_cannot_bring_markup(open_page, server):
    page = open_page("about:blank")
    hostile = dict.fromkeys(RUSSIAN, '<img src=x onerror="window.hurt=1">')
    page.context.add_init_script(f"window.localization = {json.dumps(hostile)}")
    page.goto(server)
    page.wait_for_selector(".db-word")
    assert page.evaluate("window.hurt") is None and page.locator("img[src=x]").count() == 0
