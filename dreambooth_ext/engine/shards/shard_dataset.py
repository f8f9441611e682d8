"""A run's shards as batches: what `Dataset` is for folders, without a list of all pictures."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import Subjects
from ...core.data.entry import Entry
from ...core.errors import Problem, UserError
from ...core.pictures.training_crop import Crop, centre_crop
from ..data.batch import Batch
from ..data.dataset import Dataset
from ..data.images import training_pixels
from ..data.order import Order
from ..data.picture import Picture
from ..data.picture_checks import Bounded, Warn
from ..data.prefetch import WINDOW
from ..data.samples import PixelSamples, Sample
from ..runtime.seeds import generator
from . import readers
from .readers import Shard
from .samples import Record, Samples, path_of
from .sequence import Sequence
from .windows import Builder, Place, Window

OTHERS = 20  # pictures that are tried in the place of one that cannot be decoded


@dataclass(frozen=True)
class ShardPicture(Picture):
    """A picture in a shard, or in what is kept of one. `entry.path` only names it."""

    content: Callable[[], bytes] = bytes

    def pixels(self, crop: Crop | None = None, flip: bool = False) -> Tensor:
        return training_pixels(self.entry.path, crop or self.crop, flip, self.by_alpha, self.content())


class ShardOrder(Order):
    """The order of a run's batches, as far as it can be told without all pictures: how long an epoch is, shows at its
    end."""

    def __init__(self, config: ResolvedConfig, sequence: Sequence, shards: int):
        self.config, self.sequence, self.shards = config, sequence, shards
        self.bucket_counts = {}
        self._begins = (0, 0)

    def number(self, step: int, micro: int, rank: int, world: int) -> int:
        """Return the number of one process's batch in the sequence that all processes share."""
        return self.consumed(step, world) + micro * world + rank

    def planned_epochs(self, steps: int, world: int = 1) -> float:
        return 0.0

    def epochs(self, step: int, world: int = 1) -> float:
        place = self.sequence.place(self.consumed(step, world))
        return place.epoch + place.shard / self.shards

    def epoch_of(self, step: int, world: int = 1) -> int:
        return self.sequence.place(self.consumed(step, world)).epoch


class ShardDataset(Dataset):
    """A run's shards as batches. Nothing is read before the first batch is asked for.

    wait: shows how far a window is that training waits for, (done, total); may raise.
    """

    order: ShardOrder

    def __init__(
        self,
        config: ResolvedConfig,
        subjects: Subjects,
        shards: list[Shard],
        folder: Path,
        warn: Warn,
        *,
        scaling_factor: float,
        inpainting: bool,
        world: int,
        wait: Callable[[int, int], None],
    ):
        self.config, self.scaling_factor, self.inpainting = config, scaling_factor, inpainting
        self.concepts, self.prior, self.entries = subjects.concepts, False, []
        self.pictures, self.held, self.posteriors = [], [], None
        self.cached, self.cache_dir = False, None
        self._variations = [concept.variation for concept in self.concepts]
        self.samples = PixelSamples(config, self._variations)
        self.shards, self.wait = shards, wait
        self.left_out = Bounded(warn)
        builder = Builder(config, Samples(config, self.concepts[0]), shards, folder, self.left_out)
        at_once = config.gradient_accumulation_steps * world
        self.sequence = Sequence(builder, slack=2 * at_once + 2 * WINDOW * world)
        self.order = ShardOrder(config, self.sequence, len(shards))

    def all_captions(self) -> list[str] | None:
        return None

    # --- where training is

    def place(self, batches: int) -> dict[str, Any]:
        return {"batches": batches, "place": asdict(self.sequence.place(batches))}

    def go_on(self, step: int, noted: Mapping[str, Any]) -> None:
        self.order.go_on(step, noted["batches"])
        self.sequence.begin(Place(**noted["place"]))

    def fill(self, step: int, micros: int, rank: int, world: int) -> tuple[int, int] | None:
        """Wait until the step's pictures are there."""
        self.sequence.of(self.order.number(step, micros - 1, rank, world), self.wait)
        return None

    # --- batches

    def batches(self, step: int, micro: int = 0, rank: int = 0, world: int = 1) -> list[Batch]:
        number = self.order.number(step, micro, rank, world)
        window = self.sequence.of(number)
        members = window.batches[number - window.place.batches]
        return [self.samples.batch([self._sample(window, index, 1 / len(members)) for index in members])]

    def _sample(self, window: Window, index: int, weight: float) -> Sample:
        """Make a training sample of a record. If it cannot be decoded, the next of its size in the window takes its
        place."""
        place, target = window.place, self._picture(window, index).crop.target
        reason: UserError | None = None
        others = (self._picture(window, n % len(window.records)) for n in range(index, index + len(window.records)))
        for picture in itertools.islice((one for one in others if one.crop.target == target), OTHERS):
            draw = generator(self.config.seed, "picture", place.epoch, place.samples + index)
            try:
                return self.samples.sample(picture, draw, weight)
            except UserError as error:
                if error.problem.code.startswith("shards."):
                    raise
                reason = reason or error
                self.left_out(Problem("shards.replaced", error.problem.field, reason=error.problem.message))
        assert reason is not None
        raise reason

    def _picture(self, window: Window, index: int) -> ShardPicture:
        record: Record = window.records[index]
        shard = self.shards[record.shard]
        size = record.width, record.height
        path = path_of(shard.title, record.key, record.ending)
        entry = Entry(path, record.captions[0], 0, others=record.captions[1:])

        def content() -> bytes:
            if window.content is not None:
                return readers.content_of(window.content, record.at, record.size, None)
            return readers.content_of(Path(shard.where), record.at, record.size, shard)

        return ShardPicture(entry, centre_crop(size, self.target(size)), "", content=content)

    def close(self) -> None:
        """Stop reading, and delete what is kept. Who waits for a picture is not kept waiting."""
        if not self.sequence.builder.is_over:
            self.sequence.close()
            self.left_out.close()
