"""Make the mask of a picture: by its face, an ellipse, its subject (GrabCut) or a matting model; white is learned.

Boxes are (left, top, right, bottom) in pixels of the upright picture. Masks are L, in the picture's size, with soft
edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from ...core.errors import UserError
from ...core.pictures.mask_kinds import ELLIPSE, FACE, REMBG, SUBJECT
from . import faces, matting
from .faces import Face
from .picture_file import open_picture, to_srgb

Box = tuple[float, float, float, float]

INSET = 0.08  # of each side, where no box is given: a subject seldom touches the edge
SOFT = 0.01  # of the longer side: the radius of the blur at a mask's edge
CUTTING_SIDE = 256  # pixels of the longer side for GrabCut: a second, and edges are soft anyway
ROUNDS = 4  # of GrabCut
LEAST, MOST = 0.005, 0.995  # shares of a picture that a mask of its subject may take
PART = 0.1  # of the largest part's area: smaller parts that GrabCut leaves are dirt


def make_mask(path: str, target: str, by: str, box: Sequence[float] | None = None, model: str = "") -> dict[str, Any]:
    """Write the mask of the picture at `path` as PNG. Task of the picture worker.

    by: a kind of `core/pictures/mask_kinds.py`; model: the file of "model". Returns {"share": how much of the picture
    is white}. Raises UserError naming the picture if it shows no face or no subject, or what is missing here.
    """
    image = to_srgb(open_picture(Path(path)))
    name = Path(path).name
    given = _within(box, image.size) if box else None
    if by == FACE:
        mask = face_mask(image, name)
    elif by == ELLIPSE:
        mask = soft(ellipse_mask(image.size, given or _inset(image.size)))
    elif by == SUBJECT:
        mask = subject_mask(image, name, given)
    else:
        mask = matting.matte(image, name, matting.of_rembg() if by == REMBG else Path(model))
    mask.save(target, "PNG")
    return {"share": round(share(mask), 4)}


def share(mask: Image.Image) -> float:
    """How much of the picture a mask leaves, from 0 to 1."""
    return float(np.asarray(mask).mean()) / 255


def ellipse_mask(size: tuple[int, int], box: Box) -> Image.Image:
    """The ellipse in a box, with hard edges."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask


def soft(mask: Image.Image) -> Image.Image:
    return mask.filter(ImageFilter.GaussianBlur(SOFT * max(mask.size)))


def face_mask(image: Image.Image, name: str) -> Image.Image:
    """Head and shoulders of the largest face. Raises UserError if there is none."""
    if why := faces.why_not():
        raise UserError("masks.impossible", "by", reason=why)
    found = faces.find_faces(image)
    if not found:
        raise UserError("masks.no_face", "picture", file=name)
    return soft(ImageChops.lighter(*(ellipse_mask(image.size, box) for box in head_and_shoulders(found[0]))))


def head_and_shoulders(face: Face) -> tuple[Box, Box]:
    """Two ellipses: the head with hair and neck, and the shoulders. YuNet's box reaches from the forehead to the
    chin."""
    left, top, width, height = face.box
    middle = left + width / 2
    head = (middle - 0.95 * width, top - 0.55 * height, middle + 0.95 * width, top + 1.45 * height)
    shoulders = (middle - 2.0 * width, top + 1.05 * height, middle + 2.0 * width, top + 4.0 * height)
    return head, shoulders


def subject_mask(image: Image.Image, name: str, box: Box | None = None) -> Image.Image:
    """What differs from the ground around a box, by GrabCut (Rother et al. 2004), from OpenCV.

    Without a box, the whole picture but its edges, of a portrait with the lower one. Raises UserError if nothing or
    everything is left.
    """
    try:
        import cv2
    except ImportError as error:
        raise UserError("masks.needs_opencv", "by") from error
    scale = min(1.0, CUTTING_SIDE / max(image.size))
    size = max(2, round(image.width * scale)), max(2, round(image.height * scale))
    small = np.ascontiguousarray(np.asarray(image.resize(size, Image.Resampling.BILINEAR, reducing_gap=2))[:, :, ::-1])
    labels_hw = _labels(image, box, size)
    if len(np.unique(labels_hw == cv2.GC_BGD)) < 2:  # of a picture of a few pixels
        raise UserError("masks.no_subject", "picture", file=name)
    cv2.setRNGSeed(0)
    background, foreground = np.zeros((1, 65)), np.zeros((1, 65))
    cv2.grabCut(small, labels_hw, None, background, foreground, ROUNDS, cv2.GC_INIT_WITH_MASK)
    found = _large_parts(np.isin(labels_hw, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8))
    if not LEAST < found.mean() < MOST:
        raise UserError("masks.no_subject", "picture", file=name)
    return soft(Image.fromarray(found * 255).resize(image.size, Image.Resampling.BICUBIC))


def _labels(image: Image.Image, box: Box | None, size: tuple[int, int]) -> np.ndarray:
    """GrabCut's labels to begin with, (h, w), for the picture at `size`: in the box may be the subject."""
    import cv2

    scale = size[0] / image.width, size[1] / image.height
    found = faces.find_faces(image)[:1]
    if box is None:
        box = _inset(image.size)
        if found:  # of a portrait, hair may touch the upper edge, and the body does the lower one
            over = max(0.0, found[0].box[1] - found[0].box[3])
            box = (box[0], min(box[1], over), box[2], image.height)
    left, top, right, bottom = (round(edge * scale[index % 2]) for index, edge in enumerate(box))
    labels_hw = np.full((size[1], size[0]), cv2.GC_BGD, np.uint8)
    labels_hw[top : max(bottom, top + 1), left : max(right, left + 1)] = cv2.GC_PR_FGD
    if not (labels_hw == cv2.GC_BGD).any():  # the box is all of the picture: its edge is the ground
        labels_hw[0] = labels_hw[:, 0] = labels_hw[:, -1] = cv2.GC_BGD
    for face in found:
        x, y = (value * scale[index] for index, value in enumerate(face.centre))
        axes = face.box[2] * scale[0] * 0.35, face.box[3] * scale[1] * 0.35
        if left <= x < right and top <= y < bottom:
            cv2.ellipse(labels_hw, (round(x), round(y)), (round(axes[0]), round(axes[1])), 0, 0, 360, cv2.GC_FGD, -1)
    return labels_hw


def _large_parts(found_hw: np.ndarray) -> np.ndarray:
    """The largest connected part, and others that are not much smaller; (h, w) of 0 and 1."""
    import cv2

    _, parts_hw, about, _ = cv2.connectedComponentsWithStats(found_hw, connectivity=8)
    areas = about[1:, cv2.CC_STAT_AREA]
    if not len(areas):
        return found_hw
    kept = [number for number, area in enumerate(areas, 1) if area >= PART * areas.max()]
    return np.isin(parts_hw, kept).astype(np.uint8)


def _inset(size: tuple[int, int]) -> Box:
    width, height = size
    return INSET * width, INSET * height, (1 - INSET) * width, (1 - INSET) * height


def _within(box: Sequence[float], size: tuple[int, int]) -> Box:
    """The part of a box that lies in the picture. Raises UserError if nothing of it does."""
    left, top, right, bottom = (min(max(0.0, float(edge)), float(size[index % 2])) for index, edge in enumerate(box))
    if right - left < 1 or bottom - top < 1:
        raise UserError("masks.bad_box", "box", width=size[0], height=size[1])
    return left, top, right, bottom
