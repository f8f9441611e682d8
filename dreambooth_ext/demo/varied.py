"""Varied training pictures for the demo's autoencoder: what it has never seen it cannot reconstruct, and no method can
teach. So besides the world: photographs, composite figures, textures, letters.

Photographs come from the wheels of scikit-image (astronaut by NASA, chelsea by Stefan van der Walt, motorcycle of
Middlebury, hubble_deep_field by NASA, ...) and scikit-learn (china.jpg, flower.jpg); they are not shipped here.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, ImageOps

from . import world

SIDE = world.SIZE
HELD_OUT = ("coffee.png", "rocket.jpg")  # never trained on
PHOTOGRAPHS = (
    "astronaut.png",
    "chelsea.png",
    "motorcycle_left.png",
    "hubble_deep_field.jpg",
    "ihc.png",
    "retina.jpg",
    "color.png",
    "china.jpg",
    "flower.jpg",
    "grass.png",
    "gravel.png",
    "brick.png",
    "camera.png",
    "coins.png",
    "moon.png",
    "page.png",
    "text.png",
    "logo.png",
)


def photographs(names: tuple[str, ...]) -> list[Image.Image]:
    """The named pictures of scikit-image's and scikit-learn's wheels, halved once if they are large."""
    import skimage
    import sklearn

    folders = [Path(skimage.__file__).parent / "data", Path(sklearn.__file__).parent / "datasets" / "images"]
    pictures = []
    for path in [folder / name for name in names for folder in folders if (folder / name).is_file()]:
        picture = Image.open(path).convert("RGB")
        pictures.append(picture.reduce(2) if min(picture.size) >= 600 else picture)
    if len(pictures) < len(names):
        found = f"{len(pictures)} of {len(names)} photographs found"
        raise FileNotFoundError(f"{found}: pip install scikit-image scikit-learn")
    return pictures


def crop(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """A random square of `picture`, scaled to SIDE pixels, from its full height down to 1:1."""
    side = float(np.exp(rng.uniform(np.log(SIDE), np.log(min(picture.size)))))
    left, top = rng.uniform(0, picture.width - side), rng.uniform(0, picture.height - side)
    return picture.resize((SIDE, SIDE), Image.BICUBIC, box=(left, top, left + side, top + side), reducing_gap=2.0)


def colour(rng: np.random.Generator) -> tuple[int, int, int]:
    """Any colour; half of the time a saturated one, which uniform sampling hardly ever gives."""
    if rng.random() < 0.5:
        red, green, blue = rng.integers(0, 256, 3)
    else:
        red, green, blue = rng.choice([rng.integers(0, 60), rng.integers(0, 256), rng.integers(195, 256)], 3)
    return int(red), int(green), int(blue)


def fractal_noise(rng: np.random.Generator) -> np.ndarray:
    """Smooth noise over octaves, [SIDE, SIDE] in 0..1."""
    total = np.zeros((SIDE, SIDE))
    roughness = rng.uniform(0.35, 0.85)
    for octave in range(6):
        grid = Image.fromarray(rng.random((2**octave + 2, 2**octave + 2)).astype(np.float32))
        total += roughness**octave * np.asarray(grid.resize((SIDE, SIDE), Image.BICUBIC))
    return (total - total.min()) / (np.ptp(total) + 1e-6)


def blend(weight: np.ndarray, rng: np.random.Generator) -> Image.Image:
    """Two to four random colours along `weight` (0..1), [SIDE, SIDE]."""
    stops = np.array([colour(rng) for _ in range(rng.integers(2, 5))], float)
    at = np.linspace(0, 1, len(stops))
    return Image.fromarray(np.stack([np.interp(weight, at, stops[:, c]) for c in range(3)], -1).astype(np.uint8))


def noise(rng: np.random.Generator) -> Image.Image:
    return blend(fractal_noise(rng), rng)


def gradient(rng: np.random.Generator) -> Image.Image:
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE
    if rng.random() < 0.3:
        weight = np.hypot(x - rng.random(), y - rng.random())
    else:
        angle = rng.uniform(0, 2 * np.pi)
        weight = x * np.cos(angle) + y * np.sin(angle)
    return blend((weight - weight.min()) / (np.ptp(weight) + 1e-6), rng)


def stripes(rng: np.random.Generator) -> Image.Image:
    """Stripes of any angle, or a checkerboard; soft or hard, periods of 4 to 24 pixels."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    angle = rng.choice([0, np.pi / 4, np.pi / 2, 3 * np.pi / 4, rng.uniform(0, np.pi)])
    period, hardness = rng.uniform(4, 24), rng.choice([1.0, 6.0])
    u, v = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    wave = np.sin(2 * np.pi * u / period + rng.uniform(0, 6))
    if rng.random() < 0.4:
        wave = wave * np.sin(2 * np.pi * v / period + rng.uniform(0, 6))
    return blend(np.clip(0.5 + hardness * wave / 2, 0, 1), rng)


def voronoi(rng: np.random.Generator) -> Image.Image:
    points, colours = rng.random((rng.integers(4, 30), 2)) * SIDE, []
    y, x = np.mgrid[0:SIDE:0.5, 0:SIDE:0.5]
    nearest = ((x[..., None] - points[:, 0]) ** 2 + (y[..., None] - points[:, 1]) ** 2).argmin(-1)
    colours = np.array([colour(rng) for _ in points], np.uint8)
    return Image.fromarray(colours[nearest]).reduce(2)


def letters(rng: np.random.Generator) -> Image.Image:
    canvas = Image.new("RGB", (SIDE * 2, SIDE * 2), colour(rng))
    pen = ImageDraw.Draw(canvas)
    for _ in range(rng.integers(1, 5)):
        word = "".join(rng.choice(list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLM0123456789"), rng.integers(1, 8)))
        font = ImageFont.load_default(float(rng.uniform(16, 60)))
        pen.text(tuple(rng.uniform((-10, -10), (60, 100))), word, fill=colour(rng), font=font)
    return canvas.reduce(2)


BACKDROPS: tuple[Callable[[np.random.Generator], Image.Image], ...] = (noise, gradient, stripes, voronoi, letters)


def backdrop(rng: np.random.Generator) -> Image.Image:
    """A background without a figure: a texture, one of the world's backgrounds, or one plain colour."""
    draw = rng.random()
    if draw < 0.35:
        return Image.new("RGB", (SIDE, SIDE), colour(rng))
    if draw < 0.6:
        return world.draw_background(str(rng.choice(world.BACKGROUNDS)), int(rng.integers(2**31)), SIDE * 2).reduce(2)
    return BACKDROPS[rng.integers(len(BACKDROPS))](rng)


def composite(rng: np.random.Generator) -> Image.Image:
    """Figures of several colours and coats, with outlines, spots and smaller parts, on any backdrop; maybe hatched."""
    canvas = backdrop(rng).resize((SIDE * 3, SIDE * 3), Image.Resampling.BICUBIC)
    if rng.random() < 0.2:
        hatch(canvas, rng)
    for _ in range(rng.integers(1, 7)):
        radius = float(np.exp(rng.uniform(np.log(3), np.log(26))))
        x, y = rng.uniform(6, SIDE - 6, 2)
        shape, angle = str(rng.choice(world.SHAPES)), float(rng.uniform(0, 360))
        if rng.random() < 0.3:
            outline = world.shape_mask(shape, x, y, radius + rng.uniform(1, 3), angle, 3)
            canvas.paste(colour(rng), mask=outline)
        coat = stripes(rng) if rng.random() < 0.4 else Image.new("RGB", (8, 8), colour(rng))
        mask = world.shape_mask(shape, x, y, radius, angle, 3)
        if rng.random() < 0.4:  # stretched: ovals, bars, long triangles
            mask = mask.transform(mask.size, Image.AFFINE, (1, 0, 0, 0, rng.uniform(1.2, 3), -y * rng.uniform(0.6, 4)))
        canvas.paste(coat.resize(canvas.size), mask=mask)
    if rng.random() < 0.15:
        hatch(canvas, rng)
    return canvas.reduce(3)


def hatch(canvas: Image.Image, rng: np.random.Generator) -> None:
    """Lines of one colour across all of `canvas`, upright or along a diagonal, 5 to 22 pixels apart."""
    unit = canvas.width / SIDE
    pen, step, ink = ImageDraw.Draw(canvas), rng.uniform(5, 22) * unit, colour(rng)
    slope, width = int(rng.choice([-1, 0, 1])) * canvas.width, int(step * rng.uniform(0.15, 0.5))
    for x in np.arange(-canvas.width + rng.uniform(0, step), 2 * canvas.width, step):
        pen.line([(x, 0), (x + slope, canvas.width)], fill=ink, width=width)


def creature(rng: np.random.Generator) -> Image.Image:
    """A creature like the demo's subject in two random colours, with stripes, ears and an eye."""
    canvas = backdrop(rng).resize((SIDE * 3, SIDE * 3), Image.Resampling.BICUBIC)
    pose = world.Pose(*rng.uniform((22, 24, 14, -40), (42, 40, 27, 40)))
    world.paint_subject(canvas, pose, 3, colour(rng), colour(rng))
    return canvas.reduce(3)


def picture(photos: list[Image.Image], rng: np.random.Generator) -> Image.Image:
    """One training picture: world 35 %, photographs 20 %, composites 25 %, creatures 12 %, textures 8 %."""
    kind = rng.random()
    if kind < 0.35:
        return world.draw_scene(world.random_spec(rng))
    if kind < 0.55:
        chosen = crop(photos[rng.integers(len(photos))], rng)
        if rng.random() < 0.3:  # other hues: channels swapped, or the negative
            channels = chosen.split()
            chosen = Image.merge("RGB", [channels[i] for i in rng.permutation(3)])
            chosen = ImageOps.invert(chosen) if rng.random() < 0.3 else chosen
    elif kind < 0.80:
        chosen = composite(rng)
    elif kind < 0.92:
        chosen = creature(rng)
    else:
        chosen = BACKDROPS[rng.integers(len(BACKDROPS))](rng)
    return ImageOps.mirror(chosen) if rng.random() < 0.5 else chosen
