"""What the page is told of a set's pictures while they are looked at, and uploads that are converted."""

from __future__ import annotations

import io
import time

import pytest
from PIL import Image

from dreambooth_ext.host.environment.environment import Environment, Status
from dreambooth_ext.host.errors import Refusal
from dreambooth_ext.host.pictures import converted
from dreambooth_ext.host.pictures.findings import PictureFindings
from dreambooth_ext.host.pictures.picture_worker import PictureWorker
from dreambooth_ext.host.pictures.uploads import PictureSets
from tests.engine.doctor.pictures import scene


@pytest.fixture(scope="module")
def worker():
    made = PictureWorker(Environment())
    yield made
    made.close()


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "мои фото"
    made.mkdir()
    for number in range(3):
        scene(600, 512, seed=number).save(made / f"{number}.png")
    scene(600, 512, seed=1).save(made / "copy.bmp")
    (made / "broken.jpg").write_bytes(b"<html>")
    return made


def until_known(findings: PictureFindings, folder) -> tuple[dict, dict]:
    """All pictures that were told, by name, and the last answer."""
    told: dict = {}
    after, deadline = 0, time.monotonic() + 60
    while True:
        answer = findings.show(folder, "object", 512, after)
        told |= {one["name"]: one for one in answer["pictures"]}
        after = answer["next"]
        if answer["score"] is not None or time.monotonic() > deadline:
            return told, answer
        time.sleep(0.05)


def test_the_pictures_are_told_as_they_are_looked_at_and_then_the_set(worker, folder):
    findings = PictureFindings(worker)
    assert findings.show(folder, "object", 512)["score"] is None
    told, answer = until_known(findings, folder)
    assert set(told) == {"0.png", "1.png", "2.png", "copy.bmp", "broken.jpg"}
    assert answer["waiting"] == 0 and answer["count"] == 5 and 0 < answer["score"] < 100
    (broken,) = told["broken.jpg"]["findings"]
    assert broken["kind"] == "unreadable" and str(folder) not in broken["message"] and broken["remedy"]
    assert [one["kind"] for one in answer["extra"]["copy.bmp"]] == ["duplicate"]
    assert [one["kind"] for one in answer["set"]] == ["too_few"]
    assert findings.show(folder, "object", 512, answer["next"])["pictures"] == []
    assert len(findings.show(folder, "object", 512, 0)["pictures"]) == 5  # another page


def test_a_changed_picture_is_looked_at_again(worker, folder):
    findings = PictureFindings(worker)
    _, before = until_known(findings, folder)
    scene(300, 256, seed=7).save(folder / "0.png")
    (folder / "broken.jpg").unlink()
    after = before["next"]
    told, answer = until_known(findings, folder)
    assert "small" in [one["kind"] for one in told["0.png"]["findings"]] and "broken.jpg" not in told
    assert answer["next"] == after + 1 and answer["count"] == 4


def test_the_contact_sheet_is_a_picture(worker, folder):
    findings = PictureFindings(worker)
    until_known(findings, folder)
    with Image.open(io.BytesIO(findings.sheet(folder, "object", 512))) as sheet:
        assert sheet.format == "JPEG" and sheet.width > 500
    said: list[str] = []
    findings.sheet(folder, "object", 512, lambda message: said.append(message.code) or "Размыта")
    assert "finding_kind.unreadable" in said and "finding_kind.duplicate" in said
    with pytest.raises(Refusal) as refused:
        empty = folder / "empty"
        empty.mkdir()
        findings.sheet(empty, "object", 512)
    assert refused.value.status == 404


def test_without_the_environment_the_reason_is_told(folder, monkeypatch):
    environment = Environment()
    monkeypatch.setattr(environment, "status", lambda: Status("missing", "It has not been set up.", ""))
    worker = PictureWorker(environment)
    findings, deadline = PictureFindings(worker), time.monotonic() + 20
    while not (answer := findings.show(folder, "object", 512))["trouble"] and time.monotonic() < deadline:
        time.sleep(0.05)
    assert "not been set up" in answer["trouble"] and answer["score"] is None and answer["pictures"] == []
    worker.close()


@pytest.mark.parametrize(("suffix", "made"), [(".gif", ".png"), (".tif", ".png"), (".avif", ".jpg")])
def test_uploads_in_other_formats_are_converted_and_kept(worker, tmp_path, suffix, made):
    stream = io.BytesIO()
    scene(320, 256).save(stream, {".gif": "GIF", ".tif": "TIFF", ".avif": "AVIF"}[suffix])
    sets = PictureSets(tmp_path / "sets")
    kept = converted.put(sets, worker, "mine", f"кот (1){suffix}", stream.getvalue())
    assert kept["name"] == f"кот (1){made}" and (kept["width"], kept["height"]) == (320, 256)
    assert [one["name"] for one in sets.list("mine")["pictures"]] == [f"кот (1){made}"]
    assert (tmp_path / "sets" / "mine" / ".converted" / f"кот (1){suffix}").read_bytes() == stream.getvalue()


def test_what_is_no_picture_is_refused_by_its_own_name(worker, tmp_path):
    with pytest.raises(Refusal, match=r"bad\.heic") as refused:
        converted.put(PictureSets(tmp_path / "sets"), worker, "mine", "bad.heic", b"<html>")
    assert refused.value.status == 422 and str(tmp_path) not in str(refused.value)
    assert not (tmp_path / "sets").exists()
