"""A run's pictures as batches: read and encoded once, then shuffled and varied as the seed determines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch

from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import Subjects
from ...core.data.entry import Entry
from ...core.data.picture_entries import caches_latents
from ...core.errors import Problem, UserError
from ...core.pictures.training_crop import bucket_sizes, training_size
from ..runtime.distributed import Company
from ..runtime.seeds import generator
from . import latent_encoding, masks, picture_checks
from .batch import Batch
from .caption_variation import every_caption
from .latent_cache import DiskCache, MemoryCache
from .order import Order
from .picture import Picture
from .picture_checks import Progress, Warn
from .samples import LatentSamples, PixelSamples, Sample, Samples


class Dataset:
    """A run's pictures as batches. Call `encode` first. `config` must be completed (resolution is a number)."""

    def __init__(
        self,
        config: ResolvedConfig,
        subjects: Subjects,
        entries: list[Entry],
        scaling_factor: float,
        *,
        cache_dir: Path | None = None,
        inpainting: bool = False,
    ):
        """entries: from `picture_entries.entries`. cache_dir: used with `cache_latents_to_disk`."""
        assert config.resolution % 8 == 0, config.resolution
        self.config = config
        self.concepts, self.prior = subjects.concepts, subjects.uses_prior(config)
        self.entries = [entry for entry in entries if self.prior or not entry.is_class]
        self.scaling_factor, self.inpainting = scaling_factor, inpainting
        self.cached = caches_latents(config, inpainting)
        self.cache_dir = cache_dir if config.cache_latents_to_disk else None
        assert not self.cached or not config.cache_latents_to_disk or cache_dir is not None
        self.pictures: list[Picture] = []
        self.held: list[Picture] = []  # never trained on
        self.posteriors: latent_encoding.Posteriors | None = None  # where latents are cached
        self._variations = [concept.variation for concept in self.concepts]

    # --- before training

    def encode(
        self,
        vae: torch.nn.Module | None,
        device: torch.device | str = "cpu",
        progress: Progress = lambda done, total: None,
        warn: Warn = lambda problem: None,
        measured: Progress = lambda done, total: None,
        meanwhile: bool = False,
        company: Company = latent_encoding.ALONE,
    ) -> None:
        """Read all pictures and encode them into the latent cache or, without one, only check that they can be decoded.

        meanwhile: only check them too, and encode each when a step first needs it (`fill`): the first step comes
        sooner, and the VAE stays in memory until the last is encoded. `vae` may be None if nothing is cached. company:
        the processes that encode each picture once. All headers are read first, which `measured` shows. Broken
        pictures are left out, and the first of them are named by `warn`. Raises UserError if none is left of a concept.
        """
        if self.config.enable_bucket and len(bucket_sizes(self.config.resolution)) == 1:
            warn(Problem("pictures.one_bucket", resolution=self.config.resolution))
        with contextlib.closing(picture_checks.Bounded(warn)) as left_out:
            found = picture_checks.scan(
                self.entries, self.target, self.cache_dir is not None, left_out, warn, measured, self._by_alpha
            )
            picture_checks.warn_of_copies(found, warn)
            found = masks.usable(found, self.config.masked_loss, left_out)
            if self.cached:
                assert vae is not None
                size = latent_encoding.memory_bytes(found, self._flips)
                cache = DiskCache(self.cache_dir) if self.cache_dir is not None else MemoryCache(size)
                made = latent_encoding.Posteriors(found, self._flips, cache, vae, torch.device(device), company)
                found = (made.verify if meanwhile else made.encode)(found, progress, left_out)
                self.samples: Samples = LatentSamples(self.config, self._variations, made, self.scaling_factor)
                self.posteriors = made
            else:
                found = picture_checks.verify(found, progress, left_out)
                self.samples = PixelSamples(self.config, self._variations)
        self.arrange(found)

    def _by_alpha(self, entry: Entry) -> bool:
        return self.concepts[entry.concept].by_alpha

    def _flips(self, picture: Picture) -> bool:
        return self._variations[picture.entry.concept].random_flip and not picture.entry.is_held

    def target(self, size: tuple[int, int]) -> tuple[int, int]:
        return training_size(size, self.config.resolution, self.config.enable_bucket)

    def arrange(self, found: list[Picture]) -> None:
        """Split the readable pictures into trained and held-out ones and set up their order. Raises UserError if too
        few are left."""
        self.held = [picture for picture in found if picture.entry.is_held]
        self.pictures = [picture for picture in found if not picture.entry.is_held]
        self.order = Order(self.config, self.pictures)
        left = {(p.entry.concept, p.entry.is_class) for p in self.pictures}
        for index, is_class in sorted({(e.concept, e.is_class) for e in self.entries if not e.is_held}):
            if (index, is_class) not in left:
                field = self.concepts[index].named("class_data_dir" if is_class else "instance_data_dir")
                raise UserError("pictures.all_unreadable", field)
        if not self.order.bucket_counts:
            raise UserError("pictures.none_at_all", self.concepts[0].named("instance_data_dir"))
        if self.prior and not self.order.classes:
            raise UserError("pictures.no_class_pictures", "class_data_dir")

    def all_captions(self) -> list[str] | None:
        """Return every caption that a batch can contain, once each; None if tags vary, since there are too many to
        list."""
        return every_caption(self.pictures, self.held, self._variations)

    # --- where training is

    def place(self, batches: int) -> dict[str, Any]:
        """Return what a training state notes, to `go_on` with the batch of this number."""
        return {"batches": batches}

    def go_on(self, step: int, noted: Mapping[str, Any]) -> None:
        """Let `step` begin where a training state has noted its `place`."""
        self.order.go_on(step, noted["batches"])

    def close(self) -> None:
        """Let go of what is read."""

    # --- batches

    def fill(self, step: int, micros: int, rank: int, world: int) -> tuple[int, int] | None:
        """Encode what a step's batches lack before anything else takes memory or, where they lack nothing, some of what
        later ones will: so everything is encoded after as many steps as there are pictures, at the latest.

        Returns how many posteriors are there, and how many there will be; None if all were.
        """
        if self.posteriors is None or self.posteriors.is_complete:
            return None
        jobs = []
        for number in range(world) if self.posteriors.company.world > 1 else (rank,):
            for turn in (turn for micro in range(micros) for turn in self.order.batch(step, micro, number, world)):
                picture = self.pictures[turn.picture]
                flip, *_ = self.samples.drawn(picture, generator(self.config.seed, *turn.drawn_by))
                jobs.append((picture, flip))
        self.posteriors.require_all(jobs)
        return self.posteriors.counts

    @property
    def is_filling(self) -> bool:
        """Whether pictures are still to be encoded, which is done between steps and not in threads."""
        return self.posteriors is not None and not self.posteriors.is_complete

    @property
    def reads_files(self) -> bool:
        """Whether batches are read from disk, so that reading ahead saves time."""
        return not self.cached or self.cache_dir is not None

    def batches(self, step: int, micro: int = 0, rank: int = 0, world: int = 1) -> list[Batch]:
        """Return the batches of one process's micro-step: one Batch per forward pass. Their losses are summed.

        The first contains instance pictures, followed by class pictures of the same size.
        """
        groups: dict[tuple[int, ...], list[Sample]] = {}
        for turn in self.order.batch(step, micro, rank, world):
            draw = generator(self.config.seed, *turn.drawn_by)
            sample = self.samples.sample(self.pictures[turn.picture], draw, turn.weight)
            groups.setdefault(tuple(sample.tensor.shape), []).append(sample)
        return [self.samples.batch(group) for group in groups.values()]

    def held_batches(self) -> Iterator[Batch]:
        """Yield the held-out pictures without random changes: not mirrored, centre-cropped, with their complete first
        caption.

        The batches are always the same, at most as large as in training, and each picture's latents are the same sample
        every time.
        """
        buckets: dict[tuple[int, int], list[int]] = {}
        for index, picture in enumerate(self.held):
            buckets.setdefault(picture.crop.target, []).append(index)
        size = self.config.train_batch_size
        for _, indexes in sorted(buckets.items()):
            for begin in range(0, len(indexes), size):
                part = indexes[begin : begin + size]
                draws = [generator(self.config.seed, "held out", index) for index in part]
                yield self.samples.batch(
                    [self.samples.held(self.held[i], draw, 1 / len(part)) for i, draw in zip(part, draws, strict=True)]
                )

    def fixed(self, picture: Picture, *place: str | int) -> Batch:
        """Return a picture without random changes, as in `held_batches`, as a batch of its own. place: with the run's
        seed, determines its latents."""
        return self.samples.batch([self.samples.held(picture, generator(self.config.seed, *place), 1.0)])
