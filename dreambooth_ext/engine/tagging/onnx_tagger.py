"""WD14 taggers (SmilingWolf's, and others of their kind) in ONNX: a picture in, a probability for each tag out.

Two layouts are in use. Those exported from Keras, also the v3 ones, take (n, height, width, 3), blue first, 0 to 255.
Those exported from timm take (n, 3, height, width), normalised by the mean and deviation in the model's config.json,
else 0.5; SmilingWolf's are blue first there, too. Pictures are padded with white to a square.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.captions.taggers import CONFIG, LARGEST_CONFIG, onnx_file
from ...core.errors import UserError
from ...core.messages.message import reason_of
from ...core.system.files import read_json
from . import tag_table
from .tag_table import TagChoice

SIDES = (16, 4096)  # pixels of a picture that a model may ask for
SIDE = 448  # pixels, where the model takes any size
BATCH = 4  # pictures at once, where the model takes any number
FIELD = "tagger"


class OnnxTagger:
    """A tagger in a folder. Raises UserError if it cannot be loaded. device: "cpu" or what torch calls a card."""

    def __init__(self, folder: Path, choice: TagChoice, device: str = "cpu"):
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError("tagging.no_onnxruntime", FIELD) from error
        self.choice, self.table = choice, tag_table.read(folder)
        path = onnx_file(folder)
        assert path is not None
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # its own words would come between ours
        wanted = ["CUDAExecutionProvider"] if device.startswith("cuda") else []
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            self.session = onnxruntime.InferenceSession(
                str(path), options, providers=[*providers, "CPUExecutionProvider"]
            )
            self._read_shapes(path.name)
        except UserError:
            raise
        except Exception as error:  # onnxruntime has exceptions of its own for each fault
            raise UserError("tagging.bad_model", FIELD, file=path.name, error=reason_of(error)) from error
        self.mean, self.deviation = _normalisation(folder)

    def _read_shapes(self, name: str) -> None:
        inputs, outputs = self.session.get_inputs(), self.session.get_outputs()
        shape = list(inputs[0].shape) if len(inputs) == 1 else []
        if len(shape) != 4 or 3 not in (shape[1], shape[3]) or not outputs:
            raise UserError("tagging.other_input", FIELD, file=name, shape=str(shape)[:60])
        self.is_channels_last = shape[3] == 3
        height, width = shape[1:3] if self.is_channels_last else shape[2:4]
        self.side = height if isinstance(height, int) else SIDE
        if not SIDES[0] <= self.side <= SIDES[1] or (isinstance(width, int) and width != self.side):
            raise UserError("tagging.other_input", FIELD, file=name, shape=str(shape)[:60])
        self.batch_size = BATCH if not isinstance(shape[0], int) else max(1, shape[0])
        self.is_fixed = isinstance(shape[0], int)
        self.input, self.output = inputs[0].name, outputs[0].name
        self.kind = np.float16 if "float16" in inputs[0].type else np.float32
        known = outputs[0].shape[-1]
        if isinstance(known, int) and known != len(self.table):
            raise UserError("tagging.other_count", FIELD, file=name, count=known, tags=len(self.table))

    def propose(self, pictures: Sequence[Image.Image]) -> list[str]:
        """A caption for each picture (RGB): its tags with commas between them."""
        return [", ".join(self.table.proposed(row.tolist(), self.choice)) for row in self.probabilities(pictures)]

    def probabilities(self, pictures: Sequence[Image.Image]) -> np.ndarray:
        """(pictures, tags). Raises UserError if the model does not give as many as the table has."""
        found = []
        for picture in [pictures[i : i + self.batch_size] for i in range(0, len(pictures), self.batch_size)]:
            batch = np.stack([self.prepared(one) for one in picture])
            missing = self.batch_size - len(batch) if self.is_fixed else 0
            filled = np.concatenate([batch, np.repeat(batch[-1:], missing, axis=0)]) if missing else batch
            rows = np.asarray(self._run(filled), dtype=np.float32)[: len(batch)].reshape(len(batch), -1)
            if rows.shape[1] != len(self.table):
                raise UserError("tagging.other_count", FIELD, file="", count=rows.shape[1], tags=len(self.table))
            found.append(rows)
        rows = np.concatenate(found)
        is_logits = bool(((rows < 0) | (rows > 1)).any())
        return 1 / (1 + np.exp(-np.clip(rows, -60, 60))) if is_logits else rows

    def _run(self, batch: np.ndarray) -> Any:
        try:
            return self.session.run([self.output], {self.input: batch})[0]
        except Exception as error:  # onnxruntime's own
            raise UserError("tagging.bad_model", FIELD, file="", error=reason_of(error)) from error

    def prepared(self, picture: Image.Image) -> np.ndarray:
        """The picture as the model takes it, without the axis of the batch."""
        side = max(picture.size)
        square = Image.new("RGB", (side, side), "white")
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        pixels = np.asarray(square.resize((self.side, self.side), Image.Resampling.BICUBIC), dtype=np.float32)
        if self.is_channels_last:
            return np.ascontiguousarray(pixels[:, :, ::-1]).astype(self.kind)
        normal = (pixels[:, :, ::-1] / 255 - self.mean) / self.deviation
        return np.ascontiguousarray(normal.transpose(2, 0, 1)).astype(self.kind)


def _normalisation(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mean and deviation of each channel, from timm's "pretrained_cfg" in the folder's config.json."""
    try:
        known = read_json(folder / CONFIG, LARGEST_CONFIG)["pretrained_cfg"]
        mean, deviation = (np.asarray(known[name], dtype=np.float32) for name in ("mean", "std"))
        if mean.shape == deviation.shape == (3,) and (deviation > 0).all():
            return mean, deviation
    except (OSError, ValueError, LookupError, TypeError):
        pass
    return np.full(3, 0.5, np.float32), np.full(3, 0.5, np.float32)
