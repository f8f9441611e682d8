"""The demo's world: what is drawn follows from its description, the words tell it, and the judge sees it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from dreambooth_ext.demo import judge, world

SPECS = [world.example(5, index)[0] for index in range(60)]


def test_every_name_is_drawn() -> None:
    seen = [world.example(0, index)[0] for index in range(800)]
    assert {spec.shape for spec in seen} == set(world.SHAPES)
    assert {spec.colour for spec in seen} == set(world.COLOURS)
    assert {spec.background for spec in seen} == set(world.BACKGROUNDS)
    assert not [spec for spec in seen if spec.colour in world.CLASHES.get(spec.background, ())]


def test_same_seed_same_pictures(tmp_path) -> None:
    world.write_dataset(tmp_path / "a", 6, seed=3)
    world.write_dataset(tmp_path / "b", 6, seed=3)
    world.write_dataset(tmp_path / "c", 6, seed=4)
    one, other, third = ({p.name: p.read_bytes() for p in (tmp_path / x).iterdir()} for x in "abc")
    assert len(one) == 12
    assert one == other != third


def test_captions_tell_the_picture() -> None:
    for index in range(300):
        spec, text = world.example(1, index)
        words = set(text.replace(",", "").split())
        assert words & set(world.SHAPES) <= {spec.shape}
        assert words & {"small", "big"} <= {spec.size}
        assert words & set(world.COLOURS) <= {spec.colour, spec.background}
        assert spec.shape in words or "figure" in words
        assert "  " not in text and text == text.strip()
    assert world.caption(SPECS[0]) == "a {0.size} {0.colour} {0.shape} on a {0.background} background".format(SPECS[0])


def test_sizes_are_the_same_picture() -> None:
    small = judge.pixels(world.draw_scene(SPECS[0]))
    large = judge.pixels(world.draw_scene(SPECS[0], 2 * world.SIZE))
    assert np.abs(small - large).mean() < 3


def test_judge_is_right_on_drawings() -> None:
    verdicts = [judge.judge(world.draw_scene(spec), spec) for spec in SPECS]
    assert np.mean([verdict.all_ok for verdict in verdicts]) >= 0.98


def test_judge_sees_what_is_wrong() -> None:
    for spec, other in pairwise(SPECS[:21]):
        verdict = judge.judge(world.draw_scene(other), spec)
        assert verdict.shape_ok == (spec.shape == other.shape)
        assert verdict.colour_ok == (spec.colour == other.colour)
        assert verdict.background_ok == (spec.background == other.background)
        assert verdict.size_ok == (spec.size == other.size)


def test_judge_of_nothing() -> None:
    empty = world.draw_background("grey", 0, world.SIZE)
    assert not judge.judge(empty, SPECS[0]).shape_ok
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    assert not judge.judge(world.Image.fromarray(noise), SPECS[0]).shape_ok


@pytest.mark.parametrize("background", world.BACKGROUNDS)
def test_subject_is_recognised_and_the_background_with_it(background: str) -> None:
    pose = world.Pose(33, 32, 21, 6)
    picture = world.draw_subject(background, pose, seed=2)
    assert judge.has_subject(picture) > 0.9
    assert judge.background_of(judge.pixels(picture)) == background


def test_subject_is_not_of_the_world() -> None:
    assert max(judge.has_subject(world.draw_scene(spec)) for spec in SPECS) < 0.1


def test_style_is_recognised() -> None:
    assert min(judge.has_style(world.draw_style(spec)) for spec in SPECS) > 0.8
    assert max(judge.has_style(world.draw_scene(spec)) for spec in SPECS) < 0.3


def test_shipped_pictures_are_the_script_s(tmp_path) -> None:
    world.write_photos(tmp_path)
    shipped = world.PICTURES
    assert sorted(p.name for p in shipped.iterdir()) == sorted(p.name for p in tmp_path.iterdir())
    for path in tmp_path.glob("*.txt"):
        assert path.read_text(encoding="utf-8") == (shipped / path.name).read_text(encoding="utf-8")
    for path in tmp_path.glob("*.png"):
        drawn, kept = (np.asarray(world.Image.open(f / path.name), int) for f in (tmp_path, shipped))
        assert np.abs(drawn - kept).max() <= 8  # Pillow's versions round edges differently
