"""The base as a judge of pictures: its UNet's features say what is alike, its loss says which prompt a picture shows.

Features are those on the UNet's way up for a slightly noised picture and no prompt (DIFT, Tang et al. 2023, arXiv
2306.03881). The loss of a picture under several prompts, with the same noise, tells which of them it shows
(diffusion classifier, Li et al. 2023, arXiv 2303.16203).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDPMScheduler
from PIL import Image
from torch import Tensor, nn

from ..conditioning.text_encoding import Conditioning
from ..data.images import to_model
from ..sampling.painter import Painter
from ..sampling.sampler import evaluating, predictor

FEATURE_TIME = 0.1  # of the noise schedule: little noise, so that details are seen
FEATURE_DRAWS = 2  # noises that features are averaged over
FINEST = (
    32  # places along a side of the block whose features are taken: in SD 1.5 the second one of the way up, as DIFT
)
PLACES = 16  # along a side, to which features are averaged
TIMES = (0.25, 0.45, 0.65, 0.85)  # of the noise schedule, at which a picture is compared with prompts
AT_ONCE = {"cuda": 8, "cpu": 24}  # pictures of 512 or 64 pixels at once


class BaseJudge:
    """Judges square pictures of `size` pixels. painter: the base, as nothing else has changed it."""

    def __init__(self, painter: Painter, size: int):
        self.painter, self.size = painter, size
        self.schedule = DDPMScheduler.from_config(dict(painter.scheduler_config))
        self.nothing = painter.text.encode_negative([""])

    @torch.no_grad()
    def latents(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Encode pictures to the modes of their posteriors, scaled, (n, 4, h, w), on the CPU."""
        vae, found = self.painter.vae, []
        for picture in pictures:
            small = picture.convert("RGB").resize((self.size, self.size), Image.Resampling.LANCZOS)
            pixels_1chw = to_model(torch.from_numpy(np.array(small)).permute(2, 0, 1)[None])
            mode_1chw = vae.encode(pixels_1chw.to(vae.device, vae.dtype)).latent_dist.mode()
            found.append(mode_1chw.float().cpu() * vae.config.scaling_factor)
        return torch.cat(found) if found else torch.empty(0)

    def features(self, latents_nchw: Tensor) -> Tensor:
        """Return features by place in the picture, (n, places, channels)."""
        seen: dict[int, Tensor] = {}
        blocks = [self.painter.unet.mid_block, *self.painter.unet.up_blocks]
        hooks = [block.register_forward_hook(noted(seen, number)) for number, block in enumerate(blocks)]
        found = []
        try:
            for part_nchw in latents_nchw.split(self.at_once):
                draws = []
                for draw in range(FEATURE_DRAWS):
                    self._predict(part_nchw, self.nothing.repeat(len(part_nchw)), FEATURE_TIME, draw)
                    draws.append(finest(seen).float().cpu())
                mean_nchw = torch.stack(draws).mean(0)
                sides = [min(PLACES, side) for side in mean_nchw.shape[-2:]]
                found.append(nn.functional.adaptive_avg_pool2d(mean_nchw, sides).flatten(2).transpose(1, 2))
        finally:
            for hook in hooks:
                hook.remove()
        return torch.cat(found)

    def losses(self, latents_nchw: Tensor, prompts: Sequence[str]) -> Tensor:
        """Return the loss of each picture under each prompt, (n, prompts); all share the noise."""
        with torch.no_grad(), evaluating(*self.painter.text.encoders):
            texts = self.painter.text.encode(prompts, emphasis=True)
        table = torch.zeros(len(latents_nchw), len(prompts))
        for begin in range(0, len(latents_nchw), self.at_once):
            part_nchw = latents_nchw[begin : begin + self.at_once]
            for column in range(len(prompts)):
                conditioning = texts.rows([column] * len(part_nchw))
                for draw, time in enumerate(TIMES):
                    error_n = self._error(part_nchw, conditioning, time, draw)
                    table[begin : begin + len(part_nchw), column] += error_n / len(TIMES)
        return table

    @property
    def at_once(self) -> int:
        """How many pictures are looked at together."""
        kind = self.painter.unet.device.type
        area = (512 if kind == "cuda" else 64) ** 2
        return max(1, AT_ONCE.get(kind, 1) * area // self.size**2)

    def _error(self, latents_nchw: Tensor, conditioning: Conditioning, time: float, draw: int) -> Tensor:
        output_nchw, noise_nchw, timestep_n = self._predict(latents_nchw, conditioning, time, draw)
        target_nchw = noise_nchw
        if self.schedule.config.prediction_type == "v_prediction":
            target_nchw = self.schedule.get_velocity(latents_nchw, noise_nchw, timestep_n)
        elif self.schedule.config.prediction_type == "sample":
            target_nchw = latents_nchw
        return (output_nchw - target_nchw).square().mean(dim=(1, 2, 3))

    @torch.no_grad()
    def _predict(
        self, latents_nchw: Tensor, conditioning: Conditioning, time: float, draw: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the UNet's output, the noise and the timesteps. The noise is the same for every picture and call."""
        painter = self.painter
        timestep = int(time * self.schedule.config.num_train_timesteps)
        noise_1chw = torch.randn((1, *latents_nchw.shape[1:]), generator=torch.Generator().manual_seed(draw))
        noise_nchw = noise_1chw.expand_as(latents_nchw)
        timestep_n = torch.full((len(latents_nchw),), timestep)
        noised_nchw = self.schedule.add_noise(latents_nchw, noise_nchw, timestep_n).to(painter.unet.device)
        with evaluating(painter.unet, painter.vae):
            predict = predictor(
                painter.unet, painter.vae, conditioning, None, cfg_scale=1, width=self.size, height=self.size
            )
            output_nchw = predict(noised_nchw, torch.tensor(timestep, device=painter.unet.device))
        return output_nchw.cpu(), noise_nchw, timestep_n


def noted(seen: dict[int, Tensor], number: int) -> Callable[[nn.Module, Any, Tensor], None]:
    """Return a hook that keeps a block's output under its number."""

    def keep(block: nn.Module, given: Any, output: Tensor) -> None:
        seen[number] = output

    return keep


def finest(seen: dict[int, Tensor]) -> Tensor:
    """Return the last block's output that has at most FINEST places along a side; the middle block's if none has."""
    fitting = [number for number, output in seen.items() if max(output.shape[-2:]) <= FINEST]
    return seen[max(fitting, default=0)]
