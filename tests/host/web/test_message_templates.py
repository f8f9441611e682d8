"""Templates of messages are found in the sources, and what the program says is made from them."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path

import pytest

from dreambooth_ext.core.checks import config_checks, config_warnings
from dreambooth_ext.core.config.parsing import parse
from dreambooth_ext.core.config.run_config import SETTINGS
from dreambooth_ext.core.data import picture_entries
from dreambooth_ext.core.facts.methods import METHODS
from dreambooth_ext.host.web import localization, message_templates

DEMO = Path(message_templates.__file__).parents[2] / "demo" / "pictures"
WRONG = {  # a value for each setting that no run can have, and settings that do not go together
    **{name: [] for name in SETTINGS if SETTINGS[name].kind not in ("list", "concepts")},
    "target_modules": ["nothing"],
    "caption_extension": "/",
}
PAIRS = [
    {"max_train_steps": 10, "num_train_epochs": 2},
    {"checkpointing_start_step": 5, "checkpointing_steps": 0},
    {"use_ema": False, "ema_decay": 0.5},
    {"snr_gamma": 5, "debiased_estimation": True},
    {"offset_noise": 0.1, "multires_noise_iterations": 6},
    {"multires_noise_discount": 0.1},
    {"huber_c": 0.5},
    {"min_timestep": 500, "max_timestep": 400},
    {"zero_terminal_snr": True, "prediction_type": "epsilon"},
    {"center_crop": False, "cache_latents": True},
    {"cache_latents": False, "cache_latents_to_disk": True},
    {"keep_tokens": 3},
    {"class_prompt": "a photo of zkz person"},
    {"class_data_dir": "nowhere"},
    {"concepts": [{"instance_dir": "x", "repeats": 0, "class_prompt": 3}]},
    {"concepts": [{"instance_data_dir": "gone", "instance_prompt": "a"}]},
    {"learning_rate": "2e-6:1000"},
    {"learning_rate": "x:y, 1"},
    {"learning_rate": 0},
    {"lr_scheduler": "cosine", "learning_rate": "2e-6:1000, 1e-6"},
    {"lr_scheduler": "constant", "lr_warmup_steps": 10},
    {"lr_num_cycles": 3},
    {"optimizer": "prodigy", "learning_rate": 1e-6},
    {"text_encoder_steps": 0, "text_encoder_lr": 1e-6},
    {"validation_steps": 10, "instance_prompt": "a photo of anna and ben beside zkz and qqw"},
    {"resolution": 100, "seed": -1, "method": "nothing"},
    {"name": "no name!", "base_model": "gone.safetensors", "instance_data_dir": "gone"},
    {"name": "con", "rank": 4, "unknown_setting": 3, "leraning_rate": 1},
    {"method": "lora", "network_type": "locon", "target_modules": ["attention"], "lokr_factor": 0, "conv_rank": 4},
    {"method": "lora", "network_type": "oft", "alpha": 3, "use_rslora": True, "loraplus_lr_ratio": 3},
    {"method": "lora", "network_weights": "gone.safetensors", "rank": 3, "block_ranks": {"mid_block": -1}},
]


def fitting(message: str, templates: list[re.Pattern]) -> bool:
    rest = re.fullmatch(r"(.*[^.])(?:, or leave it out)?\.", message, re.DOTALL)  # of advice in two parts
    texts = [message, rest[1]] if rest else [message]
    return not re.search(r"[a-z]{3}", message) or any(one.fullmatch(text) for one in templates for text in texts)


@pytest.fixture(scope="module")
def templates() -> list[re.Pattern]:
    frames = {"'{word}' {problem}.", "“{word}” {problem}."}  # they would fit nearly anything
    made = []
    for text in localization.needed():
        if text not in frames:
            parts = re.split(r"\{\w+\}", text)
            made.append(re.compile(".*?".join(map(re.escape, parts)), re.DOTALL))
    return made


@pytest.mark.parametrize("settings", [*({name: value} for name, value in WRONG.items()), *PAIRS], ids=str)
def test_every_message_of_the_form_has_a_template(settings, templates, tmp_path):
    """What is really said, and not only what the sources seem to say."""
    values = {"name": "a", "base_model": "someone/model", "instance_prompt": "a photo of zkz person"}
    values |= {"instance_data_dir": str(DEMO), "method": "dreambooth", **settings}
    config, unreadable = parse(values)
    completed, choices, _, problems, _ = config_checks.check(config)
    said = [text for problem in [*unreadable, *problems] for text in (problem.message, problem.remedy)]
    said += [choice.reason for choice in choices.values()]
    said += [text for w in config_warnings.warnings(completed, 3) for text in (w.message, w.remedy)]
    assert said and [text for text in said if not fitting(text, templates)] == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", ["person", "style"])
def test_every_reason_and_warning_has_a_template(method, kind, templates, tmp_path):
    for number in range(2):
        shutil.copy(DEMO / "zkz (1).png", tmp_path / f"anna ({number}).png")
    config, _ = parse({"method": method, "subject_type": kind, "instance_data_dir": str(tmp_path)})
    completed, choices, entries, problems, _ = config_checks.check(config)
    warned = [*config_warnings.warnings(completed, 2), *picture_entries.warnings(completed, entries)]
    said = [choice.reason for choice in choices.values()]
    said += [text for w in [*problems, *warned] for text in (w.message, w.remedy) if not text.startswith("'anna' ")]
    assert said and [text for text in said if not fitting(text, templates)] == []


def test_templates_are_named_after_their_values():
    source = '''f"{shown(folder)}: {completed.kind} of {len(names)}, {a['b']} {a} {a:g} {1 + 2}"'''
    text = ast.parse(source, mode="eval").body
    assert message_templates.template(text) == "{folder}: {kind} of {count}, {b} {a} {a2} {value}"


def test_what_nobody_reads_is_no_message():
    found = message_templates.of_modules((*message_templates.OF_THE_FORM, *message_templates.OTHERS))
    assert not [text for text in found if text.startswith("{}") or "\n" in text]
    assert not any("Standard library only" in text for text in found)  # documentation
    assert "{pictures} pictures, {subject_type}" in found and "drawing previews" in found


def test_translated_templates_keep_what_programs_read():
    russian = json.loads((localization.FOLDER / "ru_RU.json").read_text("utf-8"))
    for text in message_templates.of_modules(message_templates.OF_THE_FORM):
        for name in set(re.findall(r"\w+", text)) & {name for name in SETTINGS if "_" in name}:
            assert name in russian[text], text
