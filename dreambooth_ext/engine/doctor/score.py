"""One number for a set, 0 to 100, and what it lost points for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...core.messages.message import Message, beside
from .finding import ERROR, HINT, WARNING, label

Findings = Sequence[Mapping[str, Any]]

# What a picture with such a finding is worth beside a good one; several multiply
WORTH = {ERROR: 0.0, WARNING: 0.5, HINT: 0.9}
# Points that a finding about the whole set takes
OF_SET = {
    "too_few": 30,
    "one_background": 15,
    "mixed_subjects": 12,
    "one_angle": 10,
    "one_size": 6,
    "one_light": 5,
    "too_many": 3,
}


def score(pictures: Sequence[Findings], in_common: Findings) -> tuple[int, list[dict[str, Any]]]:
    """Return the score, and its reasons with the most points first: {"kind", "points", "text"}.

    pictures: all findings of each picture; in_common: those of the set.
    """
    if not pictures:
        return 0, []
    lost: dict[str, float] = {}
    counts: dict[str, int] = {}
    for findings in pictures:
        worth = 1.0
        for one in findings:
            counts[one["kind"]] = counts.get(one["kind"], 0) + 1
            now = worth * WORTH[one["severity"]]
            lost[one["kind"]] = lost.get(one["kind"], 0.0) + 100 * (worth - now) / len(pictures)
            worth = now
    for one in in_common:
        lost[one["kind"]] = lost.get(one["kind"], 0.0) + OF_SET[one["kind"]]
    points = max(0, round(100 - sum(lost.values())))
    reasons = []
    for kind, share in sorted(lost.items(), key=lambda item: -item[1]):
        told = Message("findings.reason", kind=label(kind), points=max(1, round(share)))
        if kind in counts:
            told = Message(
                "findings.reason_pictures",
                kind=label(kind),
                count=counts[kind],
                total=len(pictures),
                points=max(1, round(share)),
            )
        reasons.append({"kind": kind, "points": max(1, round(share)), **beside("text", told)})
    return points, reasons
