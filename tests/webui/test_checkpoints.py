"""Exported checkpoints in the real WebUI: they load by the yaml beside them, and draw what `generate` draws.

Needs $WEBUI_DIR, the folder of a WebUI 1.10.1 with its environment; skipped without.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.engine.formats.checkpoint_file import export_checkpoint
from dreambooth_ext.engine.formats.metadata import modelspec, training_metadata
from dreambooth_ext.engine.formats.verified_write import Exported
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.infotext import infotext
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.host.publishing.model_files import publish
from dreambooth_ext.host.publishing.unpublish import take_out
from tests import tiny
from tests.webui.server import WebUI, running, webui_folder
from tests.webui.sizes import families
from tests.webui.test_host import family as kind_of

pytestmark = pytest.mark.skipif(webui_folder() is None, reason="$WEBUI_DIR names no WebUI")

# Those whose every step is the WebUI's: (its sampler, its schedule). DDIM and UniPC take other timesteps there, and
# DPM++ SDE other noise.
SAMPLERS = {
    "Euler": ("Euler", "Automatic"),
    "DPM++ 2M Karras": ("DPM++ 2M", "Karras"),
    "DPM++ 2M": ("DPM++ 2M", "Uniform"),
    "Euler a": ("Euler a", "Automatic"),
    "Heun": ("Heun", "Automatic"),
    "LMS": ("LMS", "Automatic"),
}
MODELS = {
    "sd1": ("sd1", {}),
    "sd1-inpainting": ("sd1", {"inpainting": True}),
    "sd2": ("sd2", {}),
    "sd2-v": ("sd2", {"prediction_type": "v_prediction"}),
    "sdxl": ("sdxl", {}),
    "sdxl-v": ("sdxl", {"prediction_type": "v_prediction"}),
    "sdxl-zero-snr": ("sdxl", {"prediction_type": "v_prediction"}),
    "sdxl-inpainting": ("sdxl", {"inpainting": True}),
}
SETTINGS = {
    "prompt": "a photo of zkz in the garden",
    "negative_prompt": "blurry, grey",
    "seed": 7,
    "steps": 4,
    "cfg_scale": 5.0,
    "width": 64,
    "height": 64,
}
CLOSE = 0.01  # mean difference of two pictures in steps of 256: a few pixels fall on the other side of a step


@pytest.fixture(scope="module")
def webui(tmp_path_factory):
    with running(webui_folder(), tmp_path_factory.mktemp("webui")) as started:
        yield started


@pytest.fixture(autouse=True)
def loadable(request):
    """Skip a model of a family that the WebUI does not load, or whose small model it cannot be told."""
    named = getattr(request.node, "callspec", None)
    family = MODELS[named.params["model"]][0] if named and "model" in named.params else "sd1"
    if family not in families(webui_folder()):
        pytest.skip(f"no {family} here")


def export(
    webui: WebUI, base_file: Path, name: str, precision: str = "fp32", folder: Path | None = None, **options: bool
) -> Exported:
    """The base with its UNet and first text encoder changed; without a folder, where the WebUI lists it."""
    base = open_base(base_file)
    # The WebUI draws what an inpainting model sees from the distribution that the VAE says, `generate` takes its
    # middle. A trained VAE's is narrow.
    vae = base.vae().state_dict()
    vae["quant_conv.weight"][4:], vae["quant_conv.bias"][4:] = 0, -30
    trained = {
        "vae": vae,
        "unet": {key: value * 1.2 for key, value in base.unet().state_dict().items()},
        # The WebUI divides by the encoder's mean, which the final norm of a random one makes 0.
        "text_encoder": {key: value * 1.1 + 0.02 for key, value in base.text_encoders()[0].state_dict().items()},
    }
    config = RunConfig(name=Path(name).stem, base_model=str(base_file), instance_data_dir="pictures")
    return export_checkpoint(
        base,
        trained,
        (folder or webui.checkpoints) / name,
        precision=precision,
        metadata={
            **modelspec(base, title=config.name, resolution=64, trigger_phrase="zkz"),
            **training_metadata(config, base, steps=7, started_at=1.5, num_train_images=12),
        },
        activation_text="zkz",
        preview=Image.new("RGB", (64, 64), "red"),
        **options,
    )


def drawn_by_us(model: Path, sampler: str = "Euler", **changes) -> np.ndarray:
    settings = SETTINGS | changes
    seeds = [settings.pop("seed")]
    return np.asarray(
        load_painter(open_base(model), torch.device("cpu")).paint(seeds=seeds, sampler=sampler, **settings)[0]
    )


def drawn_by_webui(webui: WebUI, exported: Exported, sampler: str = "Euler", **changes) -> np.ndarray:
    """By this very file: where a model does not load, the WebUI goes on with the one before."""
    webui.load(exported.path.name)
    name, scheduler = SAMPLERS[sampler]
    picture, said = webui.draw(sampler_name=name, scheduler=scheduler, **SETTINGS | changes)
    assert said["sd_model_name"] == exported.path.stem and said["sd_model_hash"] == exported.sha256[:10]
    return picture


def difference(one: np.ndarray, other: np.ndarray) -> float:
    """Mean absolute difference in steps of 256."""
    assert one.shape == other.shape
    return np.abs(one.astype(float) - other).mean()


@pytest.mark.parametrize("model", list(MODELS))
def test_every_kind_of_model_draws_what_generate_draws(webui, tmp_path, model):
    family, options = MODELS[model]
    base = tiny.single_file(tmp_path, family, **options)
    is_zero = model == "sdxl-zero-snr"
    exported = export(webui, base, f"{model}.safetensors", zero_terminal_snr=is_zero)
    if kind_of(webui_folder()) == "AUTOMATIC1111":  # the forks tell it by the file
        webui.call("sdapi/v1/options", {"sd_noise_schedule": "Zero Terminal SNR" if is_zero else "Default"})
    picture = drawn_by_webui(webui, exported)
    assert difference(picture, drawn_by_us(exported.path)) < CLOSE
    # which is neither what the base draws, nor what it draws for other words
    assert difference(picture, drawn_by_us(base)) > 10 * CLOSE
    assert difference(picture, drawn_by_us(exported.path, prompt="a drawing of the sea")) > 10 * CLOSE


@pytest.mark.parametrize("model", ["sd1", "sdxl-v"])
@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_samplers_are_those_of_the_webui(webui, tmp_path, model, sampler):
    family, options = MODELS[model]
    exported = export(webui, tiny.single_file(tmp_path, family, **options), f"{model}-{sampler}.safetensors")
    assert difference(drawn_by_webui(webui, exported, sampler), drawn_by_us(exported.path, sampler)) < CLOSE


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])  # the WebUI scans the second for what might be run
@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_every_precision_and_container_loads(webui, tmp_path, precision, suffix):
    exported = export(webui, tiny.single_file(tmp_path), f"{precision}-{suffix[1:]}{suffix}", precision)
    assert difference(drawn_by_webui(webui, exported), drawn_by_us(exported.path)) < CLOSE


def test_a_folder_of_odd_sizes_becomes_a_file_that_loads(webui, tmp_path):
    """Its text encoder cannot be described in a yaml, so a folder of its sizes is written beside the model."""
    exported = export(webui, tiny.diffusers_folder(tmp_path), "папка с пробелом.safetensors")
    assert difference(drawn_by_webui(webui, exported), drawn_by_us(exported.path)) < CLOSE


def test_published_models_of_odd_sizes_bring_no_folder_and_load(webui, tmp_path):
    """The WebUI shows a button for every folder below its checkpoints."""
    before = {path for path in webui.checkpoints.rglob("*") if path.is_dir()}
    base, placed = tiny.diffusers_folder(tmp_path), []
    for name in ("кот.safetensors", "пёс.safetensors"):
        exported = export(webui, base, name, folder=tmp_path / "artifacts")
        path = publish(exported.path, webui.checkpoints, run=name, name=name)
        placed.append(replace(exported, path=path))
    assert {path for path in webui.checkpoints.rglob("*") if path.is_dir()} == before
    assert difference(drawn_by_webui(webui, placed[0]), drawn_by_us(placed[0].path)) < CLOSE
    take_out(tmp_path / "artifacts" / "кот.safetensors", placed[0].path, "кот.safetensors")
    assert difference(drawn_by_webui(webui, placed[1]), drawn_by_us(placed[1].path)) < CLOSE


PROMPTS = {
    "none": "",
    "long": "zkz " * 100,
    "letters": "zkz — кот, 猫",
    "emphasis": r"a ((zkz)) in (the [red] garden:1.4), \(at night\), [[grey]], (old: 0.6 ) a:1.2) ] (never closed",
    "break": "a red zkz BREAK (blue:1.3) sea BREAK and (a BREAK word) BREAK",
    "commas": "zkz " * 60 + ", " + "a (green:1.2) sea " * 20 + ", " + "old house " * 30,
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("model", ["sd1", "sd2", "sdxl"])
def test_prompts_mean_the_same(webui, tmp_path, model, prompt):
    family, options = MODELS[model]
    exported = export(webui, tiny.single_file(tmp_path, family, **options), f"{model}-{len(prompt)}.safetensors")
    changes = {"prompt": prompt, "negative_prompt": "(grey:1.3) [sky]" if "(" in prompt else ""}
    assert difference(drawn_by_webui(webui, exported, **changes), drawn_by_us(exported.path, **changes)) < CLOSE


@pytest.mark.parametrize("sampler", list(SAMPLERS))
def test_the_webui_draws_from_the_text_in_our_pictures(webui, tmp_path, sampler):
    exported = export(webui, tiny.single_file(tmp_path), f"described-{sampler}.safetensors")
    webui.load(exported.path.name)
    about = {"model": exported.path.stem, "model_hash": exported.sha256[:10], "clip_skip": None}
    picture = webui.draw_as_said(infotext(sampler=sampler, **SETTINGS, **about))
    assert difference(picture, drawn_by_us(exported.path, sampler)) < CLOSE


def test_the_webui_shows_what_the_file_says_about_itself(webui, tmp_path):
    exported = export(webui, tiny.single_file(tmp_path), "shown.safetensors")
    webui.load(exported.path.name)
    which = {"page": "checkpoints", "tabname": "txt2img", "name": exported.path.name}
    card = webui.call("sd_extra_networks/get-single-card", **which)["html"]
    assert "Write &#x27;zkz&#x27; in the prompt." in card and "shown.preview.png" in card
    assert "metadata-button" in card  # there only where it found some in the file
