"""Which pictures each batch contains. Everything follows from (seed, step, rank), so that any batch can be asked for.

An epoch contains every instance picture once (times its repeats, or as often as `balance_folders` says), in an order
drawn from (seed, epoch) and divided into batches of one size; the last batch of a bucket may be smaller. Epochs follow
each other seamlessly: the batch is number (step * accumulation + micro) * world + rank of an endless sequence, so
nothing is dropped or repeated if the numbers do not divide, and ranks never get the same batch. If a run resumes with
another number of processes, steps count on from there, and batches from those already consumed.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...core.config.stages import ResolvedConfig
from ..runtime.seeds import generator
from .folder_balance import compose
from .picture import Picture


@dataclass
class Epoch:
    """The order of one epoch. A place is an index into it."""

    pictures: list[int]  # place -> index into the pictures
    turns: list[int]  # place -> how many pictures of the same concept came before; picks the class picture
    batches: list[list[int]]  # places, batch by batch


@dataclass(frozen=True)
class Turn:
    """A picture's place in a batch."""

    picture: int  # index into the pictures
    drawn_by: tuple[str | int, ...]  # with the run's seed, determines all of its random numbers
    weight: float  # its share of the loss


class Order:
    """The order of a run's instance and class pictures; held-out pictures are not part of it."""

    def __init__(self, config: ResolvedConfig, pictures: Sequence[Picture]):
        self.config, self.pictures = config, pictures
        self.classes: dict[int, list[int]] = {}  # concept -> indexes of its class pictures
        for index, picture in enumerate(pictures):
            if picture.entry.is_class:
                self.classes.setdefault(picture.entry.concept, []).append(index)
        self._composition = compose(list(pictures), config.balance_folders)
        instances = self._composition.of(config.seed, 0)
        self._counts = Counter(pictures[index].entry.concept for index in instances)
        self.bucket_counts = dict(Counter(pictures[index].crop.target for index in instances))
        self.batches_per_epoch = sum(math.ceil(n / config.train_batch_size) for n in self.bucket_counts.values())
        self._begins = (0, 0)  # a step, and the batches that all processes had consumed before it
        self._lock = threading.Lock()  # guards the two below: batches are made in several threads
        self._epochs: dict[int, Epoch] = {}
        self._class_orders: dict[tuple[int, int], list[int]] = {}

    # --- how long

    def steps(self, epochs: float, world: int = 1) -> int:
        """Return the number of optimizer steps for `epochs` epochs."""
        return math.ceil(epochs * self.batches_per_epoch / (self.config.gradient_accumulation_steps * world))

    def go_on(self, step: int, consumed: int) -> None:
        """Let `step` start with batch number `consumed`."""
        self._begins = (step, consumed)

    def consumed(self, step: int, world: int = 1) -> int:
        """Return how many batches all processes together have consumed before `step`."""
        begun, before = self._begins
        return before + (step - begun) * self.config.gradient_accumulation_steps * world

    def epochs(self, step: int, world: int = 1) -> float:
        """Return how many epochs have passed before `step`, as a fraction."""
        return self.consumed(step, world) / self.batches_per_epoch

    def epoch_of(self, step: int, world: int = 1) -> int:
        """Return the epoch, counted from 0, in which a step begins."""
        return self.consumed(step, world) // self.batches_per_epoch

    def planned_epochs(self, steps: int, world: int = 1) -> float:
        """Return how many epochs a run of so many steps has; 0 if that is not known."""
        return self.epochs(steps, world)

    # --- batches

    def batch(self, step: int, micro: int = 0, rank: int = 0, world: int = 1) -> list[Turn]:
        """Return the instance pictures of one process's micro-step, followed by a class picture for each."""
        accumulation = self.config.gradient_accumulation_steps
        assert 0 <= micro < accumulation and 0 <= rank < world, (micro, rank)
        number = self.consumed(step, world) + micro * world + rank
        index, position = divmod(number, self.batches_per_epoch)
        epoch = self.epoch(index)
        places = epoch.batches[position]
        turns = [Turn(epoch.pictures[place], ("picture", index, place), 1 / len(places)) for place in places]
        return turns + self._class_turns(epoch, index, places)

    def epoch(self, number: int) -> Epoch:
        with self._lock:
            if number not in self._epochs:
                while len(self._epochs) >= 2:  # two, for batches around the end of an epoch
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

    def _class_turns(self, epoch: Epoch, number: int, places: list[int]) -> list[Turn]:
        """Return a class picture of the same concept for each instance picture. Each concept cycles through its class
        pictures."""
        turns = []
        for place in places:
            concept = self.pictures[epoch.pictures[place]].entry.concept
            pool = self.classes.get(concept)
            if pool is None:
                continue
            turn = number * self._counts[concept] + epoch.turns[place]
            round_, position = divmod(turn, len(pool))
            picture = pool[self._class_order(concept, round_)[position]]
            weight = self.config.prior_loss_weight / len(places)
            turns.append(Turn(picture, ("class picture", concept, turn), weight))
        return turns

    def _class_order(self, concept: int, number: int) -> list[int]:
        key = (concept, number)
        with self._lock:
            if key not in self._class_orders:
                while len(self._class_orders) > 2 * len(self.classes):
                    self._class_orders.pop(next(iter(self._class_orders)))
                draw = generator(self.config.seed, "class order", concept, number)
                self._class_orders[key] = torch.randperm(len(self.classes[concept]), generator=draw).tolist()
            return self._class_orders[key]
