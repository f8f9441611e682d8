"""Lettering that was put over a picture: captions, dates, names of sites. Text in the motif (a sign, a shirt) is none.

No reader of text: it looks for rows of small marks of one colour, one height and thin strokes, in black or white or
another pure colour, as programs write them. Letters that are half transparent, very large or not in a row it misses.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .view import View

STROKES = (5, 11)  # pixels: the thickest stroke of small letters, and of large ones
HEIGHTS = (6, 60)  # pixels of a letter
CONTRAST = 45  # grey levels between a letter and what is around it
PURE = (190, 70)  # luminance: white or yellow from here on, black up to here; thin strokes are paler than their colour
EVEN = 45.0  # grey levels: the most that letters of a row differ
FEWEST = 7  # letters in a row
WORD = 0.75  # of a letter's height: the widest gap between letters and words
MOST = 350  # marks: more are leaves, or gravel


def has_lettering(view: View) -> bool | None:
    """Return whether there is such lettering; None without OpenCV."""
    try:
        import cv2
    except ImportError:
        return None
    grey = np.asarray(view.image.convert("L"))
    for picture in (grey, 255 - grey):  # bright strokes, dark strokes
        for stroke in STROKES:
            kernel = cv2.getStructuringElement(cv2.MORPH_RECT, (stroke, stroke))
            strokes = cv2.morphologyEx(picture, cv2.MORPH_TOPHAT, kernel) >= CONTRAST
            least = PURE[0] if picture is grey else 255 - PURE[1]
            if _has_row(_marks(cv2, strokes, picture, least)):
                return True
    return False


def _marks(cv2: Any, strokes: np.ndarray, picture: np.ndarray, least: int) -> np.ndarray:
    """Return left, top, width, height and highest level of each mark that may be a letter, from left to right."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(strokes.astype(np.uint8), connectivity=8)
    inside = labels[strokes]
    order = np.argsort(inside, kind="stable")
    starts = np.searchsorted(inside[order], np.arange(1, count))
    levels = np.maximum.reduceat(picture[strokes][order], starts) if count > 1 else np.zeros(0)
    left, top, width, height, area = (stats[1:, column].astype(np.float32) for column in range(5))
    filled = area / np.maximum(width * height, 1)
    fits = (height >= HEIGHTS[0]) & (height <= HEIGHTS[1]) & (width <= 1.8 * height) & (width >= 0.1 * height)
    fits &= (filled > 0.15) & (filled < 0.95) & (area >= 8) & (levels >= least)
    marks = np.stack([left, top, width, height, levels.astype(np.float32)], 1)[fits]
    return marks[np.argsort(marks[:, 0])] if len(marks) <= MOST else marks[:0]


def _has_row(marks: np.ndarray) -> bool:
    """Whether FEWEST of the marks stand in a row."""
    if len(marks) < FEWEST:
        return False
    starts = marks[:, 0]
    for at in range(len(marks)):
        row = [marks[at]]
        end = int(np.searchsorted(starts, marks[at, 0] + 60 * marks[at, 3]))
        for mark in marks[at + 1 : end]:
            last = row[-1]
            gap = mark[0] - (last[0] + last[2])
            if gap > WORD * max(mark[3], last[3]):
                if mark[0] - (last[0] + last[2]) > 3 * WORD * HEIGHTS[1]:
                    break
                continue
            if gap > -0.15 * last[3] and _stand(row, mark):
                row.append(mark)
        if len(row) >= FEWEST and _reads(np.stack(row)):
            return True
    return False


def _stand(row: list[np.ndarray], mark: np.ndarray) -> bool:
    """Whether a mark stands on the row's line, and is as high and of the same colour as its letters."""
    tall = max(one[3] for one in row)
    foot = float(np.median([one[1] + one[3] for one in row]))
    gap = abs(mark[1] + mark[3] - foot)
    stands = gap <= 0.12 * max(tall, mark[3]) + 1 or (mark[1] + mark[3] > foot and gap <= 0.4 * tall)
    return bool(stands and 0.45 <= mark[3] / tall <= 2.2 and abs(mark[4] - row[0][4]) <= EVEN)


def _reads(row: np.ndarray) -> bool:
    """Whether a row of marks is as even as letters are, and as uneven: fences and bricks repeat."""
    feet, widths, heights = row[:, 1] + row[:, 3], row[:, 2], row[:, 3]
    tall = float(heights.max())
    on_line = np.abs(feet - np.median(feet)) <= 0.06 * tall + 0.75
    span = row[-1, 0] + row[-1, 2] - row[0, 0]
    is_dense = widths.sum() / span > 0.4
    varies = widths.std() / widths.mean() > 0.15
    return bool(on_line.mean() >= 0.7 and is_dense and varies and 2.2 * np.median(heights) >= tall)
