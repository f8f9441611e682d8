"""Files that were made to hang their reader or to fill its memory: each is refused in a sentence, and soon."""

from __future__ import annotations

import base64
import io
import json
import os
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, PngImagePlugin
from transformers import CLIPTokenizer

from dreambooth_ext import bundles, checks, kohya_dataset, metadata_files, pictures, templates
from dreambooth_ext.commands import settings
from dreambooth_ext.config import RunConfig
from dreambooth_ext.engine import embedding_file, emphasis, hypernetwork_file, network_file
from dreambooth_ext.engine.architecture import TOKENIZER
from dreambooth_ext.engine.base import open_base
from dreambooth_ext.engine.images import open_picture
from dreambooth_ext.engine.pixel_base import open_pixels, read_config
from dreambooth_ext.engine.text import TextStack
from dreambooth_ext.errors import Problem, UserError
from dreambooth_ext.host import decoding, imports, presets
from dreambooth_ext.parsing import parse
from tests import tiny, training

SECONDS = 5.0  # of work, whatever else the machine does
PATIENCE = 60.0  # for one that waits for ever

Reader = Callable[[Path], Any]  # of a folder; raises UserError, or returns problems


def refused(read: Reader, folder: Path) -> list[Problem]:
    """What is said of a file, by a reader that takes its time; it runs aside, for it might never end."""
    found: list[Any] = []

    def work() -> None:
        try:
            value = read(folder)
        except UserError as error:
            value = [error.problem]
        except BaseException as error:
            value = error
        found.extend((value, time.thread_time()))

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert found, "it hangs"
    value, seconds = found
    if isinstance(value, BaseException):
        raise value
    assert seconds < SECONDS
    return value


def check(problems: list[Problem], part: str) -> None:
    assert problems, "nothing is said"
    text = " ".join(map(str, problems))
    assert part in text and len(text) < 2000, text
    assert problems[0].remedy, text


# --- pickles


def laughing(end: bytes) -> bytes:
    """Sixty tuples, each of twice the one before; `end` uses the last."""
    text = b"\x80\x02)q\x00"
    for number in range(60):
        text += b"h%ch%c\x86q%c" % (number, number, number + 1)
    return text + end


def text_of(content: bytes) -> bytes:
    return b"X" + struct.pack("<I", len(content)) + content


PICKLES = {
    "a key that grows": (laughing(b"}h\x3cK\x01s."), "a key is no short name"),
    "a value that grows": (laughing(b"."), "grows beyond all models"),
    "a text that grows": (laughing(b"cbuiltins\nstr\nh\x3c\x85R."), "wants to run str"),
    "a set that grows": (laughing(b"cbuiltins\nset\nh\x3c\x85R."), "a key is no short name"),
    "a function that grows": (laughing(b"h\x3c)R."), "wants to run tuple"),
    "few bytes copied for ever": (
        b"\x80\x02" + text_of(b"a" * 10**6) + b"q\x000(c_codecs\nencode\nq\x01" + b"h\x01h\x00\x85R" * 10**5 + b"t.",
        "grows beyond all models",
    ),
    "a list in itself": (b"\x80\x02]q\x00h\x00a.", "nested too deeply"),
    "half a million lists in each other": (b"\x80\x02" + b"]" * 400_000 + b"a" * 399_999 + b".", "nested too deeply"),
    "a long key": (b"\x80\x02" + text_of(b"a" * 10**6) + b"q\x00}h\x00Ns.", "a key is no short name"),
    "a huge number as a key": (
        b"\x80\x02\x8b" + struct.pack("<I", 10**6) + b"\x7f" * 10**6 + b"q\x00}h\x00Ns.",
        "a key",
    ),
    "a number in letters": (b"\x80\x02I" + b"9" * 10**6 + b"\n.", "step b'I'"),
    "millions of steps": (b"\x80\x02" + b"N" * 15_000_000 + b".", "steps to read"),
    "400 MB of steps": (b"\x80\x02" + b"N0" * 200_000_000 + b".", "larger than any model's"),
    "a terabyte reserved": (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".", "which PyTorch does not write"),
}


def archive(path: Path, content: bytes) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("archive/data.pkl", content)
        file.writestr("archive/version", "3")
    return path


@pytest.mark.parametrize("name", PICKLES)
def test_pickles(tmp_path, name):
    content, part = PICKLES[name]
    path = archive(tmp_path / "a.ckpt", content)
    assert path.stat().st_size < 2 * 10**6
    check(refused(lambda _: open_base(path), tmp_path), part)
    if len(content) < 10**6:  # the layout of old files, which is not packed
        path.write_bytes(b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02K\x01.\x80\x02}." + content)
        check(refused(lambda _: open_base(path), tmp_path), part)


def test_an_archive_of_very_many_members(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.ckpt", "w") as file:
        for number in range(100_000):
            file.writestr(f"archive/data/{number}", b"")
    check(refused(lambda folder: open_base(folder / "a.ckpt"), tmp_path), "larger than any model's")


def test_one_tensor_under_very_many_names(tmp_path):
    """A pickle says that in a few bytes each."""
    made = {f"k{number}": torch.ones(1) for number in range(2)} | dict.fromkeys(map(str, range(200_000)), torch.ones(1))
    torch.save({"state_dict": made}, tmp_path / "a.ckpt")
    for read in (open_base, lambda path: network_file.shapes(path, "network_weights")):
        check(refused(lambda folder, read=read: read(folder / "a.ckpt"), tmp_path), "more tensors than any model")


def test_a_tensor_larger_than_its_numbers(tmp_path):
    torch.save({"state_dict": {"w": torch.ones(1).expand(2**20, 2**20)}}, tmp_path / "a.ckpt")
    check(refused(lambda folder: open_base(folder / "a.ckpt"), tmp_path), "more numbers than there are")


# --- everything else that is read; each writes its file into the folder


def put(path: Path, content: str | bytes | int) -> Path:
    """Write a file; a number makes one of so many zeros, that takes no room."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, int):
        with path.open("wb") as file:
            file.truncate(content)
    else:
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def header(content: str) -> bytes:
    return struct.pack("<Q", len(content)) + content.encode()


def base_of(content: bytes) -> Reader:
    return lambda folder: open_base(put(folder / "a.safetensors", content))


def beside(content: str | bytes | int | tuple[str, str]) -> Reader:
    """A checkpoint with this yaml; a pair changes a sound one."""

    def read(folder: Path) -> None:
        path = tiny.single_file(folder)
        sidecar = path.with_suffix(".yaml")
        text = sidecar.read_text(encoding="utf-8")
        if isinstance(content, tuple):
            assert content[0] in text
        put(sidecar, text.replace(*content) if isinstance(content, tuple) else content)
        open_base(path)

    return read


def part(inner: str, content: int | dict[str, Any]) -> Reader:
    """A diffusers folder with these values in a file, or a file of so many zeros."""

    def read(folder: Path) -> None:
        base = tiny.diffusers_folder(folder)
        path = base / inner
        known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        put(path, content if isinstance(content, int) else json.dumps({**known, **content}))
        if inner.startswith("tokenizer"):
            put(path.with_name("merges.txt"), "")
        open_base(base).tokenizers()

    return read


def sharded(folder: Path) -> None:
    base = tiny.diffusers_folder(folder)
    weights = base / "unet" / "diffusion_pytorch_model.safetensors"
    weights.rename(folder / "elsewhere.safetensors")
    put(weights.with_name(f"{weights.name}.index.json"), '{"weight_map": {"a": "../../elsewhere.safetensors"}}')
    open_base(base)


def with_pictures(folder: Path, **values: Any) -> list[Problem]:
    given = {"instance_data_dir": training.pictures(folder / "pictures"), "instance_prompt": "sksper", **values}
    return pictures.entries(RunConfig(use_captions=True, **given))[1]


def captioned(content: int) -> Reader:
    def read(folder: Path) -> list[Problem]:
        put(folder / "pictures" / "sksper (1).txt", content)
        return with_pictures(folder)

    return read


def listed(name: str, content: str | int) -> Reader:
    def read(folder: Path) -> list[Problem]:
        put(folder / "pictures" / name, content)
        return with_pictures(folder)

    return read


def data_set(content: str | int, name: str = "a.toml") -> Reader:
    return lambda folder: kohya_dataset.read(str(put(folder / name, content))).problems


def imported(text: str) -> Reader:
    return lambda folder: imports.read(text)


def preset(content: int) -> Reader:
    return lambda folder: problem_of(presets.read_file(put(folder / "a.json", content)))


def problem_of(found: presets.Preset) -> list[Problem]:
    return [Problem("preset", found.problem, "-")] if found.problem else []


def progressive(folder: Path) -> None:
    """A JPEG whose last pass comes five thousand times."""
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content.rindex(b"\xff\xda")
    open_picture(put(folder / "a.jpg", content[:last] + content[last:-2] * 5000 + content[-2:]))


def carrying(text: str, size: tuple[int, int] = (8, 8)) -> Reader:
    """A picture that carries an embedding."""

    def read(folder: Path) -> None:
        info = PngImagePlugin.PngInfo()
        info.add_text(embedding_file.PNG_KEY, text)
        Image.new("1", size).save(folder / "a.png", pnginfo=info)
        embedding_file.read(folder / "a.png", "embedding_weights")

    return read


def coded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def unknown_settings(folder: Path) -> list[Problem]:
    return parse({f"setting_{number}": 1 for number in range(40_000)})[1][:3]


MANY = ",".join(f'"t{n}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}' for n in range(200_000))
DOTTED = ".".join("a" * 50_000) + " = 1\n"
ALIASES = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 60))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
DEEP = "[" * 100_000

OTHERS: dict[str, tuple[Reader, str]] = {
    "200 000 tensors": (base_of(header("{" + MANY + "}")), "more tensors than any model"),
    "200 000 tensors in other letters": (
        base_of(header("{" + MANY.replace("_o", "_\\u006f") + "}")),
        "more tensors than any model",
    ),
    "400 000 tensors": (base_of(header("{" + MANY + "," + MANY + "}")), "table of contents larger than any model's"),
    "a table of contents of 64 MB": (
        base_of(header('{"a":"' + "x" * 2**26 + '"}')),
        "table of contents larger than any model's",
    ),
    "a number of a million digits": (base_of(header('{"a":' + "9" * 10**6 + "}")), "cannot be read"),
    "a yaml of 20 MB": (beside("a: " + "x " * 10**7), "it has more than 64 KB"),
    "a yaml of one text": (beside("a: " + "x " * 30_000), "has no model.params"),
    "a yaml of many keys": (beside("".join(f"k{n}: 1\n" for n in range(7000))), "has no model.params"),
    "a deep yaml": (beside("[" * 60_000), "is n"),
    "a yaml that grows": (beside(ALIASES), "refers to other places"),
    "a yaml that merges": (beside(MERGES), "refers to other places"),
    "a yaml without a number": (beside(("linear_start: 0.00085", "linear_start: .nan")), "linear_start is nan"),
    "an infinite yaml": (beside(("scale_factor: 0.18215", "scale_factor: .inf")), "scale_factor is inf"),
    "a yaml of a billion timesteps": (beside(("timesteps: 1000", "timesteps: 1000000000000")), "timesteps is 1e+12"),
    "a yaml of no timesteps": (beside(("timesteps: 1000", "timesteps: 0")), "timesteps is 0"),
    "a yaml of texts times numbers": (beside(("ch: 32", "ch: aaaaaa")), "configuration"),
    "a config.json of a gigabyte": (part("unet/config.json", 2**30), "it has more than 1.0 MB"),
    "a billion layers": (part("unet/config.json", {"layers_per_block": 10**9}), "layers_per_block is 1e+09"),
    "layers of words": (part("text_encoder/config.json", {"num_hidden_layers": 10**6}), "num_hidden_layers is"),
    "a billion timesteps": (part("scheduler/scheduler_config.json", {"num_train_timesteps": 10**9}), "timesteps is"),
    "a NaN": (part("vae/config.json", {"scaling_factor": float("nan")}), "scaling_factor is nan"),
    "an endless vocabulary": (part("tokenizer/vocab.json", 2**30), "it has more than 16.0 MB"),
    "weights elsewhere": (sharded, "lies outside of the folder"),
    "a caption of gigabytes": (captioned(2**32), "it has more than 64 KB"),
    "a jsonl of gigabytes": (listed("metadata.jsonl", 2**32), "it has more than 128.0 MB"),
    "a jsonl of one line": (listed("metadata.jsonl", '{"file_name": "' + "x" * 10**7), "is no JSON"),
    "a jsonl of very many lines": (
        listed("metadata.jsonl", '{"file_name": "x", "text": "y"}\n' * 300_000),
        "not all of its lines were read, only 250000",
    ),
    "a jsonl of a million bad lines": (listed("metadata.jsonl", "{}\n" * 10**6), "not all of its lines were read"),
    "a deep jsonl": (listed("metadata.jsonl", DEEP + "\n"), "nested too deeply"),
    "a deep meta_cap.json": (listed("meta_cap.json", DEEP), "nested too deeply"),
    "a dotted data set": (data_set(DOTTED), "a key has more than 16 parts"),
    "a dotted table": (data_set("[" + ".".join("a" * 50_000) + "]\n"), "a key has more than 16 parts"),
    "a dotted inline table": (data_set("x = {" + DOTTED.strip() + "}"), "a key has more than 16 parts"),
    "dots behind texts": (data_set('x = """\n\\"""\n""" # "\n' + DOTTED), "a key has more than 16 parts"),
    "dots in texts": (data_set('"a"' + ".'a'" * 50_000 + " = 1"), "a key has more than 16 parts"),
    "a TOML of texts that never end": (data_set('"""\n' + '\\"""\n' * 40_000 + "\\"), "cannot be understood"),
    "a deep data set": (data_set("a = " + DEEP), "cannot be understood"),
    "a deep data set in JSON": (data_set(DEEP, "a.json"), "cannot be understood"),
    "a data set of gigabytes": (data_set(2**32), "it has more than 1.0 MB"),
    "a data set of strange names": (
        lambda folder: data_set("[general]\n" + "".join(f"resolutoin{n} = 1\n" for n in range(40_000)))(folder)[:3],
        "is not known",
    ),
    "a dotted import": (imported(".".join("a" * 20_000) + " = 1"), "a key has more than 16 parts"),
    "many dots in an import": (imported("".join(f"k{n}.a.b.c.d.e = 1\n" for n in range(10_000))), "any configuration"),
    "a deep import": (imported('{"a":' + DEEP), "nested too deeply"),
    "a wide import": (imported('{"unet_lr": 1, "a": [' + "1," * 100_000 + "1]}"), "more values than any configuration"),
    "a prompt template of a gigabyte": (
        lambda folder: templates.lines(RunConfig(prompt_template=str(put(folder / "a.txt", 2**30))))[1],
        "too large",
    ),
    "a config of gigabytes": (lambda folder: settings._read_file(put(folder / "a.json", 2**32)), "has more than"),
    "a deep config": (lambda folder: settings._read_file(put(folder / "a.json", DEEP)), "nested too deeply"),
    "a model_config of gigabytes": (lambda folder: read_config(put(folder / "a.json", 2**32)), "1.0 MB"),
    "a model_config of a billion layers": (
        lambda folder: open_pixels(
            RunConfig(
                method="unconditional",
                model_config=str(tiny.pixel_config(folder, layers_per_block=10**9)),
                base_model="",
            )
        ),
        "layers_per_block is 1e+09",
    ),
    "a preset of gigabytes": (preset(2**32), "too large"),
    "a picture of passes": (progressive, "more passes than any picture"),
    "an embedding of numbers": (carrying(coded('{"TORCHTENSOR": [' + "1," * 4_000_000 + "1]}")), "is damaged"),
    "an embedding of a huge number": (carrying(coded('{"TORCHTENSOR": [' + "9" * 400 + "]}")), "is damaged"),
    "an embedding in a huge picture": (carrying("", (60_000, 5000)), "is damaged"),
    "subjects by the thousand": (lambda folder: parse({"concepts": [{}] * 200_000})[1], "more subjects than any run"),
    "a TOML number of digits": (data_set("a = " + "9" * 10**6), "a number has more than 1000 digits"),
    "settings that nobody knows": (unknown_settings, "there is no setting of this name"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_hostile_file_is_refused_soon(tmp_path, name):
    read, said = OTHERS[name]
    check(refused(read, tmp_path), said)


def test_spaces_in_an_imported_name_take_no_time(tmp_path):
    text = json.dumps({"pretrained_model_name_or_path": "a" + " " * 200_000 + "b", "unet_lr": 1e-4, "network_dim": 4})
    assert refused(lambda _: [Problem("", imports.read(text).source, "")], tmp_path)


def test_a_word_without_end_takes_no_time():
    """The tokenizer's work goes by the square of a word's length."""
    tokenizer = CLIPTokenizer(*(str(TOKENIZER / name) for name in ("vocab.json", "merges.txt")))
    stack = TextStack([tokenizer], [torch.nn.Identity()], max_tokens=75)
    word = "".join(chr(97 + 7 * number**2 % 26) for number in range(60_000))
    assert "is cut to 75" in refused(lambda _: stack.cuts([word]), Path())[0]
    assert stack.tokens([word]).shape == (1, 1, 77)
    for prompt in ("a photo of sksper", "x" * 200, "x" * 201, "一" * 300):
        assert stack.count(prompt) == len(tokenizer(prompt, add_special_tokens=False).input_ids) + (prompt == "x" * 201)


@pytest.mark.parametrize(
    "content", ['[1, "bundle_emb.x"]', '"bundle_emb."', '{"bundle_emb.x.y":' + "[" * 10**5, "{" + MANY[:-1]]
)
def test_words_of_a_lora_that_is_none(tmp_path, content):
    path = put(tmp_path / "a.safetensors", header(content.replace('"t1"', '"bundle_emb.x.y"')))
    assert refused(lambda _: [bundles.words(str(path))], tmp_path) == [[]]


@pytest.mark.parametrize("text", ["(a", "a(", "\\(", "(a:1.1)", "a BREAK ", "[", "a)", " " * 9 + "b"])
def test_a_prompt_of_brackets_takes_no_time(text):
    assert refused(lambda _: emphasis.parse(text * (100_000 // len(text))), Path())


def test_an_upload_of_passes(tmp_path):
    with pytest.raises(UserError) as caught:
        progressive(tmp_path)
    assert refused(lambda _: decoding.check("a.jpg", (tmp_path / "a.jpg").read_bytes()), tmp_path)
    assert refused(lambda _: decoding.draw(tmp_path / "a.jpg", 64), tmp_path)
    assert "more passes" in str(caught.value)


def test_a_video_behind_a_jpeg_counts_no_passes(tmp_path):
    """Telephones' moving pictures; and thumbnails are pictures in a picture."""
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG", progressive=True)
    content = stream.getvalue() + b"\xff\xda" * 1000
    assert open_picture(put(tmp_path / "a.jpg", content)).size == (64, 64)
    assert decoding.check("a.jpg", content) == (64, 64)


def test_folders_in_folders_without_end(tmp_path):
    folder = tmp_path / "/".join("a" * 200)
    folder.mkdir(parents=True)
    assert "deep in each other" in str(with_pictures(tmp_path, instance_data_dir=str(tmp_path))[0])


# --- what is no file at all


@pytest.fixture(params=["pipe", "device", "socket"])
def endless(request, tmp_path_factory) -> Iterator[Path]:
    if os.name == "nt":
        yield Path("NUL")
        return
    path = tmp_path_factory.mktemp("e") / "a"  # a socket's path is short
    if request.param == "pipe":
        os.mkfifo(path)
        yield path
    elif request.param == "device":
        yield Path("/dev/zero")
    else:
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
            yield path


def linked(path: Path, target: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def described(path: Path) -> list[Problem]:
    """Where kohya's data set names it as its metadata."""
    found = metadata_files.Metadata()
    metadata_files.read_file(str(path), str(path.parent), "text", found)
    return found.problems


def picture_among(path: Path) -> list[Problem]:
    with pytest.raises(UserError) as caught:
        open_picture(linked(path.with_name("a.jpg"), path))
    return [caught.value.problem]


PIPES: dict[str, Callable[[Path], Any]] = {
    "base": open_base,
    "base_model": lambda path: checks.check(RunConfig(base_model=str(path)))[3] and open_base(path),
    "LoRA": lambda path: network_file.shapes(path, "network_weights"),
    "embedding": lambda path: embedding_file.read(path, "embedding_weights"),
    "hypernetwork": lambda path: hypernetwork_file.read(path, "hypernetwork_weights"),
    "picture": open_picture,
    "config": settings._read_file,
    "data set": lambda path: kohya_dataset.read(str(path)).problems,
    "metadata": described,
    "prompt template": lambda path: templates.lines(RunConfig(prompt_template=str(path)))[1],
    "model_config": read_config,
    "preset": lambda path: problem_of(presets.read_file(path)),
    "thumbnail": lambda path: [Problem("picture", decoding.look(path)["problem"], "-")],
}


@pytest.mark.parametrize("kind", PIPES)
def test_what_is_no_file(endless, kind):
    check(
        refused(lambda _: PIPES[kind](endless), endless), "device or a pipe" if kind != "prompt template" else "no file"
    )


@pytest.mark.skipif(os.name == "nt", reason="links and devices of POSIX")
def test_what_is_no_file_beside_pictures_and_models(endless, tmp_path):
    """A caption, a metadata file and a yaml that are none: the first is told, the others do not count."""
    linked(tmp_path / "pictures" / "sksper (1).txt", endless)
    linked(tmp_path / "pictures" / "metadata.jsonl", endless)
    check(refused(with_pictures, tmp_path), "device or a pipe")
    path = tiny.single_file(tmp_path, "sd2", sidecar=False)
    linked(path.with_suffix(".yaml"), endless)
    assert refused(lambda _: [open_base(path).name], tmp_path) == [path.stem]
