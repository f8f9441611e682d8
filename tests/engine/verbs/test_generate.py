"""The verb `generate`, from command line to pictures with the WebUI's text."""

from __future__ import annotations

import argparse

import numpy as np
import pytest
from PIL import Image

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.system.files import sha256_of
from dreambooth_ext.core.verbs.generate_options import add_arguments
from dreambooth_ext.engine import __main__ as engine
from dreambooth_ext.engine.verbs import generate
from tests import tiny


def draw(model, out, *extra: str):
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    common = ["--steps", "2", "--device", "cpu", "--prompt", "a cat", "--model", str(model), "--out", str(out)]
    return generate.run(parser.parse_args([*common, *extra]))


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_pictures_are_named_by_prompt_and_seed(tmp_path, family, capfd):
    model = tiny.single_file(tmp_path, family)
    out = tmp_path / "мои картинки"
    out.mkdir()
    (out / "note.txt").write_text("mine", encoding="utf-8")
    paths = draw(model, out, "--prompt", "a dog, red", "--num-images", "3", "--seed", "5", "--batch-size", "2",
                 *(["--width", "64", "--height", "64"] if family == "sdxl" else []))  # fmt: skip
    assert [p.name for p in paths] == ["0_5.png", "0_6.png", "0_7.png", "1_5.png", "1_6.png", "1_7.png"]
    assert sorted(p.name for p in out.iterdir()) == [*(p.name for p in paths), "note.txt"]
    picture = Image.open(out / "1_6.png")
    assert picture.size == (64, 64)
    text = picture.text["parameters"]
    assert text.startswith("a dog, red\nSteps: 2, Sampler: DPM++ 2M, Schedule type: Karras, CFG scale: 7.5, Seed: 6,")
    assert f"Model hash: {sha256_of(model)[:10]}, Model: tiny-{family}," in text
    assert "Drawing 6/6" in capfd.readouterr().err


def test_a_picture_depends_on_its_seed_and_not_on_its_batch(tmp_path):
    model = tiny.single_file(tmp_path)
    draw(model, tmp_path / "a", "--num-images", "3", "--batch-size", "3", "--sampler", "Euler a")
    draw(model, tmp_path / "b", "--seed", "2", "--sampler", "Euler a")
    one, other = (np.asarray(Image.open(tmp_path / x / "0_2.png")).astype(int) for x in "ab")
    assert np.abs(one - other).max() <= 1


def test_inpainting_models_folders_and_odd_sizes(tmp_path):
    model = tiny.diffusers_folder(tmp_path, inpainting=True)
    (path,) = draw(model, tmp_path / "out", "--width", "72", "--height", "64", "--clip-skip", "2",
                   "--negative-prompt", "dog")  # fmt: skip
    picture = Image.open(path)
    assert picture.size == (72, 64)
    assert "\nNegative prompt: dog\n" in picture.text["parameters"]
    assert "Clip skip: 2" in picture.text["parameters"] and "hash" not in picture.text["parameters"]


@pytest.mark.parametrize("option, value, field", [
    ("--width", "100", "width"),
    ("--device", "cuda:99", "device"),
    ("--device", "nonsense", "device"),
])  # fmt: skip
def test_bad_values_are_named(tmp_path, option, value, field):
    with pytest.raises(UserError) as error:
        draw(tmp_path / "missing.safetensors", tmp_path, option, value)
    assert error.value.problem.field == field
    with pytest.raises(UserError) as error:
        draw(tmp_path / "missing.safetensors", tmp_path)
    assert error.value.problem.field == "model"


def test_ctrl_c_says_what_is_drawn_and_ends_with_130(tmp_path, monkeypatch, capfd):
    model, out, save = tiny.single_file(tmp_path), tmp_path / "out", generate.save_png

    def interrupted(picture, path, parameters):
        if path.name == "0_2.png":
            raise KeyboardInterrupt
        save(picture, path, parameters)

    monkeypatch.setattr(generate, "save_png", interrupted)
    argv = ["generate", "--model", model, "--prompt", "x", "--out", out, "--num-images", "3", "--seed", "1"]
    assert engine.main([*map(str, argv), "--steps", "2", "--device", "cpu"]) == engine.STOPPED == 130
    said = capfd.readouterr().err
    assert said.splitlines()[-1] == f"stopped; 1 picture is in {out}" and "Traceback" not in said
    assert [path.name for path in out.iterdir()] == ["0_1.png"]


def test_an_interrupt_that_a_library_made_another_error_of_is_one_still(monkeypatch, capfd):
    def broken(argv):
        engine.interrupts.append(2)
        raise ImportError("numpy failed to import")

    monkeypatch.setattr(engine, "interrupts", [])
    monkeypatch.setattr(engine, "carried_out", broken)
    assert engine.main(["convert"]) == 130 and capfd.readouterr().err == "stopped.\n"
