"""Hypernetwork runs: what learns and what stays, against the WebUI's formula; resuming, files, and what settings do."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from dreambooth_ext.core.checks import config_checks, config_warnings
from dreambooth_ext.core.config.form_sections.hypernetwork import ACTIVATIONS, WEIGHT_INITS
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine import plan, worker
from dreambooth_ext.engine.formats import hypernetwork_file
from dreambooth_ext.engine.methods.hypernetwork import HypernetworkTraining, kept_bytes
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.networks import hypernetwork
from dreambooth_ext.engine.networks.hypernetwork import Hypernetwork, Structure
from dreambooth_ext.engine.sampling.painter import load_painter
from dreambooth_ext.engine.tensors.torch_pickle import load_pickle, save_pickle
from dreambooth_ext.engine.training.loop import Loop
from tests import tiny, training
from tests.engine.worker.test_resume import PRIOR, check
from tests.training import Trainer

HYPER = {"method": "hypernetwork", "learning_rate": 1e-3}
RICH = {
    "layer_structure": [1, 1.5, 2, 1],
    "activation": "swish",
    "layer_norm": True,
    "activate_output": True,
    "dropout": [0, 0.2, 0.1, 0],
    "weight_init": "KaimingNormal",
}
SIZES = {"sd1": [16, 32, 64], "sd2": [32, 64], "sdxl": [48, 64]}


def random_network(sizes: list[int], size: float = 0.3, **structure: Any) -> Hypernetwork:
    """As after a training: no number is zero."""
    made, randomness = Hypernetwork(sizes, Structure(**structure)), torch.Generator().manual_seed(3)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=randomness) * size)
    return made.eval()


def said_by(network: Hypernetwork, **changes: Any) -> dict[Any, Any]:
    about = {"name": "made", "step": 5, "checkpoint": "base", "digest": "0123456789", "info": "{}"}
    return hypernetwork_file.content(network, torch.float32, **about) | changes


def written(folder: Path, network: Hypernetwork, **changes: Any) -> Path:
    path = folder / "made.pt"
    save_pickle(said_by(network, **changes), path)
    return path


# --- the formula, written down a second time from the format: by the names in the file and not by our modules

FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "relu": functional.relu,
    "leakyrelu": lambda x: torch.where(x > 0, x, 0.01 * x),
    "elu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "swish": lambda x: x * (x + 3).clamp(0, 6) / 6,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "rrelu": lambda x: torch.where(x > 0, x, x * (1 / 8 + 1 / 3) / 2),  # outside of training the mean slope
    "hardtanh": lambda x: x.clamp(-1, 1),
    "relu6": lambda x: x.clamp(0, 6),
    "hardsigmoid": lambda x: (x + 3).clamp(0, 6) / 6,
    "silu": lambda x: x * torch.sigmoid(x),
    "mish": lambda x: x * torch.tanh((1 + x.exp()).log()),
    "celu": lambda x: torch.where(x > 0, x, x.exp() - 1),
    "selu": lambda x: 1.0507009873554805 * torch.where(x > 0, x, 1.6732632423543772 * (x.exp() - 1)),
    "gelu": lambda x: x * (1 + torch.erf(x / math.sqrt(2))) / 2,
    "hardshrink": lambda x: torch.where(x.abs() > 0.5, x, 0),
    "logsigmoid": lambda x: -(1 + (-x).exp()).log(),
    "softplus": lambda x: (1 + x.exp()).log(),
    "softshrink": lambda x: torch.where(x > 0.5, x - 0.5, torch.where(x < -0.5, x + 0.5, 0)),
    "prelu": lambda x: torch.where(x > 0, x, 0.25 * x),
    "softsign": lambda x: x / (1 + x.abs()),
    "tanhshrink": lambda x: x - torch.tanh(x),
    "softmin": lambda x: (-x).exp() / (-x).exp().sum(0),
    "softmax": lambda x: x.exp() / x.exp().sum(0),
    "softmax2d": lambda x: x.exp() / x.exp().sum(0),
    "logsoftmax": lambda x: x - x.exp().sum(0).log(),
}


def linear(x: Tensor, state: dict[str, Tensor], said: dict[Any, Any]) -> Tensor:
    """What a file says is done to a context, outside of training."""
    layers, index = said["layer_structure"], 0
    for place in range(1, len(layers)):
        x = x @ state[f"linear.{index}.weight"].T + state[f"linear.{index}.bias"]
        index += 1
        is_last = place == len(layers) - 1
        if said["activation_func"] != "linear" and (not is_last or said["activate_output"]):
            x = FUNCTIONS[said["activation_func"]](x)
            index += 1
        if said["is_layer_norm"]:
            x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()
            x = x * state[f"linear.{index}.weight"] + state[f"linear.{index}.bias"]
            index += 1
        if said["dropout_structure"][place]:
            index += 1
    return x


class Direct:
    """An attention that follows the WebUI's words: k from x + linear(x) * multiplier by the first network, v by the
    second, of those for this width; several files one after the other."""

    def __init__(self, files: list[tuple[dict[Any, Any], float]]):
        self.files = files

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, **_):
        context = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        for_k = for_v = context
        for said, multiplier in self.files:
            if context.shape[2] in said:
                first, second = said[context.shape[2]]
                for_k = for_k + linear(for_k, first, said) * multiplier
                for_v = for_v + linear(for_v, second, said) * multiplier
        q, k, v = (attn.head_to_batch_dim(x) for x in (attn.to_q(hidden_states), attn.to_k(for_k), attn.to_v(for_v)))
        weights = (q @ k.transpose(1, 2) * attn.scale).softmax(-1)
        return attn.to_out[0](attn.batch_to_head_dim(weights @ v))


def inputs_of(unet: nn.Module, family: str) -> dict[str, Any]:
    randomness = torch.Generator().manual_seed(1)
    given = {
        "sample": torch.randn(2, 4, 8, 8, generator=randomness),
        "timestep": torch.tensor([7, 500]),
        "encoder_hidden_states": torch.randn(2, 9, unet.config.cross_attention_dim, generator=randomness),
    }
    if family == "sdxl":
        sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]] * 2)
        given["added_cond_kwargs"] = {"text_embeds": torch.randn(2, 32, generator=randomness), "time_ids": sizes}
    return given


@pytest.fixture(scope="module")
def unets() -> dict[str, nn.Module]:
    return {family: tiny.models(tiny.architecture(family))["unet"].eval() for family in SIZES}


@torch.no_grad()
def assert_as_said(unet: nn.Module, family: str, files: list[tuple[Hypernetwork, float]]) -> None:
    """The UNet with these attached does what `Direct` does, which is not what it does alone."""
    given, usual = inputs_of(unet, family), unet.attn_processors
    alone = unet(**given).sample
    unet.set_attn_processor(Direct([(said_by(network), multiplier) for network, multiplier in files]))
    wanted = unet(**given).sample
    for processor in (usual, AttnProcessor()):  # sdpa and eager
        unet.set_attn_processor(dict(processor) if isinstance(processor, dict) else processor)
        handles = [handle for network, multiplier in files for handle in hypernetwork.attach(unet, network, multiplier)]
        torch.testing.assert_close(unet(**given).sample, wanted, rtol=1e-4, atol=1e-4)
        for handle in handles:
            handle.remove()
    unet.set_attn_processor(dict(usual))
    assert torch.equal(unet(**given).sample, alone)
    assert (wanted - alone).abs().max() > 0.01


@pytest.mark.parametrize("multiplier", [1.0, 0.5, -0.3])
@pytest.mark.parametrize("family", SIZES)
def test_attentions_see_what_the_webui_lets_them_see(unets, family, multiplier):
    assert_as_said(unets[family], family, [(random_network(SIZES[family]), multiplier)])


def test_a_width_that_is_not_in_the_file_stays_as_it_is(unets):
    for size in SIZES["sd1"]:
        assert_as_said(unets["sd1"], "sd1", [(random_network([size]), 1.0)])
    network = random_network([77])
    assert hypernetwork.attach(unets["sd1"], network) == []


def test_several_act_one_after_the_other(unets):
    one, other = random_network([16, 64], activation="tanh"), random_network([16, 32], layers=(1.0, 1.0))
    assert_as_said(unets["sd1"], "sd1", [(one, 0.7), (other, 1.2)])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation(unets, activation):
    network = random_network([16, 64], activation=activation, activate_output=activation != "linear", size=0.5)
    for part in network.modules():
        if isinstance(part, nn.PReLU):
            part.weight.data.fill_(0.25)
    assert_as_said(unets["sd1"], "sd1", [(network, 1.0)])


@pytest.mark.parametrize(
    "structure",
    [
        {"layers": (1.0, 1.0)},
        {"layers": (1.0, 1.5, 3.0, 1.0), "activation": "relu"},
        {"layer_norm": True},
        {"layer_norm": True, "activation": "swish", "dropout": (0.0, 0.3, 0.0)},
        {"layer_norm": True, "activation": "swish", "activate_output": True, "dropout": (0.0, 0.3, 0.2)},
    ],
)
def test_every_structure(unets, structure):
    assert_as_said(unets["sd1"], "sd1", [(random_network([16, 32, 64], **structure), 1.0)])


def test_the_webuis_names_are_those_that_it_can_use():
    classes = {name.lower() for name in nn.modules.activation.__all__}
    own = {"linear", "swish"}
    unusable = {"threshold", "glu", "multiheadattention"}  # needs numbers; halves the width; is no function of one
    assert set(ACTIVATIONS) <= classes | own
    newer = {name for name in classes - unusable - {"hardswish"} if name not in ACTIVATIONS}
    assert newer == set() and set(FUNCTIONS) == set(ACTIVATIONS)  # hardswish is swish, and only in files
    assert set(hypernetwork.ACTIVATIONS) == {*ACTIVATIONS, "hardswish"}


# --- how it begins


@torch.no_grad()
@pytest.mark.parametrize("activation", ["linear", "relu", "leakyrelu"])
@pytest.mark.parametrize("kind", WEIGHT_INITS)
def test_weights_begin_as_pytorchs_own_functions_begin_them(kind, activation):
    config = RunConfig(method="hypernetwork", weight_init=kind, activation=activation, layer_structure=[1, 3, 1])
    network = hypernetwork.create(config, [128])
    nonlinearity = "leaky_relu" if activation == "leakyrelu" else "relu"
    functions = {
        "Normal": lambda w: nn.init.normal_(w, std=0.01),
        "XavierUniform": nn.init.xavier_uniform_,
        "XavierNormal": nn.init.xavier_normal_,
        "KaimingUniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity=nonlinearity),
        "KaimingNormal": lambda w: nn.init.kaiming_normal_(w, nonlinearity=nonlinearity),
    }
    for part in network.pair(128):
        for layer in (layer for layer in part.linear if isinstance(layer, nn.Linear)):
            wanted = functions[kind](torch.empty_like(layer.weight))
            assert layer.weight.std().item() == pytest.approx(wanted.std().item(), rel=0.02)
            # an even spread ends at 1.73 deviations, a normal one goes on
            assert (layer.weight.abs().max() / layer.weight.std() < 1.8) == kind.endswith("Uniform")
            assert abs(layer.weight.mean()) < 0.02 * layer.weight.std() and not layer.bias.any()


@torch.no_grad()
def test_norms_begin_near_zero_as_in_the_webui():
    network = hypernetwork.create(RunConfig(method="hypernetwork", layer_norm=True, weight_init="KaimingNormal"), [256])
    for part in network.pair(256):
        for layer in (layer for layer in part.linear if isinstance(layer, nn.LayerNorm)):
            assert layer.weight.std().item() == pytest.approx(0.01, rel=0.2) and not layer.bias.any()


def test_every_network_begins_differently_and_by_the_seed():
    made = [hypernetwork.create(RunConfig(method="hypernetwork", seed=seed), [32, 64]) for seed in (1, 1, 2)]
    assert training.difference(made[0].state_dict(), made[1].state_dict()) == ""
    k, v = made[0].pair(32)
    assert not torch.equal(k.linear[0].weight, v.linear[0].weight)
    assert not torch.equal(k.linear[0].weight, made[2].pair(32)[0].linear[0].weight)


# --- what learns


def gradients_of(trainer: Trainer, monkeypatch, **settings) -> dict[str, Tensor]:
    """Every parameter's gradient in the first step of a run."""
    found = {}

    def kept(loop: Loop, loss: float) -> None:
        for name, parameter in loop.method.network.named_parameters():
            assert parameter.dtype == torch.float32
            found[name] = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad.clone()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_optimise", kept)
        run = trainer.create(method="hypernetwork", **settings)
        with pytest.raises(KeyboardInterrupt):
            training.go_on(run)
    return found


SMOOTH = {"layers": (1.0, 1.5, 2.0, 1.0), "activation": "gelu", "layer_norm": True, "activate_output": True}


@pytest.mark.parametrize("family", SIZES)
def test_gradients_reach_every_part_also_with_checkpointing(tmp_path, monkeypatch, family):
    trainer = Trainer(tmp_path, family)
    weights = str(written(tmp_path, random_network(SIZES[family], **SMOOTH, dropout=(0.0, 0.2, 0.1, 0.0))))
    plain = gradients_of(trainer, monkeypatch, hypernetwork_weights=weights)
    assert all(gradient.any() for gradient in plain.values())
    assert len(plain) == len(SIZES[family]) * 2 * 3 * 4  # widths, k and v, layers, weights and biases of each and norm
    checkpointed = gradients_of(trainer, monkeypatch, hypernetwork_weights=weights, gradient_checkpointing=True)
    assert checkpointed.keys() == plain.keys()
    for key, gradient in plain.items():
        torch.testing.assert_close(checkpointed[key], gradient, rtol=1e-4, atol=1e-6, msg=key)


def test_gradients_in_bf16_are_near_those_in_float32(tmp_path, monkeypatch):
    trainer = Trainer(tmp_path)
    weights = str(written(tmp_path, random_network(SIZES["sd1"], **SMOOTH)))
    exact = gradients_of(trainer, monkeypatch, hypernetwork_weights=weights)
    rounded = gradients_of(trainer, monkeypatch, hypernetwork_weights=weights, mixed_precision="bf16")
    one, other = (torch.cat([grads[key].flatten() for key in exact]) for grads in (exact, rounded))
    assert functional.cosine_similarity(one, other, dim=0) > 0.98
    assert all(rounded[key].any() for key in exact)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_it_learns_with_every_activation(trainer, activation):
    """Softmax and its kin only where there are several pictures in a batch."""
    run = trainer.train(
        **HYPER, activation=activation, activate_output=activation != "linear", weight_init="XavierNormal",
        train_batch_size=2, max_train_steps=2,
    )  # fmt: skip
    content = hypernetwork_file.read(run.artifacts / "taught.pt", "x")
    began = hypernetwork.create(run.config, SIZES["sd1"]).state_dict()
    ended = content.network().state_dict()
    assert content.structure.activation == activation
    over_pictures = {"softmin", "softmax", "softmax2d", "logsoftmax"}  # to which a bias makes no difference
    keys = [key for key in began if activation not in over_pictures or key.endswith("weight")]
    assert all(not torch.equal(began[key], ended[key]) for key in keys)


@pytest.mark.parametrize("family", SIZES)
def test_the_model_itself_stays_as_it_is(tmp_path, methods, family):
    trainer = Trainer(tmp_path, family)
    run = trainer.train(**HYPER, max_train_steps=3)
    before, after = open_base(trainer.base).unet(), methods[0].backbone.unet
    assert training.difference(dict(before.state_dict()), dict(after.state_dict())) == ""
    assert not any(parameter.requires_grad for parameter in after.parameters())
    assert methods[0].backbone.prompts.text is None  # the text encoders have left memory
    learned = training.weights(run)
    assert {key.split(".")[1] for key in learned if ".linear." in key} == set(map(str, SIZES[family]))
    assert all(key.startswith("hypernetwork/") for key in learned)


def test_lines_of_the_webui_s_kind_are_trained_with(trainer, tmp_path, monkeypatch):
    """As in its Train tab: [name] is the hypernetwork's, each picture takes one at random, and no word is put in."""
    seen, loss = [], HypernetworkTraining.loss

    def noted(method, batch, generator):
        seen.extend(batch.captions)
        return loss(method, batch, generator)

    monkeypatch.setattr(HypernetworkTraining, "loss", noted)
    lines = tmp_path / "линии.txt"
    lines.write_text("[name] alone\n\na [filewords], drawn\n", encoding="utf-8")
    folder = training.pictures(tmp_path / "captioned", 3, captions=True)
    told = {"instance_data_dir": folder, "instance_prompt": None, "use_captions": True, "max_train_steps": 12}
    others = {"class_prompt": "a person", "num_class_images": 1}
    trainer.train(**HYPER | told | others, prompt_template=str(lines))
    captions = {(Path(folder) / f"sksper ({i}).txt").read_text(encoding="utf-8") for i in (1, 2, 3)}
    drawn = {f"a {caption}, drawn" for caption in captions}
    assert set(seen) <= {"taught alone", "a person"} | drawn
    assert {"taught alone", "a person"} < set(seen) and drawn & set(seen)
    trainer.train(**HYPER | told, prompt_template="hypernetwork", caption_dropout=0.5, captions_per_picture="random")


def test_lines_and_a_prompt_are_one_too_many(trainer):
    config, _ = parse({**trainer.settings, **HYPER, "prompt_template": "subject"})
    (problem,) = config_checks.check(config)[3]
    assert problem.field == "prompt_template" and problem.code == "effect.prompt_given"


def test_gradients_that_are_let_go_one_by_one_train_the_same(trainer):
    """Networks take part in many attentions: a weight's gradient is there when all of them have added theirs."""
    whole = trainer.train(**HYPER, max_grad_norm=1e6, gradient_checkpointing=True)
    single = trainer.train(**HYPER, max_grad_norm=0, gradient_checkpointing=True)
    assert training.difference(training.weights(whole), training.weights(single)) == ""


def test_class_pictures_count_as_in_dreambooth(trainer):
    calm = {"weight_init": "Normal", "max_train_steps": 1}
    with_prior = trainer.train(**HYPER, **PRIOR, **calm)
    whole = trainer.train(method="dreambooth", **PRIOR, max_train_steps=1)
    assert training.losses(with_prior) == pytest.approx(training.losses(whole), rel=1e-2)  # before the first step
    assert training.losses(with_prior) != training.losses(trainer.train(**HYPER, **calm))


def test_dropout_is_for_training_only(trainer, methods):
    settings = {"validation_prompts": ["a photo of sksper person"], "validation_steps": 1, "max_train_steps": 2}
    dropped, whole = (
        trainer.train(**HYPER, **settings, dropout=dropout, layer_structure=[1, 2, 1]) for dropout in ([0, 0.5, 0], [])
    )
    assert training.losses(dropped) != training.losses(whole)
    unet, x = methods[0].backbone.unet, torch.randn(1, 3, 32)
    layer = next(a.to_k for a in hypernetwork.attentions(unet) if a.to_k.in_features == 32)
    assert not torch.equal(layer(x), layer(x))  # the UNet is in training mode again, after the preview
    unet.eval()
    assert torch.equal(layer(x), layer(x))


# --- resuming


def test_it_goes_on_to_the_same_bits(trainer):
    check(trainer, (1, 3), **HYPER, **RICH)


def test_it_goes_on_with_everything_at_once(tmp_path):
    trainer = Trainer(tmp_path, "sdxl")
    more = {"use_ema": True, "gradient_checkpointing": True, "enable_sizes": [64], "activation": "rrelu"}
    check(trainer, (1, 2), **HYPER, **PRIOR, **more, max_train_steps=3)


def test_a_run_goes_on_from_its_own_state_and_not_from_the_file_it_began_with(tmp_path, trainer):
    path = written(tmp_path, random_network(SIZES["sd1"], activation="swish"))
    settings = {**HYPER, "hypernetwork_weights": str(path)}
    longer = trainer.train(**settings, max_train_steps=3)
    run = trainer.train(**settings, max_train_steps=2)
    path.write_bytes(written(tmp_path, random_network([32], layers=(1.0, 1.0))).read_bytes())  # another of this name
    assert training.go_on(run, total=3) == worker.DONE, training.log(run)
    training.assert_same_run(longer, run)
    one, other = (load_pickle(r.artifacts / "taught.pt") for r in (longer, run))
    assert training.difference({key: one[key] for key in one if key != "optional_info"}, {
        key: other[key] for key in other if key != "optional_info"}) == ""  # fmt: skip
    assert one["step"] == 5 + 3


# --- files


def test_the_file_is_the_webuis(trainer):
    run = trainer.train(**HYPER, **RICH, max_train_steps=3, checkpointing_steps=2, save_precision="fp16")
    events = run.artifact_events()
    assert [(event["kind"], event["file"]) for event in events] == [
        ("hypernetwork", "taught_2.pt"),
        ("hypernetwork", "taught.pt"),
    ]
    said = load_pickle(run.artifacts / "taught.pt")
    states = {key: said.pop(key) for key in list(said) if isinstance(key, int)}
    about = json.loads(said.pop("optional_info"))
    assert said == {
        "step": 3,
        "name": "taught",
        "layer_structure": [1.0, 1.5, 2.0, 1.0],
        "activation_func": "swish",
        "is_layer_norm": True,
        "weight_initialization": "KaimingNormal",
        "sd_checkpoint": hashlib.sha256(trainer.base.read_bytes()).hexdigest()[:10],
        "sd_checkpoint_name": trainer.base.stem,
        "activate_output": True,
        "use_dropout": True,
        "dropout_structure": [0.0, 0.2, 0.1, 0.0],
        "last_layer_dropout": True,
    }
    assert list(states) == SIZES["sd1"] and all(len(pair) == 2 for pair in states.values())
    # Linear, activation, norm, dropout; the last layer drops nothing out
    shapes = {key: tuple(tensor.shape) for key, tensor in states[32][0].items()}
    assert shapes == {
        "linear.0.weight": (48, 32), "linear.0.bias": (48,), "linear.2.weight": (48,), "linear.2.bias": (48,),
        "linear.4.weight": (64, 48), "linear.4.bias": (64,), "linear.6.weight": (64,), "linear.6.bias": (64,),
        "linear.8.weight": (32, 64), "linear.8.bias": (32,), "linear.10.weight": (32,), "linear.10.bias": (32,),
    }  # fmt: skip
    assert {tensor.dtype for pair in states.values() for state in pair for tensor in state.values()} == {torch.float16}
    assert about["modelspec.architecture"] == "stable-diffusion-v1/hypernetwork" and about["ss_steps"] == "3"
    assert load_pickle(run.artifacts / "taught_2.pt")["name"] == "taught_2"
    sidecar = json.loads((run.artifacts / "taught.json").read_text(encoding="utf-8"))
    assert sidecar["sd version"] == "SD1" and sidecar["activation text"] == "a photo of sksper person"


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_a_file_reads_back_as_it_was_learned(trainer, methods, precision):
    run = trainer.train(**HYPER, activation="prelu", max_train_steps=2, save_precision=precision)
    content = hypernetwork_file.read(run.artifacts / "taught.pt", "x")
    learned = methods[0].network
    dtype = {"fp16": torch.float16, "bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    wanted = {key: tensor.to(dtype).float() for key, tensor in learned.state_dict().items()}
    assert training.difference(dict(content.network().state_dict()), wanted) == ""
    assert content.structure == learned.structure and content.step == 2
    assert list(content.network().state_dict()) == list(learned.state_dict())


def test_a_model_that_learned_nothing_is_not_written(trainer):
    settings = {**HYPER, "learning_rate": 1e-12, "max_train_steps": 1, "save_precision": "fp16"}
    run = trainer.train(**settings, ends=worker.FAILED)
    assert "equals its base model" in training.log(run) and not list(run.artifacts.iterdir())


def test_numbers_that_do_not_fit_are_not_written(tmp_path):
    network = random_network([32])
    start = {key: tensor.clone() for key, tensor in network.state_dict().items()}
    base = open_base(tiny.single_file(tmp_path))

    def export(value: float, precision: str) -> str:
        network.pair(32)[1].linear[0].weight.data[0, 0] = value
        with pytest.raises(UserError) as error:
            hypernetwork_file.export_hypernetwork(
                base, network, start, tmp_path / "x.pt", step=1, digest=None, precision=precision, metadata={}
            )
        assert not (tmp_path / "x.pt").exists() and not list(tmp_path.glob(".tmp-*"))
        return str(error.value.problem)

    assert "invalid numbers" in export(math.nan, "fp32")
    assert "infinite in fp16" in export(1e6, "fp16")


# --- files of others


def by_train_tab(path: Path, sizes: list[int], old: bool = False, **changes: Any) -> Path:
    """A file as the WebUI's Train tab writes it (OrderedDicts, torch.save), or did before there were structures."""
    network = random_network(sizes, layers=(1.0, 2.0, 1.0))
    said = said_by(network, **changes)
    for size in sizes:
        said[size] = tuple(OrderedDict(state) for state in said[size])
    if old:
        names = {"linear.0": "linear1", "linear.1": "linear2"}
        said = {
            size: tuple({names[key[:8]] + key[8:]: t for key, t in state.items()} for state in said[size])
            for size in sizes
        } | {"step": 900, "name": "old"}
    torch.save(said, path)
    return path


def test_it_goes_on_from_a_file_of_the_train_tab(tmp_path, trainer, methods):
    path = by_train_tab(tmp_path / "tab.pt", [16, 32, 64, 96], sd_checkpoint=None, optional_info=None)
    (tmp_path / "tab.pt.optim").write_bytes(b"whatever")  # not used
    run = trainer.train(**HYPER, hypernetwork_weights=str(path), max_train_steps=2)
    before, after = (hypernetwork_file.read(p, "x") for p in (path, run.artifacts / "taught.pt"))
    assert after.structure == before.structure and (before.step, after.step) == (5, 7)
    for size in (16, 32, 64):
        assert not torch.equal(before.states[size][0]["linear.0.weight"], after.states[size][0]["linear.0.weight"])
    assert training.difference(before.states[96], after.states[96]) == ""  # for another kind of model, kept
    assert all("96" not in name for name in names_of(methods[0]))
    assert training.losses(run)[0] != training.losses(trainer.train(**HYPER, max_train_steps=1))[0]


def names_of(method: HypernetworkTraining) -> list[str]:
    learning = {id(p) for group in method.parameter_groups() for p in group["params"]}
    return [name for name, p in method.network.named_parameters() if id(p) in learning]


def test_files_from_before_there_were_structures(tmp_path, unets):
    content = hypernetwork_file.read(by_train_tab(tmp_path / "old.pt", [16, 64], old=True), "x")
    assert content.structure == Structure(activate_output=True) and content.step == 900
    said = said_by(random_network([16, 64]))
    given = inputs_of(unets["sd1"], "sd1")
    usual = unets["sd1"].attn_processors
    with torch.no_grad():
        unets["sd1"].set_attn_processor(Direct([(said, 1.0)]))
        wanted = unets["sd1"](**given).sample
        unets["sd1"].set_attn_processor(dict(usual))
        handles = hypernetwork.attach(unets["sd1"], content.network().eval())
        torch.testing.assert_close(unets["sd1"](**given).sample, wanted, rtol=1e-4, atol=1e-4)
    for handle in handles:
        handle.remove()


@pytest.mark.parametrize(
    ("used", "at_the_end", "wanted"),
    [(True, True, (0.0, 0.3, 0.3, 0.0)), (True, False, (0.0, 0.3, 0.0, 0.0)), (False, True, ())],
)
def test_files_that_only_say_whether_they_drop_out(tmp_path, used, at_the_end, wanted):
    network = random_network([16], layers=(1.0, 2.0, 2.0, 1.0), activation="relu", dropout=wanted)
    path = written(tmp_path, network, dropout_structure=None, use_dropout=used, last_layer_dropout=at_the_end)
    assert hypernetwork_file.read(path, "x").structure == network.structure


class Evil:
    def __reduce__(self):
        return exec, ("raise SystemExit('it ran')",)


STATE = {"linear.0.weight": torch.ones(32, 16), "linear.0.bias": torch.ones(32),
         "linear.1.weight": torch.ones(16, 32), "linear.1.bias": torch.ones(16)}  # fmt: skip
BAD = {
    "a list": ([1, 2], "is not a hypernetwork"),
    "an embedding": ({"string_to_param": {"*": torch.ones(1, 16)}}, "embedding, not a hypernetwork"),
    "a LoRA": ({"lora_unet_a.lora_up.weight": torch.ones(3)}, "is a LoRA, not a hypernetwork"),
    "a model": ({"state_dict": {"model.diffusion_model.a": torch.ones(3)}}, "is a complete model, not a hypernetwork"),
    "infinite in fp8": (
        {16: ({**STATE, "linear.1.bias": torch.full((16,), math.inf).to(torch.float8_e5m2)}, STATE)},
        "invalid numbers",
    ),
    "a checkpoint": ({"state_dict": {"a": torch.ones(3)}}, "is not a hypernetwork"),
    "an empty one": ({}, "is not a hypernetwork"),
    "one network": ({16: (STATE,)}, "does not have two networks"),
    "no network": ({16: (1, 2)}, "does not have two networks"),
    "a strange layer": ({16: (STATE, {**STATE, "linear.7.weight": torch.ones(1)})}, "'linear.7.weight' of width"),
    "a missing layer": ({16: (STATE, {k: STATE[k] for k in list(STATE)[:3]})}, "'linear.1.bias' of width 16"),
    "another shape": ({32: (STATE, STATE)}, "linear.0.weight of width 32"),
    "whole numbers": ({16: ({k: t.long() for k, t in STATE.items()}, STATE)}, "linear.0.weight of width 16"),
    "no tensor": ({16: (dict.fromkeys(STATE, 1.0), STATE)}, "linear.0.weight of width 16"),
    "not a number": ({16: ({**STATE, "linear.1.bias": torch.full((16,), math.nan)}, STATE)}, "invalid numbers"),
    "a strange activation": ({16: (STATE, STATE), "activation_func": "glu"}, "its activation_func is 'glu'"),
    "no structure": ({16: (STATE, STATE), "layer_structure": "1, 2, 1"}, "its layer_structure is"),
    "an endless structure": ({16: (STATE, STATE), "layer_structure": [1.0] * 10**5}, "its layer_structure is"),
    "a huge structure": ({16: (STATE, STATE), "layer_structure": [1, 1e12, 1]}, "widths is 16"),
    "an infinite structure": ({16: (STATE, STATE), "layer_structure": [1, math.inf, 1]}, "its layer_structure is"),
    "a negative width": ({-16: (STATE, STATE)}, "widths is -16"),
    "a huge width": ({10**9: (STATE, STATE)}, "widths is 1000000000"),
    "a bad dropout": ({16: (STATE, STATE), "dropout_structure": [0, 1, 0]}, "its dropout_structure is"),
    "a short dropout": ({16: (STATE, STATE), "dropout_structure": [0]}, "its dropout_structure is"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_are_none_are_named(tmp_path, name):
    content, message = BAD[name]
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(UserError) as error:
        hypernetwork_file.read(tmp_path / "bad.pt", "hypernetwork_weights")
    problem = error.value.problem
    assert problem.field == "hypernetwork_weights" and message in str(problem) and problem.remedy
    assert len(str(problem)) < 700


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_files_in_fp8_are_read(tmp_path, dtype):
    states = tuple({key: tensor.to(dtype) for key, tensor in STATE.items()} for _ in range(2))
    torch.save({16: states}, tmp_path / "fp8.pt")
    found = hypernetwork_file.read(tmp_path / "fp8.pt", "x").network()
    for key, tensor in found.pair(16)[0].state_dict().items():
        assert tensor.dtype == torch.float32 and torch.equal(tensor, STATE[key].to(dtype).float())


def test_hostile_files_do_nothing(tmp_path):
    path = tmp_path / "bad.pt"
    torch.save({16: (STATE, STATE), "name": Evil()}, path)
    with pytest.raises(UserError, match="wants to run"):
        hypernetwork_file.read(path, "x")
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(UserError):
        hypernetwork_file.read(path, "x")
    for rubbish in (b"", b"PK\x03\x04" + b"\0" * 50, b"<html>404</html>"):
        path.write_bytes(rubbish)
        with pytest.raises(UserError):
            hypernetwork_file.read(path, "x")
    huge = torch.ones(1).expand(2**19, 2**19)  # a terabyte out of four bytes
    states = {"linear.0.weight": huge, "linear.0.bias": torch.ones(1).expand(2**19)}
    torch.save({2**19: (states, states), "layer_structure": [1, 1]}, path)
    with pytest.raises(UserError, match="more numbers than there are"):
        hypernetwork_file.read(path, "x")


# --- drawing


COMMON = {"seeds": [0], "width": 64, "height": 64, "steps": 3, "cfg_scale": 7.5}


def drawn(base: Path, files: list[tuple[Path, float]]) -> np.ndarray:
    painter = load_painter(open_base(base), torch.device("cpu"), hypernetworks=files)
    return np.asarray(painter.paint("a photo of sksper person", **COMMON)[0]).astype(float)


def test_generate_draws_what_the_run_draws(trainer):
    """Previews of the run against the exported file."""
    run = trainer.train(
        **HYPER | {"learning_rate": 3e-2},
        **RICH,
        validation_prompts=["a photo of sksper person"],
        validation_steps=4,
        validation_inference_steps=3,
    )
    with Image.open(*run.samples.glob("4/*.png")) as preview:
        shown = np.asarray(preview).astype(float)
    path = run.artifacts / "taught.pt"
    assert np.abs(drawn(trainer.base, [(path, 1.0)]) - shown).mean() < 0.05
    assert np.abs(drawn(trainer.base, []) - shown).mean() > 1
    assert np.abs(drawn(trainer.base, [(path, 0.5)]) - shown).mean() > 0.5
    assert np.array_equal(drawn(trainer.base, [(path, 0.0)]), drawn(trainer.base, []))


def test_generate_on_the_command_line(tmp_path):
    from tests.engine.verbs.test_generate import draw

    model, path = tiny.single_file(tmp_path), written(tmp_path, random_network([16, 32, 64]))
    plain, strong = (
        draw(model, tmp_path / name, *options)[0]
        for name, options in {"plain": (), "strong": ("--hypernetwork", f"{path}:0.5")}.items()
    )
    with Image.open(plain) as one, Image.open(strong) as other:
        assert other.text["parameters"].startswith("a cat <hypernet:made:0.5>\nSteps: 2")
        assert np.abs(np.asarray(one).astype(int) - np.asarray(other)).mean() > 1
    for option, message in {
        str(tmp_path / "none.pt"): "there is no file",
        f"{path}:99": "out of range",
        str(written(tmp_path / "other", random_network([77]))): "contexts of other widths",
        str(model): "hypernetwork",
    }.items():
        with pytest.raises(UserError) as error:
            draw(model, tmp_path / "bad", "--hypernetwork", option)
        assert error.value.problem.field == "hypernetwork" and message in str(error.value.problem)


# --- settings


def test_the_plan_counts_what_learns_and_what_is_kept(tmp_path, methods, monkeypatch):
    saved: list[int] = []
    for number, settings in enumerate(({}, RICH | {"dropout": []}, {"enable_sizes": [64], "layer_structure": [1, 1]})):
        (tmp_path / str(number)).mkdir()
        trainer = Trainer(tmp_path / str(number), "sdxl")
        base, config = open_base(trainer.base), trainer.config(**HYPER, **settings)
        part = HypernetworkTraining.share(plan.resolve(config, base), base)
        run = trainer.train(**HYPER, **settings, max_train_steps=1)
        learning = sum(p.numel() for p in methods[-1].averaged())
        assert part.unet == part.model == learning and part.texts == 0
        sizes, structure = set(methods[-1].network.sizes), methods[-1].network.structure
        estimate = kept_bytes(run.config.replace(resolution=64), base, sizes, structure)
        saved.append(kept_in_forward(methods[-1]))
        assert estimate == pytest.approx(saved[-1], rel=0.1)
    assert saved[1] > saved[0] > saved[2]


def kept_in_forward(method: HypernetworkTraining) -> int:
    """Bytes that the networks' layers keep for the backward pass, weights aside."""
    weights = {p.data_ptr() for p in method.network.parameters()} | {
        p.data_ptr() for p in method.backbone.unet.parameters()
    }
    kept: dict[int, int] = {}
    inside = [0]

    def pack(tensor: Tensor) -> Tensor:
        if inside[0] and tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    unet, config = method.backbone.unet, method.config
    handles = []
    for size in method.network.sizes:
        for part in method.network.pair(size):
            handles.append(part.linear.register_forward_pre_hook(lambda *_: inside.__setitem__(0, 1)))
            handles.append(part.linear.register_forward_hook(lambda *_: inside.__setitem__(0, 0)))
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]])
    given = {"text_embeds": torch.zeros(1, 32), "time_ids": sizes}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        context = torch.randn(1, 77, unet.config.cross_attention_dim)
        side = config.resolution // 8
        kept_alive = unet(torch.randn(1, 4, side, side), 5, encoder_hidden_states=context, added_cond_kwargs=given)
    del kept_alive
    for handle in handles:
        handle.remove()
    return sum(kept.values())


def problems_of(trainer: Trainer, **settings) -> dict[str, str]:
    config, unreadable = parse({**trainer.settings, "method": "hypernetwork", **settings})
    completed, _, _, found, _ = config_checks.check(config)
    if not found and not unreadable:
        with_base = open_base(trainer.base)
        found = plan.problems(plan.resolve(completed, with_base), with_base)
    messages = {}
    for problem in [*unreadable, *found]:
        assert problem.field not in messages, "one message for a fault"
        messages[problem.field] = problem.message
    return messages


WRONG = {
    "layer_structure": ({"layer_structure": "2, 1"}, "the first and the last number must be 1"),
    "enable_sizes": ({"enable_sizes": "768"}, "no attention with a context of width 768"),
    "activation": ({"activation": "relu", "layer_structure": [1, 1]}, "no effect"),
    "activate_output": ({"activate_output": True}, "the activation is linear"),
    "dropout": ({"dropout": "0, 0.5"}, "has 2 numbers, but layer_structure has 3"),
    "weight_init": ({"weight_init": "Zero"}, "not known"),
    "hypernetwork_weights": ({"hypernetwork_weights": "nowhere.pt"}, "no hypernetwork file"),
    "save_format": ({"save_format": "ckpt"}, "Hypernetwork does not use this setting"),
    "text_encoder_steps": ({"text_encoder_steps": 3}, "does not use this setting"),
    "text_encoder_lr": ({"text_encoder_lr": 1e-5}, "does not use this setting"),
    "rank": ({"rank": 4}, "does not use this setting"),
}


@pytest.mark.parametrize("field", WRONG)
def test_settings_that_cannot_be_are_named(trainer, field):
    settings, message = WRONG[field]
    found = problems_of(trainer, **settings)
    assert set(found) == {field} and message in found[field]


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        ({"layer_structure": [1, 0, 1]}, "layer_structure"),
        ({"layer_structure": [1]}, "layer_structure"),
        ({"layer_structure": []}, "layer_structure"),
        ({"layer_structure": "1, two, 1"}, "layer_structure"),
        ({"layer_structure": [1, 0.001, 1]}, "layer_structure"),
        ({"layer_structure": [1, 1e9, 1]}, "layer_structure"),
        ({"layer_structure": [1] * 1000}, "layer_structure"),
        ({"dropout": [0.1, 0.1, 0]}, "dropout"),
        ({"dropout": [0, 0.1, 0.1]}, "dropout"),
        ({"dropout": [0, 1, 0]}, "dropout"),
        ({"dropout": {"a": 1}}, "dropout"),
        ({"enable_sizes": [32.5]}, "enable_sizes"),
        ({"enable_sizes": [-32]}, "enable_sizes"),
    ],
)
def test_numbers_that_cannot_be_are_named(trainer, settings, field):
    assert set(problems_of(trainer, **settings)) == {field}


def test_a_file_that_goes_on_has_its_own_structure(tmp_path, trainer):
    path = str(written(tmp_path, random_network([16, 32])))
    assert problems_of(trainer, hypernetwork_weights=path) == {}
    found = problems_of(trainer, hypernetwork_weights=path, activation="relu", layer_norm=True, enable_sizes=[16])
    assert set(found) == {"activation", "layer_norm", "enable_sizes"}
    (tmp_path / "other").mkdir()
    other = str(written(tmp_path / "other", random_network([768, 320])))
    assert "contexts of width 320, 768, and" in problems_of(trainer, hypernetwork_weights=other)["hypernetwork_weights"]
    bad = tmp_path / "bad.pt"
    torch.save({16: 1}, bad)
    assert (
        "not a hypernetwork that the WebUI could use"
        in problems_of(trainer, hypernetwork_weights=str(bad))["hypernetwork_weights"]
    )


def test_what_is_left_out_comes_from_the_guide(trainer):
    given = {**trainer.settings, "method": "hypernetwork", "learning_rate": None, "max_train_steps": None}
    del given["text_encoder_steps"]
    config, choices, _, found, _ = config_checks.check(parse(given)[0])
    assert not found and (config.learning_rate, config.max_train_steps) == (1e-5, 10_000)
    assert (config.text_encoder_steps, config.text_encoder_lr) == (0, None)
    assert choices["learning_rate"].reason and choices["max_train_steps"].reason
    config, _, _, found, _ = config_checks.check(parse({**given, "optimizer": "prodigy"})[0])
    assert not found and (config.learning_rate, config.text_encoder_lr) == (1.0, None)


def test_what_a_beginner_should_know_is_said(trainer):
    def warned(**settings) -> set[str]:
        return {problem.field for problem in config_warnings.warnings(trainer.config(**HYPER | settings), 12)}

    assert warned(learning_rate=1e-5) == set()
    assert warned(learning_rate=1e-3) == {"learning_rate"}
    assert warned(learning_rate=1e-5, activation="logsoftmax") == {"activation"}
    for calm in ("softplus", "softsign", "softshrink"):
        assert warned(learning_rate=1e-5, activation=calm) == set()
    config: RunConfig = trainer.config(**HYPER, layer_structure=[1, 4, 1])
    remedies = config_warnings.out_of_memory_remedies(config, 512, checkpointing=True)
    assert "plan.small_layers" in [remedy.code for remedy in remedies]


def test_several_subjects_learn_together(trainer):
    folder = trainer.settings.pop("instance_data_dir")
    del trainer.settings["instance_prompt"]
    concepts = [{"instance_data_dir": folder, "instance_prompt": f"a photo of {word}"} for word in ("sksper", "ohwx")]
    run: Run = trainer.train(**HYPER, concepts=concepts, max_train_steps=2)
    assert json.loads((run.artifacts / "taught.json").read_text(encoding="utf-8"))["activation text"] == (
        "a photo of sksper, a photo of ohwx"
    )
