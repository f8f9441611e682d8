"""Rows: folders of pictures, the pictures themselves, and what is written about them."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.data.concepts import Subjects
from dreambooth_ext.engine.data.dataset import Dataset
from dreambooth_ext.engine.pictures.picture_file import open_picture
from tests.bad_input import sound
from tests.bad_input.case import Case, Verb, rows
from tests.bad_input.rows.descriptions import put
from tests.bad_input.verbs import CHECK, CHECK_REQUEST, RUN_REQUEST, TRAIN, UPLOAD, config_of, inspected, worked

FOLDER = "instance_data_dir"
ALL = (CHECK, TRAIN, CHECK_REQUEST, RUN_REQUEST)


def with_folder(make: Callable[[Path], Path], **values: Any) -> Callable[[Path], dict[str, Any]]:
    """The good settings, with the folder that is made in an empty one."""

    def made(folder: Path) -> dict[str, Any]:
        given = sound.settings(folder)
        return given | {FOLDER: str(make(folder / "place"))} | values

    return made


def a_file(place: Path) -> Path:
    return put(place.with_name("file.jpg"), b"")


def without_pictures(place: Path) -> Path:
    (place / "folder.jpg").mkdir(parents=True)
    put(place / "a.gif", b"")
    return place


def without_a_word(place: Path) -> Path:
    for number in range(3):
        put(place / f"IMG_{number}.jpg", b"")
    return place


def described(content: bytes | int, name: str = "sksper (0).txt") -> Callable[[Path], Path]:
    def make(place: Path) -> Path:
        put(sound.empty_pictures(place, 1) / name, content)
        return place

    return make


def caption_folder(place: Path) -> Path:
    (sound.empty_pictures(place, 1) / "sksper (0).txt").mkdir()
    return place


def of_class(make: Callable[[Path, dict[str, Any]], str]) -> Callable[[Path], dict[str, Any]]:
    def made(folder: Path) -> dict[str, Any]:
        given = sound.settings(folder) | {"class_prompt": "a photo of a person"}
        return given | {"class_data_dir": make(folder, given)}

    return made


CYRILLIC, CUT = "кот в шляпе".encode("cp1251"), "кот".encode("utf-16") + b"\0"
LETTERS = "a cat on grass".encode("utf-16-le")
NOT_TEXT = "not UTF-8 text: sksper (0).txt"
FOLDERS = {
    "a file": (with_folder(a_file), FOLDER, "is a file"),
    "no pictures": (with_folder(without_pictures), FOLDER, "there are no pictures"),
    "no word": (with_folder(without_a_word, instance_prompt="  "), "instance_prompt", "IMG_0.jpg"),
    "a class that is a file": (
        of_class(lambda folder, _: str(a_file(folder / "file"))),
        "class_data_dir",
        "is a file",
    ),
    "a class of one's own pictures": (of_class(lambda _, given: given[FOLDER]), "class_data_dir", "your own pictures"),
}
CAPTIONS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "of Windows": (described(CYRILLIC), NOT_TEXT),
    "in UTF-16, cut short": (described(CUT), NOT_TEXT),
    "in UTF-16 without its mark": (described(LETTERS), NOT_TEXT),
    "of zeros": (described(b"\0" * 20), NOT_TEXT),
    "that is a folder": (caption_folder, "cannot be read (1): sksper (0).txt"),
    "of gigabytes": (described(2**32), "it has more than 64 KB"),
}


# --- pictures


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 3600 million pixels."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 10**6)) + chunk(b"IEND", b"")


def progressive() -> bytes:
    """A JPEG whose last pass comes five thousand times."""
    stream = io.BytesIO()
    Image.effect_noise((64, 64), 50).save(stream, "JPEG", progressive=True)
    content = stream.getvalue()
    last = content.rindex(b"\xff\xda")
    return content[:last] + content[last:-2] * 5000 + content[-2:]


def wrong_sum() -> bytes:
    return sound.encoded("PNG")[:60] + b"....." + sound.encoded("PNG")[65:]


BROKEN: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"\xff",
    "HTML": lambda: b"<!DOCTYPE html><html><body>404</body></html>",
    "text": lambda: b"this is no picture",
    "a JPG cut early": lambda: sound.encoded("JPEG")[:300],
    "a JPG cut late": lambda: sound.encoded("JPEG")[:-300],
    "a PNG cut short": lambda: sound.encoded("PNG")[:200],
    "a PNG with a wrong sum": wrong_sum,
    "a WebP without data": lambda: b"RIFF\x20\0\0\0WEBPVP8 " + b"\0" * 20,
    "a BMP of zeros": lambda: b"BM" + b"\0" * 60,
    "a decompression bomb": bomb,
    "a JPG of passes": progressive,
    "a GIF": lambda: sound.encoded("GIF"),
    "a TIFF": lambda: sound.encoded("TIFF"),
    "PostScript, which Pillow would run": lambda: b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) print\n",
    "an SVG": lambda: b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    "a PDF": lambda: b"%PDF-1.7\n",
    "a zip": lambda: b"PK\x03\x04" + b"\0" * 40,
}


def alone(content: Callable[[], bytes]) -> Callable[[Path], Path]:
    return lambda folder: put(folder / "плохая (1).jpg", content())


def picture_config(folder: Path) -> RunConfig:
    return RunConfig(
        instance_data_dir=str(folder), instance_prompt="sksper", resolution=64, cache_latents=False, max_train_steps=1
    )


def _encoded(path: Path, folder: Path) -> None:
    config = picture_config(path.parent)
    Dataset(config, Subjects.of(config), picture_entries.entries(config)[0], 1.0).encode(None)


OPEN = Verb("open", lambda path, folder: open_picture(path))
ENCODE = Verb("encode", _encoded)
CHECK_PICTURES = Verb("check", lambda path, folder: inspected(config_of(instance_data_dir=str(path.parent)), folder))
TRAIN_PICTURES = Verb("train", lambda path, folder: worked(config_of(instance_data_dir=str(path.parent)), folder))


CASES = rows("pictures", ALL, FOLDERS)
CASES += rows(
    "caption",
    ALL,
    {
        name: (with_folder(make, use_captions=True), "caption_extension", part)
        for name, (make, part) in CAPTIONS.items()
    },
)
for name, content in BROKEN.items():
    CASES.append(Case(f"picture: {name}", alone(content), (OPEN,), FOLDER, "плохая (1).jpg"))
    only = (ENCODE, CHECK_PICTURES, TRAIN_PICTURES)
    CASES.append(Case(f"pictures, only: {name}", alone(content), only, FOLDER, "none of these pictures can be read"))
    CASES.append(Case(f"upload: {name}", alone(content), (UPLOAD,), "picture", "плохая (1).jpg"))
