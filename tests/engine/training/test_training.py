"""What training does: what learns and what stays, each part of the loss and of the step against a computation of its
own, and losses that may not move from one version to the next.
"""

from __future__ import annotations

import copy
import gc
import itertools
import weakref

import pytest
import torch
from torch import Tensor

from dreambooth_ext.engine import worker
from dreambooth_ext.engine.data.batch import Batch
from dreambooth_ext.engine.data.dataset import Dataset
from dreambooth_ext.engine.methods.full import FullTraining
from dreambooth_ext.engine.models.base_model import open_base
from dreambooth_ext.engine.runtime.seeds import generator
from dreambooth_ext.engine.tensors.tensor_file import open_tensors
from dreambooth_ext.engine.training import loop as loop_module
from dreambooth_ext.engine.training.loop import Loop
from dreambooth_ext.engine.training.loop_state import LoopState
from dreambooth_ext.engine.training.loss import Objective
from tests import training
from tests.training import Trainer

PRIOR = {"class_prompt": "a photo of a person", "num_class_images": 2, "prior_loss_weight": 0.7}
SGD = {"optimizer": "sgd", "weight_decay": 0.0, "learning_rate": 0.1}
STATES = {"checkpointing_steps": 1, "save_intermediate_models": False}


def of_base(trainer: Trainer) -> dict[str, Tensor]:
    """The base's trained parts under the names of `training.weights`."""
    base = open_base(str(trainer.base))
    modules = {"unet": base.unet(), **dict(zip(("text_encoder", "text_encoder_2"), base.text_encoders(), strict=False))}
    return {f"{part}/{key}": value for part, module in modules.items() for key, value in module.state_dict().items()}


def part(weights: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    return {key: tensor for key, tensor in weights.items() if key.startswith(f"{name}/")}


def changed(one: dict[str, Tensor], other: dict[str, Tensor]) -> set[str]:
    return {key for key in one if not torch.equal(one[key], other[key])}


def assert_near(one: dict[str, Tensor], other: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    assert one.keys() == other.keys()
    for key in one:
        torch.testing.assert_close(one[key], other[key], rtol=tolerance, atol=tolerance, msg=key)


# --- what learns


def test_the_text_encoder_learns_for_its_steps_and_then_stays(trainer):
    run, base = trainer.train(text_encoder_steps=2, **STATES), of_base(trainer)
    after = {step: training.weights(run, step) for step in (1, 2, 3, 4)}
    for earlier, later in ((base, after[1]), (after[1], after[2])):
        assert changed(part(earlier, "unet"), later) == part(base, "unet").keys()
        assert len(changed(part(earlier, "text_encoder"), later)) > 0.9 * len(part(base, "text_encoder")) - 1
    assert changed(part(after[2], "text_encoder"), after[4]) == set()
    assert changed(part(after[2], "unet"), after[4]) == part(base, "unet").keys()
    assert [set(event["lr"]) for event in training.events(run, "step")] == [{"unet", "text_encoder"}] * 2 + [
        {"unet"}
    ] * 2


def test_what_does_not_learn_is_the_bases_in_the_exported_file(trainer):
    run, base = trainer.train(text_encoder_steps=0), {k: v.clone() for k, v in open_tensors(trainer.base).items()}
    model = training.artifact(run)
    assert model.keys() == base.keys()
    moved = changed(base, model)
    assert moved == {key for key in base if key.startswith("model.diffusion_model.")}
    assert training.weights(run).keys() == part(of_base(trainer), "unet").keys()  # no state of what does not learn


def test_the_exported_file_holds_the_trained_text_encoder(trainer):
    run = trainer.train(text_encoder_steps=2)
    model, state = training.artifact(run), training.weights(run)
    name = "text_model.encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(model[f"cond_stage_model.transformer.{name}"], state[f"text_encoder/{name}"])
    vae = {key: t for key, t in open_tensors(trainer.base).items() if key.startswith("first_stage_model.")}
    assert changed(vae, model) == set()


def test_a_rate_of_zero_leaves_the_text_encoder_as_it_was(trainer):
    base = of_base(trainer)
    still = training.weights(trainer.train(text_encoder_steps=3, text_encoder_lr="0:4, 1e-3"))
    assert changed(part(base, "text_encoder"), still) == set()
    slow, fast = (training.weights(trainer.train(text_encoder_steps=3, text_encoder_lr=r)) for r in (1e-5, 1e-3))

    def way(weights: dict[str, Tensor]) -> float:
        return sum(float((weights[key] - base[key]).norm()) for key in part(base, "text_encoder"))

    assert 0 < way(slow) < 0.1 * way(fast)


def test_sdxls_text_encoders_each_have_their_rate(tmp_path):
    trainer = Trainer(tmp_path, "sdxl")
    base = of_base(trainer)
    after = training.weights(trainer.train(text_encoder_steps=2, max_train_steps=2, text_encoder_2_lr=0))
    assert changed(part(base, "text_encoder"), after)
    assert changed(part(base, "text_encoder_2"), after) == set()


def gradients_of(trainer: Trainer, monkeypatch, **settings) -> dict[str, Tensor | None]:
    """Every learning parameter's gradient in the first step."""
    found: dict[str, Tensor | None] = {}

    def kept(loop: Loop, losses: list[Tensor]) -> None:
        for name, module in loop.method._live.items():
            for key, value in module.named_parameters():
                found[f"{name}/{key}"] = None if value.grad is None else value.grad.clone()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Loop, "_optimise", kept)
        run = trainer.create(text_encoder_steps=2, **settings)
        with pytest.raises(KeyboardInterrupt):
            training.go_on(run)
    return found


@pytest.mark.parametrize("family", ["sd1", "sd2", "sdxl"])
def test_gradients_reach_all_that_is_used_also_with_checkpointing(tmp_path, monkeypatch, family):
    trainer = Trainer(tmp_path, family)
    plain = gradients_of(trainer, monkeypatch)
    unused = {key for key, grad in plain.items() if grad is None or not grad.any()}
    # SDXL takes the first encoder's last layer but one: the last layer and the norm after it have no part in it.
    last = ("text_encoder/text_model.encoder.layers.2.", "text_encoder/text_model.final_layer_norm.")
    expected = {key for key in plain if key.startswith(last)} if family == "sdxl" else set()
    assert {key for key in unused if not key.endswith("k_proj.bias")} == {
        key
        for key in expected
        if not key.endswith("k_proj.bias")  # a key's bias has no effect on a softmax
    }
    checkpointed = gradients_of(trainer, monkeypatch, gradient_checkpointing=True)
    assert checkpointed.keys() == plain.keys()
    for key, grad in plain.items():
        if grad is None:
            assert checkpointed[key] is None
        else:
            torch.testing.assert_close(checkpointed[key], grad, rtol=1e-5, atol=1e-7, msg=key)


def test_gradient_checkpointing_reaches_every_model(trainer, monkeypatch):
    calls = set()

    def counted(function, *arguments, **options):
        layer = getattr(function, "func", function).__self__  # transformers wraps it in a partial
        calls.add(type(layer).__name__)
        return checkpointed(function, *arguments, **options)

    checkpointed = torch.utils.checkpoint.checkpoint
    monkeypatch.setattr("torch.utils.checkpoint.checkpoint", counted)
    monkeypatch.setattr("transformers.modeling_utils.checkpoint", counted)
    trainer.train(text_encoder_steps=1, max_train_steps=1)
    assert calls == set()
    trainer.train(gradient_checkpointing=True, text_encoder_steps=1, max_train_steps=1)
    assert calls == {"CLIPEncoderLayer", "ResnetBlock2D", "BasicTransformerBlock"}


@pytest.mark.parametrize("precision", ["no", "bf16"])
def test_a_frozen_text_encoder_leaves_memory(trainer, monkeypatch, precision):
    seen = []
    enter = FullTraining.enter

    def watched(method: FullTraining, step: int) -> list[str]:
        if step == 1:
            encoder = method.backbone.prompts.text.encoders[0]
            seen.extend(weakref.ref(p) for p in encoder.parameters())
        return enter(method, step)

    alive = []
    leave = LoopState.leave

    def left(state: LoopState, names: list[str]) -> None:
        leave(state, names)
        if names:
            gc.collect()
            alive.append(sum(reference() is not None for reference in seen))

    monkeypatch.setattr(FullTraining, "enter", watched)
    monkeypatch.setattr(LoopState, "leave", left)
    trainer.train(text_encoder_steps=2, mixed_precision=precision)
    assert len(seen) > 10 and alive == [0]


# --- the loss


def spied_batch(monkeypatch) -> list[tuple]:
    """The arguments of the loss in each forward pass."""
    calls = []
    loss = Objective.loss

    def spied(objective, unet, latents, conditioning, time_ids, weights, draws, *others):
        calls.append((copy.deepcopy(unet), latents.clone(), conditioning, weights.clone(), draws.get_state()))
        return loss(objective, unet, latents, conditioning, time_ids, weights, draws, *others)

    monkeypatch.setattr(Objective, "loss", spied)
    return calls


def test_prior_preservation_is_the_sum_of_both_losses(trainer, monkeypatch):
    """Against noise, target and mean squared error written down again, from the first step's pictures."""
    calls = spied_batch(monkeypatch)
    run = trainer.train(**PRIOR, max_train_steps=1)
    ((unet, latents, conditioning, weights, state),) = calls
    assert len(latents) == 2 and weights.tolist() == pytest.approx([1, 0.7])
    draws = generator(7, "noise", 0, 0, 0, 0)
    assert torch.equal(draws.get_state(), state)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    signal = (1 - betas).cumprod(0)
    losses = []
    for latent, hidden in zip(latents, conditioning.hidden_bsd, strict=True):
        t = torch.randint(0, 1000, (), generator=draws)
        noise = torch.randn(latent.shape, generator=draws)
        noisy = signal[t].sqrt() * latent + (1 - signal[t]).sqrt() * noise
        with torch.no_grad():
            found = unet(noisy[None], t, encoder_hidden_states=hidden[None]).sample[0]
        losses.append(float(((found - noise) ** 2).mean()))
    assert training.losses(run) == [pytest.approx(losses[0] + 0.7 * losses[1], rel=1e-5)]

    without = trainer.train(max_train_steps=1)
    assert training.losses(without) == [pytest.approx(losses[0], rel=1e-5)]
    assert changed(training.weights(run), training.weights(without))


class Halves(Dataset):
    """Batches of two, handed out as two micro-steps of one picture each."""

    def __init__(self, config, *arguments, **options):
        super().__init__(config.replace(train_batch_size=2, gradient_accumulation_steps=1), *arguments, **options)

    def fill(self, step: int, micros: int, rank: int, world: int) -> tuple[int, int] | None:
        return super().fill(step, 1, rank, world)

    def batches(self, step: int, micro: int = 0, rank: int = 0, world: int = 1) -> list[Batch]:
        (batch,) = super().batches(step)
        assert len(batch) == 2
        one = slice(micro, micro + 1)
        return [
            Batch(
                latents_bchw=batch.latents_bchw[one],
                pixels_bchw=None,
                captions=batch.captions[one],
                time_ids_b6=batch.time_ids_b6[one],
                weights_b=torch.ones(1),
                keys=batch.keys[one],
            )
        ]


def test_two_batches_of_one_are_one_batch_of_two(tmp_path, monkeypatch):
    """The same pictures and the same noise, accumulated or not."""
    draws: dict[int, torch.Generator] = {}

    def one_stream(seed: int, what: str, step: int, *place: int) -> torch.Generator:
        return draws.setdefault(step, generator(seed, what, step))

    monkeypatch.setattr(loop_module, "generator", one_stream)
    trainer = Trainer(tmp_path, instance_data_dir=training.pictures(tmp_path / "pictures", 4))
    settings = {**SGD, "max_train_steps": 3, "text_encoder_steps": 3, "max_grad_norm": 0.5}
    one = trainer.train(**settings, train_batch_size=2)
    draws.clear()
    monkeypatch.setattr(worker, "Dataset", Halves)
    other = trainer.train(**settings, gradient_accumulation_steps=2)
    assert_near(training.weights(one), training.weights(other))
    assert training.losses(one) == pytest.approx(training.losses(other), rel=1e-5)


def test_clipping_is_by_the_global_norm_of_all_that_learns(trainer):
    run = trainer.train(**SGD, max_train_steps=1, text_encoder_steps=1, max_grad_norm=0.01)
    before, after = of_base(trainer), training.weights(run)
    way = sum(float((after[key] - before[key]).double().square().sum()) for key in after) ** 0.5
    (event,) = training.events(run, "step")
    assert event["grad_norm"] > 0.01 and way == pytest.approx(0.01 * 0.1, rel=1e-3)
    free = trainer.train(**SGD, max_train_steps=1, text_encoder_steps=1, max_grad_norm=0)
    far = sum(float((training.weights(free)[key] - before[key]).double().square().sum()) for key in after) ** 0.5
    assert far == pytest.approx(event["grad_norm"] * 0.1, rel=1e-3)
    assert training.events(free, "step")[0]["grad_norm"] is None


def test_clipping_by_value_cuts_each_number(trainer):
    settings = {**SGD, "max_train_steps": 1}
    before, limit = of_base(trainer), 1e-4
    free = training.weights(trainer.train(**settings, max_grad_norm=0))
    clipped = training.weights(trainer.train(**settings, max_grad_norm=limit, clip_grad_mode="value"))
    assert max(float((free[key] - before[key]).abs().max()) for key in free) > 10 * limit * 0.1
    for key, tensor in free.items():
        expected = before[key] + (tensor - before[key]).clamp(-limit * 0.1, limit * 0.1)
        torch.testing.assert_close(clipped[key], expected, rtol=1e-5, atol=1e-7)


def test_clipping_follows_its_schedule(trainer):
    run = trainer.train(**SGD, max_train_steps=3, max_grad_norm="0.01:1, 0.02:2, 0", checkpointing_steps=1)
    states = [of_base(trainer), *(training.weights(run, step) for step in (1, 2, 3))]
    ways = []
    for before, after in itertools.pairwise(states):
        ways.append(sum(float((after[key] - before[key]).double().square().sum()) for key in after) ** 0.5)
    assert ways[:2] == pytest.approx([0.001, 0.002], rel=1e-3) and ways[2] > 0.01
    norms = [event["grad_norm"] for event in training.events(run, "step")]
    assert norms[0] > 0.01 and norms[2] is None


def test_the_moving_average_by_its_formula(trainer):
    """diffusers' warm-up: update k, from 0, keeps min(decay, (1 + k) / (10 + k)) of the average; the first, nothing."""
    run = trainer.train(**STATES, use_ema=True, ema_decay=0.15, text_encoder_steps=2)
    names = [name for name, _ in open_base(str(trainer.base)).unet().named_parameters()]
    shadow = None
    for update in range(4):
        weights = training.weights(run, update + 1)
        now = {name: weights[f"unet/{name}"] for name in names}
        keep = min(0.15, (1 + update) / (10 + update)) if update else 0.0
        shadow = now if shadow is None else {n: keep * shadow[n] + (1 - keep) * now[n] for n in names}
    kept = training.trainer_state(run)["ema"]["shadow_params"]
    assert_near(dict(zip(names, kept, strict=True)), shadow)
    plain = trainer.train(text_encoder_steps=2)
    assert training.difference(training.weights(plain), training.weights(run)) == ""  # it only watches
    model, other = training.artifact(run), training.artifact(plain)
    moved = changed(model, other)
    assert moved and all(key.startswith("model.diffusion_model.") for key in moved)  # the average is what is exported
    torch.testing.assert_close(model["model.diffusion_model.input_blocks.0.0.bias"], shadow["conv_in.bias"])


@pytest.mark.parametrize("family", ["sd1", "sdxl"])
def test_bf16_is_near_float32_and_keeps_its_weights_in_float32(tmp_path, family):
    trainer = Trainer(tmp_path, family)
    exact = trainer.train(text_encoder_steps=2)
    run = trainer.train(text_encoder_steps=2, mixed_precision="bf16", **STATES)
    assert training.losses(run) == pytest.approx(training.losses(exact), rel=0.05)
    assert training.losses(run) != training.losses(exact)
    assert {tensor.dtype for tensor in training.weights(run).values()} == {torch.float32}
    assert all(tensor.isfinite().all() for tensor in training.artifact(run).values())


# --- golden losses

GOLDEN: dict[str, tuple[dict, list[float]]] = {
    "dreambooth": ({**PRIOR, "text_encoder_steps": 3}, [1.72821, 1.70493, 1.55428, 1.49185, 1.32933, 1.28987]),
    "plain": ({}, [0.99867, 0.99376, 0.95844, 0.95786, 0.72745, 0.75401]),
    "everything": (
        {
            "text_encoder_steps": 3,
            "train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "lr_scheduler": "cosine",
            "lr_warmup_steps": 1,
            "offset_noise": 0.1,
            "snr_gamma": 5,
            "loss_type": "huber",
            "random_flip": True,
        },
        [0.15722, 0.20829, 0.27193, 0.20919, 0.27165, 0.21142],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_losses_stay_what_they_were(trainer, name):
    """To three digits: the kernels of two processors were up to 1.3e-4 apart after six steps."""
    settings, losses = GOLDEN[name]
    assert training.losses(trainer.train(**settings, max_train_steps=6)) == pytest.approx(losses, abs=5e-4)
