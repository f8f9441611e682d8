"""Encode pictures to VAE posteriors, once each, in batches as large as memory allows: all before training, or each when
a step first needs it, so that training begins at once."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import Subjects
from ...core.errors import Problem, UserError
from ...core.system import files
from ..runtime import memory
from ..runtime.distributed import Company
from . import picture_checks
from .images import to_model
from .latent_cache import IN_MEMORY, DiskCache, MemoryCache, vae_fingerprint
from .parallel import ahead, attempt, workers
from .picture import Picture
from .picture_checks import Progress, Warn

ALONE = Company()
SHARED = 8  # groups that a process encodes before it gives them to the others
Flips = Callable[[Picture], bool]  # whether a picture is also used mirrored

# Pixels encoded at once, and the bytes that one of them takes of the VAE's forward pass in float32, as counted
# (benchmarks/count.py): a picture of 512 takes 0.67 GB, which is less than any training. A CPU gains
# nothing beyond 4 pictures of 64 at once.
PIXELS_AT_ONCE = {"cuda": 512 * 512, "cpu": 128 * 128}
ENCODING = 2560
DECODED = 2**28  # bytes of pixels that stay in memory until they are encoded; of 512 x 512, 340 pictures
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


Job = tuple[Picture, bool]  # a picture, and whether it is mirrored


class Posteriors:
    """A run's posteriors, out of the cache: all of them are encoded by `encode`, or each when it is first asked for.

    Pictures are encoded in the same groups whoever asks first, so that both ways and a resumed run get the same bits.
    Several processes encode each group once, the next one of them in turn, and give it to the others (`_share`); what
    is missing is the same for all of them. The VAE always runs in float32, since SDXL's overflows in float16; it is let
    go as soon as nothing is missing.
    """

    def __init__(
        self,
        pictures: list[Picture],
        flips: Flips,
        cache: MemoryCache | DiskCache,
        vae: torch.nn.Module,
        device: torch.device,
        company: Company = ALONE,
    ):
        self.cache, self.device, self.company = cache, device, company
        self._fingerprint = vae_fingerprint(vae) if isinstance(cache, DiskCache) else ""
        self._vae: torch.nn.Module | None = vae.to(device, torch.float32).requires_grad_(False).eval()
        jobs = [(p, flip) for p in pictures for flip in ((False, True) if flips(p) else (False,))]
        jobs.sort(key=lambda job: job[0].crop.target)  # groups by size; stable, so otherwise in the folder's order
        self._jobs = jobs
        lacks = [any(said) for said in zip(*company.of_all([self.key(*job) not in cache for job in jobs]), strict=True)]
        self._missing = {self.key(*job): job for job, lacking in zip(jobs, lacks, strict=True) if lacking}
        self._alone: set[Hashable] = set()  # missing, but for this process
        self._groups: dict[Hashable, list[Job]] = {}  # by the key of each of its jobs; of pictures known to be good
        self._decoded: dict[Picture, Tensor] = {}  # not mirrored, uint8
        self._decoded_bytes = 0
        self._let_go()

    @property
    def is_complete(self) -> bool:
        """Whether every posterior is in the cache."""
        return not self._missing

    @property
    def counts(self) -> tuple[int, int]:
        """How many posteriors are in the cache, and how many there are."""
        return len(self._jobs) - len(self._missing), len(self._jobs)

    def key(self, picture: Picture, flip: bool) -> Hashable:
        return picture.key(flip, self._fingerprint)

    def get(self, picture: Picture, flip: bool) -> Tensor:
        """Return moments (2 * channels, h / 8, w / 8), float32. Raises UserError if the picture has to be encoded and
        cannot be."""
        self.require(picture, flip)
        return self.cache.get(self.key(picture, flip))

    # --- all before training

    def encode(self, pictures: list[Picture], progress: Progress, warn: Warn) -> list[Picture]:
        """Encode all that is missing. Returns the pictures that could be encoded."""
        if self.company.world > 1:
            return self._encode_together(pictures, progress, warn)
        jobs, total = list(self._missing.values()), len(self._jobs)
        broken: set[Picture] = set()
        done = total - len(jobs)
        progress(done, total)
        for batch, pixels in _pixel_batches(jobs, self.device, broken, warn):
            for picture in self._put(batch, pixels):
                if picture not in broken:
                    broken.add(picture)
                    warn(Problem("pictures.vae_fails", file=str(picture.entry.path)))
            done += len(batch)
            progress(done, total)
        progress(total, total)
        self._missing.clear()  # what is left are broken pictures
        self._let_go()
        return [p for p in pictures if p not in broken]

    def _encode_together(self, pictures: list[Picture], progress: Progress, warn: Warn) -> list[Picture]:
        kept, total = self.verify(pictures, lambda done, of: None, warn), len(self._jobs)
        groups, at_once = self._lacking(self._missing.values()), self.company.world * SHARED
        broken: set[Path] = set()
        for begin in range(0, len(groups), at_once):
            progress(total - len(self._missing), total)
            broken |= self._share(groups[begin : begin + at_once])
        for path in sorted(broken):
            warn(Problem("pictures.vae_fails", file=str(path)))
        progress(total, total)
        return [picture for picture in kept if picture.entry.path not in broken]

    # --- each in time

    def verify(self, pictures: list[Picture], progress: Progress, warn: Warn) -> list[Picture]:
        """Decode the pictures that will have to be encoded. Returns all but those that cannot be decoded, which leave
        the others' groups as `encode` would."""
        lacking = {picture for picture, _ in self._missing.values()}
        good = self._decodable([p for p in pictures if p in lacking], progress, warn)
        self._missing = {key: job for key, job in self._missing.items() if job[0] in good}
        self._jobs = [job for job in self._jobs if job[0] in good or job[0] not in lacking]
        for part in self._grouped():
            self._groups |= {self.key(*job): part for job in part if self.key(*job) in self._missing}
        self._let_go()
        return [p for p in pictures if p in good or p not in lacking]

    def _grouped(self) -> Iterator[list[Job]]:
        """Yield the jobs in groups of one size, as large as memory allows."""
        for _, same_size in itertools.groupby(self._jobs, key=lambda job: job[0].crop.target):
            group = list(same_size)
            width, height = group[0][0].crop.target
            at_once = _at_once(self.device, width * height)
            yield from (group[begin : begin + at_once] for begin in range(0, len(group), at_once))

    def _decodable(self, pictures: list[Picture], progress: Progress, warn: Warn) -> set[Picture]:
        """Return which of the pictures can be decoded. Of several processes each looks at those that it will most
        likely encode."""
        company = self.company
        if company.world == 1:
            return set(picture_checks.verify(pictures, progress, warn, self._keep))
        turn: dict[Picture, int] = {}
        for number, group in enumerate(self._grouped()):
            for picture, _ in group:
                turn.setdefault(picture, number % company.world)
        own = [picture for picture in pictures if turn[picture] == company.rank]
        told: list[Problem] = []
        good = set(picture_checks.verify(own, progress, told.append, self._keep))
        bad: set[Path] = set()
        for paths, problems in company.of_all(([p.entry.path for p in own if p not in good], told)):
            bad.update(paths)
            for problem in problems:
                warn(problem)
        return {picture for picture in pictures if picture.entry.path not in bad}

    def require(self, picture: Picture, flip: bool) -> bool:
        """Encode the picture, with the others of its group, if it is not in the cache. Returns whether it was not. One
        of several processes does so for itself alone: the others still wait for their turn."""
        key = self.key(picture, flip)
        if key not in self._missing or key in self._alone:
            return False
        batch = self._groups[key]
        pixels = torch.stack([self._pixels(*job) for job in batch])
        if broken := self._put(batch, pixels):
            file = str(broken[0].entry.path)
            raise UserError("pictures.vae_fails_in_training", "instance_data_dir", file=file)
        if self.company.world > 1:
            self._alone.update(self.key(*job) for job in batch)
            return True
        self._forget(batch)
        self._let_go()
        memory.release()  # it took more than a step does
        return True

    def require_all(self, jobs: Iterable[Job]) -> None:
        """Encode what is not in the cache of these or, if nothing lacks, some of the rest: a group for each process.
        All processes ask for the same."""
        world = self.company.world
        groups = self._lacking(jobs) or self._lacking(self._missing.values(), world)
        if world > 1:
            if broken := self._share(groups):
                raise UserError("pictures.vae_fails_in_training", "instance_data_dir", file=str(min(broken)))
            memory.release()
            return
        for group in groups:
            self.require(*next(job for job in group if self.key(*job) in self._missing))

    def _lacking(self, jobs: Iterable[Job], most: int = 0) -> list[list[Job]]:
        """Return the groups of what is missing of some jobs, each once, in their order; `most` of them, or all."""
        groups: dict[int, list[Job]] = {}
        for job in jobs:
            if self.key(*job) in self._missing:
                group = self._groups[self.key(*job)]
                groups[id(group)] = group
                if len(groups) == most:
                    break
        return list(groups.values())

    def _share(self, groups: list[list[Job]]) -> set[Path]:
        """Encode groups together with the other processes, each one's own, and take theirs. Returns the pictures that
        give numbers that are not finite. Raises UserError in all processes if one cannot encode its own."""
        company = self.company
        mine, failure = groups[company.rank :: company.world], None
        broken: set[Path] = set()
        try:
            for group in mine:
                pixels = torch.stack([self._pixels(*job) for job in group])
                broken.update(picture.entry.path for picture in self._put(group, pixels))
        except UserError as error:
            failure = error.problem
        made = [self.key(*job) for group in mine for job in group if job[0].entry.path not in broken]
        for problem, paths in company.of_all((failure, broken)):
            if problem:
                raise problem.as_error()
            broken = broken | paths
        self._take(made, [self.key(*job) for group in groups for job in group if job[0].entry.path not in broken])
        for group in groups:
            self._forget(group)
        self._let_go()
        return broken

    def _take(self, made: list[Hashable], wanted: list[Hashable]) -> None:
        """Take from the others what this process has not made, unless a disk that all share has it. wanted: of all."""
        lacks = [key for key in wanted if key not in self.cache]
        if not any(self.company.of_all(bool(lacks))):
            return
        for values in self.company.of_all({key: self.cache.get(key) for key in made}):
            for key in lacks:
                if key in values:
                    self.cache.put(key, values[key])

    def _keep(self, picture: Picture, pixels: Tensor) -> None:
        """Keep what was decoded, as far as there is room, so that it need not be decoded again."""
        if self._decoded_bytes + pixels.numel() <= DECODED:
            self._decoded[picture] = pixels
            self._decoded_bytes += pixels.numel()

    def _pixels(self, picture: Picture, flip: bool) -> Tensor:
        known = self._decoded.get(picture)
        if known is not None:
            return known.flip(-1) if flip else known
        if picture.digest and files.sha256_of(picture.entry.path) != picture.digest:
            raise UserError("pictures.changed_in_training", "instance_data_dir", file=str(picture.entry.path))
        return picture.pixels(None, flip)

    def _forget(self, batch: list[Job]) -> None:
        for job in batch:
            self._missing.pop(self.key(*job), None)
            self._groups.pop(self.key(*job), None)
        for picture in {picture for picture, _ in batch}:
            if not any(self.key(picture, flip) in self._missing for flip in (False, True)):
                self._decoded.pop(picture, None)

    @torch.no_grad()
    def _put(self, batch: list[Job], pixels: Tensor) -> list[Picture]:
        """Encode pixels, (b, 3, h, w) in uint8, and put them into the cache, unless they are there. Returns the
        pictures that give numbers that are not finite."""
        assert self._vae is not None, "it is here as long as something is missing"
        found = moments(self._vae, to_model(pixels.to(self.device)))
        finite = found.isfinite().flatten(1).all(1).tolist()
        for job, values, good in zip(batch, found.cpu(), finite, strict=True):
            if good and self.key(*job) in self._missing:
                self.cache.put(self.key(*job), values)
        return [picture for (picture, _), good in zip(batch, finite, strict=True) if not good]

    def _let_go(self) -> None:
        """Free the VAE if it is needed no more."""
        if self.is_complete and self._vae is not None:
            self._vae = None
            self._decoded.clear()
            memory.release()


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
