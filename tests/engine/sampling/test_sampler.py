"""Drawing agrees with diffusers' pipelines, and a picture depends on its own seed alone."""

from __future__ import annotations

import sys
import types

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel

from dreambooth_ext.core.config.form_sections.previews import SAMPLERS
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.conditioning.text_encoding import Conditioning
from dreambooth_ext.engine.sampling import sampler as sampling
from dreambooth_ext.engine.sampling import webui_samplers
from dreambooth_ext.engine.sampling.sampler import make_sampler, sample_latents

SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon",
}


def tiny_unet(in_channels: int = 4, **options) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        sample_size=8,
        in_channels=in_channels,
        block_out_channels=(32, 32),
        layers_per_block=1,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        cross_attention_dim=16,
        attention_head_dim=4,
        norm_num_groups=8,
        **options,
    ).eval()


@pytest.fixture(scope="module")
def unet():
    return tiny_unet()


@pytest.fixture(scope="module")
def sdxl_unet():
    sizes = {"addition_time_embed_dim": 8, "projection_class_embeddings_input_dim": 6 * 8 + 24}
    return tiny_unet(addition_embed_type="text_time", **sizes)


@pytest.fixture(scope="module")
def vae():
    torch.manual_seed(1)
    return AutoencoderKL(
        block_out_channels=(16, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        latent_channels=4,
        norm_num_groups=8,
    ).eval()


def words(seed: int, rows: int = 1, tokens: int = 77, pooled: bool = False) -> Conditioning:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(1, tokens, 16, generator=generator).repeat(rows, 1, 1)
    return Conditioning(hidden, torch.randn(1, 24, generator=generator).repeat(rows, 1) if pooled else None)


def noise(seed: int, height: int, width: int) -> torch.Tensor:
    return torch.randn(1, 4, height // 8, width // 8, generator=torch.Generator().manual_seed(seed))


def as_arrays(pictures) -> np.ndarray:
    return np.stack([np.asarray(picture, dtype=np.float32) / 255 for picture in pictures])


def latents_of(monkeypatch, *arguments, **options) -> torch.Tensor:
    """What `draw` would have decoded: 8-bit pictures are too coarse to compare."""
    with monkeypatch.context() as patch:
        patch.setattr(sampling, "decode", lambda vae, latents: latents)
        return sample_latents(*arguments, **options)


@pytest.mark.parametrize("name", ["Euler", "Euler a", "Heun", "DDIM", "UniPC"])
@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_sd_draws_what_diffusers_draws(monkeypatch, unet, vae, name, prediction):
    config = {**SCHEDULE, "prediction_type": prediction}
    pipeline = diffusers.StableDiffusionPipeline(
        vae, None, None, unet, make_sampler(name, config), None, None, requires_safety_checker=False
    )
    pipeline.set_progress_bar_config(disable=True)
    generator = torch.Generator().manual_seed(5)
    start = torch.randn(1, 4, 6, 8, generator=generator)
    prompt, negative = words(1), words(2)
    expected = pipeline(
        prompt_embeds=prompt.hidden_bsd,
        negative_prompt_embeds=negative.hidden_bsd,
        latents=start,
        width=64,
        height=48,
        generator=[generator],
        num_inference_steps=4,
        guidance_scale=5,
        output_type="latent",
    ).images
    common = {"seeds": [5], "width": 64, "height": 48, "steps": 4, "cfg_scale": 5}
    found = latents_of(monkeypatch, unet, vae, make_sampler(name, config), prompt, negative, **common)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    pictures = sample_latents(unet, vae, make_sampler(name, config), prompt, negative, **common)
    shown = pipeline.image_processor.postprocess(vae.decode(expected / vae.config.scaling_factor).sample.detach())
    assert np.abs(as_arrays(pictures) - as_arrays(shown)).max() <= 1.01 / 255
    assert pictures[0].size == (64, 48)


def test_sdxl_draws_what_diffusers_draws(monkeypatch, sdxl_unet, vae):
    sampler = make_sampler("Euler", SCHEDULE)
    projection = types.SimpleNamespace(config=types.SimpleNamespace(projection_dim=24), dtype=torch.float32)
    pipeline = diffusers.StableDiffusionXLPipeline(
        vae, None, None, None, None, sdxl_unet, EulerDiscreteScheduler.from_config(sampler.config)
    )
    pipeline.register_to_config(force_zeros_for_empty_prompt=True)
    pipeline.text_encoder_2 = projection
    pipeline.set_progress_bar_config(disable=True)
    prompt, negative = words(1, pooled=True), words(2, pooled=True)
    expected = pipeline(
        prompt_embeds=prompt.hidden_bsd,
        negative_prompt_embeds=negative.hidden_bsd,
        pooled_prompt_embeds=prompt.pooled_bp,
        negative_pooled_prompt_embeds=negative.pooled_bp,
        latents=noise(3, 48, 64),
        width=64,
        height=48,
        num_inference_steps=4,
        guidance_scale=5,
        output_type="latent",
    ).images
    found = latents_of(
        monkeypatch, sdxl_unet, vae, sampler, prompt, negative, seeds=[3], width=64, height=48, steps=4, cfg_scale=5
    )
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_each_sampler_depends_on_the_seed_alone(monkeypatch, unet, vae, name):
    common = {"width": 64, "height": 64, "steps": 3, "cfg_scale": 4}
    before = torch.get_rng_state()
    both = latents_of(
        monkeypatch, unet, vae, make_sampler(name, SCHEDULE), words(1, 2), words(2, 2), seeds=[7, 8], **common
    )
    alone = latents_of(monkeypatch, unet, vae, make_sampler(name, SCHEDULE), words(1), words(2), seeds=[8], **common)
    assert torch.equal(torch.get_rng_state(), before)
    assert both.isfinite().all() and not torch.allclose(both[0], both[1])
    torch.testing.assert_close(both[1:], alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_lms_is_that_of_diffusers(prediction):
    pytest.importorskip("scipy")
    config = {**SCHEDULE, "prediction_type": prediction, "timestep_spacing": "linspace"}
    ours, theirs = webui_samplers.LMSScheduler.from_config(config), diffusers.LMSDiscreteScheduler.from_config(config)
    run_side_by_side(ours, theirs, steps=7)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_sde_is_that_of_diffusers(monkeypatch, prediction):
    monkeypatch.setitem(sys.modules, "torchsde", types.ModuleType("torchsde"))  # only for its import
    from diffusers.schedulers.scheduling_dpmsolver_sde import DPMSolverSDEScheduler

    config = {**SCHEDULE, "prediction_type": prediction, "timestep_spacing": "linspace", "use_karras_sigmas": True}
    ours, theirs = webui_samplers.DPMSolverSDEScheduler.from_config(config), DPMSolverSDEScheduler.from_config(config)
    monkeypatch.setattr(webui_samplers, "randn_tensor", lambda shape, **options: torch.zeros(shape))
    setup = theirs.set_timesteps

    def without_noise(steps):
        setup(steps)
        theirs.noise_sampler = lambda sigma, sigma_next: 0.0

    theirs.set_timesteps = without_noise
    run_side_by_side(ours, theirs, steps=6)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_2m_is_that_of_k_diffusion(prediction):
    """In the form of k_diffusion/sampling.py, sample_dpmpp_2m: with time as the logarithm of 1 / sigma."""
    sampler = make_sampler("DPM++ 2M Karras", {**SCHEDULE, "prediction_type": prediction})
    sampler.set_timesteps(6)
    found = expected = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 14
    sigmas, last = sampler.sigmas, None
    for index, timestep in enumerate(sampler.timesteps):
        output = torch.tanh(sampler.scale_model_input(expected, timestep))
        clean = webui_samplers.denoised(sampler, output, expected)
        found = sampler.step(torch.tanh(sampler.scale_model_input(found, timestep)), timestep, found).prev_sample
        time, following = -sigmas[index].log(), -sigmas[index + 1].log()
        h, target = following - time, clean
        if last is not None and sigmas[index + 1] > 0:
            r = (time + sigmas[index - 1].log()) / h
            target = (1 + 1 / (2 * r)) * clean - 1 / (2 * r) * last
        expected, last = sigmas[index + 1] / sigmas[index] * expected - (-h).expm1() * target, clean
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def run_side_by_side(ours, theirs, steps: int) -> None:
    found = expected = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * 14
    ours.set_timesteps(steps)
    theirs.set_timesteps(steps)
    torch.testing.assert_close(ours.timesteps.double(), theirs.timesteps.double(), atol=1e-2, rtol=1e-4)
    for mine, other in zip(ours.timesteps, theirs.timesteps, strict=True):
        found = ours.step(torch.tanh(ours.scale_model_input(found, mine)), mine, found).prev_sample
        output = torch.tanh(theirs.scale_model_input(expected, other))
        expected = theirs.step(output, other, expected).prev_sample
        torch.testing.assert_close(found.float(), expected.float(), atol=1e-3, rtol=1e-3)


def test_sde_noise_is_one_brownian_path():
    """Both halves of a step share a path, so the whole step's noise has unit variance."""
    sampler = webui_samplers.DPMSolverSDEScheduler.from_config({**SCHEDULE, "use_karras_sigmas": True})
    sampler.set_timesteps(5)
    generator = torch.Generator().manual_seed(0)
    sample = torch.zeros(1, 1, 300, 300)
    for index in range(2):  # a model that sees clean = 0
        sigma = float(sampler.sigmas[sampler.step_index])
        sample = sampler.step(sample / sigma, sampler.timesteps[index], sample, generator=generator).prev_sample
    before, after = float(sampler.sigmas[0]), float(sampler.sigmas[2])
    up = min(after, (after**2 * (before**2 - after**2) / before**2) ** 0.5)
    assert sample.std().item() == pytest.approx(up, rel=0.02)


def test_prompts_of_different_length_are_guided_one_by_one(monkeypatch, unet, vae):
    options = {"seeds": [1], "width": 64, "height": 64, "steps": 2, "cfg_scale": 3}
    sampler = make_sampler("Euler", SCHEDULE)
    long, short = words(1, tokens=154), words(2)
    apart = latents_of(monkeypatch, unet, vae, sampler, long, short, **options)
    plain = {
        side: latents_of(monkeypatch, unet, vae, sampler, words_, None, **{**options, "steps": 1})
        for side, words_ in (("long", long), ("short", short))
    }
    one = latents_of(monkeypatch, unet, vae, sampler, long, short, **{**options, "steps": 1})
    guided = plain["short"] + 3 * (plain["long"] - plain["short"])  # one Euler step is linear in the output
    torch.testing.assert_close(one, guided, atol=1e-3, rtol=1e-3)
    assert apart.isfinite().all()


def test_inpainting_models_see_a_full_mask_and_a_grey_picture(monkeypatch, vae):
    model = tiny_unet(in_channels=9)
    seen = []
    model.conv_in.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    sample_latents(model, vae, make_sampler("Euler", SCHEDULE), words(1), words(2), seeds=[1], width=64,
                   height=64, steps=1, cfg_scale=2)  # fmt: skip
    grey = vae.encode(torch.zeros(1, 3, 64, 64)).latent_dist.mode() * vae.config.scaling_factor
    assert seen[0].shape == (2, 9, 8, 8)
    assert seen[0][:, 4].eq(1).all()
    torch.testing.assert_close(seen[0][:, 5:], grey.expand(2, -1, -1, -1))


def test_progress_modes_and_bad_sizes(unet, vae):
    calls = []
    unet.train()
    options = {"seeds": [1], "width": 64, "height": 64, "steps": 3, "cfg_scale": 1}
    sample_latents(
        unet, vae, make_sampler("Euler", SCHEDULE), words(1), None, progress=lambda *a: calls.append(a), **options
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert unet.training and not vae.training
    unet.eval()
    with pytest.raises(UserError, match="width: 100 pixels"):
        sample_latents(unet, vae, make_sampler("Euler", SCHEDULE), words(1), None, **{**options, "width": 100})


def test_a_broken_model_is_named(vae):
    model = tiny_unet()
    model.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(UserError, match="NaN"):
        sample_latents(model, vae, make_sampler("Euler", SCHEDULE), words(1), None, seeds=[1], width=64,
                       height=64, steps=1, cfg_scale=1)  # fmt: skip


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name not in ("Heun",)])
def test_zero_terminal_snr(monkeypatch, unet, vae, name):
    config = {**SCHEDULE, "prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    sampler = make_sampler(name, config)
    found = latents_of(
        monkeypatch, unet, vae, sampler, words(1), words(2), seeds=[1], width=64, height=64, steps=4, cfg_scale=2
    )
    assert found.isfinite().all()
    assert sampler.timesteps[0] == 999
