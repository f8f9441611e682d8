"""A trainer that only pretends to download: `download` as the host hears it.

In its folder, "wait" holds a fetch up in its middle, and "problem" holds the code that it fails with.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.host.asking import Asked

VERB = """
import argparse, hashlib, json, os, pathlib, sys, time
from dreambooth_ext.core.config import links
from dreambooth_ext.core.errors import Problem
from dreambooth_ext.core.verbs import download_options
folder = pathlib.Path(sys.argv[1])
parser = argparse.ArgumentParser()
download_options.add_arguments(parser)
download_options.add_hidden(parser)
given = parser.parse_args(sys.argv[5:])
whole = links.whole(links.found(given.link, links.taken()))
with (folder / "calls.jsonl").open("a") as calls:
    known = {"words": sys.argv[5:], "link": whole, "key": os.environ.get("CIVITAI_API_KEY", "")}
    calls.write(json.dumps(known) + "\\n")

def say(**values):
    print(json.dumps(values), flush=True)

def problem(code, **values):
    say(problem=Problem(code, "link", **values).as_dict())
    print("error: told", file=sys.stderr)
    sys.exit(1)

name = given.file[0] if given.file else links.bare(given.link).rpartition("/")[2] or "model.safetensors"
into = pathlib.Path(dict(given.folder).get("lora" if "lora" in name else "checkpoint", folder))
place = into / (".download-" + hashlib.sha256(name.encode()).hexdigest()[:16])
code = (folder / "problem").read_text() if (folder / "problem").exists() else ""
try:
    if code.startswith("look "):
        problem(code[5:], status=403)
    if not given.any_file:
        link = "https://civitai.com/models/10?modelVersionId=20" if "civitai" in whole else links.bare(whole)
        say(facts={
            "site": "Civitai", "link": link, "is_whole": "token" not in whole, "name": name, "title": "Portraits v2",
            "size": 4000, "sha256": "ab" * 32, "kind": "lora" if "lora" in name else "checkpoint", "family": "SD 1.5",
            "licence": "openrail", "notes": [],
            "choices": [{"name": name, "size": 4000}, {"name": "b.ckpt", "size": 9}],
            "version": "v1", "folder": str(into), "new_name": "", "free": 10**11, "has_room": True, "received": 0,
            "place": str(place), "is_resumable": True,
        })
    if given.look:
        sys.exit(0)
    if given.expect and code == "other":
        problem("download.other_version", name=name)
    place.mkdir(parents=True, exist_ok=True)
    part = place / (name + ".part")
    for done in range(part.stat().st_size if part.exists() else 0, 4001, 1000):
        part.write_bytes(b"x" * done)
        say(progress={"stage": "stages.downloading", "done": done, "of": 4000})
        while done >= 2000 and (folder / "wait").exists():
            time.sleep(0.02)
    if code == "crash":
        raise MemoryError
    if code:
        problem(code, name=name, told="a", found="b")
    for path in [into / name, *(given.into / one for one in given.file if given.any_file)]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(part.read_bytes())
    part.unlink()
    for other in place.iterdir():
        other.unlink()
    place.rmdir()
    kind = "lora" if "lora" in name else "checkpoint"
    say(done={"path": str(into / name), "kind": kind, "sha256": "ab" * 32, "was_there": False})
except KeyboardInterrupt:
    sys.exit(130)
"""


class Pretended:
    """The verb in `asked`'s environment: `calls` are its words, its whole link and its key, of each call."""

    def __init__(self, asked: Asked):
        self.folder = asked.environment.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        script = self.folder / "verb.py"
        script.write_text(VERB, encoding="utf-8")
        path = str(Path(__file__).parents[3])
        asked.environment.command = lambda argv: [sys.executable, str(script), str(self.folder), *argv]
        asked.environment.variables = lambda changes=None: {**os.environ, "PYTHONPATH": path, **(changes or {})}

    @property
    def calls(self) -> list[dict[str, Any]]:
        path = self.folder / "calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def set(self, name: str, text: str = "x") -> None:
        (self.folder / name).write_text(text)

    def unset(self, name: str) -> None:
        (self.folder / name).unlink()
