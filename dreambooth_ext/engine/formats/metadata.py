"""The metadata of model files: modelspec.* for model sites and WebUIs, ss_* as in kohya's tools, and our own
settings."""

from __future__ import annotations

import collections
import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ...core.config.run_config import RunConfig
from ...core.config.stages import ResolvedConfig
from ...core.data.captions import spoken
from ...core.data.entry import Entry
from ...core.version import __version__
from ..models.base import Base
from ..models.base_model import LatentBase

SETTINGS_KEY = "dreambooth_ext.settings"  # the run's settings as JSON
HASH_KEY = "modelspec.hash_sha256"
MOST_WORDS = 2000  # tags of captions that are counted
HASH_TO_COME = "0x" + "0" * 64  # replaced in the header once the values are written and hashed
ADAPTERS = {  # methods whose files only change a model
    "lora": "lora",
    "textual_inversion": "textual-inversion",
    "hypernetwork": "hypernetwork",
}


def modelspec(
    base: Base, *, title: str, resolution: int, date: float | None = None, adapter: str = "", **more: str
) -> dict[str, str]:
    """Return sai_model_spec 1.0.0 metadata. date: seconds since 1970; adapter: "lora" or another kind of file that only
    changes a model; more: description, trigger_phrase, ... if there are any."""
    kind = base.family.names(base.prediction_type).modelspec + ("/inpainting" if base.inpainting else "")
    fields = {
        "sai_model_spec": "1.0.0",
        "architecture": kind + (f"/{adapter}" if adapter else ""),
        "implementation": base.family.implementation,
        "title": title,
        "date": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(date)),
        "resolution": f"{resolution}x{resolution}",
        "prediction_type": "v" if base.prediction_type == "v_prediction" else base.prediction_type,
        "hash_sha256": HASH_TO_COME,
        **{key: value for key, value in more.items() if value},
    }
    return {f"modelspec.{key}": value for key, value in fields.items()}


def training_metadata(
    config: ResolvedConfig,
    base: Base,
    *,
    steps: int,
    started_at: float,
    num_train_images: int,
    num_reg_images: int = 0,
    num_epochs: int = 0,
) -> dict[str, str]:
    """Return ss_* metadata and the run's settings, all as strings, as safetensors requires. started_at: seconds since
    1970."""
    values: dict[str, Any] = {
        "output_name": config.name,
        "training_started_at": started_at,
        "training_finished_at": time.time(),
        "learning_rate": config.learning_rate,
        "unet_lr": config.learning_rate,
        "text_encoder_lr": config.text_encoder_lr,
        "lr_scheduler": config.lr_scheduler,
        "lr_warmup_steps": config.lr_warmup_steps,
        "optimizer": config.optimizer,
        "num_train_images": num_train_images,
        "num_reg_images": num_reg_images,
        "num_epochs": num_epochs,
        "steps": steps,
        "max_train_steps": config.max_train_steps,
        "batch_size_per_device": config.train_batch_size,
        "gradient_accumulation_steps": config.gradient_accumulation_steps,
        "gradient_checkpointing": config.gradient_checkpointing,
        "mixed_precision": config.mixed_precision,
        "full_fp16": False,
        "clip_skip": config.clip_skip,
        "max_token_length": config.max_token_length,
        "resolution": f"({config.resolution}, {config.resolution})",
        "enable_bucket": config.enable_bucket,
        "cache_latents": config.cache_latents,
        "noise_offset": config.offset_noise,
        "min_snr_gamma": config.snr_gamma,
        "prior_loss_weight": config.prior_loss_weight,
        "seed": config.seed,
        "training_comment": f"dreambooth_ext {__version__}, {config.method}",
    }
    found = {f"ss_{key}": str(value) for key, value in values.items()}
    return {**base_metadata(base), **found, SETTINGS_KEY: json.dumps(shareable(config), ensure_ascii=False)}


def base_metadata(base: Base) -> dict[str, str]:
    """Return the metadata by which WebUIs recognise the base models that a LoRA fits; {} if there are none."""
    version = base.family.names(base.prediction_type).kohya
    if version is None or not isinstance(base, LatentBase):
        return {}
    return {
        "ss_sd_model_name": base.path.name,
        "ss_base_model_version": version,
        "ss_v2": str(base.family.kohya_v2),
    }


def pictures_metadata(entries: Iterable[Entry], bucket_counts: Mapping[tuple[int, int], int]) -> dict[str, str]:
    """Return kohya's metadata about the pictures, which WebUIs show: folders, sizes (width, height), and how often each
    folder has which tags. Only the most frequent tags are counted: tens of thousands of captions are mostly unique, and
    would fill megabytes of the header."""
    instance: dict[str, dict[str, int]] = {}
    classes: dict[str, dict[str, int]] = {}
    words: collections.Counter[tuple[str, str]] = collections.Counter()
    for entry in entries:
        folder = spoken(entry.path.parent.name)
        about = (classes if entry.is_class else instance).setdefault(
            folder, {"n_repeats": entry.repeats, "img_count": 0}
        )
        about["img_count"] += 1
        if entry.is_class:
            continue
        words.update((folder, tag) for tag in dict.fromkeys(tag.strip() for tag in entry.caption.split(",")) if tag)
    counts: dict[str, dict[str, int]] = {}
    for (folder, tag), count in words.most_common(MOST_WORDS):
        counts.setdefault(folder, {})[tag] = count
    sizes = {str(i): {"resolution": list(size), "count": n} for i, (size, n) in enumerate(bucket_counts.items())}
    buckets = {"buckets": sizes}
    values = {"dataset_dirs": instance, "reg_dataset_dirs": classes, "tag_frequency": counts, "bucket_info": buckets}
    return {f"ss_{key}": json.dumps(value, ensure_ascii=False) for key, value in values.items()}


def shareable(config: RunConfig) -> dict[str, Any]:
    """Return the settings without this machine's folders, since models are shared."""
    return config.with_paths(lambda _, path: Path(path.replace("\\", "/")).name).as_dict()
