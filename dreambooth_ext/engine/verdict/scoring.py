"""The six scores of each model, from the features and losses of what it has drawn, beside the photographs and the base.

A subject: for each place of a photograph, the most similar place of the picture, on average, so that it is found
wherever it stands. Features are centred on those of all pictures at hand, since most of a feature is the same in every
picture. A style is in no place: how far the features' means and spreads have gone from the base's pictures to the
photographs (the statistics that AdaIN exchanges, Huang and Belongie 2017, arXiv 1703.06868). A person's face, where a
recogniser looks: the angle between its direction and those of the photographs' faces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from ...core.verdict.scores import Scores
from .drawing import BASE, By, Drawn, Of

Kind = Literal["subject", "style", "face"]
ALL_OF_IT = 0.5  # likeness at which a subject is there; what of it comes without the word is a share of this
NEAREST = 3  # photographs that a picture is held against: the most similar ones
COPY = 0.5  # times the usual distance of a photograph to the next one: a picture closer to one is a copy of it


@dataclass(frozen=True)
class Seen:
    """What the judge saw of pictures: features (n, places, channels) and latents (n, 4, h, w)."""

    features_npc: Tensor
    latents_nchw: Tensor

    def __len__(self) -> int:
        return len(self.latents_nchw)

    @classmethod
    def none(cls) -> Seen:
        return cls(torch.empty(0), torch.empty(0))

    @classmethod
    def all_of(cls, parts: Sequence[Seen]) -> Seen:
        known = [part for part in parts if len(part)]
        if not known:
            return cls.none()
        return cls(torch.cat([part.features_npc for part in known]), torch.cat([part.latents_nchw for part in known]))


@dataclass
class Evidence:
    """Everything that scores are made from. drawn: each picture has a row of `seen`. Losses are those of a kind of
    pictures, by what drew them, (n, prompts of the kind); empty where there is only one prompt."""

    photographs: Seen
    drawn: list[Drawn]
    seen: Seen
    of: Kind  # what features tell
    subject_losses: dict[By, Tensor]  # of pictures "subject", under the prompts without the word
    world_losses: dict[By, Tensor]

    @classmethod
    def none(cls, of: Kind) -> Evidence:
        return cls(Seen.none(), [], Seen.none(), of, {}, {})

    def add(self, drawn: Sequence[Drawn], seen: Seen, subject: Mapping[By, Tensor], world: Mapping[By, Tensor]) -> None:
        self.drawn += drawn
        self.seen = Seen.all_of([self.seen, seen])
        self.subject_losses.update(subject)
        self.world_losses.update(world)

    def rows(self, by: By, of: Of) -> list[int]:
        return [row for row, each in enumerate(self.drawn) if each.by == by and each.wanted.of == of]


class Scale(Protocol):
    """How similar pictures are to the photographs, where the base's pictures are 0 and the photographs are 1."""

    def share(self, by: By, of: Of) -> float:
        """Return the mean of one model's pictures of a kind; it may leave 0..1."""


class SubjectScale:
    """The `Scale` of a subject."""

    def __init__(self, evidence: Evidence):
        self.evidence = evidence
        photographs = evidence.photographs.features_npc
        base = torch.cat([evidence.seen.features_npc[evidence.rows(BASE, of)] for of in OF])
        self.centre_c = torch.cat([photographs.flatten(0, 1), base.flatten(0, 1)]).mean(0)
        self.photographs_npc = self._directions(photographs)
        own = [row for of in ("subject", "class") for row in evidence.rows(BASE, of)]
        self.zero = float(self._similarity(evidence.seen.features_npc[own]).mean())
        others = between(self.photographs_npc, self.photographs_npc)
        others.fill_diagonal_(-1)
        nearest = min(NEAREST, max(1, len(others) - 1))
        self.one = float(others.topk(nearest, dim=1).values.mean()) if len(others) > 1 else 1.0

    def share(self, by: By, of: Of) -> float:
        found = self._similarity(self.evidence.seen.features_npc[self.evidence.rows(by, of)]).mean()
        return float((found - self.zero) / max(self.one - self.zero, 1e-3))

    def _similarity(self, features_npc: Tensor) -> Tensor:
        table_nm = between(self._directions(features_npc), self.photographs_npc)
        return table_nm.topk(min(NEAREST, table_nm.shape[1]), dim=1).values.mean(1)

    def _directions(self, features_npc: Tensor) -> Tensor:
        return torch.nn.functional.normalize(features_npc - self.centre_c, dim=-1)


class StyleScale:
    """The `Scale` of a style: how far along the way from the base's pictures to the photographs."""

    def __init__(self, evidence: Evidence):
        self.evidence = evidence
        photographs_nf = statistics(evidence.photographs.features_npc)
        base_nf = self._statistics(BASE, "subject")
        self.spread_f = torch.cat([photographs_nf, base_nf]).std(0).clamp_min(1e-6)
        self.way_f = (photographs_nf.mean(0) - base_nf.mean(0)) / self.spread_f

    def share(self, by: By, of: Of) -> float:
        gone_f = (self._statistics(by, of).mean(0) - self._statistics(BASE, of).mean(0)) / self.spread_f
        return float(gone_f @ self.way_f / self.way_f.square().sum().clamp_min(1e-6))

    def _statistics(self, by: By, of: Of) -> Tensor:
        return statistics(self.evidence.seen.features_npc[self.evidence.rows(by, of)])


class FaceScale:
    """The `Scale` of a person's face, from one direction a picture; a picture without a face is like the base's."""

    def __init__(self, evidence: Evidence):
        self.evidence = evidence
        self.known_mc = faces_of(evidence.photographs.features_npc)
        own = [row for of in ("subject", "class") for row in evidence.rows(BASE, of)]
        strangers = self._similarity(faces_of(evidence.seen.features_npc[own]))
        self.zero = float(strangers.mean()) if len(strangers) else 0.0
        others_mm = (self.known_mc @ self.known_mc.T).fill_diagonal_(-1)
        nearest = min(NEAREST, max(1, len(others_mm) - 1))
        self.one = float(others_mm.topk(nearest, dim=1).values.mean()) if len(others_mm) > 1 else 1.0

    def share(self, by: By, of: Of) -> float:
        features_npc = self.evidence.seen.features_npc[self.evidence.rows(by, of)]
        gone_n = self._similarity(faces_of(features_npc)) - self.zero
        return float(gone_n.sum()) / max(1, len(features_npc)) / max(self.one - self.zero, 1e-3)

    def _similarity(self, faces_nc: Tensor) -> Tensor:
        table_nm = faces_nc @ self.known_mc.T
        return table_nm.topk(min(NEAREST, table_nm.shape[1]), dim=1).values.mean(1)


def faces_of(features_npc: Tensor) -> Tensor:
    """Return the directions of the faces that were found, (faces, channels)."""
    return features_npc[has_face(features_npc), 0]


def has_face(features_npc: Tensor) -> Tensor:
    return features_npc[:, 0].any(dim=-1)


def statistics(features_npc: Tensor) -> Tensor:
    """Return each picture's mean and spread of every channel, (n, 2 channels)."""
    return torch.cat([features_npc.mean(1), features_npc.std(1)], dim=-1)


OF: tuple[Of, ...] = ("subject", "class", "world")


def between(pictures_npc: Tensor, others_mpc: Tensor) -> Tensor:
    """Return the similarity of each picture to each of the others, (n, m), from normalised features."""
    rows = [torch.einsum("pc,mqc->mpq", one_pc, others_mpc).amax(1).mean(1) for one_pc in pictures_npc]
    return torch.stack(rows)


SCALES: dict[Kind, Callable[[Evidence], Scale]] = {"subject": SubjectScale, "style": StyleScale, "face": FaceScale}


def scores(evidence: Evidence) -> dict[By, Scores]:
    """Return the scores of each model, and of the base."""
    scale: Scale = SCALES[evidence.of](evidence)
    return {by: _scores(evidence, scale, by) for by in sorted({each.by for each in evidence.drawn})}


def _scores(evidence: Evidence, scale: Scale, by: By) -> Scores:
    likeness = scale.share(by, "subject")
    leak = scale.share(by, "class") / max(likeness, ALL_OF_IT) if evidence.rows(by, "class") else None
    return Scores(
        likeness=_limited(likeness),
        prompt=_followed(evidence, evidence.subject_losses, by, "subject"),
        variety=_variety(evidence, by),
        copies=_copies(evidence, by),
        class_kept=None if leak is None else _limited(1 - leak),
        world_kept=_world_kept(evidence, by),
    )


def _limited(value: float) -> float:
    return min(1.0, max(0.0, value))


def _followed(evidence: Evidence, losses: Mapping[By, Tensor], by: By, of: Of) -> float | None:
    """Return how often a picture's loss is lower under its own prompt than under the others, where chance is 0."""
    if by not in losses or losses[by].shape[1] < 2:
        return None
    table = losses[by]
    own = torch.tensor([evidence.drawn[row].wanted.number for row in evidence.rows(by, of)])
    own_n1 = table.gather(1, own[:, None])
    wins = (table > own_n1).float().sum(1) / (table.shape[1] - 1)
    return _limited(2 * float(wins.mean()) - 1)


def _world_kept(evidence: Evidence, by: By) -> float | None:
    """Return how well other prompts are followed: as often as the base follows them, less by what pictures no longer
    show as clearly as the base's do."""
    followed = _followed(evidence, evidence.world_losses, BASE, "world")
    if followed is None:
        return None
    base, own = (_clearness(evidence, evidence.world_losses[each], each, "world") for each in (BASE, by))
    return followed * _limited(own / base) if base > 0 else followed


def _clearness(evidence: Evidence, table: Tensor, by: By, of: Of) -> float:
    """Return by how much a picture's loss is lower under its own prompt than under the others, on average."""
    own = torch.tensor([evidence.drawn[row].wanted.number for row in evidence.rows(by, of)])
    own_n = table.gather(1, own[:, None])[:, 0]
    return float(((table.sum(1) - own_n) / (table.shape[1] - 1) - own_n).mean())


def _variety(evidence: Evidence, by: By) -> float | None:
    """Return how different pictures of one prompt are, where the base's pictures of the same prompts are 1."""
    of: Of = "subject"
    base, own = (_spread(evidence, each, of) for each in (BASE, by))
    return None if not base else _limited(own / base)


def _spread(evidence: Evidence, by: By, of: Of) -> float:
    by_prompt: dict[int, list[int]] = {}
    for row in evidence.rows(by, of):
        by_prompt.setdefault(evidence.drawn[row].wanted.number, []).append(row)
    found = [torch.pdist(evidence.seen.latents_nchw[rows].flatten(1)).mean() for rows in by_prompt.values() if rows[1:]]
    return float(torch.stack(found).mean()) if found else 0.0


def _copies(evidence: Evidence, by: By) -> float | None:
    """Return the share of pictures that are much nearer to a photograph than photographs are to each other."""
    found = distances(evidence, by)
    return float((found < COPY).float().mean()) if len(found) else None


def distances(evidence: Evidence, by: By) -> Tensor:
    """Return how far pictures are from the nearest photograph, (n,), in the distance that photographs usually have from
    the next one.

    A subject's pictures are those by the photographs' captions, where copies appear first; of a style, such captions
    say all that is to be drawn, so that other prompts are looked at. Where faces are looked at, what counts is the
    picture or the face, whichever is closer.
    """
    rows = evidence.rows(by, "subject" if evidence.of == "style" else "photo")
    whole_n = to_nearest(evidence.seen.latents_nchw[rows].flatten(1), evidence.photographs.latents_nchw.flatten(1))
    if evidence.of != "face" or not rows:
        return whole_n
    features_npc = evidence.seen.features_npc[rows]
    found_n = torch.full_like(whole_n, torch.inf)
    found_n[has_face(features_npc)] = to_nearest(faces_of(features_npc), faces_of(evidence.photographs.features_npc))
    return torch.minimum(whole_n, found_n)


def to_nearest(drawn_nc: Tensor, known_mc: Tensor) -> Tensor:
    """Return each row's distance to the nearest known one, (n,), in that which known ones usually have; where there is
    only one, in its length."""
    if len(known_mc) < 2:
        return torch.cdist(drawn_nc, known_mc).amin(1) / known_mc.norm(dim=1).mean()
    usual = torch.cdist(known_mc, known_mc).fill_diagonal_(torch.inf).amin(1).median()
    return torch.cdist(drawn_nc, known_mc).amin(1) / usual.clamp_min(1e-6)


def nearest_photographs(evidence: Evidence, paths: Sequence[Path]) -> dict[int, Path]:
    """Return the photograph that is closest to each picture of the subject, by the picture's row."""
    rows = [row for row, each in enumerate(evidence.drawn) if each.wanted.of in ("subject", "photo")]
    flat = evidence.seen.latents_nchw[rows].flatten(1)
    nearest = torch.cdist(flat, evidence.photographs.latents_nchw.flatten(1)).argmin(1)
    return {row: paths[index] for row, index in zip(rows, nearest.tolist(), strict=True)}
