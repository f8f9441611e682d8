"""Parquet files as shards: the same samples as tar files give, from any row on; what cannot be read is named."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import fsspec
import pytest

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.shards import readers
from dreambooth_ext.engine.shards.windows import Place
from tests import shards, training
from tests.engine.shards.test_remote_shards import builder
from tests.engine.shards.test_shard_runs import SETTINGS
from tests.engine.shards.test_windows import batches
from tests.engine.worker.test_resume import check
from tests.training import Trainer

has_pyarrow = importlib.util.find_spec("pyarrow") is not None
needs_pyarrow = pytest.mark.skipif(not has_pyarrow, reason="pyarrow is not installed")


def table(numbers, captions: str = "text", rows_each: int = 2, as_struct: bool = True) -> bytes:
    import pyarrow
    import pyarrow.parquet

    pictures = [shards.picture(number) for number in numbers]
    image = [{"bytes": one, "path": None} for one in pictures] if as_struct else pictures
    columns = {"id": list(numbers), "image": image, captions: [f"thing {number}" for number in numbers]}
    made = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), made, row_group_size=rows_each)
    return made.getvalue()


def write(folder: Path, counts, **about) -> str:
    folder.mkdir()
    begin = 0
    for index, count in enumerate(counts):
        (folder / f"train-{index:05d}.parquet").write_bytes(table(range(begin, begin + count), **about))
        begin += count
    return str(folder)


@pytest.mark.skipif(has_pyarrow, reason="pyarrow is installed")
def test_without_pyarrow_it_says_what_to_install(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError) as told:
        builder(str(tmp_path), tmp_path / "kept").build(Place(), lambda seconds: None)
    assert told.value.problem.code == "shards.needs_pyarrow" and "pyarrow" in told.value.problem.remedy


@needs_pyarrow
@pytest.mark.parametrize("as_struct", [True, False])
@pytest.mark.parametrize("rows_each", [1, 2, 100])
def test_the_same_order_as_of_tar_files(tmp_path, as_struct, rows_each):
    tars = shards.write(tmp_path / "tars", (3, 4, 2))
    where = write(tmp_path / "tables", (3, 4, 2), as_struct=as_struct, rows_each=rows_each)
    expected = batches(builder(tars, tmp_path / "a"), Place(), 14)
    assert batches(builder(where, tmp_path / "b"), Place(), 14) == expected


@needs_pyarrow
def test_it_goes_on_from_every_row(tmp_path):
    where = write(tmp_path / "tables", (5, 6), rows_each=3)
    made = builder(where, tmp_path / "kept")
    place = Place()
    while place.epoch < 2:
        window = made.build(place, lambda seconds: None)
        again = builder(where, tmp_path / "again").build(place, lambda seconds: None)
        assert again.records == window.records and again.batches == window.batches
        for record in window.records:
            content = readers.content_of(window.content, record.at, record.size, None)
            assert content == shards.picture(int(record.captions[0].split()[1]))
        window.close()
        again.close()
        place = window.next


@needs_pyarrow
def test_columns(tmp_path):
    where = write(tmp_path / "tables", (2,), captions="mine")
    window = builder(where, tmp_path / "kept", caption_column="mine").build(Place(), lambda seconds: None)
    assert sorted(record.captions[0] for record in window.records) == ["thing 0", "thing 1"]
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "none.parquet")
    for name, code in (("none", "shards.no_column"), ("damaged", "shards.not_parquet")):
        (tmp_path / "damaged.parquet").write_bytes((tmp_path / "none.parquet").read_bytes()[:-20])
        with pytest.raises(UserError) as told:
            builder(str(tmp_path / f"{name}.parquet"), tmp_path / "k").build(Place(), lambda seconds: None)
        assert told.value.problem.code == code and f"{name}.parquet" in str(told.value)


@needs_pyarrow
def test_rows_without_a_picture_are_left_out(tmp_path):
    import pyarrow
    import pyarrow.parquet

    image = [{"bytes": None, "path": "a.png"}, {"bytes": b"GIF89a", "path": None},
             {"bytes": shards.picture(1), "path": None}]  # fmt: skip
    pyarrow.parquet.write_table(pyarrow.table({"image": image, "caption": ["a", "b", "c"]}), tmp_path / "x.parquet")
    window = builder(str(tmp_path / "x.parquet"), tmp_path / "kept").build(Place(), lambda seconds: None)
    assert [record.captions for record in window.records] == [("c",)]


@needs_pyarrow
def test_a_remote_one_that_fails_in_the_middle(tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.pipe("/set/a.parquet", table(range(40), rows_each=4))
    left, opened = [3], type(memory).open

    def open_sometimes(self, *given, **options):
        file = opened(self, *given, **options)
        read, count = file.read, [0]

        def stutters(*some):
            count[0] += 1
            if left[0] and count[0] > 6:
                left[0] -= 1
                raise RuntimeError("the connection broke")
            return read(*some)

        file.read = stutters
        return file

    monkeypatch.setattr(type(memory), "open", open_sometimes)
    window = builder("memory://set", tmp_path, shuffle_buffer=100).build(Place(), lambda seconds: None)
    assert [record.captions[0] for record in window.records] == [f"thing {number}" for number in range(40)]
    assert left == [0]
    memory.rm("/set", recursive=True)


@needs_pyarrow
def test_a_run_goes_on_to_the_same_bits(tmp_path):
    trainer = Trainer(tmp_path, train_shards_path_or_url=write(tmp_path / "tables", (3, 4, 2)), **SETTINGS)
    whole = check(trainer, (2, 5))
    tars = trainer.train(train_shards_path_or_url=shards.write(tmp_path / "tars", (3, 4, 2)))
    assert training.difference(training.weights(tars), training.weights(whole)) == ""
