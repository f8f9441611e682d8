"""The ways to make a mask, by the names that users give: for the command line, the API and the picture worker."""

from __future__ import annotations

from ..config.parsing import shown
from ..errors import UserError

FACE, ELLIPSE, SUBJECT, REMBG, MODEL = "face", "ellipse", "subject", "rembg", "model"
KINDS = (FACE, ELLIPSE, SUBJECT, REMBG)  # and the path of a model
SUFFIX = ".onnx"


def kind_of(asked: str) -> tuple[str, str]:
    """Return the kind, and the path of the model if one is named. Raises UserError for anything else."""
    if asked in KINDS:
        return asked, ""
    if asked.lower().endswith(SUFFIX):
        return MODEL, asked
    raise UserError("masks.unknown_kind", "by", value=shown(asked), choices=list(KINDS))
