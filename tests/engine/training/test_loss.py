"""Losses, targets, weights and noise against formulas written down a second time, in numpy and float64."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DConditionModel
from diffusers.training_utils import compute_snr

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.conditioning.text_encoding import Conditioning
from dreambooth_ext.engine.training import noise
from dreambooth_ext.engine.training.loss import Objective, pixel_errors
from dreambooth_ext.engine.training.noise_processes import DDPM

SCHEDULER = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "clip_sample": False,
}
SHAPE = (4, 8, 8)


def alphas_bar(zero_terminal: bool = False) -> np.ndarray:
    """Stable Diffusion's cumulative alphas; rescaled as in Lin et al. 2023, Algorithm 1."""
    product = np.cumprod(1 - np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2)
    if zero_terminal:
        root = np.sqrt(product)
        product = ((root - root[-1]) * root[0] / (root[0] - root[-1])) ** 2
    return product


class Recorder:
    """Stands for a UNet: keeps what it is given and answers with a fixed prediction."""

    def __init__(self, seed: int = 7):
        self.seed = seed

    def __call__(self, sample, timesteps, encoder_hidden_states, added_cond_kwargs=None):
        self.input, self.timesteps = sample, timesteps
        self.hidden, self.added = encoder_hidden_states, added_cond_kwargs
        self.output = torch.randn(sample[:, :4].shape, generator=torch.Generator().manual_seed(self.seed))
        return SimpleNamespace(sample=self.output)


def objective_of(config: RunConfig, scheduler_config, prediction_type: str) -> Objective:
    return Objective(config, DDPM(config, scheduler_config, prediction_type))


def latents(count: int = 3, seed: int = 1) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(seed))


def measure(
    prediction_type="epsilon", seed=5, weights=None, latents_bchw=None, extra=None, pooled=None, masks=None, **settings
):
    """(loss, what the UNet saw) for three pictures."""
    unet, z = Recorder(), latents() if latents_bchw is None else latents_bchw
    loss = objective_of(RunConfig(**settings), SCHEDULER, prediction_type).loss(
        unet,
        z,
        Conditioning(torch.zeros(len(z), 77, 8), pooled),
        torch.arange(6.0).repeat(len(z), 1),
        torch.full((len(z),), 1 / len(z)) if weights is None else torch.tensor(weights),
        torch.Generator().manual_seed(seed),
        extra,
        masks,
    )
    return loss, unet


def plain_noise(unet: Recorder, z: torch.Tensor, zero_terminal: bool = False) -> np.ndarray:
    """The noise in the UNet's input, solved for from x_t = sqrt(a) x_0 + sqrt(1 - a) noise."""
    a = alphas_bar(zero_terminal)[unet.timesteps.numpy()][:, None, None, None]
    return (unet.input.double().numpy()[:, :4] - np.sqrt(a) * z.double().numpy()) / np.sqrt(1 - a)


# --- Losses


def expected_error(loss_type: str, d: np.ndarray, c: np.ndarray) -> np.ndarray:
    """sd-scripts' definitions."""
    return {
        "l2": lambda: d**2,
        "l1": lambda: np.abs(d),
        "huber": lambda: 2 * c * (np.sqrt(d**2 + c**2) - c),
        "smooth_l1": lambda: 2 * (np.sqrt(d**2 + c**2) - c),
    }[loss_type]()


def expected_threshold(schedule: str, c: float, t: np.ndarray) -> np.ndarray:
    sigma = np.sqrt((1 - alphas_bar()) / alphas_bar())[t]
    return {
        "constant": lambda: np.full(len(t), c),
        "exponential": lambda: np.exp(np.log(c) / 1000 * t),
        "snr": lambda: (1 - c) / (1 + sigma) ** 2 + c,
    }[schedule]()


@pytest.mark.parametrize("loss_type", ["l2", "l1", "huber", "smooth_l1"])
@pytest.mark.parametrize("schedule", ["constant", "exponential", "snr"])
@pytest.mark.parametrize("huber_c", [0.1, 1.7])
def test_loss_is_the_weighted_sum_of_the_pictures_means(loss_type, schedule, huber_c):
    weights = [0.5, 0.5, 0.25]
    loss, unet = measure(weights=weights, loss_type=loss_type, huber_schedule=schedule, huber_c=huber_c)
    c = expected_threshold(schedule, huber_c, unet.timesteps.numpy())[:, None, None, None]
    errors = expected_error(loss_type, unet.output.double().numpy() - plain_noise(unet, latents()), c)
    assert loss.dtype == torch.float32 and loss.shape == ()
    assert loss.item() == pytest.approx((errors.mean(axis=(1, 2, 3)) * weights).sum(), rel=1e-4)


@pytest.mark.parametrize("loss_type", ["l2", "huber"])
def test_masks_weigh_each_latent_pixel(loss_type):
    masks = torch.rand(3, 1, *SHAPE[1:], generator=torch.Generator().manual_seed(3))
    loss, unet = measure(masks=masks, loss_type=loss_type)
    c = expected_threshold("snr", 0.1, unet.timesteps.numpy())[:, None, None, None]
    errors = expected_error(loss_type, unet.output.double().numpy() - plain_noise(unet, latents()), c)
    assert loss.item() == pytest.approx((errors * masks.double().numpy()).mean(), rel=1e-4)
    assert measure(masks=torch.ones_like(masks), loss_type=loss_type)[0] == measure(loss_type=loss_type)[0]


def test_small_errors_survive_float32():
    d, c = torch.tensor([1e-5]), torch.tensor([0.9])
    assert pixel_errors("huber", d, c).item() == pytest.approx(1e-10, rel=1e-5)
    assert pixel_errors("smooth_l1", d, c).item() == pytest.approx(1e-10 / 0.9, rel=1e-5)


def test_huber_at_zero_terminal_snr_is_finite():
    loss, unet = measure(
        "v_prediction", zero_terminal_snr=True, loss_type="huber", min_timestep=999, huber_schedule="snr"
    )
    assert (unet.timesteps == 999).all() and torch.isfinite(loss)


# --- Targets and inputs


@pytest.mark.parametrize("zero_terminal", [False, True])
def test_v_target(zero_terminal):
    loss, unet = measure("v_prediction", zero_terminal_snr=zero_terminal)
    z, a = latents().double().numpy(), alphas_bar(zero_terminal)[unet.timesteps.numpy()][:, None, None, None]
    target = np.sqrt(a) * plain_noise(unet, latents(), zero_terminal) - np.sqrt(1 - a) * z
    assert loss.item() == pytest.approx(((unet.output.numpy() - target) ** 2).mean(), rel=1e-4)


def test_zero_terminal_schedule_is_lins():
    rescaled = DDPM(RunConfig(zero_terminal_snr=True), SCHEDULER, "v_prediction").schedule.alphas_cumprod
    assert rescaled[-1] == 0
    np.testing.assert_allclose(rescaled.numpy(), alphas_bar(True), rtol=2e-3, atol=1e-6)


@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("asked", [None, False, True])
def test_zero_terminal_snr_is_the_bases_unless_asked_for(base, asked):
    objective = objective_of(
        RunConfig(zero_terminal_snr=asked), {**SCHEDULER, "rescale_betas_zero_snr": base}, "v_prediction"
    )
    assert (objective.process.schedule.alphas_cumprod[-1] == 0) == (base if asked is None else asked)


def test_zero_terminal_snr_needs_v_prediction():
    with pytest.raises(UserError) as caught:
        DDPM(RunConfig(zero_terminal_snr=True), SCHEDULER, "epsilon")
    assert caught.value.problem.field == "zero_terminal_snr"


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
def test_input_perturbation_is_on_the_input_only(prediction_type):
    """The same draws with and without it differ in the input by sqrt(1 - a) gamma noise; the target is the same."""
    one = latents(1)
    plain_loss, plain = measure(prediction_type, latents_bchw=one)
    loss, perturbed = measure(prediction_type, latents_bchw=one, ip_noise_gamma=0.1)
    assert plain.timesteps == perturbed.timesteps
    a = alphas_bar()[plain.timesteps.item()]
    added = (perturbed.input - plain.input).numpy() / np.sqrt(1 - a) / 0.1
    assert 0.8 < added.std() < 1.2
    # The answer of this UNet does not depend on its input, so an equal loss means an equal target.
    assert loss.item() == plain_loss.item()


def test_inpainting_channels_follow_the_noisy_latents():
    extra = torch.rand(3, 5, 8, 8)
    loss, unet = measure(extra=extra)
    plain_loss, plain = measure()
    assert unet.input.shape == (3, 9, 8, 8)
    assert torch.equal(unet.input[:, :4], plain.input) and torch.equal(unet.input[:, 4:], extra)
    assert loss == plain_loss


def test_sdxl_gets_pooled_text_and_sizes_and_others_do_not():
    pooled = torch.rand(3, 16)
    _, unet = measure(pooled=pooled)
    assert torch.equal(unet.added["text_embeds"], pooled)
    assert torch.equal(unet.added["time_ids"], torch.arange(6.0).repeat(3, 1))
    assert measure()[1].added is None


def test_half_precision_latents_and_answers_are_measured_in_float32():
    loss, unet = measure(latents_bchw=latents().half())
    assert loss.dtype == torch.float32 and unet.input.dtype == torch.float32


# --- Timesteps


def test_timesteps_cover_their_range_evenly():
    objective = objective_of(RunConfig(min_timestep=10, max_timestep=20), SCHEDULER, "epsilon")
    drawn = noise.draw_noise(
        torch.zeros(2000, 1, 1, 1), objective.process.timesteps, objective.config, torch.Generator().manual_seed(0)
    )
    assert drawn.timesteps_b.dtype == torch.int64
    counts = torch.bincount(drawn.timesteps_b)
    assert counts[:10].sum() == 0 and len(counts) == 20
    assert counts[10:].min() > 150 and counts[10:].max() < 250


def test_a_shorter_schedule_ends_where_it_ends():
    assert DDPM(RunConfig(), {**SCHEDULER, "num_train_timesteps": 100}, "epsilon").timesteps == range(0, 100)


def test_an_empty_range_is_refused():
    with pytest.raises(UserError) as caught:
        DDPM(RunConfig(min_timestep=500, max_timestep=500), SCHEDULER, "epsilon")
    assert caught.value.problem.field == "min_timestep"


# --- Weights of timesteps


def snr() -> np.ndarray:
    return alphas_bar() / (1 - alphas_bar())


def weights_of(prediction_type="epsilon", scheduler=SCHEDULER, **settings) -> np.ndarray:
    return DDPM(RunConfig(**settings), scheduler, prediction_type).weights_t.numpy()


def test_snr_is_diffusers():
    steps = torch.arange(1000)
    np.testing.assert_allclose(compute_snr(DDPMScheduler.from_config(SCHEDULER), steps).numpy(), snr(), rtol=1e-4)


@pytest.mark.parametrize("gamma", [1.0, 5.0, 20.0])
def test_min_snr_weights(gamma):
    capped = np.minimum(snr(), gamma)
    np.testing.assert_allclose(weights_of(snr_gamma=gamma), capped / snr(), rtol=1e-4)
    np.testing.assert_allclose(weights_of("v_prediction", snr_gamma=gamma), capped / (snr() + 1), rtol=1e-4)


def test_debiased_weights():
    capped = np.minimum(snr(), 1000)
    np.testing.assert_allclose(weights_of(debiased_estimation=True), 1 / np.sqrt(capped), rtol=1e-4)
    as_epsilon = 1 / np.sqrt(capped) * snr() / (snr() + 1)
    np.testing.assert_allclose(weights_of("v_prediction", debiased_estimation=True), as_epsilon, rtol=1e-4)


@pytest.mark.parametrize("settings", [{"snr_gamma": 5.0}, {"debiased_estimation": True}])
def test_a_v_model_is_weighed_as_the_epsilon_model_that_draws_the_same(settings):
    """From one guess of x_0 follow a v and an epsilon; both must cost the same."""
    generator = torch.Generator().manual_seed(0)
    x, eps, guess = (torch.randn(64, generator=generator, dtype=torch.float64).numpy() for _ in range(3))
    for t in (0, 5, 100, 500, 999):
        a = alphas_bar()[t]
        noisy = np.sqrt(a) * x + np.sqrt(1 - a) * eps
        eps_guess = (noisy - np.sqrt(a) * guess) / np.sqrt(1 - a)
        v, v_guess = np.sqrt(a) * eps - np.sqrt(1 - a) * x, np.sqrt(a) * eps_guess - np.sqrt(1 - a) * guess
        cost_eps = ((eps - eps_guess) ** 2).mean() * weights_of("epsilon", **settings)[t]
        cost_v = ((v - v_guess) ** 2).mean() * weights_of("v_prediction", **settings)[t]
        assert cost_v == pytest.approx(cost_eps, rel=1e-3)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("settings", [{"snr_gamma": 5.0}, {"debiased_estimation": True}])
def test_weights_are_finite_at_zero_terminal_snr(prediction_type, settings):
    weights = weights_of(prediction_type, {**SCHEDULER, "rescale_betas_zero_snr": True}, **settings)
    assert np.isfinite(weights).all() and (weights >= 0).all()


def test_gradient_is_finite_at_zero_terminal_snr():
    unet = tiny_unet()
    objective = objective_of(
        RunConfig(zero_terminal_snr=True, snr_gamma=5.0, debiased_estimation=True, min_timestep=998),
        SCHEDULER,
        "v_prediction",
    )
    loss_of(objective, unet, 0).backward()
    assert all(torch.isfinite(p.grad).all() for p in unet.parameters() if p.grad is not None)


def test_weights_reach_the_loss_picture_by_picture():
    plain, unet = measure(weights=[1.0, 0.0, 0.0])
    for index in range(3):
        picked = [float(i == index) for i in range(3)]
        plain, unet = measure(weights=picked)
        weighed, _ = measure(weights=picked, snr_gamma=5.0)
        expected = min(1, 5 / snr()[unet.timesteps[index]])
        assert weighed.item() == pytest.approx(plain.item() * expected, rel=1e-4)


# --- Prior and instance


def test_prior_pictures_change_nothing_of_the_instances():
    """An instance picture's draws and share are the same beside other class pictures, whatever their weight."""
    settings = {"snr_gamma": 5.0, "offset_noise": 0.1, "multires_noise_iterations": 6, "ip_noise_gamma": 0.1}
    z = latents(2)
    other = torch.stack([z[0], 9 * z[1]])
    first, seen = measure(weights=[1.0, 0.0], latents_bchw=z, **settings)
    second, seen_other = measure(weights=[1.0, 0.0], latents_bchw=other, **settings)
    assert first.item() == second.item()
    assert torch.equal(seen.input[0], seen_other.input[0])


@pytest.mark.parametrize("prior_weight", [0.0, 0.5, 1.0, 3.0])
def test_prior_loss_weight_counts(prior_weight):
    instance, prior = (measure(weights=w, latents_bchw=latents(2))[0].item() for w in ([1.0, 0.0], [0.0, 1.0]))
    both = measure(weights=[1.0, prior_weight], latents_bchw=latents(2))[0].item()
    assert both == pytest.approx(instance + prior_weight * prior, rel=1e-5)


# --- Noise


def test_draws_follow_from_the_generator():
    settings = {"offset_noise": 0.1, "multires_noise_iterations": 6, "ip_noise_gamma": 0.1}
    first, again, other = (measure(seed=seed, **settings) for seed in (3, 3, 4))
    assert first[0] == again[0] and torch.equal(first[1].input, again[1].input)
    assert first[0] != other[0] and not torch.equal(first[1].timesteps, other[1].timesteps)


def test_pictures_of_a_batch_get_different_noise_and_timesteps():
    drawn = noise.draw_noise(torch.zeros(4, *SHAPE), range(1000), RunConfig(), torch.Generator().manual_seed(0))
    assert len(set(drawn.timesteps_b.tolist())) == 4
    assert len({tuple(n.flatten().tolist()) for n in drawn.noise_bchw}) == 4


def draw_many(**settings) -> np.ndarray:
    z = torch.full((3000, *SHAPE), 0.5)
    return noise.draw_noise(z, range(1000), RunConfig(**settings), torch.Generator().manual_seed(0)).noise_bchw.numpy()


def test_plain_noise_is_standard_normal():
    drawn = draw_many()
    assert abs(drawn.mean()) < 0.005 and abs(drawn.std() - 1) < 0.005


@pytest.mark.parametrize(
    ("settings", "strength"),
    [
        ({"offset_noise": 0.3}, 0.3),
        ({"offset_noise": 0.1, "adaptive_noise_scale": 0.2}, 0.1 + 0.2 * 0.5),
        ({"adaptive_noise_scale": 0.4}, 0.4 * 0.5),
        ({"offset_noise": 0.1, "adaptive_noise_scale": -1.0}, 0.0),
    ],
)
def test_offset_noise_moves_whole_channels(settings, strength):
    """A channel's mean has variance strength^2 + 1 / pixels; within a channel the variance stays 1."""
    drawn = draw_many(**settings)
    means = drawn.mean(axis=(2, 3))
    assert means.var() == pytest.approx(strength**2 + 1 / 64, rel=0.05)
    assert abs(means.mean()) < 0.02
    assert (drawn - means[..., None, None]).var() == pytest.approx(1 - 1 / 64, rel=0.02)
    # Channels move independently of each other.
    assert abs(np.corrcoef(means[:, 0], means[:, 1])[0, 1]) < 0.06


def test_offset_noise_is_in_the_target_too():
    loss, unet = measure(offset_noise=0.5)
    error = (unet.output.double().numpy() - plain_noise(unet, latents())) ** 2
    assert loss.item() == pytest.approx(error.mean(), rel=1e-4)


def test_pyramid_noise_has_variance_one_and_is_coarser():
    plain, drawn = draw_many(), draw_many(multires_noise_iterations=6, multires_noise_discount=0.8)
    np.testing.assert_allclose(drawn.std(axis=(1, 2, 3), ddof=1), 1, rtol=1e-4)

    def likeness(x: np.ndarray) -> float:
        return float((x[..., 1:] * x[..., :-1]).mean() / (x**2).mean())

    assert abs(likeness(plain)) < 0.02
    assert likeness(drawn) > 0.2


def test_pyramid_noise_with_one_layer_is_the_plain_sum():
    base = torch.randn(SHAPE, generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(3)
    drawn = noise.pyramid(base, 1, 0.3, generator)
    generator.manual_seed(3)
    torch.rand((), generator=generator)
    total = base.numpy() + torch.randn(SHAPE, generator=generator).numpy()
    np.testing.assert_allclose(drawn.numpy(), total / total.std(ddof=1), rtol=1e-5)


def test_pyramid_discount_fades_the_coarse_layers():
    def coarse(discount: float) -> float:
        return draw_many(multires_noise_iterations=8, multires_noise_discount=discount).mean(axis=(2, 3)).var()

    assert coarse(0.1) < coarse(0.5) < coarse(0.9)


CHANGES = [
    {"loss_type": "l1"},
    {"loss_type": "huber"},
    {"loss_type": "huber", "huber_c": 0.5},
    {"loss_type": "huber", "huber_schedule": "constant"},
    {"loss_type": "huber", "huber_schedule": "exponential"},
    {"loss_type": "smooth_l1"},
    {"snr_gamma": 1.0},
    {"debiased_estimation": True},
    {"offset_noise": 0.1},
    {"adaptive_noise_scale": 0.1},
    {"offset_noise": 0.1, "adaptive_noise_scale": 0.1},
    {"multires_noise_iterations": 6},
    {"multires_noise_iterations": 6, "multires_noise_discount": 0.9},
    {"ip_noise_gamma": 0.1},
    {"min_timestep": 500},
    {"max_timestep": 500},
    {"zero_terminal_snr": True},
]


def test_each_setting_changes_the_loss():
    losses = {}
    for settings in [{}, *CHANGES]:
        objective = objective_of(RunConfig(**settings), SCHEDULER, "v_prediction")
        losses[str(settings)] = round(loss_of(objective, tiny_unet(), 0).item(), 6)
    assert len(set(losses.values())) == len(losses), losses


# --- Golden sequences


def tiny_unet() -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        cross_attention_dim=8,
        norm_num_groups=4,
        attention_head_dim=4,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def loss_of(objective: Objective, unet: UNet2DConditionModel, step: int) -> torch.Tensor:
    hidden = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(20 + step))
    return objective.loss(
        unet,
        latents(2, seed=10 + step),
        Conditioning(hidden),
        torch.zeros(2, 6),
        torch.tensor([1.0, 0.5]),
        torch.Generator().manual_seed(step),
    )


GOLDEN = {
    "l2": ("epsilon", {}, [1.497494, 1.752275, 1.479604, 1.547013, 1.620636, 1.612438]),
    "v": (
        "v_prediction",
        {"zero_terminal_snr": True, "snr_gamma": 5.0},
        [0.215299, 0.393571, 0.432074, 0.033183, 0.286142, 0.512721],
    ),
    "noise": (
        "epsilon",
        {
            "loss_type": "huber",
            "offset_noise": 0.1,
            "adaptive_noise_scale": 0.05,
            "multires_noise_iterations": 6,
            "ip_noise_gamma": 0.1,
            "debiased_estimation": True,
        },
        [0.706905, 1.326338, 1.466610, 2.575577, 1.487883, 0.616325],
    ),
}


@pytest.mark.parametrize("name", GOLDEN)
def test_golden_sequence(name):
    """Six steps of plain gradient descent; numbers from torch 2.13.0, diffusers 0.35.2, one CPU thread."""
    prediction_type, settings, expected = GOLDEN[name]
    unet, losses = tiny_unet(), []
    objective = objective_of(RunConfig(**settings), SCHEDULER, prediction_type)
    for step in range(6):
        loss = loss_of(objective, unet, step)
        losses.append(loss.item())
        loss.backward()
        with torch.no_grad():
            for parameter in unet.parameters():
                parameter -= 0.02 * parameter.grad
                parameter.grad = None
    assert losses == pytest.approx(expected, abs=1e-5), losses
