"""Faces are found where they are, at any size of the picture, and nowhere else."""

from __future__ import annotations

import sys

import pytest
from PIL import Image

from dreambooth_ext.engine.pictures import faces
from tests.drawn_faces import portrait

EYES, MOUTH = ((104, 116), (152, 116)), (128, 172)


@pytest.fixture(autouse=True)
def anew():
    yield
    faces._detector.cache_clear()


def near(found: tuple[float, float], wanted: tuple[float, float], most: float) -> bool:
    return abs(found[0] - wanted[0]) < most and abs(found[1] - wanted[1]) < most


@pytest.mark.parametrize("size", [128, 256, 512, 1500])
def test_a_face_is_where_it_was_drawn(size):
    pytest.importorskip("cv2")
    (face,) = faces.find_faces(portrait(size))
    unit = size / 256
    assert faces.LEAST_SCORE < face.score <= 1
    assert near(face.centre, (128 * unit, 130 * unit), 14 * unit)
    assert near(face.box[2:], (116 * unit, 152 * unit), 25 * unit) and face.area == face.box[2] * face.box[3]
    right, left, nose, *corners = face.landmarks
    assert near(right, (EYES[0][0] * unit, EYES[0][1] * unit), 12 * unit)
    assert near(left, (EYES[1][0] * unit, EYES[1][1] * unit), 12 * unit)
    middle = (sum(x for x, _ in corners) / 2, sum(y for _, y in corners) / 2)
    assert near(middle, (MOUTH[0] * unit, MOUTH[1] * unit), 14 * unit) and near(
        nose, (128 * unit, 146 * unit), 12 * unit
    )


def test_several_faces_the_largest_first():
    pytest.importorskip("cv2")
    picture = Image.new("RGB", (900, 500), (150, 160, 170))
    picture.paste(portrait(200), (30, 60))
    picture.paste(portrait(400, turn=0.5), (450, 40))
    first, second = faces.find_faces(picture)
    assert near(first.centre, (450 + 200, 40 + 203), 30) and near(second.centre, (130, 162), 20)
    assert first.area > second.area


def test_no_faces_where_there_are_none():
    for picture in (Image.new("RGB", (300, 200), "red"), Image.effect_noise((300, 300), 80).convert("RGB")):
        assert faces.find_faces(picture) == []
    assert faces.find_faces(Image.new("RGB", (1, 1))) == []


def test_without_opencv_it_says_why(monkeypatch):
    faces._detector.cache_clear()
    monkeypatch.setitem(sys.modules, "cv2", None)  # so that importing it fails
    assert faces.find_faces(portrait(256)) == []
    assert "OpenCV" in str(faces.why_not())


def test_the_model_comes_with_its_licence():
    licence = faces.MODEL.with_name("face_detection_yunet_2023mar.LICENSE.txt").read_text(encoding="utf-8")
    assert "MIT License" in licence and "Permission is hereby granted" in licence
    assert faces.MODEL.stat().st_size == 232_589
