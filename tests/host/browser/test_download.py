"""The field for a link to a model, before the real service; only the trainer's verb pretends."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from dreambooth_ext.host.web import localization, server
from tests.host.asking import Asked
from tests.host.downloads.pretended_verb import Pretended
from tests.waiting import until

from .conftest import serving

LINK = "https://civitai.com/models/10/portraits?modelVersionId=20"
MARKUP = "<img src=x onerror=alert(1)>"
ARABIC = localization.read(localization.FOLDER / "ar_AR.json")


@pytest.fixture
def asked(tmp_path) -> Asked:
    return Asked(tmp_path)


@pytest.fixture
def verb(asked) -> Pretended:
    return Pretended(asked)


@pytest.fixture
def address(asked, verb) -> Iterator[str]:
    with serving(server.application(asked.service)) as found:
        yield found


def look(page, link: str = LINK) -> None:
    if not page.locator(".db-download-ask").is_visible():
        page.click("text=Get a model by link")
    page.fill("[aria-label='Link to a model']", link)
    page.keyboard.press("Enter")


def card(page) -> Any:
    return page.locator(".db-download-one").first


def models(asked: Asked) -> list[str]:
    folder = asked.host.folders()["checkpoint"]
    return sorted(path.name for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []


def test_from_a_link_to_the_base(open_page, address, asked, verb, screenshot):
    page = open_page(address)
    look(page)
    page.wait_for_selector(".db-download-one .db-facts")
    facts = card(page).inner_text()
    for told in ("portraits", "Civitai · Portraits v2", "4.0 kB", "openrail", "SD 1.5", "abababababababab…"):
        assert told in facts
    assert models(asked) == [] and page.input_value("[aria-label='Link to a model']") == ""
    screenshot(page, "download-facts")
    verb.set("wait")
    card(page).locator("text=Download").click()
    page.wait_for_selector("text=2.0 kB of 4.0 kB")
    screenshot(page, "download-running")
    card(page).locator("text=Pause").click()
    page.wait_for_selector("text=Paused")
    page.reload()
    page.wait_for_selector("text=Paused")  # it is there again
    screenshot(page, "download-paused")
    until(lambda: not asked.service.downloads._verbs)
    verb.unset("wait")
    card(page).locator("text=Go on").click()
    page.wait_for_selector("text=Downloaded into")
    path = str(asked.host.folders()["checkpoint"] / "portraits")
    until(lambda: page.evaluate("document.querySelector('.db-model-fields select').value") in (path, "\u0000other"))
    page.wait_for_selector("text=Chosen as the base:")
    screenshot(page, "download-done")
    card(page).locator("text=Dismiss").click()
    until(lambda: page.locator(".db-download-one").count() == 0)
    assert models(asked) == ["portraits"]


def test_the_chosen_base_is_what_is_trained_from(open_page, address, asked, verb):
    page = open_page(address)
    look(page, "https://host.example/portraits.safetensors")
    card(page).locator("text=Download").click()
    path = str(asked.host.folders()["checkpoint"] / "portraits.safetensors")
    until(lambda: page.evaluate("document.querySelector('.db-model-fields select').value") == path)


def test_cancel_leaves_nothing(open_page, address, asked, verb):
    page = open_page(address)
    verb.set("wait")
    look(page)
    card(page).locator("text=Download").click()
    page.wait_for_selector("text=2.0 kB of 4.0 kB")
    card(page).locator("text=Cancel").click()
    page.wait_for_selector("text=Cancelled; nothing of it is left.")
    until(lambda: page.locator(".db-download-one").count() == 0)
    until(lambda: models(asked) == [])


def test_what_goes_wrong_is_told_and_the_link_stays(open_page, address, asked, verb, screenshot):
    page = open_page(address)
    verb.set("problem", "look download.civitai_login")
    look(page)
    page.wait_for_selector("text=Civitai provides this file only to those who are logged in")
    screenshot(page, "download-failed")
    verb.unset("problem")
    card(page).locator("text=Try again").click()
    page.wait_for_selector(".db-download-one .db-facts")
    look(page, "x" * 5000)
    page.wait_for_selector("text=This is not a link to a model")
    assert page.input_value("[aria-label='Link to a model']") == "x" * 5000


def test_another_file_and_a_lora(open_page, address, asked, verb, screenshot):
    page = open_page(address)
    look(page)
    page.wait_for_selector("[aria-label='Which file']")
    page.select_option("[aria-label='Which file']", "b.ckpt")
    until(lambda: "b.ckpt" in card(page).locator("dd").first.inner_text())
    look(page, "https://host.example/lora.safetensors")
    page.wait_for_selector("text=Nothing to train from: it goes into the folder of its kind.")
    screenshot(page, "download-lora")
    card(page).locator("text=Download").click()
    page.wait_for_selector("text=Downloaded into")
    assert (asked.host.folders()["lora"] / "lora.safetensors").is_file()
    assert page.evaluate("document.querySelector('.db-model-fields select').value") == ""


def test_a_link_with_a_token_is_kept_nowhere_in_the_browser(open_page, address, asked, verb):
    page = open_page(address)
    look(page, "https://host.example/a.safetensors?token=SECRET")
    page.wait_for_selector(".db-download-one .db-facts")
    assert "SECRET" not in page.content() and "SECRET" not in page.evaluate("JSON.stringify({...localStorage})")


def test_by_keyboard_alone(open_page, address, asked, verb):
    page = open_page(address)
    page.locator(".db-download-open").focus()
    page.keyboard.press("Enter")
    page.keyboard.type(LINK)
    page.keyboard.press("Enter")
    page.wait_for_selector(".db-download-one .db-facts")
    page.keyboard.press("Tab")  # past Look up
    until(lambda: page.evaluate("document.activeElement.textContent") == "Look up")
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Download"
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Downloaded into")
    page.locator("[aria-label='Link to a model']").focus()
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "Get a model by link"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_on_a_narrow_screen_in_arabic(open_page, address, asked, verb, screenshot, theme):
    page = open_page(address, viewport={"width": 380, "height": 800}, locale="ar", color_scheme=theme)
    page.click(f"text={ARABIC['Get a model by link']}")
    page.fill(f"[aria-label='{ARABIC['Link to a model']}']", LINK)
    page.keyboard.press("Enter")
    page.wait_for_selector(".db-download-one .db-facts")
    assert page.evaluate("document.documentElement.scrollWidth <= 380")
    screenshot(page, f"download-narrow-{theme}")


def test_nothing_of_a_site_is_markup(open_page, address, asked, verb):
    page = open_page(address)
    script = verb.folder / "verb.py"
    script.write_text(script.read_text().replace('"Portraits v2"', json.dumps(MARKUP)))
    look(page)
    page.wait_for_selector(".db-download-one .db-facts")
    assert MARKUP in card(page).inner_text() and page.locator(".db-download-one img").count() == 0
