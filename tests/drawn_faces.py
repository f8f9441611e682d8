"""Faces that are drawn here, and that YuNet takes for faces: no photograph of anybody is in the repository."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFilter

Colour = tuple[int, int, int]


def darker(colour: Colour, share: float) -> Colour:
    return (int(colour[0] * share), int(colour[1] * share), int(colour[2] * share))


def portrait(
    size: int = 256,
    turn: float = 0.0,
    skin: Colour = (224, 172, 140),
    hair: Colour = (60, 40, 25),
    background: Colour = (150, 160, 170),
    blur: float = 1.5,
) -> Image.Image:
    """Head and shoulders, size x size; the face is near (70, 52) to (186, 207) of 256. turn: -1 to 1, to the side that
    the face looks to. blur: the radius of a Gauss filter at size 256."""
    image = Image.new("RGB", (size, size), background)
    draw, unit = ImageDraw.Draw(image), size / 256

    def oval(x: float, y: float, wide: float, high: float, colour: Colour) -> None:
        draw.ellipse([(x - wide) * unit, (y - high) * unit, (x + wide) * unit, (y + high) * unit], fill=colour)

    def line(points: list[tuple[float, float]], colour: Colour) -> None:
        draw.line([(x * unit, y * unit) for x, y in points], fill=colour, width=max(1, round(2 * unit)))

    shade, x = darker(skin, 0.75), 128 + 20 * turn
    oval(128, 262, 95, 60, (70, 80, 120))
    oval(128, 105, 72, 88, hair)
    draw.rectangle([104 * unit, 180 * unit, 152 * unit, 230 * unit], fill=shade)
    oval(128, 128, 58, 76, skin)
    oval(128, 60, 56, 26, hair)
    for eye in (x - 24, x + 24):
        oval(eye, 98, 15, 4, hair)
        oval(eye, 116, 12, 7, (245, 240, 235))
        oval(eye, 116, 6, 6, (70, 50, 35))
        oval(eye, 116, 3, 3, (5, 5, 5))
    nose = x + 8 * turn
    draw.polygon(
        [(x * unit, 112 * unit), ((nose - 10) * unit, 148 * unit), ((nose + 10) * unit, 148 * unit)],
        fill=darker(skin, 0.9),
    )
    oval(nose - 6, 148, 4, 3, shade)
    oval(nose + 6, 148, 4, 3, shade)
    oval(x, 172, 22, 7, (170, 80, 80))
    line([(x - 22, 172), (x + 22, 172)], (110, 40, 40))
    return image.filter(ImageFilter.GaussianBlur(blur * unit)) if blur else image
