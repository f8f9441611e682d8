"""Looks up links, and fetches what was agreed to, one after another, into the host's model folders."""

from __future__ import annotations

import contextlib
import shutil
import threading
from pathlib import Path
from typing import Any

from ...core.config import links
from ...core.config.parsing import shown
from ...core.errors import Problem, UserError
from ...core.messages.message import reason_of
from ...core.verbs.download_options import KINDS
from ..environment.environment import Environment
from ..errors import Refusal
from ..hosts import path_policy
from ..hosts.host import Host
from . import record as records
from .record import BUSY, DONE, FAILED, FOUND, LOOKING, OVER, PAUSED, QUEUED, RUNNING, Record
from .verb import Verb

FOLDER = "downloads"  # of the host's data folder
CIVITAI_KEY = "CIVITAI_API_KEY"  # of the verb's environment
MOST = 30  # downloads that are kept; the oldest that are over go first
LOOKS = 3  # links that are looked up at once
PREFIX = ".download-"  # begins the names of folders with unfinished files (engine/downloads/unfinished.py)
FOLDER_KIND = "diffusers"  # the kind of a repository that is no file (engine/model_links/found.py)
FIELD = "link"


class Downloads:
    """All methods may be called from any thread."""

    def __init__(self, host: Host, environment: Environment):
        self.host, self.environment = host, environment
        self.folder = host.data_folder() / FOLDER
        self.revision = 0  # changes whenever a state does
        self._lock = threading.RLock()
        self._records: dict[str, Record] = {one.id: one for one in records.read_all(self.folder)}
        self._whole: dict[str, str] = {}  # the links with their secrets, by id, for as long as this process lives
        self._verbs: dict[str, Verb] = {}
        self._closed = False
        self._take_over()

    def _take_over(self) -> None:
        """Take over what the last process has left: what was only looked at is forgotten."""
        for one in list(self._records.values()):
            if one.state in (LOOKING, FOUND):
                del self._records[one.id]
                records.forget(self.folder, one.id)
            elif one.state in (QUEUED, RUNNING):
                self._set(one, PAUSED, stage=RUNNING)

    def start(self) -> None:
        """Go on with what the last process was fetching, where its link alone is enough."""
        with self._lock:
            for one in self._records.values():
                if one.state == PAUSED and one.stage == RUNNING and self._finds_again(one):
                    self._set(one, QUEUED)
        self._go_on()

    def close(self) -> None:
        """Stop what goes on; the next start goes on with it."""
        with self._lock:
            self._closed = True
            verbs = list(self._verbs.values())
        for verb in verbs:
            verb.stop()

    # --- what there is

    def listed(self) -> list[dict[str, Any]]:
        """The newest first."""
        with self._lock:
            return [self._shown(one) for one in reversed(self._records.values())]

    def show(self, id: str) -> dict[str, Any]:
        with self._lock:
            return self._shown(self._find(id))

    def state(self) -> dict[str, Any]:
        """For pages that ask every second."""
        with self._lock:
            busy = any(one.state in BUSY or one.state == QUEUED for one in self._records.values())
            return {"revision": self.revision, "busy": busy}

    def _shown(self, one: Record) -> dict[str, Any]:
        facts = {name: value for name, value in (one.facts or {}).items() if name != "place"}
        needs_link = one.state in (PAUSED, FAILED) and not self._finds_again(one)
        return {**one.as_dict(), "facts": facts or None, "needs_link": needs_link}

    def _find(self, id: str) -> Record:
        one = self._records.get(id)
        if one is None:
            raise Refusal(404, "download.unknown_id", "id", id=shown(id))
        return one

    def _finds_again(self, one: Record) -> bool:
        return one.id in self._whole or bool((one.facts or {}).get("is_whole", True))

    # --- what can be done

    def look(self, link: str, file: str = "") -> dict[str, Any]:
        """Look up a link; `show` tells what is there, and `fetch` fetches it. Raises UserError and Refusal."""
        link = link.strip()
        if not link or len(link) > 4000:
            raise UserError("download.no_link", FIELD)
        given = links.hidden(link) if links.is_link(link) else link
        with self._lock:
            if sum(one.state == LOOKING for one in self._records.values()) >= LOOKS:
                raise Refusal(409, "download.many_looks", FIELD)
            one = Record(str(given), file)
            self._keep(one, links.whole(given))
        self._begin(one, ["--look"])
        return self.show(one.id)

    def look_again(self, id: str, file: str) -> dict[str, Any]:
        """Look up another of the files behind a link."""
        with self._lock:
            one = self._find(id)
            if one.state != FOUND:
                raise Refusal(409, "download.not_found_yet", "id")
            self._set(one, LOOKING, file=file, problem=None)
        self._begin(one, ["--look"])
        return self.show(id)

    def fetch(self, id: str) -> dict[str, Any]:
        """Fetch what was found, after what is being fetched."""
        with self._lock:
            one = self._find(id)
            if one.state != FOUND:
                raise Refusal(409, "download.not_found_yet", "id")
            if (one.facts or {}).get("kind") == FOLDER_KIND and (why := self.host.restricted()):
                raise Refusal(403, "service.base_restricted", FIELD, reason=why)
            self._set(one, QUEUED)
        self._go_on()
        return self.show(id)

    def fetch_files(self, repository: str, names: list[str], into: Path, title: str) -> dict[str, Any]:
        """Fetch files of a Hugging Face repository as they are into a folder, after what is being fetched. What was
        begun for the same folder is gone on with. title: what they are, for people."""
        with self._lock:
            for one in self._records.values():
                if (one.link, one.names, one.into) == (repository, names, str(into)) and one.state != DONE:
                    if one.state in (PAUSED, FAILED):
                        self._set(one, QUEUED, problem=None)
                    break
            else:
                one = Record(repository, state=QUEUED, names=list(names), into=str(into), title=title)
                self._keep(one, repository)
        self._go_on()
        return self.show(one.id)

    def pause(self, id: str) -> dict[str, Any]:
        """Stop fetching; what has come so far stays."""
        with self._lock:
            one = self._find(id)
            if one.state not in (RUNNING, QUEUED):
                raise Refusal(409, "download.not_going_on", "id")
            self._set(one, PAUSED, stage=PAUSED)
            if verb := self._verbs.get(id):
                verb.stop()
        self._go_on()
        return self.show(id)

    def resume(self, id: str, link: str = "") -> dict[str, Any]:
        """Go on with what was paused or has failed. link: again, where the kept one lacks its secrets."""
        with self._lock:
            one = self._find(id)
            if one.state not in (PAUSED, FAILED):
                raise Refusal(409, "download.not_paused", "id")
            if link.strip():
                if links.bare(link) != one.link:
                    raise UserError("download.other_link", FIELD, link=one.link)
                self._whole[id] = link.strip()
            if not self._finds_again(one):
                raise UserError("download.link_again", FIELD, link=one.link)
            looks_again = not one.names and not one.facts
            self._set(one, LOOKING if looks_again else QUEUED, problem=None)
        if looks_again:
            self._begin(one, ["--look"])
        self._go_on()
        return self.show(id)

    def remove(self, id: str) -> None:
        """Cancel it, and forget it. What has come of an unfinished file is deleted; a finished one stays."""
        with self._lock:
            one = self._find(id)
            verb = self._verbs.get(id)
            del self._records[id]
            self._whole.pop(id, None)
            records.forget(self.folder, id)
            self.revision += 1
            if verb:
                verb.stop()
        if verb is None:
            self._discard(one)
        self._go_on()

    # --- how it is done

    def _keep(self, one: Record, whole: str) -> None:
        """Add a record, and forget the oldest that are over. Raises a Refusal (409) if all are still wanted."""
        over = [old.id for old in self._records.values() if old.state in (*OVER, FOUND)]
        while len(self._records) >= MOST:
            if not over:
                raise Refusal(409, "download.too_many", FIELD, most=MOST)
            id = over.pop(0)
            self._whole.pop(id, None)
            del self._records[id]
            records.forget(self.folder, id)
        self._records[one.id] = one
        self._whole[one.id] = whole
        self._set(one, one.state)

    def _set(self, one: Record, state: str, **values: Any) -> None:
        one.state = state
        for name, value in values.items():
            setattr(one, name, value)
        self.revision += 1
        if one.id in self._records:
            with contextlib.suppress(OSError):  # a full disk: it is still known here
                records.write(self.folder, one)

    def _go_on(self) -> None:
        """Begin with the next one in the queue, if nothing is being fetched."""
        with self._lock:
            known = self._records.values()
            if self._closed or any(one.id in self._verbs and one.state != LOOKING for one in known):
                return
            one = next((one for one in known if one.state == QUEUED), None)
            if one is None:
                return
            self._set(one, RUNNING, stage=RUNNING, problem=None)
            expect = (one.facts or {}).get("version", "")
            words = ["--yes", *([f"--expect={expect}"] if expect else [])]
        self._begin(one, words)

    def _begin(self, one: Record, words: list[str]) -> None:
        with self._lock:
            words, variables = self._call(one, words)
            verb = self._verbs[one.id] = Verb(self.environment, words, variables)
        threading.Thread(target=self._work, args=(one, verb), name="dreambooth download", daemon=True).start()

    def _call(self, one: Record, words: list[str]) -> tuple[list[str], dict[str, str]]:
        """The verb's words and variables. Secrets are among the latter, which other users of the machine cannot see."""
        restricted = bool(self.host.restricted())
        made = ["--json", *words]
        if one.names:
            made += ["--any-file", f"--into={one.into}", *(f"--file={name}" for name in one.names)]
        else:
            folders = {kind: path for kind, path in self.host.folders().items() if kind in KINDS}
            made += [f"--folder={kind}={path}" for kind, path in folders.items()]
            made += [f"--file={one.file}"] if one.file else []
        variables = {}
        if restricted:
            made.append("--public-only")
        if restricted and not self.host.has_login() and not self.host.api_auth():
            made.append("--no-logins")  # strangers would use them
        elif key := str(self.host.option("civitai_key") or "").strip():
            variables[CIVITAI_KEY] = key
        handed, given = links.handed([self._whole.get(one.id) or self._kept_link(one)])
        return [*made, "--", *handed], {**variables, **given}

    @staticmethod
    def _kept_link(one: Record) -> str:
        return str((one.facts or {}).get("link") or one.link)

    # --- in the thread of one call

    def _work(self, one: Record, verb: Verb) -> None:
        was_looking = one.state == LOOKING
        told: dict[str, Any] = {}
        try:
            failure = verb.run(lambda line: self._heard(one, line, told))
        except OSError as error:
            failure = Problem("download.not_started", FIELD, error=reason_of(error))
        with self._lock:
            self._verbs.pop(one.id, None)
            is_kept = one.id in self._records
            if is_kept:
                self._ended(one, told, failure, was_looking, verb.is_stopped)
        if not is_kept:
            self._discard(one)
        self._go_on()

    def _heard(self, one: Record, line: dict[str, Any], told: dict[str, Any]) -> None:
        told.update(line)
        with self._lock:
            if isinstance(line.get("facts"), dict):
                one.facts = line["facts"]
                one.of = one.facts.get("size") or 0
                self._set(one, one.state)
            if isinstance(line.get("progress"), dict) and one.state == RUNNING:
                one.done, one.of = int(line["progress"]["done"]), int(line["progress"]["of"]) or one.of
                one.stage = RUNNING

    def _ended(
        self, one: Record, told: dict[str, Any], failure: Problem | None, was_looking: bool, was_stopped: bool
    ) -> None:
        if told.get("done"):
            self._set(one, DONE, result=told["done"], done=one.of, problem=None)
            self._publish(one)
        elif told.get("problem"):
            is_other = told["problem"].get("code") == "download.other_version"  # to be agreed to again
            self._set(one, FOUND if is_other and one.facts else FAILED, problem=told["problem"])
        elif failure:
            self._set(one, FAILED, problem=failure.as_dict())
        elif was_looking and told.get("facts"):
            self._set(one, FOUND)
        elif was_stopped:
            if one.state == RUNNING:  # this process ends
                self._set(one, PAUSED, stage=RUNNING)
        elif one.state in BUSY:
            self._set(one, FAILED, problem=Problem("download.ended", FIELD, code=0).as_dict())

    def _publish(self, one: Record) -> None:
        """Have the host list the new file."""
        path = str((one.result or {}).get("path", ""))
        kind = str((one.result or {}).get("kind", ""))
        if kind in KINDS:
            with contextlib.suppress(Exception):  # a host's own code raises anything; the file is there all the same
                self.host.refresh(kind, Path(path))

    def _discard(self, one: Record) -> None:
        """Delete what has come of an unfinished file."""
        if one.state == DONE:
            return
        for parent in {(Path(one.into) / name).parent for name in one.names}:
            for place in parent.glob(f"{PREFIX}*"):
                shutil.rmtree(place, ignore_errors=True)
        whole = one.place
        if whole is None or not whole.name.startswith(PREFIX):
            return
        if path_policy.inside(whole.parent, self.host.folders().values()):
            shutil.rmtree(whole, ignore_errors=True)
