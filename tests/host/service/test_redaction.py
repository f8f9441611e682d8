"""Reports hold no secrets and no folders of the machine, and stay readable."""

from __future__ import annotations

import time

import pytest

from dreambooth_ext.host.service.redaction import Redaction

TEXTS = {  # a line -> what is left of it
    'File "/opt/web ui/dreambooth_ext/engine/loop.py", line 12, in run': 'File "loop.py", line 12, in run',
    "cannot read /home/anna/x.png and /mnt/b/y.png": "cannot read x.png and y.png",
    "'/data/Anna Smith/p q.png': no such file": "'p q.png': no such file",
    "/data/Anna Smith/My Pictures/p.png is broken": "p.png is broken",
    "/mnt/o'brien/x.png: broken": "x.png: broken",
    "/srv/12:30/anna/x.png: broken": "x.png: broken",
    "'/srv/é ü/x.json'": "'x.json'",
    "/x/y.py:12: error": "y.py:12: error",
    "~/photos/x.png": "x.png",
    "of ~anna/photos/y.png": "of y.png",
    "C:\\Users\\Anna Smith\\pics\\a.jpg is broken": "a.jpg is broken",
    "'C:\\\\Users\\\\Anna\\\\x.png'": "'x.png'",
    "D:/models/Lora/x.safetensors (3 MB)": "x.safetensors (3 MB)",
    "\\\\server\\share\\anna\\b.png is broken": "b.png is broken",
    "\\\\?\\C:\\Users\\Anna\\n.png": "n.png",
    "file:///home/anna/x.png?a=b": "x.png",
    "https://anna:pw@h.org/a/b.safetensors?token=abc#d is away": "https://h.org/a/b.safetensors is away",
    "HF_TOKEN=abcdefg in the environment": "HF_TOKEN=(hidden) in the environment",
    "login with hf_abcdefghijklmnop": "login with (hidden)",
    "Authorization: Bearer abc.def": "Authorization: Bearer (hidden)",
}
HARMLESS = (
    "training [####....] 3/100 (3 %), 2.00/s, 0:05 left, loss 0.1",
    "1.3 it/s and/or s/it, lr 1e-6/1e-5",
    "runwayml/stable-diffusion-v1-5 from https://huggingface.co/a/b",
    "torch 2.1.2+cu121, NVIDIA GeForce RTX 4090, 24 GB, CUDA 12.1",
    "keep_tokens: 1, placeholder_token: zkz",
    "a \\ b, a / b, <b>x</b>",
)


@pytest.mark.parametrize("text", TEXTS)
def test_of_a_text(text):
    redacted = Redaction().text(text)
    assert redacted == TEXTS[text]
    assert Redaction().text(redacted) == redacted
    assert "nna" not in redacted


@pytest.mark.parametrize("text", HARMLESS)
def test_what_is_no_secret_stays(text):
    assert Redaction().text(text) == text


def test_known_folders_are_found_whatever_they_are_called():
    odd = '/mnt/Anna\'s: "own" <x>'
    redaction = Redaction([odd, "/home/anna", "C:\\Users\\Anna B"])
    assert redaction.text(f"{odd}/pics/1.png is broken") == "1.png is broken"
    assert redaction.text("in /home/anna.") == "in ~."
    assert (
        redaction.text(f"there is no folder {odd}/x and no {odd}") == 'there is no folder x and no Anna\'s: "own" <x>'
    )
    assert redaction.text("/home/annabel/x") == "x"  # another one's
    assert redaction.text("'C:\\\\Users\\\\Anna B' and C:\\Users\\Anna B\\x.png") == "'~' and x.png"


def test_of_values():
    value = Redaction().value
    assert value({"a": ["/srv/x/My Pictures, all", None, 3]}) == {"a": ["My Pictures, all", None, 3]}
    assert value("/srv/anna/one.pt, /srv/anna/two.pt") == "one.pt, two.pt"
    assert value("C:\\Users\\Anna Smith\\my pictures") == "my pictures"
    assert value("https://anna:pw@h.org/x.safetensors?key=1") == "https://h.org/x.safetensors"
    assert value("a photo of sksper person") == "a photo of sksper person"
    assert value("runwayml/stable-diffusion-v1-5") == "runwayml/stable-diffusion-v1-5"
    assert value("/") == value("~") == value("C:\\") == "(hidden)"


@pytest.mark.parametrize(
    "text", ["/a b" * 3000, "/" + "x y " * 3000, "/ab:" * 4000, "C:\\?\\" * 3000, " /ab c" * 2000, "'" * 9000]
)
def test_no_text_takes_long(text):
    began = time.monotonic()
    Redaction(["/home/anna"]).text(text)
    assert time.monotonic() - began < 2
