"""Pickles: nothing in them runs, and what is written passes the WebUI's scanner."""

from __future__ import annotations

import collections
import os
import pickle
import re
import struct
import sys
import types
import zipfile

import pytest
import torch

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.tensors.torch_pickle import load_pickle, save_pickle

NESTED = {
    "step": 5,
    "name": "Ünï",
    768: ({"linear.0.weight": torch.arange(6.0).reshape(2, 3).T}, {"half": torch.ones(4, dtype=torch.float16)}),
    "bf16": torch.ones(2, 3, dtype=torch.bfloat16),
    "number": torch.tensor(3),
    "empty": torch.tensor([]),
    "ordered": collections.OrderedDict(a=torch.nn.Parameter(torch.ones(3))),
    "nothing": None,
}
# v1.10.1's modules/safe.py: members of the archive, and names in the pickle
MEMBERS = re.compile(r"^([^/]+)/((data/\d+)|version|byteorder|.data/serialization_id|(data\.pkl))$")
NAMES = {("collections", "OrderedDict"), ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter")}
NAMES |= {("torch", f"{kind}Storage") for kind in ("Float", "Half", "BFloat16", "Int", "Long", "Double", "Byte")}


def assert_equal(found, expected):
    assert type(found) is type(expected) or isinstance(expected, torch.nn.Parameter)
    if isinstance(expected, torch.Tensor):
        assert found.dtype == expected.dtype and torch.equal(found, expected)
    elif isinstance(expected, dict):
        assert list(found) == list(expected)
        for key, value in expected.items():
            assert_equal(found[key], value)
    elif isinstance(expected, tuple):
        for one, other in zip(found, expected, strict=True):
            assert_equal(one, other)
    else:
        assert found == expected


@pytest.mark.parametrize("write", ["ours", "zip", "legacy"])
def test_reads_every_layout(tmp_path, write):
    path = tmp_path / "a.pt"
    if write == "ours":
        save_pickle(NESTED, path)
    else:
        torch.save(NESTED, path, _use_new_zipfile_serialization=write == "zip")
    assert_equal(load_pickle(path), NESTED)


def test_torch_itself_reads_ours(tmp_path):
    save_pickle(NESTED, tmp_path / "a.pt")
    assert_equal(torch.load(tmp_path / "a.pt", weights_only=True), NESTED)


def test_ours_has_only_what_the_webui_allows(tmp_path):
    save_pickle(NESTED, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        assert archive.testzip() is None
        assert all(MEMBERS.match(name) for name in archive.namelist())
        named = set()

        class Recorder(pickle.Unpickler):
            def find_class(self, module, name):
                named.add((module, name))
                return super().find_class(module, name)

            def persistent_load(self, identifier):
                assert identifier[0] == "storage"
                return torch.TypedStorage(_internal=True)

        Recorder(archive.open("archive/data.pkl")).load()
    assert named <= NAMES


class Evil:
    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("evil", "name"),
    [
        (Evil(os.system, "echo broken > broken"), f"{os.name}.system" if os.name == "nt" else "posix.system"),
        (Evil(eval, "1 + 1"), "builtins.eval"),
        (Evil(getattr, "", "join"), "builtins.getattr"),
        (Evil(torch.hub.load, "a", "b"), "torch.hub.load"),
        (Evil(torch.load, "a"), "torch.serialization.load"),
        (Evil(__import__, "os"), "builtins.__import__"),
    ],
)
def test_refuses_to_run_anything(tmp_path, monkeypatch, evil, name, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save({"w": torch.ones(2), "evil": evil}, "a.ckpt", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=re.escape(name)) as caught:
        load_pickle(tmp_path / "a.ckpt", field="base_model")
    assert caught.value.problem.field == "base_model"
    assert os.listdir() == ["a.ckpt"]


@pytest.mark.parametrize("zipped", [True, False])
def test_training_bookkeeping_is_ignored(tmp_path, monkeypatch, zipped):
    module = types.ModuleType("pytorch_lightning.callbacks.model_checkpoint")
    module.ModelCheckpoint = type("ModelCheckpoint", (dict,), {"__module__": module.__name__})
    with monkeypatch.context() as installed:
        for name in ("pytorch_lightning", "pytorch_lightning.callbacks", module.__name__):
            installed.setitem(sys.modules, name, module)
        callback = module.ModelCheckpoint(best=1)
        callback.state = {"score": torch.tensor(1.0)}
        content = {"callbacks": {module.ModelCheckpoint: callback}, "state_dict": {"w": torch.ones(2)}}
        torch.save(content, tmp_path / "a.ckpt", _use_new_zipfile_serialization=zipped)
    assert torch.equal(load_pickle(tmp_path / "a.ckpt")["state_dict"]["w"], torch.ones(2))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("part", [0.3, 0.9])
def test_cut_short(tmp_path, zipped, part):
    path = tmp_path / "a.ckpt"
    torch.save({"w": torch.randn(1000), "v": torch.randn(1000)}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(UserError, match="damaged"):
        load_pickle(path)


@pytest.mark.parametrize("count", [-3, -(2**63), 2**62])
def test_an_old_file_whose_count_makes_no_sense(tmp_path, count):
    path, numbers = tmp_path / "a.pt", struct.pack("<3f", 1, 1, 1)
    torch.save({"w": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
    content = path.read_bytes()
    assert content.endswith(struct.pack("<q", 3) + numbers)
    path.write_bytes(content[:-20] + struct.pack("<q", count) + numbers)
    with pytest.raises(UserError, match="cut short"):
        load_pickle(path)
