"""Embeddings in the real WebUI: it lists them, and their words draw what `generate --embedding` draws.

Needs $WEBUI_DIR, the folder of a WebUI 1.10.1 with its environment; skipped without.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, PngImagePlugin

from dreambooth_ext.core.system.files import sha256_of
from dreambooth_ext.engine.conditioning.learned_tokens import Embedding
from dreambooth_ext.engine.formats import embedding_file, lora_file
from dreambooth_ext.engine.formats.embedding_file import export_embedding
from dreambooth_ext.engine.formats.lora_file import export_network
from dreambooth_ext.engine.formats.metadata import base_metadata, modelspec
from dreambooth_ext.engine.formats.verified_write import Exported
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.infotext import infotext
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.engine.verbs.generate import used_hashes
from tests import adapters, tiny
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


def vectors(family: str, count: int, seed: int = 0) -> list[torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    return [torch.randn(count, width, generator=draw) * 0.5 for width in tiny.TEXT_WIDTHS[family]]


def write(webui: WebUI, model: Exported, family: str, name: str, count: int = 3, **about) -> Path:
    """An embedding for a model, where the WebUI finds it."""
    base = open_base(model.path)
    given = {"precision": "fp32", "metadata": modelspec(base, title=name, resolution=64), "steps": 7, **about}
    path = webui.data / "embeddings" / name
    return export_embedding(base, vectors(family, count), path, preview=Image.new("RGB", (64, 64), "red"), **given).path


def by_webui(webui: WebUI, model: Exported, prompt: str, **changes) -> tuple[np.ndarray, dict]:
    webui.load(model.path.name)
    webui.call("sdapi/v1/refresh-embeddings", {})
    settings = {**SETTINGS, "prompt": prompt, **changes}
    picture, said = webui.draw(sampler_name="Euler", scheduler="Automatic", **settings)
    assert said["sd_model_name"] == model.path.stem
    return picture, said


def with_embeddings(model: Path, paths: list[Path], prompt: str, **changes) -> np.ndarray:
    painter = load_painter(open_base(model), torch.device("cpu"), embeddings=paths)
    settings = {**SETTINGS, "prompt": prompt, **changes}
    return np.asarray(painter.paint(seeds=[settings.pop("seed")], sampler="Euler", **settings)[0])


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_word_draws_what_generate_draws(webui, checkpoints, family, suffix):
    model, name = checkpoints[family], f"{family}-{suffix[1:]}"
    path = write(webui, model, family, name + suffix)
    prompt = f"a photo of {name} in the garden"
    picture, said = by_webui(webui, model, prompt)
    listed = webui.call("sdapi/v1/embeddings")
    assert name in listed["loaded"] and listed["loaded"][name]["vectors"] == 3
    assert difference(picture, with_embeddings(model.path, [path], prompt)) < CLOSE
    assert difference(picture, drawn_by_us(model.path, prompt=prompt)) > 10 * CLOSE
    text = load_painter(open_base(model.path), torch.device("cpu"), embeddings=[path]).text
    ((word, hash),) = used_hashes(text, [prompt], [path]).items()
    assert f'TI hashes: "{word}: {hash}' in said["infotexts"][0]  # of SDXL it says so once for each text encoder


PROMPTS = {
    "weights": "a (word:1.4) in [the word], ((word))",
    "capitals": "a Word, WORD",
    "a chunk's end": "zkz " * 73 + "word zkz",
    "exactly full": "zkz " * 72 + "word zkz",
    "breaks": "word BREAK word",
    "several": "word longword, shortword-2 word",
    "within": "keyword sword",
}


@pytest.mark.parametrize("prompt", PROMPTS.values(), ids=PROMPTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_words_are_found_and_placed_as_there(webui, checkpoints, family, prompt):
    for name in ("word", "longword", "shortword-2"):  # another family's
        (webui.data / "embeddings" / f"{name}.safetensors").unlink(missing_ok=True)
    model = checkpoints[family]
    counts = {"word": 3, "longword": 7, "shortword-2": 1}
    paths = [write(webui, model, family, f"{name}.safetensors", count) for name, count in counts.items()]
    negative = {"negative_prompt": "grey (word:0.8)"}
    picture, _ = by_webui(webui, model, prompt, **negative)
    assert difference(picture, with_embeddings(model.path, paths, prompt, **negative)) < CLOSE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_picture_that_carries_one(webui, checkpoints, family):
    model, name = checkpoints[family], f"carried-{family}"
    state = embedding_file.state(vectors(family, 2), torch.float32)
    content = embedding_file.pickled(state, name, 5, "base", None)
    info = PngImagePlugin.PngInfo()
    info.add_text(embedding_file.PNG_KEY, embedding_file.picture_text(content))
    path = webui.data / "embeddings" / f"{name}.png"
    path.parent.mkdir(exist_ok=True)
    Image.new("RGB", (64, 64)).save(path, pnginfo=info)
    prompt = f"a photo of {name}"
    picture, _ = by_webui(webui, model, prompt)
    assert difference(picture, with_embeddings(model.path, [path], prompt)) < CLOSE
    assert difference(picture, drawn_by_us(model.path, prompt=prompt)) > 10 * CLOSE


def test_the_webui_draws_from_the_text_in_our_pictures(webui, checkpoints):
    model = checkpoints["sd1"]
    path = write(webui, model, "sd1", "described.safetensors")
    webui.load(model.path.name)
    webui.call("sdapi/v1/refresh-embeddings", {})
    settings = {**SETTINGS, "prompt": "a described thing"}
    about = {"model": model.path.stem, "model_hash": model.sha256[:10], "clip_skip": None}
    hashes = {"described": sha256_of(path)[:12]}
    text = infotext(sampler="Euler", ti_hashes=hashes, **settings, **about)
    picture = webui.draw_as_said(text)
    assert difference(picture, with_embeddings(model.path, [path], settings["prompt"])) < CLOSE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_lora_brings_its_word_along(webui, checkpoints, family):
    model, base = checkpoints[family], open_base(checkpoints[family].path)
    models = adapters.models(base)
    names = lora_file.file_names(lora_file.layers_of(models), models["unet"].config, base.family)
    path = webui.data / "models" / "Lora" / f"pivotal-{family}.safetensors"
    about = {"precision": "fp32", "metadata": {**base_metadata(base), **lora_file.metadata(adapters.config("lora"))}}
    word = Embedding(f"brought-{family}", vectors(family, 3))
    export_network(base, adapters.made(base, "lora"), names, path, words=[word], **about)
    prompt = f"a photo of brought-{family}"
    picture, _ = by_webui(webui, model, f"{prompt} <lora:pivotal-{family}:1>")
    settings = {**SETTINGS, "prompt": prompt}
    painter = load_painter(base, torch.device("cpu"), loras=[(path, 1.0)])
    drawn = np.asarray(painter.paint(seeds=[settings.pop("seed")], sampler="Euler", **settings)[0])
    assert difference(picture, drawn) < CLOSE
    painter.text.learn([])
    settings = {**SETTINGS, "prompt": prompt}
    without = np.asarray(painter.paint(seeds=[settings.pop("seed")], sampler="Euler", **settings)[0])
    assert difference(picture, without) > 10 * CLOSE
