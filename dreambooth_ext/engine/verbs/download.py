"""The verb `download`: tells what is behind a link, and puts the model into the folder of its kind.

With `--json` it tells everything as lines of JSON on standard output, for the host: {"facts": ...}, {"progress": ...},
{"done": ...}, {"problem": ...}.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from ...core.config import links
from ...core.config.names import MODEL_SUFFIXES
from ...core.errors import UserError
from ...core.messages.message import Message, beside, reason_of
from ...core.system import files
from ...core.system.files import human_size
from ...core.system.terminal import say
from ..downloads import hub_files, unfinished
from ..downloads.http_file import RESERVE, Offer, Transfer
from ..downloads.progress_thread import STAGE, Stage, TerminalStage
from ..downloads.unfinished import Unfinished
from ..model_links.found import FOLDER, Found, Logins
from ..model_links.look_up import logins, look_up, offered
from ..model_links.repository_files import fetch_files

FIELD = "link"
CHECKING = Message("stages.checking_file")
MOST_CHOICES = 100  # that are shown
OFTEN = 0.4  # seconds between two lines about the progress


def run(arguments: argparse.Namespace) -> list[str]:
    """Do as the command line asks (`download_options`) and return the lines to print."""
    told = Lines() if arguments.json else None
    download = Download(arguments, told)
    try:
        return download.run()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(download.kept()) from None
    except UserError as error:
        if told:
            told.say(problem=error.problem.as_dict())
        raise


class Lines:
    """Lines of JSON on standard output."""

    def __init__(self) -> None:
        self._last = 0.0

    def say(self, **values: Any) -> None:
        print(json.dumps(values), flush=True)

    def progress(self, stage: Message, done: int, of: int) -> None:
        if time.monotonic() - self._last >= OFTEN or done == of:
            self._last = time.monotonic()
            self.say(progress={"stage": stage.code, "done": done, "of": of})


class Download:
    def __init__(self, arguments: argparse.Namespace, told: Lines | None):
        self.arguments, self.told = arguments, told
        self.choice = arguments.file[0] if arguments.file else ""
        self.folders: dict[str, Path] = dict(arguments.folder)
        self.coming: Unfinished | None = None

    def run(self) -> list[str]:
        if self.arguments.discard:
            return self._discard()
        known = Logins() if self.arguments.no_logins else logins()
        if self.arguments.any_file:
            return self._fetch_files(known)
        options = {"choice": self.choice, "known": known, "public_only": self.arguments.public_only}
        found = look_up(self.arguments.link, FIELD, **options)
        offer = Offer("", found.size, found.revision, found.revision)
        if found.kind != FOLDER:
            found, offer = offered(found, FIELD)
        self._tell(found, offer)
        if self.arguments.look or not self._agreed(found, offer):
            return []
        if self.arguments.expect and self.arguments.expect != version(found, offer):
            raise UserError("download.other_version", FIELD, name=found.name)
        return self._fetch(found, offer)

    def kept(self) -> str:
        """What an interruption leaves, for who interrupts."""
        received = self.coming.received() if self.coming else 0
        return Message("download.kept", received=human_size(received)) if received else ""

    # --- what there is

    def _tell(self, found: Found, offer: Offer) -> None:
        folder = self._folder(found.kind)
        facts = facts_of(found, offer, folder, self.choice)
        if self.told:
            self.told.say(facts=facts)
        else:
            say(*spelled(found, facts), stream=sys.stdout)

    def _agreed(self, found: Found, offer: Offer) -> bool:
        if self.arguments.yes:
            return True
        if not sys.stdin.isatty():
            raise UserError("download.say_yes", FIELD)
        say(Message("download.question"), stream=sys.stdout)
        return sys.stdin.readline().strip().lower() in ("y", "yes", "j", "ja", "o", "oui", "s", "si", "sí", "д", "да")

    def _folder(self, kind: str) -> Path:
        """Where a file of this kind goes; where nobody knows the kind yet, with the checkpoints."""
        into: Path | None = self.arguments.into
        if into:
            return into.absolute()
        if self.folders:
            return self.folders.get(kind or "checkpoint", self.folders["checkpoint"]).absolute()
        return Path.cwd()

    # --- fetching

    def _fetch(self, found: Found, offer: Offer) -> list[str]:
        if found.kind == FOLDER:
            return self._fetch_folder(found)
        folder = self._folder(found.kind)
        if found.sha256 and (path := unfinished.there(folder, found.name, found.size, found.sha256)):
            return self._done(path, found.kind or "checkpoint", found.sha256, was_there=True)
        given = self.arguments.link
        given = links.bare(given) if links.is_link(given) else given
        coming = self.coming = Unfinished(folder, found.link, self.choice, given)
        with coming.held(FIELD):
            part = coming.prepare(found.name, offer, found.sha256)
            self._receive(found, offer, part)
            try:
                sha256 = self._hashed(part, found)
                kind = checked(part, found)
            except UserError:
                coming.discard()
                raise
            folder = self._folder(kind)
            name = with_suffix(found.name, part)
            earlier = unfinished.there(folder, name, part.stat().st_size, sha256)
            path = earlier or placed(part, folder, name)
        coming.discard()
        return self._done(path, kind, sha256, bool(earlier))

    def _receive(self, found: Found, offer: Offer, part: Path) -> None:
        terminal = TerminalStage()

        def stage(label: Message, done: int, of: int) -> None:
            if self.told:
                self.told.progress(label, transfer.done, offer.size or 0)
            else:
                terminal(label, done, of)

        transfer = Transfer(found.address, FIELD, stage)
        transfer.fetch(offer, part)

    def _hashed(self, part: Path, found: Found) -> str:
        """The file's SHA-256. Raises UserError if the site told another one."""
        if self.told:
            self.told.progress(CHECKING, 0, 0)
        sha256 = files.sha256_of(part)
        if found.sha256 and sha256 != found.sha256:
            known = {"name": found.name, "told": found.sha256[:16], "found": sha256[:16]}
            raise UserError("download.other_hash", FIELD, **known)
        return sha256

    def _fetch_files(self, known: Logins) -> list[str]:
        """The named files of a repository, whatever they are."""
        if not self.arguments.into or not self.arguments.file:
            raise UserError("download.any_file", FIELD)
        if not self.arguments.yes:
            raise UserError("download.say_yes", FIELD)
        stage: Stage = self.told.progress if self.told else TerminalStage()
        options = {"known": known, "public_only": self.arguments.public_only, "stage": stage}
        paths = fetch_files(self.arguments.link, self.arguments.file, self.arguments.into.absolute(), **options)
        if self.told:
            self.told.say(done={"paths": [str(path) for path in paths]})
            return []
        return [str(path) for path in paths]

    def _fetch_folder(self, found: Found) -> list[str]:
        hub_files.require_space(FIELD, found.name, sum(found.files.values()))
        stage: Stage = self.told.progress if self.told else TerminalStage()
        try:
            path = hub_files.snapshot(found.name, found.files, found.revision, kind="model", stage=(STAGE, stage))
        except hub_files.REACH as error:
            raise hub_files.away(FIELD, found.name, error, "model") from error
        if self.told:
            self.told.say(done={"path": found.name, "kind": FOLDER, "sha256": "", "was_there": False})
        return [str(path)]

    def _done(self, path: Path, kind: str, sha256: str, was_there: bool) -> list[str]:
        if self.told:
            self.told.say(done={"path": str(path), "kind": kind, "sha256": sha256, "was_there": was_there})
            return []
        if was_there:
            say(Message("download.was_there"), stream=sys.stdout)
        if kind != "checkpoint":
            say(Message("download.no_base", kind=KIND_NAMES[kind]), stream=sys.stdout)
        return [str(path)]

    def _discard(self) -> list[str]:
        """Delete what earlier downloads of this link have left, in every folder that it may be in."""
        bare = links.bare(self.arguments.link) if links.is_link(self.arguments.link) else self.arguments.link
        folders = {self._folder(kind) for kind in ("", *self.folders)}
        for one in (one for folder in folders for one in unfinished.in_progress(folder)):
            if bare in (one.given, one.link):
                if unfinished.is_held(one.place):
                    raise UserError("download.going_on", FIELD, link=one.link)
                one.discard()
        return []


KIND_NAMES = {
    "checkpoint": Message("kind.checkpoint"),
    "lora": Message("kind.lora"),
    "textual_inversion": Message("kind.embedding"),
    "hypernetwork": Message("kind.hypernetwork"),
    FOLDER: Message("kind.diffusers_folder"),
    "": Message("kind.unknown"),
}


def version(found: Found, offer: Offer) -> str:
    """A short text that changes with the content behind a link."""
    text = found.sha256 or f"{offer.identity or found.revision} {found.size}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def facts_of(found: Found, offer: Offer, folder: Path, choice: str) -> dict[str, Any]:
    """What the page shows before anything is fetched. "family": the site's words; "received": bytes that are here from
    an earlier try; "new_name": the one it gets because another file has its own; "place": where it is on its way."""
    coming = Unfinished(folder, found.link, choice)
    free = files.free_bytes(folder)
    new_name = unfinished.free_name(folder, found.name) if found.kind != FOLDER else found.name
    return {
        "site": found.site,
        "link": found.link,
        "is_whole": found.is_whole,
        "name": found.name,
        "title": found.title,
        "size": found.size,
        "sha256": found.sha256,
        "kind": found.kind,
        "family": found.family,
        **beside("licence", found.licence),
        "notes": [as_told(note) for note in found.notes],
        "choices": [dataclasses.asdict(choice) for choice in found.choices[:MOST_CHOICES]],
        "version": version(found, offer),
        "folder": str(folder),
        "new_name": new_name if new_name != found.name else "",
        "free": free,
        "has_room": found.size is None or found.size + RESERVE <= free + coming.received(),
        "received": coming.received(),
        "place": str(coming.place),
        "is_resumable": offer.is_resumable or found.kind == FOLDER,
    }


def as_told(note: Message) -> dict[str, Any]:
    """A message as the page translates it."""
    known = note.as_dict()
    return {"message": known["text"], "code": known["code"], "values": known["values"]}


def spelled(found: Found, facts: dict[str, Any]) -> list[str]:
    """The facts as lines for a terminal."""
    unknown = Message("download.unknown")
    place = "" if found.kind == FOLDER else facts["folder"]
    lines = {
        "name": found.name,
        "from": ", ".join(filter(None, (found.site, found.title))),
        "size": human_size(found.size) if found.size is not None else unknown,
        "SHA-256": found.sha256 or unknown,
        "licence": found.licence or unknown,
        "base model": found.family or unknown,
        "kind": KIND_NAMES[found.kind],
        "into": place,
    }
    told = [f"{name + ':':12} {text}" for name, text in lines.items() if text]
    told += [f"note: {note}" for note in found.notes]
    if facts["new_name"]:
        told.append(f"note: {Message('download.other_of_that_name', name=found.name, new_name=facts['new_name'])}")
    if facts["received"]:
        told.append(f"note: {Message('download.received', received=human_size(facts['received']))}")
    if found.choices:
        told += [
            f"note: {Message('download.choices')}",
            *(f"  {choice.name}" for choice in found.choices[:MOST_CHOICES]),
        ]
    return told


def checked(part: Path, found: Found) -> str:
    """The kind of a complete file. Raises UserError for one that is no model of Stable Diffusion, or damaged; nothing
    that it contains is run."""
    try:
        from ..formats.model_kind import kind_of_model  # PyTorch, which a look at a link can do without
        from ..models.single_file import SingleFileSource

        kind = kind_of_model(part, FIELD)
        if kind == "checkpoint":
            SingleFileSource(part, FIELD).close()
        return kind
    except UserError as error:
        problem = error.problem
        values = {name: found.name if value == part.name else value for name, value in problem.values.items()}
        raise UserError(problem.code, problem.field, **values) from None


def with_suffix(name: str, part: Path) -> str:
    """The name with a suffix of its content, if it has none that models have."""
    if Path(name).suffix.lower() in MODEL_SUFFIXES:
        return name
    with part.open("rb") as file:
        return name + (".safetensors" if file.read(9)[8:] == b"{" else ".ckpt")


def placed(part: Path, folder: Path, name: str) -> Path:
    """Put a complete file into the folder. Raises UserError if the disk refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return unfinished.put(part, folder, name)
    except OSError as error:
        raise UserError("download.cannot_save", FIELD, error=reason_of(error)) from error
