"""Rows: safetensors files that are none, that are another model's, or whose parts no model has."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from pathlib import Path

import torch

from dreambooth_ext.engine.tensors.tensor_file import save_tensors
from tests import tiny
from tests.bad_input import sound
from tests.bad_input.case import Case, rows
from tests.bad_input.verbs import BASES, CHECK_BASE, LOAD, TRAIN_BASE

BASE = "base_model"


def header(content: object, data: bytes = b"") -> bytes:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    return struct.pack("<Q", len(text)) + text + data


def line(**changes: object) -> dict:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


def written(content: bytes) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / "модель 1.safetensors").write_bytes(content)
        return folder / "модель 1.safetensors"

    return make


FILES = {
    "nothing in it": (header(b"{}"), "holds no tensors"),
    "metadata that is a list": (header({"__metadata__": ["x"]}), "holds no tensors"),
    "a tensor without a place": (header({"a": {}}), "makes no sense"),
    "a tensor that is a text": (header({"a": "x"}), "makes no sense"),
    "a shape that is a text": (header(line(shape="x"), b"\0" * 8), "makes no sense"),
    "a size below zero": (header(line(shape=[-2]), b"\0" * 8), "makes no sense"),
    "a place without an end": (header(line(data_offsets=[0]), b"\0" * 8), "makes no sense"),
    "a place behind the file": (header(line(data_offsets=[0, 10**15]), b"\0" * 8), "cut short: 92 B of"),
    "numbers of an unknown type": (header(line(dtype="F3"), b"\0" * 8), "an unknown type (F3)"),
    "a deep header": (header(b'{"a":' + b"[" * 100_000), "table of contents cannot be read"),
    "a broken header": (header(b"{broken"), "table of contents cannot be read"),
    "a header in no encoding": (header(b'{"\xff": 1}'), "table of contents cannot be read"),
    "a header longer than the file": (struct.pack("<Q", 2**31) + b"{" + b"\0" * 100, "cut short"),
    "one strange tensor": (header(line(), b"\0" * 8), "another kind of model"),
    "empty": (b"", "is empty"),
    "zeros": (b"\0" * 5000, "neither a .safetensors nor"),
    "a web page": (b"<html><body>Please log in</body></html>", "a web page"),
    "a text": (b"password: 1234\n", "a text file"),
    "a pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
    "a number of a million digits": (header(b'{"a":' + b"9" * 10**6 + b"}"), "cannot be read"),
}

MANY = ",".join(f'"t{n}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for n in range(200_000))
CONTENTS = "table of contents larger than any model's"
CROWDED: dict[str, tuple[Callable[[], str], str]] = {
    "200 000 tensors": (lambda: "{" + MANY + "}", "more tensors than any model"),
    "200 000 tensors in other letters": (
        lambda: "{" + MANY.replace("_o", "_\\u006f") + "}",
        "more tensors than any model",
    ),
    "400 000 tensors": (lambda: "{" + MANY + "," + MANY + "}", CONTENTS),
    "a table of contents of 64 MB": (lambda: '{"a":"' + "x" * 2**26 + '"}', CONTENTS),
}


def crowded(content: Callable[[], str]) -> Callable[[Path], Path]:
    return lambda folder: written(header(content().encode()))(folder)


# --- sound files with wrong parts


def with_part(key: str, shape: tuple[int, ...]) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        save_tensors(tiny.ldm_state() | {key: torch.zeros(shape)}, folder / "a.safetensors")
        return folder / "a.safetensors"

    return make


UNET, VAE = "model.diffusion_model.", "first_stage_model."
TOKENS = "cond_stage_model.transformer.text_model.embeddings.token_embedding.weight"
SHAPES = {
    "input": (f"{UNET}input_blocks.0.0.weight", (5,), "unknown kind"),
    "VAE's output": (f"{VAE}decoder.conv_in.weight", (4,), "shapes that no such model has"),
    "VAE's input": (f"{VAE}encoder.conv_in.weight", (), "shapes that no such model has"),
    "words": (TOKENS, (5,), "shapes that no such"),
    "time": (f"{UNET}time_embed.0.weight", (3, 3), "time_embedding.linear_1.weight"),
    "output": (f"{UNET}out.2.weight", (1,), "conv_out.weight"),
}
FOUND_LATE = {"time", "output"}  # when the part is made: the rest of the file is read before, in every verb
LATE = (LOAD, CHECK_BASE, TRAIN_BASE)


def quantised(folder: Path) -> Path:
    path = folder / "a.safetensors"
    save_tensors({key: value.to(torch.int8) for key, value in tiny.ldm_state().items()}, path)
    return path


def broken_number(folder: Path) -> Path:
    path = sound.checkpoint_in(folder)
    state = dict(tiny.ldm_state()) | {f"{VAE}quant_conv.bias": torch.full((8,), torch.nan)}
    save_tensors(state, path)
    return path


CASES = rows("file", BASES, {name: (written(content), BASE, part) for name, (content, part) in FILES.items()})
CASES += rows(
    "file", (CHECK_BASE,), {name: (crowded(content), BASE, part) for name, (content, part) in CROWDED.items()}
)
for name, (key, shape, part) in SHAPES.items():
    verbs = LATE if name in FOUND_LATE else BASES
    CASES.append(Case(f"file: a wrong shape, {name}", with_part(key, shape), verbs, BASE, part))
CASES.append(Case("file: in whole numbers", quantised, BASES, BASE, "quantised to whole numbers"))
CASES.append(Case("file: a number that is none", broken_number, BASES, BASE, "holds invalid numbers"))
