"""Does the picture doctor see? `python -m benchmarks.doctor --packages DIR [--set NAME] [--time]`, in the environment.

Hits and false alarms on real photographs (`photographs.py` says how DIR is filled) and on faults made from them, as the
tables of docs/measurements.md. Thresholds are chosen on one half of the photographs, and shown on the other and on
photographs that came later (`unseen_photographs.py`; their parts are only looked at untouched). --choose
shows what each threshold lies between on the first half. --time measures how long pictures of 12 megapixels
take. --many N makes N pictures and looks at them by `prepare` and as the tab does (`doctor_many.py`).
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import itertools
import json
import random
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth_ext.engine.doctor import looking, whole_set
from dreambooth_ext.engine.doctor.interest import head, interest_region
from dreambooth_ext.engine.doctor.view import open_view
from dreambooth_ext.engine.pictures.other_formats import readable_formats

from . import doctor_many, doctor_thresholds, photographs, unseen_photographs
from .photographs import FAULTS, FILES, PORTRAITS, Fault
from .unseen_photographs import REAL_FAULTS

RESULTS = Path(__file__).with_name("results") / "doctor.json"
# By lot that nobody draws: in the order of their names' hashes, every second one is held out
BY_LOT = sorted(FILES, key=lambda name: hashlib.sha256(name.encode()).hexdigest())
SETS = {"chosen on": BY_LOT[::2], "held out": BY_LOT[1::2], "unseen": unseen_photographs.PATHS}


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
            wrong = {one["kind"] for one in found["findings"]} - {"small"} - REAL_FAULTS.get(name, set())
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
        for number, part in enumerate(_tried(packages, name)):
            tried += 1
            for at, strength in enumerate(fault.strengths):
                made = fault.make(part, strength, random.Random(f"{name} {number} {at} {fault.name}"))
                path = photographs.saved(made, fault, strength, place / "a")
                found[at] += fault.kind in kinds(path)
    return [round(count / tried, 3) for count in found]


def _tried(packages: Path, name: str) -> Iterator[Image.Image]:
    """The photograph and its parts; of those unseen, which are many, only the photograph itself."""
    every = photographs.parts(photographs.photograph(packages, name), name)
    return every if name in FILES else itertools.islice(every, 1)


def focus(packages: Path, names: list[str], place: Path) -> dict[str, list[int]]:
    """Return how often the subject (the largest face with its head, else the centre of interest) sharp before a soft
    ground is told as blurred, and soft before a sharp ground; with a face and without, each with how many there were.
    """
    told: dict[str, list[int]] = {}
    for name in names:
        for part in _tried(packages, name):
            part.save(place / "a.png", compress_level=1)
            view = open_view(place / "a.png", looking.RESOLUTION)
            box = head(view.faces[0]) if view.faces else interest_region(view)
            mask = photographs.ellipse(part.size, box)
            for sigma in (2, 4):
                soft = photographs.blurred(part, sigma, random.Random())
                for what, ground, subject in (("ground", soft, part), ("subject", part, soft)):
                    Image.composite(subject, ground, mask).save(place / "a.png", compress_level=1)
                    known = told.setdefault(f"soft {what}, {'a face' if view.faces else 'no face'}", [0, 0])
                    known[0] += "blurred" in kinds(place / "a.png")
                    known[1] += 1
    return told


def table(name: str, measured: dict) -> None:
    about = measured["untouched"]
    print(f"untouched ({name}): {about['alarmed']} of {about['pictures']} with a false alarm {about['kinds']}")
    print(f"faces in portraits {about['portraits']}, in others {about['others']}\n")
    print("blurred, of how many:", measured["focus"])
    print("| fault, six strengths | found | from the complaint on |\n| --- | --- | --- |")
    for fault in (*FAULTS, *photographs.typeset_faults(Path())):
        shares = measured["faults"][fault.name]
        cells = ", ".join(f"{strength:g}: {share:.0%}" for strength, share in zip(fault.strengths, shares, strict=True))
        print(f"| {fault.name} | {cells} | {sum(shares[fault.complaint :]) / (6 - fault.complaint):.0%} |")


def timed(packages: Path, place: Path) -> dict[str, object]:
    """Return processor seconds, of one thread, for a picture of 12 megapixels by format: all, and decoding alone."""
    large = photographs.photograph(packages, "raccoon").resize((4000, 3000), Image.Resampling.BICUBIC)
    told: dict[str, object] = {}
    for suffix, options in ((".jpg", {"quality": 92}), (".webp", {"quality": 90}), (".png", {"compress_level": 6})):
        path = place / f"large{suffix}"
        large.save(path, **options)
        told[f"12 megapixels, {suffix}"] = {
            "decoding alone": _seconds(lambda path=path: _decoded(path)),
            "all": _seconds(lambda path=path: looking.look(str(path))),
        }
    small = photographs.photograph(packages, "china")
    small.save(place / "small.jpg", quality=90)
    told["640 x 427, .jpg"] = {"all": _seconds(lambda: looking.look(str(place / "small.jpg")))}
    looks = [looking.look(str(place / "small.jpg"))]
    chance = random.Random(0)
    many = []
    for number in range(10_000):
        print_of = {**looks[0]["print"], "content": str(number), "print": _noise(chance)}
        many.append({**looks[0], "name": f"{number}.jpg", "print": print_of})
    began = time.process_time()
    whole_set.judge(many, "style")
    told["10 000 as a set"] = round(time.process_time() - began, 2)
    return told


def _seconds(work: Callable[[], object]) -> float:
    """The least of five: what else the machine does only adds."""
    work()
    spent = []
    for _ in range(5):
        began = time.process_time()
        work()
        spent.append(time.process_time() - began)
    return round(min(spent), 3)


def _decoded(path: Path) -> None:
    """As the doctor has it decoded: a JPEG at a quarter of its sides."""
    with Image.open(path) as image:
        if path.suffix == ".jpg":
            image.draft("RGB", (image.width // 4, image.height // 4))
        image.load()


def _noise(chance: random.Random) -> str:
    return base64.b64encode(chance.randbytes(256)).decode()


def _many(packages: Path, count: int, folder: Path) -> dict[str, object]:
    doctor_many.make(packages, count, folder)
    told = {"prepare": doctor_many.by_prepare(folder), "tab": doctor_many.by_tab(folder)}
    print(json.dumps(told, indent=2))
    return told


def _known() -> dict[str, Any]:
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def _keep(told: dict[str, Any]) -> None:
    RESULTS.write_text(json.dumps(_known() | told, indent=1) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Does the picture doctor see?")
    parser.add_argument("--packages", type=Path, required=True, metavar="DIR")
    parser.add_argument("--set", action="append", choices=SETS, help="default: the two halves")
    parser.add_argument("--fault", default="", metavar="TEXT", help="only faults with this in their names")
    parser.add_argument("--time", action="store_true")
    parser.add_argument("--choose", action="store_true")
    parser.add_argument("--many", type=int, metavar="N")
    arguments = parser.parse_args()
    readable_formats()
    told: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if arguments.time:
            told["time"] = timed(arguments.packages, place)
            print(json.dumps(told["time"], indent=2))
        if arguments.choose:
            doctor_thresholds.table(arguments.packages, SETS["chosen on"], place)
        if arguments.many:
            told[f"{arguments.many} pictures"] = _many(arguments.packages, arguments.many, place / "many")
        is_other = arguments.time or arguments.choose or arguments.many
        for name in [] if is_other else arguments.set or list(SETS)[:2]:
            measured = told[name] = _known().get(name, {"faults": {}})
            for fault in (*FAULTS, *photographs.typeset_faults(arguments.packages)):
                if arguments.fault in fault.name:
                    measured["faults"][fault.name] = hits(arguments.packages, SETS[name], fault, place)
                    _keep({name: measured})
            if not arguments.fault:
                measured["untouched"] = untouched(arguments.packages, SETS[name], place)
                measured["focus"] = focus(arguments.packages, SETS[name], place)
                table(name, measured)
    _keep(told)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
