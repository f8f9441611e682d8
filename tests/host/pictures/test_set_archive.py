"""Sets as zips: what goes out comes back, and what is hostile is refused with the reason and leaves nothing."""

from __future__ import annotations

import io
import json
import stat
import struct
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("PIL.Image")

from dreambooth_ext.host.errors import Refusal
from dreambooth_ext.host.pictures import set_about, set_archive
from dreambooth_ext.host.pictures.copying import copy_set
from dreambooth_ext.host.pictures.edits import PictureEdits
from dreambooth_ext.host.pictures.uploads import PictureSets

from .test_edits import CROP, ask, drawn, painted


@pytest.fixture
def sets(tmp_path) -> PictureSets:
    return PictureSets(tmp_path / "user anna" / "pictures")


def packed(*entries: tuple, **about) -> bytes:
    """A zip of (name or ZipInfo, content)."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **about) as archive:
        for name, content in entries:
            archive.writestr(name, content)
    return stream.getvalue()


def read(sets: PictureSets, data: bytes, title: str = ""):
    path = sets.folder.parent / "in.zip"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return set_archive.read(sets, path, title)


def test_there_and_back(sets, tmp_path):
    sets.put("s", "мой кот (1).jpg", drawn())
    sets.put("s", "b.png", drawn(1, form="PNG"))
    sets.put_caption("s", "b.txt", "ein Hügel".encode())
    PictureEdits(sets, ask).put_mask("s", "b.png", "", painted())
    PictureEdits(sets, ask).change("s", "b.png", "", CROP)
    set_about.write_title(sets.path("s"), "Кот, 2026")
    (sets.path("s") / ".converted").mkdir()
    (sets.path("s") / ".converted" / "b.heic").write_bytes(b"where it was taken")
    data = b"".join(set_archive.stream(sets.path("s")))
    assert b"where it was taken" not in data and zipfile.ZipFile(io.BytesIO(data)).read("b-masklabel.png")
    assert b"anna" not in data and str(tmp_path).encode() not in data
    other = PictureSets(tmp_path / "elsewhere")
    made = read(other, data)
    assert (made["title"], made["count"], made["left_out"]) == ("Кот, 2026", 2, [])  # the mask is none
    for path in sets.path("s").iterdir():
        if not path.name.startswith("."):
            assert (other.path(made["set"]) / path.name).read_bytes() == path.read_bytes()
    assert [(one["title"], one["count"]) for one in other.sets()] == [("Кот, 2026", 2)]
    assert read(other, data, "Другой")["title"] == "Другой"
    assert len(other.sets()) == 2 and not list(other.folder.glob(".tmp*"))


def test_zips_of_other_programs(sets):
    mac = packed(("Кот/", b""), ("Кот/a.jpg", drawn()), ("__MACOSX/Кот/._a.jpg", b"x"), ("Кот/.DS_Store", b"x"),
                 ("Кот/a.txt", b"words"), ("Кот/notes.md", b"x"), ("Кот/run.exe", b"MZ"),
                 compression=zipfile.ZIP_DEFLATED)  # fmt: skip
    made = read(sets, mac)
    assert made["count"] == 1 and made["left_out"] == ["notes.md", "run.exe"]
    assert sorted(path.name for path in Path(made["folder"]).iterdir()) == ["a.jpg", "a.txt"]


def attributed(name: str, mode: int) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system, entry.external_attr = 3, mode << 16
    return entry


def encrypted() -> bytes:
    """The flag in both places where a zip has it."""
    data = bytearray(packed(("a.jpg", drawn())))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.find(mark) + place] |= 1
    return bytes(data)


def lying(size: int) -> bytes:
    """An entry that says it is so small, but unpacks to more."""
    data = bytearray(packed(("a.txt", b"x" * 60_000), ("b.jpg", drawn()), compression=zipfile.ZIP_DEFLATED))
    for mark, place in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        at = data.find(mark) + place
        data[at : at + 4] = struct.pack("<I", size)
    return bytes(data)


def overlapping() -> bytes:
    """Many entries whose content is the same bytes (Fifield's bomb without its quotes)."""
    data = packed(("a.jpg", drawn()))
    at = data.find(b"PK\x01\x02")
    end = data.find(b"PK\x05\x06")
    entry, rows = data[at:end], b""
    for number in range(26):
        rows += entry.replace(b"a.jpg", b"%c.jpg" % (97 + number))
    return data[:at] + rows + struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, 26, 26, len(rows), at, 0)


def many(count: int) -> bytes:
    """A list that says it has so many entries."""
    data = bytearray(packed(("a.jpg", drawn())))
    at = data.find(b"PK\x05\x06")
    data[at + 8 : at + 12] = struct.pack("<HH", count, count)
    return bytes(data)


HOSTILE = {
    "up": (packed(("../a.jpg", drawn())), "path"),
    "far up": (packed(("x/../../a.jpg", drawn())), "path"),
    "absolute": (packed(("/etc/a.jpg", drawn())), "path"),
    "windows": (packed(("C:/a.jpg", drawn())), "path"),
    "backslash": (packed(("..\\a.jpg", drawn())), "path"),
    "network": (packed(("\\\\server\\a.jpg", drawn())), "path"),
    "device": (packed(("con.jpg", drawn())), "bad_name"),
    "device in a folder": (packed(("x/NUL.png", drawn(form="PNG"))), "bad_name"),
    "link": (packed((attributed("a.jpg", stat.S_IFLNK | 0o777), b"/etc/passwd")), "link"),
    "pipe": (packed((attributed("a.jpg", stat.S_IFIFO | 0o777), b"")), "link"),
    "disk": (packed((attributed("a.jpg", stat.S_IFBLK | 0o777), b"")), "link"),
    "encrypted": (encrypted(), "encrypted"),
    "twice": (packed(("a.jpg", drawn()), ("x/A.jpg", drawn())), "twice"),
    "lzma": (packed(("a.jpg", drawn()), compression=zipfile.ZIP_LZMA), "packing"),
    "bomb": (packed(("a.bmp", b"\0" * 40_000_000), compression=zipfile.ZIP_DEFLATED), "bomb"),
    "large": (packed(("a.txt", b"x" * 100_000), ("a.jpg", drawn())), "large_entry"),
    "lies": (lying(100), "damaged"),
    "shared": (overlapping(), "shared"),
    "many": (many(60_000), "many_entries"),
    "none": (packed(("a.txt", b"words")), "no_pictures"),
    "empty": (packed(), "no_pictures"),
    "no zip": (b"GIF89a" * 100, "damaged"),
    "nothing": (b"", "damaged"),
    "half": (packed(("a.jpg", drawn()))[:-40], "damaged"),
    "no picture": (packed(("a.jpg", b"<svg/>")), "not_a_picture"),
    "a caption": (packed(("a.jpg", drawn()), ("a.txt", b"\xff\xfe\xff")), "caption_not_utf8"),
    "zip64": (
        packed(("a.jpg", drawn())).replace(b"PK\x05\x06", b"PK\x06\x07" + b"\0" * 16 + b"PK\x05\x06"),
        "many_entries",
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_zips(sets, kind, tmp_path):
    data, code = HOSTILE[kind]
    with pytest.raises(Refusal) as refused:
        read(sets, data)
    problem = refused.value.problem
    assert problem.code.startswith((f"sets.{code}", f"upload.{code}")) and problem.remedy, problem
    left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "in.zip"]
    assert left == [] and sets.sets() == []


def test_more_pictures_than_a_set_takes(sets, monkeypatch):
    monkeypatch.setattr(set_archive, "MOST_PICTURES", 2)
    with pytest.raises(Refusal) as refused:
        read(sets, packed(*((f"{number}.jpg", drawn()) for number in range(3))))
    assert refused.value.status == 413
    monkeypatch.setattr(set_archive, "MOST_BYTES", 1000)
    with pytest.raises(Refusal, match="unpacks to more than"):
        read(sets, packed(("a.jpg", drawn())))


def test_a_full_disk(sets, monkeypatch):
    monkeypatch.setattr("dreambooth_ext.core.system.files.free_bytes", lambda path: 1000)
    with pytest.raises(Refusal) as refused:
        read(sets, packed(("a.jpg", drawn())))
    assert refused.value.status == 507 and sets.sets() == []


@pytest.mark.parametrize("title", [7, "x" * 101, "a\0b", None])
def test_titles_in_zips_are_hostile_too(sets, title):
    made = read(sets, packed(("set.json", json.dumps({"title": title})), ("a.jpg", drawn())))
    assert made["title"] == "" and made["set"] == "pictures"
    assert read(sets, packed(("set.json", b"{" * 100_000), ("a.jpg", drawn())))["title"] == ""


def test_titles(sets):
    sets.put("s", "a.jpg", drawn())
    folder = sets.path("s")
    assert set_about.title(folder) == "" and set_about.write_title(folder, "  Мой \n кот ") == "Мой кот"
    assert sets.sets()[0]["title"] == "Мой кот" and sets.find("Мой кот") == sets.find("s") == folder
    assert set_about.title(sets.path(copy_set(sets, "s")["set"])) == "Мой кот (2)"
    assert set_about.write_title(folder, " ") == "" and set_about.title(folder) == ""
    (folder / set_about.FILE).write_text("{")
    assert set_about.title(folder) == ""
    for bad in ("x" * 101, "a\x00b", "a\u202eb"):
        with pytest.raises(Refusal):
            set_about.write_title(folder, bad)
    with pytest.raises(Refusal, match="no set"):
        sets.find("nobody")
