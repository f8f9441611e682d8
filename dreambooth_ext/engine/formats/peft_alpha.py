"""Read a LoRA's alpha as PEFT and diffusers store it: beside the file (adapter_config.json) or in its metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.system.files import parse_json, read_json
from ..networks.layer_adapters import ALPHA

METADATA = "lora_adapter_metadata"  # diffusers', by component: "unet.lora_alpha"
BESIDE = "adapter_config.json"  # PEFT's, beside `adapter_model.safetensors`
LARGEST = 2**20  # bytes
REGULAR = set("*+?()[]{}|$\\")  # characters of regular expressions, which are not evaluated: one can take forever


class PeftAlpha:
    """The alphas of one file. Without any, alpha equals the rank, as everywhere. Raises UserError if they are
    invalid."""

    def __init__(self, path: Path, metadata: Mapping[str, str], field: str):
        self.path, self.field = path, field
        self.beside = path.stem == "adapter_model" and path.with_name(BESIDE).is_file()
        self.said: dict[str, Any] = {}
        try:
            if self.beside:
                self.said = dict(read_json(path.with_name(BESIDE), LARGEST))
            elif METADATA in metadata:
                self.said = dict(parse_json(metadata[METADATA]))
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise self._senseless() from error

    def _senseless(self) -> UserError:
        where = BESIDE if self.beside else Message("weights.its_metadata")
        return UserError("weights.bad_alpha", self.field, file=self.path.name, where=where)

    def added(self, component: str, layer: str, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return a layer's parts, with alpha added if the file states it."""
        down = parts.get("lora_down.weight")
        alpha = None if ALPHA in parts or down is None else self._alpha(component, layer)
        if alpha is None or down is None:
            return parts
        # readers divide by the rank; for alpha / sqrt(rank) (rsLoRA), alpha must be larger
        size = alpha * math.sqrt(len(down)) if self._get(component, "use_rslora") else alpha
        return {**parts, ALPHA: torch.tensor(size)}

    def _get(self, component: str, name: str) -> Any:
        return self.said.get(name if self.beside else f"{component}.{name}")

    def _alpha(self, component: str, layer: str) -> float | None:
        patterns, found = self._get(component, "alpha_pattern") or {}, self._get(component, "lora_alpha")
        try:
            for pattern, alpha in dict(patterns).items():
                name = pattern.removeprefix("^").replace("\\.", ".")
                if set(name) & REGULAR:
                    raise ValueError(pattern)
                found = alpha if f".{layer}".endswith(f".{name}") else found
            return None if found is None else float(found)
        except (TypeError, ValueError, AttributeError, OverflowError) as error:
            raise self._senseless() from error
