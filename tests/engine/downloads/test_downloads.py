"""Downloads by link: a real server of this machine that misbehaves in every way, and what becomes of it here."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.parse
import urllib.request
from pathlib import Path

import pytest

from dreambooth_ext.core.config import links
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine import worker
from dreambooth_ext.engine.downloads import connections, http_file
from dreambooth_ext.engine.downloads.progress_thread import Fetch
from dreambooth_ext.engine.models import base_download
from dreambooth_ext.engine.models.base_model import open_base
from tests import tiny, training
from tests.engine.downloads.servers import (
    Answers,
    chunked,
    endless,
    page,
    redirect,
    served,
    silent,
    slow,
    status,
    unsized,
    whole,
)
from tests.training import Trainer
from tests.waiting import until

SECRET = "type=Model&token=SECRET"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setattr(base_download, "MODELS", tmp_path / "models")
    monkeypatch.setattr(http_file, "PAUSE", 0.01)
    return tmp_path / "models"


def refusal(link: str, fetch: Fetch | None = None) -> str:
    """The message, of which every one names setting and host, says what to do, and keeps the secrets."""
    with pytest.raises(UserError) as caught:
        base_download.download(links.hidden(link), "base_model", fetch)
    problem = caught.value.problem
    assert problem.field == "base_model" and problem.remedy
    assert "SECRET" not in str(problem) and "pw" not in str(problem)
    return str(problem)


def kept(folder: Path) -> list[str]:
    return [path.name for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "lock"]


def test_a_model_is_downloaded_once(server, model, folder):
    server.answers["/a/x.safetensors"] = whole(model)
    link = server.link(f"/a/x.safetensors?{SECRET}#frag")
    base = open_base(links.hidden(link))
    assert base.family.name == "sd1" and base.path.name == "x.safetensors" and base.path.is_relative_to(folder)
    assert server.asked[0][0] == f"/a/x.safetensors?{SECRET}"  # the server is told all of it
    asked = len(server.asked)
    assert open_base(links.hidden(link)).path == base.path and len(server.asked) == asked + 1  # whether it is the same
    assert kept(folder) == ["x.safetensors"] and "SECRET" not in str(base.path)


def test_no_two_links_share_a_file(server, model, folder):
    """Of one name and one size, as half-precision checkpoints are; nor two versions of one link."""
    other = model[:-1] + bytes([model[-1] ^ 1])
    server.answers |= {"/a/x.safetensors": whole(model), "/b/x.safetensors": whole(other)}
    first, second = (base_download.download(server.link(f"/{name}/x.safetensors"), "base_model") for name in "ab")
    assert first.read_bytes() == model and second.read_bytes() == other
    server.answers["/a/x.safetensors"] = whole(other, '"2"')
    third = base_download.download(server.link("/a/x.safetensors"), "base_model")
    assert third.read_bytes() == other and first.read_bytes() == model
    server.answers["/q"] = lambda http: whole(other if "id=2" in http.path else model, f'"{http.path}"')(http)
    found = [base_download.download(links.hidden(server.link(f"/q?id={n}")), "base_model").read_bytes() for n in (1, 2)]
    assert found == [model, other]


def test_a_server_that_tells_nothing_of_versions(server, model, folder):
    """Then each download is compared by what it holds; an older file stays for who trains from it."""
    server.answers["/x.safetensors"] = whole(model, etag="")
    first = base_download.download(server.link(), "base_model")
    assert base_download.download(server.link(), "base_model") == first
    other = model[:-1] + bytes([model[-1] ^ 1])
    server.answers["/x.safetensors"] = whole(other, etag="")
    assert base_download.download(server.link(), "base_model").read_bytes() == other and first.read_bytes() == model


@pytest.mark.parametrize("make", [unsized, chunked])
def test_a_model_without_its_size(server, model, make):
    server.answers["/x.safetensors"] = make(model)
    assert base_download.download(server.link(), "base_model").read_bytes() == model


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_a_name_without_an_ending_gets_that_of_its_content(server, tmp_path, suffix):
    content = tiny.single_file(tmp_path, container=suffix, sidecar=False).read_bytes()
    server.answers["/api/download/123"] = whole(content)
    path = base_download.download(server.link("/api/download/123"), "base_model")
    assert path.name == f"123{suffix}"


def test_the_servers_name(server, model, folder):
    said = 'attachment; filename="../../con:My model.safetensors"'
    server.answers["/1"] = whole(model, Content_Disposition=said)
    path = base_download.download(server.link("/1"), "base_model")
    assert path.is_relative_to(folder) and path.name.endswith("My model.safetensors")
    for told, name in (
        (".safetensors", "safetensors"),
        ("", "model"),
        ("con.ckpt", "model.ckpt"),
        ("\x1b[2J\n.pt", "_[2J_.pt"),
    ):
        assert http_file.name_of("http://h/", f'attachment; filename="{told}"') == name
    assert len(http_file.name_of("http://h/", f'attachment; filename="{"x" * 500}.safetensors"')) < 200


def test_a_broken_connection_is_gone_on_with(server, model, folder):
    server.answers["/x.safetensors"] = whole(model, breaks=3)
    assert base_download.download(server.link(), "base_model").read_bytes() == model
    parts = [headers["Range"] for _, headers in server.asked if "Range" in headers]
    assert len(server.asked) == 5  # a look, and four downloads, of which three were cut
    starts = [int(part[len("bytes=") : -1]) for part in parts]
    assert starts == sorted(starts) and starts[-1] > len(model) // 2
    assert kept(folder) == ["x.safetensors"]


def test_one_that_keeps_breaking_is_gone_on_with_later(server, model, folder, monkeypatch):
    monkeypatch.setattr(http_file, "TRIES", 0)
    server.answers["/x.safetensors"] = whole(model, breaks=1)
    told = refusal(server.link())
    assert "broke off at" in told and "continues where it stopped" in told
    assert all(path.suffix == base_download.PART for path in folder.glob("*/*") if path.is_dir())
    assert base_download.download(server.link(), "base_model").read_bytes() == model
    assert any("Range" in headers for _, headers in server.asked)


def test_a_file_that_changes_meanwhile_is_not_mixed(server, model, monkeypatch):
    """The rest of another version is refused, whether the server minds If-Range or not."""
    server.answers["/x.safetensors"] = whole(model, breaks=1)
    changed = whole(model[:-1] + b"\x01", '"2"')
    first = server.answers["/x.safetensors"]
    server.answers["/x.safetensors"] = lambda http: (changed if len(server.asked) > 2 else first)(http)
    assert "changed during the download" in refusal(server.link())
    assert base_download.download(server.link(), "base_model").read_bytes() == model[:-1] + b"\x01"


def test_parts_that_were_not_asked_for(server, model):
    def wrong(http: Answers) -> None:
        if "Range" in http.headers:
            http.start(206, ETag='"1"', Content_Range=f"bytes 0-9/{len(model)}", Content_Length=10)
        else:
            first(http)

    first = whole(model, breaks=1)
    server.answers["/x.safetensors"] = wrong
    assert "a different part" in refusal(server.link())


@pytest.mark.parametrize("suffix", [".safetensors", ".ckpt"])
def test_what_was_cut_short_without_a_size_is_refused(server, tmp_path, folder, suffix):
    content = tiny.single_file(tmp_path, container=suffix, sidecar=False).read_bytes()
    server.answers["/x"] = unsized(content[:-5000], ETag='"1"')
    assert "cut short" in refusal(server.link("/x")) and kept(folder) == []
    server.answers["/x"] = unsized(content, ETag='"1"')
    assert base_download.download(server.link("/x"), "base_model").read_bytes() == content


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (page(), "web page"),
        (page("application/octet-stream"), "web page"),
        (whole(b'{"error": "log in"}', Content_Type="application/json"), "text file"),
        (whole(b""), "empty"),
        (whole(b"\x00" * 1000), "neither"),
        (status(401, "SECRET"), "without a login or a token (401)"),
        (status(403), "without a login or a token (403)"),
        (status(404, "no SECRET here"), "404 Not Found"),
        (status(429), "429"),
        (status(503), "Try again later"),
        (lambda http: http.wfile.write(b"SECRET nonsense\r\n\r\n"), "BadStatusLine"),
        (lambda http: http.connection.close(), "cannot be reached"),
        (lambda http: http.start(Content_Length=-5), "empty"),
        (lambda http: http.start(Content_Length="abc"), "empty"),
        (redirect("file:///etc/passwd"), "file://, which is not followed"),
        (redirect("ftp://h/x?token=SECRET"), "ftp://, which is not followed"),
        (redirect("http://user:pw@h:x/?token=SECRET"), "cannot be reached"),
        (redirect("/x?token=SECRET"), "302"),
    ],
)
def test_what_is_no_model_is_told(server, folder, answer, words):
    server.answers |= {"/x": answer, "/x.safetensors": answer}
    told = refusal(server.link(f"/x?{SECRET}"))
    assert (words in told and server.host in told) or ("127.0.0.1" not in told and words in told)
    assert kept(folder) == []


def test_a_web_page_and_a_refusal_say_that_a_token_is_needed(server):
    server.answers |= {"/page": page(), "/401": status(401)}
    for path in ("/page", "/401"):
        told = refusal(server.link(path))
        assert "token" in told and server.host in told and "use the whole link" in told and "resume" not in told


def test_a_chunked_transfer_that_is_cut(server, model):
    server.answers["/x.safetensors"] = chunked(model, cut=True)
    assert "broke off" in refusal(server.link()) and "IncompleteRead" in refusal(server.link())


@pytest.mark.parametrize(
    "link",
    [
        "http://user:pw@127.0.0.1:x/SECRET?a",
        "http://[::1/x",
        "http://127.0.0.1:1/my model.safetensors?token=SECRET",
        "http://127.0.0.1:1/a\r\nHost: evil/x?token=SECRET",
        "http://nowhere.invalid/x.safetensors?token=SECRET",
        "http:///x?token=SECRET",
        "http://user:p/w@h/x",
    ],
)
def test_links_that_lead_nowhere(link):
    assert "cannot be reached" in refusal(link.replace("/SECRET", "/x"))


def test_a_link_with_a_space(server, model):
    server.answers["/my model.safetensors"] = whole(model)
    assert base_download.download(server.link("/my model.safetensors"), "base_model").name == "my model.safetensors"


def test_user_and_password_go_to_their_host_alone(server, model):
    with served() as other:
        link = f"http://us%3Aer:p%40w@{server.host}/x.safetensors?{SECRET}"
        server.answers["/x.safetensors"] = redirect("/here.safetensors")
        server.answers["/here.safetensors"] = redirect(other.link())
        other.answers["/x.safetensors"] = whole(model)
        base_download.download(links.hidden(link), "base_model")
        sent = [headers.get("Authorization") for _, headers in server.asked]
        assert sent and all(value == "Basic dXM6ZXI6cEB3" for value in sent)  # us:er:p@w
        assert other.asked and "SECRET" not in json.dumps(other.asked) and "Basic" not in json.dumps(other.asked)


def test_no_redirect_leads_from_https_to_http():
    """Where anybody on the way could read the token, and put another model in."""
    request = urllib.request.Request("https://h/x")
    with pytest.raises(connections.Elsewhere, match="http"):
        connections.Redirects().http_error_302(request, None, 302, "", {"location": "http://h/x"})


def test_the_newest_redirect_of_all_is_followed(server, model):
    server.answers |= {"/x.safetensors": redirect("/y.safetensors", 308), "/y.safetensors": whole(model)}
    assert base_download.download(server.link(), "base_model").read_bytes() == model


@pytest.mark.parametrize("answer", [slow, silent])
def test_a_stop_is_heard_meanwhile(server, answer):
    """As the loop tells it: by an exception that comes out of the progress."""
    server.answers["/x.safetensors"] = answer

    class Enough(Exception):
        pass

    def stage(label: str, done: int, of: int) -> None:
        if len(server.asked) > (1 if answer is slow else 0):
            raise Enough

    began = time.monotonic()
    with pytest.raises(Enough):
        base_download.download(server.link(), "base_model", Fetch(stage))
    assert time.monotonic() - began < 10


def test_the_worker_stops_and_remembers(tmp_path, server, model, folder):
    """A run told to stop while its base comes has stopped; what it began with is noted in its state."""
    trainer = Trainer(tmp_path)
    run = trainer.create(base_model=server.link("/x.safetensors?token=SECRET"), max_train_steps=1)
    server.answers["/x.safetensors"], stage = slow, "downloading the model, in MB"

    def stop() -> None:
        until(lambda: any(event.get("stage") == stage for event in training.events(run, "status")))
        run.command("stop")

    user = threading.Thread(target=stop)
    user.start()
    assert training.go_on(run) == worker.STOPPED and run.state()["status"] == "stopped"
    user.join()
    server.answers["/x.safetensors"] = whole(model)
    assert training.go_on(run) == worker.DONE, training.log(run)
    (file,) = run.state()["downloads"].values()
    assert (folder / file).read_bytes() == model
    server.answers["/x.safetensors"] = status(401)
    assert training.go_on(run, 2) == worker.DONE, training.log(run)  # without asking


@pytest.mark.parametrize("answer", [slow, silent])
def test_a_server_that_sends_next_to_nothing(server, monkeypatch, answer):
    monkeypatch.setattr(http_file, "STALL", 1.0)
    server.answers["/x.safetensors"] = answer
    assert "almost nothing" in refusal(server.link())


def test_a_file_without_end(server, folder, monkeypatch):
    monkeypatch.setattr(http_file, "MOST", 40 * 2**20)
    server.answers["/x.safetensors"] = endless
    assert "larger than any model" in refusal(server.link())


def test_a_disk_that_fills(server, model, monkeypatch):
    server.answers |= {"/x.safetensors": endless, "/sized": whole(model)}
    monkeypatch.setattr(http_file, "free_bytes", lambda path: http_file.RESERVE - 1)
    assert "the disk is full" in refusal(server.link()) and "the disk is full" in refusal(server.link("/sized"))


def test_a_disk_that_refuses(server, model, folder, monkeypatch):
    server.answers["/x.safetensors"] = whole(model)
    plain = Path.open

    def full(self, mode="r", *arguments, **options):
        if "w" in mode and "models" in self.parts and self.name != "lock":
            raise OSError(28, "No space left on device", str(self))
        return plain(self, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", full)
    assert "cannot be saved (No space left on device)" in refusal(server.link())


def test_progress_is_told(server, model):
    server.answers["/x.safetensors"] = whole(model)
    told = []
    base_download.download(server.link(), "base_model", Fetch(lambda *stage: told.append(stage)))
    assert told and all(stage[0] == "downloading the model, in MB" for stage in told)
    assert told[-1][1:] == (len(model) // 2**20,) * 2


def test_two_at_once_download_it_once(server, model, folder):
    def late(http: Answers) -> None:
        time.sleep(0.5)
        whole(model)(http)

    server.answers["/x.safetensors"] = late
    found: list[Path] = []
    both = [
        threading.Thread(target=lambda: found.append(base_download.download(server.link(), "base_model")))
        for _ in range(2)
    ]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(60)
    assert len(found) == 2 and found[0] == found[1] and found[0].read_bytes() == model


def test_a_run_that_goes_on_keeps_the_file_that_it_began_with(server, model, folder):
    server.answers["/x.safetensors"] = whole(model)
    told: list[dict[str, str]] = []
    first = base_download.download(server.link("/x.safetensors?a"), "base_model", Fetch(note=told.append))
    assert told == [{server.link(): first.relative_to(folder).as_posix()}]
    server.answers["/x.safetensors"] = status(401)
    assert base_download.download(server.link(), "base_model", Fetch(known=told[0])) == first
    assert f"An earlier download from this link: {first}" in refusal(server.link())
    first.unlink()
    assert "token" in refusal(server.link(), Fetch(known=told[0]))


def test_a_kill_leaves_a_part_that_the_next_goes_on_with(server, model, folder):
    """The part of a process that is gone, as its temporary name says."""
    server.answers["/x.safetensors"] = whole(model)
    path = base_download.download(server.link(), "base_model")
    part = path.parent.with_name(path.parent.name + base_download.PART)
    path.parent.rename(part)
    (part / path.name).write_bytes(model[:1000])
    (part.with_name("0123456789abcdef" + base_download.PART)).mkdir()  # of a version that is no more
    assert base_download.download(server.link(), "base_model").read_bytes() == model
    assert server.asked[-1][1]["Range"] == "bytes=1000-" and kept(folder) == ["x.safetensors"]
    assert not list(folder.glob(f"*/*{base_download.PART}"))


def test_a_port_that_nobody_listens_at():
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        assert "refused" in refusal(f"http://127.0.0.1:{closed.getsockname()[1]}/x?{SECRET}")
