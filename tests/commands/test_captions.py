"""`captions`: what it shows, what it writes into a copy, and that the originals stay."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from dreambooth_ext.__main__ import main
from tests.commands.test_cli import needs_environment

CAPTIONS = {"1.png": "red sofa, evening", "2.png": "", "more/3.png": "Evening, tree, tree"}


@pytest.fixture
def folder(tmp_path) -> Path:
    for name, text in CAPTIONS.items():
        path = tmp_path / "Фото é" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 40), "blue").save(path)
        if text:
            path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return tmp_path / "Фото é"


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def told(capsys, *words: object) -> dict:
    assert main(["captions", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_captions_are_shown_and_nothing_is_written(folder, capsys):
    before = content(folder)
    assert main(["captions", str(folder), "--add", "new"]) == 0
    said = capsys.readouterr().out
    assert "1.png: red sofa, evening, new" in said and "3 of 3 captions change." in said and "--out DIR" in said
    assert re.search(r"^ +3 new$", said, re.MULTILINE)
    assert content(folder) == before
    shown = told(capsys, folder)
    assert (shown["captions"], shown["changed"], shown["out"]) == (CAPTIONS, [], None)


def test_a_copy_gets_the_changed_captions(folder, tmp_path, capsys):
    before = content(folder)
    out = tmp_path / "new" / "set"
    changes = ["--replace", "EVENING=night", "--remove", "tree", "--add", "indoors", "--add-first", "photo", "--unique"]
    found = told(capsys, folder, *changes, "--template", "[name], [filewords]", "--word", "zkz", "--out", out)
    expected = {
        "1.png": "zkz, photo, red sofa, night, indoors",
        "2.png": "zkz, photo, indoors",
        "more/3.png": "zkz, photo, night, indoors",
    }
    assert found["captions"] == expected and found["out"] == str(out)
    assert {name: (out / name).with_suffix(".txt").read_text() for name in expected} == {
        name: text + "\n" for name, text in expected.items()
    }
    assert content(folder) == before
    assert all((out / name).read_bytes() == before[name] for name in CAPTIONS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--out", "{folder}"], "out: lies in the folder"),
        (["--out", "{folder}/new"], "out: lies in the folder"),
        (["--out", "{full}"], "out: {full} is not empty"),
        (["--threshold", "2"], "threshold: 2 is no probability"),
    ],
)
def test_what_is_wrong_is_told(folder, tmp_path, capsys, words, says):
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine.txt").write_text("mine")
    before = content(tmp_path)
    named = {"folder": folder, "full": full}
    assert main(["captions", str(folder), *(word.format(**named) for word in words)]) == 1
    assert says.format(**named) in capsys.readouterr().err
    assert content(tmp_path) == before
    assert main(["captions", str(tmp_path / "none")]) == 1


def test_a_caption_that_cannot_be_read_is_named(folder, capsys):
    (folder / "1.txt").write_bytes(b"\xff\xfe\xfd")
    assert main(["captions", str(folder)]) == 1
    assert "1.txt" in capsys.readouterr().err


@needs_environment
def test_a_tagger_proposes(folder, tmp_path, capfd):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from tests.engine.tagging.test_taggers import tagger

    model = tagger(tmp_path / "wd")
    assert main(["captions", str(folder), f"--tagger={model}", "--threshold=0.5", "--device=cpu", "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert found["captions"] == {
        "1.png": "red sofa, evening, blue sky", "2.png": "blue sky", "more/3.png": "Evening, tree, tree, blue sky",
    }  # fmt: skip
    assert main(["captions", str(folder), f"--tagger={tmp_path}"]) == 1
    assert "this is no tagger" in capfd.readouterr().err
