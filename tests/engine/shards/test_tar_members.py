"""Tar files as `tarfile` reads them, cut, damaged and hostile ones."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import random
import tarfile

import pytest

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.shards.samples import split
from dreambooth_ext.engine.shards.tar_members import BLOCK, exactly, members, records
from tests import shards


class Bytes:
    name, identity = "x.tar", ""

    def __init__(self, content: bytes, at: int = 0):
        self.content, self.at = content, at

    def read(self, count: int) -> bytes:
        assert count <= 2**20, "no header makes us read more"
        found = self.content[self.at : self.at + count]
        self.at += len(found)
        return found

    def skip(self, count: int) -> None:
        if self.at + count > len(self.content):
            raise UserError("shards.cut", shard=self.name, at=len(self.content))
        self.at += count

    def close(self) -> None:
        pass


FILES = [
    ("a.png", b"x" * 1000),
    ("folder/" + "long" * 60 + ".png", b"y" * 512),
    ("ключ-мир/" + "ж" * 90 + ".txt", "подпись".encode()),
    ("empty.json", b""),
    ("last.jpg", b"z" * 513),
]


@pytest.mark.parametrize("format", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_the_same_files_as_tarfile_finds_and_from_each_header_on(format):
    files = FILES if format != tarfile.USTAR_FORMAT else [one for one in FILES if len(one[0]) < 90]
    content = shards.tar(files, format)
    with tarfile.open(fileobj=io.BytesIO(content)) as reference:
        expected = [(info.name, info.offset_data, info.size) for info in reference]
    found = list(members(Bytes(content)))
    assert [(one.name, one.at, one.size) for one in found] == expected
    for index, one in enumerate(found):
        reader = Bytes(content, one.header)
        first = next(members(reader))
        assert first == one and exactly(reader, one.size) == files[index][1]


def test_what_is_no_file_is_passed_over():
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
            info = tarfile.TarInfo("../../etc/passwd")
            info.type, info.linkname = kind, "/etc/shadow"
            archive.addfile(info)
        info = tarfile.TarInfo("a.png")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
    assert [one.name for one in members(Bytes(made.getvalue()))] == ["a.png"]


def test_every_cut_is_noticed():
    content = shards.tar(FILES)
    end = max(one.at + one.size for one in members(Bytes(content)))
    for length in range(0, -(-end // BLOCK) * BLOCK + 1, 97):
        with pytest.raises(UserError) as told:
            list(members(Bytes(content[:length])))
        assert told.value.problem.code == "shards.cut", length


def test_other_files_are_no_tar():
    for content in (b"\x89PNG" * 500, b"PK\3\4" * 500, b"<html>" * 500):
        with pytest.raises(UserError) as told:
            list(members(Bytes(content)))
        assert told.value.problem.code == "shards.not_tar"


@pytest.mark.parametrize("package", [gzip, bz2, lzma])
def test_a_compressed_tar_is_told_so_whatever_its_name(package):
    content = package.compress(shards.tar([("a.png", random.Random(0).randbytes(2000))]))
    with pytest.raises(UserError) as told:
        list(members(Bytes(content)))
    assert told.value.problem.code == "shards.packed"


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
def test_a_header_that_claims_gigabytes_is_not_read(kind):
    info = tarfile.TarInfo("x")
    info.type, info.size = kind, 2**32
    with pytest.raises(UserError) as told:
        list(members(Bytes(info.tobuf() + b"\0" * 4096)))
    assert told.value.problem.code == "shards.not_tar"


def test_a_file_that_claims_terabytes_is_a_cut_shard():
    info = tarfile.TarInfo("x.png")
    info.size = 2**42
    with pytest.raises(UserError) as told:
        list(members(Bytes(info.tobuf() + b"\0" * 4096)))
    assert told.value.problem.code == "shards.cut"


def test_extended_headers_that_make_no_sense_end():
    assert records(b"12 path=abc\n") == {"path": "abc"}
    for content in (b"0 a=b\n", b"99 a=b\n", b"x", b"5", b"-3 a=b\n", b"999999999999999999999 a=b\n"):
        assert records(content) == {}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", ("a", "png")),
        ("a/b.c/d.e.PNG", ("a/b.c/d", "e.png")),
        ("./a.jpg", ("./a", "jpg")),
        (".hidden.png", ("", "")),
        ("a/.hidden", ("", "")),
        ("__index__.json", ("", "")),
        ("nothing", ("", "")),
    ],
)
def test_samples_are_named_as_webdataset_names_them(name, expected):
    assert split(name) == expected
