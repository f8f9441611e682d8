"""No model gets its name before it has been read back and compared."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from torch import Tensor

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.formats import verified_write
from dreambooth_ext.engine.formats.checkpoint_file import export_checkpoint
from dreambooth_ext.engine.formats.metadata import HASH_KEY, HASH_TO_COME
from dreambooth_ext.engine.models.base_model import open_base
from tests import tiny


def trained_unet(base) -> dict[str, Tensor]:
    return {key: value + 0.01 for key, value in base.unet().state_dict().items()}


def test_a_full_disk_is_said_before_writing(tmp_path, monkeypatch):
    base = open_base(tiny.single_file(tmp_path))
    monkeypatch.setattr(verified_write, "free_bytes", lambda path: 1000)
    with pytest.raises(UserError, match="free"):
        export_checkpoint(base, {"unet": trained_unet(base)}, tmp_path / "cat.ckpt", precision="fp32", metadata={})


@pytest.mark.parametrize("suffix", (".safetensors", ".ckpt"))
@pytest.mark.parametrize("place", (20, -100), ids=("header", "values"))
def test_a_disk_that_changes_numbers_is_noticed(tmp_path, monkeypatch, suffix, place):
    base = open_base(tiny.single_file(tmp_path))
    back = "read_back" if suffix == ".safetensors" else "require_same"
    read = getattr(verified_write, back)

    def failing(*args):
        path = next(arg for arg in args if isinstance(arg, Path))
        content = bytearray(path.read_bytes())
        at = place if suffix == ".safetensors" else content.rindex(value_of(base)) + 1
        content[at] ^= 1
        path.write_bytes(content)
        return read(*args)

    monkeypatch.setattr(verified_write, back, failing)
    path = tmp_path / f"cat{suffix}"
    with pytest.raises(UserError, match="reads back differently"):
        export_checkpoint(base, {"unet": trained_unet(base)}, path, precision="fp16", metadata={})
    assert not path.exists()


def value_of(base) -> bytes:
    """Bytes of a tensor that a pickle contains as they are."""
    return trained_unet(base)["conv_out.bias"].half().numpy().tobytes()


@pytest.mark.parametrize("suffix", (".safetensors", ".ckpt"))
def test_the_hashes_are_those_of_the_file(tmp_path, suffix):
    """Of all of it, as the WebUI reads it, and of its values alone, as modelspec asks."""
    base = open_base(tiny.single_file(tmp_path))
    metadata = {HASH_KEY: HASH_TO_COME, "of": HASH_TO_COME[:-1]}
    path = tmp_path / f"cat{suffix}"
    made = export_checkpoint(base, {"unet": trained_unet(base)}, path, precision="fp16", metadata=metadata)
    content = path.read_bytes()
    assert made.sha256 == hashlib.sha256(content).hexdigest()
    if suffix == ".safetensors":
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:start])["__metadata__"]
        assert header == {HASH_KEY: f"0x{hashlib.sha256(content[start:]).hexdigest()}", "of": HASH_TO_COME[:-1]}


@pytest.mark.parametrize("ruin, precision, said", ((float("nan"), "fp32", "invalid numbers"), (1e6, "fp16", "fp16")))
def test_ruined_weights_get_no_file(tmp_path, ruin, precision, said):
    base = open_base(tiny.single_file(tmp_path))
    trained = trained_unet(base)
    list(trained.values())[-1].view(-1)[-1] = ruin
    with pytest.raises(UserError, match=said):
        export_checkpoint(base, {"unet": trained}, tmp_path / "cat.safetensors", precision=precision, metadata={})
    assert [file.name for file in tmp_path.iterdir() if "cat" in file.name] == []
