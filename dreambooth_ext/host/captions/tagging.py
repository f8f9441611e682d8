"""Taggers in the tab: which there are, and jobs that let one propose captions for a set. Nothing is taken by itself."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.captions import taggers
from ...core.captions.taggers import KNOWN, KnownTagger
from ...core.config.parsing import shown
from ...core.data import folder_scan
from ...core.errors import UserError
from ...core.system import files
from ..downloads.downloads import Downloads
from ..drawing.device_jobs import DeviceJobs, Job, Task
from ..errors import Refusal
from ..hosts import path_policy
from ..pictures import image_decoding
from ..pictures.uploads import PictureSets
from ..runs.run_index import is_component
from . import proposals

if TYPE_CHECKING:
    from ..hosts.host import Host

FOLDER = "taggers"  # of the host's data folder: a folder for each
KIND = "tag"
NUMBERS = ("threshold", "character_threshold")
FLAGS = ("ratings", "no_characters", "underscores", "only_empty")
LONGEST = 500  # letters of a text that is asked for
MOST_LEFT_OUT = 200
SIDE = 768  # pixels of the pictures that the host's own interrogators see
HOSTS = "host:"  # before the name of one of these


PATIENCE = 60.0  # seconds that Hugging Face may take to tell about a tagger


class Tagging:
    """May be called from any thread."""

    def __init__(self, host: Host, sets: PictureSets, jobs: DeviceJobs, downloads: Downloads):
        self.host, self.sets, self.jobs, self.downloads = host, sets, jobs, downloads
        self.folder = host.data_folder() / FOLDER

    # --- what there is

    def list(self) -> dict[str, Any]:
        """{"taggers": [{"name", "kind", "here", "source": hub | folder | host, "files"}], "folder", "may_name",
        "fetching": as `_fetching`}

        here: whether it can be used at once. may_name: whether any folder of this machine may be named.
        """
        known = [self._told(one.repository, one.kind, self._is_here(one), "hub", one.files) for one in KNOWN]
        hubs = {one.folder for one in KNOWN}
        own = [path for path in self._own() if path.name not in hubs]
        known += [self._told(path.name, taggers.kind_of(path), True, "folder") for path in own]
        known += [self._told(HOSTS + name, kind, True, "host") for name, kind in self.host.interrogators().items()]
        may_name = not self.host.restricted()
        place = str(self.folder) if may_name else ""
        return {"taggers": known, "folder": place, "may_name": may_name, "fetching": self._fetching()}

    def _fetching(self) -> Sequence[dict[str, Any]]:
        """Those that are being fetched, or could not be: {"name", "state", "done", "total", "problem"}."""
        names = {one.repository for one in KNOWN}
        found = [one for one in self.downloads.listed() if one["link"] in names and one["state"] != "done"]
        shown_of = {"name": "link", "state": "state", "done": "done", "total": "of", "problem": "problem"}
        return [{name: one[known] for name, known in shown_of.items()} for one in found]

    def _told(self, name: str, kind: str, here: bool, source: str, files_: tuple[str, ...] = ()) -> dict[str, Any]:
        return {"name": name, "kind": kind, "here": here, "source": source, "files": [*files_]}

    def _own(self) -> Sequence[Path]:
        if not self.folder.is_dir():
            return []
        found = [path for path in sorted(self.folder.iterdir()) if path.is_dir() and is_component(path.name)]
        return [path for path in found if taggers.kind_of(path) and path_policy.inside(path, [self.folder])]

    def place_of(self, known: KnownTagger) -> Path:
        """The folder that a tagger of Hugging Face goes into."""
        return self.folder / known.folder

    def _is_here(self, known: KnownTagger) -> bool:
        return all((self.place_of(known) / file).is_file() for file in known.files)

    # --- fetching one

    def about(self, name: str) -> dict[str, Any]:
        """What fetching a tagger would bring: {"name", "licence", "size", "files": [{"name", "size", "sha256"}]}.

        Raises a Refusal, and UserError if Hugging Face cannot be asked.
        """
        known = self.known(name)
        environment = self.jobs.environment
        words = environment.command(["-m", "dreambooth_ext.engine", "tagger", known.repository, *known.files])
        variables = environment.variables({"PYTHONUTF8": "1"})
        try:
            done = subprocess.run(
                words, env=variables, capture_output=True, text=True, encoding="utf-8", errors="replace",
                timeout=PATIENCE, check=False,
            )  # fmt: skip
            told = json.loads(done.stdout) if not done.returncode else None
        except (OSError, ValueError, subprocess.TimeoutExpired) as error:
            raise UserError("tagging.unreachable", "tagger", name=name, error=type(error).__name__) from error
        if told is None:
            said = [line.removeprefix("error: ") for line in done.stderr.splitlines() if line.startswith("error: ")]
            message = (said or [done.stderr.strip()])[-1][-500:].removeprefix("tagger: ")
            raise UserError("other.as_said", "tagger", message=message, remedy="")
        return told

    def fetch(self, name: str) -> dict[str, Any]:
        """Begin to fetch a tagger; answers with the download. Raises a Refusal."""
        known = self.known(name)
        return self.downloads.fetch_files(known.repository, [*known.files], self.place_of(known), known.repository)

    def known(self, name: str) -> KnownTagger:
        """A tagger that can be fetched. Raises a Refusal (404), also where strangers may not fetch anything (403)."""
        if why := self.host.restricted():
            raise Refusal(403, "service.hub_restricted", "tagger", reason=why)
        for one in KNOWN:
            if one.repository == name:
                return one
        raise Refusal(404, "tagging.unknown", "tagger", name=shown(name))

    # --- proposing

    def start(self, name: str, tagger: str, options: Mapping[str, Any]) -> dict[str, Any]:
        """Begin to propose captions for a set; answers with the job. Raises UserError and Refusals (404, 409)."""
        with self.sets.held(name) as place:  # what a run uses stays as it is
            out = proposals.path(place)
        words = _words(options)
        if tagger.startswith(HOSTS):
            work = self._interrogating(place, tagger.removeprefix(HOSTS), bool(options.get("only_empty")), out)
            words, mode = [], "share"
        else:
            words = ["tag", str(place), f"--tagger={self._path(tagger)}", f"--out={out}", *words]
            work, mode = None, self.host.option("while_training")
        device = self.jobs.dispatcher.device_called("auto")
        task = Task(KIND, place.name, words, device, mode, work=work)
        return self.jobs.start(task, lambda: proposals.forget(place)).status()

    def _path(self, tagger: str) -> Path:
        """The folder of a tagger by its name, or any folder where the host lets one be named."""
        for known in KNOWN:
            if tagger == known.repository:
                if not self._is_here(known):
                    raise Refusal(409, "tagging.not_here", "tagger", name=tagger)
                return self.place_of(known)
        for path in self._own():
            if tagger == path.name:
                return path
        if not Path(tagger).expanduser().is_absolute():
            raise Refusal(404, "tagging.unknown", "tagger", name=shown(tagger))
        if why := self.host.restricted():
            raise path_policy.refused("tagger", why)
        path = Path(tagger).expanduser()
        if reason := taggers.why_not(path):
            raise UserError("tagging.not_usable", "tagger", why=reason)
        return path

    def status(self, name: str) -> dict[str, Any]:
        """{"job": how the last one for this set went, or null, "proposals"}"""
        place = self.sets.path(name)
        return {"job": self.jobs.of(KIND, place.name), "proposals": proposals.read(place)}

    def forget(self, name: str) -> None:
        """Dismiss what was proposed."""
        proposals.forget(self.sets.path(name))

    # --- the host's own

    def _interrogating(self, place: Path, which: str, only_empty: bool, out: Path) -> Callable[[Job], None]:
        """What a job does with one of the WebUI's interrogators. Raises a Refusal (404) for one that is not there."""
        if which not in self.host.interrogators():
            raise Refusal(404, "tagging.unknown", "tagger", name=shown(which))

        def work(job: Job) -> None:
            known = list(folder_scan.find_pictures(place))
            pictures = [one for one in known if not (only_empty and one.caption_file(".txt"))]
            found: dict[str, str] = {}
            try:
                for done, one in enumerate(pictures):
                    job.count(done, len(pictures))
                    if job.stopping.is_set():
                        return
                    try:
                        seen = image_decoding.thumbnail(one.path, SIDE)
                    except Refusal:
                        continue  # the picture's card says what is wrong with it
                    found[one.path.relative_to(place).as_posix()] = self.host.interrogate(which, seen)
                job.count(len(pictures), len(pictures))
            finally:
                out.parent.mkdir(exist_ok=True)
                files.write_json(out, {"tagger": which, "captions": found})

        return work


def _words(options: Mapping[str, Any]) -> list[str]:
    """The verb's options. Raises UserError that names the one which does not fit."""
    known = {*NUMBERS, *FLAGS, "leave_out", "begin"}
    for name in options:
        if name not in known:
            raise UserError("captions.edit_unknown_key", name, names=sorted(known))
    words = []
    for name in NUMBERS:
        value = options.get(name)
        if value is None:
            continue
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not (math.isfinite(value) and 0 <= value <= 1)
        ):
            raise UserError("tagging.out_of_range", name, value=shown(value))
        words.append(f"--{name.replace('_', '-')}={value}")
    for name in FLAGS:
        value = options.get(name, False)
        if not isinstance(value, bool):
            raise UserError("web.not_flag", name)
        words += [f"--{name.replace('_', '-')}"] if value else []
    left_out = options.get("leave_out") or []
    texts = [*left_out, options.get("begin") or ""] if isinstance(left_out, list) else [None]
    if not all(isinstance(text, str) and len(text) <= LONGEST for text in texts) or len(left_out) > MOST_LEFT_OUT:
        raise UserError("captions.edit_bad_value", "leave_out")
    words += [f"--leave-out={tag}" for tag in left_out if tag.strip()]
    return [*words, *([f"--begin={options['begin']}"] if options.get("begin") else [])]
