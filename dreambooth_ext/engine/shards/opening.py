"""Opens a run's shards: lists them, notes which they are, and looks into the first before anything is trained."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

from ...core.config import links
from ...core.config.parsing import shown, some
from ...core.config.stages import ResolvedConfig
from ...core.data.concepts import Subjects
from ...core.errors import Problem, UserError
from ...core.messages.message import Message
from ...core.shards.shard_names import FIELD, PARQUET
from ...core.system import files
from ..data.picture_checks import Warn
from . import readers
from .readers import Shard
from .samples import InPlace, Samples
from .tar_members import BLOCK, END, members
from .windows import Builder

LIST = "shards.json"  # in the run's folder
FOLDER = "shards"  # the same: what is kept of remote ones
LOOKED_AT = 16  # samples
MOST_CHECKED = 10_000  # local shards whose ends are looked at
USUAL_BYTES = 300_000  # of a picture's file
KEPT = 3  # windows on disk at once: the last, the one that is trained on, and the next


def kept_bytes(config: ResolvedConfig) -> int:
    """Return about how many bytes of remote pictures a run keeps on disk."""
    text = config.train_shards_path_or_url
    is_kept = links.is_link(text) or text.lower().endswith(PARQUET)
    return KEPT * config.shuffle_buffer * USUAL_BYTES if is_kept else 0


Row = tuple[str, int, int]  # a shard's name, and of a local one its bytes and time


def noted(run: Path, shards: list[Shard], warn: Warn) -> list[Row]:
    """Return the shards that a run has noted at its first start, which it does here. Done by one process."""
    if not (run / LIST).exists():
        files.write_json(run / LIST, [[shard.name, shard.size, shard.time] for shard in shards])
    try:
        rows = [(str(name), int(size), int(time)) for name, size, time in files.read_json(run / LIST)]
    except (OSError, TypeError, ValueError) as error:
        raise UserError("pictures.list_damaged", "run", file=LIST, run=run.name) from error
    if added := len({shard.name for shard in shards} - {name for name, _, _ in rows}):
        warn(Problem("shards.added", FIELD, count=added))
    return rows


def of_run(rows: list[Row], shards: list[Shard], by_time: bool) -> list[Shard]:
    """Return the shards that a run has noted, in its order. by_time: these are the files themselves, not another
    machine's copies. Raises UserError if some are gone or have changed."""
    known = {shard.name: shard for shard in shards}
    if gone := [name for name, _, _ in rows if name not in known]:
        raise UserError("shards.gone", FIELD, names=some(gone))
    for name, size, when in rows:
        if known[name].size != size or (by_time and known[name].time != when):
            raise UserError("shards.changed", FIELD, shard=name)
    return [known[name] for name, _, _ in rows]


def require_whole(shards: list[Shard]) -> None:
    """Raise UserError for a local shard that ends too early: a tar ends with empty blocks."""
    local = [shard for shard in shards if shard.is_in_place]
    for shard in local[:: -(-len(local) // MOST_CHECKED) or 1]:
        if readers.content_of(Path(shard.where), max(0, shard.size - BLOCK), min(BLOCK, shard.size), shard) != END:
            with contextlib.closing(readers.LocalReader(shard, 0)) as reader:
                for _ in members(reader):  # what follows the end does no harm
                    pass


def look(config: ResolvedConfig, subjects: Subjects, shards: list[Shard]) -> None:
    """Read the first samples. Raises UserError if the shard cannot be read, or none of them can be trained on."""
    require_whole(shards)
    samples = Samples(config, subjects.concepts[0])
    builder = Builder(config, samples, shards, Path(), lambda problem: None)
    index = builder.order(0)[0]
    shard, count = shards[index], 0
    reason: str = Message("shards.no_sample")
    with contextlib.closing(readers.opened(shard, 0, "", time.sleep)) as reader:
        for found, _ in samples.of(reader, shard.title, InPlace()):
            made = samples.record(found, index, shard.title)
            if not isinstance(made, str):
                return
            reason, count = made, count + 1
            if count == LOOKED_AT:
                break
    raise UserError("shards.nothing_usable", FIELD, count=count, shard=shown(shard.name), reason=reason)


def listed(config: ResolvedConfig) -> list[Shard]:
    return readers.listed(links.whole(config.train_shards_path_or_url))
