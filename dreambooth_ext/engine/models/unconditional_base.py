"""The base of an unconditional run: a configuration with random weights, or the folder of a model to continue."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from ...core.config.names import is_pipeline
from ...core.config.run_config import RunConfig
from ...core.errors import UserError
from ...core.messages.message import reason_of
from ...core.system.files import expanded
from ..downloads.progress_thread import Fetch
from ..runtime.diffusers_models import UNet2DModel
from ..runtime.seeds import derive
from ..tensors.empty_weights import empty_weights
from . import config_limits
from .base_download import download, download_config
from .base_files import BaseFiles
from .ddpm_folder import Pipeline
from .families import PIXELS

DEFAULT: dict[str, Any] = {  # diffusers' train_unconditional.py
    "in_channels": 3,
    "out_channels": 3,
    "layers_per_block": 2,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
}
# What `UNet2DModel` raises for invalid configurations.
IMPOSSIBLE = (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, NotImplementedError, RuntimeError)


class PixelBase:
    """The `Base` of unconditional models, which work on pixels. Only the configuration is held in memory.

    unet_config: for `UNet2DModel.from_config`; pipeline: the model to continue, None for a new one; paths: the files
    that were read.
    """

    family = PIXELS
    inpainting = False
    sidecar_yaml = None
    scaling_factor = 1.0  # pixels in [-1, 1] are trained on as they are
    factor = 1  # pixels per UNet pixel, along each side
    warnings = ()
    text_layers = ()
    prediction_type: str

    def __init__(
        self,
        config: RunConfig,
        unet_config: Mapping[str, Any],
        field: str,
        pipeline: Pipeline | None = None,
        paths: Mapping[str, Path] = MappingProxyType({}),
    ):
        self.files = BaseFiles(paths, field)
        self.field, self.pipeline, self.seed = field, pipeline, config.seed
        self.unet_config = {key: value for key, value in unet_config.items() if not key.startswith("_")}
        self._require_colour()
        size = self.unet_config.get("sample_size") or PIXELS.default_resolution
        self.resolution = config.resolution or (size if isinstance(size, int) else max(size))
        self.unet_config["sample_size"] = self.resolution
        known = pipeline.scheduler_config if pipeline else {}
        chosen = config.prediction_type
        self.prediction_type = known.get("prediction_type", "epsilon") if chosen == "auto" else chosen
        self.scheduler_config = {
            **known,
            "num_train_timesteps": config.ddpm_num_steps,
            "beta_schedule": config.ddpm_beta_schedule,
            "prediction_type": self.prediction_type,
        }
        self.name = pipeline.path.name if pipeline else ""
        self._shapes = self._looked_at()

    def _require_colour(self) -> None:
        config = self.unet_config
        channels = (config.get("in_channels", 3), config.get("out_channels", 3))
        if channels != (3, 3):
            raise UserError("base.pixel_channels", self.field, inputs=channels[0], outputs=channels[1])
        if config.get("num_class_embeds") or config.get("class_embed_type"):
            raise UserError("base.pixel_classes", self.field)

    def _looked_at(self) -> dict[str, torch.Size]:
        """Return the shapes of all weights, from a model on the meta device, which takes no memory."""
        try:
            with empty_weights():
                model = UNet2DModel.from_config(self.unet_config)
            return {name: tensor.shape for name, tensor in model.state_dict().items()}
        except IMPOSSIBLE as error:
            raise UserError("base.pixel_cannot_build", self.field, error=reason_of(error)) from error

    @property
    def multiple(self) -> int:
        """The number that picture sides must be multiples of: each level but the last halves them."""
        return 2 ** (len(self.unet_config.get("down_block_types", [0] * 4)) - 1)

    @cached_property
    def trained_with(self) -> dict[str, Any]:
        """The settings with which a continued model was trained and which it must keep."""
        known = self.pipeline.scheduler_config if self.pipeline else {}
        names = {"ddpm_num_steps": "num_train_timesteps", "ddpm_beta_schedule": "beta_schedule"}
        found = {setting: known[name] for setting, name in names.items() if name in known}
        return found | ({"prediction_type": known["prediction_type"]} if "prediction_type" in known else {})

    def parameter_counts(self) -> dict[str, int]:
        return {"unet": sum(math.prod(shape) for shape in self._shapes.values()), "vae": 0, "text_encoders": 0}

    def unet_numbers(self) -> dict[str, int]:
        """Return how many numbers each of the UNet's parameters has."""
        return {name: math.prod(shape) for name, shape in self._shapes.items()}

    @property
    def activations(self) -> float:
        """Bytes of activations per picture of 64 x 64 pixels, in float32 (see `Base.activations`).

        Estimated from the channels of each level, which has a quarter of the pixels of the one above, and from its
        layers. The default model was measured at 132 MB (benchmarks/count.py).
        """
        channels = self.unet_config.get("block_out_channels", [224, 448, 672, 896])  # UNet2DModel's own defaults
        layers = self.unet_config.get("layers_per_block", 2)
        return 88 * 64**2 * layers * sum(width / 4**level for level, width in enumerate(channels))

    checkpointed = PIXELS.denoiser.checkpointed

    def vae(self, dtype: torch.dtype = torch.float32) -> None:
        """Return None: there is no VAE."""

    def unet(self) -> UNet2DModel:
        """Build the UNet in float32, with weights drawn from the run's seed or those of the model to continue."""
        with torch.random.fork_rng():
            torch.manual_seed(derive(self.seed, "weights"))
            model = UNet2DModel.from_config(self.unet_config)
        if self.pipeline:
            self.pipeline.load_into(model)
        return model

    def require_sound(self, seconds: float) -> bool:
        """Raise UserError if a continued model has a weight that is NaN or infinite. Returns True, since all are
        checked."""
        if self.pipeline:
            self.pipeline.require_finite()
        return True

    def close(self) -> None:
        """Do nothing: no files are kept open."""


def open_pixels(config: RunConfig, fetch: Fetch | None = None) -> PixelBase:
    """Open the model to continue (`base_model`), or create a new one from `model_config` or diffusers' default.

    Raises UserError with the reason if it is not such a model or configuration.
    """
    if config.base_model:
        path = download(config.base_model, "base_model", fetch)
        if not is_pipeline(path):
            raise UserError("base.not_unconditional", "base_model", name=path.name)
        pipeline = Pipeline(path, "base_model")
        return PixelBase(config, pipeline.unet_config, "base_model", pipeline, pipeline.paths())
    if config.model_config:
        path = config_file(config.model_config)
        return PixelBase(config, read_config(path), "model_config", paths={path.name: path})
    return PixelBase(config, DEFAULT, "resolution")


def config_file(name: str) -> Path:
    """Return the path of a UNet2DModel's configuration: a file, inside a folder, or downloaded by Hugging Face name."""
    path = expanded(name)
    path = path if path.exists() else download_config(name, "model_config")
    if not path.is_dir():
        return path
    inner = [path / "config.json", path / "unet" / "config.json"]
    return next((file for file in inner if file.is_file()), inner[0])


def read_config(path: Path) -> dict[str, Any]:
    """Read a UNet2DModel's configuration. Raises UserError if the file does not contain one."""
    try:
        content = config_limits.read_config(path)
    except (OSError, ValueError) as error:
        raise UserError("base.pixel_config_unreadable", "model_config", path=path, error=reason_of(error)) from error
    if not isinstance(content, dict) or content.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise UserError("base.pixel_config_other", "model_config", path=path)
    return content
