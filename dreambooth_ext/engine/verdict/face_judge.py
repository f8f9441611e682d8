"""A face recogniser on the user's disk as a judge of a person's likeness: ArcFace (Deng et al. 2019, arXiv 1801.07698),
SFace (Zhong et al. 2021) and their like as ONNX, which turn a face of 112 pixels into a direction that tells who it is.

Run on the CPU, from memory: a file that names further files cannot have them read.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...core.errors import UserError
from ...core.messages.message import Message, reason_of
from ...core.system.files import require_ordinary
from ..pictures import faces
from ..pictures.faces import Face

SIDE = 112  # pixels of a face as these models see it
# Where they expect the landmarks of `Face`, in these pixels (InsightFace's arcface_dst)
PLACES = ((38.2946, 51.6963), (73.5318, 51.5014), (56.0252, 71.7366), (41.5493, 92.3655), (70.7299, 92.2041))
LARGEST = 2**30  # bytes of a file; ArcFace of a ResNet-100 has 260 MB
WIDTHS = range(32, 4097)  # numbers that may tell a face
FIRST = 8  # operations of a model among which its own preparation of pixels is


class FaceJudge:
    """Sees pictures by the largest face in each. Raises UserError, naming "judge", for a file that is none.

    name: the file's.
    """

    def __init__(self, path: Path):
        self.name = path.name
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError("verdict.no_onnxruntime", "judge", file=self.name) from error
        try:
            require_ordinary(path, LARGEST)
            content = path.read_bytes()
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
            # As InsightFace tells them apart: a model that begins with a subtraction prepares its pixels itself
            self.takes_bytes = bool({"Sub"} & set(first_operations(content)))
            self._require_fitting()
        except Exception as error:  # onnxruntime raises exceptions of its own for whatever is wrong with a file
            raise UserError("verdict.not_face_model", "judge", file=self.name, error=reason_of(error)) from error

    def _require_fitting(self) -> None:
        """Raise ValueError if it does not turn one face into one direction."""
        inputs = self.session.get_inputs()
        shape = inputs[0].shape if len(inputs) == 1 and inputs[0].type == "tensor(float)" else []
        wanted = (1, 3, SIDE, SIDE)
        fits = [
            not isinstance(has, int) or has == needs for has, needs in zip(shape, wanted, strict=False)
        ]  # or a name
        if len(shape) != len(wanted) or not all(fits):
            raise ValueError(Message("verdict.other_input", side=SIDE))
        found = self._directions_of(Image.new("RGB", (SIDE, SIDE), (200, 150, 120)))
        if found.ndim != 1 or len(found) not in WIDTHS or not np.isfinite(found).all():
            raise ValueError(Message("verdict.other_output"))

    def features(self, pictures: Sequence[Image.Image]) -> Tensor:
        """Return the direction of each picture's largest face, (n, 1, channels) of length 1; zeros where there is
        none."""
        rows = []
        for picture in pictures:
            found = faces.find_faces(picture.convert("RGB"))
            row = self._directions_of(aligned(picture.convert("RGB"), found[0])) if found else None
            if row is None or not np.isfinite(row).all():
                rows.append(np.zeros(self.width, np.float32))
            else:
                rows.append(row / max(float(np.linalg.norm(row)), 1e-6))
        return torch.from_numpy(np.stack(rows))[:, None] if rows else torch.empty(0, 1, self.width)

    def _directions_of(self, face: Image.Image) -> np.ndarray:
        pixels_hwc = np.asarray(face, np.float32)
        pixels_hwc = pixels_hwc if self.takes_bytes else (pixels_hwc - 127.5) / 127.5
        pixels_1chw = np.ascontiguousarray(pixels_hwc.transpose(2, 0, 1)[None])
        (output, *_) = self.session.run(None, {self.session.get_inputs()[0].name: pixels_1chw})
        direction = np.asarray(output, np.float32).squeeze()
        self.width = direction.size
        return direction


def aligned(picture: Image.Image, face: Face) -> Image.Image:
    """Return the face turned, moved and scaled so that its landmarks come as close as they can to PLACES."""
    a, b, x, y = similarity(np.array(PLACES), np.array(face.landmarks))
    return picture.transform((SIDE, SIDE), Image.Transform.AFFINE, (a, -b, x, b, a, y), Image.Resampling.BILINEAR)


def similarity(points_n2: np.ndarray, others_n2: np.ndarray) -> tuple[float, float, float, float]:
    """Return (a, b, x, y) of the similarity that maps points to others with the least squares: (px, py) becomes
    (a px - b py + x, b px + a py + y)."""
    ones, zeros = np.ones(len(points_n2)), np.zeros(len(points_n2))
    across = np.stack([points_n2[:, 0], -points_n2[:, 1], ones, zeros], axis=1)
    down = np.stack([points_n2[:, 1], points_n2[:, 0], zeros, ones], axis=1)
    wanted = np.concatenate([others_n2[:, 0], others_n2[:, 1]])
    found, *_ = np.linalg.lstsq(np.concatenate([across, down]), wanted, rcond=None)
    a, b, x, y = map(float, found)
    return a, b, x, y


def first_operations(content: bytes, count: int = FIRST) -> list[str]:
    """Return the names of a model's first operations, without constants; [] for what is no ONNX.

    ONNX is protobuf: a model's field 7 is its graph, whose fields 1 are its nodes, in order; a node's field 4 names
    its operation.
    """
    found: list[str] = []
    for graph in _fields(memoryview(content), 7):
        for node in _fields(graph, 1):
            found += [bytes(name).decode("ascii", "replace") for name in _fields(node, 4)]
            if len(found) >= 2 * count:
                break
    return [name for name in found if name != "Constant"][:count]


def _fields(message: Any, wanted: int) -> Iterator[Any]:
    """Yield the parts of a protobuf message that are field `wanted` and have a length; ends at what is none."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == 0:
            _, at = _number(message, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            length, at = _number(message, at)
            if key >> 3 == wanted:
                yield message[at : at + length]
            at += length
        else:
            return


def _number(message: Any, at: int) -> tuple[int, int]:
    """Return the number that begins at a place, seven bits a byte, and the place behind it."""
    value = shift = 0
    while at < len(message):
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            break
    return value, at
