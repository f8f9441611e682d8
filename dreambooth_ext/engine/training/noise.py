"""Training noise: timesteps, offset noise, multi-resolution noise. All of it is drawn on the CPU, picture by
picture."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ..runtime.transfer import sent


@dataclass
class Draws:
    """The random numbers of one forward pass.

    timesteps (b,), int64; noise (b, c, h, w), which is also an epsilon model's target; perturbation of the same shape,
    already scaled, added to the input only, or None. Float32.
    """

    timesteps_b: Tensor
    noise_bchw: Tensor
    perturbation_bchw: Tensor | None

    def to(self, device: torch.device) -> Draws:
        extra = None if self.perturbation_bchw is None else sent(self.perturbation_bchw, device)
        return Draws(sent(self.timesteps_b, device), sent(self.noise_bchw, device), extra)


def draw_noise(latents_bchw: Tensor, timesteps: range, config: ResolvedConfig, generator: torch.Generator) -> Draws:
    """Draw a timestep from `timesteps` and noise for each picture, in the latents' order, on the CPU.

    Each picture is treated on its own, so that class pictures cannot change what instance pictures get.
    """
    assert generator.device.type == "cpu", "drawn on the CPU, so that every machine draws the same"
    steps, noises, perturbations = [], [], []
    for latent_chw in latents_bchw:
        steps.append(torch.randint(timesteps.start, timesteps.stop, (), generator=generator))
        noise_chw = torch.randn(latent_chw.shape, generator=generator)
        if config.offset_noise or config.adaptive_noise_scale:
            noise_chw = noise_chw + offset(
                latent_chw, config.offset_noise or 0.0, config.adaptive_noise_scale, generator
            )
        if config.multires_noise_iterations:
            noise_chw = pyramid(noise_chw, config.multires_noise_iterations, config.multires_noise_discount, generator)
        noises.append(noise_chw)
        if config.ip_noise_gamma:
            perturbations.append(config.ip_noise_gamma * torch.randn(latent_chw.shape, generator=generator))
    return Draws(torch.stack(steps), torch.stack(noises), torch.stack(perturbations) if perturbations else None)


def offset(latent_chw: Tensor, strength: float, adaptive_scale: float, generator: torch.Generator) -> Tensor:
    """Return offset noise (c, 1, 1): one random number per channel, so that the model also learns brightness.

    https://www.crosslabs.org/blog/diffusion-with-offset-noise; as in sd-scripts, the adaptive part is the absolute
    value of each channel's mean times `adaptive_scale`, and the strength is at least 0.
    """
    drawn_c11 = torch.randn((len(latent_chw), 1, 1), generator=generator)
    if not adaptive_scale:
        return strength * drawn_c11
    mean_c11 = latent_chw.detach().float().mean(dim=(1, 2), keepdim=True).abs().cpu()
    return (strength + adaptive_scale * mean_c11).clamp(min=0) * drawn_c11


def pyramid(noise_chw: Tensor, iterations: int, discount: float, generator: torch.Generator) -> Tensor:
    """Add multi-resolution noise: ever coarser layers, each `discount` times weaker, rescaled together to variance 1.

    https://wandb.ai/johnowhitaker/multires_noise, as in sd-scripts (where the variance is the batch's, not the
    picture's). Level n is r^n times smaller, with r drawn from [2, 4) for each level; level 0 has the full size.
    """
    height, width = noise_chw.shape[1:]
    total_chw = noise_chw
    for level in range(iterations):
        shrink = (2 + 2 * torch.rand((), generator=generator).item()) ** level
        small = (max(1, int(height / shrink)), max(1, int(width / shrink)))
        layer_chw = torch.randn((len(noise_chw), *small), generator=generator)
        layer_chw = torch.nn.functional.interpolate(layer_chw[None], size=(height, width), mode="bilinear")[0]
        total_chw = total_chw + layer_chw * discount**level
        if 1 in small:
            break
    return total_chw / total_chw.std()
