"""Read unconditional models in diffusers' DDPMPipeline format: a folder with a UNet and its noise schedule."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from diffusers import DDPMScheduler

from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ..runtime.diffusers_models import UNet2DModel
from ..tensors.lazy_tensor import is_finite
from ..tensors.tensor_file import TensorFile, open_tensors
from .config_limits import read_config
from .diffusers_folder import present_name
from .families import PIXELS

INDEX = "model_index.json"
WEIGHTS = "diffusion_pytorch_model"
UNET_CONFIG, SCHEDULER_CONFIG = "unet/config.json", "scheduler/scheduler_config.json"


class Pipeline:
    """A DDPMPipeline folder. Raises UserError, naming the setting `field`, if it is damaged."""

    def __init__(self, path: Path, field: str):
        self.path, self.field = path, field
        self.unet_config = self._json(UNET_CONFIG)
        known = inspect.signature(DDPMScheduler.__init__).parameters
        scheduler = self._json(SCHEDULER_CONFIG)
        self.scheduler_config = {key: value for key, value in scheduler.items() if key in known}

    def _json(self, inner: str) -> dict[str, Any]:
        try:
            content = read_config(self.path / inner)
        except (OSError, ValueError) as error:
            raise self._damaged(Message("base.file_unreadable", file=inner, error=reason_of(error))) from error
        if not isinstance(content, dict):
            raise self._damaged(Message("base.file_not_an_object", file=inner))
        return content

    def _damaged(self, why: Message) -> UserError:
        return UserError("base.folder_damaged", self.field, folder=self.path.name, reason=why)

    @property
    def size(self) -> int:
        """The side of its pictures, in pixels."""
        size = self.unet_config.get("sample_size") or PIXELS.default_resolution
        return size if isinstance(size, int) else max(size)

    def paths(self) -> dict[str, Path]:
        """Return every file that the model is read from, by its name within the folder."""
        inner = (self._weights().relative_to(self.path).as_posix(), UNET_CONFIG, SCHEDULER_CONFIG)
        return {name: self.path / name for name in inner}

    def _weights(self) -> Path:
        files = [self.path / "unet" / f"{WEIGHTS}{suffix}" for suffix in (".safetensors", ".bin")]
        path = next((file for file in files if file.is_file()), None)
        if path is None:
            raise self._damaged(Message("base.no_unet_weights"))
        return path

    def scheduler(self) -> DDPMScheduler:
        try:
            return DDPMScheduler.from_config(self.scheduler_config)
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            raise self._damaged(Message("base.no_noise_schedule", error=reason_of(error))) from error

    def unet(self) -> UNet2DModel:
        config = {key: value for key, value in self.unet_config.items() if not key.startswith("_")}
        try:
            model = UNet2DModel.from_config(config)
        except (ValueError, TypeError, LookupError, ZeroDivisionError, NotImplementedError, RuntimeError) as error:
            raise self._damaged(Message("base.no_unet_from_config", error=reason_of(error))) from error
        return self.load_into(model).eval()

    def load_into(self, model: UNet2DModel) -> UNet2DModel:
        tensors = self._tensors()
        try:
            model.load_state_dict({present_name(key): tensor.float() for key, tensor in tensors.items()})
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1].strip()
            raise self._damaged(Message("base.weights_do_not_fit", error=reason[:300])) from error
        finally:
            tensors.close()
        return model

    def _tensors(self) -> TensorFile:
        """Open the UNet's weights. Raises UserError if one is NaN or infinite."""
        tensors = open_tensors(self._weights(), field=self.field)
        if broken := next((key for key, tensor in tensors.items() if not is_finite(tensor)), None):
            raise self._damaged(Message("base.unet_not_finite", tensor=broken))
        return tensors

    def require_finite(self) -> None:
        """Raise UserError if a weight is NaN or infinite."""
        self._tensors().close()
