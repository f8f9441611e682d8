"""The captions' grid, what is trained of them, and the word's check, before the real service."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from dreambooth_ext.core.captions import taggers
from tests.host.asking import Asked
from tests.host.captions.test_tagging import tagger
from tests.host.drawing.pretended import pretending, trained, without_job
from tests.host.pictures.test_copying import held
from tests.waiting import until

CAPTIONS = {
    "zkz (1).png": "red sofa, evening light, window",
    "zkz (2).png": "",
    "zkz (3).png": "evening light, tree",
    "zkz (4).png": "a red sofa, " * 30,
}


def fill(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for place, (name, text) in enumerate(CAPTIONS.items()):
        picture = Image.new("RGB", (160, 120 + 40 * (place % 2)), (70 + 40 * place, 110, 150 - 20 * place))
        ImageDraw.Draw(picture).ellipse((40, 20, 120, 100), fill=(230, 200 - 30 * place, 90))
        picture.save(folder / name)
        if text:
            (folder / name).with_suffix(".txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = pretending(tmp_path)
    trained(made)
    made.host.base = str(made.host.folders()["checkpoint"] / "sd15.safetensors")
    fill(made.service.sets.folder / "mine")
    return made


def form(page, **answers: Any) -> None:
    """The form with these answers."""
    page.evaluate(
        "answers => localStorage.setItem('dreambooth_ext.form', JSON.stringify(answers))",
        {"word": "zkz", "source": "upload", "set": "mine", "folder": "", "values": {}, **answers},
    )
    page.reload()


def opened(page) -> Any:
    page.click("text=Edit captions")
    page.wait_for_selector(".db-cap-row")
    return page.locator("dialog.db-cap")


def with_taggers(page) -> tuple[Any, Any]:
    """The captions' dialog with its taggers' part open, and the choice of taggers."""
    form(page)
    dialog = opened(page)
    dialog.locator("summary:has-text('Let a tagger propose')").click()
    choice = dialog.get_by_label("Tagger", exact=True)
    until(lambda: choice.locator("option").count() > 3)
    return dialog, choice


def captions(asked: Asked, name: str = "mine") -> dict[str, str]:
    return {one["name"]: one["caption"] for one in asked.service.captions.list(name, None)["pictures"]}


def test_captions_are_changed_all_at_once_and_taken_back(open_page, address, asked, screenshot) -> None:
    page = open_page(address)
    form(page)
    dialog = opened(page)
    assert dialog.locator(".db-cap-row").count() == 4
    assert dialog.locator(".db-cap-tag").first.inner_text().split("\n")[0] == "evening light"
    dialog.get_by_label("Find", exact=True).fill("red SOFA")
    dialog.get_by_label("Replace by").fill("blue chair")
    dialog.get_by_label("Replace by").press("Enter")
    dialog.locator("text=2 captions changed.").wait_for()
    assert captions(asked)["zkz (1).png"] == "blue chair, evening light, window"
    dialog.get_by_label("Tags, with commas").fill("outdoors")
    dialog.locator("button:text-is('Add at the start')").click()
    dialog.locator("text=4 captions changed.").wait_for()
    until(lambda: dialog.locator("textarea").nth(1).input_value() == "outdoors")
    screenshot(page, "captions-1280-light")
    page.reload()  # what can be undone is kept beside the pictures
    dialog = opened(page)
    assert "add tags · outdoors" in dialog.locator("button:text-is('Undo')").get_attribute("title")
    dialog.locator("button:text-is('Undo')").click()
    until(lambda: captions(asked)["zkz (2).png"] == "")
    dialog.locator("h3").click()
    page.keyboard.press("Control+z")
    until(lambda: captions(asked)["zkz (1).png"] == CAPTIONS["zkz (1).png"])
    until(lambda: dialog.locator("button:text-is('Undo')").is_disabled())
    page.keyboard.press("Control+Shift+z")
    until(lambda: captions(asked)["zkz (1).png"].startswith("blue chair"))


def test_only_what_the_filter_shows_is_changed(open_page, address, asked) -> None:
    page = open_page(address)
    form(page)
    dialog = opened(page)
    dialog.locator(".db-cap-tag button:text-is('tree')").click()
    until(lambda: dialog.locator(".db-cap-row").count() == 1)
    dialog.get_by_label("Tags, with commas").fill("oak")
    dialog.get_by_label("Tags, with commas").press("Enter")
    dialog.locator("text=1 caption changed.").wait_for()
    found = captions(asked)
    assert found["zkz (3).png"] == "evening light, tree, oak"
    assert sum("oak" in text for text in found.values()) == 1
    dialog.get_by_role("searchbox").fill("")
    dialog.get_by_label("Without a caption", exact=True).press("Space")  # a click may miss it while notices come and go
    until(lambda: dialog.locator(".db-cap-row").count() == 1)
    dialog.locator("textarea").fill("typed by hand")
    page.keyboard.press("Tab")
    until(lambda: captions(asked)["zkz (2).png"] == "typed by hand")


def test_by_keyboard_alone(open_page, address, asked) -> None:
    page = open_page(address)
    form(page)
    page.wait_for_selector("text=Edit captions")
    page.focus("button:text-is('Edit captions')")
    page.keyboard.press("Enter")
    page.wait_for_selector(".db-cap-row")
    page.locator(".db-cap-row textarea").first.focus()
    page.keyboard.press("Alt+ArrowDown")
    page.keyboard.type("by keys")
    page.keyboard.press("Alt+ArrowDown")
    until(lambda: captions(asked)["zkz (2).png"] == "by keys")
    assert page.evaluate("document.activeElement.getAttribute('aria-label')") == "Caption of zkz (3).png"
    page.keyboard.press("Escape")
    until(lambda: page.locator("dialog.db-cap").count() == 0)


def test_what_is_trained_is_shown_in_colours(open_page, address, asked, screenshot) -> None:
    page = open_page(address)
    form(page, values={"use_captions": True, "shuffle_tags": True, "keep_tokens": 1, "caption_dropout": 0.1})
    dialog = opened(page)
    dialog.locator("label:has-text('Show as trained')").click()
    dialog.locator(".db-as-trained").nth(3).wait_for()
    first = dialog.locator(".db-as-trained").first
    assert first.locator(".db-as-text").first.inner_text() == "a photo of zkz person, red sofa, evening light, window"
    assert (
        "".join(first.locator(".db-as-text").first.locator(".db-as-kept").all_inner_texts()) == "a photo of zkz person"
    )
    assert "of 75 tokens" in first.inner_text() and "left out in 10 % of the steps" in first.inner_text()
    last = dialog.locator(".db-as-trained").nth(3)
    assert "what is struck through is not read" in last.inner_text() and last.locator(".db-as-unread").count() > 3
    dialog.locator("text=1 caption is too long and is cut.").wait_for()
    first.locator("summary").click()
    assert first.locator("li").count() > 1
    screenshot(page, "captions-trained-1280-light")
    page.set_viewport_size({"width": 380, "height": 800})
    screenshot(page, "captions-trained-380-light")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_own_files_are_only_read_until_a_copy_is_made(open_page, address, asked, tmp_path, screenshot) -> None:
    folder = fill(tmp_path / "my photos")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    page = open_page(address)
    form(page, source="folder", folder=str(folder), set="")
    dialog = opened(page)
    dialog.locator("text=These are your own files").wait_for()
    assert dialog.locator("textarea").first.get_attribute("readonly") is not None
    assert dialog.locator("button:text-is('Replace')").is_disabled()
    screenshot(page, "captions-folder-1280-light")
    dialog.locator("text=Edit a copy").last.click()
    dialog.locator("text=A copy was made: my photos").wait_for()
    until(lambda: dialog.locator("button:text-is('Add at the end')").is_enabled())
    dialog.get_by_label("Tags, with commas").fill("new")
    dialog.get_by_label("Tags, with commas").press("Enter")
    dialog.locator("text=4 captions changed.").wait_for()
    assert captions(asked, "my photos")["zkz (2).png"] == "new"
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    page.keyboard.press("Escape")
    assert page.is_checked("input[value=upload]")


def test_what_a_queued_run_uses_stays(open_page, address, asked) -> None:
    asked.service.sets.use(asked.service.sets.folder / "mine")
    page = open_page(address)
    form(page)
    dialog = opened(page)
    dialog.locator("text=The first change makes a copy").wait_for()
    dialog.get_by_label("Tags, with commas").fill("new")
    dialog.get_by_label("Tags, with commas").press("Enter")
    dialog.locator("text=4 captions changed.").wait_for()
    assert captions(asked)["zkz (2).png"] == "" and captions(asked, "mine-2")["zkz (2).png"] == "new"


@pytest.mark.parametrize(
    ("word", "says", "tokens"),
    [
        ("sks", "SKS is a rifle", ["sks"]),
        ("ohwx", "Ohio's weather", ["ohwx"]),
        ("castlezk", "the base knows 'castle' well", None),
        ("sksper", "none of which the base knows as a word", ["sk", "sper"]),
    ],
)
def test_a_word_is_checked_against_the_vocabulary(open_page, address, word, says, tokens) -> None:
    page = open_page(address)
    page.fill(".db-word", word)
    page.wait_for_selector(f'.db-advice:has-text("{says}")')
    if tokens:
        assert page.locator(".db-word-token").all_inner_texts() == tokens
    assert page.locator(".db-word-better").is_visible() == (word != "sksper")
    assert ("db-good" in page.get_attribute(".db-advice", "class")) == (word == "sksper")


def test_a_better_word_is_taken_and_drawn(open_page, address, asked, screenshot) -> None:
    page = open_page(address)
    form(page, word="sks")
    page.wait_for_selector(".db-word-better button")
    screenshot(page, "word-1280-light")
    word = page.locator(".db-word-better button").first.inner_text()
    page.click(".db-word-better button")
    page.wait_for_selector(".db-advice.db-good:has-text('One token, and a rare one')")
    assert page.input_value(".db-word") == word and f"a photo of {word} person" in page.inner_text(".db-prompt")
    (asked.environment.folder / "wait").touch()
    page.click("text=What does the base draw for it?")
    page.wait_for_selector("text=Drawing: 0 of 4")
    (asked.environment.folder / "wait").unlink()
    until(lambda: page.locator(".db-word-pictures img").count() == 4)
    page.wait_for_selector("text=choose another word")
    without_job(asked)
    page.evaluate("document.body.classList.add('dark')")
    page.set_viewport_size({"width": 380, "height": 800})
    page.locator(".db-word-pictures").scroll_into_view_if_needed()
    screenshot(page, "word-380-dark")


def test_a_tagger_proposes_and_nothing_changes_before_it_is_taken(open_page, address, asked, screenshot) -> None:
    tagger(asked.service.tagging.folder / "my tagger")
    page = open_page(address)
    dialog, choice = with_taggers(page)
    assert choice.input_value() == "my tagger"
    dialog.get_by_label("At least this sure of a tag").fill("0.5")
    dialog.get_by_label("Leave out these tags").fill("simple background, 1girl")
    screenshot(page, "captions-tagger-1280-light")
    (asked.environment.folder / "wait").touch()
    dialog.locator("button:text-is('Propose')").click()
    dialog.locator("text=Looking at pictures: 1 of 4").wait_for()
    (asked.environment.folder / "wait").unlink()
    dialog.locator("text=my tagger proposes captions for 4 pictures. Nothing has changed yet.").wait_for()
    assert dialog.locator(".db-cap-proposal:visible").count() == 4
    assert captions(asked)["zkz (2).png"] == ""
    screenshot(page, "captions-proposed-1280-light")
    page.evaluate("document.body.classList.add('dark')")
    page.set_viewport_size({"width": 380, "height": 800})
    screenshot(page, "captions-proposed-380-dark")
    dialog.locator("text=Take where there is none").click()
    dialog.locator("text=1 caption changed.").wait_for()
    assert captions(asked)["zkz (2).png"] == "seen zkz (2).png"
    until(lambda: dialog.locator(".db-cap-proposals").count() == 0)
    dialog.locator("button:text-is('Undo')").click()
    until(lambda: captions(asked)["zkz (2).png"] == "")


def test_a_tagger_is_fetched_only_after_its_size_and_licence_are_told(open_page, address, asked, monkeypatch) -> None:
    page = open_page(address)
    dialog, choice = with_taggers(page)
    first = taggers.KNOWN[0]
    choice.select_option(first.repository)
    assert dialog.locator("button:text-is('Propose')").is_disabled()
    fetched: list[str] = []

    def fetch(repository, names, into, title):
        fetched.append(repository)
        tagger(into)
        return {"id": "1"}

    monkeypatch.setattr(asked.service.downloads, "fetch_files", fetch)
    dialog.locator("text=What would be downloaded?").click()
    dialog.locator("text=Licence: apache-2.0").wait_for()
    assert "SHA-256 of model.onnx: ab" in dialog.inner_text() and fetched == []
    dialog.locator("button:has-text('Download 7')").click()
    until(lambda: dialog.locator("button:text-is('Propose')").is_enabled())
    assert fetched == [first.repository]


def test_why_a_tagger_cannot_be_fetched_is_told(open_page, address, asked) -> None:
    page = open_page(address)
    dialog, choice = with_taggers(page)
    choice.select_option(taggers.KNOWN[0].repository)
    (asked.environment.folder / "broken").touch()
    dialog.locator("text=What would be downloaded?").click()
    dialog.locator(".db-problem:has-text('it is damaged')").wait_for()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_long_copy_shows_how_far_it_is_and_can_be_stopped(
    open_page, address, asked, tmp_path, screenshot, monkeypatch, theme
) -> None:
    reached, go_on = held(monkeypatch, 4)
    folder = fill(tmp_path / "my photos")
    page = open_page(f"{address}webui?__theme={theme}")
    form(page, source="folder", folder=str(folder), set="")
    dialog = opened(page)
    dialog.locator("text=Edit a copy").last.click()
    assert reached.wait(30)
    page.locator("text=2 of 4 files").wait_for()  # the fourth file is the third picture
    screenshot(page, f"copying-1280-{theme}")
    page.set_viewport_size({"width": 380, "height": 800})
    screenshot(page, f"copying-380-{theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    stop = page.locator("dialog:has-text('Copying the pictures') button:text-is('Stop')").last
    if theme == "light":
        stop.click()
    else:
        page.keyboard.press("Escape")
    until(stop.is_disabled)
    go_on.set()
    dialog.locator("text=Nothing of the copy is left").wait_for()
    assert page.locator("text=Copying the pictures").count() == 0
    assert sorted(path.name for path in asked.service.sets.folder.iterdir()) == ["mine"]
    dialog.locator("text=Edit a copy").last.click()  # once more, to its end
    dialog.locator("text=A copy was made: my photos").wait_for()
    assert len(captions(asked, "my photos")) == 4
