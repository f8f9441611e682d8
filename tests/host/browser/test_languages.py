"""The page in other languages: the WebUI's localisation reaches sentences, tooltips and values, and breaks nothing."""

from __future__ import annotations

import json
import re

import pytest

from dreambooth_ext.host.web import localization

from .test_page import DEMO, FILES, TRAIN

RUSSIAN = localization.read(localization.FOLDER / "ru_RU.json")
ARABIC = localization.read(localization.FOLDER / "ar_AR.json")


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
    russian.wait_for_selector(f"text={RUSSIAN['identifiers.known']}")


def test_a_translation_cannot_bring_markup(open_page, server):
    page = open_page("about:blank")
    hostile = dict.fromkeys(RUSSIAN, '<img src=x onerror="window.hurt=1">')
    page.context.add_init_script(f"window.localization = {json.dumps(hostile)}")
    page.goto(server)
    page.wait_for_selector(".db-word")
    assert page.evaluate("window.hurt") is None and page.locator("img[src=x]").count() == 0


# --- what the server says


def test_reasons_problems_and_remedies_are_russian(russian, simulator, screenshot):
    page = russian
    page.set_input_files(FILES, DEMO[:6])
    page.fill(".db-word", "zkz")
    page.wait_for_selector("text=для человека (картинок: 3)", state="attached")
    page.click(".db-reasons summary")
    reasons = page.eval_on_selector_all(".db-reasons li .db-quiet", "all => all.map(one => one.textContent.trim())")
    assert len(reasons) > 5 and all(re.search("[а-я]{3}", one) for one in reasons), reasons
    assert "число шагов по руководству для человека (картинок: 3)" in reasons
    page.click(".db-advanced > summary")
    for group in ("Картинки", "Обучение", "Потери"):
        page.click(f".db-group summary:has-text('{group}')")
    page.fill("[data-setting=resolution] input", "100")
    page.fill("[data-setting=learning_rate] input", "0")
    page.fill("[data-setting=huber_c] input", "0.5")
    page.fill("input[id^=dreambooth_name]", "no good name!")
    page.click(TRAIN)
    page.wait_for_selector(".db-problems li:has-text('no good name!')")
    page.wait_for_selector(".db-problems li >> nth=2")
    said = page.eval_on_selector_all(".db-problems li", "all => all.map(one => one.textContent)")
    assert any("100 не делится на 64. Возьмите 128." in one for one in said), "\n".join(said)
    english = re.compile(r"\b(is|the|not|give|use|of|it|to|leave|set)\b")
    assert not [one for one in said if english.search(one)]
    assert "функция потерь l2" in page.inner_text("[data-setting=huber_c] .db-problem")
    screenshot(page, "russian-problems")
    simulator.faults["POST runs"] = (
        422,
        {"error": "x", "problems": [{"code": "settings.too_deep", "field": "", "message": "is nested too deeply."}]},
    )


def test_messages_within_messages(russian):
    """A value that is a message is translated as well; a code that is not known keeps its English."""
    russian.wait_for_selector(".db-word")
    step = {"code": "guide.person", "text": "person", "values": {}}
    answer = [
        {"code": "guide.steps", "values": {"subject": step, "count": 12}, "message": "English"},
        {"code": "no.such_code", "values": {}, "message": "Something new.", "remedy": "Turn it off."},
    ]
    said = russian.evaluate(
        """async (text) => {
        const { reviver } = await import(new URL('dreambooth/v1/page/shared/localised.js', location.href));
        return JSON.parse(text, reviver);
    }""",
        json.dumps(answer),
    )
    assert said[0]["message"] == RUSSIAN["guide.steps"].format(subject=RUSSIAN.get("guide.person", "person"), count=12)
    assert (said[1]["message"], said[1]["remedy"]) == ("Something new.", "Turn it off.")


# --- from right to left


@pytest.fixture
def arabic(open_page, server):
    """The page as the WebUI gives it with --localization ar_AR: nothing of that page says where lines go to."""
    page = open_page("about:blank")
    page.context.add_init_script(f"window.localization = {json.dumps(ARABIC)}")
    page.goto(f"{server}webui")
    page.wait_for_selector(".db-word")
    return page


def place(page, selector: str) -> tuple[float, float]:
    """Where the left and the right edge of an element are."""
    box = page.locator(selector).first.bounding_box()
    return box["x"], box["x"] + box["width"]


def test_in_arabic_the_tab_is_laid_out_from_right_to_left(arabic, simulator, screenshot):
    page = arabic
    assert page.get_attribute("#dreambooth_ext", "dir") == "rtl"
    assert page.get_attribute("#dreambooth_ext", "lang") == "ar"
    assert page.evaluate("document.documentElement.dir") == ""  # the rest of the WebUI is its own business
    page.set_input_files(FILES, DEMO)
    page.fill(".db-word", "zkz")
    page.wait_for_selector(".db-facts dd >> nth=4")
    assert place(page, ".db-summary")[1] <= place(page, ".db-questions")[0]  # the column at the end is the left one
    first, second = place(page, ".db-picture >> nth=0"), place(page, ".db-picture >> nth=1")
    assert second[1] <= first[0]
    dt, dd = place(page, ".db-facts dt"), place(page, ".db-facts dd")
    assert dd[1] <= dt[0]
    # What is typed or measured keeps its own order
    assert page.locator(".db-word").evaluate("one => getComputedStyle(one).direction") == "ltr"
    assert "\u2066128 × 128\u2069" in page.inner_text(".db-picture .db-note")
    closed = "getComputedStyle(document.querySelector('.db-advanced > summary'), '::before').content"
    assert page.evaluate(closed) == '"◂"'
    screenshot(page, "arabic-train")
    simulator.speed, simulator.hold = 2000, 620
    page.click(TRAIN)
    page.wait_for_selector(f".db-previews th:has-text('{ARABIC['Step {step}'].format(step=500)}')")
    assert page.locator(".db-plot-stage").first.evaluate("one => getComputedStyle(one).direction") == "ltr"
    assert page.locator(".db-log").evaluate("one => getComputedStyle(one).direction") == "ltr"
    assert place(page, ".db-preview >> nth=1")[1] <= place(page, ".db-preview >> nth=0")[0]  # later steps to the left
    screenshot(page, "arabic-monitor")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_in_arabic_arrow_keys_go_where_they_point(arabic, simulator):
    page = arabic
    page.focus(".db-tab[aria-selected=true]")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".db-tab[aria-selected=true]").inner_text() == ARABIC["Monitor"]
    page.keyboard.press("ArrowRight")
    assert page.locator(".db-tab[aria-selected=true]").inner_text() == ARABIC["Train"]
    simulator.speed, simulator.hold = 2000, 620
    page.set_input_files(FILES, DEMO)
    page.fill(".db-word", "zkz")
    page.wait_for_selector(".db-sentence .db-value")
    page.click(TRAIN)
    step = ARABIC["Step {step}"]
    page.wait_for_selector(f".db-previews th:has-text('{step.format(step=500)}')")
    page.locator(".db-preview").first.click()
    page.wait_for_selector(f".db-viewer-caption:has-text('{ARABIC['Base']}')")
    assert page.locator(".db-viewer-tools button").first.inner_text() == "→"
    for _ in range(2):
        page.keyboard.press("ArrowLeft")  # to the later picture, which is on the left
    page.wait_for_selector(f".db-viewer-caption:has-text('{step.format(step=500)}')")


# --- without a WebUI


def test_a_language_is_chosen_and_remembered(open_page, server, screenshot):
    page = open_page(server)
    choice = page.locator("select[aria-label=Language]")
    choice.wait_for()
    names = choice.locator("option").all_inner_texts()
    assert names[0] == "English" and "Русский" in names and len(names) == len(localization.languages()) + 1
    page.fill(".db-word", "zkz")
    choice.select_option(label="Русский")
    page.wait_for_selector(f".db-tab:has-text('{RUSSIAN['Monitor']}')")
    assert page.input_value(".db-word") == "zkz" and page.evaluate("document.documentElement.lang") == "ru"
    page.reload()
    page.wait_for_selector(f".db-tab:has-text('{RUSSIAN['Monitor']}')")
    screenshot(page, "russian-alone")
    page.locator(f"select[aria-label={RUSSIAN['Language']}]").select_option(label="English")
    page.wait_for_selector(".db-tab:has-text('Monitor')")


def test_at_first_the_browsers_language(open_page, server):
    page = open_page(server, locale="ru-RU")
    page.wait_for_selector(f".db-tab:has-text('{RUSSIAN['Monitor']}')")
    page.locator(".db-languages:visible").wait_for()  # filled after the page was drawn
    assert page.locator(".db-languages").input_value() == "ru_RU"
    page = open_page(server, locale="ar-EG", viewport={"width": 380, "height": 800})
    page.wait_for_selector(".db-languages")
    assert page.evaluate("document.documentElement.dir") == "rtl"
    assert page.get_attribute("#dreambooth_ext", "lang") == "ar"
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    assert open_page(server, locale="en-GB").wait_for_selector(".db-tab:has-text('Monitor')")


def test_in_a_webui_its_settings_choose(open_page, server):
    page = open_page(f"{server}webui", locale="ru-RU")
    page.wait_for_selector(".db-tab:has-text('Monitor')")
    assert page.locator(".db-languages:visible").count() == 0
