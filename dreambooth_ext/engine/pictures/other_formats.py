"""Formats that are read only to be looked at and converted: HEIC, AVIF, TIFF and GIF.

They have larger decoders than the four that training reads, and more faults in them; so training never opens them, and
the page only in a process that may die of them (`worker.py`).
"""

from __future__ import annotations

import functools

from PIL import Image, features

from .picture_file import FORMATS


@functools.cache
def readable_formats() -> tuple[str, ...]:
    """Pillow's names of all formats that can be opened here: training's, and those of the others that are installed."""
    return (*FORMATS, *(name for name in ("TIFF", "GIF", "AVIF", "HEIF") if _is_there(name)))


def missing_formats() -> list[str]:
    """The formats whose package is missing, by the names that people know."""
    known = {"AVIF": "AVIF", "HEIF": "HEIC"}
    return [name for format, name in known.items() if format not in readable_formats()]


def _is_there(name: str) -> bool:
    try:
        if name == "AVIF" and not _pillow_has_avif():
            import pillow_avif  # noqa: F401 - registers it
        elif name == "HEIF":
            import pi_heif

            pi_heif.register_heif_opener()
            if not isinstance(vars(Image.Image).get("mode"), property):
                _register_for_old_pillow()
    except ImportError:
        return False
    return name in Image.OPEN


def _register_for_old_pillow() -> None:
    """Pillow before 10.1 (WebUIs have 9.5) asks a picture for `mode`, where pi-heif only tells `_mode`, and would take
    every HEIC picture for none."""
    Image.register_open("HEIF", heif_for_old_pillow(), Image.OPEN["HEIF"][1])


def heif_for_old_pillow() -> type:
    """pi-heif's class of pictures with the `mode` that Pillow before 10.1 reads and writes."""
    import pi_heif

    class HeifPicture(pi_heif.HeifImageFile):
        @property
        def mode(self) -> str:
            return self._mode

        @mode.setter
        def mode(self, value: str) -> None:
            self._mode = value

    return HeifPicture


def _pillow_has_avif() -> bool:
    """Whether Pillow itself reads AVIF, as since 11.3."""
    return "avif" in features.modules and bool(features.check_module("avif"))
