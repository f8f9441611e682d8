"""Read a model from a diffusers folder: one subfolder per part, its weights in one file or in shards."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler
from torch import Tensor

from ...core.config.parsing import shown
from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import read_json
from ..tensors import scaled_fp8
from ..tensors.lazy_tensor import LazyTensor
from ..tensors.tensor_file import LARGEST_HEADER, TensorFile, open_tensors
from .architecture import TOKENIZER, Architecture, shipped
from .config_limits import read_config
from .families import FAMILIES, Family, family_titles
from .key_maps import Tie, fold, folded_shape, ties

WEIGHTS = ("diffusion_pytorch_model", "model", "pytorch_model")  # diffusers', then transformers' names
OLD_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # in old VAEs
INDEX = "model_index.json"
OTHER_PIPELINES = ("StableDiffusion3",)  # other families, whose class names begin with the same words


class FolderSource:
    sidecar_yaml: str | None = None
    clip_folder: Path | None = None

    def __init__(self, path: Path, field: str):
        self.path, self.name, self.field = path, path.name, field
        self.metadata: dict[str, str] = {}
        index = self._index()
        family = self._family(index)
        self._require_parts(family)
        self.architecture = self._architecture(family)
        self.prediction_type: str | None = self.architecture.scheduler["prediction_type"]
        try:
            self.ties = ties(self.architecture)
        except (KeyError, TypeError, IndexError) as error:
            known = {"name": self.name, "family": family.title, "error": repr(error)}
            raise UserError("base.unknown_variant", field, **known) from error
        self.files = {name: self._weights(name) for name in family.components}
        self._require_complete()

    def _index(self) -> dict[str, Any]:
        if not (self.path / INDEX).is_file():
            models = [p.name for p in self.path.iterdir() if p.suffix.lower() in (".safetensors", ".ckpt")]
            if models:
                raise UserError("base.folder_of_files", self.field, folder=self.path, file=models[0])
            raise UserError("base.not_diffusers", self.field, folder=self.path)
        return self._json(INDEX)

    def _json(self, inner: str) -> dict[str, Any]:
        file = self.path / inner
        if not file.is_file():
            raise UserError("base.folder_lacks", self.field, folder=self.path.name, file=inner)
        try:
            content = read_config(file)
        except (OSError, ValueError) as error:
            raise self._damaged(inner, reason_of(error)) from error
        if not isinstance(content, dict):
            raise self._damaged(inner, Message("base.not_an_object"))
        return content

    def _damaged(self, inner: str, why: str) -> UserError:
        return UserError("base.folder_file_damaged", self.field, file=inner, folder=self.path.name, reason=why)

    def _family(self, index: dict[str, Any]) -> Family:
        """Return the family by the pipeline's class and, if several share it, by the text encoder's activation
        function."""
        kind = str(index.get("_class_name", ""))
        pipelines = {f.pipeline for f in FAMILIES.values() if kind.startswith(f.pipeline)}
        named = [f for f in FAMILIES.values() if f.pipeline == max(pipelines, key=len, default=None)]
        whole = len(named) > 1 or any(index.get("text_encoder") or [None])  # SDXL's refiner has only the second one
        if not named or not whole or kind.startswith(OTHER_PIPELINES):
            said = {"folder": self.path.name, "pipeline": kind, "families": family_titles()}
            raise UserError("base.unknown_pipeline", self.field, **said)
        if len(named) == 1:
            return named[0]
        activation = self._json("text_encoder/config.json").get("hidden_act")
        return next((f for f in named if shipped(f.name).text_encoders[0]["hidden_act"] == activation), named[0])

    def _require_parts(self, family: Family) -> None:
        missing = [name for name in family.components if not (self.path / name).is_dir()]
        if missing:
            raise UserError("base.folder_lacks_parts", self.field, folder=self.path.name, parts=missing)

    def _architecture(self, family: Family) -> Architecture:
        usual = shipped(family.name)
        unet = {**usual.unet, **self._json("unet/config.json")}
        vae = {**usual.vae, **self._json("vae/config.json")}
        texts = []
        for name, config in zip(family.components[2:], usual.text_encoders, strict=True):
            own = self._json(f"{name}/config.json")
            own["eos_token_id"] = config["eos_token_id"]  # many folders say 2, which breaks with added tokens
            texts.append({**config, **{key: value for key, value in own.items() if key in config}})
        scheduler = dict(usual.scheduler)
        if (self.path / "scheduler/scheduler_config.json").is_file():
            own = self._json("scheduler/scheduler_config.json")
            scheduler |= {key: value for key, value in own.items() if key in scheduler}
            self._require_schedule(scheduler)
        if unet["in_channels"] not in (4, 9):
            said = {"folder": self.path.name, "channels": unet["in_channels"]}
            raise UserError("base.folder_channels", self.field, **said)
        unet = {key: value for key, value in unet.items() if not key.startswith("_")}
        vae = {key: value for key, value in vae.items() if not key.startswith("_")}
        return Architecture(family, unet, vae, tuple(texts), scheduler)

    def _require_schedule(self, scheduler: dict[str, Any]) -> None:
        inner = "scheduler/scheduler_config.json"
        if scheduler["prediction_type"] not in ("epsilon", "v_prediction"):
            said = {"folder": self.path.name, "prediction": shown(scheduler["prediction_type"])}
            raise UserError("base.unknown_prediction", self.field, **said)
        try:
            DDPMScheduler.from_config(scheduler)
        except (ValueError, TypeError, NotImplementedError, RuntimeError) as error:
            raise self._damaged(inner, reason_of(error)) from error

    def _weights(self, component: str) -> dict[str, tuple[TensorFile, str]]:
        """Return {diffusers' key: (file, key in the file)}. Prefers full precision to fp16, and safetensors above
        all."""
        folder = self.path / component
        for suffix in (".safetensors", ".bin"):
            for variant in ("", ".fp16", ".bf16"):
                for stem in WEIGHTS:
                    try:
                        files = weight_files(folder, stem, suffix, variant)
                    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
                        raise self._damaged(f"{component}/*.index.json", reason_of(error)) from error
                    if files:
                        return self._places(files)
        raise UserError("base.part_without_weights", self.field, part=component, folder=self.path.name)

    def _places(self, paths: list[Path]) -> dict[str, tuple[TensorFile, str]]:
        places = {}
        for path in paths:
            file = open_tensors(path, field=self.field)
            file.close()
            places.update({present_name(key): (file, key) for key in file})
        return places

    def _require_complete(self) -> None:
        for component, part in self.ties.items():
            missing = [key for tie in part for key in tie.diffusers if key not in self.files[component]]
            if missing:
                said = {"part": component, "folder": self.path.name, "count": len(missing), "tensor": missing[0]}
                raise UserError("base.part_incomplete", self.field, **said)
            entries = {key: file.entries[inner] for key, (file, inner) in self.files[component].items()}
            weights = [key for tie in part for key in tie.diffusers]
            scaled_fp8.require_readable(f"{component} in {self.path.name}", self.field, weights, entries)

    def _shape(self, component: str, key: str) -> tuple[int, ...]:
        file, inner = self.files[component][key]
        return file.entries[inner][0]

    def _tensor(self, component: str, key: str, tie: Tie) -> Tensor:
        tensor = self._stored(component, key)
        scale = scaled_fp8.scale_of(key, self.files[component])
        tensor = tensor if scale is None else scaled_fp8.applied(tensor, self._stored(component, scale))
        return tensor.reshape(tensor.shape[:2]) if tie.form == "conv" else tensor  # old VAEs store 1x1 convolutions

    def _stored(self, component: str, key: str) -> Tensor:
        file, inner = self.files[component][key]
        return file[inner]

    def read(self, component: str) -> Iterator[tuple[str, Tensor]]:
        for tie in self.ties[component]:
            for key in tie.diffusers:
                yield key, self._tensor(component, key, tie)

    def count(self, component: str) -> int:
        keys = [key for tie in self.ties[component] for key in tie.diffusers]
        return sum(math.prod(self._shape(component, key)) for key in keys)

    def ldm(self, component: str) -> dict[str, LazyTensor]:
        return {tie.ldm: self._lazy(component, tie) for tie in self.ties[component]}

    def _lazy(self, component: str, tie: Tie) -> LazyTensor:
        file, inner = self.files[component][tie.diffusers[0]]
        shape, dtype = file.entries[inner]
        if scaled_fp8.scale_of(tie.diffusers[0], self.files[component]):
            dtype = torch.float32
        load = lambda: fold(tie, [self._tensor(component, key, tie) for key in tie.diffusers])  # noqa: E731
        return LazyTensor(folded_shape(tie, shape), dtype, load)

    def extras(self) -> dict[str, LazyTensor]:
        return {}

    def tokenizer_folder(self, index: int) -> Path:
        own = self.path / ("tokenizer", "tokenizer_2")[index]
        return own if (own / "vocab.json").is_file() and (own / "merges.txt").is_file() else TOKENIZER

    def paths(self) -> dict[str, Path]:
        weights = {file.path for places in self.files.values() for file, _ in places.values()}
        names = [INDEX, "scheduler/scheduler_config.json", *(f"{part}/config.json" for part in self.files)]
        names += [f"{part}/{name}" for part in ("tokenizer", "tokenizer_2") for name in ("vocab.json", "merges.txt")]
        texts = {self.path / name for name in names if (self.path / name).is_file()}
        return {path.relative_to(self.path).as_posix(): path for path in weights | texts}

    def close(self) -> None:
        for places in self.files.values():
            for file, _ in places.values():
                file.close()


def weight_files(folder: Path, stem: str, suffix: str, variant: str) -> list[Path]:
    """Return the single weights file, or the shards listed in an index; [] if there are none."""
    one = folder / f"{stem}{variant}{suffix}"
    if one.is_file():
        return [one]
    for index in (f"{stem}{suffix}.index{variant}.json", f"{stem}{variant}{suffix}.index.json"):
        if (folder / index).is_file():
            shards = read_json(folder / index, LARGEST_HEADER)["weight_map"].values()
            if any(Path(name).name != name for name in shards):
                raise ValueError(Message("base.shard_outside"))
            return [folder / name for name in sorted(set(shards))]
    return []


def present_name(key: str) -> str:
    """Return today's name of a key that old folders name differently."""
    parts = key.split(".")
    if "attentions" in parts and len(parts) > 2 and parts[-2] in OLD_ATTENTION:
        parts[-2] = OLD_ATTENTION[parts[-2]]
    return ".".join(parts)
