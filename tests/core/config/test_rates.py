"""Rates as users write them, read with the standard library alone."""

from __future__ import annotations

import pytest

from dreambooth_ext.core.config.rates import parse_rate_schedule, rate_problems
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.config.unfit_value import Unfit

GOOD = {
    "2e-6": [(2e-6, None)],
    "2e-6:1000, 1e-6": [(2e-6, 1000), (1e-6, None)],
    "0.001:100, 0.00001:1000, 1e-5:10000": [(1e-3, 100), (1e-5, 1000), (1e-5, 10000)],
    " 2e-6 : 1000 ,1e-6: -1,": [(2e-6, 1000), (1e-6, None)],
    "0:500, 1e-6": [(0.0, 500), (1e-6, None)],
}


@pytest.mark.parametrize("text", GOOD)
def test_reads_what_the_webui_reads(text):
    assert parse_rate_schedule(text) == GOOD[text]


def test_a_number_is_a_schedule_of_one():
    assert parse_rate_schedule(1e-6) == [(1e-6, None)]


BAD = {
    "": "empty",
    " , ": "empty",
    "fast": "not_number",
    "2e-6:soon": "not_step",
    "2e-6:10.5": "not_step",
    "2e-6:": "not_step",
    "2e-6:10:20": "not_step",
    ":100": "not_number",
    "-1e-6": "negative",
    "nan:100, 1e-6": "negative",
    "inf": "negative",
    "1e-6:0": "not_ascending",
    "1e-6:-5": "not_ascending",
    "1e-6:100, 2e-6:100": "not_ascending",
    "1e-6:100, 2e-6:50": "not_ascending",
    "1e-6, 2e-6:500": "not_reached",
    "1e-6:-1, 2e-6": "not_reached",
}


@pytest.mark.parametrize("text", BAD)
def test_refuses_with_a_code(text):
    with pytest.raises(Unfit) as caught:
        parse_rate_schedule(text)
    assert caught.value.message.code == f"rates.{BAD[text]}"


def test_a_refusal_says_how_a_schedule_is_written():
    (problem,) = rate_problems(RunConfig(learning_rate="2e-6:soon"))
    assert str(problem) == (
        "learning_rate: 'soon' in '2e-6:soon' is not a whole number of steps. "
        "Write one number, or '2e-6:1000, 1e-6': 2e-6 for the first 1000 steps, then 1e-6."
    )
    (problem,) = rate_problems(RunConfig(max_grad_norm="1:soon"))
    assert problem.remedy.startswith("Write one number, or '1:500, 0.1'")


def fields(total: int | None = None, **settings) -> list[str]:
    return [problem.field for problem in rate_problems(RunConfig(**settings), total)]


def test_the_defaults_and_usual_rates_are_fine():
    assert fields() == []
    assert fields(2000, learning_rate="2e-6:1000, 1e-6", text_encoder_lr=1e-6) == []
    assert fields(100, learning_rate=2e-6, lr_scheduler="cosine", lr_warmup_steps=10) == []
    assert fields(learning_rate=1.0, text_encoder_lr=1.0, optimizer="prodigy") == []
    assert fields(learning_rate=1.0, text_encoder_lr=1e-6, text_encoder_steps=0, optimizer="prodigy") == []


FREE = "prodigy_schedulefree"
PROBLEMS = [
    ({"learning_rate": "2e-6:x"}, None, ["learning_rate"]),
    ({"text_encoder_lr": "2e-6:x", "text_encoder_2_lr": "1,2"}, None, ["text_encoder_lr", "text_encoder_2_lr"]),
    ({"learning_rate": "2e-6:10, 1e-6", "lr_scheduler": "cosine"}, None, ["lr_scheduler"]),
    ({"learning_rate": "2e-6:10, 1e-6:20"}, 30, ["learning_rate"]),
    ({"learning_rate": 1e-7, "lr_scheduler": "polynomial"}, None, ["learning_rate"]),
    ({"lr_warmup_steps": 5}, None, ["lr_warmup_steps"]),
    ({"lr_warmup_steps": 30, "lr_scheduler": "linear"}, 30, ["lr_warmup_steps"]),
    ({"lr_num_cycles": 2}, None, ["lr_num_cycles"]),
    ({"lr_power": 2.0, "lr_scheduler": "cosine"}, None, ["lr_power"]),
    ({"learning_rate": 2e-6, "optimizer": "prodigy"}, None, ["learning_rate"]),
    ({"learning_rate": 1.0, "text_encoder_lr": 0.5, "optimizer": "prodigy"}, None, ["text_encoder_lr"]),
    ({"learning_rate": 1.0, "optimizer": FREE, "lr_scheduler": "cosine"}, None, ["lr_scheduler"]),
    ({"learning_rate": "1:5, 0.5", "text_encoder_steps": 0, "optimizer": FREE}, None, ["learning_rate"]),
    ({"learning_rate": 0.0, "text_encoder_lr": 0.0}, None, ["learning_rate"]),
    ({"learning_rate": 0.0, "text_encoder_lr": 1e-6, "text_encoder_steps": 0}, None, ["learning_rate"]),
]


@pytest.mark.parametrize(("settings", "total", "expected"), PROBLEMS, ids=lambda value: str(value))
def test_reports_what_cannot_work_or_would_do_nothing(settings, total, expected):
    assert fields(total, **settings) == expected
    assert all(problem.message for problem in rate_problems(RunConfig(**settings), total))
