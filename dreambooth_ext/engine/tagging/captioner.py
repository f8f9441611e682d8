"""Captioners of transformers: BLIP, GIT, vit-gpt2 and whatever else it has built in, from safetensors alone.

No code of a model is ever run, and no pickle read: a folder that needs either is refused with that reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image
from safetensors import SafetensorError

from ...core.captions.taggers import CONFIG, LARGEST_CONFIG, model_type
from ...core.errors import UserError
from ...core.messages.message import reason_of
from ...core.system.files import read_json

LONGEST = 60  # tokens of a sentence
BEAMS = 3
BATCH = 4  # pictures at once
FIELD = "tagger"
FAULTS = (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError, ImportError)
FLORENCE_TASK = "<DETAILED_CAPTION>"
LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
CLASSES = {
    "blip": "BlipForConditionalGeneration",
    "git": "GitForCausalLM",
    "vision-encoder-decoder": "VisionEncoderDecoderModel",
    "florence2": "Florence2ForConditionalGeneration",  # transformers 4.56 and newer
}


class Captioner:
    """A captioner in a folder. begin: how its sentences begin, where the model can be told. Raises UserError."""

    def __init__(self, folder: Path, begin: str = "", device: torch.device | str = "cpu"):
        self.kind, self.begin, self.device = model_type(folder), begin.strip(), torch.device(device)
        self.batch_size = BATCH
        made = _class_of(folder, self.kind)
        try:
            # low_cpu_mem_usage=False: tied weights of some captioners stay on the meta device otherwise
            self.model = made.from_pretrained(folder, use_safetensors=True, **LOCAL).eval().to(self.device)
            self.images, self.words = _processors(folder, self.kind)
        except (*FAULTS, SafetensorError) as error:
            raise UserError("tagging.bad_model", FIELD, file=folder.name, error=reason_of(error)) from error

    @torch.inference_mode()
    def propose(self, pictures: Sequence[Image.Image]) -> list[str]:
        """A sentence for each picture (RGB)."""
        made = self.images(images=list(pictures), return_tensors="pt")
        inputs: dict[str, Any] = {"pixel_values": made["pixel_values"].to(self.device)}
        start = FLORENCE_TASK if self.kind == "florence2" else self.begin
        if start and self.kind != "vision-encoder-decoder":
            words = self.words([start] * len(pictures), return_tensors="pt")
            ids = words["input_ids"].to(self.device)
            inputs["input_ids"] = (
                _without_end(ids, self.words) if self.kind == "git" else ids
            )  # BLIP takes it off itself
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
        found = self.model.generate(**inputs, max_new_tokens=LONGEST, num_beams=BEAMS, do_sample=False)
        return [_tidied(text) for text in self.words.batch_decode(found, skip_special_tokens=True)]


def _class_of(folder: Path, kind: str) -> Any:
    """The model's class in transformers. Raises UserError for what would need code or pickles of the folder."""
    known = read_json(folder / CONFIG, LARGEST_CONFIG)
    made = getattr(transformers, CLASSES.get(kind, ""), None) if kind in CLASSES else None
    if made is None:
        version = transformers.__version__
        raise UserError("tagging.needs_code", FIELD, file=folder.name, kind=kind or "?", version=version)
    if known.get("auto_map") and kind not in ("blip", "git", "vision-encoder-decoder", "florence2"):
        raise UserError("tagging.needs_code", FIELD, file=folder.name, kind=kind, version=transformers.__version__)
    if not any(folder.glob("*.safetensors")):
        raise UserError("tagging.only_pickles", FIELD, file=folder.name)
    return made


def _processors(folder: Path, kind: str) -> tuple[Callable[..., Any], Any]:
    """What makes pixels of pictures, and the tokenizer."""
    images = transformers.AutoImageProcessor.from_pretrained(folder, use_fast=False, **LOCAL)
    return images, transformers.AutoTokenizer.from_pretrained(folder, **LOCAL)


def _without_end(ids: torch.Tensor, words: Any) -> torch.Tensor:
    """The beginning of a sentence without the mark of its end, (n, tokens)."""
    ends = {words.sep_token_id, words.eos_token_id} - {None}
    return ids[:, :-1] if ids.shape[1] > 1 and int(ids[0, -1]) in ends else ids


def _tidied(text: str) -> str:
    return " ".join(text.split()).strip()
