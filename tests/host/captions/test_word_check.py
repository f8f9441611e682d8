"""What is said of a word over the API, and four pictures of it."""

from __future__ import annotations

import pytest

from dreambooth_ext.host.captions import word_check
from tests.host.asking import Asked
from tests.host.drawing.pretended import pretending, trained, without_job


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = pretending(tmp_path)
    trained(made)
    made.host.base = str(made.host.folders()["checkpoint"] / "sd15.safetensors")
    return made


def test_a_word_is_judged_at_once(asked):
    answer = asked.post("word", {"word": " sks "}).json()
    assert (answer["word"], answer["level"], answer["reason_code"]) == ("sks", "doubtful", "words.means_sks")
    assert answer["tokens"] == [{"text": "sks", "number": 48136, "rare": True}]
    assert len(answer["suggestions"]) == 12 and answer["drawn"]["state"] == "none"
    assert asked.post("word", {"word": ""}).json()["level"] == "bad"
    assert asked.post("word", {"word": "x" * 61}).json()["field"] == "word"
    assert asked.post("word", {}).json()["field"] == "word"


def test_the_base_draws_four_pictures_of_it(asked):
    begun = asked.post("word/draw", {"word": "dsley"})
    assert (begun.status, begun.json()["total"]) == (202, 4)
    without_job(asked)
    drawn = asked.post("word", {"word": "dsley"}).json()["drawn"]
    assert (drawn["state"], drawn["pictures"]) == ("done", [f"0_{seed}.png" for seed in range(4)])
    shown = asked.get(f"word/drawn/{drawn['id']}/0_1.png", {"size": 64})
    assert (shown.status, shown.headers["content-type"]) == (200, "image/jpeg")
    assert asked.post("word", {"word": "other"}).json()["drawn"]["pictures"] == []
    assert asked.get(f"word/drawn/{drawn['id']}/0_9.png").status == 404
    assert asked.get("word/drawn/../0_1.png").status == 404


def test_what_cannot_be_drawn_is_told(asked):
    (asked.environment.folder / "wait").touch()
    asked.post("word/draw", {"word": "dsley"})
    busy = asked.post("word/draw", {"word": "other"})
    assert (busy.status, busy.json()["error"]) == (409, "The base draws pictures of a word.")
    assert asked.delete("job").status == 200
    without_job(asked)
    assert asked.post("word", {"word": "dsley"}).json()["drawn"]["state"] == "stopped"
    (asked.environment.folder / "wait").unlink()
    assert asked.post("word/draw", {"word": " "}).json()["code"] == "words.no_word"
    asked.host.base = ""
    assert asked.post("word/draw", {"word": "dsley"}).json()["code"] == "drawing.no_base"


def test_only_the_last_words_are_kept(asked, monkeypatch):
    monkeypatch.setattr(word_check, "MOST_KEPT", 2)
    for word in ("one", "two", "three", "four"):
        asked.post("word/draw", {"word": word})
        without_job(asked)
    kept = [asked.post("word", {"word": word}).json()["drawn"]["pictures"] for word in ("one", "four")]
    assert [len(pictures) for pictures in kept] == [0, 4]
