"""A TorchScript program under a model's name: no reader runs it, and each says why the file is refused."""

from __future__ import annotations

import contextlib
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dreambooth_ext.config import RunConfig
from dreambooth_ext.engine import checkpoint, embedding_file, hypernetwork_file, inspection, network_file
from dreambooth_ext.engine.base import open_base
from dreambooth_ext.engine.tensorfile import open_tensors
from dreambooth_ext.errors import UserError
from dreambooth_ext.host.environment import Environment
from dreambooth_ext.host.inspector import Inspector
from tests import tiny, training

WRITTEN = "/tmp/written by a model"  # replaced by a path of as many letters


class Malicious(torch.nn.Module):
    @torch.jit.export
    def __getstate__(self):
        return 0

    @torch.jit.export
    def __setstate__(self, state: int):
        torch.save("a line of a stranger's", "/tmp/written by a model")


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("program") / "program.ckpt"
    torch.jit.save(torch.jit.script(Malicious()), path)
    return path


def placed(program: Path, path: Path) -> Path:
    """The program, which now would write a file called `victim` into the working directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(program) as old, zipfile.ZipFile(path, "w") as new:
        for member in old.infolist():
            new.writestr(member, old.read(member).replace(WRITTEN.encode(), b"victim".ljust(len(WRITTEN), b"x")))
    return path


def victim(folder: Path) -> Path:
    return folder / "victim".ljust(len(WRITTEN), "x")


def part(path: Path) -> None:
    """A diffusers folder whose VAE is the program."""
    folder = tiny.diffusers_folder(path.parent, name="base")
    (folder / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    shutil.copy(path, folder / "vae" / "diffusion_pytorch_model.bin")
    open_base(folder)


def state(path: Path) -> None:
    shutil.copy(path, path.parent / checkpoint.TRAINER)
    checkpoint.Checkpoint(path.parent).trainer()


def inspected(path: Path) -> None:
    config = RunConfig(base_model=str(path), instance_data_dir=training.pictures(path.parent / "pictures"))
    (problem,) = inspection.inspect(config.as_dict(), path.parent / "runs")["problems"]
    raise UserError(**problem)


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "base": ("a.ckpt", open_base),
    "base under a wrong name": ("a.safetensors", open_base),
    "part of a folder": ("a.bin", part),
    "any tensors": ("a.pth", open_tensors),
    "LoRA": ("a.pt", lambda path: network_file.shapes(path, "network_weights")),
    "embedding": ("a.pt", lambda path: embedding_file.read(path, "embedding")),
    "words of a LoRA": ("a.pt", lambda path: embedding_file.read_bundle(path, "lora")),
    "hypernetwork": ("a.pt", lambda path: hypernetwork_file.read(path, "hypernetwork")),
    "training state": ("a.pt", state),
    "check": ("a.ckpt", inspected),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_runs_a_program(program, tmp_path, monkeypatch, reader):
    monkeypatch.chdir(tmp_path)
    name, read = READERS[reader]
    with pytest.raises(UserError, match="TorchScript program"):
        read(placed(program, tmp_path / name))
    assert not victim(tmp_path).exists()


def test_the_program_does_write_where_torch_loads_it(program, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with contextlib.suppress(RuntimeError):
        torch.jit.load(placed(program, tmp_path / "a.ckpt"))
    assert victim(tmp_path).exists()


def test_the_deep_check_of_a_host(program, tmp_path, monkeypatch):
    """What `check --base-model` and `POST check {"deep": true}` ask, in a process of its own."""
    monkeypatch.chdir(tmp_path)
    path = placed(program, tmp_path / "a.ckpt")
    config = RunConfig(base_model=str(path), instance_data_dir=training.pictures(tmp_path / "pictures"))
    with contextlib.closing(Inspector(Environment(), tmp_path / "runs")) as asked:
        (problem,) = asked.inspect(config)["problems"]
    assert problem["field"] == "base_model" and "TorchScript program" in problem["message"], json.dumps(problem)
    assert not victim(tmp_path).exists()


@pytest.mark.parametrize(
    "name", ["constants.pkl", "code/__torch__.py", "bytecode.pkl", "data.pkl", "extra/a", "data/x", "x", "../data/0"]
)
def test_an_archive_that_is_more_than_a_plain_state(tmp_path, name):
    """Even where each tensor of it could be read."""
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"w": torch.ones(2)}}, path)
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].partition("/")[0]
    with (
        zipfile.ZipFile(path, "a") as archive,
        pytest.warns(UserWarning) if name == "data.pkl" else contextlib.nullcontext(),
    ):
        archive.writestr(f"{folder}/{name}", b"")
    with pytest.raises(UserError, match=r"TorchScript program|no place in a model file"):
        open_tensors(path)
    torch.save({"state_dict": {"w": torch.ones(2)}}, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("another/version", b"3")
    with pytest.raises(UserError, match="no place in a model file"):
        open_tensors(path)
