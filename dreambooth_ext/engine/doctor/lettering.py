"""Lettering that was put over a picture: captions, dates, names of sites. Text in the motif (a sign, a shirt) is none.

No reader of text: it looks for level rows of small marks of one colour, with even strokes and two heights (capitals,
and letters like x), as programs write them, and of many shapes: roof tiles, windows and fences repeat one. Marks are
what a top-hat leaves, thin structures brighter or darker than what is around them, as in stroke width transforms
(Epshtein, Ofek and Wexler, "Detecting text in natural scenes with stroke width transform", 2010). Connected scripts,
slanting lines, fewer than FEWEST letters and faint ones it misses.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from .view import View

STROKE = 9  # pixels: strokes are thinner than that
SCALES = (1, 2)  # small letters are found in the view, large ones in one of half its size
# (level, contrast) of a stroke's pixels, brightest and steepest 255: bright ink on a bright ground touches the ground
# below its level, faint ink has no level
INKS = ((0, 20), (195, 25), (235, 20))
HEIGHTS = (7, 40)  # pixels of a letter
LEAST_AREA = 10  # pixels of a letter
MOST = 600  # marks: more are leaves, or gravel
FEWEST = 7  # letters in a row
GREY = 8  # colours of grey pictures differ less than that
# Of two neighbours in a row
GAP = 1.3  # of the higher one's height: the widest gap between words
OVERLAP = 0.12  # of the same
HIGHER = 0.45  # the lower one's height is at least this share of the higher one's
THICKER = 2.1  # times: strokes that differ more are not of one hand
LEVELS, COLOURS = 35.0, 32.0  # of 255: differences in level, and in chrominance, which JPEG smears
# Of a whole row
SLOPE = 0.05
EVEN = 8.0  # deviation of the levels
STEADY = 0.23  # deviation of the strokes' width, over its mean
SAME_INK = 2.0  # the same: programs write in one colour, and where that is seen, the rest need not be as even
ON_LINE = (0.75, 0.65)  # share of the feet that stand on the line, usually and in one ink; others are commas, p, q
TWO_HEIGHTS = (0.8, 0.7)  # share of the letters that have one of two heights
THICKNESS = (0.05, 0.36)  # of a stroke, over the height of capitals
DENSE = 0.42  # share of the row that the marks cover
VARIED = 0.15  # deviation of their widths, or in one ink of their areas, over the mean: fences and bricks repeat
VARIED_MOST = 0.75  # the same of widths: 95 % of the rows that were found in photographs have less
SHAPE = (10, 12)  # pixels that each mark is stretched to, so that bars of any widths are of one shape
ALIKE = 0.5  # of two marks' shapes on average: letters have less in common


def has_lettering(view: View) -> bool | None:
    """Return whether there is such lettering; None without OpenCV."""
    try:
        import cv2
    except ImportError:
        return None
    return any(
        _has_row(cv2, marks)
        for scale in SCALES
        for rgb in [_smaller(cv2, np.asarray(view.image), scale)]
        for plane in _planes(rgb)
        for marks in _all_marks(cv2, plane, cv2.cvtColor(rgb, cv2.COLOR_RGB2YCrCb)[..., 1:])
    )


def _smaller(cv2: Any, rgb: np.ndarray, scale: int) -> np.ndarray:
    if scale == 1 or min(rgb.shape[:2]) < 2 * scale:
        return rgb
    return np.asarray(cv2.resize(rgb, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA))


def _planes(rgb: np.ndarray) -> list[np.ndarray]:
    """Return the picture so that ink of any colour is bright: white ink has a high least colour, black ink a low
    greatest one, and coloured inks a low least one, or on dark grounds a high greatest one."""
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    least = np.minimum(np.minimum(red, green), blue)
    greatest = np.maximum(np.maximum(red, green), blue)
    planes = [least, 255 - greatest]
    return planes if int((greatest - least).max()) < GREY else [*planes, 255 - least, greatest]


class _Marks:
    """Marks that may be letters, from left to right; each attribute but `labels` has a number for each.

    left, top, width, height, area: pixels; stroke: mean width of its strokes; level: of its ink in the plane; colour:
    mean chrominance, (marks, 2); label: its number in `labels`, int32 (height, width) of the picture.
    """

    def __init__(
        self, boxes: np.ndarray, stroke: np.ndarray, level: np.ndarray, colour: np.ndarray, label: np.ndarray,
        labels: np.ndarray,
    ):  # fmt: skip
        order = np.argsort(boxes[:, 0], kind="stable")
        self.left, self.top, self.width, self.height, self.area = boxes[order].T
        self.label, self.labels = label[order], labels
        self.stroke, self.level, self.colour = stroke[order], level[order], colour[order]
        self.right, self.foot = self.left + self.width, self.top + self.height


def _all_marks(cv2: Any, plane: np.ndarray, chrominance: np.ndarray) -> Iterator[_Marks]:
    """Yield the marks of each of INKS."""
    thin = cv2.morphologyEx(plane, cv2.MORPH_TOPHAT, np.ones((STROKE, STROKE), np.uint8))
    for level, contrast in INKS:
        strokes = (thin >= contrast) & (plane >= level) if level else thin >= contrast
        if np.count_nonzero(strokes) < FEWEST * LEAST_AREA:
            continue
        marks = _marks(cv2, strokes.view(np.uint8), plane, chrominance)
        if marks is not None:
            yield marks


def _marks(cv2: Any, strokes: np.ndarray, plane: np.ndarray, chrominance: np.ndarray) -> _Marks | None:
    """Return what may be letters among the connected strokes, uint8 (height, width); None if that is no row."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes, connectivity=8)
    left, top, width, height, area = (stats[:, column].astype(np.float32) for column in range(5))
    fits = (height >= HEIGHTS[0]) & (height <= HEIGHTS[1]) & (width <= 3 * height) & (width >= 2)
    fits &= (area >= 0.12 * width * height) & (area >= LEAST_AREA) & (top > 0) & (top + height < len(strokes))
    fits[0] = False  # the ground
    kept = np.flatnonzero(fits)
    if not FEWEST <= len(kept) <= MOST:
        return None
    numbers = np.zeros(count, np.int32)
    numbers[kept] = np.arange(1, len(kept) + 1)
    at = np.flatnonzero(strokes.view(bool))
    number = numbers[labels.ravel()[at]]
    at, number = at[number > 0], number[number > 0]
    inside = cv2.erode(strokes, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=0).ravel()[at]
    most = len(kept) + 1
    level = plane.ravel()[at].astype(np.float32)
    mean = np.bincount(number, level, most) / np.maximum(np.bincount(number, minlength=most), 1)
    core = level >= mean[number]  # without the pale pixels at the strokes' edges
    rim = np.maximum(np.bincount(number[inside == 0], minlength=most), 1)
    at, number, level = at[core], number[core], level[core]
    pixels = np.maximum(np.bincount(number, minlength=most), 1)
    colours = chrominance.reshape(-1, 2)[at]
    colour = np.stack([np.bincount(number, colours[:, channel], most) / pixels for channel in range(2)], 1)
    boxes = np.stack([left, top, width, height, area], 1)[kept]
    stroke, mean = 2 * area[kept] / rim[1:], (np.bincount(number, level, most) / pixels)[1:]
    return _Marks(boxes, stroke, mean, colour[1:], kept, labels)


def _has_row(cv2: Any, marks: _Marks) -> bool:
    """Whether FEWEST of the marks or more stand in a row: each with the nearest that may follow it."""
    follower = _followers(marks)
    length = np.ones(len(follower), int)
    for one in range(len(follower) - 1, -1, -1):  # a follower lies to the right
        if follower[one] >= 0:
            length[one] = 1 + length[follower[one]]
    used = np.zeros(len(follower), bool)
    for one in np.argsort(-length):
        if length[one] < FEWEST:
            return False
        if used[one]:
            continue
        row = [int(one)]
        while follower[row[-1]] >= 0:
            row.append(int(follower[row[-1]]))
        used[row] = True
        if _reads(marks, row) and _alike(cv2, marks, row) <= ALIKE:
            return True
    return False


def _followers(marks: _Marks) -> np.ndarray:
    """Return for each mark the next letter of its line, -1 where there is none."""
    height = np.maximum(marks.height[:, None], marks.height[None])
    lower = np.minimum(marks.height[:, None], marks.height[None])
    gap = marks.left[None] - marks.right[:, None]
    feet, tops = np.abs(_apart(marks.foot)), np.abs(_apart(marks.top))
    near = 0.1 * height + 1
    fits = (lower >= HIGHER * height) & (gap <= GAP * height) & (gap >= -OVERLAP * height) & (_apart(marks.left) > 0)
    fits &= (feet <= near) | ((feet <= 0.42 * height) & (tops <= near))  # a letter like p hangs below the line
    fits &= np.abs(_apart(marks.level)) <= LEVELS
    fits &= np.abs(_apart(np.log(marks.stroke))) <= np.log(THICKER)
    for channel in marks.colour.T:
        fits &= np.abs(_apart(channel)) <= COLOURS
    far = np.where(fits, np.maximum(gap, 0) + 1.5 * np.minimum(feet, tops) + 0.25 * feet, np.inf)
    nearest = far.argmin(1)
    return np.where(np.isfinite(far[np.arange(len(far)), nearest]), nearest, -1)


def _apart(values: np.ndarray) -> np.ndarray:
    """[first, second]: how much more the second has."""
    return values[None] - values[:, None]


def _reads(marks: _Marks, row: list[int]) -> bool:
    """Whether a row of marks is as even as letters are, and as uneven."""
    left, width, height, foot = (each[row] for each in (marks.left, marks.width, marks.height, marks.foot))
    stroke, tall = marks.stroke[row], float(np.percentile(height, 90))
    slope = float(np.polyfit(left + width / 2, foot, 1)[0])
    feet = foot - slope * (left + width / 2)
    on_line = np.abs(feet - np.median(feet)) <= 0.07 * tall + 0.8
    thickness = float(np.median(stroke)) / tall
    level = float(marks.level[row].std())
    of_one_ink = level <= SAME_INK
    is_varied = _spread(width) > VARIED or (of_one_ink and _spread(marks.area[row]) > VARIED)
    is_varied &= _spread(width) <= VARIED_MOST
    return bool(
        abs(slope) <= SLOPE
        and level <= EVEN
        and _spread(stroke) <= STEADY
        and on_line.mean() >= ON_LINE[of_one_ink]
        and _of_two_heights(height, tall) >= TWO_HEIGHTS[of_one_ink]
        and np.median(height) >= HIGHER * tall
        and THICKNESS[0] <= thickness <= THICKNESS[1]
        and width.sum() > DENSE * (left[-1] + width[-1] - left[0])
        and is_varied
    )


def _alike(cv2: Any, marks: _Marks, row: list[int]) -> float:
    """Return how much two marks of the row have in common on average, 0 to 1: intersection over union of their shapes,
    each stretched to SHAPE."""
    shapes = []
    for one in row:
        left, top = int(marks.left[one]), int(marks.top[one])
        box = marks.labels[top : int(marks.foot[one]), left : int(marks.right[one])]
        own = (box == marks.label[one]).astype(np.float32)
        shapes.append(cv2.resize(own, SHAPE, interpolation=cv2.INTER_AREA).ravel())
    all_shapes = np.stack(shapes)
    first, second = all_shapes[:, None], all_shapes[None]
    common = np.minimum(first, second).sum(2) / np.maximum(first, second).sum(2)
    return float((common.sum() - len(row)) / (len(row) * (len(row) - 1)))


def _spread(values: np.ndarray) -> float:
    return float(values.std() / values.mean())


def _of_two_heights(height: np.ndarray, tall: float) -> float:
    """Return the share of the letters that have one of the two heights that most of them have."""
    same = np.abs(_apart(height)) <= 0.08 * tall + 0.8
    first = same[same.sum(1).argmax()]
    rest = same[~first][:, ~first]
    return float(first.sum() + (rest.sum(1).max() if len(rest) else 0)) / len(height)
