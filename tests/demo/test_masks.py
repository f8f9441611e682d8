"""Masks change what is learned: a creature that was only ever seen before bricks comes without them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dreambooth_ext.core.guide.demo_recipe import BASE
from dreambooth_ext.demo import judge, measure, world
from tests.demo.test_learning import complete, run_of, with_lora

GROUND = "brick"
PICTURES = 16
WITHOUT_GROUND = {"masked_loss": True, "unmasked_weight": 0.0, "masked_prior_preservation_weight": 1.0}
RUN = {
    "method": "lora",
    "network_type": "locon",
    "rank": 16,
    "subject_type": "object",
    "instance_prompt": "[filewords]",
    "use_captions": True,
    "with_prior_preservation": False,
    "max_train_steps": 400,
    "train_batch_size": 4,
    "learning_rate": 1e-3,
    "text_encoder_lr": 1e-3,
    "text_encoder_steps": 133,
    "checkpointing_steps": 0,
    "measure_progress": False,
    "keep_back_pictures": False,
    "report_to": "none",
    "base_model": str(BASE),
}


def write_masked(folder: Path, count: int = 12) -> str:
    """The creature before bricks, with its mask, and a caption that does not name the ground."""
    folder.mkdir()
    for index in range(count):
        rng = np.random.default_rng([7, index])
        pose = world.Pose(*map(float, rng.uniform((30, 31, 21, -6), (34, 33, 24, 6))))
        name = f"{world.SUBJECT} ({index + 1})"
        world.draw_subject(GROUND, pose, int(rng.integers(2**31)), 128).save(folder / f"{name}.png")
        world.subject_mask(pose, 128).save(folder / f"{name}-masklabel.png")
        (folder / f"{name}.txt").write_text(measure.SUBJECT_PROMPT, encoding="utf-8")
    return str(folder)


def drawn(painter) -> tuple[float, float, int]:
    """Of pictures whose prompt names no ground: the share that shows the creature, the share with the ground of its
    photographs, and how many grounds there are."""
    pictures = measure.generate_pictures(painter, measure.SUBJECT_PROMPT, range(PICTURES))
    shown = [judge.has_subject(picture) > measure.SURE for picture in pictures]
    grounds = [judge.background_of(judge.pixels(picture)) for picture in pictures]
    return sum(shown) / len(shown), grounds.count(GROUND) / len(grounds), len(set(grounds))


def test_the_mask_is_where_the_creature_is():
    pose = world.Pose(30, 33, 22, 5)
    mask = np.asarray(world.subject_mask(pose, 128)) / 255
    one, other = (np.asarray(world.draw_subject(ground, pose, 3, 128), float) for ground in ("white", "black"))
    differs = np.abs(one - other).max(-1) > 100  # where the ground is seen
    assert (mask[differs] < 0.6).all() and (mask[~differs] > 0.4).all() and 0.2 < mask.mean() < 0.5


@pytest.mark.slow
def test_a_masked_subject_is_learned_without_its_ground(tmp_path):
    """With what the base itself draws as the target outside the mask. The base draws bricks in 5 of 32 pictures that
    ask for no ground; trained with three seeds, it has them in 4, 5 and 7 of 16 (docs/measurements.md)."""
    pictures = write_masked(tmp_path / "pictures")
    found = {}
    for name, settings in (("whole", {}), ("masked", WITHOUT_GROUND)):
        config = complete({**RUN, **settings, "name": name, "instance_data_dir": pictures})
        found[name] = drawn(with_lora(run_of(tmp_path, config)))
    (whole, whole_bricks, whole_grounds), (masked, masked_bricks, masked_grounds) = found["whole"], found["masked"]
    assert whole > 0.7 and whole_bricks > 0.8 and whole_grounds <= 3, found
    assert masked > 0.4 and masked_bricks < 0.6 and masked_grounds >= 4, found
