"""Reads the rows of a Parquet file with pictures in it, as Hugging Face's data sets have them, from any row on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import UserError
from ...core.shards.shard_names import FIELD
from ..data.hub_dataset import picture_column
from .retries import PAUSES, Rest

ROWS = 32  # read at once; of 300 KB, 10 MB
Opening = Callable[[], tuple[Any, str]]  # a file that can be read anywhere, and what its content is known by
Failed = Callable[[Exception, bool], None]  # raises what the user is told, unless another try is worthwhile


@dataclass(frozen=True)
class Row:
    """A picture's file and its captions; `content` is empty where there is none."""

    number: int
    content: bytes
    captions: tuple[str, ...]


class ParquetReader:
    """One file's rows. name: for messages; at: the number of the next row; identity: see `tar_members.Reader`.

    What fails is tried again from the row where it was.
    """

    def __init__(self, name: str, at: int, identity: str, opening: Opening, failed: Failed, rest: Rest):
        self.name, self.at, self.identity = name, at, identity
        self._opening, self._failed, self._rest = opening, failed, rest
        self._file: Any = None

    def rows(self, columns: Sequence[str]) -> Iterator[tuple[Row, bool]]:
        """Yield the rows from `at` on, each with whether it is the last. columns: the names that captions may have, the
        first one first."""
        pauses = iter(PAUSES)
        while True:
            before = self.at
            try:
                yield from self._rows(columns)
                return
            except UserError:
                raise
            except Exception as error:  # pyarrow's, the file system's, its packages'
                self.close()
                pauses = iter(PAUSES) if self.at > before else pauses
                pause = next(pauses, None)
                self._failed(error, pause is None)
                assert pause is not None
                self._rest(pause)

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None

    def _rows(self, columns: Sequence[str]) -> Iterator[tuple[Row, bool]]:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError as error:
            raise UserError("shards.needs_pyarrow", FIELD) from error
        self._file, said = self._opening()
        if self.identity and said != self.identity:
            raise UserError("shards.changed", FIELD, shard=self.name)
        self.identity = said
        try:
            table = pyarrow.parquet.ParquetFile(self._file)
        except pyarrow.ArrowInvalid as error:
            raise UserError("shards.not_parquet", FIELD, shard=self.name) from error
        picture, caption = self._columns(table.schema_arrow, columns)
        wanted, total, number = [name for name in (picture, caption) if name], table.metadata.num_rows, 0
        for group in range(table.num_row_groups):
            count = table.metadata.row_group(group).num_rows
            if number + count <= self.at:
                number += count
                continue
            for batch in table.iter_batches(ROWS, row_groups=[group], columns=wanted):
                for said_of in batch.to_pylist() if number + len(batch) > self.at else [None] * len(batch):
                    number += 1
                    if number > self.at and said_of is not None:
                        self.at = number
                        words = _words(said_of[caption]) if caption else ()
                        yield Row(number - 1, _content(said_of[picture]), words), number == total

    def _columns(self, schema: Any, columns: Sequence[str]) -> tuple[str, str]:
        """Return the names of the columns with pictures and captions, "" if there are no captions."""
        try:
            picture = picture_column(schema)
        except UserError:
            raise UserError("shards.no_column", FIELD, shard=self.name, names=list(schema.names)) from None
        texts = {field.name for field in schema if "string" in str(field.type)}
        return picture, next((name for name in columns if name in texts), "")


def _content(value: Any) -> bytes:
    return (value.get("bytes") if isinstance(value, dict) else value) or b""


def _words(value: Any) -> tuple[str, ...]:
    given = value if isinstance(value, list) else [value]
    return tuple(text for one in given if isinstance(one, str) and (text := " ".join(one.split())))
