"""A table of settings that have no effect beside other settings: what was asked for is either done or refused.

A row blames only a setting that the user changed, never what the guide filled in or nobody touched.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..config.rates import is_zero
from ..config.run_config import SETTINGS, RunConfig
from ..data import prompt_templates
from ..data.concepts import Subjects
from ..errors import Problem
from ..facts.methods import PROMPTED_METHODS, SUBJECT_METHODS
from ..facts.optimizer_facts import optimizer_facts
from . import kept_gradients

Holds = Callable[[RunConfig, Subjects], bool]


@dataclass(frozen=True)
class Row:
    """A setting, and a condition on the completed config under which it has no effect."""

    setting: str
    holds: Holds
    code: str  # of the message that says why, and what to do


def problems(asked: RunConfig, completed: RunConfig, subjects: Subjects | None = None) -> list[Problem]:
    """One problem for each setting of `asked` that has no effect in the config as the guide completed it.

    subjects: what the caller has read; None to read it now.
    """
    subjects = subjects or Subjects.of(completed)
    found: dict[str, Problem] = {}
    for row in ROWS:
        known = SETTINGS[row.setting]
        is_own = getattr(asked, row.setting) not in (known.default, "") and completed.method in known.methods
        if is_own and row.setting not in found and row.holds(completed, subjects):
            found[row.setting] = Problem(row.code, row.setting)
    return list(found.values())


def reads_captions(config: RunConfig, subjects: Subjects) -> bool:
    """Whether the run uses captions at all, from files, metadata or [filewords]."""
    if config.use_captions or any(c.subset and c.subset.metadata_file for c in subjects.concepts):
        return True
    lines = prompt_templates.lines(config)[0] if prompt_templates.is_used(config) else ()
    return any("[filewords]" in text for text in (*lines, *(c.instance_prompt or "" for c in subjects.concepts)))


def _has_no_caption_files(config: RunConfig, subjects: Subjects) -> bool:
    of_class = (c.class_prompt or "" for c in subjects.concepts if subjects.uses_prior(config))
    return not reads_captions(config, subjects) and not any("[filewords]" in text for text in of_class)


def _has_one_tag(config: RunConfig, subjects: Subjects) -> bool:
    """Whether every picture of a subject is trained with a prompt of one tag, so that nothing can be shuffled."""
    if config.method not in SUBJECT_METHODS or config.dataset_config or reads_captions(config, subjects):
        return False
    prompts = [concept.instance_prompt for concept in subjects.concepts]
    return not config.repeats_from_folders and all(p and config.caption_separator not in p for p in prompts)


def _keeps_gradients(config: RunConfig, _: Subjects) -> bool:
    """Whether all gradients are in memory anyway, so that nothing is gained by clipping by an earlier norm."""
    return config.clip_grad_mode == kept_gradients.BEFORE and kept_gradients.are_kept(config)


def _varies(config: RunConfig) -> bool:
    return bool(config.dataset_config or config.shuffle_tags or config.tag_dropout)


def _prompts_take_no_caption(config: RunConfig, subjects: Subjects) -> bool:
    if not config.use_captions or config.dataset_config or prompt_templates.is_used(config):
        return False  # there they go into the lines
    prompts = [concept.instance_prompt or "" for concept in subjects.concepts]
    return all("[name]" in prompt and "[filewords]" not in prompt for prompt in prompts)


def _lines_take_no_caption(config: RunConfig, _: Subjects | None = None) -> bool:
    """Whether no line of the prompt template has a place for a caption. Textual Inversion adds one if it uses
    captions."""
    if not prompt_templates.is_used(config) or (config.use_captions and config.method == "textual_inversion"):
        return False
    return not any(prompt_templates.FILEWORDS in line for line in prompt_templates.lines(config)[0])


def _text_encoder_rests(config: RunConfig, _: Subjects | None = None) -> bool:
    rates = [rate for rate in (config.text_encoder_lr, config.text_encoder_2_lr) if rate is not None]
    return bool(config.text_encoder_steps and rates) and all(map(is_zero, rates)) and not is_zero(config.learning_rate)


def _saves_once(config: RunConfig, _: Subjects | None = None) -> bool:
    return not config.checkpointing_steps and not config.save_every_n_epochs


def _draws_nothing(config: RunConfig, _: Subjects | None = None) -> bool:
    """Whether the run draws no previews, neither every N steps nor on request."""
    return config.method in PROMPTED_METHODS and not config.validation_steps and not config.validation_prompts


def _draws_not_even_classes(config: RunConfig, subjects: Subjects) -> bool:
    return _draws_nothing(config) and not subjects.uses_prior(config)


def _has_no_prior(config: RunConfig, _: Subjects | None = None) -> bool:
    return config.with_prior_preservation is False


def _concepts_bring(*keys: str) -> Holds:
    return lambda config, _: bool(config.concepts) and all(any(c.get(key) for key in keys) for c in config.concepts)


ROWS = (
    # --- pictures and their words
    Row("caption_extension", _has_no_caption_files, "effect.no_captions"),
    Row("caption_column", lambda c, subjects: not reads_captions(c, subjects), "effect.no_captions"),
    Row("captions_per_picture", lambda c, subjects: not reads_captions(c, subjects), "effect.no_captions"),
    Row("use_captions", _prompts_take_no_caption, "effect.no_place_in_prompt"),
    Row("use_captions", lambda c, _: bool(c.use_captions) and _lines_take_no_caption(c), "effect.no_place"),
    *(
        Row(name, _lines_take_no_caption, "effect.no_place")
        for name in ("shuffle_tags", "tag_dropout", "caption_dropout")
    ),
    Row("shuffle_tags", _has_one_tag, "effect.one_tag"),
    Row("keep_tokens", lambda c, _: not _varies(c), "effect.no_variation"),
    Row("shuffle_buffer", lambda c, _: not c.train_shards_path_or_url, "effect.no_shards"),
    Row("caption_separator", lambda c, _: not _varies(c), "effect.no_variation"),
    # --- class pictures
    Row("class_data_dir", _has_no_prior, "effect.no_prior"),
    Row("num_class_images", _has_no_prior, "effect.no_prior"),
    Row("prior_loss_weight", _has_no_prior, "effect.no_prior"),
    Row("class_prompt", _concepts_bring("class_prompt"), "effect.own_classes"),
    Row("class_data_dir", _concepts_bring("class_prompt", "class_data_dir"), "effect.own_classes"),
    Row("num_class_images", _concepts_bring("num_class_images"), "effect.own_classes"),
    # --- training
    Row("text_encoder_steps", _text_encoder_rests, "effect.no_text_rate"),
    Row("embedding_steps", lambda c, _: is_zero(c.embedding_lr), "effect.no_embedding_rate"),
    Row(
        "lr_scheduler",
        lambda c, _: c.lr_scheduler == "constant_with_warmup" and not c.lr_warmup_steps,
        "effect.no_warmup",
    ),
    Row("clip_grad_mode", lambda c, _: is_zero(c.max_grad_norm), "effect.no_clipping"),
    Row("clip_grad_mode", _keeps_gradients, "effect.keeps_gradients"),
    Row("use_ema", lambda c, _: optimizer_facts(c.optimizer).averages, "effect.own_average"),
    Row(
        "frozen_precision",
        lambda c, _: c.frozen_precision == "bf16" and c.mixed_precision == "no",
        "effect.no_mixed_precision",
    ),
    Row("use_ema", lambda c, _: c.ema_decay == 0, "effect.no_decay"),
    *(
        Row(name, lambda c, _: not c.use_ema, "effect.no_average")
        for name in ("ema_decay", "ema_inv_gamma", "ema_power")
    ),
    # --- loss and noise
    Row(
        "adaptive_noise_scale",
        lambda c, _: c.adaptive_noise_scale < 0 and not c.offset_noise,
        "effect.no_offset",
    ),
    Row(
        "multires_noise_iterations",
        lambda c, _: c.multires_noise_iterations == 1,
        "effect.one_noise_layer",
    ),
    Row(
        "multires_noise_iterations",
        lambda c, _: c.multires_noise_discount == 0,
        "effect.no_noise_discount",
    ),
    Row(
        "multires_noise_discount",
        lambda c, _: not c.multires_noise_iterations,
        "effect.no_noise_layers",
    ),
    # --- masks
    *(
        Row(name, lambda c, _: not c.masked_loss, "effect.no_masks")
        for name in ("mask_dir", "unmasked_weight", "normalize_masked_area_loss", "masked_prior_preservation_weight")
    ),
    Row("masked_loss", lambda c, _: c.unmasked_weight == 1, "effect.all_counts"),
    # --- what is written and drawn
    Row("keep_back_pictures", lambda c, _: bool(c.validation_split), "effect.held_out"),
    Row("stop_when_good", lambda c, _: not c.measure_progress, "effect.not_measured"),
    Row("checkpointing_start_step", _saves_once, "effect.saves_once"),
    Row(
        "checkpoints_total_limit",
        lambda c, _: _saves_once(c) and c.checkpoints_total_limit is not None,
        "effect.no_saves",
    ),
    *(
        Row(name, _draws_nothing, "effect.no_previews")
        for name in ("validation_num_images", "validation_negative_prompt", "validation_seed")
    ),
    *(
        Row(name, _draws_not_even_classes, "effect.no_previews")
        for name in ("validation_inference_steps", "validation_guidance_scale", "validation_sampler")
    ),
    Row(
        "validation_negative_prompt",
        lambda c, _: c.validation_guidance_scale == 1,
        "effect.no_guidance",
    ),
    Row("hub_model_id", lambda c, _: not c.push_to_hub, "effect.no_upload"),
    Row("hub_private_repo", lambda c, _: not c.push_to_hub, "effect.no_upload"),
)
