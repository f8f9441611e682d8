"""A million pictures in shards, read as a run reads them: how long it takes, and whether memory stays flat.

`python -m benchmarks.shards [--samples 1000000] [--buffer 2000] [--local]`

A server on this machine, a process of its own, gives shards of 1000 samples (a JPEG of 64 pixels and its caption);
with `--local` they are files. Every batch is asked for in order, as a training loop would; pictures are not decoded.
The order is told as a digest: the same seed gives the same, also where the sequence is begun anew in the middle
(`--again`).
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import io
import multiprocessing
import re
import resource
import tarfile
import tempfile
import threading
import time
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.engine.shards import readers
from dreambooth_ext.engine.shards.samples import Samples
from dreambooth_ext.engine.shards.sequence import Sequence
from dreambooth_ext.engine.shards.windows import Builder, Place

EACH = 1000  # samples of a shard
SIDES = ((64, 64), (64, 48), (48, 64))


def shard() -> bytes:
    """One shard; all have the same pictures under the same names."""
    made, draw = io.BytesIO(), np.random.default_rng(0)
    with tarfile.open(fileobj=made, mode="w") as archive:
        for number in range(EACH):
            picture = io.BytesIO()
            Image.fromarray(draw.integers(0, 255, (*SIDES[number % 3], 3), dtype=np.uint8)).save(picture, "JPEG")
            caption = f"a thing with the number {number}, in the grass, at noon".encode()
            for name, content in ((f"{number:06d}.jpg", picture.getvalue()), (f"{number:06d}.txt", caption)):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return made.getvalue()


def serve(content: bytes, told: Connection) -> None:
    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            part = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = int(part[1]) if part else 0
            self.send_response(206 if part else 200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(content) - start))
            if part:
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            self.wfile.write(memoryview(content)[start:])

        def log_message(self, *arguments: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.handle_error = lambda request, address: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    told.send(server.server_address[1])
    told.recv()


def read(where: str, folder: Path, samples: int, buffer: int, begin: Place) -> tuple[str, Place]:
    """Ask for every batch from a place on. Returns the digest of what came, and a place in the middle."""
    about = {"method": "finetune", "use_captions": True, "enable_bucket": True, "resolution": 512}
    config = RunConfig(**about, train_batch_size=8, shuffle_buffer=buffer, seed=1, train_shards_path_or_url=where)
    made = Samples(config, Subjects.of(config).concepts[0])
    builder = Builder(config, made, readers.listed(where), folder, lambda problem: None)
    sequence, digest = Sequence(builder, slack=100), hashlib.sha256()
    sequence.begin(begin)
    process, began, spent = psutil.Process(), time.monotonic(), time.process_time()
    number, count, middle, most = begin.batches, begin.samples, Place(), 0
    while True:
        window = sequence.of(number)
        if window.place.epoch > begin.epoch:
            break
        for index in window.batches[number - window.place.batches]:
            record = window.records[index]
            digest.update(f"{record.shard}/{record.key} ".encode())
            count += 1
        number += 1
        if window.place.samples >= samples // 2 and not middle.batches:
            middle = window.place
            digest = hashlib.sha256()  # what comes from here on is compared
            for batch in window.batches[: number - window.place.batches]:
                digest.update("".join(f"{window.records[i].shard}/{window.records[i].key} " for i in batch).encode())
        if number % (samples // 80) == 0:
            memory = process.memory_info().rss / 2**20
            kept = sum(path.stat().st_size for path in folder.glob("*.pictures")) / 2**20
            most = max(most, kept)
            print(
                f"{count:9d} samples  {time.monotonic() - began:7.1f} s  {memory:6.1f} MB  {kept:6.1f} MB on disk",
                flush=True,
            )
    sequence.close()
    took, worked = time.monotonic() - began, time.process_time() - spent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    each = 1e6 / max(1, count - begin.samples)
    print(f"{count} samples in {took:.1f} s ({took * each:.0f} us each, {worked * each:.0f} of the processor)")
    print(f"{number} batches, peak {peak:.0f} MB, at most {most:.0f} MB on disk, order {digest.hexdigest()[:16]}")
    return digest.hexdigest(), middle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1_000_000)
    parser.add_argument("--buffer", type=int, default=2000)
    parser.add_argument("--local", action="store_true")
    parser.add_argument("--again", action="store_true", help="then once more, from the middle on")
    asked = parser.parse_args()
    content, count = shard(), asked.samples // EACH
    with tempfile.TemporaryDirectory() as scratch:
        folder, kept = Path(scratch) / "shards", Path(scratch) / "kept"
        folder.mkdir()
        mine, theirs = multiprocessing.Pipe()
        server = multiprocessing.get_context("spawn").Process(target=serve, args=(content, theirs), daemon=True)
        server.start()
        where = f"http://127.0.0.1:{mine.recv()}/{{000000..{count - 1:06d}}}.tar"
        if asked.local:
            where = str(folder)
            (folder / "000000.tar").write_bytes(content)
            for number in range(1, count):
                (folder / f"{number:06d}.tar").hardlink_to(folder / "000000.tar")
        order, middle = read(where, kept, asked.samples, asked.buffer, Place())
        if asked.again:
            again, _ = read(where, kept / "again", asked.samples, asked.buffer, middle)
            print("the same order" if again == order else "ANOTHER ORDER")
        mine.send("end")
        server.join(5)


if __name__ == "__main__":
    main()
