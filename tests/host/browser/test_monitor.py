"""The Monitor's curves, previews and comparison, on runs that are recorded and not waited for."""

from __future__ import annotations

import io
import re
import shutil
from typing import Any

import pytest

from dreambooth_ext.core.verdict import regions
from tests.waiting import until

from .simulator import REPOSITORY, Run, Simulator
from .test_page import posted, tab

Image = pytest.importorskip("PIL.Image")

PROMPTS = ["a photo of zkz person", "zkz person on a beach"]
PICTURES = REPOSITORY / "dreambooth_ext" / "demo" / "pictures"


def measurements(steps: int) -> dict[int, dict[str, Any]]:
    """Of a run that learns, is good and overfits: own pictures, one kept back, class pictures, other prompts."""
    learned = [1, 0.75, 0.46, 0.33, 0.24, 0.2, 0.17, 0.13, 0.1]
    held = [1, 0.85, 0.5, 0.38, 0.36, 0.36, 0.38, 0.45, 0.52]
    found: list[dict[str, Any]] = []
    for index, (own, other) in enumerate(zip(learned, held, strict=True)):
        ratios = {"low": own * 0.8, "middle": own, "high": own * 1.25}
        drift = 0.02 * index**0.5
        about = {"learned": ratios, "held": other, "class": 1 + 0.01 * index, "drift": drift, "word": 0.1 * index}
        found.append({"step": round(steps * (index / 8) ** 1.5), **about})
        found[-1] |= regions.of(found).as_dict()
    return {one["step"]: one for one in found}


def record(simulator: Simulator, name: str, *, stop: int = 0, steps: int = 400, **config: Any) -> Run:
    """A run that has trained, a step each second; stopped, and resumed a day later, after step `stop`."""
    about = {"method": "dreambooth", "validation_prompts": PROMPTS, "validation_steps": 100, "learning_rate": 2e-6}
    run = simulator.create({**about, **config, "name": name}, steps)
    simulator.waiting.clear()
    run.measured = measurements(steps) if config.get("measure_progress") else {}
    told, run.events = run.events, []
    clock = [told[0]["time"] - 200_000.0]

    def say(type: str, **data: Any) -> None:
        clock[0] += type == "step"
        run.events.append({"n": len(run.events) + 1, "time": clock[0], "type": type, **data})

    run.say = say  # type: ignore[method-assign]
    run.say("status", status="queued")
    run.begin()
    while run.step < steps:
        run._train()
        if run.step == stop:
            run._model(final=False)
            run.set("stopped", step=run.step)
            clock[0] += 86_400
            run.begin()
    run._model(final=True)
    run.set("done")
    return run


def show(page, run: Run) -> None:
    tab(page, "Runs")
    page.click(f"[data-run='{run.id}'] .db-run-name")
    page.wait_for_selector("canvas:visible")


def compare(page, run: Run) -> None:
    page.click("text=Compare with another run")
    page.locator(".db-compare select").select_option(run.id)
    page.wait_for_selector(f".db-chip:has-text('{run.config['name']}')")


@pytest.fixture
def page(open_page, server):
    return open_page(server)


def test_axes_have_round_ends_times_and_the_lines_own_values(page, server) -> None:
    series = f"import('{server}dreambooth/v1/page/plot/series.js')"

    def asked(call: str) -> Any:
        return page.evaluate(f"{series}.then(it => it.{call})")

    assert asked("timeTicks(0, 50, 5)") == [0, 10, 20, 30, 40, 50]
    assert asked("timeTicks(100, 7000, 4)") == [1800, 3600, 5400]
    assert asked("timeTicks(0, 1e6, 5)") == [n * 3 * 86_400 for n in range(4)]
    near = "(a, b) => Math.abs(a - b) < 1e-5"
    assert asked(f"withLevels([0, 5e-5, 1e-4, 1.5e-4], [9.5e-5], {near})") == [0, 5e-5, 9.5e-5, 1.5e-4]
    assert asked("chosenSteps([...Array(100).keys()], 5)") == [0, 25, 50, 74, 99]
    assert asked("chosenSteps([1, 2], 5)") == [1, 2]
    assert asked("interpolated([10, 20], [100, 300], 15)") == 200
    assert [asked(f"interpolated([10, 20], [100, 300], {step})") for step in (0, 20, 99)] == [0, 300, 300]


def test_saves_previews_and_resumes_are_marked_over_steps_and_over_time(page, simulator) -> None:
    run = record(simulator, "anna", stop=150, steps=700)
    peak = next(event for event in run.events if event["type"] == "step" and event["step"] == 333)
    peak["loss"] = 7.5
    show(page, run)
    legend = page.locator(".db-plot-legend >> nth=0")
    until(lambda: legend.inner_text().split() == ["saved", "previews", "resumed"])
    assert re.fullmatch(r"Peaks above [\d.]+: 1, the highest at 7\.5\.", page.inner_text(".db-plot-cut >> nth=0"))
    canvas, readout = page.locator("canvas >> nth=0"), page.locator(".db-plot-readout >> nth=0")
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    at = box["x"] + 58 + (box["width"] - 70) * 150 / 700
    page.mouse.move(at, box["y"] + 60)
    until(lambda: re.fullmatch(r"Step 1\d\d: Loss .*\) · resumed · saved", readout.inner_text()))
    page.locator(".db-monitor select:has(option[value=time])").select_option("time")
    page.mouse.move(at + 1, box["y"] + 60)
    until(
        lambda: re.match(r"(2|3) min, Step 1\d\d: .* · resumed · saved", readout.inner_text())
    )  # the day is no training
    page.reload()
    page.wait_for_selector("canvas:visible")
    assert page.locator(".db-monitor select:has(option[value=time])").input_value() == "time"
    with page.expect_download() as found:
        page.click(".db-plot-tools >> text=PNG >> nth=0")
    assert found.value.suggested_filename == "anna-loss.png"
    with Image.open(found.value.path()) as picture:
        assert picture.format == "PNG" and picture.width > 700 and len(picture.convert("RGB").getcolors(10**6)) > 20
    with page.expect_download() as found:
        page.click("a:text-is('CSV')")
    assert found.value.suggested_filename == f"{run.id}.csv"
    lines = found.value.path().read_text().splitlines()
    assert lines[0].startswith("step,seconds,loss,lr_unet,lr_text_encoder,validation_loss,measured_learned,")
    assert lines[0].endswith(",region") and len(lines) == 701


def test_runs_are_compared_in_curves_previews_and_settings(page, simulator, screenshot) -> None:
    first = record(simulator, "anna")
    second = record(simulator, "bert", validation_steps=200, learning_rate=1e-4, method="lora", rank=8, steps=300)
    same = record(simulator, "anna", steps=20)
    same.created = 1_700_000_000
    asked = []
    page.on("request", lambda request: request.url.endswith("/config") and asked.append(request.url))
    show(page, first)
    compare(page, second)
    page.wait_for_selector(".db-plot-legend >> nth=0 >> text=bert")
    names = page.locator(".db-plot-legend >> nth=1 >> .db-legend-item").all_inner_texts()
    assert names == ["anna, UNet", "anna, text encoder", "bert, UNet", "bert, text encoder"]
    heads = page.locator(".db-previews thead th").all_inner_texts()
    assert heads == ["Prompt", "Base", "Step 200"] and page.is_visible("text=Only steps of which all these runs")
    rows = page.locator(".db-previews tbody th").all_inner_texts()
    assert [row.split("\n") for row in rows] == [[PROMPTS[0], " anna"], [" bert"], [PROMPTS[1], " anna"], [" bert"]]
    table = page.locator(".db-differences tbody tr")
    found = {row.split("\t")[0]: row.split("\t")[1:] for row in table.all_inner_texts()}
    assert found["Method"] == ["DreamBooth", "LoRA"] and found["Learning rate"] == ["2e-6", "1e-4"]
    assert found["Rank"] == ["not used", "8"] and found["Preview every N steps"] == ["100", "200"]
    assert "Preview prompts" not in found
    page.click(".db-preview >> nth=1")
    assert page.locator(".db-viewer figcaption").all_inner_texts() == [" anna", " bert"]
    assert "Step 200" in page.inner_text(".db-viewer-caption")
    page.keyboard.press("ArrowLeft")
    assert "Base" in page.inner_text(".db-viewer-caption")
    page.keyboard.press("Escape")
    compare(page, same)  # of the same name: told apart by when they were made
    page.wait_for_selector(".db-chip:has-text('anna (') >> nth=1")
    assert re.search("1[45] Nov|Nov 1[45]", page.inner_text(".db-chip >> nth=2"))
    assert page.locator("a:has-text('CSV: ')").count() == 3
    screenshot(page, "curves-of-three-runs-1280-light")
    for _ in range(2):
        page.click(".db-chip-close >> nth=0")
    until(lambda: page.locator(".db-previews tbody tr").count() == 2)
    assert not page.is_visible(".db-differences") and page.locator(".db-previews thead th").count() == 6
    assert len(asked) == len(set(asked)) == 3  # they never change


def test_previews_of_other_words_stand_beside_each_other(page, simulator) -> None:
    """Each run has a rare word of its own: the first prompts belong together."""
    first = record(simulator, "anna", steps=100)
    other = [PROMPTS[1], "a photo of ohwx person", "ohwx person as a statue"]
    second = record(simulator, "bert", steps=100, validation_prompts=other)
    show(page, first)
    compare(page, second)
    until(lambda: page.locator(".db-previews tbody th").count() == 5)
    rows = [row.split("\n") for row in page.locator(".db-previews tbody th").all_inner_texts()]
    assert rows[:2] == [[PROMPTS[0], " anna"], [other[1], " bert"]]
    assert rows[2:] == [[PROMPTS[1], " anna"], [" bert"], [other[2], " bert"]]


def test_a_run_that_is_compared_and_deleted_goes_away(page, simulator) -> None:
    first, second = record(simulator, "anna", steps=20), record(simulator, "bert", steps=20)
    second.status = "training"
    second.events.pop()  # as if it trained still
    show(page, first)
    compare(page, second)
    del simulator.runs[second.id]
    page.wait_for_selector(".db-chip", state="detached")
    assert not page.is_visible(".db-differences")


def test_the_subject_is_seen_beside_the_previews(page, simulator) -> None:
    folder = simulator.folder / "mine"
    shutil.copytree(PICTURES, folder)
    run = record(simulator, "anna", steps=100, instance_data_dir=str(folder))
    next(folder.glob("*.png")).write_bytes(b"broken")
    show(page, run)
    until(lambda: page.locator(".db-subject-picture img").count() == 11)  # one cannot be shown
    page.click(".db-subject-picture >> nth=2")
    shown = page.locator(".db-viewer figure")
    assert shown.count() == 2 and "Step 100" in page.inner_text(".db-viewer-caption")
    before = page.get_attribute(".db-viewer img >> nth=0", "src")
    page.click("text=Next picture")
    assert page.get_attribute(".db-viewer img >> nth=0", "src") != before
    page.keyboard.press("ArrowLeft")
    assert shown.count() == 2 and "Base" in page.inner_text(".db-viewer-caption")
    page.click("text=Beside your picture")
    assert shown.count() == 1 and not page.is_visible("text=Next picture")


def test_a_prompt_goes_to_txt2img(open_page, server, simulator) -> None:
    run = record(simulator, "anna", steps=100, method="lora", rank=4, validation_negative_prompt="ugly")
    page = open_page(f"{server}webui")
    page.wait_for_selector(".db-word")
    show(page, run)
    page.click(".db-preview >> nth=0")
    page.click("text=Send to txt2img")
    until(lambda: page.evaluate("typed") == {"prompt": PROMPTS[0], "negative": "ugly"})
    assert page.input_value("#txt2img_prompt textarea") == PROMPTS[0] and "txt2img" in page.evaluate("pressed")
    run.say("published", name="anna", step=100, path="/webui/models/Lora/anna_1.safetensors")
    until(lambda: page.evaluate("typed.prompt = ''") == "" and sent_again(page) == f"{PROMPTS[0]} <lora:anna_1:1>")
    assert posted(simulator, "runs") == []


def sent_again(page) -> str:
    page.click(".db-preview >> nth=0")
    page.click("text=Send to txt2img")
    page.wait_for_timeout(300)
    return page.evaluate("typed.prompt")


def test_without_a_webui_a_prompt_is_copied(open_page, server, simulator) -> None:
    run = record(simulator, "anna", steps=100)
    page = open_page(server, permissions=["clipboard-read", "clipboard-write"])
    show(page, run)
    page.click(".db-preview >> nth=0")
    assert page.locator("text=Send to txt2img").is_hidden()
    page.click("text=Copy prompt")
    page.wait_for_selector("text=Copied.")
    assert page.evaluate("navigator.clipboard.readText()") == PROMPTS[0]


def test_a_page_that_is_open_for_days_keeps_its_size(page, server, simulator) -> None:
    """However many steps, previews and models a run has, as many points and elements are kept as can be looked at."""
    run = record(simulator, "anna", steps=10)
    run.events.pop()
    run.status, run.total = "training", 50_000
    show(page, run)
    page.evaluate(f"""async () => {{
        const {{ Feed }} = await import("{server}dreambooth/v1/page/monitor/feed.js");
        window.feed = new Feed("{run.id}");
        await window.feed.pull();
    }}""")
    losses = [event["loss"] for event in run.events if event["type"] == "step"]
    for step in range(11, 9_011):
        run.say("step", step=step, total=50_000, loss=step % 7, lr={"unet": 1e-6}, it_per_s=1, eta_s=9, epoch=1)
        losses.append(step % 7)
        if step % 100 == 0:
            run.step = step
            run._samples()
            run._model(final=False)
            run.say("warning", what=f"warning {step}")
    found = page.evaluate("""async () => {
        await feed.pull();
        const sum = (values) => values.reduce((a, b) => a + b);
        const kept = [feed.losses, feed.low, feed.high, feed.seconds, feed.rates.get("unet")];
        return { count: feed.steps.length, steps: sum(feed.spans), last: feed.steps.at(-1),
            seconds: feed.seconds.at(-1), even: kept.every((one) => one.length === feed.steps.length),
            mean: sum(feed.losses.map((loss, i) => loss * feed.spans[i])) / sum(feed.spans),
            low: Math.min(...feed.low), high: Math.max(...feed.high), messages: feed.messages.length };
    }""")
    assert found["count"] <= 4000 and found["even"] and found["messages"] <= 100
    assert (found["steps"], found["last"], found["seconds"]) == (9010, 9010, 9010)
    assert found["mean"] == pytest.approx(sum(losses) / len(losses)) and (found["low"], found["high"]) == (0, 6)
    until(lambda: page.locator(".db-previews thead th").count() == 25, 20)
    assert page.is_visible("text=Steps shown: 24 of 91.")
    heads = page.locator(".db-previews thead th").all_inner_texts()
    assert heads[1] == "Base" and heads[-1] == "Step 9000"
    page.wait_for_selector("text=Show all 91")
    assert page.locator(".db-monitor .db-model").count() <= 13
    assert page.evaluate("document.querySelectorAll('.db-monitor *').length") < 1000
    page.click(".db-preview >> nth=0")  # one by one, all of them
    page.keyboard.press("ArrowRight")
    assert "Step 100 " in page.inner_text(".db-viewer-caption")
    page.keyboard.press("Escape")
    page.click("text=Show all 91")
    until(lambda: page.locator(".db-monitor .db-model").count() == 91)


def test_a_picture_of_a_plot_has_the_title_and_the_legend(page, simulator) -> None:
    first, second = (record(simulator, f"{name}_with_a_long_name", steps=60) for name in ("anna", "bert"))
    show(page, first)
    alone = saved_picture(page)
    compare(page, second)
    page.wait_for_selector(".db-plot-legend >> nth=1 >> text=bert")
    assert saved_picture(page).height > alone.height  # of two runs with two rates each


def saved_picture(page):
    with page.expect_download() as found:
        page.click(".db-plot-tools >> text=PNG >> nth=1")
    return Image.open(io.BytesIO(found.value.path().read_bytes()))


def plot_of(page, title: str):
    return page.locator(f".db-plot:has(.db-plot-title:text-is('{title}'))")


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_what_the_run_measured_and_where_it_is_good(
    open_page, server, simulator, screenshot, width: int, theme: str
) -> None:
    run = record(simulator, "measured", measure_progress=True)
    page = open_page(f"{server}?__theme={theme}", viewport={"width": width, "height": 800})
    show(page, run)
    plot = plot_of(page, "Measured on the way")
    legend = ["your own pictures", "pictures kept back", "class pictures", "change for other prompts"]
    assert plot.locator(".db-legend-item").all_inner_texts() == [*legend, "learning", "good to use", "overfitting"]
    assert "1 is the base, less is better" in plot.inner_text()
    bands = shaded(page, plot)
    assert bands["learning"] < bands["good to use"] < bands["overfitting"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    screenshot(page, f"measured-{width}-{theme}")


def shaded(page, plot) -> dict[str, float]:
    """The first pixel, from the left, of each band's colour in the canvas, by the band's name."""
    return page.evaluate(
        """(figure) => {
            const canvas = figure.querySelector("canvas");
            const pen = canvas.getContext("2d");
            const row = pen.getImageData(0, Math.round(canvas.height * 0.5), canvas.width, 1).data;
            const seen = [];
            for (let x = 0; x < canvas.width; x += 1) {
                const key = row.slice(4 * x, 4 * x + 4).join();
                if (!seen.some((one) => one.key === key)) seen.push({ key, x, count: 0 });
                seen.find((one) => one.key === key).count += 1;
            }
            const wide = seen.filter((one) => one.count > canvas.width / 12 && !one.key.endsWith(",0"));
            wide.sort((a, b) => a.x - b.x);
            const names = [...figure.querySelectorAll(".db-band")].map((one) => one.parentElement.innerText);
            return Object.fromEntries(names.map((name, i) => [name, wide[i]?.x ?? -1]));
        }""",
        plot.element_handle(),
    )


def test_runs_that_are_not_measured_have_no_such_plot(page, simulator) -> None:
    show(page, record(simulator, "plain"))
    assert not plot_of(page, "Measured on the way").is_visible()
    assert plot_of(page, "Loss").is_visible()


def test_what_a_resumed_run_has_not_reached_again_is_forgotten(page, simulator) -> None:
    run = record(simulator, "again", measure_progress=True)
    show(page, run)
    plot = plot_of(page, "Measured on the way")
    assert "overfitting" in plot.inner_text()
    run.set("preparing")
    run.set("training", step=100, total=400)
    until(lambda: "overfitting" not in plot.inner_text())
    assert "your own pictures" in plot.inner_text()


def test_two_runs_are_compared_in_what_they_learned_of_pictures(page, simulator) -> None:
    one, other = (record(simulator, name, measure_progress=True) for name in ("first", "second"))
    show(page, one)
    compare(page, other)
    legend = plot_of(page, "Measured on the way").locator(".db-legend-item")
    until(lambda: legend.count() == 4 and legend.first.inner_text().startswith("first, "))
    assert legend.all_inner_texts() == [
        f"{run}, {what}" for run in ("first", "second") for what in ("your own pictures", "pictures kept back")
    ]
