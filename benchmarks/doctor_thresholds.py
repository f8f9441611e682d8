"""What each threshold of the doctor lies between: `python -m benchmarks.doctor --packages DIR --choose`.

For each measure of `engine/doctor/looking.py`: how far the untouched photographs of the half that is chosen on go
towards the fault, and what the same have with it, at the strength from which people complain (95 % of them beyond).
Between the two, any threshold gives the same hits and false alarms on this half.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from dreambooth_ext.engine.doctor import looking
from dreambooth_ext.engine.doctor.compression import blockiness
from dreambooth_ext.engine.doctor.exposure import exposure
from dreambooth_ext.engine.doctor.noise import noise
from dreambooth_ext.engine.doctor.sharpness import sharpness
from dreambooth_ext.engine.doctor.view import View, open_view

from . import photographs


def _worst(view: View) -> float:
    sharp = sharpness(view.grey)
    return sharp.worst if sharp else 0.0


def _blocks(view: View) -> float:
    assert view.sample is not None
    return blockiness(np.asarray(view.sample.convert("L"), np.float32))


# name, measure, threshold, fault that it finds, whether more of it is worse
MEASURES: tuple[tuple[str, Callable[[View], float], float, str, bool], ...] = (
    ("SOFT: fine structure", _worst, looking.SOFT, "out of focus (sigma in pixels)", False),
    ("MOVED: fine structure", _worst, looking.MOVED[0], "moved (pixels)", False),
    ("DARK_HIGHLIGHTS", lambda v: exposure(v).highlights, looking.DARK_HIGHLIGHTS, "too dark (stops)", False),
    ("DARK_EDGES", lambda v: exposure(v).edges, looking.DARK_EDGES, "too dark (stops)", False),
    ("BLOWN: share", lambda v: exposure(v).blown, looking.BLOWN, "too bright (share that is blown)", True),
    ("FLAT: contrast", lambda v: exposure(v).contrast, looking.FLAT, "flat (contrast that is left)", False),
    ("NOISY: deviation", lambda v: noise(v.grey), looking.NOISY, "noisy (deviation of 255)", True),
    ("BLOCKS: blockiness", _blocks, looking.BLOCKS, "compressed, saved as PNG since", True),
)


def table(packages: Path, names: list[str], place: Path) -> None:
    faults = {fault.name: fault for fault in photographs.FAULTS}
    pictures = [
        (f"{name} {number}", part)
        for name in names
        for number, part in enumerate(photographs.parts(photographs.photograph(packages, name), name))
    ]
    print("| measure | untouched, up to | at the complaint, 95 % from | threshold |\n| --- | --- | --- | --- |")
    for label, measure, threshold, fault_name, more_is_worse in MEASURES:
        fault = faults[fault_name]
        strength = fault.strengths[fault.complaint]
        plain, faulty = [], []
        for name, picture in pictures:
            made = fault.make(picture, strength, random.Random(f"{name} {fault.complaint} {fault.name}"))
            plain.append(measure(_view(picture, place)))
            faulty.append(measure(_view(made, place)))
        edge, beyond = (
            (max(plain), np.percentile(faulty, 5)) if more_is_worse else (min(plain), np.percentile(faulty, 95))
        )
        print(f"| {label} | {edge:.3g} | {beyond:.3g} ({fault.name} {strength:g}) | {threshold:g} |")


def _view(picture: Image.Image, place: Path) -> View:
    picture.save(place / "c.png", compress_level=1)
    return open_view(place / "c.png", looking.RESOLUTION)
