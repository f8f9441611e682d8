"""Settings of what a run measures of itself, and of what it does about it."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.setting import setting


@dataclass(frozen=True)
class VerdictSettings:
    measure_progress: bool = setting(
        True,
        "Measure while training",
        "Measure a few times during the run how much better than the base the model knows your pictures, and what else "
        "it has changed, for the Monitor and the verdict. Takes less than 2 % of the time and does not change the "
        "training.",
        group="Verdict",
    )
    keep_back_pictures: bool = setting(
        True,
        "Keep pictures back",
        "Keep one picture in eight out of training (32 at most), to tell whether the model knows your subject or only "
        "your pictures. At least 10 pictures of each folder always remain to train on; of fewer than 11 none is kept "
        "back.",
        group="Verdict",
    )
    stop_when_good: bool = setting(
        False,
        "Stop when good",
        "End the run, with its model and training state saved, once the measurements show that it has learned enough "
        "and has begun to overfit. It can still be trained further.",
        group="Verdict",
    )
