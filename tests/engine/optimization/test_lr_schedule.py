"""The learning rate of each step: diffusers' schedules, and the WebUI's way to write one."""

from __future__ import annotations

import pytest
import torch
from diffusers.optimization import get_scheduler

from dreambooth_ext.core.config.form_sections.training import LR_SCHEDULERS
from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.engine.optimization.lr_schedule import RateSchedule, RateSchedules


def parameter() -> torch.nn.Parameter:
    return torch.nn.Parameter(torch.zeros(3))


@pytest.mark.parametrize("name", LR_SCHEDULERS)
@pytest.mark.parametrize("options", [{}, {"lr_warmup_steps": 7}, {"lr_num_cycles": 3, "lr_power": 2.0}])
def test_rates_are_those_of_diffusers_stepped(name, options):
    config = RunConfig(lr_scheduler=name, **options)
    carrier = torch.optim.SGD([parameter()], lr=3e-6)
    reference = get_scheduler(
        name,
        carrier,
        num_warmup_steps=config.lr_warmup_steps,
        num_training_steps=40,
        num_cycles=config.lr_num_cycles,
        power=config.lr_power,
    )
    schedule = RateSchedule(3e-6, config, 40)
    for index in range(41):
        assert schedule.at(index) == pytest.approx(reference.get_last_lr()[0], rel=1e-12, abs=1e-18), index
        carrier.step()
        reference.step()
    assert schedule.at(1000) == schedule.at(40)  # no rise after the end


def test_a_rate_has_no_memory():
    schedule = RateSchedule(1e-6, RunConfig(lr_scheduler="cosine", lr_warmup_steps=3), 20)
    forwards = [schedule.at(index) for index in range(20)]
    assert [schedule.at(index) for index in reversed(range(20))] == forwards[::-1]


def webui_rates(text: str, total: int) -> list[float]:
    """The rates the WebUI trains steps 1..total with: it looks before each step, with the steps done so far."""
    pairs = [pair.split(":") for pair in text.replace(" ", "").split(",")]
    ends = [(float(p[0]), int(p[1]) if len(p) == 2 and p[1] != "-1" else total) for p in pairs]
    rates, index = [], 0
    for done in range(total):
        if done >= ends[index][1] and index + 1 < len(ends):
            index += 1
        rates.append(ends[index][0])
    return rates


@pytest.mark.parametrize("text", ["2e-6:10, 1e-6", "5e-6:1, 2e-6:7, 1e-6:20", "0:3,1e-6:-1", "3e-6:100"])
def test_a_written_schedule_is_the_webuis(text):
    schedule = RateSchedule(text, RunConfig(), 20)
    assert [schedule.at(index) for index in range(20)] == webui_rates(text, 20)


def test_a_written_schedules_first_rate_covers_exactly_its_steps():
    schedule = RateSchedule("2e-6:1000, 1e-6", RunConfig(), 2000)
    assert [schedule.at(done) for done in (0, 999, 1000, 1999, 5000)] == [2e-6, 2e-6, 1e-6, 1e-6, 1e-6]


def test_unreadable_rates_name_their_setting():
    groups = [{"name": "unet", "params": [], "rate": 1e-6}, {"name": "text_encoder", "params": [], "rate": "1e-6:x"}]
    with pytest.raises(UserError) as caught:
        RateSchedules(RunConfig(), groups, 10)
    assert caught.value.problem.field == "text_encoder_lr"


def test_polynomial_below_its_own_end_is_a_user_error():
    with pytest.raises(UserError) as caught:
        RateSchedule(1e-8, RunConfig(lr_scheduler="polynomial"), 10)
    assert caught.value.problem.field == "lr_scheduler"


def test_groups_get_their_rates_and_may_leave():
    groups = [
        {"name": "unet", "params": [parameter()], "rate": "2e-6:5, 1e-6"},
        {"name": "text_encoder", "params": [parameter()], "rate": 5e-7},
    ]
    optimizer, schedules = torch.optim.AdamW(groups), RateSchedules(RunConfig(), groups, 10)
    assert schedules.set_rates(optimizer, 4) == {"unet": 2e-6, "text_encoder": 5e-7}
    assert [group["lr"] for group in optimizer.param_groups] == [2e-6, 5e-7]
    del optimizer.param_groups[1]
    assert schedules.set_rates(optimizer, 5) == {"unet": 1e-6}
