"""Edits as data: what they refuse, and where their pixels come from."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.pictures import edit_history
from dreambooth_ext.core.pictures.edit import Edit, after, apply, inscribed, inverse
from dreambooth_ext.core.pictures.edit_history import History, Mask, Step

sizes = st.tuples(st.integers(40, 3000), st.integers(40, 3000))
angles = st.floats(-45, 45).map(lambda angle: round(angle, 2))


@given(sizes, angles)
def test_what_is_left_of_a_straightened_picture_has_no_empty_corner(size, angle):
    left, top, right, bottom = inscribed(size, angle)
    x, y = size[0] / 2, size[1] / 2
    for corner in ((left, top), (right, top), (left, bottom), (right, bottom)):
        away, up = corner[0] - x, corner[1] - y
        back = math.radians(-angle)  # turned back, it must be inside
        inside = (away * math.cos(back) - up * math.sin(back) + x, away * math.sin(back) + up * math.cos(back) + y)
        assert -1 <= inside[0] <= size[0] + 1 and -1 <= inside[1] <= size[1] + 1
    assert (right - left) / size[0] == pytest.approx((bottom - top) / size[1], abs=0.05)
    Edit(0, angle, (left, top, right, bottom)).check(size) if min(right - left, bottom - top) >= 16 else None


@given(sizes, st.integers(0, 3), angles)
def test_the_middle_stays_the_middle(size, turns, angle):
    edit = Edit(turns, angle)
    width, height = edit.size(size)
    x, y = apply(edit.source(size), (width / 2, height / 2))
    assert abs(x - size[0] / 2) <= 0.71 and abs(y - size[1] / 2) <= 0.71


@pytest.mark.parametrize(
    ("turns", "corner"),
    [(0, (0, 0)), (1, (0, 50)), (2, (80, 50)), (3, (80, 0))],
)
def test_a_quarter_turn_is_clockwise(turns, corner):
    """The corner of the original that comes to the upper left."""
    assert apply(Edit(turns).source((80, 50)), (0, 0)) == corner
    assert Edit(turns).size((80, 50)) == ((50, 80) if turns % 2 else (80, 50))


def test_straightening_is_clockwise():
    """A point right of the middle goes down, so what is seen right of the middle comes from above it."""
    edit = Edit(0, 30, (40, 40, 60, 60))
    x, y = apply(edit.source((100, 100)), (20, 10))
    assert (x, y) == pytest.approx((50 + 10 * math.cos(math.radians(30)), 50 - 10 * math.sin(math.radians(30))))


@given(sizes, st.integers(0, 3), angles)
def test_maps_have_inverses(size, turns, angle):
    source = Edit(turns, angle).source(size)
    assert after(inverse(source), source) == pytest.approx((1, 0, 0, 0, 1, 0), abs=1e-6)


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"turns": 4}, "turns"), ({"turns": True}, "turns"), ({"turns": "1"}, "turns"), ({"turns": 1.0}, "turns"),
        ({"straighten": 46}, "straighten"), ({"straighten": math.nan}, "straighten"),
        ({"straighten": "1"}, "straighten"), ({"straighten": -45.1}, "straighten"),
        ({"crop": [1, 2, 3]}, "crop"), ({"crop": [1, 2, 3.5, 4]}, "crop"), ({"crop": "1234"}, "crop"),
        ({"crop": [0, 0, 10, 10]}, "small_crop"), ({"crop": [0, 0, 101, 50]}, "crop_outside"),
        ({"crop": [-1, 0, 50, 50]}, "crop_outside"), ({"crop": [50, 50, 20, 20]}, "small_crop"),
        ({"crop": [0, 0, 100, 50], "straighten": 10}, "crop_outside"), ({"crop": [10**9, 0, 1, 1]}, "crop"),
        ({"turns": 1, "crop": [0, 0, 100, 50]}, "crop_outside"),
    ],
)  # fmt: skip
def test_what_is_refused(values, code):
    with pytest.raises(UserError) as refused:
        Edit.from_dict(values).check((100, 50))
    assert refused.value.problem.code == f"editing.{code}" and refused.value.problem.remedy


def test_tiny_pictures_may_be_cropped_to_all_of_them():
    Edit(0, 0, (0, 0, 8, 5)).check((8, 5))
    assert Edit(1, 0, (0, 0, 5, 8)).whole((8, 5)) == Edit(1)


# --- histories


def step(turns: int, digest: str) -> Step:
    return Step(Edit(turns), digest, {"a_mask.png": Mask("m.png", Edit(), "n.png")} if turns else {})


def test_undo_and_redo():
    history = History("a.jpg", (10, 20), (step(0, "0"),))
    assert history.moved(-1) is None and history.moved(1) is None and not history.is_edited
    for turns in (1, 2, 3):
        history = history.done(step(turns, str(turns)))
    back = history.moved(-2)
    assert back and back.now.digest == "1" and back.is_edited
    assert [one.digest for one in back.done(step(2, "x")).steps] == ["0", "1", "x"]  # what was undone is gone
    assert history.found_at("0").at == 0 and history.found_at("other") is None
    for number in range(100):
        history = history.done(step(1, f"+{number}"))
    assert (
        len(history.steps) == edit_history.MOST_STEPS and history.steps[0].digest == "0" and history.now.digest == "+99"
    )


def test_histories_are_kept(tmp_path):
    assert edit_history.read(tmp_path) == {}
    history = History("a.jpg", (10, 20), (step(0, "0"), Step(Edit(3, -1.5, (1, 2, 30, 40)), "1"), step(1, "2")), 1)
    edit_history.write(tmp_path, {"кот (1).jpg": history, "b.png": dataclasses.replace(history, at=0)})
    assert edit_history.read(tmp_path)["кот (1).jpg"] == history
    assert edit_history.used_files({"a": history}) == ({"a.jpg"}, {"m.png", "n.png"})


@pytest.mark.parametrize(
    "change",
    [
        lambda known: known.update(original="../../secret"),
        lambda known: known.update(original=".."),
        lambda known: known["steps"][1]["masks"]["a_mask.png"].update(shown="/etc/passwd"),
        lambda known: known["steps"][1]["masks"].update({"..\\x.png": known["steps"][1]["masks"]["a_mask.png"]}),
        lambda known: known.update(at=7),
        lambda known: known.update(at=-1),
        lambda known: known.update(steps=[]),
        lambda known: known.update(size=[0, 5]),
        lambda known: known["steps"][0]["edit"].update(turns=9),
        lambda known: known.clear(),
    ],
)
def test_a_damaged_history_is_refused(tmp_path, change):
    edit_history.write(tmp_path, {"a.jpg": History("a.jpg", (10, 20), (step(0, "0"), step(1, "1")))})
    path = tmp_path / ".edits" / "edits.json"
    known = json.loads(path.read_text())
    change(known["pictures"]["a.jpg"])
    path.write_text(json.dumps(known))
    with pytest.raises(UserError, match="damaged"):
        edit_history.read(tmp_path)
