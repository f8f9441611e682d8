"""Draw and decode latents with the WebUI's samplers and guidance, for previews, class pictures and `generate`.

Each picture's noise comes from its own CPU generator, seeded with the picture's seed, as in the WebUI with its random
numbers on the CPU. So a picture depends on its seed and not on its batch, and drawing does not affect torch's global
random state, and with it training.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import diffusers
import torch
from PIL import Image
from torch import Tensor, nn

from ...core.errors import UserError
from ..conditioning.text_encoding import Conditioning
from ..runtime import memory
from . import webui_samplers

Progress = Callable[[int, int], None]  # model calls done, total

KARRAS = {"use_karras_sigmas": True}
DDIM = {"timestep_spacing": "leading", "steps_offset": 1, "set_alpha_to_one": False, "clip_sample": False}

# The WebUI's names (settings.previews.SAMPLERS) -> the solver and what it is set to
SOLVERS: dict[str, tuple[type[diffusers.ConfigMixin], dict[str, Any]]] = {
    "DPM++ 2M Karras": (webui_samplers.DPMSolver2MScheduler, KARRAS),
    "DPM++ 2M": (webui_samplers.DPMSolver2MScheduler, {}),
    "DPM++ SDE Karras": (webui_samplers.DPMSolverSDEScheduler, KARRAS),
    "Euler a": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "Euler": (diffusers.EulerDiscreteScheduler, {}),
    "Heun": (diffusers.HeunDiscreteScheduler, {}),
    "LMS": (webui_samplers.LMSScheduler, {}),
    "DDIM": (diffusers.DDIMScheduler, DDIM),
    "UniPC": (diffusers.UniPCMultistepScheduler, {}),
}
NOISE_SCHEDULE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "trained_betas", "prediction_type")


def make_sampler(name: str, scheduler_config: Mapping[str, Any]):
    """Return the WebUI's sampler `name`, with a model's own noise schedule and prediction type."""
    solver, options = SOLVERS[name]
    schedule = {key: scheduler_config[key] for key in NOISE_SCHEDULE if scheduler_config.get(key) is not None}
    if scheduler_config.get("rescale_betas_zero_snr"):
        schedule["rescale_betas_zero_snr"] = True
        if solver is diffusers.DDIMScheduler:  # "leading" would skip the timestep of pure noise
            options = {**options, "timestep_spacing": "trailing"}
    return solver.from_config({"timestep_spacing": "linspace", **schedule, **options})


@torch.no_grad()
def sample_latents(
    unet: nn.Module,
    vae: nn.Module,
    scheduler,
    conditioning: Conditioning,
    negative: Conditioning | None,
    *,
    seeds: Sequence[int],
    width: int,
    height: int,
    steps: int,
    cfg_scale: float,
    progress: Progress | None = None,
    takes_turns: bool = False,
) -> list[Image.Image]:
    """Draw one picture per seed and row of `conditioning`. Without `negative` there is no guidance. takes_turns: the
    UNet's device has no room for it while the VAE decodes, nor for the VAE meanwhile.

    Raises UserError if the size does not fit the model, or if its output is not finite.
    """
    factor = 2 ** (len(vae.config.block_out_channels) - 1)  # pixels per latent pixel, along each side
    for field, size in (("width", width), ("height", height)):
        if size < factor or size % factor:
            raise UserError("training.size_not_a_multiple", field, size=size, factor=factor)
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    shape = (vae.config.latent_channels, height // factor, width // factor)
    noise_bchw = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
    device = unet.device
    with evaluating(unet, vae):
        predict = predictor(unet, vae, conditioning, negative, cfg_scale=cfg_scale, width=width, height=height)
        scheduler.set_timesteps(steps, device=device)
        latents_bchw = noise_bchw.to(device) * scheduler.init_noise_sigma
        with away(vae) if takes_turns else contextlib.nullcontext():
            latents_bchw = denoise(predict, scheduler, latents_bchw, generators, progress)
        with away(unet) if takes_turns else contextlib.nullcontext():
            return decode(vae, latents_bchw)


def denoise(
    predict: Callable[[Tensor, Tensor], Tensor],
    scheduler,
    latents_bchw: Tensor,
    generators: list[torch.Generator],
    progress: Progress | None,
) -> Tensor:
    """Run the sampler from noise to latents, in float32 whatever dtype the model uses."""
    takes_generators = {"generator": generators} if scheduler_is_random(scheduler) else {}
    total = len(scheduler.timesteps)
    for done, timestep in enumerate(scheduler.timesteps, start=1):
        output_bchw = predict(scheduler.scale_model_input(latents_bchw, timestep), timestep)
        latents_bchw = scheduler.step(output_bchw, timestep, latents_bchw, **takes_generators).prev_sample
        if progress:
            progress(done, total)
    return latents_bchw


def scheduler_is_random(scheduler) -> bool:
    """Whether each step adds noise. Other schedulers take no generator, or draw from it without using the result."""
    return isinstance(scheduler, diffusers.EulerAncestralDiscreteScheduler | webui_samplers.DPMSolverSDEScheduler)


def predictor(
    unet: nn.Module,
    vae: nn.Module,
    conditioning: Conditioning,
    negative: Conditioning | None,
    *,
    cfg_scale: float,
    width: int,
    height: int,
) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the model with guidance as a function of (latents, timestep).

    Both sides of the guidance run as one batch if they have the same number of tokens, else one after the other, as in
    the WebUI.
    """
    batch = len(conditioning)
    sides = [conditioning] if negative is None else [conditioning, negative]
    if len({side.hidden_bsd.shape for side in sides}) == 1:
        pooled = None if conditioning.pooled_bp is None else torch.cat([side.pooled_bp for side in sides])
        sides = [Conditioning(torch.cat([side.hidden_bsd for side in sides]), pooled)]
    sides = [side.to(unet.device, unet.dtype) for side in sides]
    size_6 = torch.tensor([height, width, 0.0, 0.0, height, width], device=unet.device)  # SDXL: no crop
    extra_bchw = blank_mask(vae, batch, width, height, unet.device) if unet.config.in_channels == 9 else None

    def side_output(side: Conditioning, latents_bchw: Tensor, timestep: Tensor) -> Tensor:
        copies = len(side) // batch
        inputs = latents_bchw if extra_bchw is None else torch.cat([latents_bchw, extra_bchw], dim=1)
        added = None
        if side.pooled_bp is not None:
            added = {"text_embeds": side.pooled_bp, "time_ids": size_6.expand(len(side), 6)}
        inputs = inputs.repeat(copies, 1, 1, 1).to(unet.dtype)
        return unet(inputs, timestep, encoder_hidden_states=side.hidden_bsd, added_cond_kwargs=added).sample.float()

    def predict(latents_bchw: Tensor, timestep: Tensor) -> Tensor:
        output = torch.cat([side_output(side, latents_bchw, timestep) for side in sides])
        if negative is None:
            return output
        positive, unwanted = output.chunk(2)
        return unwanted + cfg_scale * (positive - unwanted)

    return predict


def blank_mask(vae: nn.Module, batch: int, width: int, height: int, device: torch.device) -> Tensor:
    """Return the extra inputs (b, 5, h, w) with which an inpainting model draws everything: a mask of ones and a grey
    picture's latents."""
    grey = torch.zeros(1, 3, height, width, device=vae.device, dtype=vae.dtype)
    latents_1chw = vae.encode(grey).latent_dist.mode().to(device).float() * vae.config.scaling_factor
    mask_11hw = torch.ones_like(latents_1chw[:, :1])
    return torch.cat([mask_11hw, latents_1chw], dim=1).expand(batch, -1, -1, -1)


@torch.no_grad()
def decode(vae: nn.Module, latents_bchw: Tensor) -> list[Image.Image]:
    """Decode scaled latents to pictures, one at a time to save memory."""
    pictures = []
    for latents_chw in latents_bchw:
        scaled = (latents_chw[None] / vae.config.scaling_factor).to(vae.device, vae.dtype)
        pixels_chw = vae.decode(scaled).sample[0].float()
        if not pixels_chw.isfinite().all():
            raise UserError("training.picture_not_finite")
        pixels_hwc = ((pixels_chw / 2 + 0.5).clamp(0, 1) * 255).byte().permute(1, 2, 0)  # truncated, as in the WebUI
        pictures.append(Image.fromarray(pixels_hwc.cpu().numpy()))
    return pictures


@contextlib.contextmanager
def away(model: Any) -> Iterator[None]:
    """Keep a model in the computer's memory inside the `with` block, and bring it back to its device afterwards."""
    device = model.device
    model.to("cpu")
    memory.release()
    try:
        yield
    finally:
        model.to(device)


@contextlib.contextmanager
def evaluating(*modules: nn.Module) -> Iterator[None]:
    """Put modules into evaluation mode (no gradient checkpointing, no dropout) inside the `with` block."""
    modes = [module.training for module in modules]
    for module in modules:
        module.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.train(mode)
