"""The samples of a shard: consecutive files with the same name up to the first dot (webdataset's rule), of which one is
a picture and others may hold its caption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from ...core.config.stages import ResolvedConfig
from ...core.data import captions
from ...core.data.concepts import Concept
from ...core.data.folder_scan import EXTENSIONS, FORMATS
from ...core.data.picture_entries import instance_caption
from ...core.errors import UserError
from ...core.messages.message import Message
from ...core.shards.shard_checks import reads_captions
from ...core.system import files
from ..data.hub_dataset import ENDINGS
from ..pictures.picture_file import picture_size
from .parquet_reader import ParquetReader, Row
from .tar_members import Member, Reader, exactly, members

PICTURES = frozenset(ending.removeprefix(".") for ending in EXTENSIONS)
LARGEST_PICTURE = 2**28  # bytes of one picture's file
LARGEST_TEXT = 2**20  # bytes of a caption or its JSON
HEAD = 2**14  # bytes in which a picture's size usually stands
USUAL_KEYS = ("caption", "text", "prompt")  # of captions in JSON, after the run's own column


@dataclass(frozen=True)
class Record:
    """A sample that can be trained on. key: its name in the shard; at, size: where its picture's bytes are, in the
    shard or in what is kept of it; captions: as trained, before random changes."""

    shard: int
    key: str
    ending: str
    at: int
    size: int
    width: int
    height: int
    captions: tuple[str, ...]


class Keeper(Protocol):
    """Sees to it that a picture's bytes can be read again."""

    def keep(self, member: Member, reader: Reader) -> tuple[int, bytes]:
        """Return where the picture's bytes will be, and at least its first bytes, HEAD of them or all."""

    def whole(self, member: Member, reader: Reader, head: bytes) -> bytes:
        """Return all bytes of the picture whose first ones are `head`."""


class InPlace:
    """Leaves pictures in their shard, a file of this machine."""

    def keep(self, member: Member, reader: Reader) -> tuple[int, bytes]:
        return member.at, exactly(reader, min(member.size, HEAD))

    def whole(self, member: Member, reader: Reader, head: bytes) -> bytes:
        return head + exactly(reader, member.size - len(head))


class Bytes:
    """A `Reader` of bytes in memory."""

    identity = ""

    def __init__(self, name: str, content: bytes):
        self.name, self.at, self._content = name, 0, content

    def read(self, count: int) -> bytes:
        found = self._content[self.at : self.at + count]
        self.at += len(found)
        return found

    def skip(self, count: int) -> None:
        self.at += count

    def close(self) -> None:
        pass


@dataclass
class Sample:
    """What was found of one sample. reason: why it cannot be trained on, None if it can."""

    key: str
    begin: int  # where its first header is in the shard
    endings: list[str] = field(default_factory=list)
    ending: str = ""  # of its picture
    at: int = 0
    size: int = 0
    shape: tuple[int, int] = (0, 0)
    texts: dict[str, bytes] = field(default_factory=dict)
    reason: str | None = None  # a Message


class Samples:
    """Reads samples with the settings of a run."""

    def __init__(self, config: ResolvedConfig, concept: Concept):
        self.config, self.concept = config, concept
        self.reads_captions = reads_captions(config)
        self.text = concept.caption_extension.strip().lstrip(".").lower()

    def of(self, reader: Reader | ParquetReader, title: str, keeper: Keeper) -> Iterator[tuple[Sample, int | None]]:
        """Yield the samples from the reader's place on, each with the place where the next one begins; None after the
        last. title: the shard's, for the names of pictures."""
        if isinstance(reader, ParquetReader):
            for row, is_last in reader.rows((self.config.caption_column, *USUAL_KEYS)):
                yield self._of_row(row, reader.name, title, keeper), None if is_last else row.number + 1
            return
        now: Sample | None = None
        for member in members(reader):
            key, ending = split(member.name)
            if not key:
                continue
            if now is None or key != now.key:
                if now is not None:
                    yield now, member.header
                now = Sample(key, member.header)
            self._add(now, ending, member, reader, title, keeper)
        if now is not None:
            yield now, None

    def _add(self, now: Sample, ending: str, member: Member, reader: Reader, title: str, keeper: Keeper) -> None:
        now.endings.append(ending)
        if ending in PICTURES and not now.ending:
            if member.size > LARGEST_PICTURE:
                most = files.human_size(LARGEST_PICTURE)
                now.reason = Message("shards.sample_too_large", sample=f"{title}/{now.key}", most=most)
                return
            now.ending, now.size = ending, member.size
            now.at, head = keeper.keep(member, reader)
            try:
                now.shape = self._shape(now, title, member, reader, keeper, head)
            except UserError as error:
                now.reason = error.problem.message
        elif ending in (self.text, "json") and self.reads_captions and member.size <= LARGEST_TEXT:
            now.texts[ending] = exactly(reader, member.size)

    def _shape(
        self, now: Sample, title: str, member: Member, reader: Reader, keeper: Keeper, head: bytes
    ) -> tuple[int, int]:
        path = path_of(title, now.key, now.ending)
        try:
            return picture_size(path, content=head)
        except UserError:
            if len(head) >= member.size:
                raise
        return picture_size(path, content=keeper.whole(member, reader, head))  # its header is long

    def _of_row(self, row: Row, shard: str, title: str, keeper: Keeper) -> Sample:
        made = Sample(str(row.number), row.number, size=len(row.content))
        path = Path(title) / made.key
        if self.reads_captions and row.captions:
            made.texts["json"] = json.dumps({USUAL_KEYS[0]: row.captions}).encode()
        try:
            made.shape = picture_size(path, content=row.content)
            made.ending = ENDINGS[row.content[:2]].removeprefix(".")
        except (UserError, KeyError):
            why = Message("pictures.wrong_format", formats=FORMATS)
            made.reason = Message("pictures.unreadable", file=str(path), error=why)
            return made
        made.at, _ = keeper.keep(Member(made.key, 0, 0, made.size), Bytes(shard, row.content))
        return made

    def record(self, found: Sample, shard: int, title: str) -> Record | str:
        """Return what can be trained on, or why nothing can."""
        name = f"{title}/{found.key}"
        if found.reason:
            return found.reason
        if not found.ending:
            endings = ", ".join(f".{ending}" for ending in found.endings[:5])
            return Message("shards.sample_no_picture", sample=name, endings=endings or "-")
        try:
            texts = self._texts(found)
        except ValueError:
            return Message("shards.sample_bad_text", sample=name)
        if not texts and self.reads_captions and not self.concept.instance_prompt:
            return Message("shards.sample_no_caption", sample=name, ending=f".{self.text}")
        path = path_of(title, found.key, found.ending)
        words = [instance_caption(self.config, self.concept, path, text, "") for text in texts or (None,)]
        return Record(shard, found.key, found.ending, found.at, found.size, *found.shape, tuple(words))

    def _texts(self, found: Sample) -> tuple[str, ...]:
        """Return the captions that a sample brings: of its text, else of its JSON. Raises ValueError."""
        draws = self.config.captions_per_picture == "random"
        if self.text in found.texts and self.text != "json":
            lines = captions.lines_of(found.texts[self.text])
            if lines:
                return tuple(lines) if draws else (" ".join(lines),)
        if "json" not in found.texts:
            return ()
        said = files.parse_json(found.texts["json"])
        keys = (self.config.caption_column, *USUAL_KEYS)
        value = next((said[key] for key in keys if said.get(key)), "") if isinstance(said, dict) else ""
        given = [value] if isinstance(value, str) else value if isinstance(value, list) else []
        words = tuple(text for one in given if isinstance(one, str) and (text := " ".join(one.split())))
        return words if draws else words[:1]


def split(name: str) -> tuple[str, str]:
    """Split a member's name at the first dot of its last part, as webdataset does; ("", "") for hidden files, and those
    that belong to no sample (__index__)."""
    folder, slash, last = name.rpartition("/")
    stem, dot, ending = last.partition(".")
    if not stem or not dot or last.startswith("__"):
        return "", ""
    return folder + slash + stem, ending.lower()


def path_of(title: str, key: str, ending: str) -> Path:
    """What a picture in a shard is called: it is no file of its own."""
    return Path(title) / f"{key.strip('/')}.{ending}".replace("..", "_").replace("\0", "_")
