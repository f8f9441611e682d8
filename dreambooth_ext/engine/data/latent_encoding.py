"""Encode pictures to VAE posteriors, once each and in batches as large as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import Subjects
from ...core.errors import Problem, UserError
from ...core.system import files
from ..runtime import memory
from .images import to_model
from .latent_cache import IN_MEMORY, DiskCache, MemoryCache, vae_fingerprint
from .parallel import ahead, attempt, workers
from .picture import Picture
from .picture_checks import Progress, Warn

Flips = Callable[[Picture], bool]  # whether a picture is also used mirrored

# Pixels encoded at once, and the bytes that one of them takes of the VAE's forward pass in float32, as counted
# (benchmarks/activations.py --encoding): a picture of 512 takes 0.67 GB, which is less than any training. A CPU gains
# nothing beyond 4 pictures of 64 at once.
PIXELS_AT_ONCE = {"cuda": 512 * 512, "cpu": 128 * 128}
ENCODING = 2560
MEMORY_SHARE = 0.25  # of the machine's memory, for latents
LATENT_BYTES = 2 * 4 * 4 / 64  # bytes per pixel: mean and logvar, 4 channels of float32 for 8 x 8 pixels


def memory_bytes(pictures: list[Picture], flips: Flips) -> int:
    """Return the bytes that the posteriors of all pictures take in float32."""
    return int(sum(p.crop.target[0] * p.crop.target[1] * (2 if flips(p) else 1) for p in pictures) * LATENT_BYTES)


def most_bytes(config: ResolvedConfig, subjects: Subjects, pictures: int) -> int:
    """Return an upper bound of `memory_bytes` before any picture has been read: buckets have at most the square's
    area."""
    flips = any(concept.variation.random_flip for concept in subjects.concepts)
    return int(pictures * config.resolution**2 * LATENT_BYTES * (2 if flips else 1))


def memory_limit(total: int) -> int:
    """Return how many bytes of latents are kept in memory by default on a machine with `total` bytes. It is at most
    IN_MEMORY, so that latents stay in float32 and the choice, which depends on the machine, does not change the
    training."""
    return min(IN_MEMORY, int(total * MEMORY_SHARE))


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
    """Fill the cache with every picture's posterior, and with mirrored ones if `flips` says so; existing entries stay.

    Returns the pictures that could be encoded, and the VAE's fingerprint. The VAE always runs in float32, since SDXL's
    overflows in float16.
    """
    fingerprint = vae_fingerprint(vae) if isinstance(cache, DiskCache) else ""
    vae.to(device, torch.float32).requires_grad_(False).eval()
    wanted = [(p, flip) for p in pictures for flip in ((False, True) if flips(p) else (False,))]
    jobs = [(p, flip) for p, flip in wanted if p.key(flip, fingerprint) not in cache]
    jobs.sort(key=lambda job: job[0].crop.target)  # groups by size; stable, so otherwise in the folder's order
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
                warn(Problem("pictures.vae_fails", file=str(picture.entry.path)))
        done += len(batch)
        progress(done, total)
    progress(total, total)
    return [p for p in pictures if p not in broken], fingerprint


def moments(vae: torch.nn.Module, pixels_bchw: Tensor) -> Tensor:
    """Return mean and logvar, (b, 8, h / 8, w / 8), of pixels in [-1, 1], all on the VAE's device. Encodes as many
    pictures at once as `PIXELS_AT_ONCE` allows, fewer if memory runs out. Raises UserError if it is not enough for
    one."""
    height, width = pixels_bchw.shape[-2:]

    def of(some_bchw: Tensor) -> Tensor:
        return vae.encode(some_bchw).latent_dist.parameters

    try:
        return torch.cat(list(memory.in_batches(of, pixels_bchw, _at_once(pixels_bchw.device, height * width))))
    except (RuntimeError, MemoryError) as error:
        if not memory.is_out_of_memory(error):
            raise
        need = files.human_size(ENCODING * height * width)
        raise UserError("pictures.memory", "resolution", width=width, height=height, need=need) from error


def _at_once(device: torch.device, pixels: int) -> int:
    """Return how many pictures of this number of pixels are encoded at once."""
    return max(1, PIXELS_AT_ONCE.get(device.type, PIXELS_AT_ONCE["cpu"]) // pixels)


def pixels_at_once(device: str, pixels: int) -> int:
    """Return the largest number of pixels encoded at once on this device, for pictures of `pixels` pixels."""
    return max(pixels, PIXELS_AT_ONCE.get(torch.device(device).type, PIXELS_AT_ONCE["cpu"]))


def _pixel_batches(
    jobs: list[tuple[Picture, bool]], device: torch.device, broken: set[Picture], warn: Warn
) -> Iterator[tuple[list[tuple[Picture, bool]], Tensor]]:
    """Yield jobs with their pixels, (b, 3, h, w) in uint8, in batches of one size as large as `PIXELS_AT_ONCE`
    allows."""
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
                warn(Problem("pictures.left_out", reason=result.problem.message))
            continue
        batch.append(job)
        pixels.append(result)
    if batch:
        yield batch, torch.stack(pixels)


def sample(moments_b2chw: Tensor, noise_bchw: Tensor) -> Tensor:
    """Sample latents (b, c, h, w) from posteriors, as diffusers' DiagonalGaussianDistribution does."""
    mean, logvar = moments_b2chw.chunk(2, dim=1)
    return mean + torch.exp(0.5 * logvar.clamp(-30.0, 20.0)) * noise_bchw
