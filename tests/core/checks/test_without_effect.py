"""Settings that would do nothing are refused, row by row; what nobody asked for never is."""

from __future__ import annotations

import pytest

from dreambooth_ext.core.checks import config_checks, without_effect
from dreambooth_ext.core.checks.without_effect import ROWS
from dreambooth_ext.core.config.run_config import SETTINGS, RunConfig
from dreambooth_ext.core.facts.methods import METHOD_LABELS

LORA, TAUGHT, GRIDS = {"method": "lora"}, {"method": "textual_inversion"}, {"method": "unconditional"}
LINES = {"method": "hypernetwork", "instance_prompt": None, "prompt_template": "style"}
SUBJECT = {**TAUGHT, "instance_prompt": None, "prompt_template": "subject"}
CLASS = {"class_prompt": "person"}
OFF = {"with_prior_preservation": False, **CLASS}
WORD = {**LORA, "placeholder_token": "zkz"}
OWN = [{"instance_data_dir": "a", "instance_prompt": "zkz", "class_prompt": "x", "class_data_dir": "b"}]
COUNTED = [{**OWN[0], "num_class_images": 5}]

# (setting, code): what is set, and what makes it do something
EXAMPLES = {
    ("caption_extension", "effect.no_captions"): ({"caption_extension": ".caption"}, {"use_captions": True}),
    ("caption_column", "effect.no_captions"): ({"caption_column": "prompt"}, {"instance_prompt": "[filewords]"}),
    ("captions_per_picture", "effect.no_captions"): (
        {**TAUGHT, "captions_per_picture": "random"},
        {"instance_prompt": "zkz, [filewords]"},
    ),
    ("use_captions", "effect.no_place_in_prompt"): (
        {"use_captions": True, "instance_prompt": "[name] person"},
        {"instance_prompt": "[name] person, [filewords]"},
    ),
    ("use_captions", "effect.no_place"): (
        {**LINES, "use_captions": True},
        {"prompt_template": "hypernetwork"},
    ),
    ("shuffle_tags", "effect.no_place"): ({**SUBJECT, "shuffle_tags": True}, {"use_captions": True}),
    ("tag_dropout", "effect.no_place"): (
        {**SUBJECT, "tag_dropout": 0.5},
        {"prompt_template": "hypernetwork"},
    ),
    ("caption_dropout", "effect.no_place"): (
        {**LINES, "caption_dropout": 0.5},
        {"prompt_template": "hypernetwork"},
    ),
    ("shuffle_tags", "effect.one_tag"): (
        {"shuffle_tags": True, "instance_prompt": "zkz person"},
        {"instance_prompt": "zkz, a person"},
    ),
    ("shuffle_buffer", "effect.no_shards"): (
        {"method": "finetune", "shuffle_buffer": 50},
        {"train_shards_path_or_url": "https://host/x.tar", "max_train_steps": 5},
    ),
    ("keep_tokens", "effect.no_variation"): ({"keep_tokens": 2}, {"tag_dropout": 0.1}),
    ("caption_separator", "effect.no_variation"): (
        {"caption_separator": ";", "use_captions": True},
        {"shuffle_tags": True},
    ),
    ("class_data_dir", "effect.no_prior"): (
        {**OFF, "class_data_dir": "x"},
        {"with_prior_preservation": None},
    ),
    ("num_class_images", "effect.no_prior"): (
        {**OFF, "num_class_images": 9},
        {"with_prior_preservation": True},
    ),
    ("prior_loss_weight", "effect.no_prior"): (
        {**OFF, "prior_loss_weight": 2},
        {"with_prior_preservation": True},
    ),
    ("class_prompt", "effect.own_classes"): (
        {**CLASS, "concepts": OWN},
        {"concepts": [*OWN, {"instance_data_dir": "c"}]},
    ),
    ("class_data_dir", "effect.own_classes"): (
        {"class_data_dir": "x", "concepts": OWN},
        {"concepts": [*OWN, {"instance_data_dir": "c"}]},
    ),
    ("num_class_images", "effect.own_classes"): (
        {"num_class_images": 9, "concepts": COUNTED},
        {"concepts": OWN},
    ),
    ("text_encoder_steps", "effect.no_text_rate"): (
        {"text_encoder_steps": 9, "text_encoder_lr": 0.0},
        {"text_encoder_2_lr": 1e-6},
    ),
    ("embedding_steps", "effect.no_embedding_rate"): (
        {**WORD, "embedding_steps": 9, "embedding_lr": "0:5, 0"},
        {"embedding_lr": 1e-4},
    ),
    ("lr_scheduler", "effect.no_warmup"): ({"lr_scheduler": "constant_with_warmup"}, {"lr_warmup_steps": 5}),
    ("clip_grad_mode", "effect.no_clipping"): (
        {"clip_grad_mode": "value", "max_grad_norm": 0},
        {"max_grad_norm": "1:5, 0"},
    ),
    ("clip_grad_mode", "effect.keeps_gradients"): (
        {"clip_grad_mode": "previous_norm", "gradient_accumulation_steps": 2},
        {"gradient_accumulation_steps": 1},
    ),
    ("use_ema", "effect.own_average"): (
        {"use_ema": True, "optimizer": "prodigy_schedulefree", "learning_rate": 1.0, "text_encoder_lr": 1.0},
        {"optimizer": "prodigy"},
    ),
    ("frozen_precision", "effect.no_mixed_precision"): (
        {"method": "lora", "frozen_precision": "bf16", "mixed_precision": "no"},
        {"mixed_precision": "bf16"},
    ),
    ("use_ema", "effect.no_decay"): ({"use_ema": True, "ema_decay": 0}, {"ema_decay": 0.5}),
    ("ema_decay", "effect.no_average"): ({"ema_decay": 0.5}, {"use_ema": True}),
    ("ema_inv_gamma", "effect.no_average"): ({**GRIDS, "ema_inv_gamma": 2}, {"use_ema": True}),
    ("ema_power", "effect.no_average"): ({**GRIDS, "ema_power": 0.5}, {"use_ema": True}),
    ("adaptive_noise_scale", "effect.no_offset"): (
        {"adaptive_noise_scale": -0.1},
        {"offset_noise": 0.1},
    ),
    ("multires_noise_iterations", "effect.one_noise_layer"): (
        {"multires_noise_iterations": 1},
        {"multires_noise_iterations": 2},
    ),
    ("multires_noise_iterations", "effect.no_noise_discount"): (
        {"multires_noise_iterations": 6, "multires_noise_discount": 0},
        {"multires_noise_discount": 0.2},
    ),
    ("multires_noise_discount", "effect.no_noise_layers"): (
        {"multires_noise_discount": 0.2},
        {"multires_noise_iterations": 6},
    ),
    ("keep_back_pictures", "effect.held_out"): (
        {"keep_back_pictures": False, "validation_split": 2},
        {"validation_split": 0},
    ),
    ("stop_when_good", "effect.not_measured"): (
        {"stop_when_good": True, "measure_progress": False},
        {"measure_progress": True},
    ),
    ("checkpointing_start_step", "effect.saves_once"): (
        {"checkpointing_start_step": 9, "checkpointing_steps": 0},
        {"save_every_n_epochs": 1},
    ),
    ("checkpoints_total_limit", "effect.no_saves"): (
        {"checkpoints_total_limit": 3, "checkpointing_steps": 0},
        {"checkpointing_steps": 10},
    ),
    ("validation_num_images", "effect.no_previews"): ({"validation_num_images": 2}, {"validation_steps": 9}),
    ("validation_negative_prompt", "effect.no_previews"): (
        {"validation_negative_prompt": "ugly"},
        {"validation_prompts": ["zkz"]},  # drawn when one asks for them
    ),
    ("validation_seed", "effect.no_previews"): ({"validation_seed": 3}, {"validation_steps": 9}),
    ("validation_inference_steps", "effect.no_previews"): ({"validation_inference_steps": 9}, {**CLASS}),
    ("validation_guidance_scale", "effect.no_previews"): ({"validation_guidance_scale": 3}, {"validation_steps": 9}),
    ("validation_sampler", "effect.no_previews"): (
        {"validation_sampler": "DDIM"},
        {"with_prior_preservation": True},
    ),
    ("validation_negative_prompt", "effect.no_guidance"): (
        {"validation_negative_prompt": "ugly", "validation_guidance_scale": 1, "validation_steps": 9},
        {"validation_guidance_scale": 2},
    ),
    ("mask_dir", "effect.no_masks"): ({"mask_dir": "masks"}, {"masked_loss": True}),
    ("unmasked_weight", "effect.no_masks"): ({"unmasked_weight": 0.0}, {"masked_loss": True}),
    ("normalize_masked_area_loss", "effect.no_masks"): (
        {"normalize_masked_area_loss": False},
        {"masked_loss": True},
    ),
    ("masked_prior_preservation_weight", "effect.no_masks"): (
        {"masked_prior_preservation_weight": 1},
        {"masked_loss": True},
    ),
    ("masked_loss", "effect.all_counts"): ({"masked_loss": True, "unmasked_weight": 1}, {"unmasked_weight": 0.5}),
    ("hub_model_id", "effect.no_upload"): ({"hub_model_id": "me/it"}, {"push_to_hub": True}),
    ("hub_private_repo", "effect.no_upload"): ({"hub_private_repo": True}, {"push_to_hub": True}),
}


def told(**values) -> dict[str, str]:
    """What is without effect, and the code that says why, when the guide has completed the config."""
    config = RunConfig(**{"instance_prompt": "zkz", **values})
    found = config_checks.check(config)[3]
    assert all(problem.remedy for problem in found)
    effects = [problem for problem in found if problem.code.startswith("effect.")]
    assert len({problem.field for problem in effects}) == len(effects)
    return {problem.field: problem.code for problem in effects}


def test_every_row_has_its_example():
    assert {(row.setting, row.code) for row in ROWS} == set(EXAMPLES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.setting}: {row.code}")
def test_each_row(row):
    given, mending = EXAMPLES[row.setting, row.code]
    given = {"instance_prompt": None, **given} if "concepts" in given else given
    assert told(**given).get(row.setting) == row.code
    assert row.setting not in told(**{**given, **mending})
    left_out = {name: value for name, value in given.items() if name != row.setting}
    assert row.setting not in told(**left_out)  # at its default, whatever else is set


def test_a_message_says_why_and_what_to_do():
    (problem,) = without_effect.problems(RunConfig(ema_decay=0.5), RunConfig(ema_decay=0.5))
    assert str(problem) == "ema_decay: has no effect: use_ema is off. Leave it out, or turn use_ema on."


@pytest.mark.parametrize("method", METHOD_LABELS)
@pytest.mark.parametrize("subject_type", SETTINGS["subject_type"].choices)
def test_what_nobody_asked_for_is_never_blamed(method, subject_type):
    asked = (
        RunConfig(method=method) if method == "unconditional" else RunConfig(method=method, subject_type=subject_type)
    )
    completed = config_checks.check(asked)[0]
    assert without_effect.problems(asked, completed) == []


def test_a_text_encoder_whose_rate_is_0_does_not_train():
    completed, choices, _, problems, _ = config_checks.check(RunConfig(instance_prompt="zkz", text_encoder_lr=0.0))
    assert completed.text_encoder_steps == 0 and choices["text_encoder_steps"].reason.code == "guide.text_rate_zero"
    assert not [problem for problem in problems if problem.field.startswith("text_encoder")]


def test_captions_that_are_not_to_be_read_need_no_place():
    assert "use_captions" not in told(**{**LINES, "use_captions": False})
    assert "use_captions" not in told(**{**SUBJECT, "use_captions": False})


def test_class_pictures_that_count_nothing():
    found = {p.field: p.message for p in config_checks.check(RunConfig(prior_loss_weight=0.0, **CLASS))[3]}
    assert "half of each step" in found["prior_loss_weight"]
    found = config_checks.check(RunConfig(prior_loss_weight=0.0, **OFF))[3]
    assert [p.message for p in found if p.field == "prior_loss_weight"] == [
        "has no effect: with_prior_preservation is off."
    ]


def test_captions_for_class_pictures_have_an_ending():
    values = {"caption_extension": ".caption", "instance_prompt": "zkz", "use_captions": False}
    assert "caption_extension" in told(**values)
    assert "caption_extension" not in told(**values, class_prompt="[filewords]")
