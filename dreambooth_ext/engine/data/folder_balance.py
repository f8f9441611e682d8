"""How often each picture occurs in an epoch: by its repeats or, balanced, each folder as often as the largest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..runtime.seeds import generator
from .picture import Picture


@dataclass(frozen=True)
class FolderShare:
    """A folder's pictures of one size, `extra` of which occur once more in an epoch, different ones each time."""

    name: str
    members: list[int]
    extra: int

    def of(self, seed: int, epoch: int) -> Iterator[int]:
        """Yield the epoch's extra pictures. They cycle through the members in an order reshuffled each round, so that
        over the run no picture occurs more than once more often than another."""
        size = len(self.members)
        for turn in range(epoch * self.extra, (epoch + 1) * self.extra):
            round_, place = divmod(turn, size)
            if place == 0 or turn == epoch * self.extra:
                order = torch.randperm(size, generator=generator(seed, "balance", self.name, round_))
            yield self.members[int(order[place])]


@dataclass
class Composition:
    """The pictures of an epoch, as indexes. `always` are in every epoch, repeated as needed; `shares` add to them."""

    always: list[int]
    shares: list[FolderShare]

    def of(self, seed: int, epoch: int) -> list[int]:
        return self.always + [index for share in self.shares for index in share.of(seed, epoch)]


def compose(pictures: list[Picture], balanced: bool) -> Composition:
    """Set up the composition of the instance pictures. Every epoch has the same number of pictures of each size."""
    units = [i for i, p in enumerate(pictures) if not p.entry.is_class for _ in range(p.entry.repeats)]
    if not balanced:
        return Composition(units, [])
    folders: dict[tuple[int, str], dict[tuple[int, int], list[int]]] = {}
    for index in units:
        picture = pictures[index]
        sizes = folders.setdefault((picture.entry.concept, picture.entry.folder), {})
        sizes.setdefault(picture.crop.target, []).append(index)
    largest = max((sum(map(len, sizes.values())) for sizes in folders.values()), default=0)
    always, shares = [], []
    for folder, sizes in folders.items():
        slots = apportioned([len(members) for members in sizes.values()], largest)
        for (size, members), count in zip(sizes.items(), slots, strict=True):
            times, extra = divmod(count, len(members))
            always += members * times
            if extra:
                shares.append(FolderShare("/".join(map(str, (*folder, *size))), members, extra))
    return Composition(always, shares)


def apportioned(counts: list[int], total: int) -> list[int]:
    """Divide `total` in the proportions of `counts` into whole numbers, by largest remainder (Hamilton)."""
    divided = [divmod(total * count, sum(counts)) for count in counts]
    given = [whole for whole, _ in divided]
    by_remainder = sorted(range(len(counts)), key=lambda i: (-divided[i][1], i))
    for index in by_remainder[: total - sum(given)]:
        given[index] += 1
    return given
