"""How long do many pictures take, and how much memory? `python -m benchmarks.doctor --packages DIR --many N`.

Writes N JPEGs of 1024 pixels, made from the photographs, each another part in another light; then measures

- `prepare` on the folder, the whole program: seconds, of these processor time, and the most memory;
- the tab's way: the picture worker, a process, answers `PictureFindings.show`, which the page asks every 0.8 seconds:
  how long an answer takes, and the memory of both.
"""

from __future__ import annotations

import json
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
from PIL import Image, ImageEnhance

from dreambooth_ext.host.environment.environment import Environment
from dreambooth_ext.host.pictures.findings import PictureFindings
from dreambooth_ext.host.pictures.picture_worker import PictureWorker

from . import photographs

SIDE = 1024  # pixels of the longer side
PAUSE = 0.8  # seconds between the page's questions


def make(packages: Path, count: int, folder: Path) -> None:
    """Write the pictures."""
    folder.mkdir()
    sources = [photographs.photograph(packages, name) for name in sorted(photographs.FILES)]
    large = [one.resize(_size(one), Image.Resampling.BICUBIC) for one in sources]
    chance = random.Random(count)
    for number in range(count):
        picture = large[number % len(large)]
        share = chance.uniform(0.75, 0.98)
        width, height = round(picture.width * share), round(picture.height * share)
        left, top = chance.randint(0, picture.width - width), chance.randint(0, picture.height - height)
        part = picture.resize(_size(picture), Image.Resampling.BILINEAR, (left, top, left + width, top + height))
        ImageEnhance.Brightness(part).enhance(chance.uniform(0.85, 1.1)).save(folder / f"{number}.jpg", quality=88)


def _size(picture: Image.Image) -> tuple[int, int]:
    share = SIDE / max(picture.size)
    return round(picture.width * share), round(picture.height * share)


def by_prepare(folder: Path) -> dict[str, Any]:
    began, before = time.monotonic(), _spent()
    command = [
        sys.executable,
        "-m",
        "dreambooth_ext.engine",
        "prepare",
        str(folder),
        "--subject-type",
        "style",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, check=True, text=True, env=_one_thread())
    told = json.loads(done.stdout)
    return {
        "pictures": len(told["pictures"]),
        "seconds": round(time.monotonic() - began, 1),
        "processor seconds": round(_spent() - before, 1),
        "peak MB": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024),
        "answer MB": round(len(done.stdout) / 1e6, 1),
    }


def by_tab(folder: Path) -> dict[str, Any]:
    """Ask as the page does, until all is known."""
    findings = PictureFindings(PictureWorker(Environment()))
    answers, after, most, began = [], 0, 0, time.monotonic()
    while True:
        asked = time.monotonic()
        answer = findings.show(folder, "style", 512, after)
        size = len(json.dumps(answer))
        answers.append((time.monotonic() - asked, size))
        after = answer["next"]
        most = max([most, *(one.memory_info().rss for one in psutil.Process().children(recursive=True))])
        if answer["score"] is not None:
            break
        time.sleep(PAUSE)
    spent = sorted(seconds for seconds, _ in answers)
    findings.worker.close()
    return {
        "pictures": answer["count"],
        "seconds": round(time.monotonic() - began, 1),
        "answers": len(spent),
        "an answer, median ms": round(1000 * spent[len(spent) // 2], 1),
        "an answer, longest ms": round(1000 * spent[-1], 1),
        "the largest answer, KB": round(max(size for _, size in answers) / 1000),
        "worker's peak MB": round(most / 2**20),
        "asking process MB": round(psutil.Process().memory_info().rss / 2**20),
    }


def _spent() -> float:
    """Processor seconds of all processes that this one has waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _one_thread() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
