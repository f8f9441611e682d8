"""Shards over http and fsspec: what breaks is asked for again where it was, what cannot be had is named."""

from __future__ import annotations

import os
from pathlib import Path

import fsspec
import pytest

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.downloads import connections
from dreambooth_ext.engine.shards import http_reader, opening, readers
from dreambooth_ext.engine.shards.samples import Samples
from dreambooth_ext.engine.shards.sequence import Sequence
from dreambooth_ext.engine.shards.windows import Builder, Place
from tests import shards
from tests.engine.downloads.servers import Answers, page, served, silent, status, unsized, whole
from tests.engine.shards.test_windows import SETTINGS, batches

FILES = [one for number in range(6) for one in shards.sample(number)]
TAR = shards.tar(FILES)
NAMES = [f"thing {number}" for number in range(6)]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(http_reader, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(readers, "PAUSES", (0.01, 0.01))
    monkeypatch.setattr(connections, "TIME_OUT", 0.5)


@pytest.fixture
def server():
    with served() as made:
        yield made


def builder(where: str, folder: Path, **settings) -> Builder:
    config = RunConfig(**{**SETTINGS, "train_shards_path_or_url": where, "shuffle_buffer": 4, **settings})
    samples = Samples(config, Subjects.of(config).concepts[0])
    return Builder(config, samples, readers.listed(where), folder, lambda problem: None)


def all_of(made: Builder) -> list[str]:
    """The captions of an epoch, and each picture's bytes looked at."""
    place, found = Place(), []
    while not place.epoch:
        window = made.build(place, lambda seconds: None)
        for record in window.records:
            content = readers.content_of(window.content, record.at, record.size, None)
            assert content == dict(FILES)[f"{record.key}.{record.ending}"]
            found.append(record.captions[0])
        window.close()
        place = window.next
    return found


def broken(times: int):
    """Ends the connection after some thousand bytes, so many times."""
    left = [times]

    def answer(http: Answers) -> None:
        start = int(http.headers.get("Range", "bytes=0-")[6:-1])
        end = len(TAR) if not left[0] else min(len(TAR), start + 3000)
        left[0] -= bool(left[0])
        ranged = {"Content_Range": f"bytes {start}-{len(TAR) - 1}/{len(TAR)}"} if start else {}
        http.start(206 if start else 200, ETag='"1"', Content_Length=len(TAR) - start, **ranged)
        http.wfile.write(TAR[start:end])

    return answer


def in_turn(*answers):
    left = list(answers)

    def answer(http: Answers) -> None:
        (left.pop(0) if len(left) > 1 else left[0])(http)

    return answer


@pytest.mark.parametrize(
    "answer",
    [
        whole(TAR),
        whole(TAR, etag=""),
        whole(TAR, etag='W/"weak"'),
        unsized(TAR),
        broken(5),
        in_turn(status(503), whole(TAR)),
        in_turn(status(429), status(500), whole(TAR)),
        in_turn(silent, whole(TAR)),
        in_turn(lambda http: http.start(503, Retry_After=1, Content_Length=0), whole(TAR)),
    ],
    ids=["whole", "no validator", "no parts", "no size", "breaks", "503", "429 and 500", "silent", "says when"],
)
def test_whatever_the_server_does_every_sample_comes_once(tmp_path, server, answer):
    server.answers["/x.tar"] = answer
    assert all_of(builder(server.link("/x.tar"), tmp_path)) == NAMES


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (status(404), "shards.missing"),
        (status(403), "download.login"),
        (status(503), "download.busy"),
        (silent, "shards.unreachable"),
        (page(), "shards.cut"),
        (whole(TAR[:9000]), "shards.cut"),
        (whole(b"x" * 5000), "shards.not_tar"),
        (in_turn(broken(1), whole(TAR, etag='"2"')), "shards.changed"),
        (in_turn(broken(1), whole(TAR + TAR)), "shards.changed"),
    ],
    ids=["404", "403", "503", "silent", "page", "cut", "no tar", "another", "longer"],
)
def test_what_cannot_be_read_is_named(tmp_path, server, answer, code):
    server.answers["/x.tar"] = answer
    with pytest.raises(UserError) as told:
        all_of(builder(server.link("/x.tar?token=secret"), tmp_path))
    assert told.value.problem.code == code and "secret" not in str(told.value)
    assert server.host in str(told.value) or code.startswith("download")


def test_remote_shards_come_in_the_same_order_as_local_ones(tmp_path, server):
    folder = Path(shards.write(tmp_path / "local", (3, 4, 2)))
    for path in folder.iterdir():
        server.answers[f"/{path.name}"] = whole(path.read_bytes())
    local = batches(builder(f"{folder}/train-{{0000..0002}}.tar", tmp_path), Place(), 12)
    assert batches(builder(server.link("/train-{0000..0002}.tar"), tmp_path / "kept"), Place(), 12) == local
    assert [path.name for path in (tmp_path / "kept").iterdir()] == ["window.lock"], "nothing is left"


def test_it_goes_on_in_the_middle_of_a_shard_without_reading_what_came_before(tmp_path, server):
    server.answers["/x.tar"] = whole(TAR)
    made = builder(server.link("/x.tar"), tmp_path)
    window = made.build(Place(), lambda seconds: None)
    assert window.next.at > 0 and window.next.identity == '"1"'
    server.asked.clear()
    rest = builder(server.link("/x.tar"), tmp_path / "other").build(window.next, lambda seconds: None)
    assert [record.captions[0] for record in rest.records] == NAMES[4:]
    assert [asked["Range"] for _, asked in server.asked] == [f"bytes={window.next.at}-"]
    server.answers["/x.tar"] = whole(TAR, etag='"2"')
    with pytest.raises(UserError) as told:
        builder(server.link("/x.tar"), tmp_path / "third").build(window.next, lambda seconds: None)
    assert told.value.problem.code == "shards.changed"


def test_one_process_reads_for_all_of_the_machine(tmp_path, server):
    server.answers["/x.tar"] = whole(TAR)
    sequences = [Sequence(builder(server.link("/x.tar"), tmp_path), slack=100) for _ in range(3)]
    found = [sequence.of(0).records for sequence in sequences]
    assert found[0] == found[1] == found[2]
    for sequence in sequences:
        sequence.of(2)
    assert sum("Range" not in asked for _, asked in server.asked) <= 2, (
        "the first window and a later epoch's, once each"
    )
    for sequence in sequences:
        sequence.close()


def test_nobody_waits_for_a_window_after_its_end(tmp_path, server):
    server.answers["/x.tar"] = silent
    sequence = Sequence(builder(server.link("/x.tar"), tmp_path), slack=1)

    class Enough(Exception):
        pass

    def look(done: int, of: int) -> None:
        raise Enough

    with pytest.raises(Enough):
        sequence.of(0, look)
    sequence.close()
    assert sequence.builder.is_over


# --- fsspec


def test_what_fsspec_reads(tmp_path):
    memory = fsspec.filesystem("memory")
    for number, name in enumerate(("s10", "s9")):
        memory.pipe(f"/set/{name}.tar", shards.tar(shards.sample(number)))
    memory.pipe("/set/readme.txt", b"x")
    for pattern in ("memory://set/*.tar", "memory://set", "memory://set/s{9,10}.tar"):
        found = readers.listed(pattern)
        assert [shard.title for shard in found] == ["s9.tar", "s10.tar"], pattern
    made = builder("memory://set/*.tar", tmp_path)
    window = made.build(Place(), lambda seconds: None)
    assert sorted(record.captions[0] for record in window.records) == NAMES[:2]
    with pytest.raises(UserError, match="no file matches"):
        readers.listed("memory://set/*.tarx")
    memory.rm("/set", recursive=True)
    window.close()
    with pytest.raises(UserError) as told:
        made.build(Place(), lambda seconds: None)
    assert told.value.problem.code == "shards.missing"


def test_a_shard_that_another_one_has_replaced_meanwhile_is_named(tmp_path):
    memory = fsspec.filesystem("memory")
    memory.pipe("/same.tar", TAR)
    window = builder("memory://same.tar", tmp_path).build(Place(), lambda seconds: None)
    assert window.next.at and window.next.identity
    rest = builder("memory://same.tar", tmp_path / "other").build(window.next, lambda seconds: None)
    assert [record.captions[0] for record in rest.records] == NAMES[4:]
    memory.pipe("/same.tar", TAR + b"x")
    with pytest.raises(UserError) as told:
        builder("memory://same.tar", tmp_path / "third").build(window.next, lambda seconds: None)
    assert told.value.problem.code == "shards.changed"
    memory.rm("/same.tar")


def test_a_file_system_that_fails_is_asked_again(tmp_path, monkeypatch):
    memory = fsspec.filesystem("memory")
    memory.pipe("/flaky.tar", TAR)
    left, opened = [2], type(memory).open

    def open_sometimes(self, *given, **options):
        if left[0]:
            left[0] -= 1
            raise RuntimeError("s3 said: slow down, https://key@host/x?token=secret")
        return opened(self, *given, **options)

    monkeypatch.setattr(type(memory), "open", open_sometimes)
    assert all_of(builder("memory://flaky.tar", tmp_path)) == NAMES
    left[0] = 3
    with pytest.raises(UserError) as told:
        all_of(builder("memory://flaky.tar", tmp_path))
    assert told.value.problem.code == "shards.unreachable" and "secret" not in str(told.value)
    memory.rm("/flaky.tar")


def test_packages_that_are_not_there_are_named():
    for text, code, word in (
        ("s3://bucket/x.tar", "shards.needs_package", "s3fs"),
        ("gs://bucket/x.tar", "shards.needs_package", "gcsfs"),
        ("nothing://x.tar", "shards.other_scheme", "nothing://"),
    ):
        with pytest.raises(UserError, match=word) as told:
            readers.listed(text)
        assert told.value.problem.code == code


# --- before a run


def test_the_first_samples_are_looked_at_before_anything_is_trained(tmp_path, server):
    server.answers["/x.tar"] = whole(shards.tar([(f"{n}.png", shards.picture(n)) for n in range(3)]))
    config = RunConfig(**{**SETTINGS, "train_shards_path_or_url": server.link("/x.tar")})
    found = opening.listed(config)
    with pytest.raises(UserError) as told:
        opening.look(config, Subjects.of(config), found)
    assert told.value.problem.code == "shards.nothing_usable" and "no caption" in str(told.value)
    server.answers["/x.tar"] = whole(TAR)
    opening.look(config, Subjects.of(config), found)


def test_a_run_keeps_to_the_shards_that_it_began_with(tmp_path):
    where = shards.write(tmp_path / "shards", (1, 1))
    run, warned = tmp_path / "run", []
    run.mkdir()
    rows = opening.noted(run, readers.listed(where), warned.append)
    shards.write(tmp_path / "more", (1,))
    (tmp_path / "more" / "train-0000.tar").rename(tmp_path / "shards" / "again.tar")
    assert opening.noted(run, readers.listed(where), warned.append) == rows
    found = opening.of_run(rows, readers.listed(where), by_time=True)
    assert [shard.title for shard in found] == ["train-0000.tar", "train-0001.tar"]
    assert [problem.code for problem in warned] == ["shards.added"]
    path = tmp_path / "shards" / "train-0001.tar"
    os.utime(path, (1, 1))
    assert opening.of_run(rows, readers.listed(where), by_time=False)[1].time != rows[1][2], "another machine's copy"
    with pytest.raises(UserError, match=r"train-0001\.tar is not what it was"):
        opening.of_run(rows, readers.listed(where), by_time=True)
    path.write_bytes(TAR)
    with pytest.raises(UserError, match=r"train-0001\.tar is not what it was"):
        opening.of_run(rows, readers.listed(where), by_time=False)
    path.unlink()
    with pytest.raises(UserError, match="shards of this run are gone"):
        opening.of_run(rows, readers.listed(where), by_time=True)
