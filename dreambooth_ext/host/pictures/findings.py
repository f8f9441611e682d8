"""What the picture doctor finds in a set or folder, for a page that asks again and again while it looks.

The worker looks at every picture once (`PictureWorker` keeps what it found); pages ask for what is new since.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ...core.errors import Problem
from ...core.messages.message import Message, beside, reason_of
from ...core.pictures import viewable
from ..errors import Refusal
from . import set_about
from .picture_worker import LATER, PictureWorker, Unreadable
from .uploads import PAGE, stamp_of

AT_ONCE = 32  # pictures that wait for the worker: when the page is left, it soon ends
KEPT = 16  # places
PATIENCE = 120.0  # seconds for what the pictures have in common: 10 000 take 10
WORST = ("error", "warning", "hint")


@dataclass
class _Place:
    """What is known of one folder: results by name, each with its stamp, and their names in order of arrival."""

    known: dict[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    asked: dict[str, tuple[str, Future[Any]]] = field(default_factory=dict)  # those that the worker has
    judged: tuple[Any, Future[Any]] | None = None  # of which pictures, and the answer


class PictureFindings:
    """Findings of folders; every method may be called from any thread."""

    def __init__(self, worker: PictureWorker):
        self.worker = worker
        self._lock = threading.Lock()
        self._places: OrderedDict[tuple[Path, int], _Place] = OrderedDict()

    def show(self, folder: Path, subject_type: str, resolution: int, after: int = 0) -> dict[str, Any]:
        """What is known of a folder's pictures, and begin to look at the rest.

        {"pictures": [{"name", "stamp", "findings", "crop", "faces"}], "next", "count", "waiting", "score", "set",
        "reasons", "missing", "extra", "trouble"}: the pictures since the answer whose "next" is given as `after`, of
        the first PAGE; waiting: how many are still to be looked at; score and what follows: None and [] until all are;
        extra: for each picture, findings that come from the others; trouble: why nothing can be looked at now.
        Raises a Refusal (422) if the folder cannot be read.
        """
        names = self._names(folder)
        place = self._place(folder, resolution)
        trouble = self._look(folder, names, place, resolution)
        order = place.order
        new = dict.fromkeys(name for name in order[after if after <= len(order) else 0 :] if name in names)
        first = set(list(names)[:PAGE])
        told_now = [_shown(name, *place.known[name]) for name in new if name in first]
        waiting = sum(place.known.get(name, ("",))[0] != stamp for name, stamp in names.items())
        answer = {
            "pictures": told_now,
            "next": len(order),
            "count": len(names),
            "waiting": waiting,
            **beside("trouble", trouble),
        }
        nothing: dict[str, Any] = {"score": None, "set": [], "reasons": [], "missing": [], "extra": {}}
        if waiting or not names or trouble:
            return answer | nothing
        return answer | (self._judged(names, place, subject_type) or nothing)

    def sheet(self, folder: Path, subject_type: str, resolution: int, say: Callable[[Message], str] = str) -> bytes:
        """A contact sheet of what is known, as a JPEG; say: gives its words in the reader's language.

        Raises a Refusal if there are no pictures, or no environment.
        """
        answer = self.show(folder, subject_type, resolution)
        place = self._place(folder, resolution)
        shown = []
        for name in self._names(folder):
            findings = [*place.known.get(name, ("", {}))[1].get("findings", []), *answer["extra"].get(name, [])]
            worst = next((level for level in WORST if any(one["severity"] == level for one in findings)), "")
            kinds = dict.fromkeys((one["label_code"], one["label"]) for one in findings)
            marks = [{"text": say(Message(code)), "english": english} for code, english in kinds]
            shown.append({"path": str(folder / name), "name": name, "severity": worst, "marks": marks})
        if not shown:
            raise Refusal(404, "findings.nothing_to_show", "set")
        with TemporaryDirectory() as made:
            out = Path(made) / "sheet.jpg"
            title = set_about.title(folder) or folder.name
            self.worker.ask("sheet", keep=False, patience=PATIENCE, pictures=shown, out=str(out), title=title)
            return out.read_bytes()

    # --- looking ---

    def _names(self, folder: Path) -> dict[str, str]:
        """The folder's pictures in order, each with its stamp."""
        try:
            paths = viewable.list_viewable(folder)
        except (OSError, ValueError) as error:
            known = repr(folder.name)
            raise Refusal(422, "pictures.folder_unreadable", "folder", folder=known, error=reason_of(error)) from None
        found = {}
        for path in paths:
            try:
                found[path.relative_to(folder).as_posix()] = stamp_of(path)
            except OSError:
                continue  # it was just deleted
        return found

    def _place(self, folder: Path, resolution: int) -> _Place:
        with self._lock:
            place = self._places.setdefault((folder, resolution), _Place())
            self._places.move_to_end((folder, resolution))
            while len(self._places) > KEPT:
                self._places.popitem(last=False)
            return place

    def _look(self, folder: Path, names: dict[str, str], place: _Place, resolution: int) -> Message | str:
        """Take what the worker has found, and ask for the next pictures. Returns why that cannot be."""
        with self._lock:
            for name, stamp in names.items():
                if place.known.get(name, ("",))[0] == stamp:
                    continue
                if place.asked.get(name, ("",))[0] != stamp:
                    if len(place.asked) >= AT_ONCE:
                        break
                    future = self.worker.submit("look", folder / name, urgency=LATER, resolution=resolution)
                    place.asked[name] = stamp, future
            return self._collect(place)

    def _collect(self, place: _Place) -> Message | str:
        """Take what has been answered. Returns why nobody can look. The lock must be held."""
        trouble: Message | str = ""
        for name, (stamp, future) in list(place.asked.items()):
            if not future.done():
                continue
            del place.asked[name]
            try:
                found = _outcome(future, name)
            except Refusal as refusal:
                trouble = refusal.problem.message
                continue
            if found is not None:
                place.known[name] = stamp, found
                place.order.append(name)
        return trouble

    def _judged(self, names: dict[str, str], place: _Place, subject_type: str) -> dict[str, Any] | None:
        """What all pictures together are like; None until the worker has answered."""
        key = subject_type, tuple(names.items())
        with self._lock:
            if place.judged is None or place.judged[0] != key:
                looks = [{"name": name, **place.known[name][1]} for name in names]
                asked = self.worker.submit(
                    "judge", keep=False, patience=PATIENCE, looks=looks, subject_type=subject_type
                )
                place.judged = key, asked
            future = place.judged[1]
        if not future.done():
            return None
        if future.cancelled() or future.exception():
            place.judged = None  # the worker has ended: ask again
            return None
        judged = future.result()
        extra = {name: more for name, more in zip(names, judged["pictures"], strict=True) if more}
        return {name: judged[name] for name in ("score", "set", "reasons", "missing")} | {"extra": extra}


def _outcome(future: Future[Any], name: str) -> dict[str, Any] | None:
    """The result of `look`, or the finding that the picture cannot be read. Raises a Refusal where nobody can look."""
    try:
        return future.result()
    except Unreadable as error:
        return {"findings": [unreadable(error.problem, name.rpartition("/")[2])]}
    except CancelledError:
        return None


def unreadable(problem: Problem, name: str) -> dict[str, Any]:
    """The finding about a picture that cannot be read, as `engine/doctor/finding.py` has it; without its path."""
    values = problem.values | ({"file": name} if "file" in problem.values else {})
    about = Problem(problem.code, **values).as_dict()
    del about["field"]
    return {"kind": "unreadable", "severity": "error", **beside("label", Message("finding_kind.unreadable")), **about}


def _shown(name: str, stamp: str, found: dict[str, Any]) -> dict[str, Any]:
    known = {key: found.get(key, []) for key in ("findings", "crop", "faces")}
    return {"name": name, "stamp": stamp, **known}
