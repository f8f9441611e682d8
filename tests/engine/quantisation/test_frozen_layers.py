"""A UNet with packed weights computes as one with the weights that they stand for, forwards and backwards."""

from __future__ import annotations

import gc
import itertools
import weakref

import pytest
import torch
from torch import Tensor, nn

from dreambooth_ext.engine.models.base_model import LatentBase, open_base
from dreambooth_ext.engine.networks import lora_network
from dreambooth_ext.engine.quantisation.frozen_layers import Packed, PackedConv2d, PackedLinear
from dreambooth_ext.engine.quantisation.packings import PACKINGS
from dreambooth_ext.engine.quantisation.precision import Precision, of_frozen
from tests import adapters, tiny
from tests.engine.quantisation.test_packings import there
from tests.seldom import seldom

CPU = torch.device("cpu")
FAMILIES = ("sd1", "sd2", "sdxl")


def packed_unet(base: LatentBase, name: str, mixed: str = "no") -> nn.Module:
    return base.unet(of_frozen(mixed, there(name), CPU)).requires_grad_(False).train()


def plain_unet(base: LatentBase, packed: nn.Module) -> nn.Module:
    """The same with ordinary layers, which hold the unpacked weights."""
    made = base.unet().requires_grad_(False).train()
    for layer in packed_layers(packed):
        made.get_submodule(layer).weight.copy_(packed.get_submodule(layer).weight)
    return made


def packed_layers(unet: nn.Module) -> list[str]:
    return [name for name, module in unet.named_modules() if isinstance(module, Packed)]


def gradients(unet: nn.Module, base: LatentBase, bf16: bool = False, kind: str = "lora") -> dict[str, Tensor]:
    """The output for noise, and the gradients of the input, the text and a LoRA on all layers."""
    network = adapters.made(base, kind)["unet"]
    lora_network.attach(unet, network, 0.0)
    randomness = torch.Generator().manual_seed(2)
    sample, text = torch.randn(2, 4, 8, 8, generator=randomness), torch.randn(
        2, 77, unet.config.cross_attention_dim, generator=randomness
    )  # fmt: skip
    added = {"text_embeds": torch.ones(2, 32), "time_ids": torch.full((2, 6), 64.0)} if "sdxl" in base.name else None
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        output = unet(
            sample.requires_grad_(), 300, encoder_hidden_states=text.requires_grad_(), added_cond_kwargs=added
        ).sample
    output.float().square().mean().backward()
    found = {f"{layer}.{name}": p.grad for layer, made in network.items() for name, p in made.named_parameters()}
    return {"output": output.detach(), "sample": sample.grad, "text": text.grad, **found}


@pytest.mark.parametrize(
    ("name", "family"), seldom(itertools.product(PACKINGS, FAMILIES), but=[(name, "sd1") for name in PACKINGS])
)
def test_outputs_and_gradients_are_those_of_the_unpacked_weights(tmp_path, family, name):
    base = open_base(tiny.single_file(tmp_path, family))
    packed = packed_unet(base, name)
    plain = plain_unet(base, packed)
    assert {type(packed.get_submodule(layer)) for layer in packed_layers(packed)} == {PackedLinear, PackedConv2d}
    found, wanted = gradients(packed, base), gradients(plain, base)
    assert torch.equal(found["output"], wanted["output"])
    for key, gradient in wanted.items():
        assert gradient.any(), key
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-7, msg=key)
    exact = gradients(base.unet().requires_grad_(False), base)["output"]
    assert not torch.equal(found["output"], exact)  # it has been packed


@pytest.mark.parametrize("name", seldom(PACKINGS, but=["int8", "fp8"]))
def test_the_same_in_mixed_precision_and_with_checkpoints(tmp_path, name):
    base = open_base(tiny.single_file(tmp_path, "sdxl"))
    packed = packed_unet(base, name, "bf16")
    plain = plain_unet(base, packed)
    lora_network_layers = [layer for _, layer in lora_network.named_layers(plain)]
    for layer in lora_network_layers:
        layer.to(torch.bfloat16)
    wanted = gradients(plain, base, bf16=True)
    found = gradients(packed, base, bf16=True)
    packed_again = packed_unet(base, name, "bf16")
    packed_again.enable_gradient_checkpointing()
    checkpointed = gradients(packed_again, base, bf16=True)
    assert torch.equal(found["output"], wanted["output"])
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, rtol=2e-2, atol=1e-5, msg=key)
        torch.testing.assert_close(checkpointed[key], found[key], rtol=0, atol=0, msg=key)


@pytest.mark.parametrize("kind", ["dora", "oft", "lokr", "loha"])
def test_what_reads_the_weight_reads_the_unpacked_one(tmp_path, kind):
    base = open_base(tiny.single_file(tmp_path))
    packed = packed_unet(base, "int8")
    plain = plain_unet(base, packed)
    found, wanted = gradients(packed, base, kind=kind), gradients(plain, base, kind=kind)
    for key, gradient in wanted.items():
        torch.testing.assert_close(found[key], gradient, rtol=1e-4, atol=1e-6, msg=key)


@pytest.mark.parametrize("kind", [None, "lora", "dora", "oft", "lokr", "loha"])
def test_no_unpacked_weight_is_kept_for_the_backward_pass(tmp_path, monkeypatch, kind):
    """Neither by a graph nor by a layer; and each is unpacked twice, or three times with checkpoints."""
    base = open_base(tiny.single_file(tmp_path))
    made: list[weakref.ref] = []
    unpack = PACKINGS["int8"].unpack

    def watched(*arguments):
        weight = unpack(*arguments)
        made.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(PACKINGS["int8"], "unpack", watched)
    for checkpoints in (False, True):
        unet = packed_unet(base, "int8")
        if checkpoints:
            unet.enable_gradient_checkpointing()
        lora_network.attach(unet, adapters.made(base, kind)["unet"] if kind else {}, 0.0)
        made.clear()
        sample = torch.randn(1, 4, 8, 8, requires_grad=True)
        output = unet(sample, 300, encoder_hidden_states=torch.randn(1, 77, 16)).sample
        gc.collect()
        assert len(made) >= len(packed_layers(unet)) and not any(each() is not None for each in made)
        if kind:
            continue
        assert len(made) == len(packed_layers(unet))
        output.sum().backward()
        assert len(made) >= (2.3 if checkpoints else 1.7) * len(packed_layers(unet))  # not for keys of the text


@pytest.mark.parametrize("name", PACKINGS)
def test_only_large_layers_are_packed_and_the_memory_is_less(tmp_path, name):
    base = open_base(tiny.single_file(tmp_path, "sdxl"))
    exact, packed = base.unet(), packed_unet(base, name, "bf16")
    layers = dict(lora_network.named_layers(exact))
    assert set(packed_layers(packed)) == {layer for layer in layers if layer.split("_")[0] in ("down", "mid", "up")}
    assert not {"conv_in", "conv_out", "time_embedding.linear_1", "add_embedding.linear_2"} & set(packed_layers(packed))
    for key, parameter in packed.named_parameters():
        is_layer = key.rpartition(".")[0] in layers
        assert torch.equal(parameter, exact.get_parameter(key).to(torch.bfloat16 if is_layer else torch.float32))
    count = sum(exact.get_submodule(layer).weight.numel() for layer in packed_layers(packed))
    held = sum(buffer.nbytes for key, buffer in packed.named_buffers() if key.endswith(("values", "scales")))
    assert count * PACKINGS[name].size <= held < count * (PACKINGS[name].size + 0.15)  # tiny layers have many scales
    assert {parameter.requires_grad for parameter in packed.parameters()} == {False}


def test_a_packed_weight_cannot_be_written_to(tmp_path):
    base = open_base(tiny.single_file(tmp_path))
    unet = packed_unet(base, "int8")
    layer = unet.get_submodule(packed_layers(unet)[0])
    with pytest.raises((AttributeError, KeyError)):
        layer.weight = torch.zeros(layer.shape)
    with pytest.raises(AssertionError, match="packed"):
        lora_network.merge(unet, adapters.made(base)["unet"])


def test_a_cast_leaves_packed_weights_as_they_are(tmp_path):
    unet = packed_unet(open_base(tiny.single_file(tmp_path)), "int8")
    layer = unet.get_submodule(packed_layers(unet)[0])
    before = layer.weight
    assert torch.equal(unet.to(torch.bfloat16).get_submodule(packed_layers(unet)[0]).weight, before)


def test_a_model_is_read_straight_onto_its_device(tmp_path):
    """The meta device stands for a card: nothing of the module is anywhere else, in its precision."""
    base, card = open_base(tiny.single_file(tmp_path)), torch.device("meta")
    unet = base.unet(Precision(torch.float32, torch.bfloat16, PACKINGS["int8"], card))
    assert {parameter.device for parameter in unet.parameters()} == {card}
    layer = unet.get_submodule(packed_layers(unet)[0])
    assert {layer.values.device, layer.scales.device} == {card} and layer.values.dtype == torch.int8
    assert unet.conv_in.weight.dtype == torch.bfloat16 and unet.conv_norm_out.weight.dtype == torch.float32
