"""Scaled fp8 weights, as ComfyUI and others store them: a weight is its stored values times a separate scale.

`<layer>.scale_weight`, with the marker `scaled_fp8`, or `<layer>.weight_scale`: one number, or one per output.
`<layer>.scale_input` and `.input_scale` are for multiplying in fp8, which is not done here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from ...core.errors import UserError

METADATA = "_quantization_metadata"  # in a file's metadata: it would be wrong in a file with unscaled weights
BESIDE = ("scale_weight", "weight_scale", "scale_input", "input_scale", "comfy_quant", "scaled_fp8")


def is_beside(key: str) -> bool:
    """Whether a tensor does not belong to the model itself but describes how others are scaled."""
    return key.endswith(BESIDE)


def scale_of(key: str, there: Mapping[str, object]) -> str | None:
    """Return the key of a weight's scale, or None if it has none."""
    names = (f"{key}_scale", f"{key.removesuffix('weight')}scale_weight")
    return next((name for name in names if key.endswith("weight") and name in there), None)


def applied(tensor: Tensor, scale: Tensor) -> Tensor:
    """Return the scaled weight in float32."""
    return tensor.float() * scale.float().reshape(-1, *[1] * (tensor.dim() - 1))


def require_readable(
    name: str, field: str, weights: Iterable[str], entries: Mapping[str, tuple[Sequence[int], torch.dtype]]
) -> None:
    """Raise UserError if weights are quantised in an unknown way. entries: shapes and dtypes, by key."""
    for key in weights:
        shape, dtype = entries[key]
        if not dtype.is_floating_point:
            raise UserError("model_file.whole_numbers", field, name=name)
        if scale := scale_of(key, entries):
            count, kind = torch.Size(entries[scale][0]).numel(), entries[scale][1]
            if count not in (1, shape[0]) or not kind.is_floating_point:
                raise _strange(name, field, scale)
    known = {f"{key}_scale" for key in weights}
    for key in entries:
        start, weight, _ = key.rpartition("weight_")  # such as `weight_scale_2`, for block-wise quantisation
        if weight and key not in known and start + "weight" in entries:
            raise _strange(name, field, key)


def _strange(name: str, field: str, key: str) -> UserError:
    return UserError("model_file.unknown_quantisation", field, name=name, tensor=key)
