"""Masks in the page, before the real service: made for a set, shown on the cards and large, used and removed."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dreambooth_ext.host.pictures.edits import PictureEdits
from tests.host.asking import Asked
from tests.host.pictures.test_edits import ask
from tests.waiting import until

SET = "мой набор"


def scene(seed: int) -> bytes:
    """A red ball on a green ground; the last picture is a wall without any subject."""
    noise = np.random.default_rng(seed).normal(0, 10, (300, 420, 3)) + np.array((70, 150, 90))
    image = Image.fromarray(np.clip(noise, 0, 255).astype(np.uint8))
    if seed == 2:
        image = Image.new("RGB", (420, 300), (120, 120, 120))
    else:
        ImageDraw.Draw(image).ellipse((120 + 60 * seed, 60, 300 + 60 * seed, 240), fill=(200, 40, 50))
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = Asked(tmp_path)
    made.service.edits = PictureEdits(made.service.sets, ask)
    for seed, name in enumerate(["a.png", "b.png", "wall.png"]):
        made.service.sets.put(SET, name, scene(seed))
    return made


def begin(open_page, address: str, theme: str = "light", **about: Any) -> Any:
    """A page whose form has the set, with the masks' part open."""
    page = open_page(f"{address}webui?__theme={theme}", **about)
    page.wait_for_selector(".db-drop")
    page.evaluate(
        "name => localStorage.setItem('dreambooth_ext.form', JSON.stringify({ source: 'upload', set: name }))", SET
    )
    page.reload()
    page.locator(".db-picture").first.wait_for()
    page.locator(".db-masks > summary").click()
    return page


def masks(asked: Asked) -> list[str]:
    return sorted(path.name for path in asked.service.sets.path(SET).glob("*-masklabel.png"))


def test_masks_are_made_shown_used_and_removed(open_page, address, asked):
    pytest.importorskip("cv2")
    page = begin(open_page, address)
    box = page.locator(".db-masks")
    assert "0 of 3 pictures" in box.inner_text() and not box.locator("button:text-is('Show what counts')").is_visible()
    box.locator("select").select_option("subject")
    box.locator("button:text-is('Make')").click()
    until(lambda: "Masks made: 2" in box.inner_text(), 60)
    assert "Without a mask: 1" in box.inner_text()
    said = box.locator("li").inner_text()
    assert said.count("wall.png") == 1 and "subject" in said  # the sentence names it
    assert masks(asked) == ["a-masklabel.png", "b-masklabel.png"]
    until(lambda: "2 of 3 pictures have a mask" in box.inner_text())
    # what counts is shown at once, and with a press again as it was
    until(lambda: "mask=" in page.locator(".db-picture img").first.get_attribute("src"))
    assert "mask=" not in page.locator(".db-picture img").last.get_attribute("src")
    box.locator("button:text-is('Show what counts')").click()
    until(lambda: "mask=" not in page.locator(".db-picture img").first.get_attribute("src"))
    # used
    assert "not used" in box.inner_text()
    box.locator("button:text-is('Use them')").click()
    until(lambda: "They are used" in box.inner_text())
    config = page.evaluate("JSON.parse(localStorage.getItem('dreambooth_ext.form')).values")
    assert config["masked_loss"] is True
    box.locator("button:text-is('Do not use them')").click()
    until(lambda: "not used" in box.inner_text())
    # an ellipse for the one that is left
    box.locator("select").select_option("ellipse")
    box.locator("button:text-is('Make')").click()
    until(lambda: "3 of 3 pictures" in box.inner_text())
    assert len(masks(asked)) == 3
    box.locator("button:text-is('Remove masks')").click()
    assert len(masks(asked)) == 3  # one press asks
    box.locator("button:text-is('Press again to remove all masks')").click()
    until(lambda: "0 of 3 pictures" in box.inner_text())
    assert masks(asked) == [] and asked.service.edits.show(SET, "a.png")["undo"] > 0


def test_what_counts_is_dimmed_on_the_pictures_themselves(open_page, address, asked):
    stamp = asked.service.edits.show(SET, "a.png")["stamp"]
    asked.service.edits.make_mask(SET, "a.png", stamp, "ellipse", [120, 60, 300, 240])
    page = begin(open_page, address)
    page.locator(".db-masks button:text-is('Show what counts')").click()
    until(lambda: "mask=" in page.locator(".db-picture img").first.get_attribute("src"))
    answer = page.request.get(page.locator(".db-picture img").first.get_attribute("src"))
    with Image.open(io.BytesIO(answer.body())) as image:
        values = np.asarray(image.convert("RGB")).astype(int)
    height, width = values.shape[:2]
    middle = values[height // 2, width // 2]
    corner = values[4:12, 4:12].reshape(-1, 3).mean(0)
    assert middle[0] > 150 > middle[1]  # the ball, as it is
    assert corner.max() < 80 and np.ptp(corner) < 25  # the ground, dark and grey


def test_pictures_large_by_keyboard(open_page, address, asked):
    stamp = asked.service.edits.show(SET, "a.png")["stamp"]
    asked.service.edits.make_mask(SET, "a.png", stamp, "ellipse")
    page = begin(open_page, address)
    large = page.locator(".db-masks button:text-is('Large')")
    large.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("dialog.db-mask-dialog")
    dialog.wait_for()
    image = dialog.locator("img")
    assert "mask=" in image.get_attribute("src") and "a.png, 1 of 3" in dialog.inner_text()
    page.keyboard.press("ArrowRight")
    until(lambda: "b.png, 2 of 3" in dialog.inner_text())
    assert "no mask" in dialog.inner_text() and "mask=" not in image.get_attribute("src")
    page.keyboard.press("ArrowLeft")
    dialog.locator("button:text-is('Show what counts')").focus()
    page.keyboard.press("Enter")
    until(lambda: "mask=" not in image.get_attribute("src"))
    page.keyboard.press("Escape")
    until(lambda: dialog.count() == 0)


def test_what_fails_for_all_is_said_once(open_page, address, asked, monkeypatch):
    monkeypatch.setenv("U2NET_HOME", "/nowhere")
    page = begin(open_page, address)
    box = page.locator(".db-masks")
    box.locator("select").select_option("rembg")
    box.locator("button:text-is('Make')").click()
    until(lambda: box.locator("li").count() == 1)
    assert "rembg has fetched no model" in box.locator("li").inner_text()


@pytest.mark.parametrize(("width", "theme"), [(1280, "light"), (380, "dark"), (1280, "dark"), (380, "light")])
def test_how_it_looks(open_page, address, asked, screenshot, width, theme):
    for name in ("a.png", "b.png"):
        stamp = asked.service.edits.show(SET, name)["stamp"]
        asked.service.edits.make_mask(SET, name, stamp, "ellipse", [120, 50, 340, 250])
    page = begin(open_page, address, theme, viewport={"width": width, "height": 900})
    page.locator(".db-masks button:text-is('Show what counts')").click()
    page.wait_for_timeout(500)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    screenshot(page, f"masks_{width}_{theme}")
    page.locator(".db-masks button:text-is('Large')").click()
    page.wait_for_timeout(500)
    screenshot(page, f"masks_large_{width}_{theme}")
