"""The way of pictures through the tab, from adding them to the word: by keyboard alone, and from right to left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.web import localization
from tests.drawn_faces import portrait
from tests.engine.doctor.pictures import scene
from tests.host.asking import Asked
from tests.host.drawing.pretended import pretending
from tests.waiting import until

from .test_page import FILES

ARABIC = localization.read(localization.FOLDER / "ar_AR.json")


def photos(folder: Path) -> list[Path]:
    """Three portraits, one of them too dark, and a landscape that is too small."""
    folder.mkdir(parents=True, exist_ok=True)
    made = []
    for number in range(3):
        sheet = scene(700, 560, seed=number)
        sheet.paste(portrait(380, turn=number / 3, blur=0.3), (150, 150))
        made.append(folder / f"anna {number}.png")
        (sheet.point(lambda value: value // 30) if number == 2 else sheet).save(made[-1])
    made.append(folder / "tiny.png")
    scene(300, 256, seed=9).save(made[-1])
    return made


@pytest.fixture
def asked(tmp_path) -> Iterator[Asked]:
    made = pretending(tmp_path)
    made.service.picture_worker.environment = Environment()
    yield made
    made.service.picture_worker.close()


# --- by keyboard alone


class Keys:
    """Someone who has no mouse: goes on by Tab until something has the focus, and sees where it is."""

    def __init__(self, page: Any):
        self.page, self.press, self.type = page, page.keyboard.press, page.keyboard.type

    def go_to(self, selector: str, back: bool = False, most: int = 150) -> None:
        passed = []
        for _ in range(most):
            passed.append(self.page.evaluate(FOCUSED, selector))
            if passed[-1] is True:
                return
            self.press("Shift+Tab" if back else "Tab")
        raise AssertionError(f"no {selector} on the way, only {passed}")

    def push(self, selector: str, key: str = "Enter", **about: Any) -> None:
        self.go_to(selector, **about)
        self.press(key)


# Whether the focus is there, and is seen: in the window, with an outline or a border that shows it; else where it is
FOCUSED = """selector => {
    const one = document.activeElement;
    const text = (one.innerText || one.ariaLabel || "").slice(0, 40);
    if (!one.matches(selector)) return `${one.tagName} ${one.className} ${text}`;
    const { top, bottom, left, right } = one.getBoundingClientRect();
    const isSeen = bottom > 0 && top < innerHeight && right > 0 && left < innerWidth;
    return isSeen || `${selector} is at ${[left, top, right, bottom]}, out of sight`;
}"""


def test_from_adding_pictures_to_the_word_by_keyboard_alone(open_page, address, asked, tmp_path, screenshot) -> None:
    page = open_page(f"{address}webui")
    page.wait_for_selector(".db-drop")
    keys = Keys(page)
    add_pictures(keys, photos(tmp_path / "мои фото"))
    (folder,) = asked.service.sets.folder.iterdir()
    read_a_finding(keys, screenshot)
    crop(keys, folder)
    mask(keys, folder)
    write_captions(keys, folder)
    choose_a_word(keys, screenshot)


def test_keys_stay_within_the_tab(open_page, address) -> None:
    """AUTOMATIC1111 looks for its buttons in the present tab at Ctrl+Enter and Escape, and fails without."""
    page = open_page(f"{address}webui")
    page.wait_for_selector(".db-word")
    page.evaluate("window.heard = []; document.addEventListener('keydown', (event) => heard.push(event.key))")
    page.focus(".db-word")
    for key in ("Control+Enter", "Escape", "a"):
        page.keyboard.press(key)
    assert page.evaluate("heard") == [] and page.input_value(".db-word") == "a"


def add_pictures(keys: Keys, pictures: list[Path]) -> None:
    with keys.page.expect_file_chooser() as chooser:
        keys.go_to(FILES)  # inside: a browser takes a moment to see that somebody waits for its choosers
        keys.press("Enter")
    chooser.value.set_files(pictures)
    until(lambda: keys.page.locator(".db-picture").count() == 4)
    keys.page.wait_for_selector(".db-doctor .db-strong:has-text('Score')", timeout=90_000)
    assert "db-file" in keys.page.evaluate("document.activeElement.className")  # nobody took the focus away


def read_a_finding(keys: Keys, screenshot: Any) -> None:
    keys.push(".db-finding > summary")
    opened = keys.page.locator(".db-finding[open]")
    assert opened.count() == 1 and len(opened.locator("p").inner_text()) > 10
    screenshot(keys.page, "path-keyboard-finding")


def crop(keys: Keys, folder: Path) -> None:
    keys.go_to(".db-edit", back=True)
    name = keys.page.evaluate("document.activeElement.closest('.db-picture').querySelector('.db-picture-name').title")
    keys.press("Enter")
    keys.page.locator(f".db-editor-name:has-text('{name}')").wait_for()
    until(keys.page.locator(".db-editor button:text-is('Save as another crop')").is_enabled)
    before = Image.open(folder / name).size
    keys.go_to(".db-crop")
    for _ in range(20):
        keys.press("Shift+ArrowLeft")
    keys.press("Control+s")
    until(lambda: Image.open(folder / name).size != before)
    keys.page.locator(".db-editor :text('Saved')").first.wait_for()
    assert Image.open(folder / name).size[0] < before[0]


def mask(keys: Keys, folder: Path) -> None:
    keys.push(".db-editor input[value=crop], .db-editor input[value=mask]", back=True, key="ArrowRight")
    keys.go_to(".db-painted")
    keys.go_to(".db-editor input[value=counts], .db-editor input[value=not]", back=True)
    keys.press("ArrowRight")
    keys.go_to(".db-painted")
    for _ in range(6):
        keys.press("Shift+ArrowRight")
    keys.press("Control+s")
    until(lambda: any(folder.glob("*-masklabel.png")))
    (made,) = folder.glob("*-masklabel.png")
    assert np.asarray(Image.open(made)).min() < 10
    until(keys.page.locator(".db-editor button:text-is('Remove the mask')").is_enabled)
    keys.press("Escape")
    keys.page.locator(".db-editor").wait_for(state="detached")
    assert keys.page.evaluate("document.activeElement.className").find("db-edit") >= 0  # back where it was opened


def write_captions(keys: Keys, folder: Path) -> None:
    keys.push(".db-open-captions", back=True)
    keys.page.wait_for_selector(".db-cap-row")
    keys.go_to(".db-cap-row textarea")
    keys.type("on a heap of leaves")
    keys.press("Alt+ArrowDown")
    keys.type("before a wall")
    keys.press("Tab")
    until(lambda: len(list(folder.glob("*.txt"))) == 2)
    texts = sorted(path.read_text("utf-8").strip() for path in folder.glob("*.txt"))
    assert texts == ["before a wall", "on a heap of leaves"]
    keys.press("Escape")
    keys.page.locator("dialog.db-cap").wait_for(state="detached")
    assert "db-open-captions" in keys.page.evaluate("document.activeElement.className")


def choose_a_word(keys: Keys, screenshot: Any) -> None:
    keys.go_to(".db-word")
    keys.type("sks")
    keys.page.locator(".db-advice:has-text('SKS is a rifle')").wait_for()
    keys.push(".db-word-check button")
    until(lambda: keys.page.input_value(".db-word") not in ("", "sks"))
    screenshot(keys.page, "path-keyboard-word")


# --- from right to left


@pytest.fixture
def arabic(open_page, address, asked, tmp_path):
    """The page in a WebUI with --localization ar_AR, whose form has a set of three pictures; `shown(width, theme)`."""
    for number, path in enumerate(photos(tmp_path / "photos")):
        asked.service.sets.put("قطتي", path.name, path.read_bytes())
        asked.service.sets.put_caption("قطتي", f"{path.stem}.txt", f"a red sofa, {number} windows, قطة".encode())
    asked.service.pictures.rename("قطتي", "قطتي الصغيرة")

    def shown(width: int, theme: str) -> Any:
        page = open_page("about:blank", viewport={"width": width, "height": 900})
        page.context.add_init_script(f"window.localization = {json.dumps(ARABIC)}")
        form = json.dumps({"source": "upload", "set": "قطتي", "word": "zkz"})
        page.context.add_init_script(f"localStorage.setItem('dreambooth_ext.form', JSON.stringify({form}))")
        page.goto(f"{address}webui?__theme={theme}")
        page.locator(".db-picture").first.wait_for()
        page.wait_for_selector(".db-doctor .db-strong", timeout=90_000)
        return page

    return shown


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (380, "dark")])
def test_from_right_to_left(arabic, asked, screenshot, width, theme) -> None:
    page = arabic(width, theme)
    name = f"arabic-{{}}-{width}-{theme}"

    def look(part: str) -> None:
        screenshot(page, name.format(part))
        assert page.evaluate("document.documentElement.scrollWidth") <= width, part

    page.locator(".db-sets-box > summary").click()
    page.locator(".db-set input").first.wait_for()
    look("sets")
    page.locator(".db-sets-box > summary").click()
    page.locator(".db-masks > summary").click()
    look("masks")
    page.locator(".db-picture .db-edit").first.dispatch_event("click")
    page.locator(".db-editor-name").wait_for()
    until(page.locator(".db-crop").is_visible)
    until(lambda: page.locator(".db-crop").bounding_box()["width"] > 50)
    look("crop")
    left = page.locator(".db-crop").bounding_box()
    page.locator(".db-crop").focus()
    page.keyboard.press("Shift+ArrowLeft")  # narrower, as in any language: pictures are not mirrored
    assert page.locator(".db-crop").bounding_box()["width"] < left["width"]
    page.locator(".db-editor input[value=mask]").check(force=True)
    page.locator(".db-painted").wait_for()
    look("mask")
    page.keyboard.press("Escape")
    if page.locator(".db-editor").count():
        page.keyboard.press("Escape")
    page.locator(".db-open-captions").click()
    page.wait_for_selector(".db-cap-row")
    look("captions")
    field = page.locator(".db-cap-row textarea").first
    assert field.evaluate("one => getComputedStyle(one).unicodeBidi") == "plaintext"  # each text by its own letters
    page.keyboard.press("Escape")
    page.fill(".db-word", "sks")
    page.locator(".db-word-check button").first.wait_for()
    page.locator(".db-word").scroll_into_view_if_needed()
    look("word")


def test_large_pictures_follow_the_arrows(arabic, asked) -> None:
    asked.service.edits.make_mask("قطتي", "anna 0.png", "", "ellipse")
    page = arabic(1280, "light")
    page.locator(".db-masks > summary").click()
    page.locator(f".db-masks button:text-is('{ARABIC['Large']}')").click()
    said = page.locator(".db-mask-dialog [role=status]")
    assert "anna 0.png" in said.inner_text()
    page.keyboard.press("ArrowLeft")  # the next one is to the left
    assert "anna 1.png" in said.inner_text()
    page.keyboard.press("ArrowRight")
    assert "anna 0.png" in said.inner_text()
