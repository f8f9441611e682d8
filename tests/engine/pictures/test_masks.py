"""Masks that are made: by face, ellipse, subject and matting models; white where the subject is, black elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.pictures.mask_kinds import kind_of
from dreambooth_ext.engine.pictures import faces, masks, matting, worker
from tests.drawn_faces import portrait


@pytest.fixture(autouse=True)
def anew():
    yield
    faces._detector.cache_clear()
    matting._session.cache_clear()


def ball(folder: Path, size=(300, 200), box=(180, 40, 280, 140), name="ball.png") -> Path:
    """A red ball on a noisy green ground, not in the middle."""
    noise = np.random.default_rng(1).normal(0, 12, (size[1], size[0], 3))
    image = Image.fromarray(np.clip(noise + np.array((60, 140, 70)), 0, 255).astype(np.uint8))
    ImageDraw.Draw(image).ellipse(box, fill=(200, 30, 40))
    image.save(folder / name)
    return folder / name


def disc(size, box) -> np.ndarray:
    """Where an ellipse is, (h, w) of bools, by its formula."""
    y, x = np.mgrid[: size[1], : size[0]] + 0.5
    left, top, right, bottom = box
    across = ((x - (left + right) / 2) / ((right - left) / 2)) ** 2
    return across + ((y - (top + bottom) / 2) / ((bottom - top) / 2)) ** 2 <= 1


def made(path: Path, by: str, **how) -> np.ndarray:
    target = path.with_name("mask.png")
    told = masks.make_mask(str(path), str(target), by, **how)
    with Image.open(target) as mask, Image.open(path) as picture:
        assert mask.mode == "L" and mask.format == "PNG" and mask.size == picture.size
        values = np.asarray(mask)
    assert told == {"share": pytest.approx(values.mean() / 255, abs=1e-3)}
    return values


def overlap(mask_hw: np.ndarray, wanted_hw: np.ndarray) -> float:
    found = mask_hw > 127
    return (found & wanted_hw).sum() / (found | wanted_hw).sum()


def test_an_ellipse_fills_its_box(tmp_path):
    path = ball(tmp_path)
    mask = made(path, "ellipse", box=[20, 30, 140, 190])
    assert overlap(mask, disc((300, 200), (20, 30, 140, 190))) > 0.97
    assert 20 < mask[110, 20] < 235 and mask[110, 80] == 255 and mask[0, 0] == 0  # its edge is soft
    whole = made(path, "ellipse")
    assert overlap(whole, disc((300, 200), (24, 16, 276, 184))) > 0.97
    beyond = made(path, "ellipse", box=[-100, -100, 400, 100])  # as far as the picture goes
    assert overlap(beyond, disc((300, 200), (0, 0, 300, 100))) > 0.97


@pytest.mark.parametrize("box", [[-50, 0, 0, 100], [10, 10, 10, 90], [400, 10, 500, 90], [90, 10, 20, 80]])
def test_a_box_outside_the_picture_is_refused(tmp_path, box):
    with pytest.raises(UserError) as refused:
        made(ball(tmp_path), "ellipse", box=box)
    assert refused.value.problem.code == "masks.bad_box"


def test_a_face_brings_head_and_shoulders(tmp_path):
    pytest.importorskip("cv2")
    image = Image.new("RGB", (700, 600), (150, 160, 170))
    image.paste(portrait(300), (320, 60))
    image.save(tmp_path / "p.png")
    mask = made(tmp_path / "p.png", "face") / 255
    (face,) = faces.find_faces(image)
    left, top, width, height = (round(value) for value in face.box)
    assert mask[top : top + height, left : left + width].min() > 0.9  # all of the face
    middle = left + width // 2
    assert mask[max(0, top - height // 3), middle] > 0.9  # hair
    assert mask[top + 2 * height, middle - int(1.2 * width)] > 0.9 < mask[top + 2 * height, middle + int(1.2 * width)]
    assert mask[top + height // 2, middle - 2 * width] < 0.1 > mask[:, 0].max()  # beside the head, and far away
    assert 0.2 < mask.mean() < 0.6


def test_a_picture_without_a_face_is_named(tmp_path):
    pytest.importorskip("cv2")
    with pytest.raises(UserError, match=r"ball\.png"):
        made(ball(tmp_path), "face")


def test_the_subject_is_told_from_its_ground(tmp_path):
    pytest.importorskip("cv2")
    box = (100, 40, 200, 140)
    mask = made(ball(tmp_path, box=box), "subject")
    assert overlap(mask, disc((300, 200), box)) > 0.9
    large = ball(tmp_path, (1500, 1000), (500, 200, 1000, 700), "large.png")
    assert overlap(made(large, "subject"), disc((1500, 1000), (500, 200, 1000, 700))) > 0.9
    assert np.array_equal(made(large, "subject"), made(large, "subject"))  # the same each time


def test_of_two_subjects_the_box_takes_one(tmp_path):
    pytest.importorskip("cv2")
    path = ball(tmp_path, box=(30, 40, 130, 140))
    with Image.open(path) as image:
        ImageDraw.Draw(image).ellipse((180, 60, 260, 140), fill=(200, 30, 40))
        image.save(path)
    mask = made(path, "subject", box=[170, 50, 270, 150])
    assert overlap(mask, disc((300, 200), (180, 60, 260, 140))) > 0.85
    both = made(path, "subject")
    assert overlap(both, disc((300, 200), (30, 40, 130, 140)) | disc((300, 200), (180, 60, 260, 140))) > 0.85


def test_a_picture_without_a_subject_is_named(tmp_path):
    pytest.importorskip("cv2")
    Image.new("RGB", (200, 150), (90, 90, 90)).save(tmp_path / "wall.png")
    with pytest.raises(UserError, match=r"wall\.png"):
        made(tmp_path / "wall.png", "subject")


@pytest.mark.parametrize("size", [(1, 1), (2, 300), (3, 3)])
def test_the_smallest_pictures_end_in_a_mask_or_in_words(tmp_path, size):
    pytest.importorskip("cv2")
    Image.new("RGB", size, (9, 9, 9)).save(tmp_path / "a.png")
    for by in ("ellipse", "subject", "face"):
        try:
            made(tmp_path / "a.png", by)
        except UserError as error:
            assert error.problem.code.startswith("masks.")


# --- matting models


def model(folder: Path, name="u2netp.onnx", side: int | str = 320, output="red", inputs=1, channels=3) -> Path:
    """A network of a few nodes: what is red in its input, or what `output` says, as alpha."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    shape = [1, channels, side, side]
    given = [helper.make_tensor_value_info(f"in{n}", TensorProto.FLOAT, shape) for n in range(inputs)]
    axis = numpy_helper.from_array(np.array([0], np.int64), "first")
    nodes, initial = [], [axis]
    if output == "red":  # of one channel, as U2Net's d0; then others that must not be taken
        nodes += [helper.make_node("Gather", ["in0", "first"], ["alpha"], axis=1)]
        nodes += [helper.make_node("Neg", ["alpha"], ["other"])]
        outs = ["alpha", "other"]
    elif output == "flat":
        initial.append(numpy_helper.from_array(np.zeros(1, np.float32), "zero"))
        nodes += [helper.make_node("Gather", ["in0", "first"], ["some"], axis=1)]
        nodes += [helper.make_node("Mul", ["some", "zero"], ["alpha"])]
        outs = ["alpha"]
    else:  # three channels: a picture, no mask
        nodes += [helper.make_node("Identity", ["in0"], ["alpha"])]
        outs = ["alpha"]
    told = [helper.make_tensor_value_info(out, TensorProto.FLOAT, None) for out in outs]
    graph = helper.make_graph(nodes, "g", given, told, initial)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(made, folder / name)
    return folder / name


@pytest.mark.parametrize("name", ["u2net.onnx", "isnet-general-use.onnx", "birefnet-general.onnx", "мой.ONNX"])
@pytest.mark.parametrize("side", [64, 1024, "height"])
def test_a_model_cuts_out_what_it_finds(tmp_path, name, side):
    pytest.importorskip("onnxruntime")
    path = ball(tmp_path, box=(180, 40, 280, 140))
    mask = made(path, "model", model=str(model(tmp_path, name, side)))
    assert overlap(mask, disc((300, 200), (180, 40, 280, 140))) > 0.9


def test_pictures_are_prepared_as_rembg_does(monkeypatch):
    """Mean and spread of each kind, by the formula of its sessions."""
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8))
    for name, side, mean, spread in (
        ("u2net", 320, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ("isnet-general-use", 1024, (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)),
        ("birefnet-general", 1024, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ):
        values = np.asarray(image.resize((side, side), Image.Resampling.LANCZOS)).astype(np.float64)
        values = (values / values.max() - mean) / spread
        found = matting._prepared(image, side, name)
        assert found.shape == (1, 3, side, side) and found.dtype == np.float32
        assert np.allclose(found[0], values.transpose(2, 0, 1), atol=1e-5)


@pytest.mark.parametrize("kind", ["text", "missing", "a folder", "two inputs", "a picture comes out", "cut short"])
def test_models_that_are_none_are_named(tmp_path, kind):
    pytest.importorskip("onnxruntime")
    path = tmp_path / "model.onnx"
    if kind == "text":
        path.write_text("no model")
    elif kind == "a folder":
        path.mkdir()
    elif kind == "two inputs":
        path = model(tmp_path, inputs=2)
    elif kind == "a picture comes out":
        path = model(tmp_path, output="rgb", side=64)
    elif kind == "cut short":
        path = model(tmp_path)
        path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UserError) as refused:
        made(ball(tmp_path), "model", model=str(path))
    assert refused.value.problem.code in ("masks.model_unusable", "masks.not_matting")
    assert path.name in str(refused.value.problem)


def test_a_model_that_finds_nothing(tmp_path):
    pytest.importorskip("onnxruntime")
    with pytest.raises(UserError, match=r"ball\.png"):
        made(ball(tmp_path), "model", model=str(model(tmp_path, output="flat", side=64)))


def test_a_model_that_was_replaced_is_read_anew(tmp_path):
    pytest.importorskip("onnxruntime")
    path = ball(tmp_path)
    found = model(tmp_path, side=64)
    made(path, "model", model=str(found))
    model(tmp_path, output="flat", side=64)
    import os

    os.utime(found, (1, 1))
    with pytest.raises(UserError, match=r"ball\.png"):
        made(path, "model", model=str(found))


def test_models_of_rembg(tmp_path, monkeypatch):
    """The best of those that it has fetched; nothing is fetched, and rembg need not be there."""
    pytest.importorskip("onnxruntime")
    monkeypatch.setenv("U2NET_HOME", str(tmp_path / "none"))
    with pytest.raises(UserError) as refused:
        made(ball(tmp_path), "rembg")
    assert refused.value.problem.code == "masks.no_rembg"
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("U2NET_HOME", str(home))
    model(home, "u2netp.onnx", output="flat")
    model(home, "isnet-general-use.onnx")
    assert matting.of_rembg().name == "isnet-general-use.onnx"
    assert overlap(made(ball(tmp_path), "rembg"), disc((300, 200), (180, 40, 280, 140))) > 0.9


# --- what is asked for, and by whom


def test_kinds_have_names(tmp_path):
    assert kind_of("face") == ("face", "") and kind_of("/x/isnet.onnx") == ("model", "/x/isnet.onnx")
    for wrong in ("", "Face", "model", "m.pt", "onnx"):
        with pytest.raises(UserError):
            kind_of(wrong)


def test_the_worker_knows_the_task(tmp_path):
    path = ball(tmp_path)
    values = {"path": str(path), "target": str(tmp_path / "m.png"), "by": "ellipse", "box": [10, 10, 90, 90]}
    answer = worker.answered(json.loads(json.dumps({"id": 3, "task": "make_mask", "values": values})))
    assert answer["id"] == 3 and 0 < answer["result"]["share"] < 0.2 and (tmp_path / "m.png").exists()
    answer = worker.answered({"id": 4, "task": "make_mask", "values": {**values, "path": str(tmp_path / "none.png")}})
    assert "none.png" in json.dumps(answer["problem"])


def test_without_the_packages_it_is_said(tmp_path, monkeypatch):
    import sys

    path = ball(tmp_path)
    monkeypatch.setitem(sys.modules, "cv2", None)
    faces._detector.cache_clear()
    for by, code in (("subject", "masks.needs_opencv"), ("face", "masks.impossible")):
        with pytest.raises(UserError) as refused:
            made(path, by)
        assert refused.value.problem.code == code
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "m.onnx").write_bytes(b"x")
    with pytest.raises(UserError) as refused:
        made(path, "model", model=str(tmp_path / "m.onnx"))
    assert refused.value.problem.code == "masks.needs_onnxruntime"
    made(path, "ellipse")  # needs neither
