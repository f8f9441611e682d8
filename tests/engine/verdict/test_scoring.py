"""Scores from features and losses made by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from dreambooth_ext.engine.verdict.drawing import BASE, Drawn, Wanted
from dreambooth_ext.engine.verdict.scoring import Evidence, Seen, nearest_photographs, scores

PLACES, CHANNELS = 4, 6
SUBJECT, OTHER = torch.eye(CHANNELS)[0], torch.eye(CHANNELS)[1]
MODEL = (100, 1.0)


def features(*shares: float) -> torch.Tensor:
    """Pictures of which a share of the places shows the subject."""
    rows = []
    for index, share in enumerate(shares):
        random = torch.randn(PLACES, CHANNELS, generator=torch.Generator().manual_seed(index)) * 0.05
        is_subject = torch.arange(PLACES)[:, None] < share * PLACES
        rows.append(torch.where(is_subject, SUBJECT, OTHER) + random)
    return torch.stack(rows)


def latents(*seeds: int) -> torch.Tensor:
    return torch.stack([torch.randn(4, 4, 4, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def evidence(of_style: bool = False, **by: dict[str, object]) -> Evidence:
    """by: "base" and "model", each with shares and latents of subject, class and world pictures."""
    drawn, found, codes, subject, world = [], [], [], {}, {}
    for name, known in by.items():
        key = BASE if name == "base" else MODEL
        for of in ("subject", "photo", "class", "world"):
            shares, seeds = known[of]
            for index, (share, seed) in enumerate(zip(shares, seeds, strict=True)):
                drawn.append(Drawn(*key, Wanted(of, index // 2, "p", index), Image.new("RGB", (8, 8))))
                found.append(features(share)[0] + 0.001 * index)
                codes.append(latents(seed)[0])
        subject[key], world[key] = known["subject_losses"], known["world_losses"]
    photographs = Seen(features(1, 1, 1, 1), latents(1, 2, 3, 4))
    return Evidence(
        photographs,
        drawn,
        Seen(torch.stack(found), torch.stack(codes)),
        "style" if of_style else "subject",
        subject,
        world,
    )


def own(right: bool) -> torch.Tensor:
    """Losses of four pictures of two prompts, each lower under its own prompt or the other one."""
    table = torch.tensor([[0.1, 0.2], [0.1, 0.2], [0.2, 0.1], [0.2, 0.1]])
    return table if right else table.flip(1)


def plain(shares, seeds, of_class=0, follows=True, photo=(51, 52, 53)):
    return {
        "subject": (shares, seeds),
        "photo": ((0, 0, 0), photo),
        "class": ((of_class, of_class), (31, 32)),
        "world": ((0, 0, 0, 0), (41, 42, 43, 44)),
        "subject_losses": own(follows),
        "world_losses": own(follows),
    }


BASE_DREW = plain((0, 0, 0, 0), (11, 12, 13, 14))


@pytest.mark.parametrize(
    "model, checks",
    [
        (plain((1, 1, 1, 1), (21, 22, 23, 24)), {"likeness": (0.9, 1), "copies": (0, 0), "class_kept": (0.9, 1)}),
        (plain((0, 0, 0, 0), (21, 22, 23, 24)), {"likeness": (0, 0.1), "variety": (0.8, 1), "prompt": (1, 1)}),
        (plain((1, 1, 1, 1), (1, 1, 3, 3), photo=(1, 2, 53)), {"copies": (0.6, 0.7), "variety": (0, 0.1)}),
        (plain((1, 1, 1, 1), (21, 22, 23, 24), of_class=1), {"class_kept": (0, 0.1)}),
        (plain((1, 1, 1, 1), (21, 22, 23, 24), follows=False), {"prompt": (0, 0), "world_kept": (0, 0)}),
    ],
)
def test_each_score_says_what_it_is_for(model, checks):
    found = scores(evidence(base=BASE_DREW, model=model))
    for name, (low, high) in checks.items():
        assert low <= getattr(found[MODEL], name) <= high, (name, found[MODEL])
    assert found[BASE].likeness == pytest.approx(0, abs=0.05) and found[BASE].variety == pytest.approx(1)


def test_other_things_count_less_the_less_clearly_they_are_shown():
    half = {**plain((1, 1, 1, 1), (21, 22, 23, 24)), "world_losses": (own(True) + own(False)) / 2 + own(True) / 2}
    found = scores(evidence(base=BASE_DREW, model=half))
    assert found[BASE].world_kept == 1 and found[MODEL].world_kept == pytest.approx(0.5)


def test_a_style_is_how_far_pictures_have_gone_to_the_photographs():
    all_of_it = plain((1, 1, 1, 1), (21, 22, 23, 24), of_class=1)
    found = scores(evidence(of_style=True, base=BASE_DREW, model=all_of_it))
    assert found[BASE].likeness == pytest.approx(0, abs=1e-4) and found[BASE].class_kept == pytest.approx(1)
    assert found[MODEL].likeness > 0.3 and found[MODEL].class_kept < 0.2


def test_the_nearest_photograph_of_each_subject_picture():
    found = evidence(base=BASE_DREW, model=plain((1, 1, 1, 1), (3, 1, 4, 2)))
    paths = [Path(f"{number}.png") for number in range(1, 5)]
    rows = found.rows(MODEL, "subject")
    nearest = nearest_photographs(found, paths)
    assert [nearest[row].stem for row in rows] == ["3", "1", "4", "2"]


# --- faces


def face(degrees: float | None) -> torch.Tensor:
    """A direction in a plane, (1, channels); None: no face."""
    if degrees is None:
        return torch.zeros(1, CHANNELS)
    angle = torch.deg2rad(torch.tensor(degrees))
    return torch.cat([angle.cos()[None], angle.sin()[None], torch.zeros(CHANNELS - 2)])[None]


def of_faces(model: dict[str, list[float | None]], photo_seeds: tuple[int, ...] = (51, 52)) -> dict:
    """The scores of a model whose pictures have faces at these angles; the photographs' are at 0, 40 and -40, and the
    base draws strangers, at 90."""
    drawn, found, codes = [], [], []
    kinds = {"subject": 2, "photo": 2, "class": 2, "world": 2}
    base: dict[str, list[float | None]] = {of: [90.0] * count for of, count in kinds.items()}
    for key, known in ((BASE, base), (MODEL, {**base, **model})):
        for of, angles in known.items():
            for index, angle in enumerate(angles):
                drawn.append(Drawn(*key, Wanted(of, index, "p", index), Image.new("RGB", (8, 8))))
                found.append(face(angle))
                codes.append(latents(photo_seeds[index] if of == "photo" and key == MODEL else 100 + len(codes))[0])
    photographs = Seen(torch.stack([face(angle) for angle in (0.0, 40.0, -40.0)]), latents(1, 2, 3))
    known = Evidence(photographs, drawn, Seen(torch.stack(found), torch.stack(codes)), "face", {}, {})
    return scores(known)[MODEL].as_dict()


def cosine(*degrees: float) -> float:
    return float(torch.deg2rad(torch.tensor(degrees)).cos().mean())


def test_a_face_is_as_alike_as_its_angle_says():
    zero = cosine(90, 50, 130)
    one = (cosine(40, 40) + 2 * cosine(40, 80)) / 3
    for angle in (0.0, 20.0, 60.0):
        found = of_faces({"subject": [angle, angle]})
        value = (cosine(angle, angle - 40, angle + 40) - zero) / (one - zero)
        assert found["likeness"] == pytest.approx(min(1, max(0, value)), abs=1e-3)
    half = of_faces({"subject": [60.0, None]})["likeness"]  # who is not there is not alike
    assert half == pytest.approx(of_faces({"subject": [60.0, 60.0]})["likeness"] / 2, abs=2e-3)
    assert of_faces({"subject": [None, None]})["likeness"] == 0


def test_a_face_without_the_word_is_a_lost_class_and_a_repeated_one_a_copy():
    assert of_faces({"subject": [0.0, 0.0]})["class_kept"] == 1
    assert of_faces({"subject": [0.0, 0.0], "class": [0.0, 0.0]})["class_kept"] < 0.1
    assert of_faces({"photo": [20.0, None]})["copies"] == 0  # 40 degrees are usual, and half of it is still another
    assert of_faces({"photo": [3.0, None]})["copies"] == 0.5
    assert of_faces({"photo": [None, 90.0]}, photo_seeds=(1, 52))["copies"] == 0.5  # the whole picture
