"""One picture to train on, with its captions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .folder_scan import LeftOut


@dataclass(frozen=True)
class Entry:
    """One picture with the captions that it is trained with."""

    path: Path
    caption: str
    concept: int  # index into `Subjects.concepts`
    is_class: bool = False
    repeats: int = 1  # how often it comes up in an epoch
    identifier: str = ""  # what its file name calls the subject; "" where it says nothing
    others: tuple[str, ...] = ()  # further captions; each time, one of all is drawn
    folder: str = ""  # the folder directly below the concept's in which it lies; "" in that itself
    is_captioned: bool = False  # its words are from a caption file or metadata
    own: str = ""  # what these say of it first, without any prompt
    is_held: bool = False  # never trained on: the validation loss is measured on it
    lines: tuple[str, ...] = ()  # textual inversion: `templates` for the caption, of which each step takes one
    word: str = ""  # textual inversion: what is taught
    caption_file: str = ""  # the path of what lies beside it under the caption files' ending; "" where nothing does
    texts: tuple[str, ...] = ()  # endings of what may be its captions, where it has none: ".caption", ".png.txt"
    mask: str = ""  # the path of its mask; "" if all of it counts
    left: LeftOut | None = field(default=None, compare=False, repr=False)  # of the folder that was listed

    @property
    def captions(self) -> tuple[str, ...]:
        return (self.caption, *self.others)
