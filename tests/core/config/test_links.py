"""What of a link may be written down, and that nothing else of it is."""

from __future__ import annotations

import copy
import json
import pickle
import re

import pytest

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config import links
from dreambooth_ext.core.config.links import Link
from dreambooth_ext.core.config.parsing import parse, shown
from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.host.service.preset_store import Presets

GIVEN = "https://user:pw@host.example:8000/a/x.safetensors?type=Model&token=SECRET#frag"
BARE = "https://host.example:8000/a/x.safetensors"
SECRETS = ("SECRET", "#frag", "type=Model")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (GIVEN, BARE),
        (f"  {GIVEN}\n", BARE),
        ("HTTPS://h/x", "https://h/x"),
        ("https://h/my model?a", "https://h/my%20model"),
        ("https://user@h", "https://h"),
        ("https://user:p@w@h/x", "https://h/x"),
        ("https://user:p/w@h/x", "https://"),
        ("https://user:p?w@h/x", "https://"),
        ("https://user:p#w@h/x", "https://"),
        ("https://u:pw@[::1]:8/x?a", "https://[::1]:8/x"),
        ("ftp://user:pw@h/x", "ftp://h/x"),
        ("https://h/@user/x", "https://h/@user/x"),
    ],
)
def test_the_bare_link(given, expected):
    assert links.bare(given) == expected == links.bare(expected)


@pytest.mark.parametrize("text", ["C:\\models\\x?.ckpt", "C://x#1", "owner/model", "a photo of a cat?", ""])
def test_other_texts_are_no_links(text):
    assert links.hidden(text) is text


def test_the_whole_link_is_in_memory_alone():
    link = links.hidden(GIVEN)
    assert link == BARE and links.whole(link) == GIVEN
    for copied in (copy.copy(link), copy.deepcopy(link), pickle.loads(pickle.dumps(link))):
        assert type(copied) is str and copied == BARE
    assert json.dumps(link) == f'"{BARE}"' and repr(link) == repr(BARE) and f"{link}" == BARE


@pytest.mark.parametrize("given", [GIVEN, f' "{GIVEN}" '])
def test_no_setting_writes_a_links_secrets(given):
    """As it would be kept, and in every message about it; in quotation marks, too, where they are taken off."""
    for name, known in SETTINGS.items():
        if given != GIVEN and known.kind in ("str", "list"):
            continue
        config, problems = parse({name: [{"instance_data_dir": given}] if known.kind == "concepts" else given})
        said = problems or config_checks.check(config)[3]
        text = json.dumps(config.as_dict()) + "".join(map(str, said)) + repr(config)
        assert not re.search("|".join(SECRETS), text.replace("user:pw", "SECRET")), (name, text)
        assert known.kind not in ("str", "path") or BARE in text, name


def test_a_config_carries_whole_links_to_where_they_are_needed(monkeypatch):
    config, _ = parse({"base_model": GIVEN, "concepts": [{"instance_data_dir": "https://h/x?b"}]})
    assert links.of(config.replace(name="x")) == [GIVEN, "https://h/x?b"]
    for name, text in links.variables(links.of(config)).items():
        monkeypatch.setenv(name, text)
    written, _ = parse(json.loads(json.dumps(config.as_dict())))
    assert links.of(written) == []
    assert links.of(links.restored(written, links.taken())) == [GIVEN, "https://h/x?b"]
    assert links.taken() == []  # programs that are started later inherit nothing
    assert links.of(links.restored(config, [])) == links.of(config)
    assert links.variables([]) == {} and links.restored(RunConfig(), [GIVEN]) == RunConfig()


def test_a_command_line_that_is_passed_on_has_bare_links(monkeypatch):
    """For everybody on the machine can read those of running programs."""
    words, given = links.handed(["generate", "--model", GIVEN, f"--vae={GIVEN}", "--prompt", "a cat?", "--out=x"])
    assert words == ["generate", "--model", BARE, f"--vae={BARE}", "--prompt", "a cat?", "--out=x"]
    assert given == {links.VARIABLE: GIVEN}
    monkeypatch.setenv(links.VARIABLE, f"https://h/y?b {GIVEN}")  # by the user
    assert links.variables(["https://h/z?c"])[links.VARIABLE].split() == ["https://h/y?b", GIVEN, "https://h/z?c"]
    known = links.taken()
    assert links.whole(links.found(BARE, known)) == GIVEN and links.found("x.ckpt", known) == "x.ckpt"


def test_a_link_is_given_anew_for_its_run_alone():
    assert links.again(GIVEN, BARE, "run") == GIVEN
    for text, known in ((GIVEN, "https://h/other"), (GIVEN, "x.safetensors"), ("x.safetensors", "x.safetensors")):
        with pytest.raises(UserError) as caught:
            links.again(text, known, "run")
        assert "SECRET" not in str(caught.value) and caught.value.problem.field == "base_model"


def test_presets_keep_bare_links(tmp_path):
    kept = Presets(tmp_path).save("mine", {"base_model": GIVEN})
    assert kept.settings["base_model"] == BARE and type(kept.settings["base_model"]) is str
    assert b"SECRET" not in next(tmp_path.glob("*.json")).read_bytes()


def test_messages_show_bare_links():
    assert shown(Link(GIVEN)) == shown(GIVEN) == repr(BARE)
    assert shown({"a": [f"see {GIVEN}"]}) == repr({"a": [f"see {BARE}"]})
