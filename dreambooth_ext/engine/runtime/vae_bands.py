"""Run a VAE band by band, where memory is short: a few rows of the picture at a time, with the same result.

Its memory goes into the layers at the picture's full size, where a normalised and activated copy of every number stands
beside the layer's input and output. Here these copies are made for a few rows, together with the one row on each side
that a convolution of 3 x 3 looks at. A group norm needs the whole picture: its mean and variance are put together from
those of the bands (Chan, Golub and LeVeque 1979, equation 2.1). So this differs from the VAE's own pass only in
rounding, unlike tiles (diffusers' `enable_tiling`): each tile has its own means, so that colours change from tile to
tile and are blended where they overlap.

The decoder's upsampled pictures, its largest tensors, are never held whole: rows of them are computed where the next
layer needs them, twice, for its norm and for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...core.config.stages import ResolvedConfig

AT_ONCE = 2**23  # numbers of a layer's input in a band: 32 MB in float32
ON = "on"  # the setting `vae_tiling`

Rows = Callable[[int, int], Tensor]  # rows from the first to before the second, (b, c, rows, w)
VaeT = TypeVar("VaeT", bound=nn.Module)


def for_encoding(vae: VaeT, config: ResolvedConfig) -> VaeT:
    """Set a VAE up to encode pictures as configured: always in float32, for training goes by these numbers."""
    return in_bands(vae) if config.vae_tiling == ON else vae


def for_drawing(vae: VaeT, config: ResolvedConfig) -> VaeT:
    """Set a VAE up to decode pictures as configured: in bands also in bfloat16, on a card that computes in it. float16
    it never is, in which SDXL's overflows."""
    if config.vae_tiling != ON:
        return vae
    return in_bands(vae.to(torch.bfloat16) if config.mixed_precision == "bf16" else vae)


def in_bands(vae: VaeT) -> VaeT:
    """Make an AutoencoderKL encode and decode in bands, without gradients. Returns it."""
    parts: Any = vae
    parts.encoder.forward = partial(_encode, parts.encoder)
    parts.decoder.forward = partial(_decode, parts.decoder)
    return vae


@torch.no_grad()
def _encode(encoder: Any, pixels_bchw: Tensor) -> Tensor:
    hidden_bchw = encoder.conv_in(pixels_bchw)
    for block in encoder.down_blocks:
        for resnet in block.resnets:
            hidden_bchw = _resnet(resnet, _held(hidden_bchw))
        for sampler in block.downsamplers or ():
            hidden_bchw = _halved(sampler.conv, hidden_bchw)
    return _last(encoder, encoder.mid_block(hidden_bchw))


@torch.no_grad()
def _decode(decoder: Any, latents_bchw: Tensor, latent_embeds: None = None) -> Tensor:
    layer = _held(decoder.mid_block(decoder.conv_in(latents_bchw)))
    for block in decoder.up_blocks:
        for resnet in block.resnets:
            layer = _held(_resnet(resnet, layer))
        for sampler in block.upsamplers or ():
            assert layer.held_bchw is not None
            layer = _doubled(sampler.conv, layer.held_bchw)
    assert layer.held_bchw is not None
    return _last(decoder, layer.held_bchw)


@dataclass(frozen=True)
class Layer:
    """A layer's output (b, c, h, w): held, or computed in rows wherever some are needed."""

    shape: tuple[int, int, int, int]
    rows: Rows
    held_bchw: Tensor | None = None


def _held(tensor_bchw: Tensor) -> Layer:
    batch, channels, height, width = tensor_bchw.shape
    return Layer((batch, channels, height, width), lambda top, bottom: tensor_bchw[:, :, top:bottom], tensor_bchw)


def _doubled(conv: nn.Conv2d, tensor_bchw: Tensor) -> Layer:
    """Return what a convolution makes of a picture at twice its size, held nowhere."""
    batch, _, half, width = tensor_bchw.shape
    height = 2 * half

    def rows(top: int, bottom: int) -> Tensor:
        first, last = max(0, top - 1), min(height, bottom + 1)
        above = first // 2
        twice_bchw = F.interpolate(tensor_bchw[:, :, above : (last + 1) // 2], scale_factor=2.0, mode="nearest")
        start = first - 2 * above
        return _convolved(conv, twice_bchw[:, :, start : start + last - first], top, bottom, height)

    return Layer((batch, conv.out_channels, height, 2 * width), rows)


def _bands(layer: Layer) -> Iterator[tuple[int, int]]:
    """Yield the first row of each band, and the one after its last."""
    batch, channels, height, width = layer.shape
    each = max(1, AT_ONCE // (batch * channels * width))
    for top in range(0, height, each):
        yield top, min(height, top + each)


def _convolved(conv: nn.Conv2d, rows_bchw: Tensor, top: int, bottom: int, height: int) -> Tensor:
    """Convolve rows, given with the one above and the one below where the picture has them; zeros stand for others."""
    if top == 0 or bottom == height:
        rows_bchw = F.pad(rows_bchw, (0, 0, int(top == 0), int(bottom == height)))
    return F.conv2d(rows_bchw, conv.weight, conv.bias, padding=(0, 1))


def _halved(conv: nn.Conv2d, tensor_bchw: Tensor) -> Tensor:
    """Apply a convolution of stride 2, with a row of zeros below and a column of them at the right."""
    layer, made = _held(tensor_bchw), []
    height = tensor_bchw.shape[2]
    each = max(1, next(bottom for _, bottom in _bands(layer)) // 2)
    count = (height - 2) // 2 + 1
    for top in range(0, count, each):
        last = 2 * min(count, top + each) + 1
        rows_bchw = F.pad(layer.rows(2 * top, min(height, last)), (0, 1, 0, max(0, last - height)))
        made.append(F.conv2d(rows_bchw, conv.weight, conv.bias, stride=2))
    return torch.cat(made, dim=2)


def _activation(norm: nn.GroupNorm, layer: Layer) -> Callable[[Tensor], Tensor]:
    """Return a function that normalises rows of this layer by the mean and variance of all, and applies SiLU."""
    counts, means, variances = [], [], []
    for top, bottom in _bands(layer):
        rows = layer.rows(top, bottom).float()
        variance_bg, mean_bg = torch.var_mean(rows.reshape(len(rows), norm.num_groups, -1), dim=2, correction=0)
        counts.append(bottom - top)
        means.append(mean_bg)
        variances.append(variance_bg)
    shares_n11 = torch.tensor(counts, device=means[0].device)[:, None, None] / sum(counts)
    means_nbg = torch.stack(means)
    mean_bg = (shares_n11 * means_nbg).sum(0)
    variance_bg = (shares_n11 * (torch.stack(variances) + (means_nbg - mean_bg).square())).sum(0)
    each = norm.num_channels // norm.num_groups
    factor_bc = (variance_bg + norm.eps).rsqrt().repeat_interleave(each, dim=1) * norm.weight.float()
    shift_bc = norm.bias.float() - mean_bg.repeat_interleave(each, dim=1) * factor_bc

    def activated(rows_bchw: Tensor) -> Tensor:
        normal = torch.addcmul(shift_bc[..., None, None], rows_bchw.float(), factor_bc[..., None, None])
        return F.silu(normal.to(rows_bchw.dtype), inplace=True)

    return activated


def _resnet(block: Any, layer: Layer) -> Tensor:
    """Return a ResnetBlock2D's output. It takes the place of a held input, if both have as many channels."""
    batch, _, height, width = layer.shape
    shape = (batch, block.conv1.out_channels, height, width)
    weight = block.conv1.weight
    hidden_bchw = torch.empty(shape, dtype=weight.dtype, device=weight.device)
    is_kept = layer.held_bchw is not None and block.conv_shortcut is None
    sum_bchw = layer.held_bchw if is_kept else torch.empty_like(hidden_bchw)
    assert sum_bchw is not None
    activated = _activation(block.norm1, layer)
    for top, bottom in _bands(layer):
        above = max(0, top - 1)
        rows = layer.rows(above, min(height, bottom + 1))
        hidden_bchw[:, :, top:bottom] = _convolved(block.conv1, activated(rows), top, bottom, height)
        if not is_kept:
            own = rows[:, :, top - above : bottom - above]
            sum_bchw[:, :, top:bottom] = block.conv_shortcut(own) if block.conv_shortcut is not None else own
    del rows
    hidden = _held(hidden_bchw)
    activated = _activation(block.norm2, hidden)
    for top, bottom in _bands(hidden):
        rows = activated(hidden.rows(max(0, top - 1), min(height, bottom + 1)))
        sum_bchw[:, :, top:bottom] += _convolved(block.conv2, rows, top, bottom, height)
    return sum_bchw


def _last(part: Any, tensor_bchw: Tensor) -> Tensor:
    """Apply the last norm, activation and convolution of an encoder or decoder."""
    layer, height = _held(tensor_bchw), tensor_bchw.shape[2]
    activated = _activation(part.conv_norm_out, layer)
    made = []
    for top, bottom in _bands(layer):
        rows = activated(layer.rows(max(0, top - 1), min(height, bottom + 1)))
        made.append(_convolved(part.conv_out, rows, top, bottom, height))
    return torch.cat(made, dim=2)
