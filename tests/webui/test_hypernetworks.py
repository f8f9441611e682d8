"""Hypernetworks in the real WebUI: `<hypernet:name:1>` draws what `generate --hypernetwork` draws.

Needs $WEBUI_DIR, the folder of a WebUI 1.10.1 with its environment; skipped without.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dreambooth_ext.core.config.form_sections.hypernetwork import ACTIVATIONS
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.verbs import generate_options
from dreambooth_ext.engine.formats import hypernetwork_file
from dreambooth_ext.engine.formats.hypernetwork_file import export_hypernetwork
from dreambooth_ext.engine.formats.metadata import modelspec, training_metadata
from dreambooth_ext.engine.formats.verified_write import Exported
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.networks import hypernetwork
from dreambooth_ext.engine.networks.hypernetwork import Structure
from dreambooth_ext.engine.sampling.painter import load_painter
from tests import tiny
from tests.engine.methods.test_hypernetwork import random_network
from tests.webui.server import WebUI, running, webui_folder
from tests.webui.test_checkpoints import CLOSE, SETTINGS, difference, drawn_by_us, export

pytestmark = pytest.mark.skipif(webui_folder() is None, reason="$WEBUI_DIR names no WebUI")

FAMILIES = ("sd1", "sd2", "sdxl")


@pytest.fixture(scope="module")
def webui(tmp_path_factory):
    with running(webui_folder(), tmp_path_factory.mktemp("webui")) as started:
        yield started


@pytest.fixture(scope="module")
def checkpoints(webui, tmp_path_factory) -> dict[str, Exported]:
    """A model of each family, where the WebUI lists it."""
    folder = tmp_path_factory.mktemp("bases")
    return {family: export(webui, tiny.single_file(folder, family), f"{family}.safetensors") for family in FAMILIES}


def write(webui: WebUI, model: Path, name: str, precision: str = "fp32", **structure) -> Exported:
    """A hypernetwork for a model, as after a training, where the WebUI finds it."""
    base = open_base(model)
    network = random_network(hypernetwork.sizes_of(base), **structure)
    start = {key: torch.zeros_like(tensor) for key, tensor in network.state_dict().items()}
    config = RunConfig(name=name, base_model=str(model), instance_data_dir="pictures", method="hypernetwork")
    return export_hypernetwork(
        base,
        network,
        start,
        webui.data / "models" / "hypernetworks" / f"{name}.pt",
        step=7,
        digest="0123456789",
        precision=precision,
        metadata={
            **modelspec(base, title=name, resolution=64, adapter="hypernetwork"),
            **training_metadata(config, base, steps=7, started_at=1.5, num_train_images=12),
        },
        activation_text="zkz",
    )


def by_us(model: Path, files: list[tuple[Path, float]]) -> np.ndarray:
    painter = load_painter(open_base(model), torch.device("cpu"), hypernetworks=files)
    settings = dict(SETTINGS)
    return np.asarray(painter.paint(seeds=[settings.pop("seed")], sampler="Euler", **settings)[0])


def by_webui(webui: WebUI, model: Exported, words: str) -> np.ndarray:
    renew(webui)
    webui.load(model.path.name)
    prompt = SETTINGS["prompt"] + words
    picture, said = webui.draw(sampler_name="Euler", scheduler="Automatic", **SETTINGS | {"prompt": prompt})
    assert said["sd_model_name"] == model.path.stem
    return picture


def renew(webui: WebUI) -> None:
    """Let it read its list of hypernetworks anew, which it does when one is made."""
    create(webui, "another")


def create(webui: WebUI, name: str, sizes: tuple[int, ...] = (16,), **options) -> Path:
    """A new hypernetwork by the WebUI's own Train tab."""
    usual = {"layer_structure": "1, 2, 1", "activation_func": "linear", "weight_init": "Normal"}
    given = {"name": name, "enable_sizes": sizes, "overwrite_old": True, **usual, **options}
    said = webui.call("sdapi/v1/create/hypernetwork", given)
    assert "error" not in said["info"], said
    return webui.data / "models" / "hypernetworks" / f"{name}.pt"


def assert_drawn_alike(webui: WebUI, model: Exported, files: list[tuple[Path, float]], base: np.ndarray) -> None:
    picture = by_webui(webui, model, generate_options.lora_words(files, "hypernet"))
    assert difference(picture, by_us(model.path, files)) < CLOSE
    assert difference(picture, base) > 30 * CLOSE


@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_listed_and_draws_what_generate_draws_at_every_strength(webui, checkpoints, family):
    model = checkpoints[family]
    path = write(webui, model.path, f"hyper-{family}").path
    renew(webui)
    assert path.stem in [found["name"] for found in webui.call("sdapi/v1/hypernetworks")]
    base = drawn_by_us(model.path)
    for strength in (1.0, 0.5, -0.3):
        assert_drawn_alike(webui, model, [(path, strength)], base)
    assert generate_options.lora_words([(path, 0.5)], "hypernet") == f" <hypernet:hyper-{family}:0.5>"
    assert difference(by_webui(webui, model, f" <hypernet:{path.stem}:0>"), base) < CLOSE


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(webui, checkpoints, activation):
    model, activates = checkpoints["sd1"], activation != "linear"
    structure = {"activation": activation, "activate_output": activates, "layer_norm": True}
    path = write(webui, model.path, f"by-{activation}", **structure, dropout=(0.0, 0.2, 0.0)).path
    assert_drawn_alike(webui, model, [(path, 1.0)], drawn_by_us(model.path))


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_every_precision_and_several_one_after_the_other(webui, checkpoints, precision):
    model = checkpoints["sdxl"]
    files = [
        (write(webui, model.path, f"one-{precision}", precision, size=0.1).path, 0.7),
        (write(webui, model.path, f"other-{precision}", precision, size=0.1, layers=(1.0, 1.5, 3.0, 1.0)).path, 0.4),
    ]
    assert_drawn_alike(webui, model, files, drawn_by_us(model.path))


CREATED = {
    "plain": ({}, Structure()),
    "deep": (
        {"layer_structure": "1, 1.5, 2, 1", "activation_func": "swish", "weight_init": "KaimingNormal"},
        Structure(layers=(1.0, 1.5, 2.0, 1.0), activation="swish", weight_init="KaimingNormal"),
    ),
    "dropping": (
        {"add_layer_norm": True, "use_dropout": True, "dropout_structure": "0, 0.3, 0", "activation_func": "relu"},
        Structure(activation="relu", layer_norm=True, dropout=(0.0, 0.3, 0.0)),
    ),
}


@pytest.mark.parametrize("name", CREATED)
def test_files_of_its_train_tab_are_read_and_trained_on(webui, checkpoints, tmp_path, name):
    from tests.training import Trainer

    options, structure = CREATED[name]
    path = create(webui, f"tab-{name}", (16, 32, 64), **options)
    content = hypernetwork_file.read(path, "hypernetwork_weights")
    assert content.structure == structure and list(content.states) == [16, 32, 64] and content.step == 0
    model = checkpoints["sd1"]
    settings = {"base_model": str(model.path), "learning_rate": 3e-2, "max_train_steps": 3, "name": f"on-{name}"}
    run = Trainer(tmp_path).train(method="hypernetwork", hypernetwork_weights=str(path), **settings)
    trained = webui.data / "models" / "hypernetworks" / f"on-{name}.pt"
    trained.write_bytes((run.artifacts / trained.name).read_bytes())
    assert hypernetwork_file.read(trained, "").step == 3
    assert_drawn_alike(webui, model, [(trained, 1.0)], drawn_by_us(model.path))
