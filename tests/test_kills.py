"""No model is lost, whatever is killed when: kills.py tells how, and `python -m tests.kills` is the long proof."""

from __future__ import annotations

import os

import pytest

pytest.importorskip("torch")

from tests import kills

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes are forked")


def test_a_few_kills_lose_no_model(tmp_path):
    total, faults = kills.prove(tmp_path, 6, seed=3, each=6)
    assert faults == [] and total.total() == 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_hundreds_of_kills_lose_no_model(tmp_path, seed):
    total, faults = kills.prove(tmp_path, 30, seed)
    assert faults == [] and total.total() >= 30


def test_what_is_missing_or_another_model_is_found(tmp_path):
    """The proof itself can fail."""
    from dreambooth_ext.host.publishing import model_files
    from tests import tiny

    made = tiny.single_file(tmp_path / "made", name="cat")
    out = tmp_path / "out"
    assert kills.model_faults(made, out / made.name) == ["is missing"]
    published = model_files.publish(made, out, run="r", name="cat")
    assert kills.model_faults(made, published) == []
    model_files.sidecar(published, ".yaml").unlink()
    assert kills.model_faults(made, published) == ["has no .yaml"]
    published.unlink()
    published.write_bytes(b"half")
    assert kills.model_faults(made, published) == ["is another model"]
