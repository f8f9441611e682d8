"""From the folder to latents: measure every picture, encode it once, name the broken ones."""

from __future__ import annotations

import collections
import itertools
import os
from collections.abc import Callable, Hashable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import concepts
from ...core.data.entry import Entry
from ...core.errors import UserError
from ...core.system import files
from ..runtime import memory
from .images import Crop, centre_crop, picture_size, to_model, training_pixels
from .latent_cache import IN_MEMORY, DiskCache, MemoryCache, content_key, vae_fingerprint

Progress = Callable[[int, int], None]  # done, of how many
Warn = Callable[[str], None]
Flips = Callable[["Picture"], bool]  # whether a picture is shown mirrored, too
Item = TypeVar("Item")
Result = TypeVar("Result")

# Pixels encoded at once, and the bytes that one of them takes of the VAE's forward pass in float32, as counted
# (benchmarks/activations.py --encoding): a picture of 512 takes 0.67 GB, which is less than any training. A CPU gains
# nothing beyond 4 pictures of 64 at once.
PIXELS_AT_ONCE = {"cuda": 512 * 512, "cpu": 128 * 128}
ENCODING = 2560
MEMORY_SHARE = 0.25  # of the machine's memory, for latents
COMPARED = 2**28  # bytes of pictures that are read to find copies
NAMED_AT_MOST = 20  # broken pictures
LATENT_BYTES = 2 * 4 * 4 / 64  # bytes a pixel: mean and logvar, 4 channels of float32 for 8 x 8 pixels


@dataclass(frozen=True)
class Picture:
    """A picture that can be read, and how it is cropped when nothing is random."""

    entry: Entry
    crop: Crop
    digest: str  # sha256 of its bytes; "" where nothing is kept on disk
    opaque: bool = False  # transparent parts keep their colours, for they are weighed instead

    def pixels(self, crop: Crop | None = None, flip: bool = False) -> Tensor:
        """`images.training_pixels` of it. crop: another than its own."""
        return training_pixels(self.entry.path, crop or self.crop, flip, self.opaque)

    def key(self, flip: bool, vae: str) -> Hashable:
        """Its posterior's name in the cache."""
        if not self.digest:
            return (str(self.entry.path), self.crop, flip)  # in memory nothing outlives the run
        crop = self.crop
        place = (crop.original, crop.target, crop.left, crop.top)
        return content_key(self.digest, (*place, "opaque") if self.opaque else place, flip, vae)


def workers() -> int:
    return min(8, os.cpu_count() or 1)


def ahead(function: Callable[[Item], Result], items: Iterable[Item], window: int) -> Iterator[Result]:
    """`map` in threads, in order, never more than `window` results ahead of the reader."""
    items = iter(items)
    with ThreadPoolExecutor(workers()) as pool:
        pending = collections.deque(pool.submit(function, item) for item in itertools.islice(items, window))
        try:
            while pending:
                result = pending.popleft().result()
                pending.extend(pool.submit(function, item) for item in itertools.islice(items, 1))
                yield result
        finally:
            for future in pending:
                future.cancel()


def attempt(function: Callable[..., Result], *arguments: Any) -> Result | UserError:
    try:
        return function(*arguments)
    except UserError as error:
        return error


def scan(
    entries: list[Entry],
    target: Callable[[tuple[int, int]], tuple[int, int]],
    digests: bool,
    left_out: Warn,
    warn: Warn,
    progress: Progress,
    opaque: bool = False,
) -> list[Picture]:
    """Measure every picture from its header; `target` gives the training size for a size, both (width, height).

    With `digests` the files' bytes are hashed as well. A picture that cannot be read is named by `left_out`.
    """

    def measure(entry: Entry) -> Picture:
        size = picture_size(entry.path)
        return Picture(entry, centre_crop(size, target(size)), _digest(entry.path) if digests else "", opaque)

    found = []
    for done, result in enumerate(ahead(lambda entry: attempt(measure, entry), entries, window=256), 1):
        progress(done, len(entries))
        if isinstance(result, UserError):
            left_out(f"Left out: {result.problem.message}")
        else:
            found.append(result)
    small = [p for p in found if p.crop.original[0] < p.crop.target[0] or p.crop.original[1] < p.crop.target[1]]
    if small:
        names = ", ".join(p.entry.path.name for p in small[:5]) + (", ..." if len(small) > 5 else "")
        warn(f"{len(small)} of {len(found)} pictures are smaller than the training size and are enlarged: {names}")
    return found


def warn_of_copies(pictures: list[Picture], warn: Warn) -> None:
    """Say which of your pictures are byte for byte the same: they count twice, and a held-out one is learned after all.

    Only files of one length and size are compared, and no more than COMPARED bytes read.
    """
    alike: dict[tuple[int, tuple[int, int]], dict[Path, Picture]] = {}
    for picture in pictures:
        if not picture.entry.is_class:
            key = (_length(picture.entry.path), picture.crop.original)
            alike.setdefault(key, {})[picture.entry.path] = picture
    known: dict[str, Picture] = {}
    copies, learned, left = [], 0, COMPARED
    for (length, _), group in alike.items():
        if len(group) == 1 or (left := left - length * len(group)) < 0:
            continue
        for path, picture in group.items():
            first = known.setdefault(picture.digest or _digest_or_name(path), picture)
            if first is not picture:
                copies.append(f"{path.name} is {first.entry.path.name}")
                learned += first.entry.is_held != picture.entry.is_held
    if copies:
        rest = f" and {len(copies) - 5} more" if len(copies) > 5 else ""
        held = f" {learned} of them {'is' if learned == 1 else 'are'} held out and trained on." if learned else ""
        what = "1 picture is a copy of another and counts" if len(copies) == 1 else ""
        what = what or f"{len(copies)} pictures are copies of others and count"
        warn(f"{what} twice: {', '.join(copies[:5])}{rest}.{held}")


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # gone meanwhile; reading it will say so
        return -1


def _digest_or_name(path: Path) -> str:
    """The digest of a file, or for one that cannot be read its name, which is like no other's."""
    try:
        return files.sha256_of(path)
    except OSError:
        return str(path)


def _digest(path: Path) -> str:
    try:
        return files.sha256_of(path)
    except OSError as error:
        raise UserError("instance_data_dir", f"'{path}' cannot be read: {error.strerror}.") from error


def verify(pictures: list[Picture], progress: Progress, warn: Warn) -> list[Picture]:
    """Decode every picture once, for runs that decode them while training: those that can be decoded."""
    kept = []
    results = ahead(lambda p: attempt(p.pixels), pictures, window=2 * workers())
    for done, (picture, result) in enumerate(zip(pictures, results, strict=True), 1):
        if isinstance(result, UserError):
            warn(f"Left out: {result.problem.message}")
        else:
            kept.append(picture)
        progress(done, len(pictures))
    return kept


def memory_bytes(pictures: list[Picture], flips: Flips) -> int:
    """What the posteriors of all pictures take in float32."""
    return int(sum(p.crop.target[0] * p.crop.target[1] * (2 if flips(p) else 1) for p in pictures) * LATENT_BYTES)


def most_bytes(config: ResolvedConfig, pictures: int) -> int:
    """The same before any of them has been looked at: buckets have at most the square's area."""
    flips = any(concept.variation.random_flip for concept in concepts(config))
    return int(pictures * config.resolution**2 * LATENT_BYTES * (2 if flips else 1))


def memory_limit(total: int) -> int:
    """How many bytes of latents may be in memory where nothing is said of it, on a machine with `total`. Never so many
    that they would be kept in 16 bits: so the choice, which hangs on the machine, changes no bit of the training."""
    return min(IN_MEMORY, int(total * MEMORY_SHARE))


class Bounded:
    """Names the first of many broken pictures, and counts the others: an event for each of thousands helps nobody."""

    def __init__(self, warn: Warn, limit: int = NAMED_AT_MOST):
        self.warn, self.limit, self.count = warn, limit, 0

    def __call__(self, message: str) -> None:
        self.count += 1
        if self.count <= self.limit:
            self.warn(message)

    def close(self) -> None:
        if self.count > self.limit:
            self.warn(f"{self.count - self.limit} further pictures were left out as well.")


@torch.no_grad()
def encode(
    pictures: list[Picture],
    flips: Flips,
    cache: MemoryCache | DiskCache,
    vae: torch.nn.Module,
    device: torch.device,
    progress: Progress,
    warn: Warn,
) -> tuple[list[Picture], str]:
    """Fill the cache with every picture's posterior, mirrored ones too where `flips` says so; what is there stays.

    Returns the pictures that could be encoded, and the VAE's fingerprint. The VAE works in float32 always: SDXL's
    overflows in float16.
    """
    fingerprint = vae_fingerprint(vae) if isinstance(cache, DiskCache) else ""
    vae.to(device, torch.float32).requires_grad_(False).eval()
    wanted = [(p, flip) for p in pictures for flip in ((False, True) if flips(p) else (False,))]
    jobs = [(p, flip) for p, flip in wanted if p.key(flip, fingerprint) not in cache]
    jobs.sort(key=lambda job: job[0].crop.target)  # stable: batches of one size, else the folder's order
    total = len(wanted)
    broken: set[Picture] = set()
    done = total - len(jobs)
    progress(done, total)
    for batch, pixels in _pixel_batches(jobs, device, broken, warn):
        found = moments(vae, to_model(pixels.to(device)))
        finite = found.isfinite().flatten(1).all(1).tolist()
        for (picture, flip), values, good in zip(batch, found.cpu(), finite, strict=True):
            if good:
                cache.put(picture.key(flip, fingerprint), values)
            elif picture not in broken:
                broken.add(picture)
                warn(f"Left out: the VAE makes infinite or undefined latents of '{picture.entry.path}'.")
        done += len(batch)
        progress(done, total)
    progress(total, total)
    return [p for p in pictures if p not in broken], fingerprint


def moments(vae: torch.nn.Module, pixels_bchw: Tensor) -> Tensor:
    """Mean and logvar, (b, 8, h / 8, w / 8), of pixels in [-1, 1], all on the VAE's device; as many pictures at once as
    `PIXELS_AT_ONCE` allows, and fewer where memory does not do. Raises UserError where it does not do for one."""
    height, width = pixels_bchw.shape[-2:]

    def of(some_bchw: Tensor) -> Tensor:
        return vae.encode(some_bchw).latent_dist.parameters

    try:
        return torch.cat(list(memory.in_batches(of, pixels_bchw, _at_once(pixels_bchw.device, height * width))))
    except (RuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
        need = files.human_size(ENCODING * height * width)
        message = f"the memory was not enough to encode a picture of {width} x {height}, which takes about {need}."
        raise UserError("resolution", message, "Lower it, or close other programs that use the device.") from error


def _at_once(device: torch.device, pixels: int) -> int:
    """How many pictures of so many pixels are encoded at once."""
    return max(1, PIXELS_AT_ONCE.get(device.type, PIXELS_AT_ONCE["cpu"]) // pixels)


def pixels_at_once(device: str, pixels: int) -> int:
    """How many pixels are encoded at once on this device, at the most, where a picture has so many."""
    return max(pixels, PIXELS_AT_ONCE.get(torch.device(device).type, PIXELS_AT_ONCE["cpu"]))


def _pixel_batches(
    jobs: list[tuple[Picture, bool]], device: torch.device, broken: set[Picture], warn: Warn
) -> Iterator[tuple[list[tuple[Picture, bool]], Tensor]]:
    """Jobs with their pixels, (b, 3, h, w) in uint8, as many at once as `PIXELS_AT_ONCE` allows."""
    decoded = ahead(lambda j: attempt(j[0].pixels, None, j[1]), jobs, 2 * workers())
    batch: list[tuple[Picture, bool]] = []
    pixels: list[Tensor] = []
    for job, result in zip(jobs, decoded, strict=True):
        picture = job[0]
        full = len(batch) >= _at_once(device, picture.crop.target[0] * picture.crop.target[1])
        if batch and (full or batch[-1][0].crop.target != picture.crop.target):
            yield batch, torch.stack(pixels)
            batch, pixels = [], []
        if isinstance(result, UserError):
            if picture not in broken:
                broken.add(picture)
                warn(f"Left out: {result.problem.message}")
            continue
        batch.append(job)
        pixels.append(result)
    if batch:
        yield batch, torch.stack(pixels)


def sample(moments_b2chw: Tensor, noise_bchw: Tensor) -> Tensor:
    """Draw latents (b, c, h, w) from posteriors, as diffusers' DiagonalGaussianDistribution does."""
    mean, logvar = moments_b2chw.chunk(2, dim=1)
    return mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise_bchw
