"""Shards on Hugging Face: as its own file system lists and reads them, from a Hub on this machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests import shards, training
from tests.engine.downloads.servers import Answers, Server, served

TARS = {f"data/train-{n:04d}.tar": shards.tar([*shards.sample(2 * n), *shards.sample(2 * n + 1)]) for n in range(3)}
READS = """
import sys
from pathlib import Path
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.shards import readers
from dreambooth_ext.engine.shards.windows import Place
from tests.engine.shards.test_remote_shards import builder

pattern, folder = sys.argv[1:]
try:
    print(*(shard.title for shard in readers.listed(pattern)))
    window = builder(pattern, Path(folder)).build(Place(), lambda seconds: None)
    rest = builder(pattern, Path(folder) / "other").build(window.next, lambda seconds: None)
    print(*sorted(record.captions[0] for record in [*window.records, *rest.records]), sep=", ")
except UserError as error:
    print(error, file=sys.stderr)
    print(error.problem.code)
"""


class Hub(Server):
    """A data set of shards; closed ones answer 403."""

    class Paths(dict):
        def __missing__(self, path: str):
            return self["*"]


def entry(path: str) -> dict[str, object]:
    return {"type": "file", "oid": "a" * 40, "size": len(TARS[path]), "path": path}


def answer(http: Answers) -> None:
    path = http.path.partition("?")[0]
    if "/closed" in path:
        http.start(403, X_Error_Code="GatedRepo", Content_Length=0)
    elif found := re.fullmatch(r"/datasets/owner/name/resolve/\w+/(.+)", path):
        content, part = TARS[found[1]], re.fullmatch(r"bytes=(\d+)-(\d+)", http.headers["Range"])
        first, last = int(part[1]), int(part[2])
        http.start(206, Content_Length=last + 1 - first, Content_Range=f"bytes {first}-{last}/{len(content)}")
        http.wfile.write(content[first : last + 1])
    else:
        said: object = {"id": "owner/name", "sha": "b" * 40, "siblings": [], "private": False, "tags": []}
        if "/tree/" in path:
            top = {"type": "directory", "oid": "c" * 40, "size": 0, "path": "data"}
            said = [top] if path.endswith(("/main", "/main/")) else [*map(entry, TARS)]
        content = json.dumps(said).encode()
        http.start(Content_Type="application/json", Content_Length=len(content))
        http.wfile.write(content)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("hf://datasets/owner/name/data/*.tar", None),
        ("hf://datasets/owner/name/data/train-{0000..0002}.tar", None),
        ("hf://datasets/owner/closed/data/train-0000.tar", "shards.refused"),
    ],
)
def test_a_data_set_on_the_hub(tmp_path: Path, pattern: str, expected: str | None):
    with served() as server:
        server.answers = Hub.Paths({"*": answer})
        done = subprocess.run(
            [sys.executable, "-c", READS, pattern, str(tmp_path / "kept")],
            cwd=training.REPOSITORY,
            env={**os.environ, "HF_ENDPOINT": f"http://{server.host}", "HF_HOME": str(tmp_path), "HF_TOKEN": ""},
            capture_output=True,
            encoding="utf-8",
            timeout=120,
        )
    told = done.stdout.splitlines()
    assert told, done.stderr[-2000:]
    if expected:
        assert told[-1] == expected
    else:
        assert not done.stderr and told == [
            "train-0000.tar train-0001.tar train-0002.tar",
            "thing 0, thing 1, thing 2, thing 3, thing 4, thing 5",
        ]
