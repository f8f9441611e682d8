"""Taggers in ONNX, tiny ones made here: what is read of their files, what they see, and what is refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper, numpy_helper  # noqa: E402

from dreambooth_ext.core.captions import taggers  # noqa: E402
from dreambooth_ext.core.errors import UserError  # noqa: E402
from dreambooth_ext.core.verbs import tag_options  # noqa: E402
from dreambooth_ext.engine.tagging import tag_table  # noqa: E402
from dreambooth_ext.engine.tagging.onnx_tagger import OnnxTagger  # noqa: E402
from dreambooth_ext.engine.tagging.tag_table import TagChoice  # noqa: E402
from dreambooth_ext.engine.verbs import tag  # noqa: E402

TAGS = [
    ("general", 9), ("sensitive", 9), ("blue_sky", 0), ("green_grass", 0), ("red_dress", 0), ("^_^", 0),
    ("hatsune_miku", 4),
]  # fmt: skip
SIDE = 32
CHOICE = TagChoice(0.5, 0.85)


def tagger(
    folder: Path, layout: str = "nhwc", batch: Any = "n", logits: bool = False, tags=TAGS, side: int = SIDE
) -> Path:
    """A tagger that sees colours: blue, green and red of the picture are the probabilities of three tags."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{number},{name},{category},{100 - number}" for number, (name, category) in enumerate(tags)]
    (folder / "selected_tags.csv").write_text("\n".join(["tag_id,name,category,count", *rows]), encoding="utf-8")
    is_last = layout == "nhwc"
    shape = [batch, side, side, 3] if is_last else [batch, 3, side, side]
    # the means of blue, green and red, 0 to 1, times a matrix that puts them behind their tags
    matrix = np.zeros((3, len(tags)), np.float32)
    matrix[:, 0] = 0.2
    for channel, (column, weight) in enumerate([(2, 1.0), (3, 1.0), (4, 1.0)]):
        matrix[channel, column] = weight
    constants = [numpy_helper.from_array(matrix, "matrix")]
    nodes = [helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1, 2] if is_last else [2, 3], keepdims=0)]
    scale, shift = (1 / 255, 0.0) if is_last else (0.5, 0.5)
    constants += [
        numpy_helper.from_array(np.float32(scale), "scale"),
        numpy_helper.from_array(np.float32(shift), "shift"),
    ]
    nodes += [
        helper.make_node("Mul", ["mean", "scale"], ["scaled"]), helper.make_node("Add", ["scaled", "shift"], ["seen"]),
        helper.make_node("MatMul", ["seen", "matrix"], ["raw"]),
    ]  # fmt: skip
    if logits:
        constants += [numpy_helper.from_array(np.float32(20), "steep"), numpy_helper.from_array(np.float32(-10), "low")]
        nodes += [
            helper.make_node("Mul", ["raw", "steep"], ["wide"]),
            helper.make_node("Add", ["wide", "low"], ["out"]),
        ]
    else:
        nodes += [helper.make_node("Identity", ["raw"], ["out"])]
    graph = helper.make_graph(
        nodes, "tags", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [batch, len(tags)])], constants,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, folder / "model.onnx")
    return folder


def plain(colour: tuple[int, int, int], size: tuple[int, int] = (40, 40)) -> Image.Image:
    return Image.new("RGB", size, colour)


@pytest.mark.parametrize("layout", ["nhwc", "nchw"])
@pytest.mark.parametrize("batch", ["n", 1, 2])
@pytest.mark.parametrize("logits", [False, True])
def test_each_layout_sees_the_right_colours(tmp_path, layout, batch, logits):
    made = OnnxTagger(tagger(tmp_path / "Tagger 1", layout, batch, logits), CHOICE)
    pictures = [plain((0, 0, 255)), plain((0, 255, 0)), plain((255, 0, 0)), plain((255, 255, 0)), plain((0, 0, 0))]
    assert made.propose(pictures) == ["blue sky", "green grass", "red dress", "green grass, red dress", ""]


def test_probabilities_are_those_of_the_pixels(tmp_path):
    made = OnnxTagger(tagger(tmp_path), CHOICE)
    row = made.probabilities([plain((255, 128, 51))])[0]
    assert np.allclose(row[[2, 3, 4]], [51 / 255, 128 / 255, 1.0], atol=1e-3)


def test_pictures_are_padded_with_white_to_a_square(tmp_path):
    made = OnnxTagger(tagger(tmp_path), CHOICE)
    row = made.probabilities([plain((255, 0, 0), (40, 20))])[0]  # half of it is white
    assert np.allclose(row[[2, 3, 4]], [0.5, 0.5, 1.0], atol=0.02)


def test_a_model_of_timm_is_normalised_as_its_config_says(tmp_path):
    folder = tagger(tmp_path, "nchw")
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": {"mean": [0.5, 0.5, 0.5], "std": [1, 1, 1]}}))
    row = OnnxTagger(folder, CHOICE).probabilities([plain((255, 0, 0))])[0]
    assert np.allclose(row[[2, 3, 4]], [0.25, 0.25, 0.75], atol=1e-3)  # (x - 0.5) / 1 * 0.5 + 0.5


def proposed(probabilities: list[float], **choice: Any) -> list[str]:
    table = tag_table.TagTable(tuple(name for name, _ in TAGS), tuple(category for _, category in TAGS))
    return table.proposed(probabilities, TagChoice(**{"threshold": 0.35, "character_threshold": 0.85, **choice}))


def test_tags_by_their_thresholds_and_kinds():
    seen = [0.1, 0.6, 0.4, 0.9, 0.34, 0.5, 0.86]
    assert proposed(seen) == ["hatsune miku", "green grass", "^_^", "blue sky"]
    assert proposed(seen, threshold=0.45) == ["hatsune miku", "green grass", "^_^"]
    assert proposed(seen, threshold=0.3)[-1] == "red dress"
    assert proposed(seen, character_threshold=0.9) == ["green grass", "^_^", "blue sky"]
    assert proposed(seen, characters=False) == ["green grass", "^_^", "blue sky"]
    assert proposed(seen, ratings=True)[0] == "sensitive"
    assert proposed(seen, underscores=True) == ["hatsune_miku", "green_grass", "^_^", "blue_sky"]
    assert proposed(seen, left_out=frozenset({"blue sky", "hatsune miku"})) == ["green grass", "^_^"]


@pytest.mark.parametrize(
    ("table", "code"),
    [
        ("", "tagging.bad_table"),
        ("name,category\n", "tagging.bad_table"),
        ("name,category\nblue_sky,sky\n", "tagging.bad_table"),
        ("tag,kind\nblue_sky,0\n", "tagging.bad_table"),
        ("name,category\nblue_sky,0\n", "tagging.other_count"),
    ],
)
def test_a_table_that_does_not_fit_is_refused(tmp_path, table, code):
    folder = tagger(tmp_path)
    (folder / "selected_tags.csv").write_text(table)
    with pytest.raises(UserError) as caught:
        OnnxTagger(folder, CHOICE)
    assert caught.value.problem.code == code and caught.value.problem.field == "tagger"


@pytest.mark.parametrize("content", [b"", b"no model", b"\x08\x07" * 100])
def test_a_damaged_model_is_refused(tmp_path, content):
    folder = tagger(tmp_path)
    (folder / "model.onnx").write_bytes(content)
    with pytest.raises(UserError) as caught:
        OnnxTagger(folder, CHOICE)
    assert caught.value.problem.code == "tagging.bad_model"


def test_a_model_of_something_else_is_refused(tmp_path):
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["out"])], "other",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 8])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, [1, 8])],
    )  # fmt: skip
    folder = tagger(tmp_path)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), folder / "model.onnx"
    )
    with pytest.raises(UserError) as caught:
        OnnxTagger(folder, CHOICE)
    assert caught.value.problem.code == "tagging.other_input"


# --- the verb


def options(*words: str | Path) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    tag_options.add_arguments(parser)
    return parser.parse_args([str(word) for word in words])


@pytest.fixture
def pictures(tmp_path) -> Path:
    folder = tmp_path / "Bilder é"
    (folder / "more").mkdir(parents=True)
    plain((0, 0, 255)).save(folder / "1.png")
    plain((255, 0, 0)).save(folder / "more" / "2.jpg")
    plain((0, 255, 0)).save(folder / "3.webp", lossless=True)
    (folder / "3.txt").write_text("a meadow")
    (folder / "4.png").write_bytes(b"no picture")
    return folder


def test_the_verb_proposes_and_changes_nothing(tmp_path, pictures, capsys):
    before = {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}
    out = tmp_path / "new" / "out.json"
    made = tagger(tmp_path / "wd")
    assert tag.run(options(pictures, "--tagger", made, "--out", out, "--device", "cpu", "--threshold", "0.5")) == []
    expected = {"1.png": "blue sky", "3.webp": "green grass", "more/2.jpg": "red dress"}
    assert json.loads(out.read_text()) == {"tagger": "wd", "captions": expected}
    said = capsys.readouterr().err
    assert "4/4 (100 %)" in said and "4.png" in said
    tag.run(options(pictures, "--tagger", made, "--out", out, "--device", "cpu", "--only-empty", "--threshold", "0.5"))
    assert list(json.loads(out.read_text())["captions"]) == ["1.png", "more/2.jpg"]
    assert before == {path: path.read_bytes() for path in pictures.rglob("*") if path.is_file()}


def test_what_was_proposed_before_a_stop_is_kept(tmp_path, pictures, monkeypatch):
    class Stopped:
        batch_size = 1

        def propose(self, pictures):
            if getattr(self, "done", False):
                raise KeyboardInterrupt
            self.done = True
            return ["seen"]

    monkeypatch.setattr(tag, "load", lambda arguments: Stopped())
    out = tmp_path / "out.json"
    with pytest.raises(KeyboardInterrupt):
        tag.run(options(pictures, "--tagger", tmp_path, "--out", out))
    assert json.loads(out.read_text())["captions"] == {"1.png": "seen"}


@pytest.mark.parametrize("number", ["nan", "-0.1", "1.1"])
def test_thresholds_are_probabilities(tmp_path, number):
    asked = options(tmp_path, "--tagger", tmp_path, "--out", tmp_path / "x", f"--threshold={number}")
    assert [problem.field for problem in tag_options.problems(asked)] == ["threshold"]


def test_what_is_no_tagger_is_told_apart(tmp_path, pictures):
    def refused(folder: Path) -> str:
        with pytest.raises(UserError) as caught:
            tag.load(options(pictures, "--tagger", folder, "--out", tmp_path / "x"))
        return str(caught.value)

    assert "no folder" in refused(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    assert "selected_tags.csv" in refused(tmp_path / "empty")
    half = tagger(tmp_path / "half")
    (half / "selected_tags.csv").unlink()
    assert "selected_tags.csv" in refused(half)
    assert taggers.kind_of(tagger(tmp_path / "renamed")) == "tags"
    (tmp_path / "renamed" / "model.onnx").rename(tmp_path / "renamed" / "wd.onnx")
    assert taggers.kind_of(tmp_path / "renamed") == "tags"
