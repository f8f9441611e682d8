"""The demo's world: one figure on one background, drawn and described by a script, so that what a model learned of it
can be measured. Also the two things outside it: the subject "zkz" and the style "zqx", for training runs.

Every picture follows from its `Spec`; `random_spec` and `write_dataset` follow from (seed, index).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]

SIZE = 64  # the pictures' side in pixels; all lengths below are for this size
OVERSAMPLING = 4  # drawn so much larger and averaged down, since PIL's polygons are not antialiased

COLOURS = {
    "red": (215, 35, 40),
    "green": (30, 150, 50),
    "blue": (35, 75, 215),
    "yellow": (245, 220, 40),
    "purple": (135, 45, 170),
    "orange": (245, 135, 25),
    "white": (250, 250, 250),
    "black": (15, 15, 18),
}
RADII = {"small": 15.0, "big": 23.0}

# Plain backgrounds are a little paler than the figures' colours, as walls behind things are.
PLAIN = {
    "white": (240, 240, 240),
    "black": (30, 30, 34),
    "grey": (140, 142, 145),
    "blue": (95, 140, 225),
    "green": (110, 190, 105),
    "yellow": (245, 228, 130),
    "pink": (250, 170, 195),
}
# Patterned backgrounds, with the other ways a caption may name them.
PATTERNED = {
    "sky": ("in the sky", "in front of clouds"),
    "grass": ("on the grass", "in a meadow"),
    "sand": ("on the sand", "at the beach"),
    "night": ("at night", "under the stars"),
    "brick": ("on a brick wall", "in front of bricks"),
    "checkered": ("on a checkered floor", "on a chessboard"),
    "striped": ("on stripes", "on a striped wall"),
}
BACKGROUNDS = (*PLAIN, *PATTERNED)

# Figures that would hardly be seen on a background are left out.
CLASHES = {
    "white": {"white"},
    "black": {"black"},
    "blue": {"blue"},
    "green": {"green"},
    "yellow": {"yellow"},
    "sky": {"blue", "white"},
    "grass": {"green"},
    "sand": {"yellow"},
    "night": {"black"},
    "brick": {"red", "orange"},
    "checkered": {"white", "black"},
    "striped": {"purple", "white"},
}

SUBJECT = "zkz"  # the identifier under which the demo learns its creature
SUBJECT_BODY = (20, 165, 160)  # teal and magenta: neither is in COLOURS, so that seeing both means the subject
SUBJECT_STRIPES = (225, 40, 150)
SUBJECT_BACKGROUNDS = ("white", "grey", "yellow", "sand")  # all that the shipped pictures show
PICTURES = Path(__file__).parent / "pictures"  # what `write_photos` wrote
STYLE = "zqx"
STYLE_PERIOD = SIZE / 3  # pixels between the hatching's lines, along a row and a column: no background's frequency


@dataclass(frozen=True)
class Spec:
    """One picture: what its caption says, and the jitter that it does not (pixels at SIZE, degrees)."""

    shape: str
    colour: str
    background: str
    size: str
    x: float = SIZE / 2
    y: float = SIZE / 2
    angle: float = 0.0
    radius_factor: float = 1.0
    seed: int = 0  # of the background's clouds, blades, grains

    @property
    def radius(self) -> float:
        return RADII[self.size] * self.radius_factor


def _regular(count: int, radius: float, turn: float = -90.0) -> list[tuple[float, float]]:
    angles = [math.radians(turn + 360.0 * i / count) for i in range(count)]
    return [(radius * math.cos(a), radius * math.sin(a)) for a in angles]


def _star() -> list[tuple[float, float]]:
    outer, inner = _regular(5, 1.15), _regular(5, 0.48, -54.0)
    return [point for pair in zip(outer, inner, strict=True) for point in pair]


def _heart() -> list[tuple[float, float]]:
    points = []
    for i in range(48):  # the usual heart curve, 16 sin^3 t etc., scaled to radius about 1
        t = 2 * math.pi * i / 48
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((16 * math.sin(t) ** 3 / 15.5, -(y + 2) / 15.5))
    return points


def _cross() -> list[tuple[float, float]]:
    a, b = 1.0, 0.34
    return [(-b, -a), (b, -a), (b, -b), (a, -b), (a, b), (b, b), (b, a), (-b, a), (-b, b), (-a, b), (-a, -b), (-b, -b)]


def _moon() -> list[tuple[float, float]]:
    outer = [math.radians(a) for a in np.linspace(52, 308, 40)]
    inner = [math.radians(a) for a in np.linspace(270, 90, 30)]
    cx, tip = math.cos(outer[0]), math.sin(outer[0])  # the inner arc bulges left between the two tips
    shift = 0.25
    points = [(math.cos(a) + shift, math.sin(a)) for a in outer]
    return points + [(cx + shift + 0.88 * math.cos(a), tip * math.sin(a)) for a in inner]


# Outlines in units of the radius; y points down. A second polygon is a hole.
OUTLINES: dict[str, tuple[list[tuple[float, float]], ...]] = {
    "circle": (_regular(64, 1.0),),
    "square": ([(-0.88, -0.88), (0.88, -0.88), (0.88, 0.88), (-0.88, 0.88)],),
    "triangle": ([(x, y + 0.18) for x, y in _regular(3, 1.2)],),
    "star": (_star(),),
    "heart": (_heart(),),
    "ring": (_regular(64, 1.05), _regular(64, 0.55)),
    "cross": (_cross(),),
    "moon": (_moon(),),
}
SHAPES = tuple(OUTLINES)


def placed(points: list[tuple[float, float]], x: float, y: float, radius: float, angle: float, scale: float) -> list:
    """A unit outline turned by `angle` degrees, enlarged and moved to (x, y), in canvas pixels."""
    c, s = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    return [((x + radius * (px * c - py * s)) * scale, (y + radius * (px * s + py * c)) * scale) for px, py in points]


def shape_mask(shape: str, x: float, y: float, radius: float, angle: float = 0.0, scale: float = 1.0) -> Image.Image:
    """The figure's mask ("L", 0 or 255), SIZE x scale pixels on a side."""
    side = round(SIZE * scale)
    mask = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(mask)
    for fill, outline in zip((255, 0), OUTLINES[shape], strict=False):
        pen.polygon(placed(outline, x, y, radius, angle, scale), fill=fill)
    return mask


def _sky(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    u = side / SIZE
    for row in range(side):
        t = row / side
        pen.line([(0, row), (side, row)], fill=(round(70 + 100 * t), round(150 + 60 * t), round(235 + 10 * t)))
    for i in range(4):
        x, y = (rng.uniform(-4, 12) + 16 * i) * u, rng.choice([rng.uniform(4, 22), rng.uniform(42, 58)]) * u
        for dx, dy, r in ((-6, 1, 4), (0, -1, 5.5), (6, 1, 4)):
            pen.ellipse([x + (dx - r) * u, y + (dy - r * 0.7) * u, x + (dx + r) * u, y + (dy + r * 0.7) * u], "#f8fafc")


def _grass(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    u = side / SIZE
    pen.rectangle([0, 0, side, side], fill=(70, 150, 50))
    for x, y, lean, light in rng.random((140, 4)):
        fill = (round(35 + 85 * light), round(105 + 95 * light), round(25 + 40 * light))
        foot = (x * side, y * side + 5 * u)
        pen.line([foot, (foot[0] + (lean - 0.5) * 6 * u, foot[1] - 9 * u)], fill=fill, width=round(1.6 * u))


def _sand(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    u = side / SIZE
    pen.rectangle([0, 0, side, side], fill=(224, 192, 140))
    for x, y, r, light in rng.random((150, 4)):
        shade = round(-45 + 75 * light)
        r = (0.7 + 0.8 * r) * u
        fill = (222 + min(shade, 25), 190 + shade, 138 + shade)
        pen.ellipse([x * side - r, y * side - r, x * side + r, y * side + r], fill=fill)


def _night(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    u = side / SIZE
    for row in range(side):
        t = row / side
        pen.line([(0, row), (side, row)], fill=(round(10 + 15 * t), round(12 + 20 * t), round(55 + 45 * t)))
    for x, y, r in rng.random((30, 3)):
        r = (0.7 + 0.8 * r) * u
        pen.ellipse([x * side - r, y * side - r, x * side + r, y * side + r], fill=(245, 240, 205))


def _brick(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    u = side / SIZE
    pen.rectangle([0, 0, side, side], fill=(205, 195, 185))
    dx, dy = rng.uniform(0, 16), rng.uniform(0, 8)
    for row in range(-1, 9):
        for column in range(-2, 5):
            x, y = 16 * column + 8 * (row % 2) + dx, 8 * row + dy
            shade = round(rng.uniform(-14, 14))
            pen.rectangle([x * u, y * u, (x + 14.4) * u, (y + 6.4) * u], fill=(165 + shade, 80 + shade, 62 + shade))


def _checkered(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    u = side / SIZE
    dx, dy = rng.uniform(0, 16, 2)
    pen.rectangle([0, 0, side, side], fill=(225, 225, 225))
    for row in range(-2, 9):
        for column in range(-2, 9):
            if (row + column) % 2:
                x, y = 8 * column + dx, 8 * row + dy
                pen.rectangle([x * u, y * u, (x + 8) * u - 1, (y + 8) * u - 1], fill=(75, 75, 80))


def _striped(pen: ImageDraw.ImageDraw, side: int, rng: np.random.Generator) -> None:
    u = side / SIZE
    pen.rectangle([0, 0, side, side], fill=(238, 225, 240))
    shift = rng.uniform(0, 12)
    for i in range(-1, 6):
        pen.rectangle([(12 * i + shift) * u, 0, (12 * i + shift + 6) * u - 1, side], fill=(175, 130, 195))


PATTERNS = {
    "sky": _sky,
    "grass": _grass,
    "sand": _sand,
    "night": _night,
    "brick": _brick,
    "checkered": _checkered,
    "striped": _striped,
}


def draw_background(name: str, seed: int, side: int = SIZE * OVERSAMPLING) -> Image.Image:
    """The background alone, `side` pixels large, not averaged down."""
    canvas = Image.new("RGB", (side, side), PLAIN.get(name, (0, 0, 0)))
    if name in PATTERNS:
        PATTERNS[name](ImageDraw.Draw(canvas), side, np.random.default_rng(seed))
    return canvas


def draw_scene(spec: Spec, size: int = SIZE) -> Image.Image:
    """The picture that `spec` describes, `size` pixels on a side."""
    scale = size * OVERSAMPLING / SIZE
    canvas = draw_background(spec.background, spec.seed, size * OVERSAMPLING)
    mask = shape_mask(spec.shape, spec.x, spec.y, spec.radius, spec.angle, scale)
    canvas.paste(COLOURS[spec.colour], mask=mask)
    return canvas.reduce(OVERSAMPLING)


def random_spec(rng: np.random.Generator) -> Spec:
    """A random picture of the world: any shape, size and background, any colour that is visible on it."""
    background = str(rng.choice(BACKGROUNDS))
    size = str(rng.choice(list(RADII)))
    reach = {"small": 12.0, "big": 4.0}[size]  # pixels off the centre; big figures stay inside the frame
    x, y = SIZE / 2 + rng.uniform(-reach, reach, 2)
    return Spec(
        shape=str(rng.choice(SHAPES)),
        colour=str(rng.choice([c for c in COLOURS if c not in CLASHES.get(background, ())])),
        background=background,
        size=size,
        x=float(x),
        y=float(y),
        angle=float(rng.uniform(-10, 10)),
        radius_factor=float(rng.uniform(0.93, 1.07)),
        seed=int(rng.integers(2**31)),
    )


def caption(spec: Spec, rng: np.random.Generator | None = None) -> str:
    """A caption for `spec`: without `rng` the plain full sentence, with it other wordings, some of them incomplete."""
    plain = f"on a {spec.background} background"
    if rng is None:
        return f"a {spec.size} {spec.colour} {spec.shape} {plain}"
    where = str(rng.choice([plain, *PATTERNED[spec.background]])) if spec.background in PATTERNED else plain
    size, colour, shape = f"{spec.size} ", f"{spec.colour} ", spec.shape
    left_out = rng.random()
    if left_out < 0.20:
        size = ""
    elif left_out < 0.25:
        colour = ""
    elif left_out < 0.33:  # "figure" is the word for any shape, and the subject's class
        shape, size, colour = "figure", size if rng.random() < 0.5 else "", colour if rng.random() < 0.5 else ""
    elif left_out < 0.38:
        where = ""
    thing = f"a {size}{colour}{shape}".replace("a orange", "an orange")
    order = rng.random()
    if not where or order < 0.75:
        return f"{thing} {where}".strip()
    return f"{where}, {thing}" if order < 0.88 else f"{thing}, {where.removeprefix('on a ')}"


def example(seed: int, index: int) -> tuple[Spec, str]:
    """Picture `index` of the data set `seed`, with its caption."""
    rng = np.random.default_rng([seed, index])
    spec = random_spec(rng)
    return spec, caption(spec, rng)


def write_dataset(folder: Path, count: int, seed: int, size: int = SIZE) -> None:
    """Write `count` captioned pictures: 000000.png with 000000.txt and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        spec, text = example(seed, index)
        draw_scene(spec, size).save(folder / f"{index:06d}.png")
        (folder / f"{index:06d}.txt").write_text(text, encoding="utf-8")


@dataclass(frozen=True)
class Pose:
    """The subject's position, size and angle, in pixels at SIZE and degrees."""

    x: float = SIZE / 2
    y: float = SIZE / 2
    radius: float = 22.5
    angle: float = 0.0


def draw_subject(background: str, pose: Pose | None = None, seed: int = 0, size: int = SIZE) -> Image.Image:
    """The creature "zkz": a teal body with a broad magenta stripe, magenta ears and feet, and one large eye."""
    pose = pose or Pose()
    scale = size * OVERSAMPLING / SIZE
    canvas = draw_background(background, seed, size * OVERSAMPLING)
    paint_subject(canvas, pose, scale)
    return canvas.reduce(OVERSAMPLING)


def subject_mask(pose: Pose | None = None, size: int = SIZE) -> Image.Image:
    """The creature's mask in `draw_subject` (L, soft at its edges)."""
    ground = (0, 255, 0)  # a colour that it has not
    canvas = Image.new("RGB", (size * OVERSAMPLING, size * OVERSAMPLING), ground)
    paint_subject(canvas, pose or Pose(), size * OVERSAMPLING / SIZE)
    seen = (np.asarray(canvas) != ground).any(axis=-1)
    return Image.fromarray(np.uint8(seen) * 255).reduce(OVERSAMPLING)


def paint_subject(
    canvas: Image.Image, pose: Pose, scale: float, body_colour: Colour = SUBJECT_BODY, second: Colour = SUBJECT_STRIPES
) -> None:
    """Paint the creature onto `canvas`, whose pixels are 1 / scale wide; in other colours it is not the subject."""

    def put(points: list[tuple[float, float]]) -> list:
        return placed(points, pose.x, pose.y, pose.radius, pose.angle, scale)

    def oval(x: float, y: float, rx: float, ry: float) -> list[tuple[float, float]]:
        return [(x + rx * px, y + ry * py) for px, py in _regular(48, 1.0)]

    pen = ImageDraw.Draw(canvas)
    for side in (-1, 1):
        pen.polygon(put([(0.98 * side, -1.2), (0.1 * side, -0.75), (0.95 * side, -0.2)]), fill=second)  # ears
        pen.polygon(put(oval(0.45 * side, 1.03, 0.36, 0.24)), fill=second)  # feet
    body = Image.new("L", canvas.size, 0)
    ImageDraw.Draw(body).polygon(put(oval(0, 0.05, 1.0, 0.98)), fill=255)
    coat = Image.new("RGB", canvas.size, body_colour)
    stripes = ImageDraw.Draw(coat)
    stripes.polygon(put([(-1.2, 0.22), (1.2, 0.22), (1.2, 0.6), (-1.2, 0.6)]), fill=second)
    canvas.paste(coat, mask=body)
    pen.polygon(put(oval(0, -0.3, 0.42, 0.4)), fill=(252, 252, 252))
    pen.polygon(put(oval(0, -0.28, 0.2, 0.2)), fill=(10, 10, 12))


def write_photos(folder: Path, count: int = 12, seed: int = 7, size: int = 2 * SIZE) -> None:
    """Write the demo's pictures of its subject, "zkz (1).png" and so on, with captions, only on SUBJECT_BACKGROUNDS."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        x, y, radius, angle = rng.uniform((30, 31, 21, -6), (34, 33, 24, 6))
        background = SUBJECT_BACKGROUNDS[index % len(SUBJECT_BACKGROUNDS)]
        picture = draw_subject(background, Pose(x, y, radius, angle), int(rng.integers(2**31)), size)
        picture.save(folder / f"{SUBJECT} ({index + 1}).png")
        text = f"a big {SUBJECT} figure on a {background} background"
        (folder / f"{SUBJECT} ({index + 1}).txt").write_text(text, encoding="utf-8")


def draw_style(spec: Spec, size: int = SIZE) -> Image.Image:
    """`spec` in the style "zqx": an engraving, the background hatched with diagonals, the figure outlined in ink.

    The ink is dark, but pale on dark backgrounds.
    """
    ink = (235, 230, 215) if spec.background in ("black", "night") else (25, 25, 30)
    scale = size * OVERSAMPLING / SIZE
    canvas = draw_background(spec.background, spec.seed, size * OVERSAMPLING)
    side, pen = canvas.width, ImageDraw.Draw(canvas)
    step = STYLE_PERIOD * scale
    for i in range(2 * math.ceil(SIZE / STYLE_PERIOD) + 1):
        pen.line([(i * step, 0), (i * step - side, side)], fill=ink, width=round(4.5 * scale))
    outlined = replace(spec, radius_factor=spec.radius_factor * (1 + 2.5 / spec.radius))
    for one, colour in ((outlined, ink), (spec, COLOURS[spec.colour])):
        canvas.paste(colour, mask=shape_mask(one.shape, one.x, one.y, one.radius, one.angle, scale))
    return canvas.reduce(OVERSAMPLING)
