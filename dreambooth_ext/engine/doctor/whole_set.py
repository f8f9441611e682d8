"""Look at a set of pictures as a whole: copies, faces that lack, and what all pictures have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...core.errors import Problem
from ...core.guide.tables import PICTURES, subject
from ...core.messages.message import beside
from . import looking
from .finding import HINT, WARNING, finding
from .likeness import copies
from .score import score

Look = Mapping[str, Any]

FEWEST = 4  # pictures of which something can be said to be common
FEWEST_LIGHTS = 6  # the same of light, which is often alike by chance
SHARE = 0.75  # of the pictures
MANY = 400  # pictures that are compared with each other for what is common: an even selection of more
SAME_GROUND = 14.0  # grey levels
# How far two lights may be apart: of luminance, its deviation, and the logarithms of left over right, above over below,
# red over blue
SAME_LIGHT = (22.0, 16.0, 0.16, 0.2, 0.18)
SAME_ANGLE = 0.2, 0.12  # of `yaw` and `pitch` in fingerprints
SAME_SIZE = 1.25  # times
OTHER_FACE = 0.25  # of the largest face's area: smaller ones are in the background


def judge(looks: Sequence[Look], subject_type: str = "person") -> dict[str, Any]:
    """Return {"pictures", "set", "score", "reasons", "missing"} of a set.

    looks: for each picture, in order, the result of `look` with its "name"; {"name", "findings"} alone for one that
    cannot be read. pictures: findings of each that come from the others and from the type of subject, to be added to
    its own. missing: what was not looked for, and why.
    """
    readable = [index for index, one in enumerate(looks) if "print" in one]
    added: list[list[dict[str, Any]]] = [[] for _ in looks]
    known = [looks[index] for index in readable]
    for worse, (kind, better) in copies(known).items():
        name = known[better]["name"]
        problem = Problem("findings.duplicate", name=name)
        if kind == "near_duplicate":
            problem = Problem("findings.near_duplicate", name=name)
        added[readable[worse]].append(finding(kind, WARNING, problem))
    sees_faces = not looking.missing()
    if subject_type == "person" and sees_faces:
        for index in readable:
            added[index] += _of_faces(looks[index])
    in_common = _of_set(known, len(looks), subject_type, sees_faces)
    points, reasons = score([[*one["findings"], *more] for one, more in zip(looks, added, strict=True)], in_common)
    missing = [beside("text", why) for why in looking.missing()]
    return {"pictures": added, "set": in_common, "score": points, "reasons": reasons, "missing": missing}


def _of_faces(one: Look) -> list[dict[str, Any]]:
    """Findings about a picture of a person."""
    areas = [(right - left) * (bottom - top) for left, top, right, bottom in one["faces"]]
    if not areas:
        return [finding("no_face", HINT, Problem("findings.no_face"))]
    large = sum(area >= OTHER_FACE * areas[0] for area in areas)
    if large > 1:
        return [finding("several_faces", WARNING, Problem("findings.several_faces", count=large))]
    return []


def _of_set(known: Sequence[Look], total: int, subject_type: str, sees_faces: bool) -> list[dict[str, Any]]:
    made = _of_count(total, subject_type)
    some = known[:: -(-len(known) // MANY)] if known else []
    if len(some) < FEWEST:
        return made
    total = len(some)
    if subject_type != "style" and (count := _largest(_grounds(some), SAME_GROUND)) >= SHARE * total:
        problem = Problem("findings.one_background", count=count, total=total)
        made.append(finding("one_background", WARNING, problem))
    if total >= FEWEST_LIGHTS and (count := _largest(_lights(some), 1.0)) >= SHARE * total:
        made.append(finding("one_light", HINT, Problem("findings.one_light", count=count, total=total)))
    if subject_type == "person" and sees_faces:
        made += _of_poses(some)
    return made


def _of_count(total: int, subject_type: str) -> list[dict[str, Any]]:
    least, low, high, most = PICTURES[subject_type]
    values: dict[str, Any] = {"count": total, "subject": subject(subject_type), "low": low, "high": high}
    if total < least:
        return [finding("too_few", WARNING, Problem("findings.too_few", **values))]
    if total > most:
        return [finding("too_many", HINT, Problem("findings.too_many", **values))]
    return []


def _of_poses(some: Sequence[Look]) -> list[dict[str, Any]]:
    """One angle, one size of the face, and pictures with and without one."""
    poses = [one["print"]["poses"][0] for one in some if one["print"]["poses"]]
    made: list[dict[str, Any]] = []
    if len(poses) >= FEWEST:
        angles = np.array([[pose["yaw"] / SAME_ANGLE[0], pose["pitch"] / SAME_ANGLE[1]] for pose in poses])
        if (count := _largest(angles, 1.0)) >= SHARE * len(poses):
            problem = Problem("findings.one_angle", count=count, total=len(poses))
            made.append(finding("one_angle", WARNING, problem))
        sizes = np.log([[max(pose["size"], 1e-3)] for pose in poses])
        if (count := _largest(sizes, float(np.log(SAME_SIZE)))) >= SHARE * len(poses):
            made.append(finding("one_size", HINT, Problem("findings.one_size", count=count, total=len(poses))))
    without = len(some) - len(poses)
    if poses and without >= max(2, 0.2 * len(some)):
        problem = Problem("findings.mixed_subjects", count=without, total=len(some))
        made.append(finding("mixed_subjects", WARNING, problem))
    return made


def _grounds(some: Sequence[Look]) -> np.ndarray:
    return np.array([np.ravel(one["print"]["ground"]) for one in some], np.float32)


def _lights(some: Sequence[Look]) -> np.ndarray:
    values = np.array([one["print"]["light"] for one in some], np.float32)
    values[:, 2:] = np.log(np.maximum(values[:, 2:], 1e-3))
    return values / np.array(SAME_LIGHT, np.float32)


def _largest(rows: np.ndarray, most: float) -> int:
    """Return how many rows are within `most` of one of them, in every column for the strictest of nine tenths of them:
    a ground may be hidden in one place."""
    apart = np.abs(rows[:, None] - rows[None])
    far = np.quantile(apart, 0.9, axis=2) if rows.shape[1] > 6 else apart.max(2)
    return int((far <= most).sum(1).max())
