"""Downloads through the API, with a verb that only pretends; and the real one with a server on this machine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from dreambooth_ext.core.messages.message import Message
from dreambooth_ext.host.downloads import downloads
from dreambooth_ext.host.downloads.verb import Verb
from tests import tiny
from tests.engine.downloads.servers import Answers, served, whole
from tests.engine.downloads.servers import slow as slow_bytes
from tests.host.asking import Asked, Place
from tests.host.downloads.pretended_verb import Pretended
from tests.waiting import until

LINK = "https://civitai.com/models/10?modelVersionId=20"
SECRET = "https://host.example/a.safetensors?token=SECRET"


@pytest.fixture
def asked(tmp_path) -> Asked:
    return Asked(tmp_path)


@pytest.fixture
def verb(asked) -> Pretended:
    return Pretended(asked)


def state(asked: Asked, id: str) -> dict[str, Any]:
    return asked.get(f"downloads/{id}").json()


def comes_to(asked: Asked, id: str, *states: str) -> dict[str, Any]:
    return until(lambda: (one := state(asked, id))["state"] in states and one)


def found(asked: Asked, link: str = LINK, **more: Any) -> str:
    answer = asked.post("downloads", {"link": link, **more})
    assert answer.status == 202, answer.json()
    id = answer.json()["id"]
    assert comes_to(asked, id, "found", "failed")["state"] == "found"
    return id


def act(asked: Asked, id: str, action: str, **more: Any) -> Any:
    return asked.post(f"downloads/{id}", {"action": action, **more})


def models(asked: Asked) -> list[str]:
    folders = {path for path in asked.host.folders().values() if path.exists()}
    return sorted(path.name for folder in folders for path in folder.rglob("*") if path.is_file())


def again(asked: Asked, tmp_path: Path) -> Asked:
    """The same after a restart."""
    asked.service.downloads.close()
    made = Asked(tmp_path)
    Pretended(made)
    return made


def test_facts_first_then_the_file(asked, verb):
    id = found(asked)
    one = state(asked, id)
    assert one["facts"]["name"] == "10" and one["facts"]["licence"] == "openrail" and "place" not in one["facts"]
    assert models(asked) == [] and "--look" in verb.calls[0]["words"] and verb.calls[0]["link"] == LINK
    assert act(asked, id, "fetch").status == 202
    done = comes_to(asked, id, "done", "failed")
    assert done["state"] == "done" and Path(done["result"]["path"]).is_file() and done["done"] == done["of"] == 4000
    assert f"--expect={one['facts']['version']}" in verb.calls[1]["words"] and "--yes" in verb.calls[1]["words"]
    assert act(asked, id, "fetch").status == 409 and act(asked, id, "pause").status == 409
    assert asked.get("state").json()["downloads"]["busy"] is False


def test_another_of_the_files(asked, verb):
    id = found(asked, file="b.ckpt")
    assert state(asked, id)["facts"]["name"] == "b.ckpt" and "--file=b.ckpt" in verb.calls[0]["words"]
    id = found(asked)
    assert act(asked, id, "look", file="b.ckpt").json()["state"] == "looking"
    assert comes_to(asked, id, "found")["facts"]["name"] == "b.ckpt"


def test_pause_and_resume(asked, verb):
    verb.set("wait")
    id = found(asked)
    act(asked, id, "fetch")
    until(lambda: state(asked, id)["done"] == 2000)
    assert act(asked, id, "pause").json()["state"] == "paused"
    until(lambda: id not in asked.service.downloads._verbs)
    assert len(models(asked)) == 1  # what has come so far
    verb.unset("wait")
    act(asked, id, "resume")
    assert comes_to(asked, id, "done", "failed")["state"] == "done" and models(asked) == ["10"]


def test_cancel_leaves_nothing(asked, verb):
    verb.set("wait")
    id = found(asked)
    act(asked, id, "fetch")
    until(lambda: models(asked))
    assert asked.delete(f"downloads/{id}").status == 200
    until(lambda: not models(asked))
    assert asked.get(f"downloads/{id}").status == 404 and not list(asked.service.downloads.folder.glob("*"))
    folder = asked.host.folders()["checkpoint"]
    assert not folder.exists() or not list(folder.iterdir())


def test_a_paused_one_that_is_removed_leaves_nothing(asked, verb):
    verb.set("wait")
    id = found(asked)
    act(asked, id, "fetch")
    until(lambda: models(asked))
    act(asked, id, "pause")
    until(lambda: id not in asked.service.downloads._verbs)
    asked.delete(f"downloads/{id}")
    assert models(asked) == []


def test_one_after_another(asked, verb):
    verb.set("wait")
    first, second = found(asked), found(asked, "https://host.example/second.safetensors")
    act(asked, first, "fetch")
    act(asked, second, "fetch")
    until(lambda: state(asked, first)["done"] == 2000)
    assert state(asked, second)["state"] == "queued" and asked.get("state").json()["downloads"]["busy"]
    verb.unset("wait")
    comes_to(asked, second, "done")
    assert models(asked) == ["10", "second.safetensors"]
    assert [one["id"] for one in asked.get("downloads").json()["downloads"]] == [second, first]


def test_a_restart_goes_on(asked, verb, tmp_path):
    """With what was being fetched and what waited; not with what the user has paused."""
    verb.set("wait")
    ids = [found(asked, f"https://host.example/{name}.safetensors") for name in ("a", "b", "c")]
    for id in ids:
        act(asked, id, "fetch")
    act(asked, ids[2], "pause")
    until(lambda: state(asked, ids[0])["done"] == 2000)
    later = again(asked, tmp_path)
    verb.unset("wait")
    assert [state(later, id)["state"] for id in ids] == ["paused"] * 3
    later.service.downloads.start()
    assert comes_to(later, ids[0], "done") and comes_to(later, ids[1], "done")
    assert state(later, ids[2])["state"] == "paused"


def test_a_link_with_a_token_is_asked_for_again_after_a_restart(asked, verb, tmp_path):
    verb.set("wait")
    id = found(asked, SECRET)
    act(asked, id, "fetch")
    until(lambda: state(asked, id)["done"] == 2000)
    assert verb.calls[-1]["link"] == SECRET and not any("SECRET" in word for word in verb.calls[-1]["words"])
    later = again(asked, tmp_path)
    verb.unset("wait")
    later.service.downloads.start()
    assert state(later, id)["state"] == "paused" and state(later, id)["needs_link"]
    assert act(later, id, "resume").json()["code"] == "download.link_again"
    assert act(later, id, "resume", link="https://other.example/x").json()["code"] == "download.other_link"
    act(later, id, "resume", link=SECRET)
    assert comes_to(later, id, "done")
    home = tmp_path / "home"
    assert not [path for path in home.rglob("*") if path.is_file() and b"SECRET" in path.read_bytes()]


def test_what_was_only_looked_at_is_forgotten(asked, verb, tmp_path):
    found(asked)
    assert again(asked, tmp_path).get("downloads").json() == {"downloads": []}


def test_what_goes_wrong_is_told(asked, verb):
    verb.set("problem", "look download.civitai_login")
    id = asked.post("downloads", {"link": LINK}).json()["id"]
    one = comes_to(asked, id, "failed")
    assert one["problem"]["code"] == "download.civitai_login" and one["problem"]["remedy"]
    verb.unset("problem")
    act(asked, id, "resume")  # after setting a key, say
    comes_to(asked, id, "found")
    verb.set("problem", "download.other_hash")
    act(asked, id, "fetch")
    assert comes_to(asked, id, "failed")["problem"]["code"] == "download.other_hash"
    verb.set("problem", "crash")
    act(asked, id, "resume")
    assert comes_to(asked, id, "failed")["problem"]["message"]


def test_another_file_has_to_be_agreed_to_again(asked, verb):
    id = found(asked)
    verb.set("problem", "other")
    act(asked, id, "fetch")
    one = until(lambda: (one := state(asked, id))["problem"] and one)
    assert one["state"] == "found" and one["problem"]["code"] == "download.other_version" and models(asked) == []


def test_the_civitai_key_goes_to_the_verb_alone(asked, verb):
    asked.host.options.set("civitai_key", "SECRET-key")
    id = found(asked)
    assert verb.calls[0]["key"] == "SECRET-key" and not any("SECRET" in word for word in verb.calls[0]["words"])
    for path in ("host", "downloads", f"downloads/{id}", "state", "schema"):
        assert b"SECRET" not in asked.get(path).body


def test_on_a_host_that_others_reach(tmp_path):
    """No private addresses; and this machine's logins only where nobody comes in without a login."""
    asked = Asked(tmp_path, restricted=Message("web.server_reachable"))
    verb = Pretended(asked)
    asked.host.options.set("civitai_key", "SECRET-key")
    found(asked)
    assert "--public-only" in verb.calls[0]["words"] and "--no-logins" in verb.calls[0]["words"]
    assert verb.calls[0]["key"] == ""
    Place.login = True
    try:
        asked.service.downloads.look(LINK)
        until(lambda: len(verb.calls) == 2)
    finally:
        Place.login = False
    assert "--public-only" in verb.calls[1]["words"] and "--no-logins" not in verb.calls[1]["words"]
    assert verb.calls[1]["key"] == "SECRET-key"


def test_nobody_elsewhere_may_ask(asked, verb):
    for headers in ({"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}):
        assert asked.post("downloads", {"link": LINK}, headers=headers).status == 403
    assert verb.calls == []


def test_refused_requests(asked, verb):
    assert asked.post("downloads", {}).status == 422 and asked.post("downloads", {"link": " "}).status == 422
    assert asked.post("downloads", {"link": 3}).status == 422
    id = found(asked)
    assert act(asked, id, "explode").status == 422 and act(asked, "nobody", "fetch").status == 404
    assert asked.delete("downloads/nobody").status == 404
    assert act(asked, id, "resume").status == 409


def test_no_more_than_a_few_are_kept(asked, verb, monkeypatch):
    monkeypatch.setattr(downloads, "MOST", 2)
    first, second = found(asked), found(asked)
    third = found(asked)
    assert [one["id"] for one in asked.get("downloads").json()["downloads"]] == [third, second]
    assert asked.get(f"downloads/{first}").status == 404
    for id in (second, third):
        verb.set("wait")
        act(asked, id, "fetch")
    assert asked.post("downloads", {"link": LINK}).json()["code"] == "download.too_many"
    verb.unset("wait")


def test_records_that_are_damaged_or_forged(asked, verb, tmp_path):
    """Nothing outside the model folders is deleted, whatever a record says."""
    id = found(asked)
    outside = tmp_path / ".download-0123456789abcdef"
    outside.mkdir()
    (outside / "precious").write_text("x")
    record = asked.service.downloads._records[id]
    record.facts["place"] = str(outside)
    asked.delete(f"downloads/{id}")
    assert (outside / "precious").exists()
    folder = asked.service.downloads.folder
    folder.mkdir(exist_ok=True)
    for name, text in (("a.json", "{"), ("b.json", "[]"), ("c.json", json.dumps({"link": "x", "id": "../c"}))):
        (folder / name).write_text(text)
    assert again(asked, tmp_path).get("downloads").json() == {"downloads": []}


def test_files_of_a_repository(asked, verb, tmp_path):
    """For other parts of the tab: a tagger with its list of tags."""
    into = tmp_path / "home" / "taggers" / "one"
    told = asked.service.downloads.fetch_files("me/tagger", ["model.onnx", "tags.csv"], into, "A tagger")
    comes_to(asked, told["id"], "done")
    assert sorted(path.name for path in into.iterdir()) == ["model.onnx", "tags.csv"]
    assert f"--into={into}" in verb.calls[0]["words"] and "--any-file" in verb.calls[0]["words"]


def test_the_real_verb(asked, tmp_path, monkeypatch):
    """From a server of this machine into the model folder, as a user of the API does it."""
    content = tiny.single_file(tmp_path / "source", sidecar=False).read_bytes()
    real(asked)
    with served() as server:
        server.answers["/portraits.safetensors"] = whole(content)
        id = found(asked, server.link("/portraits.safetensors?token=SECRET"))
        act(asked, id, "fetch")
        done = comes_to(asked, id, "done", "failed")
        assert done["state"] == "done", done["problem"]
        assert Path(done["result"]["path"]).read_bytes() == content
        assert [base["title"] for base in asked.get("host").json()["bases"]] == ["portraits.safetensors"]
        server.answers["/page.safetensors"] = lambda http: http.start(Content_Type="text/html", Content_Length=0)
        id = asked.post("downloads", {"link": server.link("/page.safetensors")}).json()["id"]
        assert comes_to(asked, id, "failed")["problem"]["code"] == "download.web_page"


def real(asked: Asked) -> None:
    path = str(Path(__file__).parents[3])
    asked.environment.command = lambda argv: [sys.executable, *argv]
    asked.environment.variables = lambda changes=None: {**os.environ, "PYTHONPATH": path, **(changes or {})}


@pytest.mark.parametrize("how", ["pause", "kill"])
def test_the_real_verb_is_stopped_in_the_middle(asked, tmp_path, how):
    """By a pause, or a kill of the verb: it goes on where it was, and a cancelled one leaves nothing."""
    content = tiny.single_file(tmp_path / "source", sidecar=False).read_bytes()
    real(asked)
    with served() as server:
        half = len(content) // 2

        def slow(http: Answers) -> None:
            if "Range" in http.headers or len(server.asked) < 3:  # two look-ups
                return whole(content)(http)
            http.start(Content_Length=len(content), ETag='"1"')
            http.wfile.write(content[:half])
            server.released.wait(60)

        server.answers["/a.safetensors"] = slow
        id = found(asked, server.link("/a.safetensors"))
        act(asked, id, "fetch")
        until(lambda: state(asked, id)["done"] == half)
        if how == "pause":
            act(asked, id, "pause")
        else:
            os.kill(asked.service.downloads._verbs[id].process.pid, 9)
            assert comes_to(asked, id, "failed")["problem"]["code"] == "download.ended"
        until(lambda: id not in asked.service.downloads._verbs)
        assert act(asked, id, "resume").status == 202
        assert comes_to(asked, id, "done", "failed")["state"] == "done"
        assert server.asked[-1][1]["Range"] == f"bytes={half}-" and models(asked) == ["a.safetensors"]


def test_the_verb_ends_with_its_host(asked, tmp_path):
    """A host that is killed leaves no process that downloads on; what has come so far stays for the next start."""
    real(asked)
    with served() as server:
        server.answers["/a.safetensors"] = slow_bytes
        into = tmp_path / "into"
        words = ["--json", "--yes", f"--into={into}", "--", server.link("/a.safetensors")]
        verb = Verb(asked.environment, words, {})
        process = verb._begin()
        until(lambda: b"progress" in os.read(process.stdout.fileno(), 65536))
        process.stdout.close()  # as the system does when the host ends
        until(lambda: process.poll() is not None)
        process.stderr.close()
        assert len(list(into.rglob("*.part"))) == 1
