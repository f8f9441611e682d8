"""Cut out the subject by a matting model of the user's: an ONNX file of the U2Net, ISNet or BiRefNet kind.

rembg (https://github.com/danielgatis/rembg) keeps such files in `~/.u2net`; where it has fetched one, that is used, and
rembg itself need not be installed here. Nothing is fetched. How pictures are prepared, and what comes out is scaled,
is rembg's sessions'.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.errors import UserError
from ...core.messages.message import reason_of
from ...core.system.files import require_ordinary

HOME = "U2NET_HOME"  # rembg's variable for the folder of its models
# rembg's models by what to prefer: for things and people, by how well they cut
PREFERRED = ("birefnet-general", "isnet-general-use", "birefnet-general-lite", "u2net", "silueta", "u2netp")
USUAL_SIDE = {"isnet": 1024, "birefnet": 1024}  # of models that take any size; else 320
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and spread, of U2Net and BiRefNet
HALF = ((0.5, 0.5, 0.5), (1.0, 1.0, 1.0))  # of ISNet
LARGEST = 4 * 2**30  # bytes of a model
MOST_SIDE = 2048  # pixels that a model may ask for
LEAST = 0.005  # share of the picture; less is no subject
THREADS = 2


def matte(image: Image.Image, name: str, model: Path) -> Image.Image:
    """Return how much each pixel of an upright RGB picture belongs to its subject, L in its size. name: the picture's.

    Raises UserError naming the model if it cannot be used, or the picture if there is no subject in it.
    """
    session = _session(str(model), model.stat().st_mtime_ns if model.exists() else 0)
    (about,) = session.get_inputs()
    values_1chw = _prepared(image, _side(about.shape, model), model.stem.lower())
    try:
        (found, *_) = session.run(None, {about.name: values_1chw})
    except Exception as error:  # onnxruntime's own kinds, which are RuntimeErrors or not from release to release
        raise _unusable(model, error) from error
    alpha_hw = np.squeeze(np.asarray(found, np.float32))
    if alpha_hw.ndim != 2 or not np.isfinite(alpha_hw).all():
        raise UserError("masks.not_matting", "model", file=str(model))
    alpha_hw = _scaled(alpha_hw, model.stem.lower())
    if alpha_hw.mean() < LEAST:
        raise UserError("masks.no_subject", "picture", file=name)
    return Image.fromarray(np.rint(alpha_hw * 255).astype(np.uint8)).resize(image.size, Image.Resampling.BILINEAR)


def of_rembg() -> Path:
    """Return the best model that rembg has fetched. Raises UserError if there is none."""
    folder = Path(os.environ.get(HOME) or Path.home() / ".u2net")
    known = {path.stem.lower(): path for path in folder.glob("*.onnx")} if folder.is_dir() else {}
    for name in PREFERRED:
        if found := next((path for stem, path in sorted(known.items()) if stem.startswith(name)), None):
            return found
    raise UserError("masks.no_rembg", "by", folder=str(folder))


@functools.lru_cache(maxsize=1)
def _session(model: str, modified: int) -> Any:
    """The model, ready to run on the processor. modified: of its file, so that another one of that name is loaded."""
    try:
        import onnxruntime
    except ImportError as error:
        raise UserError("masks.needs_onnxruntime", "by") from error
    path = Path(model)
    try:
        require_ordinary(path)
        if path.stat().st_size > LARGEST:
            raise OSError("it is too large")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = THREADS, 4
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # as above
        raise _unusable(path, error) from error
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
        raise UserError("masks.not_matting", "model", file=model)
    return session


def _side(shape: list[Any], model: Path) -> int:
    """The side of the square that a model takes, from its input's shape (batch, 3, height, width)."""
    _, channels, height, width = shape
    sides = [side for side in (height, width) if isinstance(side, int)]
    if channels not in (3, None) and not isinstance(channels, str):
        raise UserError("masks.not_matting", "model", file=str(model))
    usual = next((side for name, side in USUAL_SIDE.items() if name in model.stem.lower()), 320)
    side = sides[0] if sides else usual
    if len(set(sides)) > 1 or not 1 <= side <= MOST_SIDE:
        raise UserError("masks.not_matting", "model", file=str(model))
    return side


def _prepared(image: Image.Image, side: int, name: str) -> np.ndarray:
    """The picture as float32 (1, 3, side, side)."""
    mean, spread = HALF if "isnet" in name or (side >= 1024 and "birefnet" not in name) else IMAGENET
    values_hwc = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS, reducing_gap=2), np.float32)
    values_hwc = values_hwc / max(1.0, float(values_hwc.max()))
    values_hwc = (values_hwc - np.float32(mean)) / np.float32(spread)
    return np.ascontiguousarray(values_hwc.transpose(2, 0, 1)[None], np.float32)


def _scaled(alpha_hw: np.ndarray, name: str) -> np.ndarray:
    """From 0 to 1: BiRefNet's are logits; the others' are stretched to their least and most, as rembg does, unless
    there is next to nothing to stretch."""
    if "birefnet" in name:
        alpha_hw = 1 / (1 + np.exp(-alpha_hw))
    low, high = float(alpha_hw.min()), float(alpha_hw.max())
    if high - low > 0.05:
        return (alpha_hw - low) / (high - low)
    return np.clip(alpha_hw, 0, 1)


def _unusable(model: Path, error: Exception) -> UserError:
    return UserError("masks.model_unusable", "model", file=str(model), error=reason_of(error).split("\n")[0][:300])
