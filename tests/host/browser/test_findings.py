"""What the picture doctor finds, on the cards and for the set, before the real service and the real worker."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator

import pytest
from PIL import Image

from benchmarks import photographs
from dreambooth_ext.host.environment.environment import Environment
from tests.drawn_faces import portrait
from tests.engine.doctor.pictures import scene
from tests.host.asking import Asked
from tests.host.drawing.pretended import pretending
from tests.waiting import until

from .test_captions import form


@pytest.fixture
def asked(tmp_path) -> Iterator[Asked]:
    made = pretending(tmp_path)
    made.service.picture_worker.environment = Environment()
    folder = made.service.sets.folder / "mine"
    folder.mkdir(parents=True)
    for number in range(4):
        sheet = scene(700, 560, seed=number)
        sheet.paste(portrait(380, turn=number / 3, blur=0.3), (150, 150))
        sheet.save(folder / f"anna {number}.png")
    photographs.blurred(Image.open(folder / "anna 1.png"), 4, random.Random(0)).save(folder / "soft.png")
    photographs.exposed(Image.open(folder / "anna 2.png"), 0.03).save(folder / "night.png")
    scene(300, 256, seed=9).save(folder / "tiny.png")
    yield made
    made.service.picture_worker.close()


def kinds(page, name: str) -> list[str]:
    card = page.locator(".db-picture").filter(has=page.locator(f"[title='{name}']"))
    return card.locator(".db-finding > summary").all_inner_texts()


def test_the_cards_say_what_is_wrong_and_the_set_has_its_score(open_page, address, asked, screenshot) -> None:
    page = open_page(address)
    form(page)
    page.wait_for_selector(".db-doctor .db-strong:has-text('Score')", timeout=60_000)
    assert "Blurred" in kinds(page, "soft.png") and "Dark" in kinds(page, "night.png")
    assert "Small" in kinds(page, "tiny.png") and "No face" in kinds(page, "tiny.png")
    assert kinds(page, "anna 0.png") == []
    assert page.locator(".db-doctor .db-warnings li").count() >= 1
    card = page.locator(".db-picture").filter(has=page.locator("[title='soft.png']"))
    card.locator("summary").first.focus()
    page.keyboard.press("Enter")
    assert "Use a sharper one" in card.locator("details[open] p").inner_text()
    page.locator(".db-doctor details > summary").click()
    assert "points lost" in page.locator(".db-doctor details").inner_text()
    screenshot(page, "findings")
    page.set_viewport_size({"width": 380, "height": 800})
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    screenshot(page, "findings narrow")
    answer = page.request.get(page.locator(".db-doctor a").get_attribute("href"))
    assert Image.open(io.BytesIO(answer.body())).format == "JPEG"


def test_a_picture_that_is_added_is_looked_at_and_heic_s_kin_are_converted(open_page, address, asked) -> None:
    page = open_page(address)
    form(page)
    page.wait_for_selector(".db-doctor .db-strong:has-text('Score')", timeout=60_000)
    stream = io.BytesIO()
    scene(280, 260, seed=40).save(stream, "TIFF")
    scan = {"name": "scan.tif", "mimeType": "image/tiff", "buffer": stream.getvalue()}
    page.set_input_files(".db-drop .db-file", [scan])
    page.wait_for_selector(".db-picture-name[title='scan.png']", timeout=30_000)
    until(lambda: "Small" in kinds(page, "scan.png"))
    assert (asked.service.sets.folder / "mine" / ".converted" / "scan.tif").read_bytes() == stream.getvalue()


def test_a_folder_of_a_telephones_pictures_becomes_a_set(open_page, address, asked, tmp_path, screenshot) -> None:
    folder = tmp_path / "telephone"
    folder.mkdir()
    for number in range(2):
        scene(300, 256, seed=number).save(folder / f"IMG {number}.tiff")
    (folder / "IMG 2.heic").write_bytes(b"broken")
    Image.new("L", (300, 256), 255).save(folder / "IMG 1_mask.png")
    page = open_page(address)
    form(page, source="folder", folder=str(folder), set="")
    page.locator("text=such as HEIC: 3").wait_for()
    assert page.locator(".db-picture").count() == 0  # a mask is none either
    screenshot(page, "findings-unread")
    page.click("text=Convert them in a copy")
    page.locator("text=Not in the copy, since they cannot be read: IMG 2.heic").wait_for(timeout=60_000)
    until(lambda: page.locator(".db-picture").count() == 2)
    made = asked.service.sets.folder / "telephone"
    assert (made / ".converted" / "IMG 0.tiff").exists() and (made / "IMG 1_mask.png").exists()
    assert page.is_checked("input[value=upload]") and not page.locator("text=such as HEIC").is_visible()
    screenshot(page, "findings-converted")
