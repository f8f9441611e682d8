"""What lists tell of a run besides its state: notes, time taken, training states, and how a search finds it."""

from __future__ import annotations

import json
import threading

import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.runs import notes, run_folder, run_list, training_states
from dreambooth_ext.core.runs.notes import Notes
from dreambooth_ext.core.runs.time_taken import seconds_trained
from dreambooth_ext.core.system import files


@pytest.fixture
def run(tmp_path) -> run_folder.Run:
    config = RunConfig(name="cat", base_model="/models/sd15.safetensors", instance_prompt="a photo of zkz cat")
    made = run_folder.create(tmp_path / "runs", config)
    made.write_state(status="stopped", step=5)
    return made


def test_notes_are_changed_one_by_one(run):
    assert notes.read(run) == Notes()
    assert notes.change(run, note=" good\r\nface ") == Notes("good\nface", False)
    assert notes.change(run, starred=True) == notes.read(run) == Notes("good\nface", True)
    assert notes.change(run, note="") == Notes("", True)
    with pytest.raises(UserError, match="10000 at most"):
        notes.change(run, note="x" * 10_001)


def test_a_star_that_comes_beside_a_note_waits_for_it(run):
    star = threading.Thread(target=notes.change, args=(run,), kwargs={"starred": True})
    with files.locked(run.path / notes.LOCK):
        star.start()
        star.join(0.1)
        assert star.is_alive()
        files.write_json(run.path / notes.FILE, {"note": "good"})
    star.join(20)
    assert notes.read(run) == Notes("good", True)


@pytest.mark.parametrize("concepts", [5, True, {"a": 1}, "ab", [3, None]])
def test_a_run_of_damaged_concepts_is_listed_all_the_same(run, concepts):
    config = files.read_json(run.path / "config.json")
    files.write_json(run.path / "config.json", {**config, "concepts": concepts})
    assert run.about()["words"] == "a photo of zkz cat"


@pytest.mark.parametrize("text", ["", "[]", '{"note": 3, "starred": "yes"}', "\xff", "[" * 100_000])
def test_damaged_notes_are_none(run, text):
    (run.path / notes.FILE).write_bytes(text.encode("latin1"))
    assert notes.read(run) == Notes()


def test_notes_bring_no_deleted_run_back(run):
    run.delete()
    with pytest.raises(FileNotFoundError):
        notes.change(run, note="x")
    assert not run.path.exists()


def written(run, *events) -> float | None:
    lines = [json.dumps({"n": n, "time": time, "type": type, **about}) for n, (time, type, about) in enumerate(events)]
    run.events.path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return seconds_trained(run.events.path)


def test_time_is_taken_while_a_worker_has_the_run(run):
    def said(status):
        return {"status": status}

    assert written(run, (100, "status", said("queued"))) is None
    first = [(110.5, "status", said("preparing")), (120, "status", {"status": "preparing", "stage": "x"})]
    killed = [(140.5, "step", {"step": 1, "loss": 0.1}), (9000, "status", said("failed"))]  # noticed much later
    assert written(run, *first, *killed) == 30
    again = [(9500, "status", said("queued")), (9600, "status", said("preparing")), (9700, "step", {"step": 2})]
    saved = [(9710, "status", {"status": "saving", "ending": "done"}), (12000, "published", {"name": "cat"})]
    assert written(run, *first, *killed, *again) == 130
    assert written(run, *first, *killed, *again, *saved, (12001, "status", said("done"))) == 140


def fill(run) -> None:
    for file in ("checkpoints/5/weights.safetensors", "frozen/text.safetensors", "artifacts/cat.safetensors"):
        (run.path / file).parent.mkdir(parents=True, exist_ok=True)
        (run.path / file).write_bytes(bytes(1000))


def test_states_are_deleted_and_models_stay(run):
    fill(run)
    assert training_states.size(run) == training_states.delete(run) == 2000
    assert list(run.checkpoints.iterdir()) == [] and not (run.path / "frozen").exists()
    assert (run.artifacts / "cat.safetensors").stat().st_size == 1000
    with pytest.raises(UserError, match="has no training states"):
        training_states.delete(run)
    with pytest.raises(UserError, match="cannot go on"):
        training_states.check_kept(run, run.state())


@pytest.mark.parametrize("state", ["trains", "waits", "is owed"])
def test_states_that_are_needed_stay(run, state):
    fill(run)
    lock = run.take() if state == "trains" else None
    if state == "waits":
        run.write_state(status="queued")
    if state == "is owed":
        (run.path / "host.json").write_text('{"settled": false}', encoding="utf-8")
    with pytest.raises(UserError):
        training_states.delete(run)
    assert training_states.size(run) == 2000
    if lock:
        lock.close()


def test_a_search_finds_by_each_of_its_words(run):
    notes.change(run, note="The best FACE so far")
    described = run_list.describe(run)
    for wanted in ("", "cat", "DreamBooth", "sd15", "zkz", "best face", "cat zkz best"):
        assert run_list.matches(described, wanted), wanted
    for wanted in ("dog", "cat dog", "/models"):
        assert not run_list.matches(described, wanted), wanted


def test_lists_in_every_order(run, tmp_path):
    big = run_folder.create(tmp_path / "runs", RunConfig(name="Ant"))
    (big.artifacts / "ant.safetensors").write_bytes(bytes(100_000))
    known = [run_list.describe(one) for one in (run, big)]
    named = {by: [one["name"] for one in run_list.in_order(known, by)] for by in run_list.SORTS}
    assert named["name"] == named["size"] == ["Ant", "cat"] and named["newest"] == named["oldest"][::-1]


def test_a_run_that_has_lost_its_states_by_half_cannot_go_on(run, monkeypatch):
    fill(run)

    def held(path):
        if path.name == "frozen":
            raise PermissionError("open in a program")
        remove(path)

    remove = training_states.files.remove
    monkeypatch.setattr(training_states.files, "remove", held)
    with pytest.raises(UserError, match="could not be deleted"):
        training_states.delete(run)
    assert run.state()["states_deleted"] is True
