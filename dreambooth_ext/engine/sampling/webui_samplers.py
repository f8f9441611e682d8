"""Three of the WebUI's samplers as diffusers schedulers: LMS, DPM++ 2M and DPM++ SDE.

diffusers' own need torchsde (SDE) or scipy (LMS), or start from different noise and round the timesteps (DPM++ 2M), so
the same seed would not give the WebUI's picture.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from diffusers import EulerDiscreteScheduler
from diffusers.utils.torch_utils import randn_tensor
from numpy.polynomial import Polynomial
from torch import Tensor


class Step(NamedTuple):
    prev_sample: Tensor


def denoised(scheduler: EulerDiscreteScheduler, output: Tensor, sample: Tensor) -> Tensor:
    """Return the clean latents that a model's output predicts, where `sample` = clean + sigma * noise."""
    sigma = float(scheduler.sigmas[scheduler.step_index])
    if scheduler.config.prediction_type == "v_prediction":
        return sample / (sigma**2 + 1) - output * sigma / (sigma**2 + 1) ** 0.5
    return sample - sigma * output


class LMSScheduler(EulerDiscreteScheduler):
    """Linear multistep of order 4 (k-diffusion's `sample_lms`)."""

    order = 1

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        super().set_timesteps(num_inference_steps, device)
        self._step_index = 0
        self.derivatives: list[Tensor] = []  # newest first

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, generator=None) -> Step:
        index = self.step_index
        derivative = (sample - denoised(self, model_output, sample)) / float(self.sigmas[index])
        self.derivatives = [derivative, *self.derivatives[:3]]
        for weight, past in zip(self.weights(index, len(self.derivatives)), self.derivatives, strict=True):
            sample = sample + weight * past
        self._step_index += 1
        return Step(sample)

    def weights(self, index: int, order: int) -> list[float]:
        """Return the integrals over this step of the Lagrange polynomials through the last `order` noise levels."""
        sigmas = self.sigmas.double().numpy()
        nodes = [sigmas[index - k] for k in range(order)]
        weights = []
        for k, node in enumerate(nodes):
            basis = Polynomial([1.0])
            for other in nodes[:k] + nodes[k + 1 :]:
                basis = basis * Polynomial([-other, 1.0]) / (node - other)
            integral = basis.integ()
            weights.append(float(integral(sigmas[index + 1]) - integral(sigmas[index])))
        return weights


class DPMSolver2MScheduler(EulerDiscreteScheduler):
    """DPM-Solver++ of order 2, multistep (k-diffusion's `sample_dpmpp_2m`)."""

    order = 1

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        super().set_timesteps(num_inference_steps, device)
        self._step_index = 0
        self.last: Tensor | None = None  # the previous step's clean latents

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, generator=None) -> Step:
        index = self.step_index
        clean = denoised(self, model_output, sample)
        before, here, after = (float(self.sigmas[i]) for i in (max(index - 1, 0), index, index + 1))
        target = clean
        if self.last is not None and after > 0:  # along the line through both, in log sigma, to half of this step
            lead = math.log(here / after) / (2 * math.log(before / here))
            target = clean + lead * (clean - self.last)
        self.last = clean
        self._step_index += 1
        return Step(after / here * sample + (1 - after / here) * target)


class DPMSolverSDEScheduler(EulerDiscreteScheduler):
    """DPM-Solver++ (stochastic) with a midpoint per step (k-diffusion's `sample_dpmpp_sde`, r = 1/2, eta = 1).

    Every step but the last runs the model twice: at sigma, and at the midpoint (in log sigma) to the next sigma. The
    noise of both halves comes from one Brownian path, as in k-diffusion's tree.
    """

    order = 2
    sigmas: torch.Tensor
    timesteps: torch.Tensor

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        super().set_timesteps(num_inference_steps, device)
        sigmas = self.sigmas.double().numpy()  # n of them and 0
        middles = np.sqrt(sigmas[:-2] * sigmas[1:-1])
        levels = ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt().log().double().numpy()
        middle_times = np.array([self._sigma_to_t(middle, levels) for middle in middles])
        times = self.timesteps.cpu().double().numpy()
        self.sigmas = torch.from_numpy(np.insert(sigmas, np.arange(1, len(middles) + 1), middles))
        interleaved = np.insert(times, np.arange(1, len(middles) + 1), middle_times)
        self.timesteps = torch.from_numpy(interleaved).to(device, torch.float32)
        self._step_index = 0
        self.start: Tensor | None = None  # at the midpoint: the latents at the step's start
        self.path: Tensor | None = None  # at the midpoint: the Brownian path up to there

    def step(self, model_output: Tensor, timestep: Tensor, sample: Tensor, generator=None) -> Step:
        index = self.step_index
        clean = denoised(self, model_output, sample)
        if index == len(self.timesteps) - 1:  # down to 0
            result = clean
        else:
            noise = randn_tensor(sample.shape, generator=generator, device=sample.device, dtype=sample.dtype)
            before, here, after = (float(self.sigmas[i]) for i in (max(index - 1, 0), index, index + 1))
            if self.start is None:
                self.start, self.path = sample, noise * (here - after) ** 0.5
                result = ancestral(sample, clean, here, after, noise)
            else:
                whole = (self.path + noise * (here - after) ** 0.5) / (before - after) ** 0.5
                result = ancestral(self.start, clean, before, after, whole)
                self.start = self.path = None
        self._step_index += 1
        return Step(result)


def ancestral(sample: Tensor, clean: Tensor, sigma: float, target: float, noise: Tensor) -> Tensor:
    """Step from noise level `sigma` to below `target` along `clean`, then up to `target` with fresh noise."""
    up = min(target, (target**2 * (sigma**2 - target**2) / sigma**2) ** 0.5)
    down = (target**2 - up**2) ** 0.5
    return down / sigma * sample + (1 - down / sigma) * clean + up * noise
