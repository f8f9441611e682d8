"""The shards that a setting names: a folder, a file, or a pattern with {0000..0099}, {a,b} and *.

Braces are expanded as in shells and in the library webdataset; ranges keep their leading zeros.
"""

from __future__ import annotations

import glob
import itertools
import math
import re
from pathlib import Path

from ..config import links
from ..config.parsing import shown
from ..data.captions import natural_key
from ..errors import UserError
from ..system.files import expanded

FIELD = "train_shards_path_or_url"
TAR, PARQUET = ".tar", ".parquet"
PACKED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst", ".zip", ".arrow")
MOST = 100_000  # shards; of a gigabyte each, 100 TB
GROUP = re.compile(r"\{([^{}]*)\}")
RANGE = re.compile(r"(\d{1,9})\.\.(\d{1,9})")


def names(pattern: str) -> list[str]:
    """Expand the braces of a pattern. Raises UserError if they cannot be expanded."""
    parts = GROUP.split(pattern)  # texts, and between them what is in braces
    if any(set(text) & set("{}") for text in parts[::2]):
        raise UserError("shards.bad_braces", FIELD, text=shown(links.bare(pattern)))
    choices = [[part] if index % 2 == 0 else _choices(part) for index, part in enumerate(parts)]
    count = math.prod(map(len, choices))
    if count > MOST:
        raise UserError("shards.too_many", FIELD, count=count, most=MOST)
    return ["".join(one) for one in itertools.product(*choices)]


def _choices(text: str) -> list[str]:
    """What a pair of braces stands for."""
    if found := RANGE.fullmatch(text):
        first, last = found.groups()
        if int(first) > int(last) or int(last) - int(first) >= MOST:
            raise UserError("shards.bad_range", FIELD, text=shown(text), most=MOST)
        digits = len(first) if first.startswith("0") else 0
        return [f"{number:0{digits}d}" for number in range(int(first), int(last) + 1)]
    if "," not in text or ".." in text:
        raise UserError("shards.bad_braces", FIELD, text=shown("{" + text + "}"))
    return text.split(",")


def has_wildcard(name: str) -> bool:
    return any(mark in name for mark in "*?[")


def local(pattern: str) -> list[Path]:
    """The files of a pattern without a link, in natural order. Raises UserError for one that is not there, and if there
    is none; OSError if a folder cannot be read."""
    found: list[Path] = []
    for name in names(pattern):
        path = expanded(name)
        if path.is_dir():
            inside = of_folder([str(one) for one in path.iterdir()])
            if not inside:
                raise UserError("shards.none_in_folder", FIELD, folder=shown(str(path)))
            found += map(Path, inside)
        elif has_wildcard(name) and not path.exists():
            matching = sorted((Path(one) for one in glob.glob(str(path))), key=natural_key)
            if not matching:
                raise UserError("shards.none_match", FIELD, text=shown(name))
            found += matching
        elif path.exists():
            found.append(path)
        else:
            raise UserError("shards.missing", FIELD, shard=shown(str(path)))
    require_tar([str(path) for path in found])
    return found


def of_folder(inside: list[str]) -> list[str]:
    """The shards among a folder's files, in natural order: its .tar files or, if there is none, its .parquet files."""
    kinds = ([name for name in inside if name.lower().endswith(ending)] for ending in (TAR, PARQUET))
    return sorted(next((kind for kind in kinds if kind), []), key=natural_key)


def require_tar(found: list[str]) -> None:
    """Raise UserError for a shard in a format that cannot be read from its middle, as plain tar and Parquet can."""
    packed = next((name for name in found if name.lower().endswith(PACKED)), None)
    if packed:
        raise UserError("shards.packed", FIELD, shard=shown(links.bare(packed) if links.is_link(packed) else packed))
