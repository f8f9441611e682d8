"""Find faces in a picture with YuNet (Wu et al., "YuNet: a tiny millisecond-level face detector", 2023), by OpenCV.

The model, 232 KB, lies beside this file, with its licence (MIT, OpenCV Zoo). It is read from memory: on Windows OpenCV
opens no path with letters that the system's code page lacks.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...core.messages.message import Message

MODEL = Path(__file__).with_name("face_detection_yunet_2023mar.onnx")
SIDE = 640  # pixels of the longer side when looking: the size YuNet is made for, in which faces have 10 pixels or more
LEAST_SCORE = 0.75  # portraits have 0.8 to 0.95, a headlight 0.66 (docs/measurements.md)
OVERLAP = 0.3  # above which (intersection over union) two boxes are one face


@dataclass(frozen=True)
class Face:
    """A face in a picture of known size; all in its pixels, from the left top corner.

    box: left, top, width, height; it may reach beyond the picture's edge. landmarks: (x, y) of the right eye (which is
    on the left in the picture), the left eye, the tip of the nose, and the right and left corners of the mouth. score:
    0 to 1.
    """

    box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...]
    score: float

    @property
    def area(self) -> float:
        return self.box[2] * self.box[3]

    @property
    def centre(self) -> tuple[float, float]:
        return self.box[0] + self.box[2] / 2, self.box[1] + self.box[3] / 2


def find_faces(image: Image.Image, least_score: float = LEAST_SCORE) -> list[Face]:
    """Return the faces of an upright RGB picture, the largest first; [] also where OpenCV is missing (`why_not`).

    One thread at a time.
    """
    detector = _detector()
    if detector is None or min(image.size) < 2:
        return []
    scale = min(1.0, SIDE / max(image.size))
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    small = image if scale == 1 else image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2)
    detector.setInputSize(size)
    detector.setScoreThreshold(least_score)
    _, rows = detector.detect(np.ascontiguousarray(np.asarray(small)[:, :, ::-1]))  # BGR
    back = image.width / size[0], image.height / size[1]
    found = [_face(row, back) for row in (() if rows is None else rows) if np.isfinite(row).all()]
    return sorted(found, key=lambda face: -face.area)


def why_not() -> Message | None:
    """Return why no faces can be found here; None if they can."""
    return Message("findings.no_faces_found") if _detector() is None else None


def _face(row: np.ndarray, back: tuple[float, float]) -> Face:
    """row: left, top, width, height, five times x and y, score."""
    values = [float(value) * back[index % 2] for index, value in enumerate(row[:14])]
    points = tuple((values[at], values[at + 1]) for at in range(4, 14, 2))
    return Face((values[0], values[1], values[2], values[3]), points, float(row[14]))


@functools.cache
def _detector() -> Any:
    try:
        import cv2

        content = np.frombuffer(MODEL.read_bytes(), np.uint8)
        return cv2.FaceDetectorYN.create("onnx", content, np.empty(0, np.uint8), (SIDE, SIDE), LEAST_SCORE, OVERLAP)
    except (ImportError, AttributeError, OSError):  # AttributeError: an OpenCV before 4.8
        return None
