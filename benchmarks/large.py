"""A data set of tens of thousands of captioned pictures: how long checks and scans take, and what memory it costs.

python -m benchmarks.large [--pictures 50000]: inside the trainer's environment. The pictures are tiny, so that what is
measured is our own work for each and not Pillow's; they are made anew, and deleted afterwards.
"""

from __future__ import annotations

import argparse
import gc
import io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from PIL import Image

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.engine.data import picture_checks
from dreambooth_ext.engine.data.dataset import Dataset

IN_A_FOLDER = 500


def make(folder: Path, count: int) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), (200, 100, 50)).save(stream, "PNG")
    for number in range(count):
        place = folder / f"set {number // (10 * IN_A_FOLDER)}" / f"part {number // IN_A_FOLDER}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"picture {number}.png").write_bytes(stream.getvalue())
        (place / f"picture {number}.txt").write_text(
            f"a red thing, number {number}, on grass, at noon", encoding="utf-8"
        )


@contextmanager
def measured(what: str) -> Iterator[None]:
    gc.collect()
    process = psutil.Process()
    memory, began, worked = process.memory_info().rss, time.perf_counter(), time.process_time()
    yield
    grown = (process.memory_info().rss - memory) / 2**20
    seconds = f"{time.perf_counter() - began:6.2f} s ({time.process_time() - worked:.2f} s of the processor)"
    print(f"{what:<34} {seconds}, {grown:+.0f} MB")


def measure(folder: Path) -> None:
    config = RunConfig(method="finetune", instance_data_dir=str(folder), base_model=str(folder), resolution=64)
    config = config.replace(use_captions=True, cache_latents=False, validation_split=0.02, train_batch_size=4)
    with measured("listing"):
        picture_entries.list_pictures(folder)
    with measured("quick check, captions read"):
        config_checks.check(config)
    with measured("pictures and captions in memory"):
        entries, _ = picture_entries.entries(config)
    dataset = Dataset(config, Subjects.of(config), entries, 1.0)
    with measured("headers of all pictures"):
        found = picture_checks.scan(dataset.entries, dataset.target, False, print, print, lambda done, total: None)
    with measured("order of the first epoch"):
        dataset.arrange(found)
        dataset.batches(0)
    with measured("100 batches, decoded"):
        for step in range(100):
            dataset.batches(step)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=50_000)
    count = parser.parse_args().pictures
    with tempfile.TemporaryDirectory(prefix="dreambooth-large-") as folder:
        make(Path(folder), count)
        measure(Path(folder))


if __name__ == "__main__":
    main()
