"""Rows: pickles that are no checkpoint, and such that were made to hang their reader or to fill its memory."""

from __future__ import annotations

import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from dreambooth_ext.engine.formats import lora_file
from tests.bad_input.case import Case, Verb, rows
from tests.bad_input.verbs import BASES, CHECK_BASE

BASE = "base_model"
SHAPES = Verb("read a LoRA", lambda path, folder: lora_file.shapes(path, "network_weights"))
ONE = torch.ones(2, 2)


def saved(content: Any) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        torch.save(content, folder / "модель 1.ckpt")
        return folder / "модель 1.ckpt"

    return make


KINDS = {
    "a number": ({"a": 1}, "holds no tensors"),
    "a list": ([ONE], "instead of named tensors"),
    "a tensor": (ONE, "instead of named tensors"),
    "an embedding": ({"string_to_param": {"*": ONE}, "name": "x"}, "textual inversion embedding"),
    "a hypernetwork": ({768: ({"linear.0.weight": ONE}, {}), "layer_structure": [1, 2, 1]}, "a hypernetwork"),
    "a LoRA": ({"state_dict": {"lora_unet_a.lora_up.weight": ONE}}, "a LoRA"),
    "a LoHa": ({"lora_te_a.hada_w1_a": ONE}, "a LoRA"),
    "a ControlNet": ({"control_model.input_hint_block.0.weight": ONE}, "a ControlNet"),
    "a VAE": ({"encoder.conv_in.weight": ONE, "decoder.conv_in.weight": ONE}, "a VAE on its own"),
    "Flux": ({"double_blocks.0.img_attn.qkv.weight": ONE}, "a Flux model"),
    "Stable Diffusion 3": (
        {"model.diffusion_model.joint_blocks.0.x_block.attn.qkv.weight": ONE},
        "a Stable Diffusion 3 model",
    ),
    "averages": ({"model_ema.diffusion_modelout2weight": ONE}, "only averaged (EMA) weights"),
    "an upscaler": ({"upscale.0.weight": ONE}, "another kind of model"),
}


# --- that grow


def laughing(end: bytes) -> bytes:
    """Sixty tuples, each of twice the one before; `end` uses the last."""
    text = b"\x80\x02)q\x00"
    for number in range(60):
        text += b"h%ch%c\x86q%c" % (number, number, number + 1)
    return text + end


def text_of(content: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content


GROWING: dict[str, tuple[Callable[[], bytes], str]] = {
    "a key that grows": (lambda: laughing(b"}h\x3cK\x01s."), "not a short name"),
    "a value that grows": (lambda: laughing(b"."), "grows larger than any model"),
    "a text that grows": (lambda: laughing(b"cbuiltins\nstr\nh\x3c\x85R."), "wants to run str"),
    "a set that grows": (lambda: laughing(b"cbuiltins\nset\nh\x3c\x85R."), "not a short name"),
    "a function that grows": (lambda: laughing(b"h\x3c)R."), "wants to run tuple"),
    "few bytes copied for ever": (
        lambda: (
            b"\x80\x02" + text_of(b"a" * 10**6) + b"q\x000(c_codecs\nencode\nq\x01" + b"h\x01h\x00\x85R" * 10**5 + b"t."
        ),
        "grows larger than any model",
    ),
    "a list in itself": (lambda: b"\x80\x02]q\x00h\x00a.", "nested too deeply"),
    "half a million lists in each other": (
        lambda: b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".",
        "nested too deeply",
    ),
    "a long key": (lambda: b"\x80\x02" + text_of(b"a" * 10**6) + b"q\x00}h\x00Ns.", "not a short name"),
    "a huge number as a key": (
        lambda: b"\x80\x02\x8b" + struct.pack("<I", 10**6) + b"\x7f" * 10**6 + b"q\x00}h\x00Ns.",
        "a key",
    ),
    "a number in letters": (lambda: b"\x80\x02I" + b"9" * 10**6 + b"\n.", "step b'I'"),
    "millions of steps": (lambda: b"\x80\x02" + b"N" * 15_000_000 + b".", "steps to read"),
    "400 MB of steps": (lambda: b"\x80\x02" + b"N0" * 200_000_000 + b".", "larger than any model's"),
    "a terabyte reserved": (
        lambda: b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
        "which PyTorch does not write",
    ),
}


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def zipped(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        path = archive(folder / "a.ckpt", {"archive/data.pkl": content(), "archive/version": b"3"})
        assert path.stat().st_size < 2 * 10**6
        return path

    return make


def of_old(content: bytes) -> Callable[[Path], Path]:
    """The layout of old files, which is not packed."""
    return bare(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02K\x01.\x80\x02}." + content)


def bare(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "a.ckpt").write_bytes(content)
        return folder / "a.ckpt"

    return make


def members(*names: str) -> Callable[[Path], Path]:
    return lambda folder: archive(folder / "a.ckpt", dict.fromkeys(names, b"3"))


def crowded(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.ckpt", "w") as file:
        for number in range(100_000):
            file.writestr(f"archive/data/{number}", b"")
    return folder / "a.ckpt"


def repeated(folder: Path) -> Path:
    """One tensor under very many names; a pickle says that in a few bytes each."""
    made = {f"k{number}": torch.ones(1) for number in range(2)} | dict.fromkeys(map(str, range(200_000)), torch.ones(1))
    return saved({"state_dict": made})(folder)


def expanded(folder: Path) -> Path:
    return saved({"state_dict": {"w": torch.ones(1).expand(2**20, 2**20)}})(folder)


def more(name: str) -> Callable[[Path], Path]:
    """A plain state, each tensor of which could be read, and one member more in its archive."""

    def make(folder: Path) -> Path:
        path = saved({"state_dict": {"w": torch.ones(2)}})(folder)
        with zipfile.ZipFile(path) as file:
            inner = file.namelist()[0].partition("/")[0]
        with zipfile.ZipFile(path, "a") as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of one name twice
            file.writestr(name.replace("HERE", inner), b"3")
        return path

    return make


PROGRAM, NO_PLACE = "TorchScript program", "no place in a model file"
MEMBERS = {
    "HERE/constants.pkl": PROGRAM,
    "HERE/code/__torch__.py": PROGRAM,
    "HERE/bytecode.pkl": PROGRAM,
    "HERE/data.pkl": NO_PLACE,
    "HERE/extra/a": PROGRAM,
    "HERE/data/x": NO_PLACE,
    "HERE/x": NO_PLACE,
    "HERE/../data/0": NO_PLACE,
    "another/version": NO_PLACE,
}
DAMAGED = "damaged or not a PyTorch file"
BROKEN = {
    "a pickle of zeros in a zip": (zipped(lambda: b"\0" * 50_000_000), DAMAGED),
    "a zip of something else": (members("readme.txt"), DAMAGED),
    "a zip without a pickle": (members("archive/version"), DAMAGED),
    "a text of a terabyte": (bare(b"\x80\x04\x8e" + struct.pack("<Q", 2**40)), DAMAGED),
    "a million marks": (bare(b"\x80\x02" + b"(" * 10**6), DAMAGED),
    "lists in each other": (bare(b"\x80\x02" + b"]" * 10**5 + b"a" * (10**5 - 1) + b"."), DAMAGED),
    "a hundred thousand members": (crowded, "larger than any model's"),
    "one tensor under very many names": (repeated, "more tensors than any model"),
    "a tensor larger than its numbers": (expanded, "more numbers than there are"),
}
SLOW = {"a million marks", "a hundred thousand members", "one tensor under very many names"}  # once is enough


def growing() -> list[Case]:
    found = {name: (zipped(content), BASE, part) for name, (content, part) in GROWING.items()}
    small = {name: (content(), part) for name, (content, part) in GROWING.items() if name not in LARGE}
    old = {f"{name}, in an old file": (of_old(content), BASE, part) for name, (content, part) in small.items()}
    return rows("pickle", (CHECK_BASE,), found | old)


LARGE = {"few bytes copied for ever", "a long key", "a huge number as a key", "a number in letters"}
LARGE |= {"millions of steps", "400 MB of steps"}
CASES = rows("pickle of", BASES, {name: (saved(content), BASE, part) for name, (content, part) in KINDS.items()})
CASES += growing()
for name, (make, part) in BROKEN.items():
    CASES.append(Case(f"pickle: {name}", make, (CHECK_BASE,) if name in SLOW else BASES, BASE, part))
CASES.append(Case("pickle: a LoRA of one tensor many times", repeated, (SHAPES,), "network_weights", "more tensors"))
CASES += rows("archive with", BASES, {name: (more(name), BASE, part) for name, part in MEMBERS.items()})
