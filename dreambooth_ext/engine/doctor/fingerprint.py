"""What is kept of a picture to compare it with others: small enough for ten thousand of them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from PIL import Image

from .interest import head
from .view import View

SIDE = 16  # pixels of the small picture
ZONES = 6  # of the ground: left and right, each above, middle and below


def fingerprint(view: View) -> dict[str, Any]:
    """Return {"content", "print", "ground", "light", "poses"}, all JSON.

    print: a luminance of SIDE x SIDE, stretched to 0 to 255, as base64. ground: mean colours of ZONES at the picture's
    sides, where the subject is not (red, green, blue, 0 to 255 each). light: of the largest face, else of the middle:
    luminance, its deviation, left over right, above over below, red over blue. poses: of each face, `pose`.
    """
    return {
        "content": view.content,
        "print": base64.b64encode(_small(view).tobytes()).decode(),
        "ground": _ground(view),
        "light": _light(view),
        "poses": [_pose(view, number) for number in range(min(4, len(view.faces)))],
    }


def _small(view: View) -> np.ndarray:
    small = np.asarray(view.image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX), np.float32)
    low, high = float(small.min()), float(small.max())
    return np.rint((small - low) * (255 / max(high - low, 1.0))).astype(np.uint8)


def _ground(view: View) -> list[list[int]]:
    height, width = view.grey.shape
    strip = max(1, width // 7)
    zones = []
    for columns in (slice(0, strip), slice(width - strip, width)):
        for third in range(ZONES // 2):
            rows = slice(third * height // 3, max(third * height // 3 + 1, (third + 1) * height // 3))
            zones.append([round(float(value)) for value in view.rgb[rows, columns].mean((0, 1))])
    return zones


def _light(view: View) -> list[float]:
    height, width = view.grey.shape
    left, top, right, bottom = width * 0.25, height * 0.25, width * 0.75, height * 0.75
    if view.faces:
        left, top, right, bottom = head(view.faces[0], (0.0,) * 4)
    rows = slice(max(0, int(top)), max(int(top) + 2, int(bottom)))
    columns = slice(max(0, int(left)), max(int(left) + 2, int(right)))
    part, colour = view.grey[rows, columns], view.rgb[rows, columns]
    if min(part.shape) < 2:
        return [0.0, 0.0, 1.0, 1.0, 1.0]
    middle, across = part.shape[0] // 2, part.shape[1] // 2

    def ratio(one: np.ndarray, other: np.ndarray) -> float:
        return float((one.mean() + 8) / (other.mean() + 8))

    values = (
        float(part.mean()),
        float(part.std()),
        ratio(part[:, :across], part[:, across:]),
        ratio(part[:middle], part[middle:]),
        ratio(colour[..., 0], colour[..., 2]),
    )
    return [round(value, 3) for value in values]


def _pose(view: View, number: int) -> dict[str, float]:
    """Return {"yaw", "pitch", "roll", "size"} of a face: where the nose is between the eyes (-1 to 1, about 0 from the
    front), and between eyes (0) and mouth (1); the tilt of the eyes' line in radians; the face's height over the
    picture's shorter side."""
    face = view.faces[number]
    right, left, nose, *mouth = (np.array(point) for point in face.landmarks)
    eyes, lips = (right + left) / 2, (mouth[0] + mouth[1]) / 2
    line = left - right
    wide = max(float(np.linalg.norm(line)), 1e-3)
    down = lips - eyes
    high = max(float(np.linalg.norm(down)), 1e-3)
    yaw = float((nose - eyes) @ (line / wide)) / (max(wide, high) / 2)
    pitch = float((nose - eyes) @ (down / high)) / high
    roll = float(np.arctan2(line[1], line[0]))
    size = face.box[3] / min(view.image.size)
    known = {"yaw": yaw, "pitch": pitch, "roll": roll, "size": size}
    return {name: round(value, 3) for name, value in known.items()}
