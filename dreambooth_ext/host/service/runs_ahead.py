"""The runs that are training or waiting, and their bases and pictures, which must not be deleted now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ...core.data.concepts import concepts
from ...core.errors import UserError
from ...core.runs.run_folder import Run
from ..jobs.dispatcher import Dispatcher
from ..runs.run_index import FAULTS, RunIndex


def runs_ahead(dispatcher: Dispatcher, index: RunIndex) -> Iterator[Run]:
    yield from dispatcher.running
    for id in dispatcher.queue():
        with contextlib.suppress(UserError):  # it was deleted meanwhile
            yield index.find(id)


def picture_folders(run: Run) -> list[str]:
    try:
        return [concept.instance_data_dir for concept in concepts(run.config) if concept.instance_data_dir]
    except FAULTS:
        return []


def base_of(run: Run) -> str:
    try:
        return run.config.base_model
    except FAULTS:
        return ""
