"""Lists the pictures in folders in natural order, fast enough for hundreds of thousands of files."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..messages.message import Message
from .captions import natural_key

EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".webp", ".bmp"})
FORMATS = "JPG, PNG, WebP, BMP"
# Pictures that nothing here reads: other programs', phones' and cameras'
OTHER_FORMATS = frozenset(
    {
        *(".gif", ".tif", ".tiff", ".avif", ".heic", ".heif", ".jxl", ".jp2", ".tga", ".psd"),
        *(".dng", ".cr2", ".cr3", ".nef", ".arw"),
    }
)
# Folders in which systems and network storage keep thumbnails, deleted and earlier files; those with a dot are hidden
NO_FOLDERS = frozenset(
    {
        *("__macosx", "@eadir", "#recycle", "#snapshot", "@recycle", "@recently-snapshot", "@tmp", "$recycle.bin"),
        *("recycler", "system volume information", "lost+found"),
    }
)
MASKS = ("-masklabel", "_mask")  # ends of names: OneTrainer's, and usual; the first counts where there are several
CONDITIONS = ("-condlabel",)  # OneTrainer's: pictures for another purpose, which nothing here reads
TEXTS = (".txt", ".caption", ".captions", ".cap", ".text", ".tags", ".tag", ".prompt")  # endings that captions have
DEEPEST = 100
MOST_FILES = 250_000  # in a folder and below; more are a whole disk that was named by mistake


@dataclass
class LeftOut:
    """Names of files that look like pictures but are not trained on."""

    unread: list[str] = field(default_factory=list)  # OTHER_FORMATS
    found: list[Found] = field(default_factory=list)  # the same with what is around them
    masks: list[str] = field(default_factory=list)  # of a picture beside them: its `Found.mask`
    others: list[str] = field(default_factory=list)  # further masks of it, and CONDITIONS

    def __bool__(self) -> bool:
        return bool(self.unread or self.masks or self.others)


@dataclass(frozen=True)
class Found:
    """One picture file, with the other names in its folder."""

    folder: str
    name: str
    parts: tuple[str, ...]  # the folders on the way here from the one that was asked for
    others: Mapping[str, str]  # what else is in the folder, captions among it: `_key` -> name
    mask: str = ""  # the name of its mask in the folder; "" if there is none

    @property
    def top(self) -> str:
        """The folder directly below the scanned one that holds the picture; "" for the scanned folder itself."""
        return self.parts[0] if self.parts else ""

    @property
    def full_name(self) -> str:
        return os.path.join(self.folder, self.name)

    @property
    def path(self) -> Path:
        return Path(self.full_name)

    def caption_file(self, extension: str) -> str:
        """The path of the picture's caption file, whose ending may be in upper case; "" if there is none."""
        name = self.others.get(_key(f"{os.path.splitext(self.name)[0]}.{extension.lstrip('.')}"))
        return os.path.join(self.folder, name) if name else ""

    def texts(self, without: str) -> list[str]:
        """Endings of files that may hold the picture's caption: ".caption" for "a.caption", ".png.txt" for "a.png.txt".
        `without`: the ending that captions should have."""
        if not self.others:
            return []
        stem, ending = os.path.splitext(self.name)
        known = [beside + text for text in TEXTS for beside in ("", ending)]
        usual = "." + without.lstrip(".").lower()
        return [text for text in known if text.lower() != usual and _key(stem + text) in self.others]


def list_pictures(folder: Path, without: Iterable[Path] = ()) -> list[Path]:
    """All pictures in `folder` and below, in natural order, without hidden files, the WebUI's previews, and masks of
    other pictures.

    Folders in `without` (other concepts' and class folders inside it) are left out. Linked folders are followed, each
    once. Raises OSError for a folder that cannot be read, or that holds more than MOST_FILES files of any kind.
    """
    return [found.path for found in find_pictures(folder, without)]


def find_pictures(
    folder: Path, without: Iterable[Path] = (), nested: bool = True, left: LeftOut | None = None
) -> Iterator[Found]:
    """The pictures of `list_pictures`, each with the names around it. `nested`: include subfolders. `left` collects
    what is left out."""
    seen = {os.path.realpath(path) for path in without}
    return _walk(str(folder), (), seen, itertools.count(1), nested, LeftOut() if left is None else left)


def _walk(
    folder: str, parts: tuple[str, ...], seen: set[str], count: Iterator[int], nested: bool, left: LeftOut
) -> Iterator[Found]:
    seen.add(os.path.realpath(folder))
    if len(parts) > DEEPEST:
        raise OSError(Message("pictures.folders_too_deep", most=DEEPEST))
    folders: list[str] = []
    pictures: list[str] = []
    unread: list[str] = []
    others: dict[str, str] = {}
    with os.scandir(folder) as items:
        for item in items:
            if next(count) > MOST_FILES:
                raise OSError(Message("pictures.too_many_files", most=MOST_FILES))
            name = item.name
            if name[0] == ".":
                continue
            if item.is_dir():
                _add(others, name)  # one that is called like a caption file is no caption
                if nested and name.lower() not in NO_FOLDERS:
                    folders.append(name)
            elif is_picture(name):
                pictures.append(name)
            else:
                _add(others, name)
                if os.path.splitext(name)[1].lower() in OTHER_FORMATS:
                    unread.append(name)
    marked = _marked(pictures, unread)
    masks = _masks(marked)
    left.unread += unread
    left.found += [Found(folder, name, parts, others, masks.get(os.path.splitext(name)[0], "")) for name in unread]
    left.masks += masks.values()
    left.others += marked.keys() - masks.values()
    inside = [(natural_key(name), name, False) for name in pictures if name not in marked]
    for _, name, is_folder in sorted([*inside, *((natural_key(name), name, True) for name in folders)]):
        if not is_folder:
            yield Found(folder, name, parts, others, masks.get(os.path.splitext(name)[0], ""))
        elif os.path.realpath(path := os.path.join(folder, name)) not in seen:
            yield from _walk(path, (*parts, name), seen, count, nested, left)


def _add(others: dict[str, str], name: str) -> None:
    key = _key(name)
    if key not in others or name.endswith(os.path.splitext(key)[1]):  # "a.txt" before "a.TXT"
        others[key] = name


def _key(name: str) -> str:
    """The key of a name in `Found.others`: its ending in lower case, even on systems that tell case apart."""
    stem, ending = os.path.splitext(os.path.normcase(name))
    return stem + ending.lower()


def _marked(names: list[str], unread: list[str]) -> dict[str, tuple[str, str]]:
    """The names that mark other pictures, each with the stem of its picture and the mark: "a-masklabel.png" beside
    "a.jpg", or beside an unread "a.heic"."""
    stems = {name: os.path.splitext(name)[0] for name in names}
    known = {*stems.values(), *(os.path.splitext(name)[0] for name in unread)}
    return {
        name: (stem[: -len(end)], end)
        for name, stem in stems.items()
        for end in (*MASKS, *CONDITIONS)
        if stem.lower().endswith(end) and stem[: -len(end)] in known
    }


def without_masks(names: Iterable[str]) -> list[str]:
    """Of the names in one folder, those of pictures that `find_pictures` finds there."""
    pictures = [name for name in names if is_picture(name) and not name.startswith(".")]
    marked = _marked(pictures, [])
    return [name for name in pictures if name not in marked]


def _masks(marked: Mapping[str, tuple[str, str]]) -> dict[str, str]:
    """The mask for each stem that has one."""
    masks = sorted((MASKS.index(end), name, stem) for name, (stem, end) in marked.items() if end in MASKS)
    return {stem: name for _, name, stem in reversed(masks)}


def is_picture(name: str) -> bool:
    stem, suffix = os.path.splitext(name)
    return suffix.lower() in EXTENSIONS and not stem.lower().endswith(".preview")
