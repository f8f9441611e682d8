"""Which pictures a step trains on. Everything follows from (seed, step, rank), so any step can be asked for at once.

An epoch is every instance picture once (times its repeats, or as often as `balance_folders` makes it), in an order
drawn from (seed, epoch) and cut into batches of one size; a bucket's last batch may be a short one. Epochs follow each
other without a seam: batch number (step * accumulation + micro) * world + rank of that endless row is the one asked
for, so nothing is dropped or shown twice where the numbers do not divide, and ranks never get the same batch. Where a
run goes on with another number of processes, steps count from there, and batches from what had been consumed.
"""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import Variation
from ...core.data.picture_entries import Entry, caches_latents, concepts, uses_prior
from ...core.data.prompt_templates import filled
from ...core.errors import UserError
from ..runtime.seeds import generator
from . import latent_encoding
from .batch import Batch
from .buckets import assign, bucket_sizes
from .folder_balance import compose
from .images import Crop, alpha_weights, random_crop, to_model
from .latent_cache import DiskCache, MemoryCache
from .latent_encoding import Picture, Progress, Warn

LATENT_SIDE = 8  # pixels a side that one latent pixel stands for


@dataclass
class Epoch:
    """One epoch's order. A place is an index into it."""

    pictures: list[int]  # place -> index into Dataset.pictures
    turns: list[int]  # place -> how many pictures of the same concept came before; picks the class picture
    batches: list[list[int]]  # places, batch by batch


@dataclass
class Sample:
    """One picture of a batch, with all that was drawn for it."""

    picture: Picture
    tensor: Tensor  # latents or pixels, (c, h, w)
    caption: str
    time_ids: tuple[int, ...]
    weight: float
    mask_1hw: Tensor | None  # of its latents, where its parts do not count the same


class Dataset:
    """A run's pictures as batches. `encode` comes first; `config` has to be completed (resolution is a number)."""

    def __init__(
        self,
        config: ResolvedConfig,
        entries: list[Entry],
        scaling_factor: float,
        *,
        cache_dir: Path | None = None,
        inpainting: bool = False,
    ):
        """`entries` as `pictures.entries` makes them; `cache_dir` is used with `cache_latents_to_disk`."""
        assert config.resolution is not None and config.resolution % 8 == 0, config.resolution
        self.config = config
        self.prior = uses_prior(config)
        self.entries = [entry for entry in entries if self.prior or not entry.is_class]
        self.scaling_factor = scaling_factor
        self.cached = caches_latents(config, inpainting)
        self.cache_dir = cache_dir if config.cache_latents_to_disk else None
        assert not self.cached or not config.cache_latents_to_disk or cache_dir is not None
        self.pictures: list[Picture] = []
        self.held: list[Picture] = []  # never trained on
        self._begins = (0, 0)  # a step, and the batches that all processes had consumed before it
        self._variations = [concept.variation for concept in concepts(config)]
        self._lock = threading.Lock()  # of the two below: batches are made in several threads
        self._epochs: dict[int, Epoch] = {}
        self._orders: dict[tuple[int, int], list[int]] = {}
        self._masks: dict[tuple[Path, bool], Tensor] = {}

    # --- before training

    def encode(
        self,
        vae: torch.nn.Module | None,
        device: torch.device | str = "cpu",
        progress: Progress = lambda done, total: None,
        warn: Warn = lambda message: None,
        measured: Progress = lambda done, total: None,
    ) -> None:
        """Read all pictures: encode them into the cache, or with no caching only make sure that they can be decoded.

        `vae` may be None where nothing is cached. Before, all headers are read, which `measured` shows. Broken pictures
        are named by `warn`, the first of them, and left out. Raises UserError when a concept has none left.
        """
        if self.config.enable_bucket and len(bucket_sizes(self.config.resolution)) == 1:
            warn(f"At {self.config.resolution} pixels there is one bucket, the square: pictures are cropped to it.")
        opaque = self.config.alpha_as_loss_weight
        with contextlib.closing(latent_encoding.Bounded(warn)) as left_out:
            found = latent_encoding.scan(
                self.entries, self._target, self.cache_dir is not None, left_out, warn, measured, opaque
            )
            latent_encoding.warn_of_copies(found, warn)
            if self.cached:
                assert vae is not None
                size = latent_encoding.memory_bytes(found, self._flips)
                self._cache = DiskCache(self.cache_dir) if self.cache_dir is not None else MemoryCache(size)
                arguments = (found, self._flips, self._cache, vae, torch.device(device), progress, left_out)
                found, self._vae = latent_encoding.encode(*arguments)
            else:
                found = latent_encoding.verify(found, progress, left_out)
        self._arrange(found)

    def _flips(self, picture: Picture) -> bool:
        return self._variations[picture.entry.concept].random_flip and not picture.entry.is_held

    def _target(self, size: tuple[int, int]) -> tuple[int, int]:
        side = self.config.resolution
        return assign(size, bucket_sizes(side)) if self.config.enable_bucket else (side, side)

    def _arrange(self, found: list[Picture]) -> None:
        self.held = [picture for picture in found if picture.entry.is_held]
        found = self.pictures = [picture for picture in found if not picture.entry.is_held]
        self._composition = compose(found, self.config.balance_folders)
        instances = self._composition.of(self.config.seed, 0)
        self._classes: dict[int, list[int]] = {}
        for index, picture in enumerate(found):
            if picture.entry.is_class:
                self._classes.setdefault(picture.entry.concept, []).append(index)
        known = concepts(self.config)
        left = {(p.entry.concept, p.entry.is_class) for p in found}
        for index, is_class in sorted({(e.concept, e.is_class) for e in self.entries if not e.is_held}):
            if (index, is_class) not in left:
                field = known[index].named("class_data_dir" if is_class else "instance_data_dir")
                raise UserError(field, "none of these pictures can be read.", "The warnings above say why, one by one.")
        if not instances:
            raise UserError(
                known[0].named("instance_data_dir"), "there are no pictures.", "Give a folder that holds your pictures."
            )
        if self.prior and not self._classes:
            raise UserError("class_data_dir", "there are no class pictures.", "Let the run draw them: give a prompt.")
        self._counts = dict.fromkeys(range(len(known)), 0)
        sizes: dict[tuple[int, int], int] = {}
        for index in instances:
            self._counts[found[index].entry.concept] += 1
            sizes[found[index].crop.target] = sizes.get(found[index].crop.target, 0) + 1
        self.bucket_counts = sizes
        self.batches_per_epoch = sum(math.ceil(n / self.config.train_batch_size) for n in sizes.values())

    # --- how long

    def steps(self, epochs: float, world: int = 1) -> int:
        """Optimizer steps in which every picture comes up `epochs` times."""
        return math.ceil(epochs * self.batches_per_epoch / (self.config.gradient_accumulation_steps * world))

    def go_on(self, step: int, consumed: int) -> None:
        """Let `step` begin with batch number `consumed`."""
        self._begins = (step, consumed)

    def consumed(self, step: int, world: int = 1) -> int:
        """The batches that all processes have consumed before `step`."""
        begun, before = self._begins
        return before + (step - begun) * self.config.gradient_accumulation_steps * world

    def epochs(self, step: int, world: int = 1) -> float:
        """How often every picture has come up before `step`."""
        return self.consumed(step, world) / self.batches_per_epoch

    def epoch_of(self, step: int, world: int = 1) -> int:
        """The epoch, from 0, in which a step begins."""
        return self.consumed(step, world) // self.batches_per_epoch

    # --- captions

    def all_captions(self) -> list[str] | None:
        """Every caption that a batch can hold, each once; None where tags vary, which makes too many to list."""
        instances = [p for p in self.pictures if not p.entry.is_class]
        variations = self._variations
        if any(_varies(caption, variations[p.entry.concept]) for p in instances for caption in p.entry.captions):
            return None
        dropped = [""] if any(variations[p.entry.concept].caption_dropout for p in instances) else []
        seen = [p for p in self.pictures if p.entry.is_class] + self.held
        if any(p.entry.lines for p in instances):
            entries = [p.entry for p in instances + self.held]
            lines = [(line, e.word, text) for e in entries for line in e.lines for text in (*e.captions, *dropped)]
            made = [filled(line, text, word) for line, word, text in lines]
            return list(dict.fromkeys([*made, *(p.entry.caption for p in self.pictures if p.entry.is_class)]))
        return list(dict.fromkeys([*(c for p in instances + seen for c in p.entry.captions), *dropped]))

    # --- the pictures that are held out

    def held_batches(self) -> Iterator[Batch]:
        """The held-out pictures as they are: mirrored never, cropped from the middle, with their first caption whole.

        Always the same batches, up to as large as those of training, whose latents are the same samples each time.
        """
        buckets: dict[tuple[int, int], list[int]] = {}
        for index, picture in enumerate(self.held):
            buckets.setdefault(picture.crop.target, []).append(index)
        size = self.config.train_batch_size
        for _, indexes in sorted(buckets.items()):
            for begin in range(0, len(indexes), size):
                part = indexes[begin : begin + size]
                draws = [generator(self.config.seed, "held out", index) for index in part]
                yield self._batch(
                    [self._held_sample(self.held[i], draw, len(part)) for i, draw in zip(part, draws, strict=True)]
                )

    def _held_sample(self, picture: Picture, draw: torch.Generator, count: int) -> Sample:
        tensor, entry, crop = self._tensor(picture, picture.crop, False, draw), picture.entry, picture.crop
        caption = filled(entry.lines[0], entry.caption, entry.word) if entry.lines else entry.caption
        return Sample(picture, tensor, caption, crop.time_ids(False), 1 / count, self._mask(picture, crop, False))

    # --- training

    def batches(self, step: int, micro: int = 0, rank: int = 0, world: int = 1) -> list[Batch]:
        """What one micro-step of one process trains on, each Batch a forward pass; their losses are summed.

        The first holds instance pictures; class pictures of the same size are behind them in the same Batch.
        """
        accumulation = self.config.gradient_accumulation_steps
        assert 0 <= micro < accumulation and 0 <= rank < world, (micro, rank)
        number = self.consumed(step, world) + micro * world + rank
        epoch, position = divmod(number, self.batches_per_epoch)
        order = self._epoch(epoch)
        places = order.batches[position]
        samples = []
        for place in places:
            draw = generator(self.config.seed, "picture", epoch, place)
            samples.append(self._sample(self.pictures[order.pictures[place]], draw, 1 / len(places)))
        if self._classes:
            samples += self._class_samples(order, epoch, places)
        groups: dict[tuple[int, ...], list[Sample]] = {}
        for sample in samples:
            groups.setdefault(tuple(sample.tensor.shape), []).append(sample)
        return [self._batch(group) for group in groups.values()]

    @property
    def reads_files(self) -> bool:
        """Whether a batch is read from disk, so that reading ahead saves time."""
        return not self.cached or self.cache_dir is not None

    def _epoch(self, number: int) -> Epoch:
        with self._lock:
            if number not in self._epochs:
                while len(self._epochs) >= 2:  # where one epoch ends and the next begins, both are at hand
                    self._epochs.pop(next(iter(self._epochs)))
                self._epochs[number] = self._make_epoch(number)
            return self._epochs[number]

    def _make_epoch(self, number: int) -> Epoch:
        seed, size = self.config.seed, self.config.train_batch_size
        instances = self._composition.of(seed, number)
        shuffled = torch.randperm(len(instances), generator=generator(seed, "order", number)).tolist()
        order = [instances[i] for i in shuffled]
        turns, counts = [], dict.fromkeys(self._counts, 0)
        buckets: dict[tuple[int, int], list[int]] = {target: [] for target in sorted(self.bucket_counts)}
        for place, index in enumerate(order):
            picture = self.pictures[index]
            turns.append(counts[picture.entry.concept])
            counts[picture.entry.concept] += 1
            buckets[picture.crop.target].append(place)
        cut = [places[i : i + size] for places in buckets.values() for i in range(0, len(places), size)]
        mixed = torch.randperm(len(cut), generator=generator(seed, "batches", number)).tolist()
        return Epoch(order, turns, [cut[i] for i in mixed])

    def _class_samples(self, order: Epoch, epoch: int, places: list[int]) -> list[Sample]:
        """A class picture of the same concept for each instance picture; each concept goes through its own in turn."""
        samples = []
        for place in places:
            concept = self.pictures[order.pictures[place]].entry.concept
            pool = self._classes.get(concept)
            if pool is None:
                continue
            turn = epoch * self._counts[concept] + order.turns[place]
            round_, position = divmod(turn, len(pool))
            picture = self.pictures[pool[self._class_order(concept, round_)[position]]]
            draw = generator(self.config.seed, "class picture", concept, turn)
            samples.append(self._sample(picture, draw, self.config.prior_loss_weight / len(places)))
        return samples

    def _class_order(self, concept: int, number: int) -> list[int]:
        key = (concept, number)
        with self._lock:
            if key not in self._orders:
                while len(self._orders) > 2 * len(self._classes):
                    self._orders.pop(next(iter(self._orders)))
                draw = generator(self.config.seed, "class order", concept, number)
                self._orders[key] = torch.randperm(len(self._classes[concept]), generator=draw).tolist()
            return self._orders[key]

    def _sample(self, picture: Picture, draw: torch.Generator, weight: float) -> Sample:
        flip_at, x, y, drop_at = torch.rand(4, generator=draw).tolist()
        variation = self._variations[picture.entry.concept]
        flip = variation.random_flip and flip_at < 0.5
        crop = picture.crop
        if not self.config.center_crop:
            crop = random_crop(crop.original, crop.target, x, y)
        tensor = self._tensor(picture, crop, flip, draw)
        caption = picture.entry.caption
        if not picture.entry.is_class:  # a class caption is its prompt: there is nothing to vary
            caption = vary(picture.entry.captions, variation, drop_at, draw)
        if lines := picture.entry.lines:
            line = lines[int(torch.randint(len(lines), (), generator=draw))]
            caption = filled(line, caption, picture.entry.word)
        return Sample(picture, tensor, caption, crop.time_ids(flip), weight, self._mask(picture, crop, flip))

    def _latent_noise(self, picture: Picture, shape: tuple[int, ...], draw: torch.Generator) -> Tensor:
        """Which of the picture's latents is taken: of the posterior, so many deviations from the mean."""
        noise = torch.randn(shape, generator=draw)
        if self.config.latent_sampling == "once":
            return torch.randn(shape, generator=generator(self.config.seed, "latents", picture.entry.path.name))
        return torch.zeros(shape) if self.config.latent_sampling == "deterministic" else noise

    def _mask(self, picture: Picture, crop: Crop, flip: bool) -> Tensor | None:
        if not self.config.alpha_as_loss_weight:
            return None
        size = (crop.target[0] // LATENT_SIDE, crop.target[1] // LATENT_SIDE)
        if crop != picture.crop:  # a random one
            return alpha_weights(picture.entry.path, crop, flip, size)[None]
        key = (picture.entry.path, flip)
        if key not in self._masks:
            self._masks[key] = alpha_weights(picture.entry.path, crop, flip, size)[None]
        return self._masks[key]

    def _tensor(self, picture: Picture, crop: Crop, flip: bool, draw: torch.Generator) -> Tensor:
        """Scaled latents, or where nothing is cached pixels."""
        if not self.cached:
            return to_model(picture.pixels(crop, flip))
        moments = self._cache.get(picture.key(flip, self._vae))
        noise = self._latent_noise(picture, (moments.shape[0] // 2, *moments.shape[1:]), draw)
        return latent_encoding.sample(moments[None], noise[None])[0] * self.scaling_factor

    def _batch(self, samples: list[Sample]) -> Batch:
        tensors = torch.stack([sample.tensor for sample in samples])
        return Batch(
            latents_bchw=tensors if self.cached else None,
            pixels_bchw=None if self.cached else tensors,
            captions=[sample.caption for sample in samples],
            time_ids_b6=torch.tensor([sample.time_ids for sample in samples], dtype=torch.float32),
            weights_b=torch.tensor([sample.weight for sample in samples]),
            masks_b1hw=torch.stack([s.mask_1hw for s in samples]) if samples[0].mask_1hw is not None else None,
            keys=[str(sample.picture.entry.path) for sample in samples],
        )


def vary(captions: tuple[str, ...], variation: Variation, drop_at: float, draw: torch.Generator) -> str:
    """One of a picture's captions, as it is this time: dropped, or its tags in another order and some of them gone.

    drop_at: in [0, 1), drawn for the picture. Dropout of tags comes after the shuffle, as in sd-scripts.
    """
    caption = captions[0]
    if len(captions) > 1:
        caption = captions[int(torch.randint(len(captions), (), generator=draw))]
    if drop_at < variation.caption_dropout:
        return ""
    if not _varies(caption, variation):  # as it is written: frozen encoders know no other
        return caption
    tags = _tags(caption, variation.caption_separator)
    kept, rest = tags[: variation.keep_tokens], tags[variation.keep_tokens :]
    if variation.shuffle_tags:
        rest = [rest[i] for i in torch.randperm(len(rest), generator=draw).tolist()]
    if variation.tag_dropout:
        stays = torch.rand(len(rest), generator=draw) >= variation.tag_dropout
        rest = [tag for tag, stay in zip(rest, stays.tolist(), strict=True) if stay]
    return ", ".join(kept + rest)


def _varies(caption: str, variation: Variation) -> bool:
    """Whether one caption can become several."""
    if not variation.varies_tags:
        return False
    loose = len(_tags(caption, variation.caption_separator)) - variation.keep_tokens
    return loose > (0 if variation.tag_dropout else 1)


def _tags(caption: str, separator: str) -> list[str]:
    return [tag.strip() for tag in caption.split(separator) if tag.strip()]
