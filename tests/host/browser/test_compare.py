"""The Compare view, blind votes and the verdict, before the real service; only the trainer's verbs pretend."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dreambooth_ext.host.web import localization
from tests.host.asking import Asked
from tests.host.drawing.pretended import pretending, publishing, trained, verdict_of, without_job
from tests.waiting import until

from .test_page import tab

ARABIC = localization.read(localization.FOLDER / "ar_AR.json")
RUN = {
    "validation_prompts": ["a photo of zkz person", "zkz person on a beach"],
    "instance_prompt": "a photo of zkz person",
    "class_prompt": "a photo of a person",
    "subject_type": "person",
}


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = pretending(tmp_path)
    publishing(made)
    return made


@pytest.fixture
def run(asked):
    return trained(asked, **RUN)


def pictures(page) -> Any:
    return page.locator(".db-comparison .db-preview")


def compare(page, run) -> None:
    """From the run's card to a comparison that is drawn."""
    tab(page, "Runs")
    page.locator(f".db-run[data-run='{run.id}'] >> text=Compare models").click()
    page.locator(".db-compare-run .db-weights").last.fill("0.5, 1")
    page.click(".db-compare-form button:text-is('Compare')")


def test_from_a_run_to_pictures_side_by_side(open_page, address, asked, run, screenshot):
    page = open_page(f"{address}webui")
    (asked.environment.folder / "wait").touch()
    compare(page, run)
    until(lambda: pictures(page).count() == 2)  # as they are drawn
    assert page.locator(".db-awaited").count() == 18
    until(lambda: "10 %" in page.inner_text(".db-tab:has-text('Compare')"))  # told by the next state
    page.wait_for_selector("text=Drawing: 2 of 20")
    screenshot(page, "compare-drawing")
    (asked.environment.folder / "wait").unlink()
    until(lambda: pictures(page).count() == 20)
    heads = page.locator(".db-compared thead th").all_inner_texts()
    assert heads == [
        "Prompt", "Base: sd15.safetensors", "anna · step 300", "anna · step 600", "anna · step 900 · weight 0.5",
        "anna · step 900 · weight 1",
    ]  # fmt: skip
    with page.expect_download() as download:
        page.click("text=All as one picture (PNG)")
    assert download.value.suggested_filename.endswith(".png")

    pictures(page).nth(3).click()
    viewer = page.locator("dialog.db-viewer[open]")
    viewer.locator("text=a photo of zkz person · seed 0").wait_for()
    viewer.locator("select").select_option(label="anna · step 300")
    line = viewer.locator(".db-slider-range")
    line.fill("20")
    assert viewer.locator(".db-slider").evaluate("one => one.style.getPropertyValue('--db-at')") == "20%"
    assert viewer.locator("figcaption span").all_inner_texts() == ["anna · step 900 · weight 0.5", "anna · step 300"]
    screenshot(page, "compare-slider")
    viewer.locator("text=Slider").click()
    assert viewer.locator("figure").count() == 2 and viewer.locator(".db-slider").count() == 0
    viewer.locator("figure").first.click()  # away from the list
    page.keyboard.press("ArrowDown")
    viewer.locator("text=a photo of zkz person · seed 1").wait_for()

    viewer.locator("text=Send to txt2img >> visible=true").click()
    assert page.evaluate("typed.prompt") == "a photo of zkz person <lora:anna:0.5>"
    pictures(page).nth(3).click()
    viewer.locator("text=Put into the WebUI").click()
    viewer.wait_for(state="hidden")
    until(lambda: asked.service.models.list(run.id)["artifacts"][-1]["published"])
    pictures(page).nth(1).click()
    viewer.locator("text=Delete the model").click()
    viewer.locator("text=Delete anna_300.safetensors from its run?").click()
    page.wait_for_selector(".db-toast:has-text('anna_300.safetensors')")
    assert not (run.artifacts / "anna_300.safetensors").exists()
    pictures(page).nth(1).click()
    viewer.locator("text=This model has been deleted.").wait_for()
    page.keyboard.press("Escape")

    page.reload()
    until(lambda: pictures(page).count() == 20)  # it is kept, and shown again
    page.click("li[data-comparison] >> text=Delete")
    page.click("text=Delete this comparison?")
    page.wait_for_selector("text=Nothing has been compared yet.")
    assert asked.service.comparisons.list() == {"comparisons": []}


def test_it_is_stopped_and_failures_are_told(open_page, address, asked, run):
    page = open_page(address)
    (asked.environment.folder / "wait").touch()
    compare(page, run)
    page.click(".db-comparison >> text=Stop")
    page.wait_for_selector(".db-comparison .db-badge:has-text('stopped')")
    (asked.environment.folder / "broken").touch()
    page.click("summary:has-text('New comparison')")
    page.click(".db-compare-form button:text-is('Compare')")
    page.wait_for_selector("text=Drawing failed: model: it is damaged.")
    asked.dispatcher.running = [run]
    page.click("summary:has-text('New comparison')")
    page.click(".db-compare-form button:text-is('Compare')")
    page.wait_for_selector(".db-toast:has-text('is training and needs the device')")


def test_prompts_are_the_guides_the_runs_or_ones_own(open_page, address, asked, run):
    page = open_page(address)
    trained(asked, "ben", method="dreambooth", steps=(500,))
    tab(page, "Runs")
    page.locator(f".db-run[data-run='{run.id}'] >> text=Compare models").click()
    prompts = page.locator(".db-compare-form textarea")
    until(lambda: prompts.input_value() == "\n".join(RUN["validation_prompts"]))
    page.click("text=The guide's prompts")
    assert "zkz person in medieval armor" in prompts.input_value()
    page.wait_for_selector("text=Pictures to draw: 40")
    prompts.fill("a hat\n\na hat\n")
    page.wait_for_selector("text=Pictures to draw: 8")
    page.locator(".db-compare-run input[type=checkbox]").first.uncheck()
    page.locator("select[aria-label='Add a run']").select_option(index=1)
    page.wait_for_selector(".db-compare-run:has-text('ben')")
    page.locator("select[aria-label='Add a file']").select_option(label="sd15.safetensors")
    page.wait_for_selector("text=Pictures to draw: 10")
    assert prompts.input_value() == "a hat\n\na hat\n"  # the user's own stay
    page.click("[aria-label='Remove ben']")
    page.wait_for_selector("text=Pictures to draw: 8")
    prompts.fill("")
    page.wait_for_selector("text=Choose a model, and write a prompt.")
    assert page.locator(".db-compare-form button:text-is('Compare')").is_disabled()


def test_votes_are_blind_and_counted(open_page, address, asked, run, screenshot):
    page = open_page(address)
    compare(page, run)
    page.click("text=Vote blindly")
    shown = page.locator(".db-vote")
    assert "step" not in shown.inner_text() and "anna" not in shown.inner_text()
    pairs = set()
    for _ in range(3):
        pair = tuple(one.get_attribute("src") for one in shown.locator("img").all())
        assert pair not in pairs and not any("/base_" in url for url in pair)
        pairs.add(pair)
        page.keyboard.press("ArrowLeft")
        until(lambda: tuple(one.get_attribute("src") for one in shown.locator("img").all()) not in pairs)
    page.keyboard.press("ArrowDown")
    shown.locator("text=Voted: 4").wait_for()
    screenshot(page, "compare-vote")
    shown.locator("text=Show the result").click()
    assert "anna · step" in shown.inner_text() and "of" in shown.locator("dd").first.inner_text()
    shown.locator("text=Close").click()
    page.wait_for_selector(".db-compared thead >> text=/votes: \\d of \\d/")
    models = asked.service.comparisons.list()["comparisons"][0]["models"]
    counts = [model["votes"] for model in models if model["votes"]]
    assert sum(count["shown"] for count in counts) == 8 and sum(count["better"] for count in counts) == 3


# --- the verdict


def watch(page, run) -> Any:
    tab(page, "Runs")
    page.click(f".db-run[data-run='{run.id}'] .db-run-name")
    panel = page.locator(".db-verdict")
    panel.wait_for()
    return panel


def test_a_verdict_is_read_tried_and_published(open_page, address, asked, screenshot):
    run = trained(asked, method="dreambooth", **RUN)
    verdict_of(run)
    page = open_page(address)
    tab(page, "Runs")
    page.wait_for_selector(".db-verdict-badge:has-text('just right')")
    panel = watch(page, run)
    assert panel.locator(".db-verdict-sentence").inner_text().startswith("Keep step 600: it knows zkz")
    steps = panel.locator(".db-verdict-step")
    assert steps.all_inner_texts() == [
        "step 300\nundertrained",
        "step 600\njust right\nkeep this",
        "step 900\novertrained",
    ]
    assert panel.locator("[data-score=likeness]").inner_text().split("\n") == ["Likeness", "0.88", "the base 0.10"]
    steps.nth(2).click()
    panel.locator("[data-score=copies] .db-tight").wait_for()
    assert "Overtrained." in panel.inner_text()
    panel.locator("summary:has-text('What was measured')").click()
    legend = panel.locator(".db-plot-legend")
    until(lambda: "World kept" in legend.inner_text())
    steps.nth(1).click()
    assert legend.is_visible()  # it stays unfolded
    steps.nth(2).click()
    screenshot(page, "verdict")

    assert panel.locator(".db-proof figure").count() == 6 and panel.locator(".db-proof-pair img").count() == 6
    panel.locator(".db-proof-pictures").first.click()
    viewer = page.locator("dialog.db-viewer[open]")
    assert viewer.locator("figcaption").all_inner_texts() == ["drawn at step 600", "nearest training picture"]
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert viewer.locator("figcaption").all_inner_texts() == ["drawn at step 600"]
    page.keyboard.press("Escape")

    panel.locator("text=Put in and select").click()
    panel.locator("text=It is in the WebUI, and selected.").wait_for()
    panel.locator("text=Vote yourself").click()
    page.keyboard.press("ArrowLeft")
    page.locator(".db-vote >> text=Voted: 1").wait_for()
    page.locator(".db-vote >> text=Close").click()
    votes = asked.service.verdicts.show(run.id)["votes"]
    assert sum(count["shown"] for count in votes.values()) == 2
    until(lambda: sum("your votes" in one for one in steps.all_inner_texts()) == 2)  # beside the verdict's own word
    panel.locator("text=Try this").click()
    page.wait_for_selector(".db-toast:has-text('anna_2')")
    assert page.locator("input[id^=dreambooth_name]").input_value() == "anna_2"
    page.click(".db-advanced > summary")
    page.click(".db-group summary:has-text('Training')")
    assert page.locator("[data-setting=max_train_steps] input").input_value() == "700"


def test_a_run_is_judged_with_progress_and_a_stop(open_page, address, asked, run):
    page = open_page(address)
    panel = watch(page, run)
    (asked.environment.folder / "wait").touch()
    panel.locator("text=Judge this run").click()
    panel.locator("text=/Drawing with each model: 3 of 40 · [0-9]+ s left/").wait_for()
    panel.locator("text=Stop").click()
    panel.locator("text=Judging was stopped.").wait_for()
    (asked.environment.folder / "wait").unlink()
    panel.locator("text=From losses alone").click()
    panel.locator(".db-verdict-sentence:has-text('Keep it.')").wait_for()
    assert json.loads((run.path / "verdict.json").read_text())["words"][-1] == "--steps-only"
    panel.locator("summary:has-text('Model that judges likeness')").click()
    page.get_by_label("Model that judges likeness").fill("/models/faces.onnx")
    panel.locator("text=Judge again").click()
    until(lambda: json.loads((run.path / "verdict.json").read_text())["words"][-1] == "--judge=/models/faces.onnx")
    without_job(asked)
    page.reload()
    watch(page, run)
    assert page.get_by_label("Model that judges likeness").input_value() == "/models/faces.onnx"
    (asked.environment.folder / "broken").touch()
    panel.locator("text=Judge again").click()
    panel.locator("text=Judging failed: model: it is damaged.").wait_for()
    without_job(asked)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_all_fits_on_a_phone(open_page, address, asked, run, screenshot, theme):
    verdict_of(run)
    page = open_page(f"{address}?__theme={theme}", viewport={"width": 380, "height": 800})
    compare(page, run)
    until(lambda: pictures(page).count() == 20)
    screenshot(page, f"compare-380-{theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    page.click("summary:has-text('New comparison')")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380
    watch(page, run).locator("summary:has-text('What was measured')").click()
    page.locator(".db-verdict .db-plot-legend >> text=World kept").wait_for()
    screenshot(page, f"verdict-380-{theme}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_in_arabic_it_runs_from_right_to_left(open_page, address, asked, run, screenshot):
    verdict_of(run)
    page = open_page("about:blank")
    page.context.add_init_script(f"window.localization = {json.dumps(ARABIC)}")
    page.goto(f"{address}webui")
    page.click(f".db-tab:has-text('{ARABIC['Runs']}')")
    page.click(f".db-run[data-run='{run.id}'] .db-run-name")
    page.wait_for_selector(".db-verdict-step")
    first, second = (page.locator(".db-verdict-step").nth(place).bounding_box() for place in (0, 1))
    assert second["x"] < first["x"] and ARABIC["undertrained"] in page.inner_text(".db-verdict-step")
    page.click(f".db-verdict summary:has-text('{ARABIC['What was measured']}')")
    page.locator(f".db-verdict .db-plot-legend >> text={ARABIC['World kept']}").wait_for()
    screenshot(page, "verdict-arabic")
    page.click(f".db-tab:has-text('{ARABIC['Compare']}')")
    page.wait_for_selector(f"text={ARABIC['Nothing has been compared yet.']}")
    screenshot(page, "compare-arabic")
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
