"""Which devices a run takes."""

from __future__ import annotations

import pytest

from dreambooth_ext.core.checks import config_checks
from dreambooth_ext.core.config import devices
from dreambooth_ext.core.config.run_config import RunConfig


@pytest.mark.parametrize(
    ("device", "wanted", "taken", "count"),
    [
        ("cuda", 1, ["cuda:0"], 1),
        ("cuda", 3, ["cuda:0", "cuda:1", "cuda:2"], 3),
        ("cuda:2", 2, ["cuda:2", "cuda:3"], 2),
        ("cuda:0,2", 1, ["cuda:0", "cuda:2"], 2),
        ("cuda:3, cuda:1,CUDA", 3, ["cuda:3", "cuda:1", "cuda:0"], 3),
        ("cpu", 4, ["cpu"], 4),
        ("mps", 1, ["mps"], 1),
        ("", 1, [""], 1),
        ("cuda:x", 2, ["cuda:x"], 2),
    ],
)
def test_a_run_takes_a_card_for_each_process(device, wanted, taken, count):
    assert devices.of_processes(device, wanted) == taken
    assert devices.processes(device, wanted) == count


@pytest.mark.parametrize("device", ["cuda:0,0", "cuda:0,cpu", "cuda,0", "0,1", ",", "cuda:0,"])
def test_a_list_that_chooses_no_cards_is_refused(device):
    assert problems(device=device)["device"].startswith(f"device: '{device}' chooses no cards")


def test_cards_and_processes_must_not_contradict_each_other():
    assert "processes" in problems(device="cuda:0,1", processes=3)
    for count in (1, 2):
        assert not {"device", "processes"} & problems(device="cuda:0,1", processes=count).keys()


def problems(**settings) -> dict[str, str]:
    return {problem.field: str(problem) for problem in config_checks.check(RunConfig(**settings)).problems}
