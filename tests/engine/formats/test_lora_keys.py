"""LoRA files of other tools: read as they are meant by every verb, or refused by every verb with the same true reason.

What they mean is computed here from the papers' formulas alone, in float64: W + alpha / rank * up @ down; of a DoRA
each output's row of that, made as long as the magnitude says.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.deep_check import inspect
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.engine.tensors.tensor_file import save_tensors
from tests import adapters, tiny, training
from tests.engine.methods import test_lora
from tests.engine.verbs import test_network
from tests.training import artifact

RANK = 2
BLOCK = "mid_block.attentions.0.transformer_blocks.0."
LAYERS = {  # by component: their names here and in a single file
    "unet": {
        BLOCK + "attn1.to_q": "middle_block.1.transformer_blocks.0.attn1.to_q",
        BLOCK + "attn2.to_out.0": "middle_block.1.transformer_blocks.0.attn2.to_out.0",
        BLOCK + "ff.net.0.proj": "middle_block.1.transformer_blocks.0.ff.net.0.proj",
        "mid_block.attentions.0.proj_in": "middle_block.1.proj_in",
        "mid_block.resnets.0.conv1": "middle_block.0.in_layers.2",
    },
    "text_encoder": {
        "text_model.encoder.layers.1.self_attn.q_proj": "",
        "text_model.encoder.layers.1.self_attn.out_proj": "",
        "text_model.encoder.layers.1.mlp.fc1": "",
    },
}
ATTENTION = ("to_q", "to_out.0", "q_proj", "out_proj")
Spelling = Callable[[str, str, str, str], str]  # component, layer, its name in a single file, part -> key
KOHYA = {"down": "lora_down.weight", "up": "lora_up.weight", "alpha": "alpha", "magnitude": "dora_scale"}
PEFT = {"down": "lora_A.weight", "up": "lora_B.weight", "magnitude": "lora_magnitude_vector"}


def peft(named: str = "", bare: bool = False) -> dict[str, str]:
    tail = "" if bare else ".weight"
    return {
        part: key + named + tail
        for part, key in (("down", "lora_A"), ("up", "lora_B"), ("magnitude", "lora_magnitude_vector"))
    }


def flat(start: dict[str, str], single: bool = False) -> Spelling:
    def spelled(component: str, layer: str, ldm: str, part: str) -> str:
        name = ldm if single and ldm else layer
        return f"{start[component]}_{name.replace('.', '_')}.{KOHYA[part]}"

    return spelled


def dotted(start: dict[str, str], parts: dict[str, str], single: bool = False) -> Spelling:
    def spelled(component: str, layer: str, ldm: str, part: str) -> str:
        return f"{start[component]}{ldm if single and ldm else layer}.{parts.get(part, part)}"

    return spelled


def processors(component: str, layer: str, ldm: str, part: str) -> str:
    """diffusers 0.12 to 0.17."""
    if component == "unet":
        head, _, last = layer.removesuffix(".0").rpartition(".")
        return f"unet.{head}.processor.{last}_lora.{part}" + (".weight" if part != "alpha" else "")
    head, _, last = layer.rpartition(".")
    return f"text_encoder.{head}.to_{last.removesuffix('_proj')}_lora.{part}.weight"


def old_text(component: str, layer: str, ldm: str, part: str) -> str:
    """diffusers 0.18 and later, from its scripts."""
    kind = "lora" if component == "unet" else "lora_linear_layer"
    return f"{component}.{layer}.{kind}.{part}.weight"


DOTS = {"unet": "unet.", "text_encoder": "text_encoder."}
ONLY = {"unet": "", "text_encoder": ""}
COMFY = {"unet": "diffusion_model.", "text_encoder": "text_encoders.clip_l.transformer."}
LORA = dict.fromkeys(("down", "up"))
LORAS = {part: f"lora.{part}.weight" for part in LORA}
# spelling: how it names, whether it says alpha, and whether it is a DoRA
SPELLINGS: dict[str, tuple[Spelling, bool, bool]] = {
    "kohya": (flat({"unet": "lora_unet", "text_encoder": "lora_te"}), True, False),
    "kohya, single file": (flat({"unet": "lora_unet", "text_encoder": "lora_te1"}, single=True), True, False),
    "LyCORIS": (flat({"unet": "lycoris", "text_encoder": "lora_te"}), True, False),
    "OneTrainer": (dotted({"unet": "unet.", "text_encoder": "clip_l."}, KOHYA), True, False),
    "ComfyUI": (dotted(COMFY, KOHYA, single=True), True, False),
    "ComfyUI, PEFT's": (dotted(COMFY, peft()), False, False),
    "diffusers, processors": (processors, False, False),
    "diffusers, scripts": (old_text, False, False),
    "diffusers, lora": (dotted(DOTS, LORAS), False, False),
    "PEFT": (dotted(DOTS, peft()), False, False),
    "PEFT with alpha": (dotted(DOTS, peft()), True, False),
    "PEFT, named": (dotted(DOTS, peft(".default")), False, False),
    "PEFT, wrapped": (dotted({k: f"base_model.model.{v}" for k, v in DOTS.items()}, peft()), False, False),
    "PEFT, wrapped and named": (dotted(dict.fromkeys(DOTS, "base_model.model."), peft(".default")), False, False),
    "PEFT, bare": (dotted(ONLY, peft(bare=True)), False, False),
    "kohya's DoRA": (flat({"unet": "lora_unet", "text_encoder": "lora_te"}), True, True),
    "PEFT's DoRA": (dotted(DOTS, peft()), False, True),
    "PEFT's DoRA, named": (dotted(DOTS, peft(".default")), False, True),
    "diffusers' DoRA": (dotted(DOTS, PEFT), False, True),
    "ai-toolkit's DoRA": (dotted(DOTS, {**KOHYA, "magnitude": "magnitude"}), True, True),
}


def lora(shape: torch.Size, seed: int) -> dict[str, Tensor]:
    randomness = torch.Generator().manual_seed(seed)
    ones = [1] * (len(shape) - 2)
    return {
        "down": torch.randn(RANK, *shape[1:], generator=randomness) * 0.2,
        "up": torch.randn(shape[0], RANK, *ones, generator=randomness) * 0.2,
        "alpha": torch.tensor(float(RANK)),
        "magnitude": 0.5 + torch.rand(shape[0], generator=randomness),
    }


def meant(weight: Tensor, parts: dict[str, Tensor], alpha: float = RANK) -> Tensor:
    """The layer's new weight, by the formulas."""
    rows = weight.double().flatten(1)
    rows = rows + alpha / RANK * (parts["up"].double().flatten(1) @ parts["down"].double().flatten(1))
    if "magnitude" in parts:
        rows = rows / rows.square().sum(1, keepdim=True).sqrt() * parts["magnitude"].double().reshape(-1, 1)
    return rows.reshape(weight.shape).float()


def shaped(magnitude: Tensor, key: str, dimensions: int) -> Tensor:
    """As the tools keep it: PEFT (1, out, 1, 1) of a convolution, kohya (out, 1, 1, 1)."""
    if "dora_scale" in key:
        return magnitude.reshape(-1, *[1] * (dimensions - 1))
    return magnitude[None, :, None, None] if dimensions == 4 and "lora_magnitude" in key else magnitude


def file_of(path: Path, base: Path, spelling: str, dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Write a LoRA, and give what the model's weights become with it."""
    spelled, says_alpha, is_dora = SPELLINGS[spelling]
    models, state, wanted = adapters.models(open_base(base)), {}, {}
    for component, layers in LAYERS.items():
        for seed, (layer, ldm) in enumerate(layers.items()):
            if spelling == "diffusers, processors" and not layer.endswith(ATTENTION):
                continue
            weight = models[component].get_submodule(layer).weight.detach()
            parts = {part: tensor.to(dtype).float() for part, tensor in lora(weight.shape, seed).items()}
            kept = [part for part in parts if (says_alpha or part != "alpha") and (is_dora or part != "magnitude")]
            for part in kept:
                key = spelled(component, layer, ldm, part)
                tensor = shaped(parts[part], key, weight.dim()) if part == "magnitude" else parts[part]
                state[key] = tensor.to(dtype).contiguous()
            wanted[f"{component}.{layer}"] = meant(weight, {part: parts[part] for part in ("up", "down", *kept)})
    save_file(state, path)
    return wanted


def compare(found: dict[str, torch.nn.Module], base: Path, wanted: dict[str, Tensor]) -> None:
    before = adapters.models(open_base(base))
    for component, module in before.items():
        for layer, kept in module.named_modules():
            if isinstance(getattr(kept, "weight", None), Tensor):
                weight = wanted.get(f"{component}.{layer}", kept.weight)
                torch.testing.assert_close(found[component].get_submodule(layer).weight, weight, rtol=1e-4, atol=1e-5)


def merged(base: Path, path: Path, out: Path) -> dict[str, torch.nn.Module]:
    tuned = test_network.run("merge", "--model", base, "--lora", path, "--out", out)
    return adapters.models(open_base(tuned))


# one of each way to name layers; what is written of it depends on nothing else
WRITTEN_ANEW = ["kohya, single file", "diffusers, processors", "PEFT with alpha", "kohya's DoRA", "PEFT's DoRA"]


TRAINER = {"method": "lora", "max_train_steps": 1, "learning_rate": 1e-9}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_verb_that_reads_takes_it_as_it_is_meant(tmp_path, shared_trainer, spelling):
    path, base = tmp_path / "чужая.safetensors", shared_trainer.base
    wanted = file_of(path, base, spelling)
    compare(merged(base, path, tmp_path / "merged.safetensors"), base, wanted)
    painter = load_painter(open_base(base), torch.device("cpu"), loras=[(path, 1.0)])
    compare({"unet": painter.unet, "text_encoder": painter.text.encoders[0]}, base, wanted)
    assert test_lora.problems_of(shared_trainer, network_weights=str(path)) == {}


@pytest.mark.parametrize("spelling", WRITTEN_ANEW)
def test_every_verb_that_writes_keeps_what_it_means(tmp_path, shared_trainer, spelling):
    path, base = tmp_path / "чужая.safetensors", shared_trainer.base
    wanted = file_of(path, base, spelling)
    rank = ("--rank", 512, "--out", tmp_path / "resized.safetensors")
    resized = test_network.run("resize", "--model", base, "--lora", path, *rank)
    compare(merged(base, resized, tmp_path / "merged2.safetensors"), base, wanted)
    run = shared_trainer.train(network_weights=str(path))
    compare(merged(base, run.artifacts / "taught.safetensors", tmp_path / "merged3.safetensors"), base, wanted)


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_verb_reads_fp8(tmp_path, shared_trainer, dtype):
    path, base = tmp_path / "fp8.safetensors", shared_trainer.base
    wanted = file_of(path, base, "kohya", dtype)
    compare(merged(base, path, tmp_path / "merged.safetensors"), base, wanted)
    run = shared_trainer.train(network_weights=str(path))
    assert any(key.startswith("lora_unet_") for key in artifact(run))


@pytest.mark.parametrize("family", ["sd2", "sdxl"])
def test_other_families_are_read_from_diffusers_and_peft(tmp_path, family):
    base = tiny.single_file(tmp_path, family)
    for start in ({"unet": "unet.", "text_encoder": "text_encoder."}, {"unet": "", "text_encoder": "clip_l."}):
        if family == "sd2" and "clip_l." in start.values():
            continue
        models, state, wanted = adapters.models(open_base(base)), {}, {}
        layers = [(name, layer) for name in models for layer in LAYERS.get(name, LAYERS["text_encoder"])]
        for component, layer in layers:
            weight = models[component].get_submodule(layer).weight.detach()
            parts = {part: lora(weight.shape, 1)[part] for part in ("down", "up", "magnitude")}
            first = start.get(component, "clip_g." if "clip_l." in start.values() else "text_encoder_2.")
            for part, key in peft().items():
                state[f"{first}{layer}.{key}"] = shaped(parts[part], key, weight.dim())
            wanted[f"{component}.{layer}"] = meant(weight, parts)
        save_file(state, tmp_path / "lora.safetensors")
        out = tmp_path / f"{len(start['unet'])}.safetensors"
        compare(merged(base, tmp_path / "lora.safetensors", out), base, wanted)


@pytest.mark.parametrize("beside", [True, False])
@pytest.mark.parametrize("rslora", [True, False])
def test_alpha_is_what_peft_says_of_it(tmp_path, shared_trainer, beside, rslora):
    layer = BLOCK + "attn1.to_q"
    weight = adapters.models(open_base(shared_trainer.base))["unet"].get_submodule(layer).weight.detach()
    parts = {part: lora(weight.shape, 1)[part] for part in ("down", "up")}
    said = {"r": RANK, "lora_alpha": 8, "use_rslora": rslora, "alpha_pattern": {"attn1.to_q": 6, "attn2.to_q": 1}}
    path = tmp_path / ("adapter_model.safetensors" if beside else "pytorch_lora_weights.safetensors")
    start = "base_model.model." if beside else "unet."
    state = {f"{start}{layer}.{peft()[part]}": tensor for part, tensor in parts.items()}
    about = {"lora_adapter_metadata": json.dumps({f"unet.{key}": value for key, value in said.items()})}
    save_tensors(state, path, {} if beside else about)
    if beside:
        (tmp_path / "adapter_config.json").write_text(json.dumps(said), encoding="utf-8")
    wanted = meant(weight, parts, 6 * RANK**0.5 if rslora else 6)
    compare(
        merged(shared_trainer.base, path, tmp_path / "m.safetensors"), shared_trainer.base, {f"unet.{layer}": wanted}
    )


def test_a_dora_along_the_outputs_is_told_to_stay_one(tmp_path, shared_trainer):
    """v1.10.1 takes it for one along the inputs."""
    for spelling, told in (("PEFT's DoRA", 1), ("PEFT", 0)):
        file_of(tmp_path / "lora.safetensors", shared_trainer.base, spelling)
        run = shared_trainer.train(network_weights=str(tmp_path / "lora.safetensors"))
        said = [event for event in training.events(run, "warning") if event["field"] == "network_weights"]
        assert len(said) == told and all(event["code"] == "weights.dora_outputs" for event in said)
        answer = inspect(run.config.as_dict(), tmp_path)
        assert sum(warning["code"] == "weights.dora_outputs" for warning in answer["warnings"]) == told


# --- what is not read


def key_of(part: str = "lora_down.weight", layer: str = "lora_unet_mid_block_attentions_0_proj_in") -> str:
    return f"{layer}.{part}"


DOWN, UP = torch.ones(2, 64, 1, 1), torch.ones(64, 2, 1, 1)
GOOD = {key_of(): DOWN, key_of("lora_up.weight"): UP}
STRANGE: dict[str, tuple[dict[str, Tensor], str]] = {
    "Flux": ({"transformer.single_transformer_blocks.0.attn.to_q.lora_A.weight": DOWN}, "Flux"),
    "Flux by kohya": ({"lora_unet_double_blocks_0_img_attn_qkv.lora_up.weight": UP}, "Flux"),
    "SD 3's third encoder": ({**GOOD, "lora_te3_encoder_block_0.lora_up.weight": UP}, "Flux, Stable Diffusion 3"),
    "another UNet": ({"lora_unet_down_blocks_7_attentions_0_proj_in.lora_up.weight": UP}, "another kind of model"),
    "half of another": ({**GOOD, "unet.down_blocks.7.attentions.0.proj_in.lora_A.weight": UP}, "kind of model"),
    "a spelling": ({"model_unet/mid_block/proj_in.lora_up.weight": UP}, "names layers in an unknown way"),
    "half of a spelling": ({**GOOD, "te.text_model.layer0.q.lora_up.weight": UP}, "names layers in an unknown way"),
    "cloneofsimo's": ({"unet:0:up": UP, "unet:0:down": DOWN}, "names layers in an unknown way"),
    "an unknown part": ({**GOOD, key_of("on_input"): torch.ones(64)}, "of an unknown type"),
    "an unknown part of PEFT's": (
        {"unet.mid_block.attentions.0.proj_in.lora_A.weight": DOWN, "unet.mid_block.attentions.0.proj_in.lora_E": UP},
        "of an unknown type",
    ),
    "PEFT's bias": (
        {
            "unet.mid_block.attentions.0.proj_in.lora_A.weight": DOWN,
            "unet.mid_block.attentions.0.proj_in.lora_B.weight": UP,
            "unet.mid_block.attentions.0.proj_in.lora_B.bias": torch.ones(64),
        },
        "the parts 'lora_B.bias'",
    ),
    "two adapters": (
        {
            "unet.mid_block.attentions.0.proj_in.lora_A.one.weight": DOWN,
            "unet.mid_block.attentions.0.proj_in.lora_A.two.weight": DOWN,
        },
        "the same part twice",
    ),
    "half a LoRA": ({key_of(): DOWN}, "of an unknown type"),
    "other sizes": ({**GOOD, key_of(): torch.ones(2, 32, 1, 1)}, "has another size"),
    "turned around": (
        {key_of(): torch.ones(2, 8, 1, 1), key_of("lora_up.weight"): torch.ones(512, 2, 1, 1)},
        "has another size",
    ),
    "a magnitude of another size": ({**GOOD, key_of("magnitude"): torch.ones(3)}, "has another size"),
    "no rank": ({key_of(): DOWN[:0], key_of("lora_up.weight"): UP[:, :0]}, "of an unknown type"),
    "NaN": ({**GOOD, key_of(): DOWN * torch.nan}, "holds invalid numbers"),
    "infinity in fp8": ({**GOOD, key_of(): (DOWN * torch.inf).to(torch.float8_e5m2)}, "holds invalid numbers"),
    "whole numbers": ({**GOOD, key_of(): DOWN.to(torch.int8)}, "quantised to whole numbers"),
    "a model": ({"model.diffusion_model.out.2.bias": torch.ones(4)}, "is a complete model, not a LoRA"),
    "an embedding": ({"emb_params": torch.ones(2, 16)}, "embedding, not a LoRA"),
    "an embedding of diffusers": ({"<cat>": torch.ones(2, 16)}, "embedding, not a LoRA"),
    "a ControlNet": ({"control_model.input_hint_block.0.weight": UP, "control_model.a": UP}, "a ControlNet, not a"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_every_verb_says_the_same_of_what_it_cannot_read(tmp_path, shared_trainer, what):
    tensors, part = STRANGE[what]
    path = tmp_path / "чужая.safetensors"
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, path)
    base = str(shared_trainer.base)
    said = test_lora.problems_of(shared_trainer, network_weights=str(path))["network_weights"]
    assert part in said and path.name in said
    out = tmp_path / "out.safetensors"
    for verb in (("merge",), ("resize", "--rank", 2)):
        with pytest.raises(UserError) as caught:
            test_network.run(*verb, "--model", base, "--lora", path, "--out", out)
        assert (caught.value.problem.field, caught.value.problem.message) == ("lora", said)
    with pytest.raises(UserError) as caught:
        load_painter(open_base(base), torch.device("cpu"), loras=[(path, 1.0)])
    assert caught.value.problem.message == said and caught.value.problem.remedy


def test_alpha_that_makes_no_sense_is_refused(tmp_path, shared_trainer):
    for said in ("[", '{"unet.lora_alpha": "much"}', '{"unet.alpha_pattern": {"(a+)+$": 1}}', "3"):
        path = tmp_path / "lora.safetensors"
        save_tensors(dict(GOOD), path, {"lora_adapter_metadata": said})
        assert "makes no sense" in test_lora.problems_of(shared_trainer, network_weights=str(path))["network_weights"]
