"""Rows: files with a program in them, for every reader. None runs: what it would write is looked for."""

from __future__ import annotations

import functools
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dreambooth_ext.engine.formats import embedding_file
from dreambooth_ext.engine.tensors.tensor_file import open_tensors
from dreambooth_ext.engine.training import training_state
from tests.bad_input import sound
from tests.bad_input.case import Case, Verb
from tests.bad_input.rows.descriptions import beside
from tests.bad_input.verbs import BASES, HYPERNETWORKS, LORAS, WORDS

WRITTEN = "/tmp/written by a model"  # replaced by a path of as many letters
VICTIM = "victim".ljust(len(WRITTEN), "x")  # in the working directory


class Malicious(torch.nn.Module):
    @torch.jit.export
    def __getstate__(self):
        return 0

    @torch.jit.export
    def __setstate__(self, state: int):
        torch.save("a line of a stranger's", "/tmp/written by a model")


class Evil:
    """Runs a command where it is unpickled by anything careless."""

    def __reduce__(self):
        return os.system, (f"echo dead > {VICTIM}",)


@functools.cache
def program() -> Path:
    path = sound.whole() / "program.ckpt"
    torch.jit.save(torch.jit.script(Malicious()), path)
    return path


def script(name: str) -> Callable[[Path], Path]:
    """The program, which would write a file into the working directory, under a model's name."""

    def make(folder: Path) -> Path:
        with zipfile.ZipFile(program()) as old, zipfile.ZipFile(folder / name, "w") as new:
            for member in old.infolist():
                new.writestr(member, old.read(member).replace(WRITTEN.encode(), VICTIM.encode()))
        return folder / name

    return make


def part(folder: Path) -> Path:
    """A diffusers folder whose VAE is the program."""
    base = sound.diffusers_in(folder)
    (base / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    script("diffusion_pytorch_model.bin")(base / "vae")
    return base


def evil(form: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = folder / "evil.ckpt"
        if form in ("zip", "legacy"):
            content = {"state_dict": {"w": torch.ones(2, 2), "evil": Evil()}}
            torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
        else:
            path.write_bytes(pickle.dumps(Evil(), 4 if form == "bare" else 0))
        return path

    return make


def unharmed(verb: Verb) -> Verb:
    """The verb, at work in a folder into which the program would write."""

    def read(given: Path, folder: Path) -> Any:
        place = Path.cwd()
        os.chdir(folder)
        try:
            return verb.read(given, folder)
        finally:
            os.chdir(place)
            assert not (folder / VICTIM).exists(), "the program ran"

    return Verb(verb.name, read, verb.field)


def _state(path: Path, folder: Path) -> None:
    shutil.copy(path, folder / training_state.TRAINER)
    training_state.Checkpoint(folder).trainer()


TENSORS = (Verb("read", lambda path, _: open_tensors(path)),)
BUNDLE = (Verb("read", lambda path, _: embedding_file.read_bundle(path, "lora")),)
STATE = (Verb("resume", _state),)
SCRIPTS: dict[str, tuple[Callable[[Path], Path], tuple[Verb, ...], str]] = {
    "base": (script("a.ckpt"), BASES, "base_model"),
    "base under a wrong name": (script("a.safetensors"), BASES, "base_model"),
    "part of a folder": (part, BASES, "base_model"),
    "any tensors": (script("a.pth"), TENSORS, "base_model"),
    "LoRA": (script("a.pt"), LORAS, "network_weights"),
    "embedding": (script("a.pt"), WORDS, "embedding_weights"),
    "words of a LoRA": (script("a.pt"), BUNDLE, "lora"),
    "hypernetwork": (script("a.pt"), HYPERNETWORKS, "hypernetwork_weights"),
    "training state": (script("a.pt"), STATE, "run"),
}
KINDS = {
    "LoRA": (LORAS, "network_weights"),
    "embedding": (WORDS, "embedding_weights"),
    "hypernetwork": (HYPERNETWORKS, "hypernetwork_weights"),
}
CASES: list[Case] = []


def add(name: str, make: Callable[[Path], Path], verbs: tuple[Verb, ...], field: str, words: str) -> None:
    CASES.append(Case(name, make, tuple(map(unharmed, verbs)), field, words))


for name, (make, verbs, field) in SCRIPTS.items():
    add(f"TorchScript: {name}", make, verbs, field, "TorchScript program")
for form in ("zip", "legacy", "bare", "old protocol"):
    said = "a text file" if form == "old protocol" else "may be malicious"
    add(f"pickled command, {form}: base", evil(form), BASES, "base_model", said)
for name, (verbs, field) in KINDS.items():
    add(f"pickled command: {name}", evil("zip"), verbs, field, "may be malicious")
for kind in ("apply", "new"):
    text = f"model: !!python/object/{kind}:os.system ['echo dead > {VICTIM}']\n"
    add(f"yaml with a command, {kind}", beside(text), BASES, "base_model", "is not valid YAML")
