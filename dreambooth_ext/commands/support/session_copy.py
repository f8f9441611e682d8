"""A run's copy on a slow or unreliable disk (a mounted Drive): enough to go on with it on another machine.

The run itself stays on the machine's own disk. Whatever is copied takes its name when it is whole, training states
first, so that the copy can be resumed whenever the machine goes.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ...core.runs.run_folder import Run
from ...core.system import files
from ...host.publishing import model_files

LEFT_OUT = (".lock", ".late")  # endings of files that concern one machine alone
STATE = "state.json"  # copied last: by it a folder counts as a run


class RunCopy:
    """The copy of one run; it looks at `copy` only once, for a Drive is slow to answer."""

    def __init__(self, run: Run, copy: Path):
        self.run, self.copy = run, copy
        self.states = {path.name for path in _states(copy / "checkpoints")}
        self.pictures = {path.relative_to(copy / "samples") for path in (copy / "samples").rglob("*.*")}

    def save(self, all: bool = False) -> bool:
        """Copy new training states and previews; whether there was a new state. all: also what is told of the run,
        which otherwise comes with a state. What is deleted meanwhile comes the next time."""
        now = {path.name for path in _states(self.run.checkpoints)}
        new = sorted(now - self.states)
        for name in new:
            _copy(self.run.checkpoints / name, self.copy / "checkpoints" / name)
            self.states.add(name)
        for path in sorted(self.run.samples.rglob("*.*")):
            picture = path.relative_to(self.run.samples)
            if picture not in self.pictures and not path.name.startswith(files.TEMPORARY):
                _copy(path, self.copy / "samples" / picture)
                self.pictures.add(picture)
        if new or all:
            self._save_records()
            for name in self.states - now if now else ():
                shutil.rmtree(self.copy / "checkpoints" / name, ignore_errors=True)
            self.states &= now
        return bool(new)

    def _save_records(self) -> None:
        plain = (path for path in self.run.path.iterdir() if path.is_file() and not path.name.endswith(LEFT_OUT))
        for path in sorted(plain, key=lambda path: path.name == STATE):
            if not path.name.startswith(files.TEMPORARY):
                _copy(path, self.copy / path.name)


def restore(copies: Path, runs: Path) -> None:
    """Bring the copied runs onto this machine that it does not have."""
    for copy in sorted(copies.iterdir()) if copies.is_dir() else ():
        if (copy / STATE).is_file() and not (runs / copy.name).exists():
            _copy(copy, runs / copy.name)
            for name in ("commands", "checkpoints", "samples", "artifacts"):
                (runs / copy.name / name).mkdir(exist_ok=True)


def save_model(artifact: Path, folder: Path) -> Path:
    """A finished model with what lies beside it, over an older one of that name; returns its place."""
    kept = folder / artifact.name
    if kept.exists() and kept.stat().st_mtime >= artifact.stat().st_mtime:  # copied last
        return kept
    yaml, clip = (model_files.sidecar(artifact, suffix) for suffix in (".yaml", model_files.CLIP))
    for path in (clip, *(model_files.sidecar(artifact, suffix) for suffix in (".json", ".preview.png"))):
        if path.exists():
            _copy(path, folder / path.name)
    if yaml.exists():
        content = yaml.read_bytes()
        folder.mkdir(parents=True, exist_ok=True)
        named = model_files.naming(content, folder / clip.name) if clip.is_dir() else content
        files.write_text(folder / yaml.name, named.decode("utf-8"))
    return _copy(artifact, kept)


def _states(folder: Path) -> list[Path]:
    found = folder.iterdir() if folder.is_dir() else iter(())
    return sorted(path for path in found if path.is_dir() and not path.name.startswith(files.TEMPORARY))


def _copy(source: Path, target: Path) -> Path:
    """Whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    with files.replacing(target) as temporary:
        if source.is_dir():
            shutil.copytree(source, temporary, ignore=shutil.ignore_patterns(f"{files.TEMPORARY}*", "*.lock"))
        else:
            shutil.copyfile(source, temporary)
    return target
