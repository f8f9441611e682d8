"""No model gets its name before it has been read back and compared."""

from __future__ import annotations

import pytest
from torch import Tensor

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.formats import verified_write
from dreambooth_ext.engine.formats.checkpoint_file import export_checkpoint
from dreambooth_ext.engine.models.base_model import open_base
from tests import tiny


def trained_unet(base) -> dict[str, Tensor]:
    return {key: value + 0.01 for key, value in base.unet().state_dict().items()}


def test_a_full_disk_is_said_before_writing(tmp_path, monkeypatch):
    base = open_base(tiny.single_file(tmp_path))
    monkeypatch.setattr(verified_write, "free_bytes", lambda path: 1000)
    with pytest.raises(UserError, match="free"):
        export_checkpoint(base, {"unet": trained_unet(base)}, tmp_path / "cat.ckpt", precision="fp32", metadata={})


def test_a_disk_that_changes_numbers_is_noticed(tmp_path, monkeypatch):
    base = open_base(tiny.single_file(tmp_path))
    save = verified_write.save_tensors

    def failing(state, path, metadata):
        save(state, path, metadata)
        content = bytearray(path.read_bytes())
        content[-100] ^= 1
        path.write_bytes(content)

    monkeypatch.setattr(verified_write, "save_tensors", failing)
    path = tmp_path / "cat.safetensors"
    with pytest.raises(UserError, match="reads back differently"):
        export_checkpoint(base, {"unet": trained_unet(base)}, path, precision="fp16", metadata={})
    assert not path.exists()
