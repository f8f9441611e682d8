"""Which pictures make an epoch: each as often as its repeats say, or each folder as often as the largest."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from ..runtime.seeds import generator
from .picture import Picture


@dataclass(frozen=True)
class FolderShare:
    """A folder's pictures of one size, and how many of them come up once more in an epoch: others each time."""

    name: str
    members: list[int]
    extra: int

    def of(self, seed: int, epoch: int) -> Iterator[int]:
        """The epoch's extra ones. They go through the members in turn, in a new order each round, so that over the
        run none comes up more than once more often than another."""
        size = len(self.members)
        for turn in range(epoch * self.extra, (epoch + 1) * self.extra):
            round_, place = divmod(turn, size)
            if place == 0 or turn == epoch * self.extra:
                order = torch.randperm(size, generator=generator(seed, "balance", self.name, round_))
            yield self.members[int(order[place])]


@dataclass
class Composition:
    """`always` are in every epoch, an index for each time; `shares` add to them."""

    always: list[int]
    shares: list[FolderShare]

    def of(self, seed: int, epoch: int) -> list[int]:
        return self.always + [index for share in self.shares for index in share.of(seed, epoch)]


def compose(pictures: list[Picture], balanced: bool) -> Composition:
    """Of the instance pictures among these. An epoch has as many of each size always, whatever it is made of."""
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
    """`total` in the proportions of `counts`, in whole numbers: the largest remainders are rounded up (Hamilton)."""
    divided = [divmod(total * count, sum(counts)) for count in counts]
    given = [whole for whole, _ in divided]
    by_remainder = sorted(range(len(counts)), key=lambda i: (-divided[i][1], i))
    for index in by_remainder[: total - sum(given)]:
        given[index] += 1
    return given
