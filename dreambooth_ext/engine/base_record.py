"""A run's record of its base's files: a run that goes on must do so with the base that it began with."""

from __future__ import annotations

import functools
import shutil
from typing import Any

from ..core.errors import UserError
from ..core.messages.message import Message
from ..core.runs.run_folder import Run
from ..core.system import files
from .models.base import Base
from .models.base_files import BaseFiles, difference
from .runtime import distributed
from .runtime.control import Control
from .training import training_state

CHECKING = Message("stages.checking_base")


def keep_base(run: Run, base: Base, control: Control) -> bool:
    """Record the state of the base's files for a new run. If the run has a training state, raise UserError if the files
    differ from the recorded ones. Returns whether an earlier version started the run, which recorded nothing."""
    known, path = base.files, run.path / "base.json"
    if not training_state.found(run.checkpoints):
        if distributed.is_first():
            drop_previews_of_another(run, known)
            note_base(run, known, {})
            known.wholes.begin({})
        return False
    try:
        noted = files.read_json(path)
        what = difference(noted["files"], known.known)
        if not what and distributed.is_first():
            wholes = noted.get("wholes", {})
            known.wholes.begin(wholes)
            wait_for_base(base, control)
            what = known.wholes.difference(wholes)
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        if distributed.is_first():
            known.wholes.begin({})
        return True
    if what:
        raise UserError("base.changed_since_start", base.files.field, change=what, path=path)
    return False


def drop_previews_of_another(run: Run, known: BaseFiles) -> None:
    """Delete the previews of step 0 if they show another base: a run that has learned nothing may be given one."""
    try:
        is_other = bool(difference(files.read_json(run.path / "base.json")["files"], known.known))
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        is_other = True
    if is_other:
        shutil.rmtree(run.samples / "0", ignore_errors=True)


def wait_for_base(base: Base, control: Control) -> None:
    """Wait until the base's large files are hashed, which takes a minute on a slow disk. Raises Stopped after a command
    to stop."""
    if distributed.is_first():
        base.files.wholes.wait(functools.partial(control.stage, CHECKING))


def note_base(run: Run, known: BaseFiles, wholes: dict[str, Any]) -> None:
    """Record the base's files. wholes: hashes of its large files, which take a while; {} until they are computed."""
    files.write_json(run.path / "base.json", {"files": known.known, "wholes": wholes})
