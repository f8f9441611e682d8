"""Checks of a run on shards before anything is read of them: the pattern, and settings that need all pictures."""

from __future__ import annotations

from ..config import links
from ..config.parsing import shown
from ..config.run_config import SETTINGS, RunConfig
from ..errors import Problem, UserError
from ..messages.message import reason_of
from . import shard_names
from .shard_names import FIELD

SCHEMES = ("http", "https")  # which list no files
# Settings that name other pictures, or need to know all of them before the first step
EXCLUDED = (
    *("instance_data_dir", "concepts", "dataset_config", "class_prompt", "class_data_dir", "with_prior_preservation"),
    *("mask_dir", "masked_loss", "alpha_as_loss_weight", "cache_latents", "cache_latents_to_disk", "balance_folders"),
    *("repeats_from_folders", "validation_split", "validation_loss_steps", "stop_when_good", "placeholder_token"),
)


def problems(config: RunConfig) -> list[Problem]:
    """Problems of a run that is asked to train on shards, as far as they show without reading one; none for another."""
    if not config.train_shards_path_or_url:
        return []
    excluded = [SETTINGS[name] for name in EXCLUDED if config.method in SETTINGS[name].methods]
    given = [known.name for known in excluded if getattr(config, known.name) not in (known.default, None, False)]
    found = [Problem("shards.excludes", name) for name in given]
    if config.num_train_epochs is not None:
        found.append(Problem("shards.no_epochs", "num_train_epochs"))
    elif config.max_train_steps is None:
        found.append(Problem("shards.needs_steps", "max_train_steps"))
    if not reads_captions(config) and not config.instance_prompt:
        found.append(Problem("shards.needs_prompt", "use_captions"))
    return found + _name_problems(config.train_shards_path_or_url)


def reads_captions(config: RunConfig) -> bool:
    """Whether captions come from the samples; else each picture's is the instance prompt."""
    return config.use_captions is not False or "[filewords]" in (config.instance_prompt or "")


def _name_problems(text: str) -> list[Problem]:
    try:
        if not links.is_link(text):
            shard_names.local(text)
            return []
        found = shard_names.names(text)
        shard_names.require_tar(found)
    except UserError as error:
        return [error.problem]
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        return [Problem("shards.unreadable", FIELD, shard=shown(text), error=reason_of(error))]
    if text.partition("://")[0].strip().lower() in SCHEMES and any(map(shard_names.has_wildcard, found)):
        return [Problem("shards.no_list", FIELD, text=shown(text))]
    if text.partition("://")[0].strip().lower() in SCHEMES and found[0].lower().endswith(shard_names.PARQUET):
        return [Problem("shards.parquet_link", FIELD, text=shown(text))]
    return []
