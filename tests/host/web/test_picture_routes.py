"""The routes that edit pictures: what they answer and refuse, over HTTP."""

from __future__ import annotations

import io

import pytest

pytest.importorskip("starlette")
Image = pytest.importorskip("PIL.Image")

from dreambooth_ext.core.pictures.training_crop import centre_crop, training_size  # noqa: E402
from dreambooth_ext.host.pictures.edits import PictureEdits  # noqa: E402
from tests.host.asking import Asked  # noqa: E402
from tests.host.pictures.test_edits import ask, drawn, painted  # noqa: E402


@pytest.fixture
def asked(tmp_path) -> Asked:
    made = Asked(tmp_path)
    made.service.edits = PictureEdits(made.service.sets, ask)
    made.put("pictures/мой набор/a b.jpg", drawn(), "image/jpeg")
    return made


PLACE = "edits/мой набор/a b.jpg"


def test_editing(asked):
    told = asked.get(PLACE).json()
    assert told["size"] == [90, 60] and told["undo"] == 0
    answer = asked.post(PLACE, {"action": "change", "stamp": told["stamp"], "edit": {"turns": 1}})
    assert answer.status == 200 and answer.json()["size"] == [60, 90]
    assert asked.post(PLACE, {"action": "change", "stamp": told["stamp"], "edit": {}}).status == 409
    assert asked.post(PLACE, {"action": "crop", "edit": {"crop": [0, 0, 40, 40]}}).json()["name"] == "a b crop 2.jpg"
    assert asked.post(PLACE, {"action": "undo"}).json()["redo"] == 1
    assert asked.post(PLACE, {"action": "redo"}).json()["edited"] is True
    assert asked.post(PLACE, {"action": "restore"}).json()["edited"] is False
    original = Image.open(io.BytesIO(asked.get(PLACE + "/original", {"size": 64}).body))
    assert original.size == (64, 43)


@pytest.mark.parametrize(
    ("values", "status", "part"),
    [
        ({}, 422, "action"), ({"action": "burn"}, 422, "burn"), ({"action": "change"}, 422, "edit"),
        ({"action": "change", "edit": {"turns": 5}}, 422, "quarter"), ({"action": "undo"}, 409, "nothing to undo"),
        ({"action": "change", "edit": {"crop": [0, 0, 10000, 10]}}, 422, "crop"),
        ({"action": "change", "edit": []}, 422, "edit"), ({"action": "undo", "stamp": 3}, 422, "stamp"),
    ],
)  # fmt: skip
def test_what_is_refused(asked, values, status, part):
    answer = asked.post(PLACE, values)
    assert answer.status == status and part in answer.json()["error"], answer.json()


def test_no_way_out_of_the_set(asked):
    for place in ("edits/../a.jpg", "edits/мой набор/../x.jpg", "edits/мой набор/none.jpg", "edits/none/a.jpg",
                  "edits/мой набор/.edits"):  # fmt: skip
        assert asked.get(place).status in (404, 422)
        assert asked.post(place, {"action": "undo"}).status in (404, 405, 422)


def test_masks(asked):
    assert asked.get(PLACE + "/mask").status == 404
    assert asked.put(PLACE + "/mask", painted(), "text/html").status == 415
    assert asked.put(PLACE + "/mask", b"<svg/>", "image/png").status == 422
    told = asked.put(PLACE + "/mask", painted(), "image/png").json()
    assert told["mask"] == "a b-masklabel.png" and told["undo"] == 1
    shown = Image.open(io.BytesIO(asked.get(PLACE + "/mask", {"size": 128}).body))
    assert shown.size == (90, 60) and shown.mode == "L" and shown.getpixel((5, 5)) == 255  # to the level, unlike a JPEG
    assert Image.open(io.BytesIO(asked.get(PLACE + "/mask", {"size": 64}).body)).size == (64, 43)
    assert asked.delete(PLACE + "/mask").json()["mask"] is None


def test_sets_go_out_and_come_in(asked):
    run = asked.run(
        name="cat", instance_data_dir=str(asked.service.sets.path("мой набор")), instance_prompt="a zkz cat"
    )
    told = asked.get("pictures").json()["sets"][0]
    assert told["title"] == "" and told["runs"] == [{"id": run.id, "name": "cat"}]
    assert asked.post("sets/мой набор", {"title": " Мой  кот "}).json()["title"] == "Мой кот"
    assert asked.get("pictures").json()["sets"][0]["title"] == "Мой кот"
    assert asked.get(f"runs/{run.id}/subject").json()["sets"] == [{"set": "мой набор", "title": "Мой кот"}]
    assert asked.post("sets/мой набор", {"title": "x" * 200}).status == 422
    assert asked.post("sets/none", {"title": "x"}).status == asked.get("sets/none/export").status == 404
    answer = asked.get("sets/мой набор/export")
    assert answer.status == 200 and answer.headers["content-type"] == "application/zip"
    assert asked.put("sets", answer.body, "text/html").status == 415
    made = asked.put("sets", answer.body, "application/zip")
    assert made.status == 201 and made.json()["title"] == "Мой кот" and made.json()["count"] == 1
    assert asked.get("pictures", {"set": made.json()["set"]}).json()["pictures"][0]["name"] == "a b.jpg"
    refused = asked.put("sets", b"no zip", "application/zip")
    assert refused.status == 422 and "damaged" in refused.json()["error"]
    assert not list(asked.service.sets.folder.glob(".tmp*"))
    assert asked.put("sets?title=other", answer.body, "application/zip").json()["title"] == "other"


def test_zips_that_are_too_large(asked, monkeypatch):
    monkeypatch.setattr("dreambooth_ext.host.pictures.set_archive.LARGEST_ARCHIVE", 1000)
    assert asked.put("sets", b"x" * 2000, "application/zip").status == 413
    monkeypatch.setattr("dreambooth_ext.core.system.files.free_bytes", lambda path: 1000)
    announced = {"content-length": "900"}
    assert asked.put("sets", b"x", "application/zip", headers=announced).status == 507
    assert not list(asked.service.sets.folder.glob(".tmp*"))


@pytest.mark.parametrize("bucket", [True, False])
@pytest.mark.parametrize("size", [(1200, 800), (300, 2000), (512, 512)])
def test_what_training_leaves(asked, bucket, size):
    query = {"width": size[0], "height": size[1], "resolution": 512, "enable_bucket": str(bucket).lower()}
    told = asked.get("crop", query).json()
    crop = centre_crop(size, training_size(size, 512, bucket))
    assert told["box"] == pytest.approx(list(crop.box)) and tuple(told["target"]) == crop.target
    assert told["target"] in told["sizes"] and (len(told["sizes"]) > 1) == bucket


@pytest.mark.parametrize("query", ["", "?width=0&height=5&resolution=5", "?width=5&height=5&resolution=99999",
                                   "?width=x&height=5&resolution=5"])  # fmt: skip
def test_no_training_crop_of_nothing(asked, query):
    assert asked.get("crop" + query).status == 422
