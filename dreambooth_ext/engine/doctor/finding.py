"""One thing that the doctor found: a kind, how bad it is, and a message with its remedy."""

from __future__ import annotations

from typing import Any

from ...core.errors import Problem
from ...core.messages.message import Message, beside

ERROR, WARNING, HINT = "error", "warning", "hint"

# kind -> its name in one or two words
OF_PICTURES = {
    "unreadable": "finding_kind.unreadable",
    "small": "finding_kind.small",
    "blurred": "finding_kind.blurred",
    "dark": "finding_kind.dark",
    "bright": "finding_kind.bright",
    "flat": "finding_kind.flat",
    "noisy": "finding_kind.noisy",
    "compressed": "finding_kind.compressed",
    "duplicate": "finding_kind.duplicate",
    "near_duplicate": "finding_kind.near_duplicate",
    "no_face": "finding_kind.no_face",
    "several_faces": "finding_kind.several_faces",
    "borders": "finding_kind.borders",
    "text": "finding_kind.text",
    "extreme_shape": "finding_kind.extreme_shape",
    "animated": "finding_kind.animated",
}
OF_SETS = {
    "too_few": "finding_kind.too_few",
    "too_many": "finding_kind.too_many",
    "one_background": "finding_kind.one_background",
    "one_light": "finding_kind.one_light",
    "one_angle": "finding_kind.one_angle",
    "one_size": "finding_kind.one_size",
    "mixed_subjects": "finding_kind.mixed_subjects",
}


def label(kind: str) -> Message:
    """Return the kind's name."""
    return Message((OF_PICTURES | OF_SETS)[kind])


def unreadable(problem: Problem, name: str) -> dict[str, Any]:
    """Return the finding about a picture that could not be read; with its name alone, and not where it lies."""
    values = problem.values | ({"file": name} if "file" in problem.values else {})
    return finding("unreadable", ERROR, Problem(problem.code, problem.field, **values))


def finding(kind: str, severity: str, problem: Problem) -> dict[str, Any]:
    """Return {"kind", "severity", "label", "message", "remedy", "code", "values"} with what the page translates by."""
    about = problem.as_dict()
    del about["field"]
    return {"kind": kind, "severity": severity, **beside("label", label(kind)), **about}
