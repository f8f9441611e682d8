"""The verb `compare`: base and models draw the same prompts and seeds, each file put in and taken out again."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.verbs import generate_options
from dreambooth_ext.core.verbs.compare_options import add_arguments
from dreambooth_ext.engine.formats import lora_file
from dreambooth_ext.engine.formats.lora_file import export_network
from dreambooth_ext.engine.formats.model_kind import kind_of_model
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.model_swap import put_into
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.engine.tensors.torch_pickle import save_pickle
from dreambooth_ext.engine.verbs import compare, generate
from tests import adapters, tiny
from tests.engine.methods.test_hypernetwork import random_network, said_by

COMMON = ["--steps", "2", "--device", "cpu", "--num-images", "2", "--prompt", "a zkz cat"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A base and one model of each kind."""
    folder = tmp_path_factory.mktemp("мои модели")
    base_path = tiny.single_file(folder)
    base = open_base(base_path)
    (folder / "other").mkdir()
    parts = adapters.models(base)
    names = lora_file.file_names(lora_file.layers_of(parts), base.architecture.unet, base.family)
    export_network(base, adapters.made(base), names, folder / "cat.safetensors", precision="fp32", metadata={})
    save_file({"anything": torch.randn(2, 16)}, folder / "zkz.safetensors")
    save_pickle(said_by(random_network([16])), folder / "hyper.pt")
    other = tiny.single_file(folder / "other", seed=1)
    return {
        "base": base_path,
        "lora": folder / "cat.safetensors",
        "textual_inversion": folder / "zkz.safetensors",
        "hypernetwork": folder / "hyper.pt",
        "checkpoint": other,
    }


def run(files, out, *extra: str):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return compare.run(parser.parse_args(["--base", str(files["base"]), "--out", str(out), *COMMON, *extra]))


@pytest.fixture(scope="module")
def compared(files, tmp_path_factory):
    """All kinds in one comparison; the checkpoint stands before files that are put into the base."""
    out = tmp_path_factory.mktemp("сравнение")
    models = [str(files["checkpoint"]), str(files["lora"]), f"{files['lora']}:0.5", str(files["hypernetwork"])]
    models.append(str(files["textual_inversion"]))
    run(files, out, *(word for model in models for word in ("--model", model)))
    return out


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path)).astype(int)


def test_kinds_are_told_by_what_files_hold(files):
    assert {kind: kind_of_model(path, "model") for kind, path in files.items()} == {
        kind: "checkpoint" if kind == "base" else kind for kind in files
    }


def test_every_picture_is_the_one_that_generate_draws(files, compared, tmp_path):
    """An independent way: each file alone, merged into a model that is loaded for it."""
    name = files["checkpoint"].stem
    ways = {
        "base": ["--model", str(files["base"])],
        name: ["--model", str(files["checkpoint"])],
        "cat": ["--model", str(files["base"]), "--lora", str(files["lora"])],
        "cat-0.5": ["--model", str(files["base"]), "--lora", f"{files['lora']}:0.5"],
        "hyper": ["--model", str(files["base"]), "--hypernetwork", str(files["hypernetwork"])],
        "zkz": ["--model", str(files["base"]), "--embedding", str(files["textual_inversion"])],
    }
    drawn = {}
    for model, options in ways.items():
        parser = argparse.ArgumentParser()
        generate_options.add_arguments(parser)
        generate.run(parser.parse_args([*COMMON, *options, "--out", str(tmp_path / model)]))
        for seed in (0, 1):
            drawn[model] = pixels(compared / f"{model}_0_{seed}.png")
            assert np.array_equal(drawn[model], pixels(tmp_path / model / f"0_{seed}.png")), (model, seed)
    assert len({picture.tobytes() for picture in drawn.values()}) == len(ways)


def test_the_result_lists_models_and_pictures_without_folders(files, compared):
    found = json.loads((compared / "compare.json").read_text(encoding="utf-8"))
    name = files["checkpoint"].stem
    assert [model["name"] for model in found["models"]] == ["base", name, "cat", "cat-0.5", "hyper", "zkz"]
    assert [model["weight"] for model in found["models"]] == [None, None, None, 0.5, None, None]
    assert [(one["model"], one["seed"]) for one in found["pictures"][:7]] == [
        *((model["name"], 0) for model in found["models"]),
        ("base", 1),
    ]
    assert all((compared / one["file"]).is_file() for one in found["pictures"]) and len(found["pictures"]) == 12
    assert found["prompts"] == ["a zkz cat"] and found["seeds"] == [0, 1]
    assert str(compared.parent) not in json.dumps(found, ensure_ascii=False)
    with_lora = next(one for one in found["pictures"] if one["model"] == "cat-0.5")
    assert with_lora["parameters"].startswith("a zkz cat <lora:cat:0.5>\n")


def test_the_sheet_has_a_column_for_each_model(compared):
    with Image.open(compared / "sheet.png") as sheet:
        assert sheet.text["parameters"].startswith("a zkz cat\nSteps: 2, ")
        assert sheet.size == (260 + 6 * 204, 64 + 2 * 204)
        for column, name in {0: "base", 2: "cat"}.items():
            left = 260 + 204 * column
            with Image.open(compared / f"{name}_0_1.png") as picture:
                cell = sheet.crop((left, 268, left + 192, 460))
                assert np.array_equal(np.asarray(cell), np.asarray(picture.resize((192, 192)))), name


def test_nothing_of_an_earlier_comparison_is_replaced_unasked(files, compared):
    with pytest.raises(UserError) as caught:
        run(files, compared, "--model", str(files["lora"]))
    assert caught.value.problem.field == "out"


def test_a_file_leaves_no_trace_in_the_model(files):
    painter = load_painter(open_base(files["base"]), torch.device("cpu"))
    modules = [painter.unet, *painter.text.encoders]
    before = [{key: tensor.clone() for key, tensor in module.state_dict().items()} for module in modules]
    for kind in ("lora", "textual_inversion", "hypernetwork"):
        with put_into(painter, kind, files[kind], 0.7):
            pass
    assert all(
        torch.equal(tensor, module.state_dict()[key])
        for module, tensors in zip(modules, before, strict=True)
        for key, tensor in tensors.items()
    )
    assert not painter.text.embeddings.words
    assert not any(module._forward_pre_hooks for module in painter.unet.modules())


def test_what_has_no_weight_or_does_not_fit_is_named(files, tmp_path, capfd):
    with pytest.raises(UserError) as caught:
        run(files, tmp_path, "--model", f"{files['checkpoint']}:0.5")
    assert caught.value.problem.code == "command.no_weight"
    save_file({"anything": torch.randn(2, 48)}, tmp_path / "wide.safetensors")
    with pytest.raises(UserError) as caught:
        run(files, tmp_path, "--model", str(tmp_path / "wide.safetensors"))
    assert caught.value.problem.field == "model" and "wide.safetensors" in str(caught.value)


def test_a_word_that_no_prompt_holds_is_told(files, tmp_path, capfd):
    (tmp_path / "unused.safetensors").write_bytes(files["textual_inversion"].read_bytes())
    run(files, tmp_path / "out", "--model", str(tmp_path / "unused.safetensors"))
    assert "no prompt contains 'unused'" in capfd.readouterr().err
