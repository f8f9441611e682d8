"""Windows of the endless sequence of samples: so many consecutive ones that are shuffled and cut into batches together.

An epoch reads every shard once, in an order drawn from (seed, epoch). A window is the next `shuffle_buffer` samples of
it, in an order drawn from (seed, epoch, its number), in batches of one size; the last batch of a size may be smaller.
So the batches follow from the seed and the shards alone, for any number of processes, and to go on anywhere it is
enough to know where a window begins (`Place`): libraries that draw from a buffer which they refill lose what is in it
or repeat it (huggingface/datasets 7901, 8408).
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from ...core.config.stages import ResolvedConfig
from ...core.errors import Problem, UserError
from ...core.pictures.training_crop import training_size
from ...core.shards.shard_names import FIELD
from ..data.picture_checks import Warn
from ..runtime.seeds import generator
from . import readers
from .kept import Kept, discard
from .readers import Shard
from .retries import Rest
from .samples import InPlace, Record, Samples

ALL_BAD = 1000  # samples from the beginning of a run; if none can be used, none will be


@dataclass(frozen=True)
class Place:
    """Where a window begins: in which epoch, which shard of its order, and at which byte of it.

    number: the window's in its epoch; samples: how many of the epoch come before it; batches: how many of the run.
    """

    epoch: int = 0
    shard: int = 0
    at: int = 0
    identity: str = ""  # of that shard, where it is remote
    number: int = 0
    samples: int = 0
    batches: int = 0


@dataclass(frozen=True)
class Window:
    """Samples that are in memory: where they are, what they say, and how they are divided into batches."""

    place: Place
    next: Place
    records: Sequence[Record]
    batches: Sequence[Sequence[int]]  # indexes of records
    content: Path | None = None  # of remote pictures

    def close(self) -> None:
        """Delete what is kept of it. A process that still needs it makes it again."""
        if self.content:
            discard(self.content)


class Stopped(Exception):
    """Nobody waits for the window any more."""


class Builder:
    """Reads windows. folder: where remote pictures are kept; shared by the processes of a machine."""

    def __init__(self, config: ResolvedConfig, samples: Samples, shards: Sequence[Shard], folder: Path, warn: Warn):
        self.config, self.samples, self.shards, self.folder, self.warn = config, samples, shards, folder, warn
        self.done = 0  # samples of the window that is being read
        self.is_over = False
        self._is_sure = False  # that there is something to train on
        self._told: set[str] = set()  # why samples were left out: each epoch meets them again

    def order(self, epoch: int) -> list[int]:
        """Return the shards of an epoch in order."""
        return torch.randperm(len(self.shards), generator=generator(self.config.seed, "shards", epoch)).tolist()

    def build(self, place: Place, rest: Rest) -> Window:
        """Read the window that begins at a place. rest: waits between tries. Raises UserError, and Stopped."""
        self.done = 0
        if all(shard.is_in_place for shard in self.shards):
            records, after = self._read(place, rest, None)
            content = None
        else:
            content = self.folder / f"{place.epoch}-{place.number}.pictures"
            with Kept(content, self._look) as kept:
                if (known := kept.known()) is None:
                    records, after = self._read(place, rest, kept)
                    kept.finish(records, dataclasses.asdict(after))
                else:
                    records, after = known[0], Place(**known[1])
        batches = self._batches(place, records)
        after = dataclasses.replace(after, batches=place.batches + len(batches))
        return Window(place, after, records, batches, content)

    def _look(self) -> None:
        if self.is_over:
            raise Stopped

    def _read(self, place: Place, rest: Rest, kept: Kept | None) -> tuple[list[Record], Place]:
        """Return a window's records, and where the next one begins; its number of batches is still to be added."""
        records: list[Record] = []
        seen, order = 0, self.order(place.epoch)
        for position in range(place.shard, len(order)):
            index = order[position]
            shard = self.shards[index]
            at, identity = (place.at, place.identity) if position == place.shard else (0, "")
            with contextlib.closing(readers.opened(shard, at, identity, rest)) as reader:
                for found, behind in self.samples.of(reader, shard.title, kept or InPlace()):
                    self._look()
                    seen += 1
                    made = self.samples.record(found, index, shard.title)
                    if isinstance(made, str):
                        self._leave_out(made, seen, shard)
                        continue
                    records.append(made)
                    self.done, self._is_sure = len(records), True
                    if len(records) == self.config.shuffle_buffer:
                        return records, self._behind(place, position, behind, reader.identity)
        if not records and not place.number:
            raise UserError("shards.nothing_in_any", FIELD, count=seen)
        return records, Place(epoch=place.epoch + 1)

    def _behind(self, place: Place, position: int, at: int | None, identity: str) -> Place:
        """Return the place behind a full window, whose last sample ends before byte `at` of a shard, None at its
        end."""
        passed = place.samples + self.config.shuffle_buffer
        if at is not None:
            return Place(place.epoch, position, at, identity, place.number + 1, passed)
        if position + 1 < len(self.shards):
            return Place(place.epoch, position + 1, number=place.number + 1, samples=passed)
        return Place(epoch=place.epoch + 1)

    def _leave_out(self, reason: str, seen: int, shard: Shard) -> None:
        """Warn of a sample that cannot be used. Raises UserError if none could be, of many."""
        if not self._is_sure and seen >= ALL_BAD:
            raise UserError("shards.nothing_usable", FIELD, count=seen, shard=shard.name, reason=reason)
        if reason not in self._told:
            self._told.add(reason)
            self.warn(Problem("shards.left_out", FIELD, reason=reason))

    def _batches(self, place: Place, records: Sequence[Record]) -> list[list[int]]:
        """Divide a window's records into batches of one size, in an order that (seed, epoch, window) determines."""
        config, size = self.config, self.config.train_batch_size
        draw = generator(config.seed, "window", place.epoch, place.number)
        buckets: dict[tuple[int, int], list[int]] = {}
        for index in torch.randperm(len(records), generator=draw).tolist():
            shape = records[index].width, records[index].height
            buckets.setdefault(training_size(shape, config.resolution, config.enable_bucket), []).append(index)
        cut = [own[i : i + size] for _, own in sorted(buckets.items()) for i in range(0, len(own), size)]
        return [cut[i] for i in torch.randperm(len(cut), generator=draw).tolist()]
