"""Each type of LoRA against its formula, written down once more: a layer with an adapter is a layer with W + dW."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from dreambooth_ext.core.facts.lora_types import LORA_TYPES
from dreambooth_ext.engine.networks import layer_adapters, lora_network
from dreambooth_ext.engine.networks.adapter import Adapter, apply
from dreambooth_ext.engine.networks.switch import Switch
from dreambooth_ext.engine.quantisation.frozen_layers import pack
from dreambooth_ext.engine.quantisation.packings import PACKINGS
from tests.adapters import config
from tests.engine.quantisation.test_packings import there

LAYERS = {
    "linear": lambda: nn.Linear(12, 8),
    "conv": lambda: nn.Conv2d(12, 8, 3, stride=2, padding=1),
    "conv1x1": lambda: nn.Conv2d(12, 8, 1),
}


def layer_of(name: str) -> nn.Module:
    torch.manual_seed(0)
    return LAYERS[name]().requires_grad_(False)


def inputs_of(layer: nn.Module) -> Tensor:
    return torch.randn(2, 5, 12) if isinstance(layer, nn.Linear) else torch.randn(2, 12, 7, 7)


def adapter_of(kind: str, layer: nn.Module, rank: int = 3, **settings) -> Adapter:
    """With random numbers everywhere."""
    made = layer_adapters.create(config(kind, **settings), layer.weight, rank, torch.Generator().manual_seed(1))
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.3)
    return made


def changed_weight(kind: str, parts: dict[str, Tensor], weight: Tensor) -> Tensor:
    """W + dW by loops over its numbers."""
    scale = float(parts["alpha"]) / 3 if "alpha" in parts else 1.0
    flat = weight.flatten(1)
    out, width = flat.shape
    new = flat.clone()
    if kind in ("lora", "locon", "dora"):
        up, down = parts["lora_up.weight"].flatten(1), parts["lora_down.weight"].flatten(1)
        for o in range(out):
            for i in range(width):
                new[o, i] += scale * sum(up[o, r] * down[r, i] for r in range(3))
    elif kind == "loha":
        for o in range(out):
            for i in range(width):
                one = sum(parts["hada_w1_a"][o, r] * parts["hada_w1_b"][r, i] for r in range(3))
                new[o, i] += scale * one * sum(parts["hada_w2_a"][o, r] * parts["hada_w2_b"][r, i] for r in range(3))
    elif kind == "lokr":
        w1 = parts["lokr_w1"]
        if "lokr_w2" in parts:
            w2, scale = parts["lokr_w2"].flatten(1), 1.0
        else:
            w2 = parts["lokr_w2_a"] @ parts["lokr_w2_b"]
        for o in range(out):
            for i in range(width):
                o1, o2 = divmod(o, w2.shape[0])
                i1, i2 = divmod(i, w2.shape[1])
                new[o, i] += scale * w1[o1, i1] * w2[o2, i2]
    elif kind == "oft":
        rotations = []
        for block in parts["oft_blocks"]:
            turned, eye = block - block.T, torch.eye(len(block))
            rotations.append((eye + turned) @ torch.linalg.inv(eye - turned))
        rotation = torch.block_diag(*rotations)
        assert torch.allclose(rotation @ rotation.T, torch.eye(out), atol=1e-5)  # it keeps lengths and angles
        new = rotation.T @ flat
    new = new.reshape(weight.shape)
    if kind == "dora":
        for i in range(weight.shape[1]):
            new[:, i] *= parts["dora_scale"].flatten()[i] / new[:, i].square().sum().sqrt()
    return new


@pytest.mark.parametrize("where", LAYERS)
@pytest.mark.parametrize("kind", LORA_TYPES)
def test_the_formula(kind, where):
    layer = layer_of(where)
    made = adapter_of(kind, layer)
    parts = made.tensors()
    expected = copy.deepcopy(layer)
    expected.weight.copy_(changed_weight(kind, parts, layer.weight))
    torch.testing.assert_close(layer.weight + made.change(layer.weight), expected.weight, rtol=1e-4, atol=1e-5)

    inputs = inputs_of(layer)
    wanted, plain = expected(inputs), layer(inputs)
    assert not torch.allclose(wanted, plain, atol=1e-2)
    model = nn.ModuleDict({"layer": layer})
    (hook,) = lora_network.attach(model, {"layer": made}, 0.0)
    torch.testing.assert_close(layer(inputs), wanted, rtol=1e-4, atol=1e-4)
    hook.remove()
    assert torch.equal(layer(inputs), plain)
    lora_network.merge(model, {"layer": made})
    torch.testing.assert_close(layer(inputs), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("where", LAYERS)
@pytest.mark.parametrize("kind", LORA_TYPES)
def test_it_begins_with_no_change_and_has_the_size_that_the_plan_counts(kind, where):
    layer = layer_of(where)
    made = layer_adapters.create(config(kind), layer.weight, 3, torch.Generator().manual_seed(1))
    assert made.change(layer.weight).abs().max() < 1e-6
    assert not made.learned(torch.float32)
    assert sum(p.numel() for p in made.parameters()) == layer_adapters.count(config(kind), tuple(layer.weight.shape), 3)
    loss = (layer(inputs_of(layer)) + made(inputs_of(layer), layer)).square().mean()
    loss.backward()
    moved = [name for name, parameter in made.named_parameters() if parameter.grad.any()]
    assert set(moved) & set(made.GROWS) and (kind != "dora" or "dora_scale" in moved)


@pytest.mark.parametrize("kind", LORA_TYPES)
def test_parts_make_the_same_adapter(kind):
    layer = layer_of("conv")
    made = adapter_of(kind, layer)
    again = layer_adapters.from_parts(made.tensors())
    assert type(again) is type(made) and again.scale == made.scale
    assert torch.equal(again.change(layer.weight), made.change(layer.weight))


# --- without a written-out change


def others(where: str) -> dict[str, Adapter]:
    """Adapters that only other tools' files have, for a layer of 12 inputs and 8 outputs."""
    drawn = torch.Generator().manual_seed(7)
    kernel = () if where == "linear" else (1, 1) if where == "conv1x1" else (3, 3)
    ones, wide = (1,) * len(kernel), math.prod(kernel)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=drawn) * 0.3

    down = {"lora_down.weight": normal(3, 12, *kernel), "lora_up.weight": normal(8, 3, *ones)}
    lokr = {"lokr_w1_a": normal(2, 2), "lokr_w1_b": normal(2, 3), "lokr_w2_a": normal(4, 2)}
    lokr |= {"lokr_w2_b": normal(2, 4 * wide), "alpha": torch.tensor(1.0)}
    made = {
        "DoRA of outputs": {**down, "dora_scale": normal(8, 1, *ones).abs()},
        "LoKr of four": lokr,
        "LoKr with magnitudes": {**lokr, "dora_scale": normal(1, 12, *ones).abs()},
        "OFT held back": {"oft_blocks": normal(2, 4, 4), "alpha": torch.tensor(0.02)},
    }
    if wide > 1:
        made["LoCon with a kernel"] = {
            **{"lora_down.weight": normal(3, 12, 1, 1), "lora_up.weight": normal(8, 3, 1, 1)},
            **{"lora_mid.weight": normal(3, 3, 3, 3), "alpha": torch.tensor(2.0)},
        }
        made["DoRA with a kernel"] = made["LoCon with a kernel"] | {"dora_scale": normal(1, 12, 1, 1).abs()}
        made["LoKr with a kernel"] = {
            **{"lokr_w1": normal(2, 3), "lokr_t2": normal(2, 2, 3, 3)},
            **{"lokr_w2_a": normal(2, 4), "lokr_w2_b": normal(2, 4)},
        }
    found = {name: layer_adapters.from_parts(parts) for name, parts in made.items()}
    assert all(adapter is not None for adapter in found.values())
    return found


def plain(made: Adapter, inputs: Tensor, layer: nn.Module) -> Tensor:
    """What a change adds that is written out and left to autograd."""
    return apply(layer, inputs, made.change(layer.weight))


def computed(layer: nn.Module, made: Adapter, inputs: Tensor, written_out: bool) -> list[Tensor]:
    """The output, and the gradients of the inputs and of all that learns."""
    inputs = inputs.detach().requires_grad_()
    output = layer(inputs)
    if written_out:
        output = output + plain(made, inputs, layer)
    else:
        output = lora_network._adding(made, 0.0, Switch())(layer, (inputs,), output)
    weights = torch.randn(output.shape, generator=torch.Generator().manual_seed(3))
    loss = (output.float() * weights).sum()
    return [output, *torch.autograd.grad(loss, [inputs, *made.parameters()])]


ALL = [(where, kind) for where in LAYERS for kind in (*LORA_TYPES, "lokr low", *others(where))]


@pytest.mark.parametrize(("where", "kind"), ALL)
def test_outputs_and_gradients_are_those_of_the_written_out_change(where, kind):
    layer = layer_of(where)
    made = others(where).get(kind) or adapter_of(kind.split()[0], layer, rank=1 if kind == "lokr low" else 3)
    assert layer_adapters.fits(made, layer.weight.shape)
    inputs = inputs_of(layer)
    wanted, found = computed(layer, made, inputs, True), computed(layer, made, inputs, False)
    for one, other in zip(wanted, found, strict=True):
        assert (one - other).norm() <= 5e-6 * one.norm() and one.any()
    dropped = made(functional.dropout(inputs, 0.5, True), layer)  # where the layer's output is not known
    assert dropped.shape == found[0].shape
    torch.testing.assert_close(made(inputs, layer), found[0] - layer(inputs), rtol=1e-4, atol=1e-5)


def large_layer(where: str, packing: str = "") -> nn.Module:
    torch.manual_seed(0)
    layer = nn.Linear(96, 64) if where == "linear" else nn.Conv2d(96, 64, 3, padding=1)
    layer.requires_grad_(False)
    if packing:
        chosen = PACKINGS[there(packing)]
        pack(layer, chosen, *chosen.pack(layer.weight), torch.float32)
    return layer


@pytest.mark.parametrize("packing", PACKINGS)
@pytest.mark.parametrize("kind", LORA_TYPES)
@pytest.mark.parametrize("where", ["linear", "conv"])
def test_it_is_the_same_on_a_packed_weight(kind, where, packing):
    layer = large_layer(where, packing)
    made = adapter_of(kind, layer, rank=4)
    inputs = torch.randn(2, 5, 96) if where == "linear" else torch.randn(2, 96, 4, 4)
    for one, other in zip(computed(layer, made, inputs, True), computed(layer, made, inputs, False), strict=True):
        assert (one - other).norm() <= 5e-6 * one.norm() and one.any()


@pytest.mark.parametrize("packing", ["", "int8"])
@pytest.mark.parametrize("kind", ["lora", "dora", "loha", "lokr", "oft"])
@pytest.mark.parametrize("where", ["linear", "conv"])
def test_nothing_is_kept_that_is_as_large_as_the_weight(kind, where, packing):
    layer = large_layer(where, packing)
    made = adapter_of(kind, layer, rank=4)
    inputs = torch.randn(1, 5, 96) if where == "linear" else torch.randn(1, 96, 2, 2)

    def kept(forward) -> list[int]:
        sizes: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            if packing or tensor.data_ptr() != layer.weight.data_ptr():
                sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            output = forward(inputs.requires_grad_(), layer)
        output.sum().backward()
        return sizes

    size = layer.weight.numel()
    assert max(kept(made)) < size / 4 and max(kept(lambda *a: plain(made, *a))) >= size


@pytest.mark.parametrize("kind", ["dora", "lokr", "oft"])
@pytest.mark.parametrize("where", LAYERS)
def test_in_mixed_precision_small_changes_are_not_lost(kind, where):
    """Magnitudes that are 0.1 % off, and as small rotations and products: less than bfloat16 tells from 1."""
    layer = layer_of(where).bfloat16().float()
    made = layer_adapters.create(config(kind), layer.weight, 3, torch.Generator().manual_seed(1))
    drawn = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            noise = torch.randn(parameter.shape, generator=drawn)
            parameter.mul_(1 + 1e-3 * noise) if name == "dora_scale" else parameter.add_(1e-3 * noise)
    inputs = inputs_of(layer).bfloat16()
    exact = plain(made, inputs.float(), layer)
    layer.bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = made(inputs, layer)
    assert found.dtype == torch.bfloat16 and (found.float() - exact).norm() < 0.02 * exact.norm()


@pytest.mark.parametrize("kind", LORA_TYPES)
@pytest.mark.parametrize("where", LAYERS)
def test_at_the_start_the_output_is_the_layers_own_to_the_bit(kind, where):
    layer = layer_of(where)
    made = layer_adapters.create(config(kind), layer.weight, 3, torch.Generator().manual_seed(1))
    inputs = inputs_of(layer)
    assert not made(inputs, layer, layer(inputs)).any() and not made(inputs, layer).any()


def test_scaling():
    layer = layer_of("linear")
    half = adapter_of("lora", layer, rank=4, alpha=2.0)
    assert half.scale == 0.5 and float(half.tensors()["alpha"]) == 2.0
    own = adapter_of("lora", layer, rank=8, alpha=2.0)  # a layer with twice the rank: the same proportion
    assert own.scale == 0.5 and float(own.tensors()["alpha"]) == 4.0
    stabilised = adapter_of("lora", layer, rank=4, alpha=2.0, use_rslora=True)
    assert stabilised.scale == pytest.approx(2.0 / math.sqrt(4))
    assert float(stabilised.tensors()["alpha"]) / 4 == stabilised.scale  # as every reader of the file computes it


def test_lokr_writes_a_small_factor_out_and_scales_it_by_nothing():
    layer = layer_of("linear")
    low, whole = (layer_adapters.create(config("lokr"), layer.weight, rank, torch.Generator()) for rank in (1, 4))
    assert {"lokr_w1", "lokr_w2_a", "lokr_w2_b"} <= low.tensors().keys() and low.scale == 0.5
    assert "lokr_w2" in whole.tensors() and whole.scale == 1
    assert layer_adapters.factors(360, -1) == (18, 20) and layer_adapters.factors(360, 4) == (4, 90)
    assert layer_adapters.factors(7, -1) == (1, 7)


def tucker(kind: str) -> tuple[dict[str, Tensor], Tensor]:
    """Forms that other tools write for convolutions, and what they mean for a weight (8, 12, 3, 3)."""
    t, a, b = torch.randn(3, 3, 3, 3), torch.randn(3, 8), torch.randn(3, 12)
    product = torch.einsum("pqhw,po,qi->oihw", t, a, b)
    alpha = torch.tensor(3.0)
    if kind == "lora_mid":
        parts = {"lora_up.weight": a.T[..., None, None], "lora_down.weight": b[..., None, None]}
        return {**parts, "lora_mid.weight": t, "alpha": alpha}, product
    if kind == "loha":
        parts = {f"hada_{name}": value for n in "12" for name, value in ((f"w{n}_a", a), (f"w{n}_b", b), (f"t{n}", t))}
        return {**parts, "alpha": alpha}, product * product
    w1 = torch.randn(2, 2)
    t, a, b = torch.randn(3, 3, 3, 3), torch.randn(3, 4), torch.randn(3, 6)
    small = torch.einsum("pqhw,po,qi->oihw", t, a, b)
    parts = {"lokr_w1": w1, "lokr_w2_a": a, "lokr_w2_b": b, "lokr_t2": t, "alpha": alpha}
    return parts, torch.cat([torch.cat([w1[o, i] * small for i in range(2)], dim=1) for o in range(2)])


@pytest.mark.parametrize("kind", ["lora_mid", "loha", "lokr"])
def test_tuckers_forms_of_other_tools(kind):
    parts, expected = tucker(kind)
    made = layer_adapters.from_parts(parts)
    torch.testing.assert_close(made.change(torch.zeros(8, 12, 3, 3)), expected, rtol=1e-4, atol=1e-4)


def test_dora_of_other_tools_with_the_outputs_norms():
    layer = layer_of("linear")
    made = adapter_of("lora", layer)
    sizes = torch.rand(8, 1) + 0.5
    turned = layer_adapters.from_parts({**made.tensors(), "dora_scale": sizes})
    whole = layer.weight + made.change(layer.weight)
    expected = functional.normalize(whole, dim=1) * sizes
    torch.testing.assert_close(layer.weight + turned.change(layer.weight), expected)


def test_dropout_hides_inputs_in_training_only():
    layer = layer_of("linear")
    made = adapter_of("lora", layer)
    lora_network.attach(nn.ModuleDict({"layer": layer}), {"layer": made}, 0.5)
    inputs = inputs_of(layer)
    assert not torch.equal(layer.train()(inputs), layer(inputs))
    assert torch.equal(layer.eval()(inputs), layer(inputs))


def test_full_differences_are_drawn_with():
    layer = layer_of("linear")
    whole = layer_adapters.from_parts({"diff": torch.ones(8, 12), "diff_b": torch.full((8,), 2.0)})
    before, inputs = layer.bias.clone(), torch.zeros(1, 12)
    lora_network.merge(nn.ModuleDict({"layer": layer}), {"layer": whole}, 0.5)
    torch.testing.assert_close(layer(inputs)[0], before + 1)


@pytest.mark.parametrize(
    "parts", [{"lora_up.weight"}, {"hada_w1_a", "hada_w1_b"}, {"weight", "on_input"}, {"oft_diag"}]
)
def test_what_is_not_known_makes_no_adapter(parts):
    assert layer_adapters.from_parts({name: torch.ones(2, 2) for name in parts}) is None


@pytest.mark.parametrize("kind", LORA_TYPES)
@pytest.mark.parametrize("shape", [(64, 32), (64, 32, 3, 3), (64, 32, 1, 1)])
def test_an_adapter_fits_weights_of_its_own_shape_only(kind, shape):
    made = layer_adapters.create(config(kind), torch.randn(shape), 4, torch.Generator())
    assert layer_adapters.fits(made, shape)
    for other in ((shape[0] * 2, *shape[1:]), (shape[0] // 2, *shape[1:])):
        assert not layer_adapters.fits(made, other)
