"""The verb `download`, with sites on this machine that answer as the real ones do, and misbehave."""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from dreambooth_ext.core.config import links
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.verbs import download_options
from dreambooth_ext.engine.downloads import connections, http_file, refusals, unfinished
from dreambooth_ext.engine.model_links import header, look_up
from dreambooth_ext.engine.verbs import download
from tests.engine.downloads.servers import Answers, Server, chunked, page, redirect, served, status, unsized, whole
from tests.engine.model_links.sites import KEY, Civitai, Drive, Hub, told


@pytest.fixture
def storage() -> Iterator[Server]:
    with served() as made:
        yield made


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path) -> None:
    """No login of this machine, no pauses."""
    for name in look_up.CIVITAI_KEYS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(look_up, "get_token", lambda: None)
    monkeypatch.setattr(http_file, "PAUSE", 0.01)


class Got:
    """What one call told. `facts`, `done` and `problem` are those of its lines; `lines`: all of them."""

    def __init__(self, text: str):
        self.lines = [json.loads(line) for line in text.splitlines()]
        known: dict[str, Any] = {name: value for line in self.lines for name, value in line.items()}
        self.facts, self.done, self.problem = (known.get(name) for name in ("facts", "done", "problem"))

    @property
    def path(self) -> Path:
        return Path(self.done["path"])

    @property
    def code(self) -> str:
        return self.problem["code"] if self.problem else ""


@pytest.fixture
def get(tmp_path, capsys):
    """Calls the verb as the host does."""
    folders = [f"--folder={kind}={tmp_path / 'models' / kind}" for kind in download_options.KINDS]

    def got(link: str, *words: str) -> Got:
        parser = argparse.ArgumentParser()
        download_options.add_arguments(parser)
        download_options.add_hidden(parser)
        arguments = parser.parse_args([*folders, "--json", "--yes", *words, "--", link])
        arguments.link = links.hidden(arguments.link)
        with contextlib.suppress(UserError):
            download.run(arguments)
        said = capsys.readouterr()
        assert "SECRET" not in said.out + said.err
        return Got(said.out)

    return got


def there(tmp_path: Path) -> list[str]:
    """Every file in the models' folders."""
    root = tmp_path / "models"
    return [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]


# --- direct links


def test_a_direct_link(server, model, tmp_path, get):
    server.answers["/a.safetensors"] = whole(model)
    got = get(server.link("/a.safetensors?token=SECRET"))
    assert got.facts["name"] == "a.safetensors" and got.facts["size"] == len(model) and not got.facts["is_whole"]
    assert got.done["kind"] == "checkpoint" and got.done["sha256"] == hashlib.sha256(model).hexdigest()
    assert there(tmp_path) == ["checkpoint/a.safetensors"] and got.path.read_bytes() == model
    assert got.lines[-2]["progress"]["stage"] == "stages.checking_file"


def test_nothing_but_facts_is_fetched_first(server, model, tmp_path, get):
    server.answers["/a.safetensors"] = whole(model)
    got = get(server.link("/a.safetensors"), "--look")
    assert got.facts and not got.done and there(tmp_path) == []
    assert len(server.asked) == 2 and server.asked[1][1]["Range"] == f"bytes=0-{8 + header.LARGEST - 1}"
    assert got.facts["kind"] == "checkpoint" and got.facts["family"] == "Stable Diffusion 1"
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("names", "kind", "family"),
    [
        (["conditioner.embedders.1.model.x", "model.diffusion_model.x"], "checkpoint", "Stable Diffusion XL"),
        (["lora_unet_down_blocks_0.lora_up.weight"], "lora", "sdxl_base_v1-0"),
        (["base.lora_A.weight"], "lora", "sdxl_base_v1-0"),
        (["clip_l", "clip_g"], "textual_inversion", "Stable Diffusion XL"),
        (["first_stage_model.x"], "", ""),
    ],
)
def test_what_a_file_says_of_itself_before_it_is_fetched(server, get, names, kind, family):
    server.answers["/a.safetensors"] = whole(safetensors(names, ss_base_model_version="sdxl_base_v1-0"))
    facts = get(server.link("/a.safetensors"), "--look").facts
    assert (facts["kind"], facts["family"]) == (kind, family)


def test_a_flux_model_is_refused_before_it_is_fetched(server, get):
    content = safetensors(["model.diffusion_model.double_blocks.0.img_attn.qkv.weight"])
    server.answers["/a.safetensors"] = whole(content + b"x" * 10_000_000)
    got = get(server.link("/a.safetensors"))
    assert got.code == "download.other_family" and "Flux" in got.problem["message"]


@pytest.mark.parametrize(
    "head", [b"", b"x" * 7, b"\xff" * 100, b"\x10" + b"\0" * 7 + b"[" * 16, b"\x09" + b"\0" * 7 + b"{}"]
)
def test_a_header_that_is_none_is_not_told(server, get, head):
    server.answers["/a.safetensors"] = whole(head)
    assert get(server.link("/a.safetensors"), "--look").facts["kind"] == ""


def safetensors(names: list[str], **metadata: str) -> bytes:
    header = {name: {"dtype": "F16", "shape": [1], "data_offsets": [0, 2]} for name in names}
    text = json.dumps({"__metadata__": metadata, **header}).encode()
    return len(text).to_bytes(8, "little") + text + b"\0\0"


def test_another_file_of_that_name_stays(server, model, tmp_path, get):
    """The same content is said to be here; other content gets a number."""
    server.answers["/a.safetensors"] = whole(model)
    first = get(server.link("/a.safetensors"))
    again = get(server.link("/a.safetensors"))
    assert again.done["was_there"] and again.path == first.path and not first.done["was_there"]
    other = model[:-1] + bytes([model[-1] ^ 1])
    server.answers["/a.safetensors"] = whole(other, '"2"')
    second = get(server.link("/a.safetensors"))
    assert second.facts["new_name"] == second.path.name == "a-2.safetensors"
    assert first.path.read_bytes() == model and second.path.read_bytes() == other
    assert get(server.link("/a.safetensors")).path == second.path
    assert there(tmp_path) == ["checkpoint/a-2.safetensors", "checkpoint/a.safetensors"]


@pytest.mark.parametrize("make", [unsized, chunked])
def test_a_file_whose_size_nobody_tells(server, model, tmp_path, get, make):
    server.answers["/a.safetensors"] = make(model)
    got = get(server.link("/a.safetensors"))
    assert got.facts["size"] is None and got.path.read_bytes() == model


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (page(), "download.web_page"),
        (page("application/octet-stream"), "model_file.web_page"),
        (whole(b'{"error": "no"}', Content_Type="application/json"), "model_file.text_file"),
        (whole(b""), "model_file.empty"),
        (whole(b"\x00" * 1000), "model_file.unknown_format"),
        (whole(b"PK\x03\x04" + b"\0" * 1000), "model_file.archive_cut_short"),
        (status(401), "download.login"),
        (status(403), "download.login"),
        (status(404), "download.refused"),
        (status(429), "download.busy"),
        (status(500), "download.busy"),
        (redirect("file:///etc/passwd"), "download.leads_elsewhere"),
        (redirect("/a.safetensors"), "download.refused"),
        (lambda http: http.connection.close(), "download.unreachable"),
    ],
)
def test_what_is_no_model_leaves_nothing(server, tmp_path, get, answer, code):
    server.answers["/a.safetensors"] = answer
    assert get(server.link("/a.safetensors")).code == code and there(tmp_path) == []


def test_a_pickle_that_would_run_is_not_kept(server, tmp_path, get):
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (mark,))

    torch.save({"state_dict": Evil()}, tmp_path / "evil.ckpt")
    server.answers["/evil.ckpt"] = whole((tmp_path / "evil.ckpt").read_bytes())
    got = get(server.link("/evil.ckpt"))
    assert got.code == "model_file.runs_code" and not mark.exists() and there(tmp_path) == []
    assert "evil.ckpt" in got.problem["message"] and ".part" not in got.problem["message"]


# --- interruptions


def test_a_download_is_gone_on_with_by_the_next(server, model, tmp_path, get, monkeypatch):
    monkeypatch.setattr(http_file, "TRIES", 0)
    server.answers["/a.safetensors"] = whole(model, breaks=1)
    link = server.link("/a.safetensors")
    assert get(link).code == "download.interrupted"
    (part,) = (tmp_path / "models" / "checkpoint").glob(f"{unfinished.PREFIX}*/*{unfinished.PART}")
    assert part.stat().st_size == len(model) // 2
    assert get(link, "--look").facts["received"] == len(model) // 2
    got = get(link)
    assert got.path.read_bytes() == model and there(tmp_path) == ["checkpoint/a.safetensors"]
    assert server.asked[-1][1]["Range"] == f"bytes={len(model) // 2}-"


def test_what_is_left_can_be_discarded(server, model, tmp_path, get, monkeypatch):
    monkeypatch.setattr(http_file, "TRIES", 0)
    server.answers["/a.safetensors"] = whole(model, breaks=1)
    get(server.link("/a.safetensors?token=SECRET"))
    assert there(tmp_path)
    assert not get(server.link("/b.safetensors"), "--discard").problem and there(tmp_path)
    assert not get(server.link("/a.safetensors?token=SECRET"), "--discard").problem and there(tmp_path) == []


def test_another_file_behind_the_link_when_it_goes_on(server, model, tmp_path, get, monkeypatch):
    """The old part is of no use, and what nobody agreed to is not fetched."""
    monkeypatch.setattr(http_file, "TRIES", 0)
    server.answers["/a.safetensors"] = whole(model, breaks=1)
    link = server.link("/a.safetensors")
    agreed = get(link).facts["version"]
    other = model[:-1] + bytes([model[-1] ^ 1])
    server.answers["/a.safetensors"] = whole(other, '"2"')
    assert get(link, f"--expect={agreed}").code == "download.other_version"
    got = get(link, f"--expect={get(link, '--look').facts['version']}")
    assert got.path.read_bytes() == other and there(tmp_path) == ["checkpoint/a.safetensors"]


def test_two_at_once(server, model, tmp_path, get):
    server.answers["/a.safetensors"] = whole(model)
    link = server.link("/a.safetensors")
    coming = unfinished.Unfinished(tmp_path / "models" / "checkpoint", link)
    with coming.held("link"):
        assert get(link).code == "download.going_on"
    assert get(link).done


def test_a_busy_server_is_left_alone_for_a_while(server, model, get, monkeypatch):
    monkeypatch.setattr(refusals, "LONGEST_REST", 1.0)
    given, times = whole(model), []

    def answer(http: Answers) -> None:
        times.append(http.path)
        if len(times) in (1, 4):
            return http.start(429, Retry_After=1, Content_Length=0)
        return given(http)

    server.answers["/a.safetensors"] = answer
    assert get(server.link("/a.safetensors")).path.read_bytes() == model and len(times) == 5
    server.answers["/b.safetensors"] = lambda http: http.start(429, Retry_After=3600, Content_Length=0)
    assert get(server.link("/b.safetensors")).code == "download.busy"


# --- who may be asked


@pytest.fixture
def internet(monkeypatch) -> None:
    """127.0.0.1 counts as the internet; everything else is private."""
    monkeypatch.setattr(connections, "is_public", lambda address: address == "127.0.0.1")


def test_no_private_address_on_a_restricted_host(server, model, tmp_path, get):
    server.answers["/a.safetensors"] = whole(model)
    assert get(server.link("/a.safetensors"), "--public-only").code == "download.private"
    assert server.asked == [] and there(tmp_path) == []


@pytest.mark.parametrize("words", [(), ("--public-only",)])
def test_no_redirect_from_the_internet_leads_inside(server, model, internet, get, words):
    """On no host at all: whoever made the link cannot know what is in there."""
    inside = f"http://localhost:{server.server_address[1]}/a.safetensors".replace("localhost", "127.0.0.2")
    server.answers |= {"/out.safetensors": redirect(inside), "/a.safetensors": whole(model)}
    got = get(server.link("/out.safetensors"), *words)
    assert got.code == "download.leads_inside" and "127.0.0.2" in got.problem["message"]
    assert [path for path, _ in server.asked] == ["/out.safetensors"]


@pytest.mark.parametrize("words", [(), ("--public-only",)])
def test_a_name_that_changes_its_address(server, model, get, monkeypatch, words):
    """Each request connects to the address that was judged; what was on the internet is not looked for inside."""
    plain, asked = connections.socket.getaddrinfo, []

    def rebinding(host: str, port: int, *rest: Any, **more: Any) -> Any:
        if host != "rebind.example":
            return plain(host, port, *rest, **more)
        asked.append(host)
        return plain("127.0.0.1" if len(asked) == 1 else "127.0.0.2", port, *rest, **more)

    monkeypatch.setattr(connections.socket, "getaddrinfo", rebinding)
    monkeypatch.setattr(connections, "is_public", lambda address: address == "127.0.0.1")
    server.answers["/a.safetensors"] = whole(model)
    link = f"http://rebind.example:{server.server_address[1]}/a.safetensors"
    got = get(link, *words)
    assert len(server.asked) == 1 and got.code == "download.private" and set(asked) == {"rebind.example"}


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        ("8.8.8.8", True),
        ("2606:4700:4700::1111", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("::127.0.0.1", False),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:7f00:1::", False),
        ("nonsense", False),
    ],
)
def test_which_addresses_are_public(address, is_public):
    assert connections.is_public(address) is is_public


# --- Civitai


@pytest.fixture
def civitai(server, storage, model, monkeypatch) -> Civitai:
    return Civitai(server, storage, model, monkeypatch)


@pytest.mark.parametrize(
    "link",
    [
        "https://civitai.com/models/10/portraits?modelVersionId=20",
        "https://civitai.com/models/10",
        "https://www.civitai.com/models/10/portraits",
        "https://civitai.com/api/download/models/20?type=Model&format=SafeTensor",
        "https://civitai.com/model-versions/20",
        "urn:air:sd1:checkpoint:civitai:10@20",
    ],
)
def test_a_model_on_civitai(civitai, tmp_path, get, link):
    got = get(link)
    facts = got.facts
    assert facts["name"] == "portraits_v2.safetensors" and facts["size"] == len(civitai.model)
    assert facts["sha256"] == hashlib.sha256(civitai.model).hexdigest() and facts["family"] == "SD 1.5"
    assert facts["link"] == f"{civitai.site}/models/10?modelVersionId=20" and facts["is_whole"]
    assert "name the author" in facts["licence"] and "do not sell the model" in facts["licence"]
    assert facts["site"] == "Civitai" and facts["title"] == "Portraits v2"
    assert there(tmp_path) == ["checkpoint/portraits_v2.safetensors"] and got.path.read_bytes() == civitai.model


def test_civitais_key_goes_to_civitai_alone(civitai, get, monkeypatch):
    civitai.needs_login()
    assert get("https://civitai.com/models/10").code == "download.civitai_login"
    monkeypatch.setenv("CIVITAI_API_KEY", KEY)
    assert get("https://civitai.com/models/10").done
    sent = [headers.get("Authorization") for path, headers in civitai.server.asked if "/download/" in path]
    assert sent[-1] == f"Bearer {KEY}" and KEY not in json.dumps(civitai.storage.asked)
    assert not any(KEY in path for path, _ in civitai.server.asked)
    monkeypatch.setenv("CIVITAI_API_KEY", "another")
    assert get("https://civitai.com/models/10").code == "download.civitai_key_refused"
    assert get("https://civitai.com/models/10", "--no-logins").code == "download.civitai_login"


def test_a_key_in_the_link(civitai, tmp_path, get):
    """As Civitai's own help has it: it is not shown, not kept, and the link alone is not enough for later."""
    civitai.needs_login()
    got = get(f"https://civitai.com/api/download/models/20?token={KEY}")
    assert got.done and not got.facts["is_whole"] and KEY not in json.dumps(got.lines)
    assert not any(KEY in path for path, _ in civitai.server.asked)
    kept = [path.read_text(errors="replace") for path in tmp_path.rglob("*.json")]
    assert not any(KEY in text for text in kept)


def test_what_civitai_refuses(civitai, get):
    early = {
        "error": "Early Access",
        "deadline": "2099-01-02T00:00:00.000Z",
        "message": "This asset is in Early Access.",
    }
    civitai.server.answers["/api/download/models/20"] = told(early, 403)
    got = get("https://civitai.com/models/10")
    assert got.code == "download.civitai_early" and "2099-01-02" in got.problem["message"]
    off = {"error": "Unauthorized", "message": "The creator of this asset has disabled downloads on this file"}
    civitai.server.answers["/api/download/models/20"] = told(off, 401)
    assert get("https://civitai.com/models/10").code == "download.civitai_disabled"
    civitai.server.answers["/api/download/models/20"] = told({"error": "Model archived"}, 410)
    assert get("https://civitai.com/models/10").code == "download.civitai_gone"
    assert get("https://civitai.com/models/11").code == "download.civitai_gone"
    civitai.page["mode"] = "TakenDown"
    assert get("https://civitai.com/models/10").code == "download.civitai_gone"
    assert get("https://civitai.com/user/someone").code == "download.civitai_other_page"


def test_a_version_in_early_access_is_told_before(civitai, get):
    civitai.version |= {"availability": "EarlyAccess", "earlyAccessEndsAt": "2099-01-02T00:00:00.000Z"}
    (note,) = get("https://civitai.com/models/10", "--look").facts["notes"]
    assert note["code"] == "download.early_until" and "2099-01-02" in note["message"]


@pytest.mark.parametrize(
    "name", ["../../evil.safetensors", "/etc/evil.safetensors", "a\\..\\evil.safetensors", "con.safetensors"]
)
def test_a_name_that_an_uploader_chose(civitai, tmp_path, get, name):
    civitai.file["name"] = name
    got = get("https://civitai.com/models/10")
    assert got.path.parent == tmp_path / "models" / "checkpoint" and set(got.path.name) & set("\\/:") == set()
    assert len(there(tmp_path)) == 1 and got.path.stem != "con"


def test_a_file_that_civitai_calls_dangerous(civitai, get):
    civitai.file["pickleScanResult"] = "Danger"
    assert get("https://civitai.com/models/10").code == "download.dangerous"


@pytest.mark.parametrize("kind", ["VAE", "Upscaler", "Controlnet", "Workflows", "Wildcards"])
def test_what_is_no_model_of_stable_diffusion_is_told_by_its_kind(civitai, tmp_path, get, kind):
    civitai.page["type"] = kind
    got = get("https://civitai.com/models/10")
    assert got.code == "download.other_kind" and kind in got.problem["message"] and there(tmp_path) == []


@pytest.mark.parametrize("family", ["Flux.1 D", "SD 3.5 Large", "Pony V7", "Wan Video", "Qwen"])
def test_a_base_that_cannot_be_trained(civitai, get, family):
    civitai.version["baseModel"] = family
    assert get("https://civitai.com/models/10").code == "download.other_family"
    civitai.version["baseModel"] = "Illustrious"
    assert get("https://civitai.com/models/10").done


def test_one_of_several_files(civitai, tmp_path, get):
    """Safetensors first; a link's own parameters and a name say otherwise."""
    pickle = {**civitai.file, "name": "portraits.ckpt", "primary": True, "hashes": {}}
    pickle["metadata"] = {"format": "PickleTensor", "size": "full", "fp": "fp32"}
    config = {"name": "portraits.yaml", "type": "Config", "sizeKB": 1}
    civitai.file["primary"] = False
    civitai.version["files"] = [pickle, config, civitai.file]
    facts = get("https://civitai.com/models/10", "--look").facts
    assert facts["name"] == "portraits_v2.safetensors"
    assert [choice["name"] for choice in facts["choices"]] == ["portraits_v2.safetensors", "portraits.ckpt"]
    link = "https://civitai.com/api/download/models/20?type=Model&format=PickleTensor&size=full&fp=fp32"
    assert get(link, "--look").facts["name"] == "portraits.ckpt"
    assert get("https://civitai.com/models/10", "--look", "--file=portraits.ckpt").facts["name"] == "portraits.ckpt"
    got = get("https://civitai.com/models/10", "--file=portraits.yaml")
    assert got.code == "download.no_such_file" and "portraits.ckpt" in got.problem["message"]


def test_another_file_than_civitai_announced(civitai, tmp_path, get):
    civitai.file["hashes"]["SHA256"] = "A" * 64
    got = get("https://civitai.com/models/10")
    assert got.code == "download.other_hash" and there(tmp_path) == []


def test_a_lora_behind_a_link_goes_to_the_loras(civitai, tmp_path, get):
    key = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q"
    tensors = {f"{key}.lora_down.weight": torch.zeros(4, 320), f"{key}.lora_up.weight": torch.zeros(320, 4)}
    save_file(tensors, tmp_path / "x.safetensors")
    content = (tmp_path / "x.safetensors").read_bytes()
    civitai.storage.answers["/portraits_v2.safetensors"] = whole(content)
    civitai.file |= {"hashes": {"SHA256": hashlib.sha256(content).hexdigest()}, "sizeKB": len(content) / 1024}
    civitai.page["type"] = "LORA"
    got = get("https://civitai.com/models/10")
    assert got.facts["kind"] == got.done["kind"] == "lora" and there(tmp_path) == ["lora/portraits_v2.safetensors"]
    civitai.page["type"] = "Checkpoint"  # its content counts
    assert get("https://civitai.com/models/10").done["kind"] == "lora"
    assert there(tmp_path) == ["lora/portraits_v2.safetensors"]


def test_nonsense_from_civitai(civitai, get):
    for answer in (
        told([]),
        told({"modelId": "x/../y"}),
        page(),
        whole(b"{" * 100_000),
        told({"files": 3, "modelId": 10}),
    ):
        civitai.server.answers["/api/v1/model-versions/20"] = answer
        assert get("https://civitai.com/model-versions/20").problem


def test_a_download_that_civitai_says_is_elsewhere_stays_with_civitai(civitai, get, monkeypatch):
    """The key is not sent to whoever an answer names."""
    monkeypatch.setenv("CIVITAI_API_KEY", KEY)
    civitai.file["downloadUrl"] = f"http://{civitai.storage.host}/portraits_v2.safetensors"
    assert get("https://civitai.com/models/10").done and KEY not in json.dumps(civitai.storage.asked)


# --- Hugging Face


@pytest.fixture
def hub(server, storage, model, monkeypatch) -> Hub:
    files = {
        "README.md": b"x",
        "v1.safetensors": model,
        "sub/v0.ckpt": b"x" * 2000,
        "unet/diffusion_pytorch_model.safetensors": b"x" * 2000,
    }
    return Hub(server, storage, files, monkeypatch)


@pytest.mark.parametrize(
    "path", ["", "/tree/main", "/blob/main/v1.safetensors", "/resolve/main/v1.safetensors?download=true"]
)
def test_a_file_on_hugging_face(hub, model, tmp_path, get, path):
    got = get(f"https://huggingface.co/me/model{path}")
    facts = got.facts
    assert facts["name"] == "v1.safetensors" and facts["size"] == len(model) and facts["is_whole"]
    assert facts["sha256"] == hashlib.sha256(model).hexdigest() and facts["licence"] == "creativeml-openrail-m"
    assert there(tmp_path) == ["checkpoint/v1.safetensors"] and got.path.read_bytes() == model
    choices = [choice["name"] for choice in facts["choices"]]
    assert choices == ([] if "v1" in path else ["v1.safetensors", "sub/v0.ckpt"])


def test_a_name_is_enough(hub, get):
    assert get("me/model", "--look").facts["name"] == "v1.safetensors"
    assert get("me/model", "--look", "--file=sub/v0.ckpt").facts["name"] == "v0.ckpt"


def test_hugging_faces_token_goes_to_hugging_face_alone(hub, get, monkeypatch):
    hub.needs_login()
    got = get("https://huggingface.co/me/model")
    assert got.code == "download.hub_login"
    monkeypatch.setattr(look_up, "get_token", lambda: KEY)
    got = get("https://huggingface.co/me/model")
    assert got.done and got.facts["notes"][0]["code"] == "download.gated"
    assert KEY not in json.dumps(hub.storage.asked) and KEY not in json.dumps(got.lines)
    assert get("https://huggingface.co/me/model", "--no-logins").code == "download.hub_login"


def test_what_is_not_there_on_hugging_face(hub, get):
    assert get("me/none").code == "download.no_model"
    assert get("https://huggingface.co/me/model/blob/main/x.safetensors").code == "download.hub_no_file"
    assert get("https://huggingface.co/me/model/tree/old").code == "download.hub_no_revision"
    assert get("https://huggingface.co/datasets/me/model").code == "download.hub_no_model"


def test_files_of_a_repository_as_they_are(hub, tmp_path, get):
    """For a tagger with its list of tags: each compared with its hash, none replaced, none fetched twice."""
    into = tmp_path / "tagger"
    words = ("--any-file", f"--into={into}", "--file=README.md", "--file=sub/v0.ckpt")
    got = get("me/model", *words)
    assert got.done["paths"] == [str(into / "README.md"), str(into / "sub" / "v0.ckpt")]
    assert (into / "README.md").read_bytes() == b"x" and (into / "sub" / "v0.ckpt").read_bytes() == b"x" * 2000
    assert got.lines[-2]["progress"] == {"stage": "stages.downloading", "done": 2001, "of": 2001}
    assert {path.name for path in into.rglob("*") if path.is_file()} == {"README.md", "v0.ckpt"}
    hub.storage.asked.clear()
    assert get("me/model", *words).done and hub.storage.asked == []
    (into / "README.md").write_bytes(b"mine")
    assert get("me/model", *words).code == "download.other_file_there" and (into / "README.md").read_bytes() == b"mine"


def test_files_of_a_repository_that_are_others(hub, tmp_path, get):
    into = tmp_path / "tagger"
    for name, content in (("README.md", b"y"), ("sub/v0.ckpt", b"y" * 2000)):
        hub.storage.answers[f"/{name}"] = whole(content)
        got = get("me/model", "--any-file", f"--into={into}", f"--file={name}")
        assert got.code == "download.not_announced" and not [path for path in into.rglob("*") if path.is_file()]
    assert get("me/model", "--any-file", f"--into={into}", "--file=../x").code == "download.hub_no_file"
    assert get("me/model", "--any-file", "--file=README.md").code == "download.any_file"


# --- Google Drive and Dropbox


@pytest.mark.parametrize(
    "link",
    [
        f"https://drive.google.com/file/d/{Drive.ID}/view?usp=sharing",
        f"https://drive.google.com/open?id={Drive.ID}",
        f"https://drive.google.com/uc?export=download&id={Drive.ID}",
        f"https://drive.usercontent.google.com/download?id={Drive.ID}&export=download&authuser=0",
    ],
)
def test_a_large_file_on_google_drive(server, model, tmp_path, get, monkeypatch, link):
    Drive(server, model, monkeypatch)
    got = get(link)
    assert got.facts["name"] == "my model.safetensors" and got.facts["size"] == len(model) and got.facts["is_whole"]
    assert there(tmp_path) == ["checkpoint/my model.safetensors"] and got.path.read_bytes() == model
    assert got.facts["notes"][0]["code"] == "download.no_hash"


def test_what_google_drive_does_not_give(server, model, get, monkeypatch):
    drive = Drive(server, model, monkeypatch)
    link = f"https://drive.google.com/file/d/{Drive.ID}/view"
    drive.page = "<html><title>Google Drive - Quota exceeded</title>Sorry, you can't view or download this file now."
    assert get(link).code == "download.drive_quota"
    drive.page = "<html><title>Sign in</title><form action='https://evil.example/login'></form>"
    assert get(link).code == "download.drive_private"
    assert get("https://drive.google.com/file/d/xxxxxxxxxxxxxxxx/view").code == "download.drive_private"
    assert get("https://drive.google.com/drive/folders/1VKilIC4400a5aAde").code == "download.drive_no_file"


def test_a_form_that_leads_away_from_google(server, storage, model, get, monkeypatch):
    drive = Drive(server, model, monkeypatch)
    drive.action = f"http://{storage.host}/download"
    assert get(f"https://drive.google.com/open?id={Drive.ID}").code == "download.drive_private" and storage.asked == []


def test_dropbox(server, model, get, monkeypatch):
    from dreambooth_ext.engine.model_links import shares

    monkeypatch.setattr(shares, "DROPBOX_HOSTS", ("127.0.0.1",))

    def answer(http: Answers) -> None:
        (whole(model) if "dl=1" in http.path else page())(http)

    server.answers["/scl/fi/abc/x.safetensors"] = answer
    got = get(server.link("/scl/fi/abc/x.safetensors?rlkey=SECRET&dl=0"))
    assert got.done and not got.facts["is_whole"]
    assert get(server.link("/scl/fo/abc/folder?rlkey=SECRET&dl=0")).code == "download.dropbox_folder"


@pytest.mark.parametrize("link", ["", "x", "ftp://host/x", "file:///etc/passwd", "http://", "javascript:alert(1)"])
def test_what_is_no_link(get, link):
    assert get(link).code in ("download.no_link", "download.unreachable")
