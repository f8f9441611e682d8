"""`sets`: list, rename, export and import, as typed."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("PIL.Image")

from dreambooth_ext.__main__ import main
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.runs import run_folder
from dreambooth_ext.host.pictures.uploads import PictureSets
from tests.host.pictures.test_edits import drawn


def sets(folder, *words: str) -> int:
    places = ["--pictures-dir", str(folder / "pictures"), "--runs-dir", str(folder / "runs")]
    return main(["sets", *words, *places])


def test_from_one_machine_to_another(tmp_path, capsys):
    kept = PictureSets(tmp_path / "pictures")
    kept.put("s", "a.jpg", drawn())
    kept.put_caption("s", "a.txt", b"words")
    run = run_folder.create(tmp_path / "runs", RunConfig(name="cat", instance_data_dir=str(kept.path("s"))))
    assert sets(tmp_path) == 0
    told = capsys.readouterr().out
    assert "s  1 pictures" in told and run.id in told
    assert sets(tmp_path, "rename", "s", "Мой кот") == 0 and "Мой кот" in capsys.readouterr().out
    target = tmp_path / "мой кот.zip"
    assert sets(tmp_path, "export", "Мой кот", str(target)) == 0 and target.is_file()
    assert sets(tmp_path, "export", "s", str(target)) == 1 and "exists" in capsys.readouterr().err
    other = tmp_path / "other"
    capsys.readouterr()
    assert sets(other, "import", str(target), "--json") == 0
    made = json.loads(capsys.readouterr().out)
    assert made["title"] == "Мой кот" and made["count"] == 1
    assert (other / "pictures" / made["set"] / "a.txt").read_text().strip() == "words"
    assert sets(other, "--json") == 0 and json.loads(capsys.readouterr().out)[0]["title"] == "Мой кот"


@pytest.mark.parametrize(
    ("words", "part"),
    [(["rename", "s"], "takes 2 names"), (["export", "nobody", "x.zip"], "no set"), (["import", "none.zip"], "no file"),
     (["list", "x"], "takes 0 names")],
)  # fmt: skip
def test_what_is_wrong_is_told(tmp_path, capsys, words, part):
    assert sets(tmp_path, *words) == 1
    assert part in capsys.readouterr().err


def test_a_zip_that_is_none(tmp_path, capsys):
    (tmp_path / "x.zip").write_bytes(b"no zip")
    assert sets(tmp_path, "import", str(tmp_path / "x.zip")) == 1 and "damaged" in capsys.readouterr().err
    assert sets(tmp_path) == 0 and "no sets yet" in capsys.readouterr().out
