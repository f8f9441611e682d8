"""From pictures to the model that is selected in txt2img, in a real browser, with a real training, in a WebUI's page.

The WebUI is the stand-in with the real gradio, 3 and 4; or, where $WEBUI_DIR names one, the real WebUI.
"""

from __future__ import annotations

import json
import shutil
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.environment.layout import FOLDER_VARIABLE
from tests.host.standin import running
from tests.webui import server
from tests.webui.server import webui_folder

from .simulator import REPOSITORY
from .test_page import DEMO, FILES, TRAIN

BASE = REPOSITORY / "dreambooth_ext" / "demo" / "base"
LONG = 180_000  # milliseconds: a training on a busy machine
QUICK = {  # group of the form -> settings that make the demo's base train in seconds
    "Pictures": {"resolution": "64"},
    "Training": {"max_train_steps": "10"},
    "Saving": {"checkpointing_steps": "4"},
    "Previews": {"validation_steps": "5", "validation_inference_steps": "2"},
}

pytestmark = pytest.mark.skipif(
    Environment().status().state != "ready", reason="needs the trainer's environment: python -m dreambooth_ext env"
)


@dataclass
class WebUI:
    address: str
    checkpoints: Path

    def options(self) -> dict:
        with urllib.request.urlopen(f"{self.address}/sdapi/v1/options", timeout=30) as answer:
            return json.load(answer)


KINDS = ["gradio3", "gradio4"] if webui_folder() is None else ["real"]


@pytest.fixture(params=KINDS, scope="module")
def webui(request, tmp_path_factory) -> Iterator[WebUI]:
    data = tmp_path_factory.mktemp("web ui")
    checkpoints = data / "models" / "Stable-diffusion"
    shutil.copytree(BASE, checkpoints)
    running.install_extension(data, "Мои расширения")
    # The extension is a link here, and has no environment of its own. One thread: on a busy machine, threads that wait
    # for each other take a hundred times as long.
    variables = {FOLDER_VARIABLE: str(Environment().folder), "OMP_NUM_THREADS": "1"}
    if request.param == "real":
        yaml = checkpoints / "demo-base.yaml"  # the WebUI looks for a relative path where it was started
        clip = str(checkpoints / "demo-base-clip")
        yaml.write_text(yaml.read_text("utf-8").replace("demo-base-clip", clip), "utf-8")
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv(FOLDER_VARIABLE, variables[FOLDER_VARIABLE])
            demo = open_base(checkpoints / "demo-base.safetensors").architecture
            with server.running(webui_folder(), data, sd1=demo) as started:
                yield WebUI(started.address, checkpoints)
    else:
        options = ["--api", "--like", "a1111" if request.param == "gradio3" else "forge"]
        number = int(request.param[-1])
        with running.running(data, gradio=number, options=options, variables=variables) as started:
            yield WebUI(started.address, checkpoints)
    end_trainings(data)


def end_trainings(data: Path) -> None:
    """A training outlives its WebUI, and would outlive a failed test."""
    for state in data.rglob("runs/*/state.json"):
        run = Run(state.parent)
        if run.is_alive():
            run.command("stop")


def enter(page) -> None:
    """To our tab, among the WebUI's."""
    page.click("#tabs button:has-text('DreamBooth')", timeout=60_000)
    page.wait_for_selector(".db-panel:not([hidden])", timeout=30_000)


def answer_everything(page) -> None:
    page.set_input_files(f"#dreambooth_ext {FILES}", DEMO)
    page.wait_for_selector("text=12 pictures", timeout=30_000)
    page.fill(".db-word", "zkz")
    page.click(".db-type >> text=Object")
    page.click(".db-advanced > summary")
    for group, settings in QUICK.items():
        page.click(f".db-group summary:has-text('{group}')")
        for name, value in settings.items():
            page.fill(f"[data-setting={name}] input", value)
    page.fill("[data-setting=validation_prompts] textarea", "zkz object")


def chosen(page) -> str:
    """The checkpoint that the WebUI's page shows as selected."""
    of_a1111, of_forge = "#setting_sd_model_checkpoint input", "#quicksettings input[aria-label=Checkpoint]"
    return page.locator(f"{of_a1111}, {of_forge}").first.input_value()  # waits for whichever there is


def test_from_pictures_to_the_model_in_txt2img(webui: WebUI, open_page, screenshot, request) -> None:
    page = open_page(webui.address)
    enter(page)
    base = page.locator("select[id^=dreambooth_base]")
    assert "demo-base" in base.locator("option").first.inner_text()
    answer_everything(page)
    page.wait_for_selector(".db-facts >> text=Memory", timeout=LONG)
    name = request.node.callspec.id
    screenshot(page, f"standin-train-{name}")
    page.click(TRAIN)
    page.wait_for_selector(".db-badge[data-status=preparing], .db-badge[data-status=training]", timeout=LONG)
    page.reload()
    enter(page)
    page.wait_for_selector(".db-monitor .db-badge[data-status]", timeout=30_000)
    assert page.inner_text(".db-monitor h3 >> nth=0") == "zkz_object"
    page.wait_for_selector(".db-badge[data-status=done]", timeout=LONG)
    page.wait_for_selector(".db-model:has-text('zkz_object.safetensors') >> text=selected", timeout=60_000)
    screenshot(page, f"standin-done-{name}")
    names = {path.name for path in webui.checkpoints.iterdir()}
    assert "zkz_object.safetensors" in names and "zkz_object_4.safetensors" not in names  # the last one alone
    deadline = time.monotonic() + 60
    while not chosen(page).startswith("zkz_object.safetensors"):
        assert time.monotonic() < deadline, chosen(page)
        page.wait_for_timeout(200)
    assert webui.options()["sd_model_checkpoint"].startswith("zkz_object.safetensors")
    page.click(".db-preview >> nth=-1")
    page.click("text=Send to txt2img")
    page.wait_for_selector("#txt2img_prompt textarea:visible")
    assert page.input_value("#txt2img_prompt textarea") == "zkz object"
    for side in ("width", "height"):
        if (box := page.locator(f"#txt2img_{side} input[type=number]")).count():
            box.fill("64")
            box.blur()
    page.click("#txt2img_generate")
    page.wait_for_selector("#txt2img_gallery img", timeout=LONG)
    assert "zkz object" in page.inner_text("#html_info_txt2img")  # gradio has heard of what was sent
    screenshot(page, f"standin-txt2img-{name}")
    look_with_a_second_browser(webui, open_page)  # here, for another process of the tests has another WebUI


def look_with_a_second_browser(webui: WebUI, open_page) -> None:
    """It shows the run, takes its settings, and has room on a phone."""
    page = open_page(webui.address, viewport={"width": 380, "height": 800})
    enter(page)
    page.click(".db-tab:has-text('Runs')")
    page.wait_for_selector(".db-run:has-text('zkz_object')", timeout=30_000)
    page.wait_for_selector(".db-run .db-badge[data-status=done]")
    page.click(".db-run >> text=Use settings")
    page.wait_for_selector("text=12 pictures", timeout=30_000)
    assert page.input_value("[data-setting=max_train_steps] input") == "10"
    inside = page.evaluate("document.querySelector('#dreambooth_ext').scrollWidth")
    assert inside <= 380
