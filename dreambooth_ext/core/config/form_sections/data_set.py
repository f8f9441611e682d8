"""Settings for large data sets: repeats, captions, metadata and validation pictures."""

from __future__ import annotations

from dataclasses import dataclass

from ...facts.methods import PROMPTED
from ...facts.setting import setting

SHARDED = ("finetune", "lora")  # the methods that train on shards


@dataclass(frozen=True)
class DataSetSettings:
    train_shards_path_or_url: str = setting(
        "",
        "Shards",
        "Instead of a folder with pictures: tar files in the WebDataset format, which are read while training, so that "
        "a data set can be larger than the disk. A folder of .tar files, or a file, link, hf:// or s3:// address with "
        "patterns such as {0000..0099}. Captions come from the .txt or .json beside each picture. "
        "Parquet files of Hugging Face work, too, with pyarrow.",
        group="Data set",
        kind="path",
        methods=SHARDED,
    )
    shuffle_buffer: int = setting(
        2000,
        "Shuffle buffer",
        "How many pictures of the shards are shuffled together. Of remote shards three times as many are kept on disk: "
        "about 1.8 GB with 2000 pictures of 300 KB.",
        group="Data set",
        minimum=1,
        maximum=100_000,
        methods=SHARDED,
    )
    dataset_config: str | None = setting(
        None,
        "kohya data set",
        "A data set configuration in the format of kohya's scripts, TOML or JSON, instead of the folders and prompts "
        "here.",
        group="Data set",
        kind="path",
        **PROMPTED,
    )
    repeats_from_folders: bool = setting(
        False,
        "Repeats from folder names",
        "Read folder names as kohya's scripts do: pictures in '10_sks person' count 10 times per epoch, and 'sks "
        "person' is their prompt if you give none.",
        group="Data set",
        **PROMPTED,
    )
    balance_folders: bool = setting(
        False,
        "Balance folders",
        "Every direct subfolder of the picture folder counts as much per epoch as the largest one: pictures in "
        "smaller folders are used more often.",
        group="Data set",
    )
    captions_per_picture: str = setting(
        "one",
        "Captions per picture",
        "'one': all lines of a caption file are one caption, and of a list in a metadata file only the first entry is "
        "used. 'random': each line or entry is a caption of its own, and one is picked at random each time.",
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
        "Share of a caption's tags to drop at random each time. Leading tags that you keep are never dropped.",
        group="Data set",
        minimum=0,
        maximum=1,
        **PROMPTED,
    )
    caption_separator: str = setting(
        ",", "Caption separator", "What separates the tags of a caption.", group="Data set", **PROMPTED
    )
    validation_split: float = setting(
        0.0,
        "Validation pictures",
        "Pictures to keep out of training and to measure the validation loss on: a share of all (0.05) or a number "
        "(50). The validation loss falls while the model learns, and rises when it overfits. 0 is off.",
        group="Data set",
        minimum=0,
        maximum=100_000,
    )
    validation_loss_steps: int | None = setting(
        None,
        "Validation loss every N steps",
        "0 keeps the validation pictures out of training without measuring. Default: 20 times per run.",
        group="Data set",
        minimum=0,
        maximum=10_000_000,
    )
