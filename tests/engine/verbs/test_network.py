"""The verb `network`: into models, out of models, and to other ranks."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.facts.lora_types import LORA_TYPES
from dreambooth_ext.core.verbs import network_options
from dreambooth_ext.engine.formats import lora_file
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.networks import lora_network
from dreambooth_ext.engine.verbs import network
from tests import adapters, tiny
from tests.engine.methods.test_lora import written
from tests.seldom import seldom


def parsed(*given: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    network_options.add_arguments(parser)
    return parser.parse_args([*map(str, given), "--device", "cpu", "--precision", "fp32"])


def run(*given: object) -> Path:
    arguments = parsed(*given)
    assert not network_options.problems(arguments), network_options.problems(arguments)
    return network.run(arguments)[0]


def parts(path: Path, component: str = "unet") -> dict[str, torch.Tensor]:
    return dict(adapters.models(open_base(path))[component].state_dict())


@pytest.mark.parametrize(
    ("family", "kind"),
    seldom(
        [*(("sd1", kind) for kind in LORA_TYPES), ("sd2", "lora"), ("sdxl", "lora"), ("sdxl", "dora")],
        but=[("sd1", "dora"), ("sd1", "loha"), ("sdxl", "lora")],
    ),
)
def test_merged_extracted_and_merged_again_is_the_same(tmp_path, family, kind):
    """LoRAs of full rank lose nothing, so that all three have to agree."""
    base = tiny.single_file(tmp_path, family)
    lora = written(tmp_path, open_base(base), kind)
    tuned = run("merge", "--model", base, "--lora", f"{lora}:0.5", "--out", tmp_path / "tuned.safetensors")
    models = adapters.models(open_base(base))
    found = lora_file.read(lora, models, "lora")
    for component, made in found.items():
        lora_network.merge(models[component], made, 0.5)
        torch.testing.assert_close(parts(tuned, component), dict(models[component].state_dict()))
    ranks = ("--rank", 512, "--conv-rank", 512)
    out = run("extract", "--model", base, "--tuned", tuned, *ranks, "--out", tmp_path / "extracted.safetensors")
    again = run("merge", "--model", base, "--lora", out, "--out", tmp_path / "again.safetensors")
    for component in found:
        torch.testing.assert_close(parts(again, component), parts(tuned, component), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", seldom(["lora", "loha", "oft"], but=["lora"]))
def test_resized_is_the_nearest_of_that_rank(tmp_path, kind):
    base = tiny.single_file(tmp_path)
    lora = written(tmp_path, open_base(base), kind)
    models = adapters.models(open_base(base))
    before = lora_file.read(lora, models, "lora")
    out = run(
        "resize", "--model", base, "--lora", lora, "--rank", 3, "--conv-rank", 2, "--out", tmp_path / "r.safetensors"
    )
    after = lora_file.read(out, models, "lora")
    assert {c: list(made) for c, made in after.items()} == {c: list(made) for c, made in before.items()}
    for component, made in after.items():
        for layer, adapter in made.items():
            weight = models[component].get_submodule(layer).weight
            wide = lora_network.is_wide(weight.shape)
            assert adapter.rank == (2 if wide else 3)
            exact = before[component][layer].change(weight).detach().flatten(1)
            left = torch.linalg.svdvals(exact)[adapter.rank :].square().sum()  # what no LoRA of the rank can have
            lost = (adapter.change(weight).detach().flatten(1) - exact).square().sum()
            torch.testing.assert_close(lost, left, rtol=1e-2, atol=1e-5)


def test_a_part_that_was_not_trained_is_left_out(tmp_path):
    base = tiny.single_file(tmp_path)
    everything = load_file(written(tmp_path, open_base(base)))
    lora = tmp_path / "unet.safetensors"
    save_file({key: tensor for key, tensor in everything.items() if key.startswith("lora_unet")}, lora)
    tuned = run("merge", "--model", base, "--lora", lora, "--out", tmp_path / "tuned.safetensors")
    out = run("extract", "--model", base, "--tuned", tuned, "--rank", 4, "--out", tmp_path / "out.safetensors")
    keys = load_file(out).keys()
    assert keys and all(key.startswith("lora_unet") and "resnets" not in key for key in keys)


def test_what_does_not_go_together_is_refused(tmp_path):
    base, other = tiny.single_file(tmp_path), tiny.single_file(tmp_path, "sd2")
    common = ("--model", base, "--out", tmp_path / "out.safetensors", "--rank", 2)
    with pytest.raises(UserError, match="differ in their layers"):
        run("extract", *common, "--tuned", other)
    with pytest.raises(UserError, match="equal to its base"):
        run("extract", *common, "--tuned", base)
    small, huge, nothing = (
        written(tmp_path, open_base(base)),
        tmp_path / "huge.safetensors",
        tmp_path / "0.safetensors",
    )
    save_file({key: tensor * 1e25 for key, tensor in load_file(small).items()}, huge)
    save_file({key: tensor * 0 for key, tensor in load_file(small).items()}, nothing)
    with pytest.raises(UserError, match=r"^lora: with these weights, .* becomes infinite or not a number"):
        run("merge", *common[:-2], "--lora", huge)
    with pytest.raises(UserError, match=r"^lora: the result is equal to its base"):
        run("merge", *common[:-2], "--lora", nothing)
    lora = written(tmp_path, open_base(other))
    with pytest.raises(UserError, match=r"does not fit this model"):
        run("resize", *common, "--lora", lora)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        (("merge",), "lora"),
        (("extract", "--rank", 4), "tuned"),
        (("extract", "--tuned", "x"), "rank"),
        (("resize", "--rank", 4, "--lora", "nowhere.safetensors"), "lora"),
        (("merge", "--rank", 4, "--lora", __file__), "rank"),
        (("resize", "--rank", 0, "--lora", __file__), "rank"),
        (("resize", "--rank", 4, "--lora", __file__, "--lora", __file__), "lora"),
        (("resize", "--rank", 4, "--lora", __file__, "--out", "x.ckpt"), "out"),
    ],
)
def test_wrong_options_are_named(given, field):
    options = given if "--out" in given else (*given, "--out", "x.safetensors")
    assert field in [problem.field for problem in network_options.problems(parsed(*options, "--model", "m"))]
