"""Read a checkpoint in a single file, with or without a yaml beside it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from ...core.errors import UserError
from ...core.system.files import read_text
from ..tensors import scaled_fp8
from ..tensors.lazy_tensor import LazyTensor
from ..tensors.tensor_file import TensorFile, open_tensors
from .architecture import TOKENIZER, Architecture
from .detection import canonical_names, recognise, refuse_others
from .key_maps import EMA_PREFIX, ties, unfold
from .ldm_config import LARGEST_YAML, absolute_clip, from_yaml, sidecar_of

V_MARKS = ("v_pred",)  # tensors whose presence means v-prediction
ZERO_SNR_MARKS = ("ztsnr",)
CLIP_FILES = ("config.json", "vocab.json", "merges.txt")


class SingleFileSource:
    def __init__(self, path: Path, field: str):
        self.path, self.name, self.field = path, path.stem, field
        self.file: TensorFile = open_tensors(path, field=field)
        self.file.close()
        self.metadata = {key: said for key, said in self.file.metadata.items() if key != scaled_fp8.METADATA}
        self.names = canonical_names({key: shape for key, (shape, _) in self.file.entries.items()})
        self.shapes = {usual: self.file.entries[key][0] for usual, key in self.names.items()}
        refuse_others(self.shapes, path.name, field)
        self.sidecar_yaml: str | None = None
        self.clip_folder: Path | None = None
        self.architecture = self._architecture()
        self.ties = ties(self.architecture)
        self._require_complete()

    def _architecture(self) -> Architecture:
        sidecar = sidecar_of(self.path)
        if sidecar is not None:
            try:
                text = read_text(sidecar, LARGEST_YAML)
            except ValueError as error:
                raise UserError("base.yaml_not_utf8", self.field, file=sidecar.name) from error
            except OSError as error:
                known = {"file": sidecar.name, "error": error.strerror}
                raise UserError("base.yaml_unreadable", self.field, **known) from error
            said = from_yaml(text, sidecar.parent, self.shapes, name=sidecar.name, field=self.field)
            self.sidecar_yaml = absolute_clip(text, said.clip_folder)
            self.clip_folder = said.clip_folder
            self.prediction_type: str | None = said.prediction_type
            architecture = said.architecture
        else:
            try:
                architecture = recognise(self.shapes)
            except (KeyError, StopIteration) as error:
                raise self._incomplete([str(error)]) from error
            except (IndexError, ValueError, ZeroDivisionError) as error:
                raise UserError("base.unknown_shapes", self.field, file=self.path.name) from error
            self.prediction_type = self._marked_prediction()
        if any(mark in self.shapes for mark in ZERO_SNR_MARKS):
            architecture.scheduler.update(rescale_betas_zero_snr=True, timestep_spacing="trailing")
        return architecture

    def _marked_prediction(self) -> str | None:
        said = self.metadata.get("modelspec.prediction_type") or self.metadata.get("modelspec.predict_key") or ""
        if any(mark in self.shapes for mark in V_MARKS) or said.startswith("v"):
            return "v_prediction"
        return "epsilon" if said.startswith("eps") else None

    def _require_complete(self) -> None:
        needed = [tie.ldm for part in self.ties.values() for tie in part]
        missing = [key for key in needed if key not in self.shapes]
        if missing:
            raise self._incomplete(missing)
        entries = {usual: self.file.entries[key] for usual, key in self.names.items()}
        scaled_fp8.require_readable(self.path.name, self.field, needed, entries)

    def _incomplete(self, missing: list[str]) -> UserError:
        known = {"file": self.path.name, "count": len(missing), "tensor": missing[0]}
        return UserError("base.incomplete", self.field, **known)

    def read(self, component: str) -> Iterator[tuple[str, Tensor]]:
        for tie in self.ties[component]:
            yield from zip(tie.diffusers, unfold(tie, self._lazy(tie.ldm).load()), strict=True)

    def _lazy(self, usual: str) -> LazyTensor:
        """Return a tensor by its usual key, with its fp8 scale applied if it has one."""
        stored, scale = self.file.lazy(self.names[usual]), scaled_fp8.scale_of(usual, self.names)
        if scale is None:
            return stored
        factor = self.file.lazy(self.names[scale])
        return LazyTensor(stored.shape, torch.float32, lambda: scaled_fp8.applied(stored.load(), factor.load()))

    def count(self, component: str) -> int:
        return sum(math.prod(self.shapes[tie.ldm]) for tie in self.ties[component])

    def ldm(self, component: str) -> dict[str, LazyTensor]:
        return {tie.ldm: self._lazy(tie.ldm) for tie in self.ties[component]}

    def extras(self) -> dict[str, LazyTensor]:
        placed = {tie.ldm for part in self.ties.values() for tie in part}
        return {
            usual: self.file.lazy(key)
            for usual, key in self.names.items()
            if usual not in placed and not usual.startswith(EMA_PREFIX) and not scaled_fp8.is_beside(usual)
        }

    def tokenizer_folder(self, index: int) -> Path:
        if index == 0 and self.clip_folder is not None and (self.clip_folder / "vocab.json").is_file():
            return self.clip_folder
        return TOKENIZER

    def paths(self) -> dict[str, Path]:
        sidecar, folder = sidecar_of(self.path), self.clip_folder
        found = {path.name: path for path in (self.path, sidecar) if path}
        if folder:
            clip = [folder / name for name in CLIP_FILES]
            found |= {f"{folder.name}/{path.name}": path for path in clip if path.is_file()}
        return found

    def close(self) -> None:
        self.file.close()
