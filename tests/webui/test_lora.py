"""LoRA files in the real WebUI: `<lora:name:1>` draws what `generate --lora` draws.

Needs $WEBUI_DIR, the folder of a WebUI 1.10.1 with its environment; skipped without.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.facts.lora_types import LORA_TYPES
from dreambooth_ext.core.verbs import generate_options
from dreambooth_ext.engine.formats import lora_file
from dreambooth_ext.engine.formats.lora_file import export_network
from dreambooth_ext.engine.formats.metadata import modelspec, training_metadata
from dreambooth_ext.engine.formats.verified_write import Exported
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.painter import load_painter
from tests import adapters, tiny
from tests.webui.server import WebUI, running, webui_folder
from tests.webui.test_checkpoints import CLOSE, SETTINGS, difference, drawn_by_us, export

pytestmark = pytest.mark.skipif(webui_folder() is None, reason="$WEBUI_DIR names no WebUI")

FAMILIES = ("sd1", "sd2", "sdxl")
# Two layers in each block, as the models of usual sizes have: then the files take kohya's own names.
USUAL = {"layers_per_block": 2}


@pytest.fixture(scope="module")
def webui(tmp_path_factory):
    with running(webui_folder(), tmp_path_factory.mktemp("webui")) as started:
        yield started


@pytest.fixture(scope="module")
def checkpoints(webui, tmp_path_factory) -> dict[str, Exported]:
    """A model of each family, where the WebUI lists it."""
    folder = tmp_path_factory.mktemp("bases")
    found = {family: export(webui, tiny.single_file(folder, family), f"{family}.safetensors") for family in FAMILIES}
    with mock.patch.dict(tiny.UNET["sd1"], USUAL), mock.patch.dict(tiny.UNET["sd2"], USUAL):
        for family in ("sd1", "sd2"):
            name = f"{family}-usual"
            found[name] = export(webui, tiny.single_file(folder, family, name=name), f"{name}.safetensors")
    return found


def write(webui: WebUI, model: Path, name: str, kind: str, precision: str = "fp32", **settings) -> Exported:
    """A LoRA for a model, where the WebUI finds it."""
    base, config = open_base(model), adapters.config(kind, **settings)
    models = adapters.models(base)
    names = lora_file.file_names(lora_file.layers_of(models), models["unet"].config, base.family)
    run = RunConfig(name=name, base_model=str(model), instance_data_dir="pictures", method="lora")
    return export_network(
        base,
        adapters.made(base, kind, **settings),
        names,
        webui.data / "models" / "Lora" / f"{name}.safetensors",
        precision=precision,
        metadata={
            **modelspec(base, title=name, resolution=64, adapter="lora"),
            **training_metadata(run, base, steps=7, started_at=1.5, num_train_images=12),
            **lora_file.metadata(config),
        },
        activation_text="zkz",
    )


def with_lora(model: Path, loras: list[tuple[Path, float]]) -> np.ndarray:
    painter = load_painter(open_base(model), torch.device("cpu"), loras=loras)
    settings = dict(SETTINGS)
    return np.asarray(painter.paint(seeds=[settings.pop("seed")], sampler="Euler", **settings)[0])


def by_webui(webui: WebUI, model: Exported, words: str) -> np.ndarray:
    webui.load(model.path.name)
    prompt = SETTINGS["prompt"] + words
    picture, said = webui.draw(sampler_name="Euler", scheduler="Automatic", **SETTINGS | {"prompt": prompt})
    assert said["sd_model_name"] == model.path.stem and "not found" not in str(said)
    return picture


CASES = [
    *((family, kind) for family in FAMILIES for kind in LORA_TYPES),
    ("sd1-usual", "locon"),
    ("sd2-usual", "locon"),
]


@pytest.mark.parametrize(("family", "kind"), CASES)
def test_every_type_draws_what_generate_draws(webui, checkpoints, family, kind):
    model = checkpoints[family]
    lora = write(webui, model.path, f"{family}-{kind}", kind)
    picture = by_webui(webui, model, f" <lora:{family}-{kind}:1>")
    assert difference(picture, with_lora(model.path, [(lora.path, 1.0)])) < CLOSE
    assert difference(picture, drawn_by_us(model.path)) > 100 * CLOSE


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_several_at_weights_of_their_own_in_half_precision(webui, checkpoints, precision):
    """LoHa and LoKr it multiplies in the file's precision, and fp16 not at all on a CPU: hence the guide's warning."""
    model = checkpoints["sdxl"]
    loras = [
        (write(webui, model.path, f"{kind}-{precision}", kind, precision, use_rslora=kind == "lora").path, weight)
        for kind, weight in (("lora", 0.7), ("dora", -0.4))
    ]
    words = generate_options.lora_words(loras)
    assert words == f" <lora:lora-{precision}:0.7> <lora:dora-{precision}:-0.4>"
    assert difference(by_webui(webui, model, words), with_lora(model.path, loras)) < CLOSE


def test_the_webui_knows_what_a_file_is_for(webui, checkpoints):
    for family in FAMILIES:
        write(webui, checkpoints[family].path, f"known-{family}", "lora")
    webui.call("sdapi/v1/refresh-loras", {})
    said = {item["name"]: item["metadata"] for item in webui.call("sdapi/v1/loras")}
    kinds = {f: (said[f"known-{f}"]["ss_base_model_version"], said[f"known-{f}"]["ss_v2"]) for f in FAMILIES}
    # as it tells them apart: "sdxl_", "True", anything else
    assert kinds == {"sd1": ("sd_v1", "False"), "sd2": ("sd_v2", "True"), "sdxl": ("sdxl_base_v1-0", "False")}
    webui.load(checkpoints["sdxl"].path.name)
    which = {"page": "lora", "tabname": "txt2img", "name": "known-sdxl"}
    card = webui.call("sd_extra_networks/get-single-card", **which)["html"]
    assert "known-sdxl" in card and "metadata-button" in card
