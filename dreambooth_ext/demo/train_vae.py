"""Trains the demo's autoencoder: `python -m dreambooth_ext.demo.train_vae --out vae.safetensors`.

Needs scikit-image and scikit-learn beside the trainer's environment, for their photographs (see varied.py).
No perceptual network: L1 at three scales and on the gradients, and a small KL term. bf16 on CPUs that have it.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from ..engine.runtime.diffusers_models import AutoencoderKL
from . import varied, world

# LDM norms over 32 groups and takes its widths as ch x ch_mult: all are multiples of 32 and of the first.
CONFIG: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "block_out_channels": [64, 64, 64, 128],
    "layers_per_block": 1,
    "latent_channels": 4,
    "norm_num_groups": 32,
    "sample_size": world.SIZE,
    "scaling_factor": 0.18215,
}
KL_WEIGHT = 5e-4  # of the mean over latent elements, in nats


def as_tensor(pictures: list) -> torch.Tensor:
    """Pictures as [n, 3, h, w] in -1..1."""
    return torch.from_numpy(np.stack([np.asarray(p) for p in pictures])).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def begin_as_thumbnail(vae: AutoencoderKL) -> None:
    """Initialise weights that shrink a picture eight times and enlarge it again, exactly, its colours in three latents.

    From random weights, training produces only grey for hours. A norm over 32 groups of two to four channels takes the
    mean out of each group, so a plain red and a plain blue picture come out alike; and noise of deviation 1 drowns an
    untrained encoder's signal. So each of the last norms' groups holds anchors, channels of a fixed spread beside which
    the norm divides by what is nearly a constant, and SiLU is undone by silu(x) - silu(-x) = x.
    """
    for module in vae.modules():  # every residual block starts as (nearly) the identity
        if hasattr(module, "conv2"):
            module.conv2.weight *= 0.1
            module.conv2.bias.zero_()
    _begin_encoder(vae.encoder)
    _begin_decoder(vae.decoder)
    for conv in (vae.quant_conv, vae.post_quant_conv):
        torch.nn.init.dirac_(conv.weight)
        conv.bias.zero_()
    vae.quant_conv.bias[CONFIG["latent_channels"] :] = -4.0  # logarithm of the variance


def _begin_encoder(encoder: torch.nn.Module) -> None:
    """Channels 0 to 2 carry the mean colours down to the last level, where a group is (x, R - x/2, -R - x/2, ...)."""
    torch.nn.init.dirac_(encoder.conv_in.weight[:3])
    encoder.conv_in.bias[:3] = 0.0
    for block in encoder.down_blocks[:-1]:
        conv = block.downsamplers[0].conv  # padded below and to the right: taps 0 and 1 are the 2x2 pixels
        conv.weight[:3] = 0.0
        conv.bias[:3] = 0.0
        for channel in range(3):
            conv.weight[channel, channel, :2, :2] = 0.25
    widening = encoder.down_blocks[-1].resnets[0].conv_shortcut
    anchors = encoder.mid_block.resnets[-1].conv2
    spread, width = 5.0, CONFIG["block_out_channels"][-1] // CONFIG["norm_num_groups"]
    for group in range(6):  # the three colours, then their negatives
        sign = 1.0 if group < 3 else -1.0
        for place, share in enumerate((1.0, -0.5, -0.5)):
            widening.weight[width * group + place] = 0.0
            widening.bias[width * group + place] = 0.0
            widening.weight[width * group + place, group % 3] = sign * share
    anchors.bias[1::width], anchors.bias[2::width] = spread, -spread
    encoder.conv_norm_out.weight[:] = math.sqrt(2 / width) * spread
    encoder.conv_out.weight *= 0.3
    encoder.conv_out.weight[:3] = 0.0
    encoder.conv_out.bias.zero_()
    for channel in range(3):
        encoder.conv_out.weight[channel, width * channel, 1, 1] = 1.0
        encoder.conv_out.weight[channel, width * (channel + 3), 1, 1] = -1.0


def _begin_decoder(decoder: torch.nn.Module) -> None:
    """Channels 0, 2, 4 carry the colours, 1, 3, 5 their negatives; the last norm's groups are (x, spike - x).

    With two channels a constant is no anchor (two constants are normed to +-1 whatever they are); the spike is
    what a convolution makes, in the picture's first column, of a constant and of the padding beside it.
    """
    for part in decoder.up_blocks:
        for resnet in part.resnets:
            if resnet.conv_shortcut is not None:
                torch.nn.init.dirac_(resnet.conv_shortcut.weight)
                resnet.conv_shortcut.bias.zero_()
        if part.upsamplers:
            torch.nn.init.dirac_(part.upsamplers[0].conv.weight)
            part.upsamplers[0].conv.bias.zero_()
    last = decoder.up_blocks[-1].resnets[-1]
    spike = 40.0
    last.norm2.weight[0], last.norm2.bias[0] = 0.0, 4.0  # SiLU leaves 3.93 of this constant
    last.conv2.weight[:, 0] = 0.0
    last.conv2.weight[1::2, 0, 1, 1], last.conv2.weight[1::2, 0, 1, 0] = spike / 3.93, -spike / 3.93
    decoder.conv_norm_out.weight[:] = spike / math.sqrt(2 * world.SIZE)
    decoder.conv_out.weight *= 0.1
    decoder.conv_out.weight[:, 1::2] = 0.0
    decoder.conv_out.bias.zero_()
    for channel in range(3):
        for place, sign in ((0, 1.0), (1, -1.0)):
            decoder.conv_in.weight[2 * channel + place] = 0.0
            decoder.conv_in.bias[2 * channel + place] = 0.0
            decoder.conv_in.weight[2 * channel + place, channel, 1, 1] = sign
            decoder.conv_out.weight[channel, 2 * channel + place] = 0.0
            decoder.conv_out.weight[channel, 2 * channel + place, 1, 1] = sign
        decoder.conv_out.weight[channel, 6 + 1, 1, 1] = 1.0  # a bare spike cancels the one that comes with -x


def loss_of(vae: AutoencoderKL, pixels_nchw: torch.Tensor, bf16: bool) -> torch.Tensor:
    """Reconstruction and KL of one batch, a scalar."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        posterior = vae.encode(pixels_nchw).latent_dist
        output = vae.decode(posterior.sample()).sample
    difference = output.float() - pixels_nchw
    across = difference[..., 1:] - difference[..., :-1]
    down = difference[..., 1:, :] - difference[..., :-1, :]
    edges = across.abs().mean() + down.abs().mean()
    coarse = sum(F.avg_pool2d(difference, size).abs().mean() for size in (4, 16))
    kl = (posterior.mean.float() ** 2 + posterior.var.float() - 1 - posterior.logvar.float()).mean() / 2
    return difference.abs().mean() + 0.5 * edges + 0.5 * coarse + KL_WEIGHT * kl


def rescale(vae: AutoencoderKL, pixels_nchw: torch.Tensor) -> float:
    """Scale the latents so that 0.18215, which everything that uses SD 1 assumes, makes their variance one.

    Exact: the last layer of the encoder and the first of the decoder are 1x1 convolutions. Returns the factor.
    """
    with torch.no_grad():
        latents = torch.cat([vae.encode(part).latent_dist.sample() for part in pixels_nchw.split(32)])
        factor = 1.0 / (CONFIG["scaling_factor"] * latents.std().item())
        channels = CONFIG["latent_channels"]
        vae.quant_conv.weight[:channels] *= factor
        vae.quant_conv.bias[:channels] *= factor
        vae.quant_conv.bias[channels:] += 2 * math.log(factor)  # the second half is the logarithm of the variance
        vae.post_quant_conv.weight /= factor
    return factor


def train(
    minutes: float,
    batch: int,
    rate: float,
    seed: int,
    bf16: bool,
    snapshot: Path,
    start: Path | None = None,
    decoder_only: bool = False,
) -> AutoencoderKL:
    """A trained autoencoder (the average of its last weights, decay 0.998), not rescaled yet.

    start: weights to continue from; every 500 steps the averaged weights are saved to `snapshot`. decoder_only: latents
    do not change, so that a UNet trained on them still works. The learning rate falls with time (cosine), so that
    training ends on schedule on any machine.
    """
    torch.manual_seed(seed)
    photos = varied.photographs(varied.PHOTOGRAPHS)
    vae = AutoencoderKL(**CONFIG)
    if start is None:
        begin_as_thumbnail(vae)
    else:
        vae.load_state_dict(load_file(start))
    for part in (vae.encoder, vae.quant_conv):
        part.requires_grad_(not decoder_only)
    average = copy.deepcopy(vae).requires_grad_(False)
    learning = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=rate, betas=(0.9, 0.99), weight_decay=1e-3)
    started, recent, step, done = time.time(), [], 0, 0.0
    while done < 1.0:
        rng = np.random.default_rng([seed, step])
        warm = min(1.0, (step + 1) / 50)
        optimizer.param_groups[0]["lr"] = rate * warm * (0.02 + 0.98 * (1 + math.cos(math.pi * done)) / 2)
        pixels = as_tensor([varied.picture(photos, rng) for _ in range(batch)])
        loss = loss_of(vae, pixels, bf16)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        with torch.no_grad():
            for kept, new in zip(average.parameters(), vae.parameters(), strict=True):
                kept.lerp_(new, 1 - min(0.998, (1 + step) / (10 + step)))
        step, done = step + 1, (time.time() - started) / (60 * minutes)
        recent.append(loss.item())
        if step % 100 == 0:
            print(f"step {step} loss {np.mean(recent):.4f} time {time.time() - started:.0f} s", flush=True)
            recent.clear()
        if step % 500 == 0:
            save_file(average.state_dict(), snapshot)
    return average


def errors(vae: AutoencoderKL) -> dict[str, float]:
    """Mean absolute error, in the range 0..1, on pictures that were not trained on."""
    rng = np.random.default_rng(10**6)
    held_out = varied.photographs(varied.HELD_OUT)
    sets = {
        "photographs": [varied.crop(held_out[i % len(held_out)], rng) for i in range(64)],
        "world": [world.draw_scene(world.random_spec(rng)) for _ in range(64)],
        "subject": [world.draw_subject(background, seed=1) for background in world.BACKGROUNDS],
        "style": [world.draw_style(world.random_spec(rng)) for _ in range(32)],
    }
    result = {}
    for name, pictures in sets.items():
        pixels = as_tensor(pictures)
        with torch.no_grad():
            output = vae.decode(vae.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
        result[name] = round((output - pixels).abs().mean().item() / 2, 4)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="the .safetensors file to write (diffusers' names)")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--start", type=Path, help="continue from a .part.safetensors file")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--decoder-only", action="store_true", help="with --start: leave the latents as they are")
    parser.add_argument("--no-bf16", action="store_true", help="for CPUs without bf16 arithmetic")
    options = parser.parse_args()
    snapshot = options.out.with_suffix(".part.safetensors")
    vae = train(
        options.minutes,
        options.batch,
        options.rate,
        options.seed,
        not options.no_bf16,
        snapshot,
        options.start,
        options.decoder_only,
    )
    if not options.decoder_only:
        rng = np.random.default_rng(10**6 + 1)
        factor = rescale(vae, as_tensor([world.draw_scene(world.random_spec(rng)) for _ in range(256)]))
        print(f"latents scaled by {factor:.4f}")
    save_file(vae.state_dict(), options.out)
    snapshot.unlink(missing_ok=True)
    print(f"errors {errors(vae)}")


if __name__ == "__main__":
    main()
