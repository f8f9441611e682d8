"""Options of the command `prepare`."""

from __future__ import annotations

import argparse

from ..config.run_config import SETTINGS
from ..pictures.mask_kinds import KINDS
from .path_option import path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    option = parser.add_argument
    subject = SETTINGS["subject_type"]
    option("folder", type=path, metavar="FOLDER", help="the folder with the pictures; they are only read")
    option(
        "--subject-type",
        choices=subject.choices,
        default=subject.default,
        help=f"what they show: faces matter for a person (default: {subject.default})",
    )
    option("--out", type=path, metavar="DIR", help="write mended copies there: converted, upright, cropped")
    option(
        "--mask",
        metavar="KIND",
        help=f"make masks for the copies: {', '.join(KINDS)}, or the path of an ONNX model that cuts out subjects",
    )
    option("--sheet", type=path, metavar="FILE.jpg", help="draw a contact sheet: every picture and what was found")
    option("--resolution", type=int, default=512, metavar="N", help="what you will train at, in pixels (default: 512)")
    option("--json", action="store_true", help="print what was found as JSON, and nothing else")
