"""Real photographs that come inside Python packages, and faults of known strength made from them.

`pip install --target DIR --no-deps --only-binary :all: --python-version 3.11 scikit-image==0.26.0 scikit-learn==1.9.1
scipy==1.11.4 matplotlib==3.11.2` brings them into DIR; none of them is in this repository. scipy 1.12 and newer have no
pictures any more.
"""

from __future__ import annotations

import bz2
import io
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

SKIMAGE, SKLEARN = "skimage/data", "sklearn/datasets/images"
# What people take with a camera. Microscopes, telescopes, scans, drawings and pages are left out.
FILES = {
    "astronaut": f"{SKIMAGE}/astronaut.png",
    "brick": f"{SKIMAGE}/brick.png",
    "camera": f"{SKIMAGE}/camera.png",
    "chelsea": f"{SKIMAGE}/chelsea.png",
    "china": f"{SKLEARN}/china.jpg",
    "coffee": f"{SKIMAGE}/coffee.png",
    "coins": f"{SKIMAGE}/coins.png",
    "flower": f"{SKLEARN}/flower.jpg",
    "grace_hopper": "matplotlib/mpl-data/sample_data/grace_hopper.jpg",
    "grass": f"{SKIMAGE}/grass.png",
    "gravel": f"{SKIMAGE}/gravel.png",
    "motorcycle": f"{SKIMAGE}/motorcycle_left.png",
    "raccoon": "scipy/misc/face.dat",
    "rocket": f"{SKIMAGE}/rocket.jpg",
    "stairs": "scipy/misc/ascent.dat",
}
PORTRAITS = ("astronaut", "camera", "grace_hopper")
SECOND_EYE = f"{SKIMAGE}/motorcycle_right.png"  # the motorcycle, seen a hand's breadth from the right
PARTS = 3  # cut out of each photograph, as further ones


def photograph(folder: Path, name: str) -> Image.Image:
    """One photograph, of FILES or by its path in the folder, its shorter side at most 512 pixels: faults are told in
    pixels of that."""
    picture = _opened(folder, name)
    return picture if min(picture.size) <= 512 else shrunk(picture, 1, random.Random())


def _opened(folder: Path, name: str) -> Image.Image:
    content = (folder / FILES.get(name, name)).read_bytes()
    if name == "raccoon":
        return Image.fromarray(np.frombuffer(bz2.decompress(content), np.uint8).reshape(768, 1024, 3))
    if name == "stairs":  # a pickled list of rows, of which only the numbers are read
        return Image.fromarray(_rows_of(content)).convert("RGB")
    return Image.open(io.BytesIO(content)).convert("RGB")


def _rows_of(content: bytes) -> np.ndarray:
    """The 512 x 512 bytes in a pickle of protocol 2 with lists of small numbers (K, then the number)."""
    found = [content[at + 1] for at in _numbers(content)]
    return np.array(found[-512 * 512 :], np.uint8).reshape(512, 512)


def _numbers(content: bytes) -> Iterator[int]:
    import pickletools

    for code, value, at in pickletools.genops(content):
        if code.name == "BININT1" and value is not None and at is not None:
            yield at


def parts(picture: Image.Image, name: str) -> Iterator[Image.Image]:
    """The photograph, and parts of it of 70 to 95 % of its sides."""
    yield picture
    chance = random.Random(name)
    for _ in range(PARTS):
        share = chance.uniform(0.7, 0.95)
        width, height = round(picture.width * share), round(picture.height * share)
        left, top = chance.randint(0, picture.width - width), chance.randint(0, picture.height - height)
        yield picture.crop((left, top, left + width, top + height))


# --- faults


def as_numbers(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture, np.float32)


def as_picture(numbers: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(np.clip(numbers, 0, 255)).astype(np.uint8))


def linear(numbers: np.ndarray) -> np.ndarray:
    """sRGB of 0 to 255 as amounts of light of 0 to 1."""
    share = numbers / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def exposed(picture: Image.Image, gain: float) -> Image.Image:
    light = np.clip(linear(as_numbers(picture)) * gain, 0, 1)
    return as_picture(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055))


def darkened(picture: Image.Image, stops: float, chance: random.Random) -> Image.Image:
    return exposed(picture, 2.0**-stops)


def blown(picture: Image.Image, share: float, chance: random.Random) -> Image.Image:
    """Exposed so that this share of the pixels has a colour at its brightest."""
    brightest = np.quantile(linear(as_numbers(picture).max(2)), 1 - share)
    return exposed(picture, 1.02 / max(float(brightest), 1e-4))


def blurred(picture: Image.Image, sigma: float, chance: random.Random) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(sigma * unit(picture)))


def ellipse(size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """A mask with a soft edge: white in the ellipse that fills the box (left, top, right, bottom)."""
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse(box, fill=255)
    return mask.filter(ImageFilter.GaussianBlur(12))


def moved(picture: Image.Image, length: float, chance: random.Random) -> Image.Image:
    """Moved along a line of this many pixels while it was exposed."""
    angle, steps = chance.uniform(0, np.pi), max(2, round(length))
    total = np.zeros((picture.height, picture.width, 3), np.float32)
    for step in range(steps):
        far = (step / (steps - 1) - 0.5) * length * unit(picture)
        move = (1, 0, far * np.cos(angle), 0, 1, far * np.sin(angle))
        total += as_numbers(picture.transform(picture.size, Image.Transform.AFFINE, move, Image.Resampling.BILINEAR))
    edge = round(length * unit(picture))
    return as_picture(total / steps).crop((edge, edge, picture.width - edge, picture.height - edge))


def faded(picture: Image.Image, contrast: float, chance: random.Random) -> Image.Image:
    numbers = as_numbers(picture)
    return as_picture(numbers.mean() + (numbers - numbers.mean()) * contrast)


def grainy(picture: Image.Image, deviation: float, chance: random.Random) -> Image.Image:
    numbers = as_numbers(picture)
    is_grey = not np.ptp(numbers, axis=2).any()
    shape = numbers.shape[:2] + ((1,) if is_grey else (3,))
    return as_picture(numbers + np.random.default_rng(chance.randrange(2**32)).normal(0, deviation, shape))


def compressed(picture: Image.Image, quality: float, chance: random.Random) -> Image.Image:
    """Compressed as JPEG, and decoded again: only its pixels tell."""
    stream = io.BytesIO()
    picture.save(stream, "JPEG", quality=round(quality))
    return Image.open(stream).convert("RGB")


def framed(picture: Image.Image, share: float, chance: random.Random) -> Image.Image:
    """With bars above and below, beside, or all around, each of this share of the whole."""
    kind, colour = chance.choice(("wide", "tall", "all")), chance.choice(("black", "white", "#808080"))
    across = round(picture.width * share / (1 - 2 * share)) if kind in ("tall", "all") else 0
    down = round(picture.height * share / (1 - 2 * share)) if kind in ("wide", "all") else 0
    sheet = Image.new("RGB", (picture.width + 2 * across, picture.height + 2 * down), colour)
    sheet.paste(picture, (across, down))
    return sheet


SAYINGS = ("www.example.com", "Copyright 2024 Anna", "2019/08/14 17:35", "Summer in the city", "SAMPLE PICTURE 42")


def lettered(picture: Image.Image, height: float, chance: random.Random) -> Image.Image:
    """With a line of text of this height (of its capitals, in pixels at a shorter side of 512), in white, yellow or
    black, whichever is seen best of two drawn by lot."""
    picture, size = picture.copy(), max(5, round(height * unit(picture) / 0.7))
    font, text = ImageFont.load_default(size), chance.choice(SAYINGS)
    wide, high = font.getbbox(text)[2:]
    left = chance.randint(4, max(4, picture.width - int(wide) - 4))
    top = chance.choice((6, picture.height - int(high) - 8))
    under = as_numbers(picture.crop((left, top, left + int(wide), top + int(high)))).mean()
    colour = "black" if under > 150 else chance.choice(("white", "#ffe600"))
    ImageDraw.Draw(picture).text((left, top), text, fill=colour, font=font)
    return picture


FONTS = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSansMono", "DejaVuSans-Oblique", "STIXGeneral")
OTHER_SAYINGS = (*SAYINGS, "Фото Анны, 2024", "Καλοκαίρι στην πόλη", "© studio-nord.de")
STYLES = ("plain", "outlined", "shadow", "coloured")
COLOURS = ("#e02020", "#1040ff", "#20c040", "#ff8000")


def typeset(folder: Path, opacity: float = 1.0) -> Callable[[Image.Image, float, random.Random], Image.Image]:
    """Lettering as `lettered`, but in matplotlib's fonts (in `folder`), other scripts and styles, anywhere, and
    compressed as JPEG since; half transparent ones are plain."""

    def make(picture: Image.Image, height: float, chance: random.Random) -> Image.Image:
        size = max(5, round(height * unit(picture) / 0.72))
        name, text = chance.choice(FONTS), chance.choice(OTHER_SAYINGS)
        font = ImageFont.truetype(folder / "matplotlib/mpl-data/fonts/ttf" / f"{name}.ttf", size)
        wide, high = font.getbbox(text)[2:]
        left = chance.randint(4, max(4, picture.width - int(wide) - 4))
        top = chance.choice((6, picture.height - int(high) - 8, (picture.height - int(high)) // 2))
        under = as_numbers(picture.crop((left, top, left + int(wide), top + int(high)))).mean()
        style = chance.choice(STYLES) if opacity == 1 else "plain"
        ink, thin = "black" if under > 150 else "white", max(1, size // 14)
        sheet = Image.new("RGBA", picture.size)
        draw = ImageDraw.Draw(sheet)
        if style == "shadow":
            other = "white" if ink == "black" else "black"
            draw.text((left + thin, top + thin), text, fill=other, font=font)
        if style == "outlined":
            draw.text((left, top), text, fill="white", font=font, stroke_width=thin, stroke_fill="black")
        else:
            draw.text((left, top), text, fill=chance.choice(COLOURS) if style == "coloured" else ink, font=font)
        sheet.putalpha(sheet.getchannel("A").point(lambda value: round(value * opacity)))
        made = Image.alpha_composite(picture.convert("RGBA"), sheet).convert("RGB")
        return compressed(made, 88, chance)

    return make


def shrunk(picture: Image.Image, side: float, chance: random.Random) -> Image.Image:
    """Its shorter side as a share of the training size."""
    scale = side * 512 / min(picture.size)
    return picture.resize((round(picture.width * scale), round(picture.height * scale)), Image.Resampling.LANCZOS)


def stretched(picture: Image.Image, ratio: float, chance: random.Random) -> Image.Image:
    """Cut to a strip of this proportion."""
    return picture.crop((0, 0, picture.width, max(1, round(picture.width / ratio))))


def unit(picture: Image.Image) -> float:
    """Pixels that are one pixel at a shorter side of 512, where the picture is larger than that."""
    return max(1.0, min(picture.size) / 512)


@dataclass(frozen=True)
class Fault:
    """A kind of finding, made at six strengths; people complain from `strengths[complaint]` on. format: of the file."""

    name: str
    kind: str
    make: Callable[[Image.Image, float, random.Random], Image.Image]
    strengths: tuple[float, float, float, float, float, float]
    complaint: int
    format: str = "PNG"


FAULTS = (
    Fault("out of focus (sigma in pixels)", "blurred", blurred, (0.5, 1, 1.5, 2, 3, 4), 3),
    Fault("moved (pixels)", "blurred", moved, (3, 5, 9, 13, 17, 25), 2),
    Fault("too dark (stops)", "dark", darkened, (0.5, 1, 1.5, 2, 3, 4), 3),
    Fault("too bright (share that is blown)", "bright", blown, (0.05, 0.1, 0.2, 0.3, 0.45, 0.6), 2),
    Fault("flat (contrast that is left)", "flat", faded, (0.8, 0.65, 0.5, 0.4, 0.3, 0.2), 3),
    Fault("noisy (deviation of 255)", "noisy", grainy, (4, 8, 12, 20, 30, 45), 3),
    Fault("compressed (JPEG's quality)", "compressed", lambda picture, _, chance: picture, (85, 60, 40, 25, 12, 6), 3,
          "JPEG"),
    Fault("compressed, saved as PNG since", "compressed", compressed, (85, 60, 40, 25, 12, 6), 4),
    Fault("bars (share of each)", "borders", framed, (0.01, 0.02, 0.04, 0.08, 0.15, 0.25), 2),
    Fault("lettering (pixels of a capital)", "text", lettered, (5, 8, 12, 16, 24, 36), 3),
    Fault("small (of the training size)", "small", shrunk, (0.95, 0.85, 0.75, 0.6, 0.45, 0.3), 1),
    Fault("a strip (sides, x to 1)", "extreme_shape", stretched, (1.5, 2, 2.5, 3.2, 4, 6), 3),
)  # fmt: skip


def typeset_faults(folder: Path) -> tuple[Fault, Fault]:
    """Lettering in fonts that are in `folder`: opaque by its height, half transparent by its opacity."""
    return (
        Fault("lettering in other fonts and styles", "text", typeset(folder), (5, 8, 12, 16, 24, 36), 3),
        Fault(
            "watermark of 24 pixels (opacity)",
            "text",
            lambda picture, opacity, chance: typeset(folder, opacity)(picture, 24, chance),
            (0.15, 0.3, 0.45, 0.6, 0.75, 0.9),
            2,
        ),
    )


def saved(picture: Image.Image, fault: Fault, strength: float, path: Path) -> Path:
    """Save a picture that has the fault; a JPEG is compressed at the strength as its quality."""
    path = path.with_suffix(".jpg" if fault.format == "JPEG" else ".png")
    options = {"quality": round(strength)} if fault.format == "JPEG" else {"compress_level": 1}
    picture.save(path, fault.format, **options)
    return path
