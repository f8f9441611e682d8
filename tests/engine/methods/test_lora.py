"""LoRA runs: what learns and what stays, resuming, files of this and other tools, and what the settings do."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import SETTINGS
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.facts.lora_types import LORA_TYPES
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import plan, worker
from dreambooth_ext.engine.formats import lora_file
from dreambooth_ext.engine.formats.lora_file import file_names, layers_of
from dreambooth_ext.engine.methods.lora import LoRATraining
from dreambooth_ext.engine.models.base_model import LatentBase, open_base
from dreambooth_ext.engine.networks import lora_network
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.engine.training.loop import Loop
from tests import adapters, tiny, training
from tests.engine.worker.test_resume import PRIOR, check
from tests.seldom import seldom
from tests.training import Trainer

LORA = {"method": "lora", "rank": 4, "target_modules": adapters.ALL, "learning_rate": 1e-2}
TEXT = {"text_encoder_steps": 4, "text_encoder_lr": 1e-2}


def written(folder: Path, base: LatentBase, kind: str = "lora", **settings) -> Path:
    """A LoRA file for a base, with random numbers in it."""
    models = adapters.models(base)
    names = file_names(layers_of(models), models["unet"].config, base.family)
    path = folder / f"{kind}.safetensors"
    save_file(lora_file.state(adapters.made(base, kind, **settings), names, torch.float32), path)
    return path


# --- what learns


def gradients_of(trainer: Trainer, monkeypatch, **settings) -> dict[str, Tensor]:
    """Every adapter's gradients in the first step of a run that goes on from a LoRA without zeros."""
    found = {}

    def kept(loop: Loop, loss: float) -> None:
        for component, made in loop.method.network.items():
            for layer, adapter in made.items():
                for name, parameter in adapter.named_parameters():
                    assert parameter.dtype == torch.float32
                    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
                    found[f"{component}.{layer}.{name}"] = gradient
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_optimise", kept)
        run = trainer.create(method="lora", text_encoder_steps=2, text_encoder_lr=1e-3, **settings)
        with pytest.raises(KeyboardInterrupt):
            training.go_on(run)
    return found


@pytest.mark.parametrize(
    ("family", "kind"),
    seldom(
        [*(("sd1", kind) for kind in LORA_TYPES), ("sd2", "lora"), ("sdxl", "lora"), ("sdxl", "locon")],
        but=[("sd1", "lokr"), ("sd1", "oft"), ("sdxl", "lora")],
    ),
)
def test_gradients_reach_every_adapter_also_with_checkpointing(tmp_path, monkeypatch, family, kind):
    trainer = Trainer(tmp_path, family)
    weights = str(written(tmp_path, open_base(trainer.base), kind))
    plain = gradients_of(trainer, monkeypatch, network_weights=weights)
    last = "text_encoder.text_model.encoder.layers.2."  # SDXL takes the first encoder's last layer but one
    unused = {key for key, gradient in plain.items() if not gradient.any()}
    assert unused == ({key for key in plain if key.startswith(last)} if family == "sdxl" else set())
    assert {key.split(".")[0] for key in plain} == set(open_base(trainer.base).family.components) - {"vae"}
    checkpointed = gradients_of(trainer, monkeypatch, network_weights=weights, gradient_checkpointing=True)
    assert checkpointed.keys() == plain.keys()
    for key, gradient in plain.items():
        torch.testing.assert_close(checkpointed[key], gradient, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("kind", seldom(LORA_TYPES, but=["lora", "dora"]))
def test_gradients_in_bf16_are_near_those_in_float32(tmp_path, monkeypatch, kind):
    trainer = Trainer(tmp_path)
    weights = str(written(tmp_path, open_base(trainer.base), kind))
    exact = gradients_of(trainer, monkeypatch, network_weights=weights)
    rounded = gradients_of(trainer, monkeypatch, network_weights=weights, mixed_precision="bf16")
    one, other = (torch.cat([grads[key].flatten() for key in exact]) for grads in (exact, rounded))
    assert torch.nn.functional.cosine_similarity(one, other, dim=0) > 0.98
    assert all(rounded[key].any() for key in exact)


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_the_model_itself_stays_as_it_is(tmp_path, methods, family):
    trainer = Trainer(tmp_path, family)
    run = trainer.train(**LORA, **TEXT, max_train_steps=3)  # the text encoders learn to the end
    before = adapters.models(open_base(trainer.base))
    text = methods[0].backbone.prompts.text
    after = {"unet": methods[0].backbone.unet, **dict(zip(lora_network.TEXT_PARTS, text.encoders, strict=False))}
    for name, module in after.items():
        assert training.difference(dict(before[name].state_dict()), dict(module.state_dict())) == ""
        assert not any(parameter.requires_grad for parameter in module.parameters())
    learned = training.weights(run)
    assert learned and all(".lora_" in key or key.endswith(".alpha") for key in learned)
    assert sum(tensor.numel() for tensor in learned.values()) < sum(p.numel() for p in before["unet"].parameters()) / 4


def test_in_half_precision_only_layers_are_halved(trainer, methods):
    trainer.train(**LORA, max_train_steps=1, mixed_precision="bf16")
    exact = open_base(trainer.base).unet()
    for name, module in methods[0].backbone.unet.named_modules():
        if getattr(module, "weight", None) is not None:
            is_layer = isinstance(module, torch.nn.Linear | torch.nn.Conv2d)
            wanted = exact.get_submodule(name).weight.to(torch.bfloat16 if is_layer else torch.float32)
            assert module.weight.dtype == wanted.dtype and torch.equal(module.weight, wanted)


def test_the_text_encoder_learns_for_its_steps_and_its_part_stays_in_the_file(trainer):
    run = trainer.train(**LORA, text_encoder_steps=2, checkpointing_steps=1, save_intermediate_models=False)
    after = {step: training.weights(run, step) for step in (1, 2, 4)}
    text = [key for key in after[1] if key.startswith("text_encoder/") and "alpha" not in key]
    assert any(not torch.equal(after[1][key], after[2][key]) for key in text)
    assert all(torch.equal(after[2][key], after[4][key]) for key in text)
    assert [set(event["lr"]) for event in training.events(run, "step")] == [{"unet", "text_encoder"}] * 2 + [
        {"unet"}
    ] * 2
    assert any(key.startswith("lora_te_") for key in training.artifact(run))


def test_class_pictures_count_as_in_dreambooth(trainer):
    with_prior = trainer.train(**LORA, **PRIOR, max_train_steps=1)
    whole = trainer.train(method="dreambooth", **PRIOR, max_train_steps=1)
    assert training.losses(with_prior) == pytest.approx(training.losses(whole), rel=1e-5)  # before the first step
    assert training.losses(with_prior) != training.losses(trainer.train(**LORA, max_train_steps=1))


@pytest.mark.parametrize("family", seldom(["sd1", "sdxl"], but=["sd1"]))
def test_previews_of_a_prompt_are_the_same_while_the_text_encoder_learns_with_dropout(tmp_path, family):
    trainer = Trainer(tmp_path, family)
    prompt = "a photo of sksper person"
    run = trainer.train(
        **LORA,
        network_dropout=0.5,
        text_encoder_steps=4,
        validation_prompts=[prompt, prompt],
        validation_steps=2,
        validation_negative_prompt="ugly",
    )
    drawn = [path.read_bytes() for path in sorted(run.samples.glob("*/*.png"))]
    assert len(drawn) == 3 * 2 and drawn[::2] == drawn[1::2] and len(set(drawn)) == 3
    longer = trainer.train(**LORA, network_dropout=0.5, text_encoder_steps=4)  # drawing changes nothing
    assert training.losses(run) == training.losses(longer)


# --- resuming


@pytest.mark.parametrize("kind", seldom(LORA_TYPES, but=["lora", "oft"]))
def test_it_goes_on_to_the_same_bits(trainer, kind):
    check(trainer, (1, 3), **LORA, text_encoder_steps=2, network_type=kind, network_dropout=0.2)


def test_it_goes_on_with_everything_at_once(tmp_path):
    trainer = Trainer(tmp_path, "sdxl")
    more = {"use_ema": True, "loraplus_lr_ratio": 4.0, "use_rslora": True, "gradient_checkpointing": True}
    check(trainer, (1, 2), **LORA, **PRIOR, **more, text_encoder_steps=2, max_train_steps=3)


def test_a_run_goes_on_from_its_own_state_and_not_from_the_file_it_began_with(tmp_path, trainer):
    path = written(tmp_path, open_base(trainer.base), "loha")
    settings = {"method": "lora", "network_weights": str(path)}
    longer = trainer.train(**settings, max_train_steps=3)
    run = trainer.train(**settings, max_train_steps=2)
    path.write_bytes(written(tmp_path, open_base(trainer.base), "lora").read_bytes())  # a new model of the same name
    assert training.go_on(run, total=3) == worker.DONE, training.log(run)
    training.assert_same_run(longer, run)


# --- files


@pytest.mark.parametrize("kind", LORA_TYPES)
@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_a_file_reads_back_as_it_was_written(tmp_path, family, kind):
    base = open_base(tiny.single_file(tmp_path, family))
    made, models = adapters.made(base, kind), adapters.models(base)
    names = file_names(layers_of(models), models["unet"].config, base.family)
    path = written(tmp_path, base, kind)
    found = lora_file.read(path, models, "lora")
    assert {name: list(layers) for name, layers in found.items()} == {
        name: list(layers) for name, layers in made.items()
    }
    assert training.difference(lora_file.state(found, names, torch.float32), load_file(path)) == ""


def test_names_are_kohyas(tmp_path, monkeypatch):
    """By the names of well-known files: SD1 and SD2 after diffusers, SDXL after the single file."""
    for family in ("sd1", "sd2"):
        monkeypatch.setitem(tiny.UNET[family], "layers_per_block", 2)
    found = {}
    for family in ("sd1", "sd2", "sdxl"):
        base = open_base(tiny.single_file(tmp_path, family))
        models = adapters.models(base)
        found[family] = set(file_names(layers_of(models), models["unet"].config, base.family).values())
    for family in ("sd1", "sd2"):
        assert found[family] >= {
            "lora_unet_down_blocks_0_attentions_1_transformer_blocks_0_attn2_to_k",
            "lora_unet_mid_block_attentions_0_proj_in",
            "lora_unet_up_blocks_1_resnets_2_conv_shortcut",
            "lora_te_text_model_encoder_layers_2_self_attn_out_proj",
        }
    assert found["sdxl"] >= {
        "lora_unet_input_blocks_3_1_transformer_blocks_1_ff_net_0_proj",
        "lora_unet_middle_block_1_transformer_blocks_0_attn1_to_out_0",
        "lora_unet_output_blocks_1_2_conv",
        "lora_te1_text_model_encoder_layers_0_mlp_fc1",
        "lora_te2_text_model_encoder_layers_1_self_attn_q_proj",
    }


@pytest.mark.parametrize("style", ["diffusers", "single file", "peft"])
def test_names_of_other_tools_are_read(tmp_path, style):
    base = open_base(tiny.single_file(tmp_path))
    models = adapters.models(base)
    single = lora_file.single_file_names(models["unet"].config)
    state, wanted = {}, adapters.made(base, "lora", alpha=4.0)
    for component, made in wanted.items():
        for layer, adapter in made.items():
            start = {"unet": "lora_unet", "text_encoder": "lora_te1"}[component]
            name = single[layer] if style == "single file" and component == "unet" else layer
            for part, tensor in adapter.tensors().items():
                key = f"{start}_{name.replace('.', '_')}.{part}"
                if style == "peft":  # alpha is the rank where it is not said
                    kind = {"lora_up.weight": "lora_B", "lora_down.weight": "lora_A", "alpha": None}[part]
                    key = kind and f"{component}.{layer}.{kind}.weight"
                if key:
                    state[key] = tensor
    save_file(state, tmp_path / "other.safetensors")
    found = lora_file.read(tmp_path / "other.safetensors", models, "lora")
    for component, made in wanted.items():
        for layer, adapter in made.items():
            weight = models[component].get_submodule(layer).weight
            torch.testing.assert_close(found[component][layer].change(weight), adapter.change(weight))


def refused(path: Path, base: LatentBase) -> str:
    with pytest.raises(UserError) as error:
        lora_file.read(path, adapters.models(base), "lora")
    return str(error.value.problem)


def test_files_that_do_not_fit_are_refused_with_the_reason(tmp_path):
    base = open_base(tiny.single_file(tmp_path))
    layer = "lora_unet_mid_block_attentions_0_proj_in"
    down, up = torch.ones(2, 64, 1, 1), torch.ones(64, 2, 1, 1)

    def file(**parts: Tensor) -> Path:
        path = tmp_path / "bad.safetensors"
        save_file({f"{layer}.{part}": tensor for part, tensor in parts.items()}, path)
        return path

    assert "has another size" in refused(file(**{"lora_up.weight": up, "lora_down.weight": torch.ones(2, 32)}), base)
    assert "of an unknown type" in refused(file(**{"lora_up.weight": up}), base)
    assert "on_input" in refused(file(weight=torch.ones(64), on_input=torch.tensor(True)), base)
    assert "invalid numbers" in refused(file(**{"lora_up.weight": up * torch.nan, "lora_down.weight": down}), base)
    save_file({"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": up}, tmp_path / "flux.safetensors")
    assert "changes nothing in this model" in refused(tmp_path / "flux.safetensors", base)


def test_the_file_tells_webuis_what_it_is(trainer):
    run = trainer.train(**LORA, network_type="locon", alpha=2, conv_rank=2, max_train_steps=2, save_precision="fp16")
    (event,) = run.artifact_events()
    assert event["kind"] == "lora" and event["file"] == "taught.safetensors"
    from safetensors import safe_open

    with safe_open(str(run.artifacts / event["file"]), "pt") as file:
        said = file.metadata()
        kinds = {(key.partition(".")[2] == "alpha", file.get_tensor(key).dtype) for key in file.keys()}  # noqa: SIM118
    assert kinds == {(False, torch.float16), (True, torch.float32)}
    assert said["ss_base_model_version"] == "sd_v1" and said["ss_v2"] == "False"
    assert said["modelspec.architecture"] == "stable-diffusion-v1/lora"
    assert (said["ss_network_module"], said["ss_network_dim"], said["ss_network_alpha"]) == (
        "networks.lora",
        "4",
        "2.0",
    )
    arguments = json.loads(said["ss_network_args"])
    assert arguments["conv_dim"] == "2" and arguments["conv_alpha"] == "1.0"
    assert json.loads(said["ss_tag_frequency"]) == {"pictures": {"a photo of sksper person": 3}}
    assert json.loads(said["ss_dataset_dirs"]) == {"pictures": {"n_repeats": 1, "img_count": 3}}
    assert json.loads(said["ss_bucket_info"])["buckets"]["0"] == {"resolution": [64, 64], "count": 3}
    sidecar = json.loads((run.artifacts / "taught.json").read_text(encoding="utf-8"))
    assert sidecar["sd version"] == "SD1" and sidecar["activation text"] == "a photo of sksper person"


def test_a_lora_that_learned_nothing_is_not_written(trainer):
    run = trainer.train(
        **{**LORA, "learning_rate": 1e-12}, max_train_steps=1, save_precision="fp16", ends=worker.FAILED
    )
    assert "equals its base model" in training.log(run) and not list(run.artifacts.iterdir())


@pytest.mark.parametrize("kind", seldom(LORA_TYPES, but=["lora", "dora"]))
def test_generate_draws_what_the_run_draws(trainer, kind):
    """Previews, with adapters beside the layers, against the exported file merged into the base."""
    from PIL import Image

    run = trainer.train(
        **LORA,
        network_type=kind,
        text_encoder_steps=2,
        validation_prompts=["a photo of sksper person"],
        validation_steps=4,
        validation_inference_steps=3,
    )
    (preview,) = run.samples.glob("4/*.png")
    painter = load_painter(
        open_base(trainer.base), torch.device("cpu"), None, [(run.artifacts / "taught.safetensors", 1)]
    )
    common = {"seeds": [0], "width": 64, "height": 64, "steps": 3, "cfg_scale": 7.5}
    (drawn,) = painter.paint("a photo of sksper person", **common)
    (plain,) = load_painter(open_base(trainer.base), torch.device("cpu")).paint("a photo of sksper person", **common)

    def difference(picture) -> float:
        with Image.open(preview) as shown:
            one, other = (torch.frombuffer(bytearray(p.tobytes()), dtype=torch.uint8).float() for p in (shown, picture))
        return float((one - other).abs().mean())

    assert difference(drawn) < 0.05 and difference(plain) > 1


# --- settings


def test_a_lora_goes_on_from_a_file_and_keeps_its_type(tmp_path, trainer, methods):
    path = written(tmp_path, open_base(trainer.base), "lokr", rank=2)
    run = trainer.train(method="lora", network_weights=str(path), text_encoder_steps=2, max_train_steps=2)
    before, after = load_file(path), training.artifact(run)
    assert after.keys() == before.keys() and any(not torch.equal(before[key], after[key]) for key in before)
    plain = trainer.train(**LORA, max_train_steps=1)
    assert training.losses(run)[0] != training.losses(plain)[0]


def test_blocks_may_have_ranks_of_their_own(trainer, methods):
    ranks = {"unet": 0, "mid_block": 2, "mid_block.attentions.0.transformer_blocks.0.attn1": 8, "text_encoder": 3}
    trainer.train(**LORA, **TEXT, block_ranks=ranks, max_train_steps=1)
    found = {c: {name: a.rank for name, a in made.items()} for c, made in methods[0].network.items()}
    assert set(found["text_encoder"].values()) == {3}
    assert {name.split(".")[0] for name in found["unet"]} == {"mid_block"}
    assert {rank for name, rank in found["unet"].items() if "attn1" in name} == {8}
    assert {rank for name, rank in found["unet"].items() if "attn1" not in name} == {2}


def test_convolutions_and_text_encoders_may_have_ranks_of_their_own(trainer, methods):
    trainer.train(**{**LORA, "rank": 4}, **TEXT, conv_rank=2, text_encoder_rank=3, alpha=2, max_train_steps=1)
    made = methods[0].network
    wide = {a.rank for a in made["unet"].values() if a.down.dim() == 4 and a.down.shape[-1] == 3}
    assert wide == {2} and {a.rank for a in made["text_encoder"].values()} == {3}
    assert {a.scale for layers in made.values() for a in layers.values()} == {0.5}


def test_lora_plus_gives_the_up_matrices_a_higher_rate(trainer):
    run = trainer.train(**{**LORA, "learning_rate": "1e-3:1, 1e-4"}, **TEXT, loraplus_lr_ratio=16, max_train_steps=2)
    first, second = (event["lr"] for event in training.events(run, "step"))
    assert first == pytest.approx({"unet": 1e-3, "unet_up": 1.6e-2, "text_encoder": 1e-2, "text_encoder_up": 0.16})
    assert second["unet_up"] == pytest.approx(1.6e-3)


def test_the_plan_counts_what_learns(tmp_path, methods):
    for kind in LORA_TYPES:
        trainer = Trainer(tmp_path / kind, "sdxl") if (tmp_path / kind).mkdir() is None else None
        config = trainer.config(**LORA, **TEXT, network_type=kind)
        with_base = open_base(trainer.base)
        part = LoRATraining.share(plan.resolve(config, with_base), with_base)
        trainer.train(**LORA, **TEXT, network_type=kind, max_train_steps=1)
        counts = {
            c: sum(p.numel() for a in made.values() for p in a.parameters()) for c, made in methods[-1].network.items()
        }
        assert part.unet == counts["unet"] and part.texts == counts["text_encoder"] + counts["text_encoder_2"]


def problems_of(trainer: Trainer, **settings) -> dict[str, str]:
    config, unreadable = parse({**trainer.settings, "method": "lora", **settings})
    completed, _, _, found, _ = config_checks.check(config)
    if not found and not unreadable:
        with_base = open_base(trainer.base)
        found = plan.problems(plan.resolve(completed, with_base), with_base)
    return {problem.field: problem.message for problem in [*unreadable, *found]}


WRONG = {
    "target_modules": ({"target_modules": ["attentions"]}, "not known"),
    "block_ranks": ({"block_ranks": {"mid_block": -1}}, "cannot be -1"),
    "network_type": ({"network_type": "locon", "target_modules": ["attention"]}, "left out"),
    "conv_rank": ({"conv_rank": 4}, "no convolutions"),
    "text_encoder_rank": ({"text_encoder_rank": 4}, "text_encoder_steps is 0"),
    "lokr_factor": ({"lokr_factor": 4}, "LoRA does not use it"),
    "loraplus_lr_ratio": ({"network_type": "lokr", "loraplus_lr_ratio": 4}, "no up matrix"),
    "alpha": ({"network_type": "oft", "alpha": 4}, "OFT has no alpha"),
    "use_rslora": ({"network_type": "oft", "use_rslora": True}, "no alpha"),
    "network_weights": ({"network_weights": "nowhere.safetensors"}, "no LoRA file"),
    "save_format": ({"save_format": "ckpt"}, "LoRA does not use this setting"),
}


@pytest.mark.parametrize("field", WRONG)
def test_settings_that_cannot_be_are_named(trainer, field):
    settings, message = WRONG[field]
    assert message in problems_of(trainer, **settings)[field]


def test_settings_that_do_not_go_with_the_base_are_named(tmp_path, trainer):
    assert "no block 'down_blocks.7'" in problems_of(trainer, block_ranks={"down_blocks.7": 4})["block_ranks"]
    assert "no layer is left" in problems_of(trainer, block_ranks={"unet": 0})["target_modules"]
    wrong = problems_of(trainer, target_modules=["convolutions"], text_encoder_steps=2)
    assert "none of the chosen layers" in wrong["text_encoder_steps"]
    path = tmp_path / "unet.safetensors"
    everything = load_file(written(tmp_path, open_base(trainer.base)))
    save_file({key: tensor for key, tensor in everything.items() if key.startswith("lora_unet")}, path)
    assert problems_of(trainer, network_weights=str(path)) == {}
    wrong = problems_of(trainer, network_weights=str(path), text_encoder_steps=2)
    assert "holds nothing for the text encoder" in wrong["text_encoder_steps"]
    assert set(problems_of(trainer, network_weights=str(path), rank=4, use_rslora=True)) == {"rank", "use_rslora"}


@pytest.mark.parametrize(("kind", "fields"), [("loha", {"loraplus_lr_ratio"}), ("lora", set())])
def test_a_higher_rate_of_up_matrices_needs_some_in_the_file(trainer, kind, fields):
    run = trainer.train(method="lora", network_type=kind, rank=2, max_train_steps=1)
    path = run.artifacts / "taught.safetensors"
    assert set(problems_of(trainer, network_weights=str(path), loraplus_lr_ratio=4)) == fields


def test_what_is_left_out_comes_from_the_guide(trainer):
    config = config_checks.check(parse({**trainer.settings, "method": "lora", "learning_rate": None})[0])[0]
    assert (config.rank, config.alpha, config.target_modules) == (16, 16.0, ["attention", "feed_forward"])
    assert config.learning_rate == 1e-4 and SETTINGS["rank"].methods == ("lora",)


def test_a_run_without_text_encoder_takes_none_along(trainer):
    run: Run = trainer.train(**LORA, max_train_steps=1)
    assert all(key.startswith("lora_unet_") for key in training.artifact(run))
