"""No model is lost, whatever is killed when: kills.py and, for several processes,
kills_together.py tell how, and `python -m tests.kills` is the long proof."""

from __future__ import annotations

import os
import sys

import pytest

pytest.importorskip("torch")

from tests import kills, kills_together
from tests.commands.test_cli import needs_environment
from tests.noting import Note

pytestmark = pytest.mark.skipif(os.name == "nt", reason="processes are forked")


def test_a_few_kills_lose_no_model(tmp_path):
    total, faults = kills.prove(tmp_path, 6, seed=3, each=6)
    assert faults == [] and total.total() == 6


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 110))
def test_hundreds_of_kills_lose_no_model(tmp_path, seed):
    total, faults = kills.prove(tmp_path, 30, seed)
    assert faults == [] and total.total() >= 30


@pytest.mark.slow
@needs_environment
@pytest.mark.skipif(sys.platform != "linux", reason="finds the processes in /proc")
@pytest.mark.parametrize("processes", [2, 3])
def test_several_processes_that_are_killed_skip_no_picture_and_come_to_the_same_weights(tmp_path, processes):
    total, faults = kills_together.prove(tmp_path, processes, 10, seed=processes)
    assert faults == [] and total.total() == 10


def taken(*batches: str, world: int = 2, begin: int = 0) -> list[Note]:
    """Notes of so many processes, from step `begin` on. batches: the letters of their pictures."""
    return [Note(begin + n // world, n % world, 0, world, tuple(batch)) for n, batch in enumerate(batches)]


def test_what_is_done_again_counts_once_and_another_number_of_processes_goes_on(monkeypatch):
    monkeypatch.setattr(kills_together, "STEPS", 5)
    first, second = taken("ab", "cd", "e", "ab", "cd"), taken("e", "ba", "dc", world=1, begin=2)
    found, faults = kills_together.lineage(first + second, [(0, 0), (5, 2)])
    assert faults == [] and [note.pictures for step in range(5) for note in found[step]] == [
        ("a", "b"), ("c", "d"), ("e",), ("a", "b"), ("e",), ("b", "a"), ("d", "c"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("notes", "tries", "fault"),
    [
        (taken("ab", "cd", "e"), [(0, 0)], "step 1 was taken with"),  # one process has done nothing
        (taken("ab", "cd") + taken("ab", "cd", begin=1), [(0, 0), (2, 0)], "though the newest training state was of 0"),
        (taken("ab", "cd") + taken("ab", "cd", begin=2), [(0, 0), (2, 2)], "steps 1 to 1 were never taken"),
    ],
)
def test_steps_that_are_missing_are_found(monkeypatch, notes, tries, fault):
    monkeypatch.setattr(kills_together, "STEPS", 2)
    assert any(fault in told for told in kills_together.lineage(notes, tries)[1])


def test_pictures_that_are_skipped_or_repeated_are_found():
    whole = {0: taken("ab", "cd"), 1: taken("e", "ec"), 2: taken("ab")}
    assert kills_together.skipped_or_repeated(whole) == []
    for other in ("ea", "a", "ab"):
        assert kills_together.skipped_or_repeated({**whole, 0: taken("ab", other)}), other


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
