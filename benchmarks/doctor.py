"""Does the picture doctor see? `python -m benchmarks.doctor --packages DIR [--half NAME] [--time]`, in the environment.

Hits and false alarms on real photographs (`photographs.py` says how DIR is filled) and on faults made from them, as the
table of docs/measurements.md, by halves of the photographs.
--time measures how long pictures of 12 megapixels take, and 10 000 small ones.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

from PIL import Image

from dreambooth_ext.engine.doctor import looking, whole_set
from dreambooth_ext.engine.pictures.other_formats import readable_formats

from . import photographs
from .photographs import FAULTS, FILES, PORTRAITS, Fault

RESULTS = Path(__file__).with_name("results") / "doctor.json"
HALVES = {"set": sorted(FILES)[::2], "shown": sorted(FILES)[1::2]}


def kinds(path: Path) -> set[str]:
    return {one["kind"] for one in looking.look(str(path))["findings"]}


def untouched(packages: Path, names: list[str], place: Path) -> dict[str, object]:
    """Return false alarms by kind, and the faces found, over the photographs and their parts. `small` is none: most of
    them are smaller than 512 pixels."""
    alarms: dict[str, int] = {}
    pictures = alarmed = 0
    faces: dict[str, int] = {}
    for name in names:
        for number, part in enumerate(photographs.parts(photographs.photograph(packages, name), name)):
            part.save(place / "a.png", compress_level=1)
            found = looking.look(str(place / "a.png"))
            wrong = {one["kind"] for one in found["findings"]} - {"small"}
            pictures, alarmed = pictures + 1, alarmed + bool(wrong)
            for kind in wrong:
                alarms[kind] = alarms.get(kind, 0) + 1
            if number == 0:
                faces[name] = len(found["faces"])
    portraits = {name: count for name, count in faces.items() if name in PORTRAITS}
    others = {name: count for name, count in faces.items() if name not in PORTRAITS}
    return {"pictures": pictures, "alarmed": alarmed, "kinds": alarms, "portraits": portraits, "others": others}


def hits(packages: Path, names: list[str], fault: Fault, place: Path) -> list[float]:
    """Return the share found at each strength."""
    found, tried = [0] * 6, 0
    for name in names:
        for number, part in enumerate(photographs.parts(photographs.photograph(packages, name), name)):
            tried += 1
            for at, strength in enumerate(fault.strengths):
                made = fault.make(part, strength, random.Random(f"{name} {number} {at} {fault.name}"))
                path = photographs.saved(made, fault, strength, place / "a")
                found[at] += fault.kind in kinds(path)
    return [round(count / tried, 3) for count in found]


def table(half: str, measured: dict) -> None:
    about = measured["untouched"]
    print(f"untouched ({half}): {about['alarmed']} of {about['pictures']} with a false alarm {about['kinds']}")
    print(f"faces in portraits {about['portraits']}, in others {about['others']}\n")
    print("| fault, six strengths | found | from the complaint on |\n| --- | --- | --- |")
    for fault in FAULTS:
        shares = measured["faults"][fault.name]
        cells = ", ".join(f"{strength:g}: {share:.0%}" for strength, share in zip(fault.strengths, shares, strict=True))
        print(f"| {fault.name} | {cells} | {sum(shares[fault.complaint :]) / (6 - fault.complaint):.0%} |")


def timed(packages: Path, place: Path) -> dict[str, object]:
    """Return processor seconds for a picture of 12 megapixels, by format, and for the set of 10 000."""
    large = photographs.photograph(packages, "raccoon").resize((4000, 3000), Image.Resampling.BICUBIC)
    told: dict[str, object] = {}
    for suffix, options in ((".jpg", {"quality": 92}), (".webp", {"quality": 90}), (".png", {"compress_level": 1})):
        path = place / f"large{suffix}"
        large.save(path, **options)
        looking.look(str(path))
        spent = []
        for _ in range(5):
            began = time.process_time()
            looking.look(str(path))
            spent.append(time.process_time() - began)
        told[f"12 megapixels, {suffix}"] = round(sorted(spent)[2], 3)
    small = photographs.photograph(packages, "china")
    small.save(place / "small.jpg", quality=90)
    began = time.process_time()
    looks = [looking.look(str(place / "small.jpg")) for _ in range(100)]
    told["a small one"] = round((time.process_time() - began) / 100, 4)
    many = []
    chance = random.Random(0)
    for number in range(10_000):
        known = looks[number % 100]
        print_of = {**known["print"], "content": str(number), "print": _noise(chance)}
        many.append({**known, "name": f"{number}.jpg", "print": print_of})
    began = time.process_time()
    whole_set.judge(many, "style")
    told["10 000 as a set"] = round(time.process_time() - began, 2)
    told["bytes of one's result"] = len(json.dumps(many[0]))
    told["peak MB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return told


def _noise(chance: random.Random) -> str:
    import base64

    return base64.b64encode(chance.randbytes(256)).decode()


def main() -> int:
    parser = argparse.ArgumentParser(description="Does the picture doctor see?")
    parser.add_argument("--packages", type=Path, required=True, metavar="DIR")
    parser.add_argument("--half", action="append", choices=HALVES, help="default: both")
    parser.add_argument("--time", action="store_true")
    arguments = parser.parse_args()
    readable_formats()
    told = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if arguments.time:
            told["time"] = timed(arguments.packages, place)
            print(json.dumps(told["time"], indent=2))
        for half in [] if arguments.time else arguments.half or HALVES:
            names = HALVES[half]
            faults = {fault.name: hits(arguments.packages, names, fault, place) for fault in FAULTS}
            told[half] = {"untouched": untouched(arguments.packages, names, place), "faults": faults}
            table(half, told[half])
    RESULTS.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
