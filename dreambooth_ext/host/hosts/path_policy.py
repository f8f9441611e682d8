"""Which paths of this machine a request may name if others can reach the server: only those that the host itself
offers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from ...core.config.run_config import RunConfig
from ...core.data import kohya_dataset
from ...core.guide import demo_recipe
from ..errors import Refusal
from .host import Host

CLASS_PICTURES = "class_pictures"  # where runs keep the class pictures that they draw, in the folder of the runs


def check_paths(config: RunConfig, host: Host) -> kohya_dataset.DataSet | None:
    """Raise a Refusal (403) if a restricted host does not offer a file or folder that the config names.

    Returns the data set of `dataset_config`, if there is one: callers must use it, because its file may name others by
    the time it is read again.
    """
    why = host.restricted()
    if why:
        _check_named(config.paths(), config, host, why)
    if not config.dataset_config:
        return None
    data_set = kohya_dataset.read(config.dataset_config)
    if why:
        _check_named((("dataset_config", path) for path in data_set.paths), config, host, why)
    return data_set


def _check_named(named: Iterable[tuple[str, str]], config: RunConfig, host: Host, why: str) -> None:
    for field in ("push_to_hub", "dataset_name"):  # by this machine's login, onto its disk
        if getattr(config, field):
            raise Refusal(403, "service.hub_restricted", field, reason=why)
    for field, path in named:
        if field == "base_model":
            if is_offered_model(path, host):
                continue
            raise Refusal(403, "service.base_restricted", field, reason=why)
        if inside(path, (pictures_folder(host), host.runs_folder() / CLASS_PICTURES, demo_recipe.PICTURES)):
            continue
        if field.endswith(("instance_data_dir", "train_data_dir")):
            raise Refusal(403, "service.pictures_restricted", field, reason=why)
        raise refused(field, why)


def is_offered_model(path: str | Path, host: Host) -> bool:
    """Whether the host lists the model file, or it is in a folder that the host offers."""
    folders = (*host.folders().values(), demo_recipe.FOLDER)
    return inside(path, folders) or _same(path, (item["path"] for item in host.bases()))


def refused(field: str, why: str) -> Refusal:
    """The refusal of a path that may not be named."""
    return Refusal(403, "service.path_restricted", field, reason=why)


def pictures_folder(host: Host) -> Path:
    """Where uploaded pictures are kept, with a folder for each set."""
    return host.data_folder() / "pictures"


def _same(path: str | Path, known: Iterable[str]) -> bool:
    return os.path.normcase(_absolute(path)) in {os.path.normcase(_absolute(item)) for item in known}


def inside(path: str | Path, folders: Iterable[Path]) -> bool:
    """Whether a path is in one of the folders, also after all links are followed.

    The text of the path is compared first: merely opening a network path of Windows sends this account's password
    there.
    """
    text = _absolute(path)
    if "\0" in text:  # no path has it, and none can be followed
        return False
    return any(
        _is_below(text, os.path.abspath(folder)) and _is_below(os.path.realpath(text), os.path.realpath(folder))
        for folder in folders
    )


def _absolute(path: str | Path) -> str:
    return os.path.abspath(os.path.expanduser(path))


def _is_below(path: str, folder: str) -> bool:
    path, folder = os.path.normcase(path), os.path.normcase(folder)
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
