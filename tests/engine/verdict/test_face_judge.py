"""A face recogniser as a judge: how it is given faces, which files are refused, and what it makes of people."""

from __future__ import annotations

import struct

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
pytest.importorskip("cv2")

import onnx

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.pictures.faces import Face
from dreambooth_ext.engine.verdict.face_judge import PLACES, FaceJudge, aligned, first_operations, similarity
from tests.drawn_faces import portrait
from tests.tiny_recogniser import recogniser


def test_a_face_is_turned_to_where_the_model_expects_it():
    """A picture of the landmarks' places, turned by 30 degrees, made three times as large and moved."""
    cos, sin = 3 * np.cos(np.pi / 6), 3 * np.sin(np.pi / 6)
    points = np.array([(cos * x - sin * y + 400, sin * x + cos * y + 100) for x, y in PLACES])
    a, b, x, y = similarity(np.array(PLACES), points)
    assert (a, b, x, y) == pytest.approx((cos, sin, 400, 100))
    picture = Image.new("RGB", (900, 900))
    for index, (left, top) in enumerate(points):
        picture.paste((255, 50 * index, 0), (round(left) - 6, round(top) - 6, round(left) + 6, round(top) + 6))
    found = np.asarray(aligned(picture, Face((0, 0, 1, 1), tuple(map(tuple, points)), 1.0)))
    for index, (left, top) in enumerate(PLACES):
        assert tuple(found[round(top), round(left)]) == pytest.approx((255, 50 * index, 0), abs=2)
    assert found[5, 5].max() == 0


def test_people_are_told_apart_and_no_face_is_no_direction(tmp_path):
    judge = FaceJudge(recogniser(tmp_path / "мой.onnx"))
    anna = [portrait(turn=turn) for turn in (0, 0.3, -0.3)]
    bella = portrait(skin=(120, 80, 60), hair=(200, 190, 120))
    found = judge.features([*anna, bella, Image.new("RGB", (200, 200), "red")])
    assert found.shape == (5, 1, 147) and judge.name == "мой.onnx"
    assert found[:4, 0].norm(dim=1) == pytest.approx(1) and not found[4].any()
    alike = found[:, 0] @ found[:, 0].T
    assert alike[0, 1:3].min() > alike[:3, 3].max()


def test_pixels_are_prepared_as_the_model_wants_them(tmp_path):
    """Both models compute the same, one from -1 to 1 and one from 0 to 255."""
    pictures = [portrait()]
    plain, own = (FaceJudge(recogniser(tmp_path / f"{n}.onnx", prepares=n)) for n in (False, True))
    assert (plain.takes_bytes, own.takes_bytes) == (False, True)
    assert torch.allclose(plain.features(pictures), own.features(pictures), atol=1e-5)


def test_first_operations_are_read_without_the_package(tmp_path):
    content = recogniser(tmp_path / "a.onnx", prepares=True).read_bytes()
    model = onnx.load_from_string(content)
    assert (
        first_operations(content)
        == [node.op_type for node in model.graph.node]
        == ["Sub", "Mul", "AveragePool", "Flatten"]
    )
    assert first_operations(content, 1) == ["Sub"]
    for broken in (b"", b"\xff" * 40, content[:60], struct.pack("<Q", 2**63), b"\x3a\xff\xff\xff\xff\x0f"):
        assert isinstance(first_operations(broken), list)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"side": 160}, "112 x 112"),
        ({"channels": 1}, "112 x 112"),
        ({"ending": "ReduceMean"}, "one list of numbers"),
        ({"ending": "Log"}, "one list of numbers"),  # of negative numbers: not finite
        (None, "no.onnx"),
    ],
)
def test_other_files_are_refused(tmp_path, settings, says):
    path = tmp_path / "no.onnx"
    path.write_bytes(b"no model") if settings is None else recogniser(path, **settings)
    with pytest.raises(UserError, match=says) as raised:
        FaceJudge(path)
    assert (raised.value.problem.code, raised.value.problem.field) == ("verdict.not_face_model", "judge")
    assert str(tmp_path) not in str(raised.value)


def test_any_size_will_do_where_a_model_names_none(tmp_path):
    assert FaceJudge(recogniser(tmp_path / "a.onnx", side="any")).features([portrait()]).any()
    with pytest.raises(UserError) as raised:
        FaceJudge(tmp_path / "missing.onnx")
    assert raised.value.problem.field == "judge"
