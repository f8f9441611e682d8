"""Write unconditional models as diffusers DDPMPipeline folders, under a temporary name until they are verified."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import diffusers
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ...core.system.files import replacing, write_json
from ..models.ddpm_folder import INDEX, WEIGHTS, Pipeline
from ..models.unconditional_base import PixelBase
from ..tensors.lazy_tensor import is_finite
from .verified_write import PRECISIONS, Exported, not_finite, reads_differently, write_verified


def export_pipeline(
    base: PixelBase, state: Mapping[str, Tensor], path: Path, precision: str, metadata: Mapping[str, str]
) -> Exported:
    """Write the folder under a temporary name, read it back, and only then rename it.

    Raises UserError if the weights are not finite or do not fit the precision, or if the disk is too full.
    """
    for key, tensor in state.items():
        if not is_finite(tensor):
            raise not_finite(key)
    rounded = {key: tensor.detach().to("cpu", PRECISIONS[precision]).contiguous() for key, tensor in state.items()}
    with replacing(path) as temporary:
        weights = temporary / "unet" / f"{WEIGHTS}.safetensors"
        weights.parent.mkdir(parents=True)
        digest = write_verified(rounded, weights, {**metadata, "format": "pt"}, precision)
        about = {"_class_name": "UNet2DModel", "_diffusers_version": diffusers.__version__}
        write_json(weights.with_name("config.json"), {**about, **base.unet_config})
        DDPMScheduler.from_config(base.scheduler_config).save_pretrained(temporary / "scheduler")
        parts = {"scheduler": ["diffusers", "DDPMScheduler"], "unet": ["diffusers", "UNet2DModel"]}
        write_json(temporary / INDEX, {**about, "_class_name": "DDPMPipeline", **parts})
        require_same(Pipeline(temporary, "save_format"), rounded)
    return Exported(path, digest, sidecars=[])


def require_same(pipeline: Pipeline, state: Mapping[str, Tensor]) -> None:
    """Raise UserError unless the written model, built from its folder alone, has exactly these weights."""
    pipeline.scheduler()
    with torch.random.fork_rng():
        found = pipeline.unet().state_dict()
    if found.keys() != state.keys() or any(not torch.equal(found[key], state[key].float()) for key in state):
        raise reads_differently()
