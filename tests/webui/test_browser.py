"""A training as its user sees it: the real WebUI in a real browser, from pictures to the model that txt2img draws with.

Needs $WEBUI_DIR, in $DREAMBOOTH_EXT_ENVIRONMENT the trainer's environment over that WebUI, playwright and Chromium;
skipped without.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreambooth_ext.core.guide.demo_recipe import BASE, RECIPE
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.layout import FOLDER_VARIABLE
from tests.host.browser.conftest import browser, open_page, screenshot  # noqa: F401 - fixtures
from tests.host.browser.test_page import DEMO, FILES, TRAIN, tab
from tests.host.browser.test_standin import LONG, chosen, end_trainings, enter
from tests.host.standin.running import install_extension
from tests.waiting import until
from tests.webui.server import WebUI, running, webui_folder

pytestmark = [
    pytest.mark.skipif(webui_folder() is None, reason="$WEBUI_DIR names no WebUI"),
    pytest.mark.skipif(Environment().status().state != "ready", reason=f"${FOLDER_VARIABLE} names no environment"),
]
STEPS = 60
QUICK = {
    "resolution": 64,
    "with_prior_preservation": False,
    "max_train_steps": STEPS,
    "checkpointing_steps": 30,
    "validation_steps": 20,
    "validation_inference_steps": 4,
    "validation_prompts": ["a big zkz figure on the grass"],
}
MODEL = "zkz.safetensors"


@pytest.fixture
def data(tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """A WebUI's data folder: the demo's base, and the extension, which takes the environment from elsewhere."""
    folder = tmp_path / "my данные"
    checkpoints = folder / "models" / "Stable-diffusion"
    shutil.copytree(BASE.parent, checkpoints)
    yaml = checkpoints / BASE.with_suffix(".yaml").name
    clip = f"{BASE.stem}-clip"  # the WebUI looks for a relative path where it was started
    yaml.write_text(yaml.read_text("utf-8").replace(clip, str(checkpoints / clip)), "utf-8")
    install_extension(folder, "Мои расширения")
    monkeypatch.setenv(FOLDER_VARIABLE, str(Environment().folder))
    yield folder
    end_trainings(folder)


@contextlib.contextmanager
def started(data: Path) -> Iterator[WebUI]:
    with running(webui_folder(), data, sd1=open_base(BASE).architecture) as webui:
        webui.call("sdapi/v1/options", {"live_previews_enable": False})  # reForge would fetch a model for them
        yield webui


def test_from_pictures_to_txt2img_and_after_a_restart(data, tmp_path, open_page, screenshot) -> None:  # noqa: F811
    with started(data) as webui:
        other = open_page(webui.address)
        prepare_txt2img(other)
        page = open_page(webui.address)
        see_the_settings(page)
        screenshot(page, "webui-settings")
        enter(page)
        answer(page, tmp_path / "zkz.json")
        screenshot(page, "webui-train")
        page.click(TRAIN)
        watch(page, other)
        screenshot(page, "webui-monitor")
        page.reload()
        enter(page)
        step = steps(page)
        see_the_same(other, step)
        see_the_end(page, data)
        look(page, screenshot)
        until(lambda: chosen(page).startswith(MODEL), 90)
        until(lambda: chosen(other).startswith(MODEL), 90)
        draw(other)
        screenshot(other, "webui-txt2img")
        see_the_card(other)
        screenshot(other, "webui-card")
        page.close()
        other.close()
    with started(data) as webui:
        page = open_page(webui.address)
        page.wait_for_selector("#tabs button:has-text('DreamBooth')", timeout=60_000)
        until(lambda: chosen(page).startswith(MODEL), 60)
        enter(page)
        tab(page, "Monitor")
        see_the_end(page, data)
        tab(page, "Runs")
        page.wait_for_selector(".db-run:has-text('zkz') .db-badge[data-status=done]", timeout=30_000)
        page.close()  # gradio 4's page complains when its server is killed


def see_the_settings(page) -> None:
    """Under a heading of their own, in words; what the WebUI keeps of them is the API's values."""
    page.click("#tabs button:has-text('Settings')", timeout=60_000)
    page.wait_for_selector("#settings .settings-category:has-text('DreamBooth')", timeout=30_000)
    page.click("#settings button:has-text('DreamBooth')")
    said = page.inner_text("#setting_dreambooth_ext_while_training")
    assert "shows a message instead" in said and "refuse" not in said
    assert page.get_attribute("#setting_dreambooth_ext_while_training input:checked", "value") == "refuse"


def answer(page, settings: Path) -> None:
    """The form's questions, the demo's recipe as a file, and the check."""
    page.set_input_files(f"#dreambooth_ext {FILES}", DEMO)
    page.wait_for_selector("text=12 pictures", timeout=30_000)
    assert page.locator(".db-picture").count() == 12
    assert "demo-base.safetensors" in page.inner_text("select[id^=dreambooth_base] option >> nth=0")
    page.click(".db-type >> text=Object")
    page.wait_for_selector("text=15 to 25 are better")  # for this type
    recipe = json.loads(RECIPE.read_text("utf-8"))
    del recipe["num_class_images"]  # QUICK has none
    settings.write_text(json.dumps({**recipe, **QUICK}), "utf-8")
    page.set_input_files(".db-presets input[type=file]", settings)
    page.wait_for_selector("text=settings from zkz.json")
    assert page.locator(".db-picture .db-warn").count() == 0  # none is small for this resolution
    page.fill(".db-word", "zkz")
    page.wait_for_selector(".db-advice.db-good")
    page.wait_for_selector(".db-facts >> text=Memory", timeout=LONG)
    rate = f"{json.loads(RECIPE.read_text('utf-8'))['learning_rate']:.0e}".replace("e-0", "e-")
    assert f"{STEPS} steps at a learning rate of {rate}" in page.inner_text(".db-sentence")
    assert not page.is_visible(".db-problems")


def watch(page, other) -> None:
    """Steps and curves come, and meanwhile no picture is made."""
    page.wait_for_selector(".db-badge[data-status=training]", timeout=LONG)
    other.click("#txt2img_generate")
    other.wait_for_selector("#txt2img_results >> text=training is using the device", timeout=30_000)
    assert other.locator("#txt2img_gallery img").count() == 0
    until(lambda: steps(page) >= 3, LONG / 1000)
    plot = page.locator("#dreambooth_ext canvas").first
    plot.hover()
    until(lambda: re.search(r"Step \d+: Loss 0\.\d+", page.inner_text(".db-plot-readout >> nth=0")))


def steps(page) -> int:
    page.wait_for_selector(".db-monitor .db-figures dd", timeout=30_000)
    return int(page.inner_text(".db-figures dd >> nth=0").partition(" of ")[0])


def see_the_same(other, least: int) -> None:
    enter(other)
    tab(other, "Monitor")
    until(lambda: steps(other) >= least)
    assert other.inner_text(".db-monitor h3 >> nth=0") == "zkz"


def see_the_end(page, data: Path) -> None:
    page.wait_for_selector(".db-badge[data-status=done]", timeout=LONG)
    page.wait_for_selector(f".db-model:has-text('{MODEL}') >> text=selected", timeout=60_000)
    assert steps(page) == STEPS
    assert page.locator(".db-preview img").count() == 4  # the base itself, and after 20, 40 and 60 steps
    names = {path.name for path in (data / "models" / "Stable-diffusion").iterdir()}
    assert names >= {MODEL, "zkz.yaml", "zkz.json", "zkz.preview.png"}
    assert "zkz_30.safetensors" not in names  # the last one alone


def look(page, screenshot) -> None:  # noqa: F811
    """What is to be looked at by somebody: narrow and wide, in both themes."""
    for width, height in ((380, 820), (1280, 900)):
        page.set_viewport_size({"width": width, "height": height})
        for theme in ("dark", "light"):
            page.evaluate("isDark => document.body.classList.toggle('dark', isDark)", theme == "dark")
            for name in ("Train", "Monitor"):
                tab(page, name)
                screenshot(page, f"webui-{name.lower()}-{width}-{theme}")


def prepare_txt2img(page) -> None:
    page.fill("#txt2img_prompt textarea", "a big zkz figure on a brick wall", timeout=60_000)
    for side in ("width", "height"):
        box = page.locator(f"#txt2img_{side} input[type=number]")
        box.fill("64")
        box.blur()


def draw(page) -> None:
    page.click("#tabs button:has-text('txt2img')")
    page.click("#txt2img_generate")
    page.wait_for_selector("#txt2img_gallery img", timeout=LONG)
    page.wait_for_selector("#html_info_txt2img >> text=Model: zkz", timeout=30_000)
    page.wait_for_selector(".progressDiv", state="detached", timeout=30_000)


def see_the_card(page) -> None:
    """Of the new model in the extra networks: its picture, what to write, and what the file says about itself."""
    page.click("#txt2img_extra_tabs button:has-text('Checkpoints')")
    card = page.locator("#txt2img_checkpoints_cards .card[data-name='zkz']")
    card.wait_for(timeout=30_000)
    assert "Write 'zkz' in the prompt." in card.inner_text()
    assert "zkz.preview.png" in card.locator("img.preview").get_attribute("src")
    card.hover()
    card.locator(".metadata-button").click()
    page.wait_for_selector(".global-popup-inner >> text=ss_num_train_images", timeout=30_000)
    said = re.sub(r'[\s":,]+', " ", page.inner_text(".global-popup-inner"))  # a table, or in Classic JSON
    assert "ss_num_train_images 11" in said  # one of the twelve is kept back for the verdict
