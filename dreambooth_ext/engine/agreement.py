"""The processes of one run read the same settings, base, pictures and training state, wherever they are: each machine
reads its own files, and copies may be old. What differs is told by all, before anything is trained on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..core.config.run_config import RunConfig
from ..core.config.stages import ResolvedConfig
from ..core.data.entry import Entry
from ..core.data.picture_list import HASHED
from ..core.errors import UserError
from ..core.runs.run_folder import Run
from ..core.system.files import sha256_of
from .launching.differences import first_difference, two_values
from .models.base_files import BaseFiles
from .runtime import distributed


def require_same_run(run: Run, base: BaseFiles, config: ResolvedConfig) -> None:
    """Raise UserError, in every process, if one reads other settings or another base than the first, or has chosen
    another way to divide the work. config: resolved."""
    if distributed.processes() == 1:
        return
    known: dict[str, Any] = {"settings": run.config.as_dict(), "base": base.digest, "folder": str(run.path)}
    known |= {"distribution": config.distribution}
    everyone = distributed.of_all(known)
    first = everyone[0]
    for number, theirs in enumerate(everyone, 1):
        about: dict[str, Any] = {"number": number, "folder": theirs["folder"]}
        if name := first_difference(first["settings"], theirs["settings"]):
            if values := two_values(name, first["settings"], theirs["settings"]):
                raise UserError("machines.values_differ", name, setting=name, **values, **about)
            raise UserError("machines.settings_differ", name, setting=name, **about)
        if first["base"] != theirs["base"]:
            raise UserError("machines.base_differs", base.field, **about)
        if first["distribution"] != theirs["distribution"]:
            ours = {"ours": first["distribution"], "theirs": theirs["distribution"]}
            raise UserError("machines.distribution_differs", "distribution", number=number, **ours)


def require_same_start(run: Run, entries: Iterable[Entry], step: int, config: RunConfig) -> None:
    """Raise UserError, in every process, if one has other pictures or captions than the first, or would go on from
    another step."""
    if distributed.processes() == 1:
        return
    everyone = distributed.of_all({"pictures": digest_of(list(entries)), "step": step, "folder": str(run.path)})
    first = everyone[0]
    for number, theirs in enumerate(everyone, 1):
        about: dict[str, Any] = {"number": number, "folder": theirs["folder"]}
        if first["pictures"] != theirs["pictures"]:
            field = "train_data_dir" if config.method == "unconditional" else "instance_data_dir"
            raise UserError("machines.pictures_differ", field, **about)
        if first["step"] != theirs["step"]:
            raise UserError("machines.states_differ", "run", ours=first["step"], theirs=theirs["step"], **about)


def digest_of(entries: list[Entry]) -> str:
    """One digest of the pictures, in their order, with their captions; of large sets only their sizes are read."""
    sizes = [entry.path.stat().st_size for entry in entries]
    is_small = sum(sizes) <= HASHED
    found = hashlib.sha256()
    for entry, size in zip(entries, sizes, strict=True):
        about = (entry.path.name, entry.concept, entry.is_class, entry.is_held, entry.repeats, *entry.captions, size)
        content = [sha256_of(Path(path)) for path in (entry.path, entry.mask) if path] if is_small else []
        found.update(json.dumps([*about, *content]).encode())
    return found.hexdigest()
