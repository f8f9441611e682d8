"""Sets of uploaded pictures: `<data folder>/pictures/<set>/`, with each picture's caption beside it.

Uploads are never served as they came: pictures are shown as JPEGs that are made here.
"""

from __future__ import annotations

import contextlib
import os
import threading
import unicodedata
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...core.config.names import RESERVED
from ...core.data import captions, folder_scan, picture_entries
from ...core.errors import UserError
from ...core.messages.message import Message, beside, reason_of
from ...core.pictures import viewable
from ...core.system import files
from ..errors import Refusal
from . import image_decoding, set_about
from .edit_files import masks_beside, mend

TYPES = ("image/jpeg", "image/jpg", "image/pjpeg", "image/png", "image/webp", "image/bmp", "image/x-ms-bmp",
         "image/x-bmp", "image/heic", "image/heif", "image/avif", "image/tiff", "image/gif")  # fmt: skip
LARGEST = 50 * 2**20  # bytes of a picture
LARGEST_CAPTION = 64 * 1024  # bytes
MOST_PICTURES = 10_000  # in a set
MOST_SETS = 1000
PAGE = 1000  # pictures in an answer
SIZES = (64, 96, 128, 160, 192, 256, 384, 512, 768, 1024)  # longest sides of thumbnails, in pixels
LONGEST_NAME = 180  # bytes: file systems take 255, and temporary names are longer
SPARE = 256 * 2**20  # bytes that stay free on the disk
USED = ".used"  # a file in a set that runs were queued with: their pictures and captions stay as they are
ILLEGAL = str.maketrans(dict.fromkeys('<>:"|?*', "_"))  # on Windows; a colon even begins a hidden second content


def safe_name(name: str) -> str:
    """A name that every file system accepts and that cannot leave its folder. Raises a Refusal (422)."""
    text = unicodedata.normalize("NFC", name)
    hidden = any(unicodedata.category(letter) in ("Cc", "Cs") for letter in text)
    if hidden or set(text) & {"/", "\\"} or text.lstrip().startswith("."):
        raise Refusal(422, "upload.bad_name", "name", name=ascii(name[:80]))
    text = text.translate(ILLEGAL).strip().rstrip(". ")
    stem = unicodedata.normalize("NFKC", text.partition(".")[0]).rstrip()  # "nul .png" and "com¹" are devices, too
    if not text or RESERVED.fullmatch(stem):
        raise Refusal(422, "upload.bad_name_elsewhere", "name", name=ascii(name[:80]))
    if len(text.encode()) > LONGEST_NAME:
        raise Refusal(422, "upload.long_name", "name")
    return text


class PictureSets:
    """All sets in one folder, which need not exist; thread-safe."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.changing = threading.Lock()
        self._headers: OrderedDict[tuple, dict[str, Any]] = OrderedDict()  # what `look` found

    # --- looking ---

    def sets(self) -> list[dict[str, Any]]:
        """Each set with its name, its folder and its number of pictures, in natural order."""
        if not self.folder.is_dir():
            return []
        known = [path for path in self.folder.iterdir() if self._is_own(path)]
        return [
            {
                "name": path.name,
                "title": set_about.title(path),
                "folder": str(path),
                "count": len(folder_scan.without_masks(os.listdir(path))),
            }
            for path in sorted(known, key=captions.natural_key)
        ]

    def path(self, name: str) -> Path:
        """A set's folder. Raises a Refusal (404)."""
        path = self.folder / safe_name(name)
        if not self._is_own(path):
            raise Refusal(404, "upload.no_set", "set", name=repr(name[:80]))
        return path

    def find(self, name: str) -> Path:
        """A set's folder by its name, or by its title if only one has it. Raises a Refusal (404)."""
        called = [one["folder"] for one in self.sets() if name and name in (one["name"], one["title"])]
        if len(called) == 1:
            return Path(called[0])
        try:
            return self.path(name)
        except Refusal:
            raise Refusal(404, "sets.unknown", "set", name=repr(name[:80]), folder=str(self.folder)) from None

    def list(self, name: str, start: int = 0) -> dict[str, Any]:
        """One page of the set's pictures, in training order."""
        folder = self.path(name)
        self.settle(folder)
        return {
            "set": folder.name,
            "title": set_about.title(folder),
            "used": (folder / USED).exists(),
            **self.list_folder(folder, start),
        }

    def list_folder(self, folder: Path, start: int = 0) -> dict[str, Any]:
        """One page of the pictures in any folder and below. Raises a Refusal (422) if it cannot be read.

        "unread": how many more there are in formats that a copy converts.
        """
        left = folder_scan.LeftOut()
        with reading(folder):
            found = list(folder_scan.find_pictures(folder, left=left))
        shown = [
            {"name": item.path.relative_to(folder).as_posix(), **self._about(item.path), "mask": mask_stamp(item)}
            for item in found[start:][:PAGE]
        ]
        unread = sum(map(viewable.is_converted, left.unread))
        return {"folder": str(folder), "pictures": shown, "start": start, "count": len(found), "unread": unread}

    def picture(self, name: str, picture: str) -> Path:
        """A picture's file. Raises a Refusal (404)."""
        path = self.path(name) / safe_name(picture)
        if path.suffix.lower() not in picture_entries.EXTENSIONS or not path.is_file() or path.is_symlink():
            raise Refusal(404, "upload.no_picture", "name", name=repr(picture[:80]))
        return path

    def _is_own(self, path: Path) -> bool:
        """Whether the path is a folder right here, not a link to another place."""
        real, home = os.path.realpath(path), os.path.join(os.path.realpath(self.folder), path.name)
        at_home = os.path.normcase(real) == os.path.normcase(home)  # on Windows, names may be given in any case
        return path.is_dir() and at_home and not path.name.startswith(".")

    def _about(self, path: Path) -> dict[str, Any]:
        """{"width", "height", "caption", "problem", "stamp"} of a picture, from its header and its caption file."""
        try:
            stamp = path.stat()
            key = (path, stamp.st_mtime_ns, stamp.st_size)
            about = {**(self._headers.get(key) or image_decoding.look(path)), "stamp": stamp_of(path)}
        except OSError as error:
            return {"width": None, "height": None, "caption": None, **beside("problem", reason_of(error)), "stamp": ""}
        self._headers[key] = about
        while len(self._headers) > 2 * MOST_PICTURES:
            self._headers.popitem(last=False)
        try:
            return {**about, "caption": captions.read_caption(path, ".txt")}
        except (OSError, UnicodeDecodeError):
            problem = {} if about["problem"] else beside("problem", Message("upload.caption_unreadable"))
            return {**about, "caption": None, **problem}

    # --- changing ---

    def put(self, name: str, picture: str, data: bytes) -> dict[str, Any]:
        """Save a picture under safe names. Raises a Refusal if something is wrong with it."""
        set_name, file = safe_name(name), safe_name(picture)
        check_suffix(file)
        if len(data) > LARGEST:
            raise Refusal(413, "upload.large_picture", "picture", file=file, most=files.human_size(LARGEST))
        width, height = image_decoding.check_picture(file, data)
        with self.changing:
            folder = self.made(set_name)
            check_unused(folder)
            is_new = not (folder / file).exists()
            if is_new and sum(1 for _ in _pictures_in(folder)) >= MOST_PICTURES:
                raise Refusal(413, "upload.set_full", "set", most=MOST_PICTURES)
            self._write(folder / file, data)
        return {"set": set_name, "name": file, "folder": str(folder), "width": width, "height": height, "new": is_new}

    def put_caption(self, name: str, file: str, data: bytes, picture: str = "", stamp: str = "") -> dict[str, Any]:
        """Save a caption file, or remove it if empty. Raises a Refusal.

        picture, stamp: the picture that the caption was written for, as `list` gave it; it must still be the same.
        """
        set_name, file = safe_name(name), safe_name(file)
        if len(data) > LARGEST_CAPTION:
            raise Refusal(413, "upload.long_caption", "caption", most=files.human_size(LARGEST_CAPTION))
        try:
            text = captions.decoded(data).strip()
        except UnicodeDecodeError:
            raise Refusal(422, "upload.caption_not_utf8", "caption", file=file) from None
        with self.changing:
            if picture:
                check_shown(self.picture(name, picture), stamp)
            folder = self.made(set_name)
            check_unused(folder)
            if not text:
                (folder / file).unlink(missing_ok=True)
            elif not (folder / file).exists() and sum(1 for _ in os.scandir(folder)) >= 2 * MOST_PICTURES:
                raise Refusal(413, "upload.set_full_of_files", "set", most=2 * MOST_PICTURES)
            else:
                self._write(folder / file, text.encode() + b"\n")
        return {"set": set_name, "name": file, "folder": str(folder), "caption": " ".join(text.split()) or None}

    @contextlib.contextmanager
    def held(self, name: str) -> Iterator[Path]:
        """A set's folder, which nothing else changes meanwhile. Raises a Refusal for a set that runs were queued
        with."""
        folder = self.path(name)
        with self.changing:
            check_unused(folder)
            yield folder

    def write_text(self, path: Path, text: str) -> None:
        """Write a file of a set that is held; remove it if the text is empty."""
        if text:
            self._write(path, text.encode() + b"\n")
        else:
            path.unlink(missing_ok=True)

    def delete(self, name: str, picture: str | None = None, stamp: str = "") -> None:
        """Delete a whole set, or one picture with its caption, or one caption. Raises a Refusal (404).

        stamp: as `list` gave it; a different picture of that name is not deleted (409).
        """
        folder = self.path(name)
        with self.changing:
            if picture is None:
                files.remove(folder)
                return
            check_unused(folder)
            path = folder / safe_name(picture)
            if path.suffix.lower() not in (*picture_entries.EXTENSIONS, ".txt") or not (
                path.is_file() or path.is_symlink()
            ):
                raise Refusal(404, "upload.no_file", "name", name=repr(picture[:80]))
            check_shown(path, stamp)
            masks = masks_beside(path)
            path.unlink()
            if not any(other.stem == path.stem for other in _pictures_in(folder)):
                for name in (path.with_suffix(".txt").name, *masks):
                    (folder / name).unlink(missing_ok=True)

    def use(self, folder: Path) -> None:
        """Protect the set that is or contains this folder from changes; other folders are the user's own."""
        place = next((path for path in (folder, *folder.parents) if path.parent == self.folder), None)
        if place and self._is_own(place):
            self.settle(place)
            (place / USED).touch()

    def settle(self, folder: Path) -> None:
        """End what a kill cut short while a picture of this set was edited."""
        with self.changing, contextlib.suppress(UserError):  # a damaged history is told when somebody edits
            mend(folder)

    def made(self, name: str) -> Path:
        """A set's folder, made if it is new. Raises a Refusal."""
        path = self.folder / name
        if not path.exists():
            if self.folder.is_dir() and sum(1 for _ in self.folder.iterdir()) >= MOST_SETS:
                raise Refusal(413, "upload.too_many_sets", "set", most=MOST_SETS)
            path.mkdir(parents=True, exist_ok=True)
        if not self._is_own(path):
            raise Refusal(422, "upload.not_a_set", "set", name=repr(name))
        return path

    def _write(self, path: Path, data: bytes) -> None:
        if files.free_bytes(path.parent) < len(data) + SPARE:
            raise Refusal(507, "upload.disk_full", folder=str(path.parent))
        if path.is_dir():
            raise Refusal(422, "upload.is_folder", "name", name=repr(path.name))
        with files.replacing(path) as temporary:  # the rename replaces a link, and never follows it
            temporary.write_bytes(data)


@contextlib.contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Raise a Refusal (422) if the folder turns out to be unreadable."""
    try:
        yield
    except (OSError, ValueError) as error:
        known = repr(str(folder)[:200])
        raise Refusal(422, "pictures.folder_unreadable", "folder", folder=known, error=reason_of(error)) from None


def check_unused(folder: Path) -> None:
    if (folder / USED).exists():
        raise Refusal(409, "upload.set_in_use", "set", set=folder.name)


def fitting(size: int) -> int:
    """The smallest of SIZES that is not below `size`, so that browsers and caches see few sizes."""
    return next((known for known in SIZES if known >= size), SIZES[-1])


def stamp_of(path: Path) -> str:
    """A text that distinguishes a picture from another of the same name. Raises OSError."""
    about = path.stat()
    return f"{about.st_mtime_ns}-{about.st_size}"


def mask_stamp(found: folder_scan.Found) -> str:
    """The `stamp_of` of a picture's mask; "" if it has none."""
    if not found.mask:
        return ""
    try:
        return stamp_of(found.path.with_name(found.mask))
    except OSError:  # deleted meanwhile
        return ""


def check_shown(path: Path, stamp: str) -> None:
    """Raise a Refusal (409) if the page means a different picture than the one that is there; never without a stamp."""
    if stamp and stamp != stamp_of(path):
        raise Refusal(409, "upload.another_picture", "stamp", file=path.name)


def _pictures_in(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as items:
        for item in items:
            if os.path.splitext(item.name)[1].lower() in picture_entries.EXTENSIONS and not item.name.startswith("."):
                yield Path(item.path)


def check_suffix(file: str) -> None:
    if Path(file).suffix.lower() not in picture_entries.EXTENSIONS:
        raise Refusal(415, "upload.other_format", "name", name=repr(file[:80]), formats=picture_entries.FORMATS)
