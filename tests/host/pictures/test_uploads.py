"""Pictures from outside: kept where they belong under safe names, and refused with a reason when they are hostile."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import pytest

pytest.importorskip("starlette")
Image = pytest.importorskip("PIL.Image")

from dreambooth_ext.core.config.run_config import RunConfig  # noqa: E402
from dreambooth_ext.core.runs import run_folder  # noqa: E402
from dreambooth_ext.host.errors import Refusal  # noqa: E402
from dreambooth_ext.host.pictures import image_decoding, uploads  # noqa: E402
from dreambooth_ext.host.pictures.uploads import PictureSets, safe_name  # noqa: E402
from tests.host.asking import Asked  # noqa: E402

PNG, JPEG, TEXT = "image/png", "image/jpeg", "text/plain"


def drawn(size=(80, 40), form="PNG", mode="RGB", colour="red", **options) -> bytes:
    stream = io.BytesIO()
    Image.new(mode, size, colour).save(stream, form, **options)
    return stream.getvalue()


def png_of(width: int, height: int, data: bytes = b"") -> bytes:
    """A PNG that says it is so large, with that little in it."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


@pytest.fixture
def asked(tmp_path) -> Asked:
    return Asked(tmp_path)


def folder(asked: Asked) -> Path:
    return asked.host.data_folder() / "pictures"


def test_from_upload_to_listing(asked):
    answer = asked.put("pictures/Мои фото/sksper (1).png", drawn(), PNG)
    assert answer.status == 201
    told = answer.json()
    assert (told["set"], told["name"], told["width"], told["height"]) == ("Мои фото", "sksper (1).png", 80, 40)
    assert Path(told["folder"]) == folder(asked) / "Мои фото"
    assert asked.put("pictures/Мои фото/sksper (1).png", drawn(colour="blue"), PNG).status == 200  # renewed
    assert asked.put("pictures/Мои фото/sksper (10).jpg", drawn(form="JPEG"), JPEG).status == 201
    assert asked.put("pictures/Мои фото/sksper (2).webp", drawn(form="WEBP"), "image/webp").status == 201
    caption = asked.put("pictures/Мои фото/sksper (2).txt", "\ufeffeine  Frau,\nlächelnd\n".encode(), TEXT)
    assert caption.status == 200 and caption.json()["caption"] == "eine Frau, lächelnd"

    found = asked.get("pictures", {"set": "Мои фото"}).json()
    assert [item["name"] for item in found["pictures"]] == ["sksper (1).png", "sksper (2).webp", "sksper (10).jpg"]
    assert found["count"] == 3 and found["folder"] == told["folder"]
    first, second, _ = found["pictures"]
    stamp = first.pop("stamp")
    assert first == {"name": "sksper (1).png", "width": 80, "height": 40, "problem": None, "caption": None,
                     "mask": ""}  # fmt: skip
    assert stamp != second["stamp"]
    assert second["caption"] == "eine Frau, lächelnd"
    assert asked.get("pictures").json()["sets"] == [
        {"name": "Мои фото", "title": "", "folder": told["folder"], "count": 3, "runs": []}
    ]
    assert sorted(p.name for p in (folder(asked) / "Мои фото").iterdir()) == [
        "sksper (1).png", "sksper (10).jpg", "sksper (2).txt", "sksper (2).webp",
    ]  # fmt: skip


def test_deleting(asked):
    for name in ("a.png", "a.webp", "b.png"):
        asked.put(f"pictures/s/{name}", drawn(form="WEBP" if "webp" in name else "PNG"), PNG)
    for name in ("a.txt", "b.txt"):
        asked.put(f"pictures/s/{name}", b"words", TEXT)
    assert asked.delete("pictures/s/a.png").status == 200
    assert (folder(asked) / "s" / "a.txt").exists()  # a.webp still has it
    assert asked.delete("pictures/s/a.webp").status == 200
    assert not (folder(asked) / "s" / "a.txt").exists()
    assert asked.put("pictures/s/b.txt", b"  \n", TEXT).json()["caption"] is None
    assert not (folder(asked) / "s" / "b.txt").exists()
    assert asked.delete("pictures/s/a.png").status == 404
    assert asked.delete("pictures/s").status == 200 and not (folder(asked) / "s").exists()
    assert asked.delete("pictures/s").status == 404
    assert asked.get("pictures", {"set": "s"}).status == 404


def test_a_set_that_runs_were_queued_with_is_changed_as_a_copy(asked):
    for name in ("a.png", "b.png"):
        asked.put(f"pictures/s/{name}", drawn(), PNG)
    asked.put("pictures/s/a.txt", b"words", TEXT)
    assert asked.get("pictures", {"set": "s"}).json()["used"] is False
    PictureSets(folder(asked)).use(folder(asked) / "s")
    assert asked.get("pictures", {"set": "s"}).json()["used"] is True
    refused = [
        asked.put("pictures/s/c.png", drawn(), PNG),
        asked.put("pictures/s/a.txt", b"other words", TEXT),
        asked.delete("pictures/s/a.png"),
        asked.delete("pictures/s/a.txt"),
    ]
    assert {(answer.status, answer.json()["field"]) for answer in refused} == {(409, "set")}
    copied = asked.post("copies", {"set": "s"})
    assert copied.status == 202 and copied.json()["state"] == "done" and copied.json()["set"] == "s-2"
    assert asked.put("pictures/s-2/a.txt", b"other words", TEXT).status == 200
    assert asked.delete("pictures/s-2/b.png").status == 200
    assert asked.put("pictures/s-2/c.png", drawn(), PNG).status == 201
    sets = {name: asked.get("pictures", {"set": name}).json() for name in ("s", "s-2")}
    told = {name: {item["name"]: item["caption"] for item in known["pictures"]} for name, known in sets.items()}
    assert told == {"s": {"a.png": "words", "b.png": None}, "s-2": {"a.png": "other words", "c.png": None}}
    assert sets["s-2"]["used"] is False
    assert asked.post("copies", {"set": "s"}).json()["set"] == "s-3"
    assert asked.delete("pictures/s").status == 200  # as a whole it may go


def test_copies_where_the_disk_knows_no_links(asked, monkeypatch):
    def refuse(*arguments):
        raise OSError(95, "not supported")

    asked.put("pictures/s/a.png", drawn(), PNG)
    monkeypatch.setattr(os, "link", refuse)
    assert asked.post("copies", {"set": "s"}).json()["state"] == "done"
    assert (folder(asked) / "s-2" / "a.png").read_bytes() == (folder(asked) / "s" / "a.png").read_bytes()


def test_only_sets_are_kept_as_they_are(asked, tmp_path):
    own = tmp_path / "own"
    own.mkdir()
    PictureSets(folder(asked)).use(own)
    PictureSets(folder(asked)).use(folder(asked))
    assert list(own.iterdir()) == []


def test_pictures_that_a_run_needs_stay(asked):
    asked.put("pictures/s/a.png", drawn(), PNG)
    run = run_folder.create(asked.host.runs_folder(), RunConfig(name="x", instance_data_dir=str(folder(asked) / "s")))
    asked.dispatcher.ids = [run.id]
    assert asked.delete("pictures/s").status == 409
    assert asked.delete("pictures/s/a.png").status == 409
    asked.dispatcher.ids, asked.dispatcher.running = [], [run]
    assert asked.delete("pictures/s").status == 409
    asked.dispatcher.running = []
    assert asked.delete("pictures/s").status == 200


# --- names


@pytest.mark.parametrize(
    "name",
    ["", ".", "..", ".hidden.png", "...", "a/b.png", "a\\b.png", "../a.png", "C:\\a.png", "a\0.png", "a\n.png", "con",
     "CON.png", "lpt1.txt", "nul .png", "COM¹.png", "x" * 300 + ".png", "\ud800.png", ".tmp-1-a.png", "a\x7f.png",
     " ", "я" * 120, " .hidden.png", "\u3000.tmp-1-a.png"],
)  # fmt: skip
def test_names_that_are_refused(name):
    with pytest.raises(Refusal) as refused:
        safe_name(name)
    assert refused.value.status == 422 and refused.value.problem.remedy


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("sksper (1).jpg", "sksper (1).jpg"),
        ("写真 1.png", "写真 1.png"),
        ("what?.png", "what_.png"),
        ("a:b.png", "a_b.png"),  # an alternate stream on Windows
        ("a.png::$DATA", "a.png__$DATA"),
        ("name. ", "name"),
        (" a.png", "a.png"),
        ("é.png", "é.png"),  # from a Mac: two characters become one
        ("a|b*c<d>e\"f.png", "a_b_c_d_e_f.png"),
    ],
)  # fmt: skip
def test_names_that_are_made_safe(name, safe):
    assert safe_name(name) == safe
    assert safe_name(safe) == safe


@pytest.mark.parametrize(
    "path",
    ["pictures/../evil/a.png", "pictures/s/../../a.png", "pictures/s/sub/a.png", "pictures/s/..\\a.png",
     "pictures/.s/a.png", "pictures/s/.a.png", "pictures/con/a.png", "pictures/s//etc/a.png", "pictures/s/a\0.png",
     "pictures/s/C:/a.png"],
)  # fmt: skip
def test_no_way_out_of_the_folder(asked, tmp_path, path):
    before = sorted(tmp_path.rglob("*"))
    assert asked.put(path, drawn(), PNG).status in (404, 405, 422)
    assert asked.get(path).status in (404, 422)
    assert asked.delete(path).status in (404, 405, 422)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_links_lead_nowhere(asked, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret.png").write_bytes(drawn())
    asked.put("pictures/s/a.png", drawn(), PNG)
    (folder(asked) / "linked").symlink_to(elsewhere)
    (folder(asked) / "s" / "b.png").symlink_to(elsewhere / "secret.png")
    (folder(asked) / "s" / "b.txt").symlink_to(elsewhere / "words.txt")

    assert asked.get("pictures/linked/secret.png").status == 404
    assert asked.put("pictures/linked/new.png", drawn(), PNG).status == 422
    assert asked.delete("pictures/linked").status == 404
    assert [item["name"] for item in asked.get("pictures").json()["sets"]] == ["s"]
    assert asked.get("pictures/s/b.png").status == 404
    assert asked.put("pictures/s/b.png", drawn(colour="blue"), PNG).status == 200  # the link goes, not its target
    assert asked.put("pictures/s/b.txt", b"new", TEXT).status == 200
    assert sorted(p.name for p in elsewhere.iterdir()) == ["secret.png"]
    assert (elsewhere / "secret.png").read_bytes() == drawn()


def test_a_file_where_a_set_should_be(asked):
    folder(asked).mkdir(parents=True)
    (folder(asked) / "s").write_text("x")
    assert asked.put("pictures/s/a.png", drawn(), PNG).status == 422
    (folder(asked) / "t" / "a.png").mkdir(parents=True)
    assert asked.put("pictures/t/a.png", drawn(), PNG).status == 422


# --- what is no picture


def test_names_that_windows_gives_to_jpegs(asked):
    for name in ("a.jfif", "b.jpe", "c.JFIF"):
        assert asked.put(f"pictures/s/{name}", drawn(form="JPEG"), JPEG).status == 201
        assert asked.get(f"pictures/s/{name}?size=64").status == 200
    assert [picture["name"] for picture in asked.get("pictures?set=s").json()["pictures"]] == [
        "a.jfif",
        "b.jpe",
        "c.JFIF",
    ]


def test_a_caption_that_windows_saved(asked):
    assert asked.put("pictures/s/a.txt", "кот zkz".encode("utf-16"), TEXT).json()["caption"] == "кот zkz"


@pytest.mark.parametrize(
    ("name", "body", "kind", "status", "part"),
    [
        ("a.svg", b"<svg onload='alert(1)'/>", "image/svg+xml", 415, "not a picture format"),
        ("a.html", b"<script>", "text/html", 415, "not a picture format"),
        ("a.png", b"<script>", "text/html", 415, "not a picture format"),
        ("a.png", b"<script>", "", 415, "not a picture format"),
        ("a.py", drawn(), PNG, 415, "format that cannot"),
        ("a", drawn(), PNG, 415, "format that cannot"),
        ("a.txt", b"words", PNG, 415, "text/plain"),
        ("a.png", b"words", TEXT, 415, "not a picture format"),
        ("a.png", b"", PNG, 422, "none of these formats"),
        ("a.png", b"<svg onload='alert(1)'/>", PNG, 422, "none of these formats"),
        ("a.png", drawn(form="GIF"), PNG, 422, "none of these formats"),
        ("a.png", drawn(form="TIFF"), PNG, 422, "none of these formats"),
        ("a.jpg", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", JPEG, 422, "none of these formats"),
        ("a.png", drawn()[:60], PNG, 422, "is broken"),
        ("a.jpg", drawn((400, 400), "JPEG")[:700], JPEG, 422, "is broken"),
        ("a.png", png_of(64, 64, b"\0" * 10), PNG, 422, "is broken"),
        ("a.png", png_of(50_000, 50_000), PNG, 422, "million pixels"),
        ("a.png", png_of(11_000, 11_000), PNG, 422, "million pixels"),
        ("a.png", png_of(0, 10), PNG, 422, ""),
        ("a.txt", b"\xff\xfe\xff", TEXT, 422, "UTF-8"),
        ("a.txt", "zkz".encode("utf-16-le"), TEXT, 422, "UTF-8"),
        ("a.txt", b"x" * 70_000, TEXT, 413, "64 KB"),
    ],
    ids=range(22),
)  # fmt: skip
def test_what_is_refused(asked, name, body, kind, status, part):
    answer = asked.put(f"pictures/s/{name}", body, kind)
    told = answer.json()
    assert answer.status == status, told
    assert part in told["error"] + told["remedy"] and told["error"] and told["remedy"]
    assert not (folder(asked) / "s" / name).exists()


def test_a_bomb_is_refused_by_its_header(asked, monkeypatch):
    """Nothing is unpacked: 400 MB of pixels in 400 KB of file would be, else."""
    bomb = png_of(11_500, 11_500, b"\0" * 1000)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("decoded"))
    assert asked.put("pictures/s/a.png", bomb, PNG).status == 422


def test_the_other_bomb_is_text(asked):
    """Compressed text beside the picture, which some decoders unpack without end."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    good = drawn()
    bomb = good[:33] + chunk(b"zTXt", b"x\0\0" + zlib.compress(b"a" * 100_000_000)) + good[33:]
    assert asked.put("pictures/s/a.png", bomb, PNG).status in (201, 422)


def test_large_bodies(asked, monkeypatch):
    monkeypatch.setattr(uploads, "LARGEST", 10_000)
    answer = asked.put("pictures/s/a.png", b"x" * 20_000, PNG)
    assert answer.status == 413 and "10 KB" in answer.json()["error"]
    announced = {"content-length": str(10**12)}
    assert asked.put("pictures/s/a.png", b"x", PNG, headers=announced).status == 413
    assert asked.put("pictures/s/a.png", b"x" * 200_000, PNG).status == 413  # and is not read to its end


def test_full_sets_and_disks(asked, monkeypatch):
    monkeypatch.setattr(uploads, "MOST_PICTURES", 2)
    monkeypatch.setattr(uploads, "MOST_SETS", 2)
    for name in ("a", "b"):
        assert asked.put(f"pictures/s/{name}.png", drawn(), PNG).status == 201
    answer = asked.put("pictures/s/c.png", drawn(), PNG)
    assert answer.status == 413 and "already has 2 pictures" in answer.json()["error"]
    assert asked.put("pictures/s/b.png", drawn(), PNG).status == 200
    assert asked.put("pictures/t/b.png", drawn(), PNG).status == 201
    assert asked.put("pictures/u/b.png", drawn(), PNG).status == 413
    monkeypatch.setattr("dreambooth_ext.core.system.files.free_bytes", lambda path: 1000)
    answer = asked.put("pictures/s/b.png", drawn(), PNG)
    assert answer.status == 507 and answer.json()["remedy"]


# --- showing


def shown(answer) -> Image.Image:
    assert answer.status == 200 and answer.headers["content-type"] == JPEG
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "sandbox" in answer.headers["content-security-policy"]
    return Image.open(io.BytesIO(answer.body))


def test_thumbnails(asked):
    asked.put("pictures/s/a.png", drawn((2000, 1000)), PNG)
    assert shown(asked.get("pictures/s/a.png", {"size": 160})).size == (160, 80)
    assert shown(asked.get("pictures/s/a.png", {"size": 150})).size == (160, 80)  # in steps
    assert shown(asked.get("pictures/s/a.png", {"size": 1})).size == (64, 32)
    assert shown(asked.get("pictures/s/a.png", {"size": 999999})).size == (1024, 512)
    assert shown(asked.get("pictures/s/a.png")).size == (1024, 512)
    for size in ("x", "-1", "1e3", "0x10", "9" * 30):
        assert asked.get("pictures/s/a.png", {"size": size}).status == 422
    assert asked.get("pictures/s/none.png").status == 404
    assert asked.get("pictures/s/a.txt").status == 404


def test_thumbnails_are_upright_and_of_every_kind(asked):
    exif = Image.Exif()
    exif[0x0112] = 6
    asked.put("pictures/s/a.jpg", drawn((800, 400), "JPEG", exif=exif), JPEG)
    found = asked.get("pictures", {"set": "s"}).json()["pictures"][0]
    assert (found["width"], found["height"]) == (400, 800)
    assert shown(asked.get("pictures/s/a.jpg", {"size": 128})).size == (64, 128)
    kinds = {"RGBA": (255, 0, 0, 0), "LA": (9, 0), "P": 3, "L": 9, "1": 1, "I;16": 40000}
    for mode, colour in kinds.items():
        assert asked.put("pictures/s/b.png", drawn(mode=mode, colour=colour), PNG).status in (200, 201), mode
        pixel = shown(asked.get("pictures/s/b.png", {"size": 64})).getpixel((5, 5))
        if mode in ("RGBA", "LA"):
            assert min(pixel) > 250  # what is transparent is white
        if mode.startswith("I"):
            assert abs(pixel[0] - 40000 // 257) < 3
    asked.put("pictures/s/c.jpg", drawn(form="JPEG", mode="CMYK", colour=(0, 0, 0, 0)), JPEG)
    assert shown(asked.get("pictures/s/c.jpg")).mode == "RGB"


def test_browsers_keep_thumbnails_until_the_file_changes(asked):
    asked.put("pictures/s/a.png", drawn(), PNG)
    first = asked.get("pictures/s/a.png", {"size": 64})
    tag = {"if-none-match": first.headers["etag"]}
    again = asked.get("pictures/s/a.png", {"size": 64}, headers=tag)
    assert again.status == 304 and again.body == b""
    assert asked.get("pictures/s/a.png", {"size": 128}, headers=tag).status == 200
    asked.put("pictures/s/a.png", drawn((90, 90)), PNG)
    assert asked.get("pictures/s/a.png", {"size": 64}, headers=tag).status == 200


def test_broken_pictures_are_listed_with_their_problem(asked, tmp_path):
    asked.put("pictures/s/a.png", drawn(), PNG)
    (folder(asked) / "s" / "b.png").write_bytes(b"<html>")
    (folder(asked) / "s" / "c.png").write_bytes(png_of(50_000, 50_000))
    (folder(asked) / "s" / "a.txt").write_bytes(b"\xff")
    a, b, c = asked.get("pictures", {"set": "s"}).json()["pictures"]
    assert (a["width"], b["width"], c["width"]) == (80, None, None)
    assert "UTF-8" in a["problem"] and "none of these formats" in b["problem"] and "million pixels" in c["problem"]
    assert asked.get("pictures/s/b.png").status == 422
    assert asked.get("pictures/s/c.png").status == 422


# --- folders of this machine


def test_a_folder_of_this_machine(asked, tmp_path):
    place = tmp_path / "мои" / "sub"
    place.mkdir(parents=True)
    (place / "x (1).png").write_bytes(drawn())
    (place.parent / "secret.txt").write_text("x")
    query = {"folder": str(place.parent)}
    found = asked.get("pictures", query).json()
    assert [item["name"] for item in found["pictures"]] == ["sub/x (1).png"]
    assert shown(asked.get("pictures/folder/sub/x (1).png", {**query, "size": 64})).size == (64, 32)
    for name in ("secret.txt", "../sub/x (1).png", "sub/../sub/x (1).png", "none.png", ".", "sub"):
        assert asked.get(f"pictures/folder/{name}", query).status == 404, name
    assert asked.get("pictures", {"folder": str(tmp_path / "none")}).status == 422
    assert asked.get("pictures", {"folder": "a\0b"}).status == 422


def test_large_folders_are_shown_by_pages(asked, tmp_path, monkeypatch):
    monkeypatch.setattr(uploads, "PAGE", 2)
    for number in range(5):
        asked.put(f"pictures/s/x ({number}).png", drawn(), PNG)
    found = asked.get("pictures", {"set": "s", "start": 2}).json()
    assert [item["name"] for item in found["pictures"]] == ["x (2).png", "x (3).png"] and found["count"] == 5


def test_a_whole_disk_is_no_folder_of_pictures(asked, tmp_path, monkeypatch):
    monkeypatch.setattr("dreambooth_ext.core.data.folder_scan.MOST_FILES", 3)
    for number in range(4):
        (tmp_path / str(number)).mkdir()
    answer = asked.get("pictures", {"folder": str(tmp_path)})
    assert answer.status == 422 and "more than 3 files" in answer.json()["error"]
    found = asked.post("check", {"config": {"instance_data_dir": str(tmp_path)}}).json()["problems"]
    assert any("more than 3 files" in problem["message"] for problem in found)


def test_no_folders_for_strangers(tmp_path):
    asked = Asked(tmp_path, restricted="It is shared.")
    asked.put("pictures/s/a.png", drawn(), PNG)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.png").write_bytes(drawn())
    sets = folder(asked)
    for place in (tmp_path / "mine", "/etc", "..", "~", f"{sets}/s\0", sets / ".." / ".." / ".." / "mine"):
        assert asked.get("pictures", {"folder": str(place)}).status == 403
        assert asked.get("pictures/folder/a.png", {"folder": str(place)}).status == 403
    own = str(folder(asked) / "s")
    assert asked.get("pictures", {"folder": own}).status == 200
    assert asked.get("pictures/folder/a.png", {"folder": own}).status == 200
    if os.name != "nt":
        (folder(asked) / "s" / "link").symlink_to(tmp_path / "mine")
        assert asked.get("pictures/folder/link/a.png", {"folder": own}).status == 403
        assert asked.get("pictures", {"folder": own + "/link"}).status == 403


def test_many_at_once(tmp_path):
    """Several pages upload into one set: no file is lost, none is half."""
    from concurrent.futures import ThreadPoolExecutor

    sets = PictureSets(tmp_path)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: sets.put("s", f"{n % 8}.png", drawn((n + 1, 8))), range(24)))
    found = sets.list("s")["pictures"]
    assert len(found) == 8 and not any(item["problem"] for item in found)
    assert not list((tmp_path / "s").glob(".tmp*"))


def test_sizes_of_thumbnails():
    assert [uploads.fitting(size) for size in (0, 64, 65, 1024, 5000)] == [64, 64, 96, 1024, 1024]
    assert image_decoding.TURNS.keys() == set(range(2, 9))


# --- what a page shows, and what it asks for


def test_only_the_picture_that_was_shown_is_deleted_or_described(asked):
    """A page says by its `stamp` which picture it means; another of the same name is left alone."""
    for name in ("a", "b"):
        asked.put(f"pictures/{name}/IMG_0001.jpg", drawn(colour="red" if name == "a" else "blue", form="JPEG"), JPEG)
    shown = {name: asked.get("pictures", {"set": name}).json()["pictures"][0]["stamp"] for name in ("a", "b")}
    assert shown["a"] != shown["b"]
    wrong = f"picture=IMG_0001.jpg&stamp={shown['a']}"
    answer = asked.put(f"pictures/b/IMG_0001.txt?{wrong}", b"a red one", TEXT)
    assert answer.status == 409 and "a different picture" in answer.json()["error"]
    assert asked.delete(f"pictures/b/IMG_0001.jpg?stamp={shown['a']}").status == 409
    assert sorted(path.name for path in (folder(asked) / "b").iterdir()) == ["IMG_0001.jpg"]
    assert asked.put("pictures/b/none.txt?picture=none.jpg&stamp=1", b"a red one", TEXT).status == 404
    right = f"picture=IMG_0001.jpg&stamp={shown['b']}"
    assert asked.put(f"pictures/b/IMG_0001.txt?{right}", b"a blue one", TEXT).status == 200
    assert asked.delete(f"pictures/b/IMG_0001.jpg?stamp={shown['b']}").status == 200
    assert list((folder(asked) / "b").iterdir()) == []
