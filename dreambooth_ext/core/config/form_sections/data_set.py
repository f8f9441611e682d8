"""How the pictures of large data sets count, and what their captions are."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED
from ...facts.setting import setting


@dataclass(frozen=True)
class DataSet:
    dataset_config: str | None = setting(
        None,
        "kohya's data set",
        "A data set's configuration as kohya's scripts read it, TOML or JSON, instead of folders and prompts here.",
        group="Data set",
        kind="path",
        **PROMPTED,
    )
    repeats_from_folders: bool = setting(
        False,
        "Repeats from folders' names",
        "Read folders' names as kohya does: pictures in '10_sks person' count 10 times in an epoch, and these words "
        "are their prompt where you give none.",
        group="Data set",
        **PROMPTED,
    )
    balance_folders: bool = setting(
        False,
        "Balance folders",
        "Each folder directly below the pictures' one counts as much in an epoch as the largest: pictures of smaller "
        "ones come up more often.",
        group="Data set",
    )
    captions_per_picture: str = setting(
        "one",
        "Captions a picture",
        "'one': a caption file's lines are one caption, and of a list in a metadata file the first counts. 'random': "
        "each is a caption of its own, and one is drawn each time.",
        group="Data set",
        choices=("one", "random"),
        **PROMPTED,
    )
    caption_column: str = setting(
        "text",
        "Caption column",
        "The column of metadata.jsonl that holds the captions.",
        group="Data set",
        **PROMPTED,
    )
    tag_dropout: float = setting(
        0.0,
        "Tag dropout",
        "Share of a caption's tags that are left out, others each time; the kept leading ones stay.",
        group="Data set",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    caption_separator: str = setting(
        ",", "Caption separator", "What stands between a caption's tags.", group="Data set", **PROMPTED
    )
    validation_split: float = setting(
        0.0,
        "Pictures held out",
        "Pictures to measure the loss on that are never trained on: a share of them (0.05), or a number (50). This "
        "validation loss falls while the model learns, and rises once it learns the pictures by heart. 0 is off.",
        group="Data set",
        minimum=0,
        maximum=100_000,
    )
    validation_loss_steps: int | None = setting(
        None,
        "Validation loss every N steps",
        "0 holds the pictures out without measuring. Left out: 20 times in the run.",
        group="Data set",
        minimum=0,
        maximum=10_000_000,
    )
