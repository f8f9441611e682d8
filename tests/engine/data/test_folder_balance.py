"""Folders that count alike, and captions that vary: counted."""

from __future__ import annotations

import collections
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dreambooth_ext.core.captions.variation import vary
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects, variation
from dreambooth_ext.core.data.entry import Entry
from dreambooth_ext.core.pictures.training_crop import centre_crop
from dreambooth_ext.engine.data.caption_variation import TorchDraw
from dreambooth_ext.engine.data.dataset import Dataset
from dreambooth_ext.engine.data.folder_balance import apportioned
from dreambooth_ext.engine.data.picture import Picture

SIZES = [(512, 512), (800, 600), (300, 1000)]
PICTURES = st.tuples(st.sampled_from(["", "a", "b"]), st.sampled_from(SIZES), st.integers(1, 3))


def arranged(pictures: list[tuple[str, tuple[int, int], int]], **values) -> Dataset:
    """A dataset of pictures with folder, size and repeats; there are no files behind it."""
    config = RunConfig(resolution=512, enable_bucket=True, balance_folders=True, **values)
    entries = [Entry(Path(f"{i}.png"), f"{i}", 0, repeats=n, folder=f) for i, (f, _, n) in enumerate(pictures)]
    made = Dataset(config, Subjects.of(config), entries, 1.0)
    found = [
        Picture(entry, centre_crop(size, made.target(size)), "")
        for entry, (_, size, _) in zip(entries, pictures, strict=True)
    ]
    made.arrange(found)
    return made


def shown(made: Dataset, epoch: int) -> collections.Counter:
    plan = made.order.epoch(epoch)
    return collections.Counter(plan.pictures[place] for batch in plan.batches for place in batch)


@settings(max_examples=100, deadline=None)
@given(st.lists(PICTURES, min_size=1, max_size=40), st.integers(1, 5))
def test_each_folder_counts_as_the_largest(pictures, batch_size):
    made = arranged(pictures, train_batch_size=batch_size)
    units = collections.Counter()
    for folder, _, repeats in pictures:
        units[folder] += repeats
    largest = max(units.values())
    for epoch in range(3):
        counts = shown(made, epoch)
        by_folder = collections.Counter()
        for index, count in counts.items():
            by_folder[pictures[index][0]] += count
        assert by_folder == dict.fromkeys(units, largest)
        assert all(counts[index] >= repeats for index, (_, _, repeats) in enumerate(pictures))
        assert len(made.order.epoch(epoch).batches) == made.order.batches_per_epoch


def test_over_the_epochs_no_picture_is_preferred():
    made = arranged([("many", SIZES[0], 1)] * 10 + [("few", SIZES[0], 1)] * 4)
    total = sum((shown(made, epoch) for epoch in range(14)), collections.Counter())
    assert {total[index] for index in range(10)} == {14}
    assert {total[index] for index in range(10, 14)} == {35}  # 10 of 4 in each of 14 epochs
    assert shown(made, 0) != shown(made, 1)


def test_of_the_seed_and_the_epoch_alone():
    pictures = [("many", SIZES[0], 1)] * 9 + [("few", SIZES[0], 1)] * 4
    one, two = arranged(pictures), arranged(pictures)
    two.order.epoch(0)
    assert one.order.epoch(5).pictures == two.order.epoch(5).pictures
    assert one.order.epoch(5).pictures != arranged(pictures, seed=1).order.epoch(5).pictures


@given(st.lists(st.integers(1, 50), min_size=1, max_size=8), st.integers(1, 500))
def test_shares_are_whole_and_near(counts, total):
    given = apportioned(counts, total)
    assert sum(given) == total
    assert all(
        abs(share - Fraction(total * count, sum(counts))) < 1 for share, count in zip(given, counts, strict=True)
    )


# --- captions


def drawn(captions: tuple[str, ...], times: int = 2000, **values) -> list[str]:
    changes = variation(RunConfig(**values))
    found = []
    for index in range(times):
        draw = torch.Generator().manual_seed(index)
        found.append(vary(captions, changes, torch.rand((), generator=draw).item(), TorchDraw(draw)))
    return found


def test_tags_are_dropped_by_their_share_and_leading_ones_stay():
    found = drawn(("sks, a, b, c",), tag_dropout=0.3, keep_tokens=1)
    assert all(caption.startswith("sks") for caption in found)
    for tag in "abc":
        assert sum(tag in caption.split(", ") for caption in found) / len(found) == pytest.approx(0.7, abs=0.04)
    both = sum({"a", "b"} <= set(caption.split(", ")) for caption in found) / len(found)
    assert both == pytest.approx(0.49, abs=0.04)  # each by itself
    assert all(caption.split(", ") == sorted(caption.split(", "), key="sabc".index) for caption in
               [c.replace("sks", "s") for c in found])  # fmt: skip  # in their order


def test_all_tags_dropped():
    assert set(drawn(("a, b",), 20, tag_dropout=1.0)) == {""}
    assert set(drawn(("a, b",), 20, tag_dropout=1.0, keep_tokens=1)) == {"a"}


def test_shuffle_and_dropout_together():
    found = drawn(("k, a, b, c, d",), tag_dropout=0.5, shuffle_tags=True, keep_tokens=1)
    assert {tuple(sorted(caption.split(", ")[1:])) for caption in found} >= {(), ("a",), ("a", "b", "c", "d")}
    assert any(caption.index("b") < caption.index("a") for caption in found if "a" in caption and "b" in caption)


def test_other_separators():
    found = drawn(("a, b; c; d",), 200, shuffle_tags=True, caption_separator=";", keep_tokens=1)
    assert set(found) == {"a, b, c, d", "a, b, d, c"}


def test_several_captions_come_up_alike():
    counts = collections.Counter(drawn(("one", "two", "three"), 3000))
    assert set(counts) == {"one", "two", "three"}
    assert all(count == pytest.approx(1000, abs=120) for count in counts.values())
    assert drawn(("one", "two"), 50) == drawn(("one", "two"), 50)


def captions_of(entries: list[Entry], **values) -> list[str] | None:
    config = RunConfig(resolution=512, **values)
    made = Dataset(config, Subjects.of(config), entries, 1.0)
    made.arrange([Picture(entry, centre_crop((512, 512), (512, 512)), "") for entry in entries])
    return made.all_captions()


def test_every_caption_that_can_come_up_is_listed():
    """Frozen text encoders are asked for these, and then let go."""
    several = Entry(Path("1.png"), "one", 0, others=("two",))
    held = Entry(Path("2.png"), "three", 0, is_held=True)
    assert captions_of([several, held]) == ["one", "two", "three"]
    assert captions_of([several, held], caption_dropout=0.1) == ["one", "two", "three", ""]
    assert captions_of([several], tag_dropout=0.1) is None
    assert captions_of([several], tag_dropout=0.1, keep_tokens=1) == ["one", "two"]
    tight = [Entry(Path("1.png"), "a,b", 0)]
    assert captions_of(tight, shuffle_tags=True, keep_tokens=1) == ["a,b"]
    assert set(drawn(("a,b",), 20, shuffle_tags=True, keep_tokens=1)) == {"a,b"}  # as listed, letter by letter
