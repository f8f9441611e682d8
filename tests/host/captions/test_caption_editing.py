"""Bulk changes of a set's captions: what is written, what is undone, and what nobody may change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from tests.host.asking import FAR, Asked

CAPTIONS = {"1.png": "red sofa, evening", "2.png": "", "3.png": "evening, tree"}


def fill(folder: Path, captions: dict[str, str] = CAPTIONS) -> Path:
    for name, text in captions.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 64), (len(text) * 5, 90, 90)).save(path)
        if text:
            path.with_suffix(".txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = Asked(tmp_path)
    fill(made.service.sets.folder / "set")
    return made


def texts(asked: Asked, name: str = "set") -> dict[str, str]:
    listed = asked.get("captions", {"set": name})
    assert listed.status == 200, listed.body
    return {one["name"]: one["caption"] for one in listed.json()["pictures"]}


def edit(asked: Asked, kind: str, about: dict | None = None, **values):
    return asked.post("captions", {"set": "set", "edit": {"kind": kind, **values}, **(about or {})})


def test_a_change_and_the_way_back_survive_a_restart(asked, tmp_path):
    assert edit(asked, "add", tags=["new"]).json()["undo"]["count"] == 3
    assert texts(asked) == {"1.png": "red sofa, evening, new", "2.png": "new", "3.png": "evening, tree, new"}
    edit(asked, "remove", tags=["evening"])
    again = Asked(tmp_path)
    listed = again.get("captions", {"set": "set"}).json()
    assert (listed["undo"]["kind"], listed["undo"]["tags"], listed["redo"]) == ("remove", "evening", None)
    assert listed["tags"] == [["new", 3], ["red sofa", 1], ["tree", 1]]
    assert again.post("captions/undo", {"set": "set"}).json()["redo"]["kind"] == "remove"
    assert again.post("captions/undo", {"set": "set"}).status == 200
    assert texts(again) == CAPTIONS and not (again.service.sets.folder / "set" / "2.txt").exists()
    refused = again.post("captions/undo", {"set": "set"})
    assert (refused.status, refused.json()["code"]) == (409, "captions.nothing_to_undo")
    again.post("captions/redo", {"set": "set"})
    assert texts(again)["2.png"] == "new"
    edit(again, "unique")  # changes nothing, so it is no step
    edit(again, "add", tags=["other"])  # forgets what was undone
    assert again.post("captions/redo", {"set": "set"}).json()["code"] == "captions.nothing_to_redo"


def test_a_preview_and_a_choice_of_pictures(asked):
    answer = edit(asked, "add", {"preview": True, "names": ["3.png", "none.png"]}, tags=["new"]).json()
    assert answer["changed"] == [{"name": "3.png", "before": "evening, tree", "after": "evening, tree, new"}]
    assert texts(asked) == CAPTIONS
    edit(asked, "add", {"names": ["3.png"]}, tags=["new"])
    assert texts(asked) == {**CAPTIONS, "3.png": "evening, tree, new"}


def test_what_was_changed_otherwise_since_is_not_undone(asked):
    edit(asked, "add", tags=["new"])
    (asked.service.sets.folder / "set" / "1.txt").write_text("by hand", encoding="utf-8")
    answer = asked.post("captions/undo", {"set": "set"}).json()
    assert answer["left"] == ["1.png"]
    assert texts(asked) == {**CAPTIONS, "1.png": "by hand"}


def test_a_kill_between_note_and_captions_can_be_undone(asked, monkeypatch):
    write, count = type(asked.service.sets).write_text, []

    def killed(self, path, text):
        if count:
            raise KeyboardInterrupt
        count.append(write(self, path, text))

    monkeypatch.setattr(type(asked.service.sets), "write_text", killed)
    with pytest.raises(KeyboardInterrupt):
        asked.service.captions.apply("set", {"kind": "add", "tags": ["new"]})
    monkeypatch.undo()
    assert list(texts(asked).values()).count("red sofa, evening, new") == 1
    assert asked.post("captions/undo", {"set": "set"}).json()["left"] == []
    assert texts(asked) == CAPTIONS


def test_a_set_of_queued_runs_stays_and_its_copy_changes(asked):
    place = asked.service.sets.folder / "set"
    asked.service.sets.use(place)
    before = {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}
    assert asked.get("captions", {"set": "set"}).json()["used"]
    for refused in (edit(asked, "add", tags=["new"]), asked.post("captions/undo", {"set": "set"})):
        assert (refused.status, refused.json()["code"]) == (409, "upload.set_in_use")
    assert edit(asked, "add", {"preview": True}, tags=["new"]).status == 200
    copy = asked.post("copies", {"set": "set"}).json()["set"]
    asked.post("captions", {"set": copy, "edit": {"kind": "add", "tags": ["new"]}})
    assert texts(asked, copy)["2.png"] == "new"
    assert before == {path.name: path.read_bytes() for path in place.iterdir() if path.is_file()}


def test_a_folder_of_the_machine_is_only_read_and_copied(asked, tmp_path):
    folder = fill(tmp_path / "Фото 1", {**CAPTIONS, "sub/1.png": "deep", "sub/1.jpg": ""})
    (folder / "notes.md").write_text("mine")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    listed = asked.get("captions", {"folder": str(folder)}).json()
    assert {one["name"]: one["caption"] for one in listed["pictures"]}["sub/1.png"] == "deep"
    assert (listed["set"], listed["undo"], listed["used"]) == ("", None, False)
    made = asked.post("copies", {"folder": str(folder)})
    assert (made.status, made.json()["set"], made.json()["count"]) == (202, "Фото 1", 5)
    asked.post("captions", {"set": "Фото 1", "edit": {"kind": "add", "tags": ["new"]}})
    found = texts(asked, "Фото 1")
    assert [found[name] for name in ("sub - 1.jpg", "sub - 1-2.png")] == ["deep, new"] * 2 and len(found) == 5
    assert asked.post("copies", {"folder": str(folder)}).json()["set"] == "Фото 1-2"
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_strangers_name_no_folder(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(type(asked.host), "restricted", lambda self: "others can reach it")
    for answer in (
        asked.get("captions", {"folder": str(tmp_path)}),
        asked.post("copies", {"folder": str(tmp_path)}),
        asked.post("captions/trained", {"config": {"instance_data_dir": str(tmp_path)}}),
        asked.post("word", {"word": "sks", "base_model": str(tmp_path)}),
    ):
        assert answer.status == 403, answer.body
    assert asked.post("captions", {"set": "set", "edit": {"kind": "unique"}}, client=FAR).status in (401, 403)


def test_a_text_that_cannot_be_read_is_never_replaced(asked):
    path = asked.service.sets.folder / "set" / "2.txt"
    path.write_bytes(b"\xff\xfe\xfd caption")
    refused = edit(asked, "add", tags=["new"])
    assert (refused.status, refused.json()["code"]) == (422, "captions.unreadable_kept")
    assert path.read_bytes() == b"\xff\xfe\xfd caption" and texts(asked)["1.png"] == CAPTIONS["1.png"]
    assert edit(asked, "add", {"names": ["1.png"]}, tags=["new"]).status == 200


@pytest.mark.parametrize(
    "body, field",
    [
        ({"set": "set", "edit": {"kind": "burn"}}, "kind"),
        ({"set": "set", "edit": {"kind": "add", "tags": []}}, "tags"),
        ({"set": "set", "edit": []}, "edit"),
        ({"set": "set", "edit": {"kind": "unique"}, "names": "1.png"}, "names"),
        ({"set": "../set", "edit": {"kind": "unique"}}, "name"),
        ({"set": "none", "edit": {"kind": "unique"}}, "set"),
        ({"set": "set", "edit": {"kind": "proposals"}}, "set"),
        ({"set": "set", "edit": {"kind": "proposals", "mode": "all"}}, "mode"),
    ],
)
def test_what_is_wrong_is_named(asked, body, field):
    answer = asked.post("captions", body)
    assert answer.status in (404, 422) and answer.json()["field"] == field, answer.body
    assert answer.json()["remedy"] and texts(asked) == CAPTIONS


@pytest.mark.parametrize("content", ["", "no json", "[]", '{"steps": [1], "at": 1}', '{"steps": [], "at": 9}'])
def test_a_damaged_history_is_an_empty_one(asked, content):
    path = asked.service.sets.folder / "set" / ".edits" / "captions.json"
    path.parent.mkdir()
    path.write_text(content)
    assert asked.get("captions", {"set": "set"}).json()["undo"] is None
    assert edit(asked, "add", tags=["new"]).json()["undo"]["kind"] == "add"


def test_proposals_are_taken_as_asked_and_can_be_undone(asked):
    path = asked.service.sets.folder / "set" / ".edits" / "proposals.json"
    path.parent.mkdir()
    proposed = {"1.png": "1girl, evening", "2.png": "a tree", "gone.png": "x"}
    path.write_text(json.dumps({"tagger": "wd", "captions": proposed}))
    assert asked.get("captions", {"set": "set"}).json()["proposals"]["captions"] == proposed

    def taken(mode: str) -> dict[str, str]:
        changed = edit(asked, "proposals", {"preview": True}, mode=mode).json()["changed"]
        return {one["name"]: one["after"] for one in changed}

    assert taken("empty") == {"2.png": "a tree"}
    assert taken("replace") == {"1.png": "1girl, evening", "2.png": "a tree"}
    assert taken("after") == {"1.png": "red sofa, evening, 1girl", "2.png": "a tree"}
    assert taken("before") == {"1.png": "1girl, evening, red sofa", "2.png": "a tree"}
    edit(asked, "proposals", mode="replace")
    asked.post("captions/undo", {"set": "set"})
    assert texts(asked) == CAPTIONS


def test_a_full_disk_refuses_before_anything_is_copied(asked, tmp_path, monkeypatch):
    folder = fill(tmp_path / "photos")
    monkeypatch.setattr("dreambooth_ext.core.system.files.free_bytes", lambda path: 10)
    assert asked.post("copies", {"folder": str(folder)}).json()["problem"]["code"] == "upload.disk_full"
    assert [path.name for path in asked.service.sets.folder.iterdir()] == ["set"]


def test_captions_as_trained_are_told_for_the_config_of_the_form(asked):
    config = {
        "instance_data_dir": str(asked.service.sets.folder / "set"), "instance_prompt": "a photo of zkz",
        "use_captions": True, "max_token_length": 75,
    }  # fmt: skip
    answer = asked.post("captions/trained", {"config": config}).json()
    assert [(one["name"], one["text"]) for one in answer["pictures"]] == [
        ("1.png", "a photo of zkz, red sofa, evening"), ("2.png", "a photo of zkz"),
        ("3.png", "a photo of zkz, evening, tree"),
    ]  # fmt: skip
    assert (answer["count"], answer["cut"], answer["problems"]) == (3, 0, [])
    assert asked.post("captions/trained", {"config": config, "start": 2}).json()["pictures"][0]["name"] == "3.png"
    missing = asked.post("captions/trained", {"config": {**config, "instance_data_dir": ""}}).json()
    assert missing["pictures"] == [] and missing["problems"][0]["field"] == "instance_data_dir"
    assert asked.post("captions/trained", {"config": {"method": "unconditional"}}).json()["count"] == 0
