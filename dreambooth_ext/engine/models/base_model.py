"""A latent diffusion base model (SD 1, SD 2, SDXL) from a single file or a diffusers folder; parts are read on
demand."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ...core.errors import Problem, UserError
from ...core.messages.message import reason_of
from ...core.system.files import require_ordinary, sha256_of
from ..downloads.progress_thread import Fetch
from ..quantisation.precision import Intake, Precision
from ..runtime import memory
from ..runtime.diffusers_models import AutoencoderKL, UNet2DConditionModel
from ..tensors.empty_weights import empty_weights
from ..tensors.lazy_tensor import LazyTensor, is_finite
from .architecture import Architecture, part_title, shipped, size_of_text
from .base_download import download
from .base_files import BaseFiles
from .diffusers_folder import FolderSource
from .families import Family
from .ldm_config import absolute_clip
from .ldm_config_writer import to_yaml
from .single_file import SingleFileSource

TIDIED = 2**28  # bytes that are read of a file before freed memory is given back
LARGEST_VOCABULARY = 16 * 2**20  # bytes per tokenizer file; CLIP's have 1 MB


class Source(Protocol):
    """Where a base's tensors come from: a single file or a diffusers folder."""

    path: Path
    name: str
    field: str
    architecture: Architecture
    prediction_type: str | None  # None: nothing says
    sidecar_yaml: str | None
    clip_folder: Path | None  # the local CLIP folder that the yaml names
    metadata: dict[str, str]

    def read(self, component: str) -> Iterator[tuple[str, Tensor]]:
        """Yield the component's tensors under diffusers' keys, one by one, memory-mapped."""

    def count(self, component: str) -> int:
        """Return the number of parameters in the component."""

    def ldm(self, component: str) -> dict[str, LazyTensor]:
        """Return the component's tensors under a single file's keys, not read yet."""

    def extras(self) -> dict[str, LazyTensor]:
        """Return what a single file contains beside the components, not read yet; without EMA copies (`model_ema.`)."""

    def tokenizer_folder(self, index: int) -> Path:
        """Return the folder with the vocabulary of text encoder `index`, 0 or 1."""

    def paths(self) -> dict[str, Path]:
        """Return every file that the model is read from, by its name within the source."""

    def close(self) -> None:
        """Close open files; they are reopened when something is read."""


class LatentBase:
    """A latent diffusion model to train. Only names and shapes are held in memory; each call reads its part again."""

    def __init__(self, source: Source, prediction_type: str | None = None):
        self.source = source
        self.name, self.path = source.name, source.path
        self.architecture = source.architecture
        self.sidecar_yaml, self.metadata = source.sidecar_yaml, source.metadata
        self.files = BaseFiles(source.paths(), source.field)
        self._chosen_prediction = prediction_type

    @property
    def family(self) -> Family:
        return self.architecture.family

    @property
    def inpainting(self) -> bool:
        return self.architecture.inpainting

    @property
    def scaling_factor(self) -> float:
        return self.architecture.vae["scaling_factor"]

    @property
    def factor(self) -> int:
        """Pixels per UNet pixel, along each side."""
        return 2 ** (len(self.architecture.vae["block_out_channels"]) - 1)

    @cached_property
    def prediction_type(self) -> str:
        """What the UNet predicts: as chosen, as the file or its yaml says, or (SD2) found by running the UNet once."""
        if self._chosen_prediction:
            return self._chosen_prediction
        if self.source.prediction_type is None and self.family.untold_prediction and not self.inpainting:
            return self._prediction_by_trial()
        return self.source.prediction_type or "epsilon"

    def _prediction_by_trial(self) -> str:
        """Find the prediction type as the WebUI does (sd_models_config.py): at the last timestep, an epsilon model
        roughly returns its input and a v model does not. Takes seconds and 3.5 GB for a full-size SD2."""
        unet = self._build("unet", self._maker("unet"), torch.float32)
        x = torch.full((1, 4, 8, 8), 0.5)
        context = torch.full((1, 2, self.architecture.unet["cross_attention_dim"]), 0.5)
        with torch.no_grad():
            difference = (unet(x, 999, encoder_hidden_states=context).sample - x).mean().item()
        return "v_prediction" if difference < -1 else "epsilon"

    @property
    def resolution(self) -> int:
        """The picture side, in pixels, that the base was trained at, as far as it says."""
        size = self.architecture.unet["sample_size"]
        of_v = self.family.denoiser.v_sample_size
        if of_v and self.sidecar_yaml is None and self.prediction_type == "v_prediction":
            size = max(size, of_v)
        return size * self.factor

    @property
    def scheduler_config(self) -> dict[str, Any]:
        return {**self.architecture.scheduler, "prediction_type": self.prediction_type}

    def unet(self, precision: torch.dtype | Precision = torch.float32) -> UNet2DConditionModel:
        unet = self.empty_unet()
        self.fill_unet(unet, precision)
        return unet

    def empty_unet(self) -> UNet2DConditionModel:
        """Return the UNet without numbers, for `fill_unet`."""
        config = dict(self.architecture.unet)
        if self.family.denoiser.upcasts_for_v and self.prediction_type == "v_prediction":
            config["upcast_attention"] = True
        return self._empty("unet", lambda: UNet2DConditionModel.from_config(config))

    def fill_unet(self, unet: nn.Module, precision: torch.dtype | Precision) -> None:
        self._load("unet", unet, precision)

    def put_unet(self, put: Callable[[str, Tensor], None]) -> None:
        """Read the UNet tensor by tensor into `put`, for a process that holds a part of it. Raises UserError."""
        sizes = {}
        for key, tensor in self.source.read("unet"):
            self._require_finite("unet", key, tensor)
            put(key, tensor)
            sizes[key] = torch.empty_like(tensor, device="meta")
        self.source.close()
        memory.trim()
        self._fill("unet", self.empty_unet(), sizes)

    def vae(self, dtype: torch.dtype = torch.float32) -> AutoencoderKL:
        return self._build("vae", self._maker("vae"), dtype)

    def text_encoders(
        self, precision: torch.dtype | Precision = torch.float32
    ) -> list[CLIPTextModel | CLIPTextModelWithProjection]:
        return [self._build(name, self._maker(name), precision) for name in self.family.components[2:]]

    def _maker(self, component: str) -> Callable[[], nn.Module]:
        """Return a function that builds a part from its configuration, and may raise for an invalid one."""
        if component == "unet":
            return lambda: UNet2DConditionModel.from_config(self.architecture.unet)
        if component == "vae":
            return lambda: AutoencoderKL.from_config(self.architecture.vae)
        index = self.family.components.index(component) - 2
        kind = CLIPTextModelWithProjection if self.family.text.slots[index].projected else CLIPTextModel
        # torch 2.1: autocast on the CPU fails in CLIP's scaled_dot_product_attention
        attention = "sdpa" if torch.__version__ >= (2, 2) else "eager"
        config = self.architecture.text_encoders[index]
        return lambda: kind(CLIPTextConfig(**config, attn_implementation=attention))

    def tokenizers(self) -> list[CLIPTokenizer]:
        made = []
        for index, slot in enumerate(self.family.text.slots):
            folder = self.source.tokenizer_folder(index)
            files = [str(folder / name) for name in ("vocab.json", "merges.txt")]
            longest = self.architecture.text_encoders[index]["max_position_embeddings"]
            try:
                for file in files:
                    require_ordinary(file, LARGEST_VOCABULARY)
                made.append(CLIPTokenizer(*files, pad_token=slot.pad_token, model_max_length=longest))
            except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                known = {"name": self.name, "folder": folder, "error": reason_of(error)}
                raise UserError("base.vocabulary_damaged", self.source.field, **known) from error
        return made

    def parameter_counts(self) -> dict[str, int]:
        texts = sum(self.source.count(name) for name in self.family.components[2:])
        return {"unet": self.source.count("unet"), "vae": self.source.count("vae"), "text_encoders": texts}

    @property
    def text_layers(self) -> list[int]:
        """The number of layers of each text encoder."""
        return [config["num_hidden_layers"] for config in self.architecture.text_encoders]

    @property
    def activations(self) -> float:
        """Bytes of activations kept for the backward pass, in float32, for a picture of 64 x 64 UNet pixels.

        SD 1.5's UNet was measured at 1.9 GB (benchmarks/count.py); others scale with the square root of their
        parameters.
        """
        return 1.9e9 * (self.parameter_counts()["unet"] / 860e6) ** 0.5

    @property
    def checkpointed(self) -> float:
        """The share of `activations` that a step needs at its peak with gradient checkpointing."""
        return self.family.denoiser.checkpointed

    def ldm_tensors(self, component: str) -> dict[str, LazyTensor]:
        """Return an untrained component's tensors, to stream them into an exported file. Call `close` when done."""
        return self.source.ldm(component)

    def extras(self) -> dict[str, LazyTensor]:
        """Return the tensors of the base's file that belong to no component (SD2's unused last layer, schedules,
        markers)."""
        found = self.source.extras()
        return found | {key: counted(found[key].shape) for key in self._broken_positions}

    @cached_property
    def _broken_positions(self) -> list[str]:
        """Keys of position ids that are not 0, 1, 2 ..., a fault of merged models that WebUIs would act on."""
        found = [(key, tensor) for key, tensor in self.source.extras().items() if key.endswith("position_ids")]
        return [
            key
            for key, tensor in found
            if not torch.equal(tensor.load().double(), counted(tensor.shape).load().double())
        ]

    @property
    def warnings(self) -> list[Problem]:
        """Warnings about faults of the base, which are repaired in models made from it."""
        said = Problem("base.wrong_position_ids", self.source.field, name=self.name)
        return [said] if self._broken_positions else []

    def require_sound(self, seconds: float = math.inf) -> bool:
        """Raise UserError if a number is NaN or infinite, a part does not match its configuration, or a vocabulary is
        damaged. Returns whether `seconds` were enough to check all."""
        end = time.monotonic() + seconds
        self.tokenizers()
        for component in self.family.components:
            sizes = {}
            for key, tensor in self.source.read(component):
                if time.monotonic() > end:
                    return False
                self._require_finite(component, key, tensor)
                sizes[key] = torch.empty_like(tensor, device="meta")
            self._fill(component, self._empty(component, self._maker(component)), sizes)
        for key, stored in self.extras().items():
            self._require_finite("file", key, stored.load())  # they are copied into exported models
        self.source.close()
        return True

    def _require_finite(self, component: str, key: str, tensor: Tensor) -> None:
        if not is_finite(tensor):
            known = {"name": self.name, "part": part_title(component), "tensor": key}
            raise UserError("base.not_finite", self.source.field, **known)

    def short_hash(self) -> str | None:
        """Return the hash by which the WebUI knows a checkpoint; None for a folder, or if the file has changed
        since."""
        if not self.path.is_file() or self.files.change():
            return None
        return sha256_of(self.path)[:10]

    def close(self) -> None:
        """Close the file; it is reopened when something is read."""
        self.source.close()

    @property
    def needs_clip_folder(self) -> bool:
        """Whether the WebUI needs a local CLIP folder for the text encoder: for an SD1 of unusual sizes, or one whose
        yaml names a folder. `architecture.write_clip_folder` writes it."""
        usual = shipped(self.family.name).text_encoders[0]
        unusual = size_of_text(self.architecture.text_encoders[0]) != size_of_text(usual)
        return self.family.names_clip_folder and (unusual or self.source.clip_folder is not None)

    def export_yaml(self, clip: str | None = None) -> str | None:
        """Return the yaml that a model trained from this base needs beside it, or None if the WebUI needs none.

        clip: the path of the CLIP folder for the WebUI, if `needs_clip_folder`.
        """
        if self.sidecar_yaml is not None:
            return self.sidecar_yaml if clip is None else absolute_clip(self.sidecar_yaml, clip)
        known = self.architecture.standard and not self.family.untold_prediction  # if untold, the WebUI runs the UNet
        if known and self.prediction_type == "epsilon":
            return None
        return to_yaml(self.architecture, self.prediction_type, clip=clip)

    def _build(self, component: str, make: Callable[[], nn.Module], precision: torch.dtype | Precision) -> Any:
        module = self._empty(component, make)
        self._load(component, module, precision)
        return module

    def _load(self, component: str, module: nn.Module, precision: torch.dtype | Precision) -> None:
        """Assign the file's tensors as the parameters of a module that has none yet. In memory is never more than the
        module in its precision, and a few tensors."""
        intake, untidy = Intake(module, Precision.of(precision)), 0
        for key, tensor in self.source.read(component):
            self._require_finite(component, key, tensor)
            intake.take(key, tensor)
            untidy += tensor.nbytes
            if untidy > TIDIED:
                memory.trim()  # what packing took lies between what stays: SDXL in int8 left 1.9 GB
                untidy = 0
        self.source.close()
        memory.trim()
        self._fill(component, module, intake.state)
        intake.put_packed()
        module.eval()

    def _empty(self, component: str, make: Callable[[], nn.Module]) -> Any:
        """Build the module without numbers, and without drawing any."""
        try:
            with empty_weights(buffers=False):
                return make()
        except (ValueError, TypeError, KeyError, IndexError, ZeroDivisionError, NotImplementedError) as error:
            known = {"name": self.name, "part": part_title(component), "error": reason_of(error)}
            raise UserError("base.cannot_build", self.source.field, **known) from error

    def _fill(self, component: str, module: nn.Module, state: dict[str, Tensor]) -> None:
        try:
            module.load_state_dict(state, assign=True)
        except RuntimeError as error:
            reason = [line.strip() for line in str(error).splitlines()][:2][-1]  # the first line is a heading
            known = {"name": self.name, "part": part_title(component), "error": reason[:300]}
            raise UserError("base.wrong_tensors", self.source.field, **known) from error


def counted(shape: tuple[int, ...]) -> LazyTensor:
    """Return 0, 1, 2 ... along the last axis, int64."""
    return LazyTensor(shape, torch.int64, lambda: torch.arange(shape[-1] if shape else 1).expand(shape).contiguous())


def open_base(
    name: str | Path, *, field: str = "base_model", prediction_type: str | None = None, fetch: Fetch | None = None
) -> LatentBase:
    """Open a .safetensors or .ckpt file, a diffusers folder, a Hugging Face name or an https link.

    fetch: receives the progress of a download. prediction_type: overrides what the file says.
    Raises UserError with the reason if it is not a complete model of a known family.
    """
    path = download(name if isinstance(name, str) else str(name), field, fetch)
    source: Source = FolderSource(path, field) if path.is_dir() else SingleFileSource(path, field)
    return LatentBase(source, prediction_type)
