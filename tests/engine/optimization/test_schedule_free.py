"""Schedule-Free: what is saved, drawn and validated is the average; training goes on, to the bit, with the rest."""

from __future__ import annotations

import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs.run_folder import Run
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.optimization.optimizer_creation import make_optimizer
from dreambooth_ext.engine.optimization.schedule_free import averages
from dreambooth_ext.engine.optimization.single_steps import SingleSteps
from dreambooth_ext.engine.training import loop_state
from tests import training
from tests.engine.worker.test_resume import check
from tests.seldom import seldom

# d0: else nothing is learned within a few steps
FREE = {"optimizer": "prodigy_schedulefree", "learning_rate": 1.0, "optimizer_args": {"d0": 1e-4}}
HALVED = {"weight_precision": "bf16", "mixed_precision": "bf16"}
BETA = 0.9


def trained(dtype: torch.dtype) -> tuple[torch.optim.Optimizer, torch.nn.Parameter]:
    weight = torch.nn.Parameter(torch.randn(64, 64, generator=torch.Generator().manual_seed(1)).to(dtype))
    groups = [{"name": "unet", "params": [weight], "rate": 1.0}]
    optimizer = make_optimizer(RunConfig(optimizer="prodigy_schedulefree", optimizer_args={"d0": 1e-2}), groups)
    steps = SingleSteps(optimizer, seed=1)
    for steps.now in range(5):
        weight.grad = weight.detach().clone()
        steps.step_all()
    return optimizer, weight


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_averages_are_weights_only_for_a_while(dtype):
    optimizer, weight = trained(dtype)
    y, z = weight.detach().clone(), optimizer.state[weight]["z"]
    assert z.dtype == dtype and not torch.equal(y, z)
    with averages(optimizer):
        x = weight.detach().clone()
    exact = (y.float() - (1 - BETA) * z.float()) / BETA
    torch.testing.assert_close(x.float(), exact, rtol=2.0**-8 if dtype == torch.bfloat16 else 1e-6, atol=1e-6)
    assert torch.equal(weight, y) and not torch.equal(x, y)
    weight.grad = y.clone()
    optimizer.step()  # it would refuse


def test_also_after_a_failure():
    optimizer, weight = trained(torch.float32)
    y = weight.detach().clone()
    with pytest.raises(ValueError, match="disk"), averages(optimizer):
        raise ValueError("disk")
    assert torch.equal(weight, y)


def test_a_group_that_leaves_meanwhile_keeps_its_averages():
    optimizer, weight = trained(torch.float32)
    z, y = optimizer.state[weight]["z"].clone(), weight.detach().clone()
    with averages(optimizer):
        optimizer.param_groups.clear()
    torch.testing.assert_close(weight.detach(), (y - (1 - BETA) * z) / BETA)


# --- runs


def expected(trainer: training.Trainer, run: Run) -> dict[str, torch.Tensor]:
    """The UNet's averages by the training state's weights and z."""
    weights, known = training.weights(run), training.trainer_state(run)["optimizer"]["state"]
    names = [f"unet/{name}" for name, _ in open_base(str(trainer.base)).unet().named_parameters()]
    assert len(names) == len(known)
    return {name: (weights[name] - (1 - BETA) * known[n]["z"]) / BETA for n, name in enumerate(names)}


@pytest.mark.parametrize("fused", [False, True])
def test_the_average_is_what_is_saved_and_the_rest_what_is_resumed_from(trainer, fused):
    settings = {**FREE, "text_encoder_steps": 0, "max_grad_norm": 0 if fused else 1.0}
    run = trainer.train(**settings, max_train_steps=4)
    averaged, model = expected(trainer, run), training.artifact(run)
    weights = training.weights(run)
    bias, stored = "unet/conv_in.bias", model["model.diffusion_model.input_blocks.0.0.bias"]
    assert not torch.equal(averaged[bias], weights[bias])
    torch.testing.assert_close(stored.float(), averaged[bias], rtol=0, atol=1e-6)
    assert (stored.float() - weights[bias]).abs().max() > 1e-5


SLOW = seldom([{"max_grad_norm": 0}, HALVED])


@pytest.mark.parametrize("more", [{}, {**HALVED, "max_grad_norm": 0}, *SLOW])
def test_a_resumed_run_is_the_same_also_with_the_text_encoder_that_left(trainer, more):
    check(trainer, (1, 3), **FREE, **more, text_encoder_steps=2, max_train_steps=4)


@pytest.mark.parametrize("more", [{}, HALVED])
def test_previews_validation_and_saves_change_nothing(trainer, more):
    settings = {**FREE, **more, "max_train_steps": 3, "text_encoder_steps": 2}
    plain = trainer.train(**settings)
    looks = {"validation_prompts": ["a photo of zkz"], "validation_steps": 1, "validation_inference_steps": 2}
    watched = trainer.train(**settings, **looks, checkpointing_steps=1, save_intermediate_models=True)
    assert training.difference(training.weights(plain), training.weights(watched)) == ""
    assert training.difference(training.artifact(plain), training.artifact(watched)) == ""


def test_a_text_encoder_that_stops_learning_is_left_as_its_average(trainer, monkeypatch):
    settings = {**FREE, "max_train_steps": 2}
    until_the_end = trainer.train(**settings, text_encoder_steps=2)
    stops = trainer.train(**settings, text_encoder_steps=2, checkpointing_steps=1)
    key = "cond_stage_model.transformer.text_model.final_layer_norm.bias"
    at_end, after = training.artifact(until_the_end)[key], training.weights(stops)
    text = next(tensor for name, tensor in after.items() if name.endswith("final_layer_norm.bias"))
    torch.testing.assert_close(at_end.float(), text.float())
    monkeypatch.setattr(loop_state.LoopState, "averaged_by_optimizer", lambda self: loop_state.contextlib.nullcontext())
    without = trainer.train(**settings, text_encoder_steps=2)
    assert not torch.equal(training.artifact(without)[key], at_end)


@pytest.mark.parametrize("method", ["lora", "textual_inversion", "hypernetwork"])
def test_other_methods_learn_averages_too(trainer, method):
    own = {"textual_inversion": {"placeholder_token": "zkz"}}
    run = trainer.train(**{**FREE, "method": method, "max_train_steps": 2, **own.get(method, {})})
    assert run.state()["status"] == "done"
