"""Training pictures for the page: uploaded sets, and folders of this machine if the caller may see them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.config.parsing import shown
from ...core.config.run_config import RunConfig
from ...core.data import picture_entries, picture_list
from ...core.errors import UserError
from ..errors import Refusal
from ..hosts import path_policy
from ..jobs.dispatcher import Dispatcher
from ..pictures import set_about
from ..pictures.copy_jobs import CopyJobs
from ..pictures.uploads import PictureSets
from ..runs.run_index import RunIndex, is_component
from .runs_ahead import picture_folders, runs_ahead
from .set_users import SetUsers

if TYPE_CHECKING:
    from ..hosts.host import Host

SHOWN = 24  # pictures of a run's subject


class PictureFolders:
    """Lists, shows, copies and deletes pictures; `sets` saves new ones."""

    def __init__(self, host: Host, index: RunIndex, dispatcher: Dispatcher, sets: PictureSets, copies: CopyJobs):
        self.host, self.run_index, self.dispatcher, self.sets, self.copies = host, index, dispatcher, sets, copies
        self.users = SetUsers(index.runs_dir, sets.folder)

    def list(self, name: str | None, folder: str | None, start: int) -> dict[str, Any]:
        """The pictures of a set, or of a folder of this machine; all sets if neither is given."""
        if name:
            return self.sets.list(name, start)
        if not folder:
            runs = self.users.runs_of()
            return {"sets": [{**one, "runs": runs.get(one["name"], [])} for one in self.sets.sets()]}
        path_policy.check_paths(RunConfig(instance_data_dir=folder), self.host)
        return self.sets.list_folder(Path(os.path.abspath(os.path.expanduser(folder))), start)

    def place(self, name: str | None, folder: str | None) -> Path:
        """The folder of a set, or one of this machine. Raises a Refusal."""
        if name or not folder:
            return self.sets.path(name or "")
        path_policy.check_paths(RunConfig(instance_data_dir=folder), self.host)
        return Path(os.path.abspath(os.path.expanduser(folder)))

    def copy(self, name: str, folder: str) -> dict[str, Any]:
        """Begin to copy a set, or a folder of this machine, into a new set (`CopyJobs.start`). Raises a Refusal."""
        if not name.strip() and not folder.strip():
            raise UserError("captions.no_place", "set")
        return self.copies.start(self.place(name, folder), name)

    def file(self, name: str, picture: str, folder: str | None) -> Path:
        """The file of a set's picture, or of one in a folder that `list` showed. Raises a Refusal."""
        if not folder:
            return self.sets.picture(name, picture)
        path_policy.check_paths(RunConfig(instance_data_dir=folder), self.host)
        if not all(map(is_component, picture.split("/"))):
            raise Refusal(404, "service.no_picture", "name", picture=shown(picture))
        path = Path(os.path.abspath(os.path.expanduser(folder)), picture)
        path_policy.check_paths(RunConfig(instance_data_dir=str(path)), self.host)
        if path.suffix.lower() not in picture_entries.EXTENSIONS or not path.is_file():
            raise Refusal(404, "service.no_picture", "name", picture=shown(picture))
        return path

    def of_run(self, id: str) -> dict[str, Any]:
        """The first pictures that a run learns from, as they were noted when it was queued, how many there are, and the
        sets that they are from.

        None of them are listed where the host offers them to no strangers, or an earlier version noted nothing.
        """
        run = self.run_index.find(id)
        paths, count = picture_list.first(run.path, SHOWN)
        shown_ones = [(number, path) for number, path in enumerate(paths) if self._is_offered(path)]
        return {"pictures": [{"number": number, "name": path.name} for number, path in shown_ones], "count": count,
                "sets": self.users.sets_of(run)}  # fmt: skip

    def file_of_run(self, id: str, number: str) -> Path:
        """One of those, by its number. Raises a Refusal."""
        paths, _ = picture_list.first(self.run_index.find(id).path, SHOWN)
        path = {str(place): path for place, path in enumerate(paths)}.get(number)
        if path is None or not self._is_offered(path) or not path.is_file():
            raise Refusal(404, "service.no_picture", "number", picture=shown(number))
        return path

    def _is_offered(self, path: Path) -> bool:
        if path.suffix.lower() not in picture_entries.EXTENSIONS:
            return False
        try:
            path_policy.check_paths(RunConfig(instance_data_dir=str(path)), self.host)
        except Refusal:
            return False
        return True

    def rename(self, name: str, title: str) -> dict[str, Any]:
        """Give a set another title; its folder stays, since runs go by that. Raises a Refusal."""
        folder = self.sets.path(name)
        return {"set": folder.name, "title": set_about.write_title(folder, title)}

    def delete(self, name: str, picture: str | None = None, stamp: str = "") -> None:
        """Delete a set or one of its pictures. Raises a Refusal (409) while a run needs them; `stamp`: see
        `PictureSets`."""
        folder = self.sets.path(name)
        for run in runs_ahead(self.dispatcher, self.run_index):
            if any(path_policy.inside(path, [folder]) for path in picture_folders(run)):
                raise Refusal(409, "service.pictures_in_use", run=run.id)
        self.sets.delete(name, picture, stamp)
