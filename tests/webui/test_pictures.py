"""The way of pictures in the real WebUI: findings, editor, masks, captions, word, sets, and a base by link.

Needs what `test_browser.py` needs; skipped without.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dreambooth_ext.core.guide.demo_recipe import BASE
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.layout import FOLDER_VARIABLE
from tests.engine.downloads.servers import served, whole
from tests.host.browser.conftest import browser, open_page, screenshot  # noqa: F401 - fixtures
from tests.host.browser.test_page import FILES
from tests.host.browser.test_pictures_path import photos
from tests.host.browser.test_standin import LONG, enter
from tests.waiting import until
from tests.webui.server import WebUI, webui_folder

from .test_browser import data, started  # noqa: F401 - a fixture

pytestmark = [
    pytest.mark.skipif(webui_folder() is None, reason="$WEBUI_DIR names no WebUI"),
    pytest.mark.skipif(Environment().status().state != "ready", reason=f"${FOLDER_VARIABLE} names no environment"),
]
TOP = "#dreambooth_ext"


@pytest.fixture
def link() -> Iterator[str]:
    """A base on a server of this machine."""
    with served() as server:
        server.answers["/by-link.safetensors"] = whole(BASE.read_bytes())
        yield server.link("/by-link.safetensors")


def test_from_faults_to_a_set(data, tmp_path, link, open_page, screenshot) -> None:  # noqa: F811
    with started(data) as webui:
        page = open_page(webui.address)
        page.set_default_timeout(60_000)
        enter(page)
        look = Looks(page, screenshot)
        add_pictures(page, photos(tmp_path / "фото"), look)
        (folder,) = (data / "dreambooth" / "pictures").iterdir() if (data / "dreambooth").exists() else found(data)
        crop(page, folder, look)
        mask(page, folder, look)
        captions(page, folder, look)
        word(page, look)
        name_the_set(page, look)
        fetch(page, link, webui, look)
        page.close()


def found(data: Path) -> list[Path]:  # noqa: F811
    """The sets, wherever the WebUI keeps our data."""
    return [path for path in data.rglob("pictures/*") if path.is_dir() and any(path.glob("anna 0.png"))]


class Looks:
    """Screenshots of what is to be looked at by somebody: narrow and wide, in both themes."""

    def __init__(self, page: Any, take: Any):
        self.page, self.take = page, take

    def __call__(self, name: str) -> None:
        for width, height in ((380, 820), (1280, 900)):
            self.page.set_viewport_size({"width": width, "height": height})
            for theme in ("dark", "light"):
                self.page.evaluate("isDark => document.body.classList.toggle('dark', isDark)", theme == "dark")
                self.page.wait_for_timeout(300)
                self.take(self.page, f"webui-{name}-{width}-{theme}")
            assert self.page.evaluate("document.documentElement.scrollWidth") <= width or width < 400, name


def add_pictures(page: Any, pictures: list[Path], look: Looks) -> None:
    page.set_input_files(f"{TOP} {FILES}", pictures)
    until(lambda: page.locator(".db-picture").count() == 4, 60)
    page.wait_for_selector(".db-doctor .db-strong:has-text('Score')", timeout=LONG)
    kinds = {
        name: page.locator(".db-picture").filter(has=page.locator(f"[title='{name}']")).locator(".db-finding > summary")
        for name in ("anna 0.png", "anna 2.png", "tiny.png")
    }
    assert "Dark" in kinds["anna 2.png"].all_inner_texts() and "Small" in kinds["tiny.png"].all_inner_texts()
    assert kinds["anna 0.png"].all_inner_texts() == []
    kinds["anna 2.png"].first.click()
    look("findings")


def crop(page: Any, folder: Path, look: Looks) -> None:
    """By hand, and by keys that the WebUI has too: Alt+arrows, Ctrl+S, Escape."""
    page.locator(".db-picture .db-edit").first.dispatch_event("click")
    until(page.locator(".db-editor button:text-is('Save as another crop')").is_enabled, 60)
    look("crop")
    before = Image.open(folder / "anna 0.png").size
    page.locator(".db-crop").focus()
    for _ in range(12):
        page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Control+s")
    until(lambda: Image.open(folder / "anna 0.png").size[0] < before[0], 30)


def mask(page: Any, folder: Path, look: Looks) -> None:
    until(page.locator(".db-editor button:text-is('Save as another crop')").is_enabled, 60)
    page.locator(".db-editor span:text-is('Mask')").click()
    page.locator(".db-painted").wait_for()
    page.locator(".db-editor span:text-is('Does not count')").click()
    place = page.locator(".db-painted").bounding_box()
    page.mouse.move(place["x"] + 20, place["y"] + 20)
    page.mouse.down()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + 30, steps=5)
    page.mouse.up()
    look("mask")
    page.keyboard.press("Control+s")
    until((folder / "anna 0-masklabel.png").exists, 30)
    made = np.asarray(Image.open(folder / "anna 0-masklabel.png"))
    assert made[:40].min() < 20 and made[-40:].min() > 240
    until(page.locator(".db-editor button:text-is('Remove the mask')").is_enabled, 30)
    page.keyboard.press("Escape")
    page.locator(".db-editor").wait_for(state="detached")
    page.locator(".db-masks > summary").click()
    page.locator(".db-masks button:text-is('Make')").click()
    page.locator(".db-mask-failures li:has-text('tiny.png')").wait_for(timeout=LONG)  # a landscape shows no face
    page.locator(".db-masks button:text-is('Make')").wait_for()
    assert {path.name for path in folder.glob("*-masklabel.png")} >= {"anna 0-masklabel.png", "anna 1-masklabel.png"}
    look("masks")


def captions(page: Any, folder: Path, look: Looks) -> None:
    page.click(".db-open-captions")
    page.wait_for_selector(".db-cap-row")
    page.get_by_label("Tags, with commas").fill("leaves")
    page.get_by_label("Tags, with commas").press("Enter")
    page.locator("text=4 captions changed.").wait_for()
    field = page.locator(".db-cap-row textarea").first
    field.focus()
    page.keyboard.press("End")
    page.keyboard.type(", (a wall:1.2)")
    page.keyboard.press("Control+ArrowUp")  # in the WebUI's prompts that would be a weight
    page.keyboard.press("Tab")
    until(lambda: (folder / "anna 0.txt").read_text("utf-8").strip() == "leaves, (a wall:1.2)", 30)
    page.locator("summary:has-text('Let a tagger propose')").click()
    until(lambda: "DeepBooru" in page.get_by_label("Tagger", exact=True).inner_text(), 30)  # the WebUI's own
    page.locator("label:has-text('Show as trained') input").check()
    page.wait_for_selector(".db-cap-trained, .db-cap-row :text('tokens')")
    look("captions")
    page.keyboard.press("Escape")
    page.locator("dialog.db-cap").wait_for(state="detached")


def word(page: Any, look: Looks) -> None:
    page.fill(".db-word", "sks")
    for key in ("Control+Enter", "Alt+Enter", "Escape"):  # the WebUI's, which fail where there is nothing to draw
        page.keyboard.press(key)
    page.locator(".db-advice:has-text('SKS is a rifle')").wait_for()
    page.locator(".db-word-check .db-word-better button").first.wait_for()
    page.locator(".db-word").scroll_into_view_if_needed()
    look("word")


def name_the_set(page: Any, look: Looks) -> None:
    page.click(".db-sets-box > summary")
    field = page.locator(".db-set input").first
    field.fill("Анна")
    field.press("Tab")
    until(lambda: "Анна" in page.locator(".db-set a[download]").first.get_attribute("download"), 30)
    with page.expect_download() as got:
        page.locator(".db-set a[download]").first.click()
    assert got.value.suggested_filename == "Анна.zip" and Path(got.value.path()).stat().st_size > 10_000
    look("sets")
    page.set_input_files(".db-sets-box input[type=file]", got.value.path())
    page.locator("text=Imported: Анна, pictures: 4").wait_for()
    until(lambda: page.locator(".db-set").count() == 2, 30)


def fetch(page: Any, link: str, webui: WebUI, look: Looks) -> None:
    page.click("text=Get a model by link")
    page.fill("[aria-label='Link to a model']", link)
    page.keyboard.press("Enter")
    page.wait_for_selector(".db-download-one .db-facts", timeout=LONG)
    look("download")
    page.locator(".db-download-one >> text=Download").click()
    page.wait_for_selector("text=Downloaded into", timeout=LONG)
    assert (webui.checkpoints / "by-link.safetensors").read_bytes() == BASE.read_bytes()
    assert "by-link" in [one["model_name"] for one in webui.call("sdapi/v1/sd-models")]  # the WebUI has it, too
