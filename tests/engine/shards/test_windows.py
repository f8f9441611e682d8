"""The order of samples: each once an epoch, the same for the same seed, from any place on, for any number of
processes."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.shards import readers, windows
from dreambooth_ext.engine.shards.samples import Samples
from dreambooth_ext.engine.shards.sequence import Sequence
from dreambooth_ext.engine.shards.windows import Builder, Place
from tests import shards

SETTINGS = {"method": "finetune", "use_captions": True, "resolution": 64, "seed": 3, "train_batch_size": 2}


def builder(where: str, warned: list | None = None, **settings) -> Builder:
    config = RunConfig(**{**SETTINGS, "train_shards_path_or_url": where, **settings})
    samples = Samples(config, Subjects.of(config).concepts[0])
    warn = (lambda problem: None) if warned is None else warned.append
    return Builder(config, samples, readers.listed(where), Path(where if Path(where).is_dir() else "."), warn)


def batches(made: Builder, begin: Place, count: int) -> list[list[str]]:
    """So many batches of the sequence, as captions."""
    sequence = Sequence(made, slack=2)
    sequence.begin(begin)
    found = []
    for number in range(begin.batches, begin.batches + count):
        window = sequence.of(number)
        members = window.batches[number - window.place.batches]
        found.append([window.records[index].captions[0] for index in members])
    sequence.close()
    return found


@pytest.mark.parametrize("buffer", [1, 3, 5, 9, 100])
def test_every_sample_comes_once_an_epoch(tmp_path, buffer):
    made = builder(shards.write(tmp_path, (3, 4, 2)), shuffle_buffer=buffer)
    place, seen = Place(), {0: [], 1: [], 2: []}
    while place.epoch < 3:
        window = made.build(place, lambda seconds: None)
        members = sorted(index for batch in window.batches for index in batch)
        assert len(window.records) <= buffer and members == [*range(len(window.records))]
        seen[place.epoch] += [record.captions[0] for record in window.records]
        assert window.next.batches == place.batches + len(window.batches)
        assert window.next.samples == (0 if window.next.epoch > place.epoch else place.samples + len(window.records))
        place = window.next
    for captions in seen.values():
        assert Counter(captions) == Counter(f"thing {number}" for number in range(9))
    assert len({tuple(captions) for captions in seen.values()}) > 1, "each epoch has an order of its own"


def test_the_order_is_the_seeds(tmp_path):
    where = shards.write(tmp_path, (5, 5, 5))
    one, again, other = (batches(builder(where, shuffle_buffer=6, seed=seed), Place(), 20) for seed in (3, 3, 4))
    assert one == again != other
    assert one[0] != ["thing 0", "thing 1"]


def test_it_goes_on_from_every_place(tmp_path):
    where = shards.write(tmp_path, (3, 4, 2))
    whole = batches(builder(where, shuffle_buffer=4), Place(), 30)
    sequence = Sequence(builder(where, shuffle_buffer=4), slack=2)
    for number in range(20):
        sequence.of(number)
        place = sequence.place(number)
        assert place.batches <= number
        again = batches(builder(where, shuffle_buffer=4), dataclasses.replace(place), 25 - number)
        assert again == whole[place.batches : place.batches + 25 - number], number
    sequence.close()


def test_buckets_are_kept_and_hold_one_size_each(tmp_path):
    sizes = ((256, 256), (320, 192), (192, 320))
    made = builder(shards.write(tmp_path, (5, 6), sizes), enable_bucket=True, resolution=256, shuffle_buffer=8)
    window = made.build(Place(), lambda seconds: None)
    shapes = [{(window.records[i].width, window.records[i].height) for i in batch} for batch in window.batches]
    assert all(len(shape) == 1 for shape in shapes) and len(set().union(*shapes)) == 3
    assert max(map(len, window.batches)) == 2


def tar_of(folder: Path, files: list[tuple[str, bytes]]) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "x.tar").write_bytes(shards.tar(files))
    return str(folder)


def captions_of(where: str, **settings) -> list[tuple[str, ...]]:
    window = builder(where, **settings).build(Place(), lambda seconds: None)
    return [record.captions for record in window.records]


def test_captions_come_from_text_or_json(tmp_path):
    told = [{"caption": "a red  thing"}, {"text": ["one", "two"]}, {"prompt": "three", "mine": "four"}]
    files = []
    for number, said in enumerate(told):
        files += [(f"{number}.jpg", shards.picture(number, kind="JPEG")), (f"{number}.json", json.dumps(said).encode())]
    files += [("9.webp", shards.picture(9, kind="WEBP")), ("9.txt", b"first\nsecond"), ("9.json", b'{"caption": "no"}')]
    where = tar_of(tmp_path, files)
    assert captions_of(where) == [("a red thing",), ("one",), ("three",), ("first second",)]
    assert captions_of(where, captions_per_picture="random")[1::2] == [("one", "two"), ("first", "second")]
    assert captions_of(where, caption_column="mine")[2] == ("four",)
    assert captions_of(where, instance_prompt="a photo of [filewords]")[0] == ("a photo of a red thing",)
    assert captions_of(where, use_captions=False, instance_prompt="a photo")[0] == ("a photo",)
    assert captions_of(where, caption_extension=".json")[3] == ("no",)


def test_samples_that_cannot_be_used_are_named_and_left_out(tmp_path):
    picture = shards.picture(1)
    files = [("0.png", picture), ("0.txt", b"kept"), ("1.png", picture), ("2.cls", b"7"), ("3.png", picture[:30]),
             ("3.txt", b"cut"), ("4.png", picture), ("4.txt", b"\xff\xfe\xff"), ("5.png", picture), ("5.json", b"{"),
             ("6.jpg", b"not a picture"), ("6.txt", b"none")]  # fmt: skip
    warned: list = []
    made = builder(tar_of(tmp_path, files), warned)
    for epoch in (0, 1):
        window = made.build(Place(epoch=epoch), lambda seconds: None)
        assert [record.key for record in window.records] == ["0"]
    reasons = [str(problem) for problem in warned]  # each told once
    assert len(reasons) == 6 and all("x.tar/" in reason for reason in reasons)
    assert "no caption" in reasons[0] and "only .cls" in reasons[1] and "neither UTF-8" in reasons[3]


def test_shards_without_anything_to_train_on(tmp_path, monkeypatch):
    made = builder(tar_of(tmp_path, [(f"{n}.png", shards.picture(n)) for n in range(20)]))
    with pytest.raises(UserError) as told:
        made.build(Place(), lambda seconds: None)
    assert told.value.problem.code == "shards.nothing_in_any"
    monkeypatch.setattr(windows, "ALL_BAD", 10)
    with pytest.raises(UserError) as told:
        made.build(Place(), lambda seconds: None)
    assert told.value.problem.code == "shards.nothing_usable" and "no caption" in str(told.value)


def test_a_cut_a_changed_and_a_vanished_shard_are_named(tmp_path):
    where = shards.write(tmp_path, (3,))
    path = tmp_path / "train-0000.tar"
    content = path.read_bytes()
    made = builder(where)
    path.write_bytes(content + b"\0")
    for code, change in (
        ("shards.changed", lambda: None),
        ("shards.missing", path.unlink),
        ("shards.cut", lambda: path.write_bytes(content[:9000])),
    ):
        change()
        fresh = builder(where) if code == "shards.cut" else made
        with pytest.raises(UserError) as told:
            fresh.build(Place(), lambda seconds: None)
        assert told.value.problem.code == code and "train-0000.tar" in str(told.value)
