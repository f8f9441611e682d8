"""An image model on the user's disk as a judge: CLIP or DINOv2, as transformers saves them. Nothing is downloaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import read_json

AT_ONCE = 16  # pictures
KINDS = ("clip", "clip_vision_model", "dinov2", "dinov2_with_registers", "siglip", "siglip_vision_model")


class VisionJudge:
    """Sees pictures by an image model's patches. Raises UserError, naming "judge", for a folder that is none."""

    def __init__(self, folder: Path, device: torch.device):
        from transformers import AutoImageProcessor, AutoModel

        self.name, self.device = folder.name, device
        local = {"local_files_only": True, "trust_remote_code": False}
        try:
            if read_json(folder / "config.json").get("model_type") not in KINDS:
                raise ValueError(Message("verdict.other_type", types=list(KINDS)))
            self.processor = AutoImageProcessor.from_pretrained(folder, use_fast=False, **local)
            model = AutoModel.from_pretrained(folder, use_safetensors=True, **local)
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError) as error:
            raise UserError("verdict.not_like_model", "judge", file=folder.name, error=reason_of(error)) from error
        self.model = getattr(model, "vision_model", model).to(device).eval()

    @torch.no_grad()
    def features(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return features by patch, (n, patches, channels)."""
        found = []
        for begin in range(0, len(pictures), AT_ONCE):
            pixels = self.processor(images=list(pictures[begin : begin + AT_ONCE]), return_tensors="pt")["pixel_values"]
            hidden_npc = self.model(pixel_values=pixels.to(self.device)).last_hidden_state
            found.append(hidden_npc.float().cpu())
        return torch.cat(found)
