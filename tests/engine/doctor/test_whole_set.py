"""Copies, faces and what all pictures of a set have in common."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from PIL import Image, ImageOps

from benchmarks import photographs
from dreambooth_ext.engine.doctor.looking import look
from dreambooth_ext.engine.doctor.whole_set import judge
from tests.drawn_faces import portrait
from tests.engine.doctor.pictures import scene


def looks_at(pictures: dict[str, Image.Image], folder: Path) -> list[dict]:
    found = []
    for name, picture in pictures.items():
        picture.save(folder / name)
        found.append({"name": name, **look(str(folder / name))})
    return found


def judged(pictures: dict[str, Image.Image], folder: Path, subject_type: str = "object") -> dict:
    return judge(looks_at(pictures, folder), subject_type)


def kinds(findings: list[dict]) -> list[str]:
    return [one["kind"] for one in findings]


def test_copies_are_told_with_the_name_of_the_one_to_keep(tmp_path):
    one = scene(900, 768)
    found = judged({
        "a.png": one.resize((600, 512)),
        "b.png": one,
        "c.bmp": one,
        "d.png": scene(seed=1),
        "e.jpg": ImageOps.mirror(one).resize((700, 597)),
        "f.png": photographs.exposed(one, 1.5).resize((760, 640)),
    }, tmp_path)  # fmt: skip
    copies = [
        [(one["kind"], one["values"]["name"]) for one in picture if "duplicate" in one["kind"]]
        for picture in found["pictures"]
    ]
    near = [("near_duplicate", "b.png")]
    assert copies == [near, [], [("duplicate", "b.png")], [], near, near]


def test_different_pictures_are_no_copies(tmp_path):
    pictures = {f"{number}.png": scene(seed=number) for number in range(12)}
    pictures["plain.png"], pictures["plain too.png"] = (Image.new("RGB", (600, 600), grey) for grey in ("#888", "#999"))
    assert [kinds(one) for one in judged(pictures, tmp_path)["pictures"]] == [[]] * 14


def test_how_many_there_are(tmp_path):
    looks = looks_at({f"{number}.png": scene(seed=number) for number in range(4)}, tmp_path)
    assert "too_few" in kinds(judge(looks, "object")["set"])
    many = [{**looks[number % 4], "name": f"{number}.png"} for number in range(31)]
    for number, one in enumerate(many):
        one["print"] = {**one["print"], "content": str(number)}
    assert "too_many" in kinds(judge(many, "object")["set"])
    assert not {"too_few", "too_many"} & set(kinds(judge(many[:12], "object")["set"]))


def with_ground(number: int, ground: Image.Image, **about) -> Image.Image:
    """A portrait in front of a ground."""
    sheet = ground.resize((700, 600))
    size = about.pop("size", 300)
    cut = portrait(size, blur=0.3, background=(0, 255, 0), **about)
    mask = Image.eval(cut.getchannel("G").point(lambda value: 255 if value > 235 else 0), lambda value: 255 - value)
    sheet.paste(cut, (200 + 3 * number % 60, 600 - size), mask)
    return sheet


@pytest.fixture
def varied() -> dict[str, Image.Image]:
    chance = random.Random(1)
    pictures = {}
    for number in range(8):
        ground = scene(seed=20 + number, colour=[chance.uniform(0.3, 1) for _ in range(3)])
        about = {"turn": (-1, -0.5, 0, 0.5, 1, 0.2, -0.2, 0.8)[number], "size": 220 + 40 * number}
        picture = with_ground(number, ground, **about)
        pictures[f"{number}.png"] = photographs.exposed(picture, (0.35, 1, 0.6)[number % 3])
    return pictures


def test_a_varied_set_has_nothing_in_common(tmp_path, varied):
    pytest.importorskip("cv2")
    assert kinds(judged(varied, tmp_path, "person")["set"]) == []


def test_one_background_one_angle_one_size_one_light(tmp_path):
    pytest.importorskip("cv2")
    ground = scene(seed=3)
    pictures = {f"{number}.png": with_ground(number, ground) for number in range(8)}
    pictures["other.png"] = with_ground(1, scene(seed=9), turn=1, size=520)
    found = judged(pictures, tmp_path, "person")
    by_kind = {one["kind"]: one for one in found["set"]}
    assert {"one_background", "one_angle", "one_size"} <= set(by_kind)
    assert by_kind["one_background"]["values"]["count"] == 8 and by_kind["one_background"]["values"]["total"] == 9
    assert found["score"] < judge(looks_at({"a.png": scene()}, tmp_path), "object")["score"] or found["score"] < 80


def test_persons_without_a_face_and_with_two(tmp_path, varied):
    pytest.importorskip("cv2")
    pictures = dict(list(varied.items())[:5])
    pictures |= {"none 1.png": scene(seed=50), "none 2.png": scene(seed=51)}
    both = scene(900, 600, seed=52)
    both.paste(portrait(350, blur=0.3), (30, 200))
    both.paste(portrait(350, turn=0.6, blur=0.3), (500, 200))
    pictures["both.png"] = both
    found = judged(pictures, tmp_path, "person")
    of = dict(zip(pictures, found["pictures"], strict=True))
    assert kinds(of["none 1.png"]) == ["no_face"] and kinds(of["both.png"]) == ["several_faces"]
    assert "mixed_subjects" in kinds(found["set"])
    found = judged(pictures, tmp_path, "object")
    assert not any("face" in kind for one in found["pictures"] for kind in kinds(one))


def test_the_score_and_its_reasons(tmp_path, varied):
    looks = looks_at(varied, tmp_path)
    best = judge(looks, "pet")
    unread = [*looks, {"name": "x.jpg", "findings": [{"kind": "unreadable", "severity": "error"}]}]
    worse = judge(unread, "pet")
    assert 0 <= worse["score"] < best["score"] <= 100
    (reason,) = [one for one in worse["reasons"] if one["kind"] == "unreadable"]
    assert reason["points"] == round(100 / 9) and "Unreadable: 1 of 9" in reason["text"]
    assert sum(one["points"] for one in worse["reasons"]) == pytest.approx(100 - worse["score"], abs=3)
    assert judge([], "pet")["score"] == 0
