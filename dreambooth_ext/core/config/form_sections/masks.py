"""Settings of masks: which part of each picture is learned."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED_METHODS
from ...facts.setting import setting


@dataclass(frozen=True)
class MaskSettings:
    masked_loss: bool = setting(
        False,
        "Masked loss",
        "Learn only what the masks show in white. The mask of 'a.jpg' is 'a-masklabel.png' or 'a_mask.png' beside it, "
        "or a file of the same name in the folder of masks. A picture without a mask counts as a whole.",
        group="Masks",
    )
    mask_dir: str | None = setting(
        None,
        "Folder of masks",
        "A folder with masks that are named like their pictures. Default: masks beside the pictures.",
        group="Masks",
        kind="path",
    )
    unmasked_weight: float = setting(
        0.1,
        "Weight outside masks",
        "How much the black parts of a mask still count: 0 not at all, 1 as much as the white ones.",
        group="Masks",
        minimum=0,
        maximum=1,
    )
    normalize_masked_area_loss: bool = setting(
        True,
        "Equal weight for all masks",
        "Every picture counts the same, however small the white part of its mask is. Off: a small part counts less, as "
        "in kohya's scripts.",
        group="Masks",
    )
    masked_prior_preservation_weight: float = setting(
        0.0,
        "Base outside masks",
        "Outside the masks, also train towards what the base itself predicts there, with this weight: the surroundings "
        "stay as the base draws them. 1 is usual, 0 is off. A step takes about a third longer.",
        group="Masks",
        minimum=0,
        maximum=100,
        methods=tuple(method for method in PROMPTED_METHODS if method != "textual_inversion"),
    )
