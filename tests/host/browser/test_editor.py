"""The picture editor before the real service: mouse, touch and keys alone; only the worker's process is left out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dreambooth_ext.core.errors import Problem
from dreambooth_ext.host.pictures.edits import PictureEdits
from dreambooth_ext.host.pictures.picture_worker import Unreadable
from tests.host.asking import Asked
from tests.host.pictures.test_edits import ask
from tests.waiting import until

NAMES = ["a.png", "b.png", "c.png"]
SIZE = (600, 400)
FACE = (240, 90, 330, 200)  # left, top, right, bottom


def scene(seed: int) -> bytes:
    """A hill, a sun, and a figure with a face."""
    image = Image.new("RGB", SIZE, ["#9cc4e4", "#f2b880", "#8d99ae"][seed])
    draw = ImageDraw.Draw(image)
    draw.ellipse((430, 40, 520, 130), fill="#ffd166")
    draw.polygon([(0, 400), (0, 260), (150, 190), (380, 290), (600, 220), (600, 400)], fill="#588157")
    draw.rectangle((230, 200, 340, 400), fill="#bc4749")
    draw.ellipse(FACE, fill="#f4d5b5")
    draw.ellipse((262, 130, 274, 142), fill="black")
    draw.ellipse((298, 130, 310, 142), fill="black")
    stream = io.BytesIO()
    image.save(stream, "PNG")
    return stream.getvalue()


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = Asked(tmp_path)
    made.service.edits = PictureEdits(made.service.sets, look_or_ask)
    for seed, name in enumerate(NAMES):
        made.service.sets.put("мой набор", name, scene(seed))
    made.service.sets.put_caption("мой набор", "a.txt", b"on a hill")
    return made


def look_or_ask(task: str, path: Path | None = None, **values: Any) -> Any:
    """The picture worker; its doctor knows one face, and the middle of the others."""
    if task != "look":
        return ask(task, **values)
    assert path
    faces = [list(FACE)] if path.name == "a.png" and Image.open(path).size == SIZE else []
    return {"faces": faces, "crop": [100, 0, 500, 400]}


def begin(open_page, address: str, theme: str = "light", **about: Any) -> Any:
    """A page whose form has the set, with the editor open at the first picture."""
    page = open_page(f"{address}webui?__theme={theme}", **about)
    choose_set(page)
    page.locator(".db-picture .db-edit").first.dispatch_event("click")
    ready(page, "a.png")
    return page


def choose_set(page, name: str = "мой набор") -> None:
    """The form as if the set had been uploaded from here."""
    page.wait_for_selector(".db-drop")
    page.evaluate(
        "name => localStorage.setItem('dreambooth_ext.form', JSON.stringify({ source: 'upload', set: name }))", name
    )
    page.reload()
    page.locator(".db-picture").first.wait_for()


def ready(page, name: str) -> None:
    page.locator(f".db-editor-name:has-text('{name}')").wait_for()
    until(lambda: page.locator(".db-editor button:text-is('Save as another crop')").is_enabled())


def pixels(asked: Asked, name: str) -> np.ndarray:
    with Image.open(Path(asked.host.data_folder()) / "pictures" / "мой набор" / name) as image:
        return np.asarray(image)


def press(page, name: str) -> None:
    page.click(f".db-editor button:text-is('{name}') >> visible=true")


def saved(page) -> None:
    page.locator(".db-editor :text-is('Saved.')").wait_for()


def box(page) -> list[int]:
    """Left, top, width, height, as the fields say."""
    return [
        int(node.input_value()) for node in page.locator(".db-editor .db-editor-numbers").first.locator("input").all()
    ]


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    page.mouse.move(*end)
    page.mouse.up()


def place(page, selector: str, x: float, y: float) -> tuple[float, float]:
    """A point of an element, by shares of its sides."""
    about = page.locator(selector).bounding_box()
    return about["x"] + x * about["width"], about["y"] + y * about["height"]


def test_crop_by_hand(open_page, address, asked, screenshot):
    page = begin(open_page, address)
    assert box(page) == [0, 0, 600, 400]
    page.locator(".db-editor >> text=512 × 512").wait_for()  # what training leaves
    inner = page.locator(".db-training").bounding_box()
    outer = page.locator(".db-crop").bounding_box()
    assert inner["width"] == pytest.approx(outer["height"], abs=3) and inner["height"] == pytest.approx(
        outer["height"], abs=3
    )
    screenshot(page, "editor-crop")
    view = ".db-stage-view >> nth=0"
    drag(page, place(page, view, 0.995, 0.995), place(page, view, 0.75, 0.8))
    assert box(page) == pytest.approx([0, 0, 450, 320], abs=3)
    drag(page, place(page, view, 0.3, 0.3), place(page, view, 0.4, 0.35))
    assert box(page) == pytest.approx([60, 20, 450, 320], abs=3)
    kept = box(page)
    press(page, "Save")
    saved(page)
    before = np.asarray(Image.open(io.BytesIO(scene(0))))
    left, top, width, height = kept
    assert np.array_equal(pixels(asked, "a.png"), before[top : top + height, left : left + width])
    press(page, "Undo")
    until(lambda: pixels(asked, "a.png").shape[0] == 400)
    assert np.array_equal(pixels(asked, "a.png"), before)
    until(lambda: page.locator(".db-editor button:text-is('Redo')").is_enabled())
    press(page, "Redo")
    until(lambda: pixels(asked, "a.png").shape[:2] == (height, width))


def test_by_keyboard_alone(open_page, address, asked, screenshot):
    page = open_page(f"{address}webui")
    choose_set(page)
    page.locator(".db-picture .db-edit").first.focus()
    page.keyboard.press("Enter")
    ready(page, "a.png")
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.className") == "db-crop":
            break
    for key, count in (("Shift+ArrowLeft", 20), ("Shift+ArrowUp", 10), ("ArrowRight", 5), ("Alt+ArrowDown", 3)):
        for _ in range(count):
            page.keyboard.press(key)
    assert box(page) == [20, 3, 520, 360]
    page.keyboard.press("Control+s")
    saved(page)
    assert pixels(asked, "a.png").shape == (360, 520, 3)
    page.keyboard.press("PageDown")
    ready(page, "b.png")
    page.keyboard.press("PageUp")
    ready(page, "a.png")
    page.keyboard.press("Control+z")
    until(lambda: pixels(asked, "a.png").shape == (400, 600, 3))
    ready(page, "a.png")  # what is done before the answer is there would be drawn over
    page.locator("text=Mask >> visible=true").first.wait_for()
    page.locator(".db-editor input[value=mask]").focus()
    page.keyboard.press("Space")
    for _ in range(40):
        page.keyboard.press("Tab")
        if "db-painted" in page.evaluate("document.activeElement.className"):
            break
    page.locator(".db-editor input[value=not]").focus()
    page.keyboard.press("Space")
    page.locator(".db-painted").focus()
    for _ in range(3):
        page.keyboard.press("Shift+ArrowRight")
    screenshot(page, "editor-mask-keys")
    page.keyboard.press("Control+s")
    made = asked.host.data_folder() / "pictures" / "мой набор" / "a-masklabel.png"
    until(lambda: made.exists() and page.locator(".db-editor button:text-is('Remove the mask')").is_enabled())
    mask = pixels(asked, "a-masklabel.png")
    assert mask.shape == (400, 600) and mask[200, 310] < 10 and mask[50, 50] == 255
    page.keyboard.press("Escape")
    page.locator(".db-editor").wait_for(state="detached")


def test_turned_and_straightened(open_page, address, asked, screenshot):
    page = begin(open_page, address, "dark")
    page.click("[aria-label='Turn right']")
    assert box(page) == [0, 0, 400, 600]
    page.locator(".db-editor-tools input[type=number]").first.fill("7.5")
    page.locator(".db-stage-grid >> visible=true").wait_for()
    left, top, width, height = box(page)
    assert width < 380 and width / height == pytest.approx(400 / 600, abs=0.01)
    screenshot(page, "editor-straighten-dark")
    press(page, "Save")
    saved(page)
    assert pixels(asked, "a.png").shape == (height, width, 3)
    assert box(page) == [left, top, width, height]
    press(page, "Back to the original")
    until(lambda: pixels(asked, "a.png").shape == (400, 600, 3))


def test_about_the_face_in_proportion_and_as_another_crop(open_page, address, asked):
    page = begin(open_page, address)
    page.locator(".db-editor select").select_option(label="Square")
    assert box(page) == [100, 0, 400, 400]
    until(lambda: page.locator(".db-editor button:text-is('Centre of interest')").is_enabled())
    press(page, "Centre of interest")
    assert box(page) == [100, 0, 400, 400]
    press(page, "Face")
    left, top, width, height = box(page)
    assert (
        width == height and left <= FACE[0] and top <= FACE[1] and left + width >= FACE[2] and top + height >= FACE[3]
    )
    press(page, "Save as another crop")
    page.locator(".db-editor :text('a crop 2.png')").wait_for()
    assert pixels(asked, "a crop 2.png").shape == (height, width, 3) and pixels(asked, "a.png").shape == (400, 600, 3)
    press(page, "Face")
    page.keyboard.press("PageDown")  # what was not saved of this picture is
    ready(page, "b.png")
    assert pixels(asked, "a.png").shape == (height, width, 3)
    until(lambda: page.locator(".db-editor button:text-is('Centre of interest')").is_enabled())
    assert page.locator(".db-editor button:text-is('Face') >> visible=true").is_disabled()


def test_a_mask_is_painted_and_goes_along(open_page, address, asked, screenshot):
    page = begin(open_page, address)
    page.locator(".db-editor label:has(input[value=mask])").click()
    assert page.locator(".db-editor button:text-is('Save')").is_disabled()
    press(page, "Nothing counts")
    page.locator(".db-editor label:has-text('Soft edge') + input").fill("0")
    painted = ".db-painted"
    drag(page, place(page, painted, 0.25, 0.5), place(page, painted, 0.75, 0.5))
    page.locator(".db-editor label:has(input[value=not])").click()
    drag(page, place(page, painted, 0.5, 0.3), place(page, painted, 0.5, 0.7))
    screenshot(page, "editor-mask")
    press(page, "Save")
    saved(page)
    mask = pixels(asked, "a-masklabel.png")
    assert mask[200, 200] == 255 and mask[200, 300] == 0 and mask[20, 20] == 0 and mask[200, 400] == 255
    page.locator(".db-editor label:has(input[value=erase])").click()
    press(page, "Everything counts")
    drag(page, place(page, painted, 0.5, 0.5), place(page, painted, 0.52, 0.5))
    press(page, "Save")
    until(lambda: pixels(asked, "a-masklabel.png")[20, 20] == 255)
    assert pixels(asked, "a-masklabel.png")[200, 300] == 0  # as it was before
    until(lambda: page.locator(".db-editor button:text-is('Undo')").is_enabled())
    press(page, "Undo")
    until(lambda: pixels(asked, "a-masklabel.png")[20, 20] == 0)
    until(lambda: page.locator(".db-editor button:text-is('Undo')").is_enabled())
    page.locator(".db-editor label:has(input[value=ellipse])").click()
    drag(page, place(page, painted, 0.4, 0.2), place(page, painted, 0.6, 0.6))
    press(page, "Save")
    until(lambda: pixels(asked, "a-masklabel.png")[160, 300] == 255)
    assert pixels(asked, "a-masklabel.png")[100, 250] < 128
    press(page, "Face")
    press(page, "Save")
    until(lambda: pixels(asked, "a-masklabel.png")[140, 285] == 255 and pixels(asked, "a-masklabel.png")[390, 285] == 0)
    page.locator(".db-editor label:has(input[value=crop])").click()
    page.click("[aria-label='Turn left']")
    press(page, "Save")
    until(lambda: pixels(asked, "a-masklabel.png").shape == (600, 400))
    page.locator(".db-editor label:has(input[value=mask])").click()
    press(page, "Remove the mask")
    until(lambda: not (asked.host.data_folder() / "pictures/мой набор/a-masklabel.png").exists())


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_telephone(open_page, address, asked, screenshot, theme):
    page = begin(open_page, address, theme, viewport={"width": 380, "height": 800}, has_touch=True)
    assert page.evaluate("document.querySelector('.db-editor').scrollWidth <= 380")
    touch = page.context.new_cdp_session(page)

    def finger(*points: tuple[float, float]) -> None:
        for kind, point in zip(("touchStart", *["touchMove"] * (len(points) - 1)), points, strict=True):
            touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": point[0], "y": point[1]}]})
        touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})

    view = ".db-stage-view >> nth=0"

    def pulled() -> bool:
        """A machine that is busy may take the first touches of a new page for scrolling."""
        if box(page) == [0, 0, 600, 400]:
            page.wait_for_timeout(100)
            finger(place(page, view, 0.99, 0.99), place(page, view, 0.8, 0.8), place(page, view, 0.6, 0.7))
        return box(page) != [0, 0, 600, 400]

    until(pulled)
    assert box(page) == pytest.approx([0, 0, 360, 280], abs=12)
    screenshot(page, f"editor-crop-narrow-{theme}")
    page.locator(".db-editor label:has(input[value=mask])").click()
    press(page, "Nothing counts")
    finger(
        place(page, ".db-painted", 0.3, 0.4), place(page, ".db-painted", 0.5, 0.5), place(page, ".db-painted", 0.7, 0.6)
    )
    screenshot(page, f"editor-mask-narrow-{theme}")
    page.locator(".db-editor button:text-is('Save')").scroll_into_view_if_needed()
    press(page, "Save")
    saved(page)
    assert pixels(asked, "a.png").shape[:2] == pytest.approx((280, 360), abs=12)
    assert pixels(asked, "a-masklabel.png").max() == 255


def test_a_set_that_runs_need_is_copied_first(open_page, address, asked):
    folder = asked.host.data_folder() / "pictures" / "мой набор"
    asked.service.sets.use(folder)
    page = begin(open_page, address)
    page.locator("text=Runs were queued with this set").wait_for()
    page.click("[aria-label='Turn right']")
    press(page, "Save")
    saved(page)
    assert (folder / "a.png").read_bytes() == scene(0)
    copy = folder.with_name("мой набор-2")
    assert Image.open(copy / "a.png").size == (400, 600)
    page.click("[aria-label='Turn right']")
    press(page, "Save")
    until(lambda: Image.open(copy / "a.png").size == (600, 400))  # in the same copy


def unreadable(task: str, picture: Path, **values: Any) -> Any:
    raise Unreadable(Problem("findings.ended_reader", "picture", file=picture.name))


def test_a_folder_is_made_a_set_first(open_page, address, asked, tmp_path, screenshot):
    own = tmp_path / "Мои снимки"
    (own / "sub").mkdir(parents=True)
    for path in (own / "x.png", own / "sub" / "x.png"):
        path.write_bytes(scene(1))
    (own / "x.txt").write_text("words")
    (own / "x-masklabel.png").write_bytes(scene(2))
    (own / "odd.heic").write_bytes(b"no picture")
    asked.service.copies.ask = unreadable
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    page = open_page(f"{address}webui")
    page.check("text=A folder on this machine")
    page.fill("[placeholder*=anna]", str(own))
    page.locator(".db-picture").first.wait_for()
    page.locator(".db-picture .db-edit").first.dispatch_event("click")
    page.locator("text=This folder is never changed").wait_for()
    screenshot(page, "editor-folder")
    page.click("text=Make a set from this folder")
    page.locator(".db-ask").wait_for(state="detached")
    made = asked.host.data_folder() / "pictures" / "Мои снимки"
    until(lambda: made.exists())
    assert sorted(path.name for path in made.iterdir()) == ["sub - x.png", "x-masklabel.png", "x.png", "x.txt"]
    page.locator(".db-picture .db-remove").first.wait_for(state="attached")  # the set's
    page.locator("text=Not in the copy, since they cannot be read: odd.heic").wait_for()
    page.locator(".db-picture .db-edit").first.dispatch_event("click")
    ready(page, "x.png")
    page.click("[aria-label='Turn right']")
    press(page, "Save")
    saved(page)
    assert {path: path.read_bytes() for path in own.rglob("*") if path.is_file()} == before


def test_what_fails_is_told_and_nothing_is_lost(open_page, address, asked):
    page = begin(open_page, address)
    page.click("[aria-label='Turn right']")
    asked.service.sets.put("мой набор", "a.png", scene(2))  # somebody replaces it meanwhile
    press(page, "Save")
    page.locator(".db-editor .db-problem:has-text('a different picture')").wait_for()
    assert box(page) == [0, 0, 400, 600]  # what was done is still there
    page.keyboard.press("Escape")
    page.locator("text=Not saved yet").wait_for()
    page.keyboard.press("Escape")
    page.locator(".db-editor").wait_for(state="detached")
    assert pixels(asked, "a.png").shape == (400, 600, 3)


def test_sets_have_names_and_go_out_and_in(open_page, address, asked, tmp_path, screenshot):
    asked.run(name="hills", instance_data_dir=str(asked.service.sets.path("мой набор")), instance_prompt="zkz")
    page = open_page(f"{address}webui")
    choose_set(page)
    page.click("summary:text-is('Sets of pictures')")
    row = page.locator(".db-set")
    row.locator("text=Used by: hills").wait_for()
    row.locator("input").fill("Холмы")
    row.locator("input").press("Enter")
    until(lambda: asked.service.sets.sets()[0]["title"] == "Холмы")
    screenshot(page, "sets")
    with page.expect_download() as download:
        row.locator("a:text-is('Export')").click()
    download.value.save_as(tmp_path / "set.zip")
    page.set_input_files(".db-sets-box input[type=file]", tmp_path / "set.zip")
    page.locator("text=Imported: Холмы, pictures: 3").wait_for()
    until(lambda: page.locator(".db-set").count() == 2)
    assert page.locator(".db-set-current").count() == 1
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    page.set_input_files(".db-sets-box input[type=file]", tmp_path / "bad.zip")
    page.locator(".db-sets-box .db-problem:has-text('damaged')").wait_for()
    page.click("text=Begin a new set")
    until(lambda: page.locator(".db-set-current").count() == 0)
    until(lambda: page.locator(".db-picture").count() == 0)
    page.set_viewport_size({"width": 380, "height": 800})
    screenshot(page, "sets-narrow")
    assert page.evaluate("document.documentElement.scrollWidth <= 380")
