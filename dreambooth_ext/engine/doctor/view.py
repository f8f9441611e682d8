"""A picture as the doctor looks at it: at about the size that it will be trained at, where faults show or do not."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from ..pictures.faces import Face, find_faces
from ..pictures.other_formats import readable_formats
from ..pictures.picture_file import open_picture, opened, orientation_of, to_srgb

SIDES = (512, 768)  # pixels of a view's shorter side: the training size, within these
SAMPLE = 512  # pixels of the sides of the piece that is kept at the file's own scale
LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)  # of sRGB, as in JPEG and video (ITU-R BT.601)
ANIMATIONS = ("GIF", "WEBP", "PNG", "AVIF", "HEIF")  # MPO has several pictures, too, but one to show

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels


@dataclass(frozen=True)
class View:
    """What is measured on.

    size: (width, height) of the upright original; image: the picture scaled down, shorter side at most SIDES[1];
    sample: a piece from its middle in the file's own pixels, None where it was not decoded in full; content: the same
    for pictures of one size whose pixels are equal in this view, whatever the file; has_pages: of a TIFF with several;
    tables: a JPEG's quantisation of luminance (64 numbers).
    """

    size: tuple[int, int]
    image: Image.Image
    sample: Image.Image | None
    content: str
    format: str
    is_animated: bool
    has_pages: bool
    tables: tuple[int, ...]

    @property
    def scale(self) -> float:
        """Pixels of the original for one of the view, 1 or more."""
        return max(1.0, self.size[0] / self.image.width)

    @cached_property
    def rgb(self) -> np.ndarray:
        """float32 (height, width, 3), 0 to 255, in sRGB."""
        return np.asarray(self.image, np.float32)

    @cached_property
    def grey(self) -> np.ndarray:
        """Luminance, float32 (height, width), 0 to 255."""
        return self.rgb @ LUMINANCE

    @cached_property
    def brightest(self) -> np.ndarray:
        """The brightest of each pixel's three colours, uint8 (height, width)."""
        red, green, blue = (np.asarray(channel) for channel in self.image.split())
        return np.maximum(np.maximum(red, green), blue)

    @cached_property
    def darkest(self) -> np.ndarray:
        """The darkest of each pixel's three colours, uint8 (height, width)."""
        red, green, blue = (np.asarray(channel) for channel in self.image.split())
        return np.minimum(np.minimum(red, green), blue)

    @cached_property
    def gradient(self) -> np.ndarray:
        """Magnitude of the luminance's gradient, float32 (height, width), in grey levels a pixel."""
        across, down = np.zeros_like(self.grey), np.zeros_like(self.grey)
        across[:, 1:-1] = (self.grey[:, 2:] - self.grey[:, :-2]) / 2
        down[1:-1] = (self.grey[2:] - self.grey[:-2]) / 2
        return np.hypot(across, down)

    @cached_property
    def faces(self) -> list[Face]:
        """Faces in pixels of the view, the largest first."""
        return find_faces(self.image)


def open_view(path: Path, resolution: int) -> View:
    """Open a picture for a training at `resolution` pixels. Raises UserError naming the file if it cannot be read."""
    formats = readable_formats()
    side = min(max(resolution, SIDES[0]), SIDES[1])
    with opened(path, formats) as header:
        size = header.size[::-1] if orientation_of(header) >= 5 else header.size
        format = header.format or ""
        has_more = bool(getattr(header, "is_animated", False))  # looks at no more than the second one
        tables = tuple(getattr(header, "quantization", {}).get(0, ()))
    image = open_picture(path, formats=formats, at_least=side)
    small = _scaled(image, side)
    content = hashlib.sha256(repr(size).encode() + small.tobytes()).hexdigest()[:32]
    return View(
        size=size,
        image=to_srgb(small),
        sample=_middle(image) if image.size == size else None,
        content=content,
        format=format,
        is_animated=has_more and format in ANIMATIONS,
        has_pages=has_more and format == "TIFF",
        tables=tables,
    )


def _scaled(image: Image.Image, side: int) -> Image.Image:
    """Scale down so that the shorter side has `side` pixels; never up, and never narrower than a pixel."""
    scale = side / min(image.size)
    if scale >= 1:
        return image
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    whole = image.reduce(int(1 / scale)) if scale <= 0.5 else image  # its mean, which is several times quicker
    return whole.resize(size, Image.Resampling.LANCZOS)


def _middle(image: Image.Image) -> Image.Image:
    left, top = max(0, image.width - SAMPLE) // 2, max(0, image.height - SAMPLE) // 2
    return image.crop((left, top, min(image.width, left + SAMPLE), min(image.height, top + SAMPLE)))
