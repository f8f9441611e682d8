"""The list of runs, the queue, devices, presets before they are applied, notifications and the page's title."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.waiting import until

from .conftest import serving
from .simulator import Application, Simulator
from .test_page import begin, posted, tab

NOTICES = """
window.notices = [];
window.Notification = class {
    static permission = "default";
    static async requestPermission() {
        window.notices.push("asked");
        return this.permission = window.answer;
    }
    constructor(title, about) { window.notices.push([title, about.body]); }
};
window.answer = "denied";
"""


@pytest.fixture(scope="module")
def simulator(tmp_path_factory) -> Simulator:
    return Simulator(tmp_path_factory.mktemp("simulator"))


@pytest.fixture(scope="module")
def server(simulator) -> Iterator[str]:
    with serving(Application(simulator).app) as address:
        yield address


@pytest.fixture(scope="module")
def shared_page(browser, server):
    """One for all tests, for to open one takes longer than most of them."""
    context, faults = browser.new_context(viewport={"width": 1280, "height": 900}), []
    page = context.new_page()
    page.set_default_timeout(10_000)
    page.on("pageerror", lambda error: faults.append(f"{error.message} {error.stack}"))
    page.add_init_script(NOTICES)
    page.goto(server)
    yield page
    context.close()
    assert faults == []


@pytest.fixture
def page(shared_page, simulator):
    """As it is for a newcomer."""
    for known in (simulator.runs, simulator.waiting, simulator.asked, simulator.published):
        known.clear()
    simulator.paused, simulator.speed, simulator.hold = False, 40.0, None
    shared_page.evaluate("localStorage.clear()")
    shared_page.reload()
    shared_page.wait_for_selector(".db-presets option >> nth=2", state="attached")
    return shared_page


def finished(simulator, name: str, states: int = 0, **config):
    run = simulator.create({"name": name, "method": "lora", "base_model": "/m/sd15.safetensors", **config}, 10)
    simulator.waiting.remove(run.id)
    run.step, run.states = 10, states
    run.set("done")
    return run


def shown(page) -> list[str]:
    return page.locator(".db-run-name").all_inner_texts()


def test_runs_are_found_noted_and_read(page, simulator, screenshot) -> None:
    anna = finished(simulator, "anna", 6_000_000_000, learning_rate=3e-6)
    finished(simulator, "ben", method="textual_inversion")
    simulator.announce(anna, {"name": "anna", "file": "anna.safetensors", "step": 10}, selected=False)
    tab(page, "Runs")
    card = page.locator(f".db-run[data-run='{anna.id}']")
    card.locator(".db-in-host").wait_for()
    assert shown(page) == ["ben", "anna"] and page.locator(".db-in-host:visible").count() == 1
    about = card.inner_text()
    assert "trained for 15 s" in about and "training states 6.0 GB" in about and "sd15.safetensors" in about
    page.select_option("[aria-label=Order]", "name")
    assert shown(page) == ["anna", "ben"]

    card.locator("text=Add a note").click()
    card.locator("textarea").fill("The best <b>face</b>")
    page.wait_for_timeout(1200)  # the list is asked for again meanwhile
    card.locator("button:text-is('Save')").click()
    card.locator(".db-run-note:has-text('<b>face</b>')").wait_for()
    assert posted(simulator, f"runs/{anna.id}/notes") == [{"note": "The best <b>face</b>"}]
    card.locator(".db-star").click()
    card.locator(".db-star[aria-pressed=true]").wait_for()
    for wanted, found in (("FACE lora", ["anna"]), ("sd15", ["anna", "ben"]), ("nobody", []), ("textual", ["ben"])):
        page.fill("input[type=search]:visible", wanted)
        assert shown(page) == found, wanted
    page.wait_for_timeout(100)
    page.fill("input[type=search]:visible", "")
    page.check("text=Starred only")
    assert shown(page) == ["anna"]
    screenshot(page, "runs-1280-light")

    card.locator("button:text-is('Settings')").click()
    read = page.locator("dialog[open]")
    assert "Learning rate" in read.inner_text() and "3e-6" in read.inner_text() and "Seed" not in read.inner_text()
    read.locator("input").check()
    assert "Seed" in read.inner_text()
    read.locator("text=Close").click()

    free = card.locator("button", has_text=re.compile("training states|Free"))
    free.click()
    assert free.inner_text() == "Free 6.0 GB? It can never be resumed then." and anna.states
    free.click()
    page.wait_for_selector(".db-toast:has-text('6.0 GB freed')")
    until(lambda: "training states deleted" in card.inner_text())
    assert free.count() == 0 and card.locator("text=Train longer").count() == 0


def test_the_queue_is_dragged_and_paused(page, simulator) -> None:
    simulator.speed, simulator.hold = 200, 100
    first = simulator.runs[begin(page, simulator)]
    until(lambda: first.step == 100)
    anna, ben, carla = (simulator.create({**first.config, "name": name}, 1000).id for name in ("anna", "ben", "carla"))
    tab(page, "Runs")
    rows = page.locator(".db-queued")
    rows.nth(2).wait_for()
    assert re.search("3 waiting, everything done in ≈ [0-9]", page.inner_text("section[aria-label=Queue]"))
    assert re.search(r"starts in ≈ .* \(.*[0-9]:[0-9]{2}", rows.nth(1).inner_text())

    grip, target = rows.nth(2).locator(".db-grip").bounding_box(), rows.nth(0).bounding_box()
    page.mouse.move(grip["x"] + 5, grip["y"] + 5)
    page.mouse.down()
    page.mouse.move(grip["x"] + 5, rows.nth(1).bounding_box()["y"] + 2)
    page.wait_for_timeout(1200)  # the queue is asked for again meanwhile
    page.mouse.move(grip["x"] + 5, target["y"] + 2)
    page.mouse.up()
    until(lambda: simulator.waiting == [carla, anna, ben])
    rows.nth(0).locator("text=carla").wait_for()
    rows.nth(0).locator(".db-grip").press("ArrowDown")
    until(lambda: simulator.waiting == [anna, carla, ben])
    until(lambda: page.evaluate("document.activeElement.dataset.queue || ''").endswith(carla))

    page.click("text=Pause after this one")
    page.wait_for_selector("text=The queue is paused")
    first.hold = None
    until(lambda: first.status == "done")
    assert simulator.waiting == [anna, carla, ben] and "starts in" not in rows.nth(1).inner_text()
    page.click("button:text-is('Go on') >> visible=true")
    until(lambda: simulator.waiting == [carla, ben])


def test_the_queue_is_dragged_with_a_finger(open_page, server, simulator) -> None:
    simulator.waiting.clear()
    simulator.paused = True
    ids = [simulator.create({"name": name, "method": "lora"}, 100).id for name in ("anna", "ben")]
    page = open_page(server, viewport={"width": 380, "height": 800}, has_touch=True, is_mobile=True)
    tab(page, "Runs")
    rows = page.locator(".db-queued")
    rows.nth(1).wait_for()
    grip, target = rows.nth(1).locator(".db-grip").bounding_box(), rows.nth(0).bounding_box()
    touch = page.context.new_cdp_session(page)

    def finger(kind: str, *points: tuple[float, float]) -> None:
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})

    at = (grip["x"] + 10, grip["y"] + 10)
    finger("touchStart", at)
    for y in (at[1] - 15, at[1] - 30, target["y"] + 2):
        finger("touchMove", (at[0], y))
    finger("touchEnd")
    until(lambda: simulator.waiting == ids[::-1])


def test_the_title_and_the_browser_tell_how_it_goes(page, simulator) -> None:
    simulator.speed, simulator.hold = 200, 150
    assert page.evaluate("notices") == []  # nobody is asked on load
    switch = page.locator("input[role=switch]")
    switch.click()
    page.wait_for_selector(".db-toast:has-text('does not allow notifications')")
    assert not switch.is_checked()
    page.evaluate("answer = 'granted'")
    switch.click()
    until(switch.is_checked)
    first = simulator.runs[begin(page, simulator)]
    until(lambda: page.title() == "10 % - zkz_person | DreamBooth")
    page.evaluate("document.title = '[50%] Stable Diffusion'")
    until(lambda: page.title() == "10 % - zkz_person | [50%] Stable Diffusion")
    page.evaluate(
        "document.querySelector('title').replaceWith(Object.assign(document.createElement('title'), {text: 'New'}))"
    )
    until(lambda: page.title() == "10 % - zkz_person | New")
    first.problem = {"field": "", "message": "The disk is full.", "remedy": "Delete something."}
    first.set("failed")
    until(lambda: page.title() == "New")
    until(lambda: len(page.evaluate("notices")) == 3)
    told = ["Training failed: zkz_person", "The disk is full. Delete something."]
    assert page.evaluate("notices") == ["asked", "asked", told]
    page.reload()
    page.wait_for_selector(".db-tab")
    assert page.evaluate("notices") == []


def test_devices_are_chosen_from_a_list(page, simulator) -> None:
    tab(page, "Train")
    page.click(".db-advanced > summary")
    page.fill(".db-search", "device")
    field = page.locator("[data-setting=device] select")
    options = ["Automatic (NVIDIA GeForce RTX 4090, 24 GB)", "cuda:0: NVIDIA GeForce RTX 4090, 24 GB"]
    options += ["cuda:1: NVIDIA GeForce RTX 3060, 12 GB"]
    options += ["cuda:0,1: one run on 2 cards", "CPU (slow)"]
    until(lambda: field.locator("option").all_inner_texts() == options)
    field.select_option("cuda:1")
    until(lambda: any(body["config"].get("device") == "cuda:1" for body in posted(simulator, "check")[-1:]))
    field.select_option("cuda:0,1")
    until(lambda: any(body["config"].get("device") == "cuda:0,1" for body in posted(simulator, "check")[-1:]))
    file = {"name": "old.json", "mimeType": "application/json", "buffer": b'{"device": "cuda:7", "rank": 4}'}
    page.set_input_files(".db-presets input[type=file]", file)
    until(lambda: field.input_value() == "cuda:7")
    field.select_option("")
    until(lambda: "device" not in posted(simulator, "check")[-1]["config"])


def test_a_preset_says_what_it_would_change(page, simulator) -> None:
    page.fill(".db-word", "zkz")
    preset = page.locator(".db-presets select")
    preset.select_option(label="Careful")
    page.wait_for_selector("text=Careful would change:")
    row = page.locator(".db-changes dd").first
    until(lambda: "filled in) → 1e-6" in row.inner_text())  # once the check has said what is filled in
    assert page.locator(".db-changes dt").first.inner_text() == "Learning rate"
    page.click(".db-presets .db-card >> text=Cancel")
    assert preset.input_value() == "" and page.locator(".db-changes").is_hidden()
    assert all("learning_rate" not in body["config"] for body in posted(simulator, "check"))
    preset.select_option(label="Careful")
    page.click("text=Apply")
    until(lambda: posted(simulator, "check")[-1]["config"].get("learning_rate") == 1e-6)
    preset.select_option("")
    page.wait_for_selector("text=1e-6 → filled in")
    page.click("text=Apply")
    until(lambda: "learning_rate" not in posted(simulator, "check")[-1]["config"])
