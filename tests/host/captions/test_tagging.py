"""Taggers over the API: which there are, jobs that propose, and what strangers may not name."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dreambooth_ext.core.captions import taggers
from dreambooth_ext.host.captions import proposals
from tests.host.asking import Asked
from tests.host.drawing.pretended import pretending, without_job
from tests.waiting import until

from .test_caption_editing import CAPTIONS, fill, texts


def tagger(folder: Path) -> Path:
    """What looks like one to the host, which runs nothing."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / taggers.ONNX).write_bytes(b"onnx")
    (folder / taggers.TABLE).write_text("name,category\n")
    return folder


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = pretending(tmp_path)
    fill(made.service.sets.folder / "set")
    return made


def propose(asked: Asked, name: str, options: dict | None = None, set: str = "set"):
    return asked.post("captions/tag", {"set": set, "tagger": name, "options": options or {}})


def test_taggers_that_are_here_and_those_to_be_fetched(asked):
    mine = tagger(asked.service.tagging.folder / "mine")
    (asked.service.tagging.folder / "no tagger").mkdir()
    first = taggers.KNOWN[0]
    told = asked.get("taggers").json()
    assert (told["folder"], told["may_name"]) == (str(mine.parent), True)
    by_name = {one["name"]: one for one in told["taggers"]}
    assert by_name["mine"] == {"name": "mine", "kind": "tags", "here": True, "source": "folder", "files": []}
    assert not by_name[first.repository]["here"] and "no tagger" not in by_name
    tagger(asked.service.tagging.place_of(first))
    again = {one["name"]: one for one in asked.get("taggers").json()["taggers"]}
    assert again[first.repository]["here"] and first.folder not in again


def test_one_is_fetched_by_an_explicit_request(asked, monkeypatch):
    first = taggers.KNOWN[0]
    wanted = []

    def fetched(repository, names, into, title):
        wanted.append((repository, names, into))
        return {"id": "1", "state": "queued"}

    monkeypatch.setattr(asked.service.downloads, "fetch_files", fetched)
    listed = {"link": first.repository, "state": "running", "done": 5, "of": 10, "problem": None, "id": "1"}
    assert asked.get("taggers").json()["fetching"] == [] == wanted
    assert asked.post("taggers/fetch", {"name": first.repository}).status == 202
    assert wanted == [(first.repository, list(first.files), asked.service.tagging.folder / first.folder)]
    monkeypatch.setattr(asked.service.downloads, "listed", lambda: [listed, {**listed, "link": "a/model"}])
    assert asked.get("taggers").json()["fetching"] == [
        {"name": first.repository, "state": "running", "done": 5, "total": 10, "problem": None}
    ]
    assert asked.post("taggers/fetch", {"name": "someone/else"}).status == 404
    monkeypatch.setattr(type(asked.host), "restricted", lambda self: "others can reach it")
    assert asked.post("taggers/fetch", {"name": first.repository}).status == 403


def test_a_job_proposes_and_nothing_is_taken(asked):
    tagger(asked.service.tagging.folder / "mine")
    options = {"threshold": 0.5, "ratings": True, "leave_out": ["1girl", ""], "only_empty": True}
    begun = propose(asked, "mine", options)
    assert begun.status == 202 and begun.json()["kind"] == "tag" and begun.json()["of"] == "set"
    without_job(asked)
    told = asked.get("captions/tag/set").json()
    assert told["job"]["state"] == "done"
    place = asked.service.sets.folder / "set"
    words = json.loads((place / ".edits" / "words.json").read_text())
    assert words[0] == str(place) and f"--tagger={asked.service.tagging.folder / 'mine'}" in words
    assert words[3:] == ["--threshold=0.5", "--ratings", "--only-empty", "--leave-out=1girl"]
    assert told["proposals"] == {"tagger": "mine", "captions": {name: f"seen {name}" for name in CAPTIONS}}
    assert texts(asked) == CAPTIONS
    assert asked.delete("captions/tag/set").status == 200
    assert asked.get("captions/tag/set").json()["proposals"] is None


def test_a_stop_keeps_what_was_proposed(asked):
    tagger(asked.service.tagging.folder / "mine")
    (asked.environment.folder / "wait").touch()
    propose(asked, "mine")
    assert propose(asked, "mine").json()["error"] == "Captions are being proposed for set."
    until(lambda: asked.service.drawing.status()["done"] == 1)
    asked.delete("job")
    without_job(asked)
    told = asked.get("captions/tag/set").json()
    assert told["job"]["state"] == "stopped" and len(told["proposals"]["captions"]) == 1


@pytest.mark.parametrize(
    ("name", "options", "status", "field"),
    [
        ("none", {}, 404, "tagger"),
        ("../runs", {}, 404, "tagger"),
        ("host:CLIP", {}, 404, "tagger"),
        (taggers.KNOWN[0].repository, {}, 409, "tagger"),
        ("mine", {"threshold": 2}, 422, "threshold"),
        ("mine", {"threshold": True}, 422, "threshold"),
        ("mine", {"ratings": "yes"}, 422, "ratings"),
        ("mine", {"leave_out": "1girl"}, 422, "leave_out"),
        ("mine", {"begin": ["a"]}, 422, "leave_out"),
        ("mine", {"device": "cpu"}, 422, "device"),
    ],
)
def test_what_is_wrong_is_named(asked, name, options, status, field):
    tagger(asked.service.tagging.folder / "mine")
    answer = propose(asked, name, options)
    assert (answer.status, answer.json()["field"]) == (status, field), answer.body
    assert asked.service.drawing.status() is None


def test_any_folder_may_be_named_but_not_by_strangers(asked, tmp_path, monkeypatch):
    other = tagger(tmp_path / "elsewhere")
    assert propose(asked, str(tmp_path / "nothing")).json()["code"] == "tagging.not_usable"
    assert propose(asked, str(other)).status == 202
    without_job(asked)
    monkeypatch.setattr(type(asked.host), "restricted", lambda self: "others can reach it")
    assert propose(asked, str(other)).status == 403
    assert asked.post("taggers/about", {"name": taggers.KNOWN[0].repository}).status == 403
    told = asked.get("taggers").json()
    assert (told["folder"], told["may_name"]) == ("", False)


def test_a_set_that_runs_use_gets_no_proposals(asked):
    tagger(asked.service.tagging.folder / "mine")
    asked.service.sets.use(asked.service.sets.folder / "set")
    assert propose(asked, "mine").json()["code"] == "upload.set_in_use"


def test_the_hosts_own_interrogator(asked, monkeypatch):
    seen = []

    def interrogate(self, name, content):
        seen.append(content[:2])
        return f"{name} {len(seen)}"

    monkeypatch.setattr(type(asked.host), "interrogators", lambda self: {"CLIP": "sentences"})
    monkeypatch.setattr(type(asked.host), "interrogate", interrogate)
    listed = [one for one in asked.get("taggers").json()["taggers"] if one["source"] == "host"]
    assert listed == [{"name": "host:CLIP", "kind": "sentences", "here": True, "source": "host", "files": []}]
    assert propose(asked, "host:CLIP", {"only_empty": True}).status == 202
    without_job(asked)
    told = asked.get("captions/tag/set").json()
    assert told["proposals"] == {"tagger": "CLIP", "captions": {"2.png": "CLIP 1"}}
    assert (told["job"]["state"], seen) == ("done", [b"\xff\xd8"])


def test_what_a_download_brings_is_told_or_why_not(asked):
    name = taggers.KNOWN[0].repository
    told = asked.post("taggers/about", {"name": name}).json()
    assert told == {
        "name": name,
        "licence": "apache-2.0",
        "size": 7,
        "files": [{"name": "model.onnx", "size": 7, "sha256": "ab"}],
    }
    (asked.environment.folder / "broken").touch()
    refused = asked.post("taggers/about", {"name": name})
    assert refused.status == 422 and "it is damaged" in refused.json()["error"]
    assert asked.post("taggers/about", {"name": "someone/else"}).status == 404


@pytest.mark.parametrize("content", ["", "[]", '{"captions": {"a": 1}}', '{"captions": []}'])
def test_damaged_proposals_are_none(tmp_path, content):
    proposals.path(tmp_path).parent.mkdir()
    proposals.path(tmp_path).write_text(content)
    assert proposals.read(tmp_path) is None
