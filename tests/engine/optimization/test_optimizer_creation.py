"""Optimizers really step and really continue; rates are those of diffusers and of the WebUI."""

from __future__ import annotations

import builtins
import copy
import os

import pytest
import torch

from dreambooth_ext.core.config.run_config import RunConfig
from dreambooth_ext.core.errors import UserError
from dreambooth_ext.core.facts.optimizer_facts import OPTIMIZERS
from dreambooth_ext.engine.methods import METHODS
from dreambooth_ext.engine.optimization import optimizer_creation
from dreambooth_ext.engine.optimization.lr_schedule import RateSchedules
from dreambooth_ext.engine.optimization.optimizer_creation import (
    apart,
    choose_optimizer,
    forget,
    load_state,
    make_optimizer,
    missing_optimizer,
)

CPU = torch.device("cpu")
NAMES = [name for name in OPTIMIZERS if not missing_optimizer(name, CPU)]
pytestmark = pytest.mark.filterwarnings("ignore:Paged optimizers are not supported on CPU")


def problem(seed: int = 0) -> torch.nn.Parameter:
    """5000 numbers to bring to 0; more than the 4096 from which bitsandbytes keeps 8 bits."""
    return torch.nn.Parameter(torch.randn(50, 100, generator=torch.Generator().manual_seed(seed)))


def made(name: str, groups: list[dict], **settings) -> torch.optim.Optimizer:
    return make_optimizer(RunConfig(optimizer=name, **settings), groups)


def rate_for(name: str) -> float:
    facts = OPTIMIZERS[name]
    return 1.0 if facts.finds_rate else 0.1 if facts.usual_rate > 1 else 1e-2


def one_group(name: str, parameter: torch.nn.Parameter) -> list[dict]:
    return [{"name": "unet", "params": [parameter], "rate": rate_for(name)}]


def step(optimizer: torch.optim.Optimizer, *parameters: torch.nn.Parameter, scale: float = 1.0) -> float:
    loss = sum((scale * (parameter**2)).mean() for parameter in parameters)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return loss.item()


def test_all_work_here_if_installed():
    """The pinned environment has them all, and bitsandbytes has a CPU path from torch 2.4 on."""
    pytest.importorskip("bitsandbytes")
    if torch.__version__ < (2, 4):
        pytest.skip("its bitsandbytes needs an NVIDIA card")
    assert list(OPTIMIZERS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_learns_a_small_problem(name):
    parameter = problem()
    optimizer = made(name, one_group(name, parameter))
    losses = [step(optimizer, parameter) for _ in range(60)]
    assert losses[-1] < losses[0] - 1e-3, losses


@pytest.mark.parametrize("name", NAMES)
def test_continues_bitwise_from_a_saved_state(name, tmp_path):
    parameter = problem()
    optimizer = made(name, one_group(name, parameter))
    for index in range(5):
        step(optimizer, parameter, scale=1 + index)
    torch.save({"weights": parameter.detach(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    for index in range(5):
        step(optimizer, parameter, scale=2 + index)

    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = torch.nn.Parameter(saved["weights"])
    optimizer = made(name, one_group(name, resumed))
    optimizer.load_state_dict(saved["optimizer"])
    assert optimizer.param_groups[0]["name"] == "unet"
    for index in range(5):
        step(optimizer, resumed, scale=2 + index)
    assert torch.equal(parameter, resumed)


@pytest.fixture
def pages(monkeypatch):
    """bitsandbytes' pages on a machine without a card: marked tensors of the CPU. Returns what was sent away."""
    module = pytest.importorskip("bitsandbytes.optim.optimizer")
    if "paged_adamw8bit" not in NAMES:
        pytest.skip("its bitsandbytes needs an NVIDIA card")
    sent = []

    def paged(optimizer, parameter, dtype=torch.float32):
        pages = torch.zeros_like(parameter, dtype=dtype)
        pages.is_paged = True
        optimizer.page_mng.paged_tensors.append(pages)
        return pages

    monkeypatch.setattr(module.F.GlobalPageManager.get_instance(), "paged_tensors", [])
    monkeypatch.setattr(module.Optimizer8bit, "get_state_buffer", paged)
    monkeypatch.setattr(module.F, "prefetch_tensor", lambda tensor, to_cpu=False: sent.append(tensor) if to_cpu else 0)
    return sent


def test_paged_states_are_in_pages_again_after_a_resume(pages, tmp_path):
    parameter = problem()
    optimizer = made("paged_adamw8bit", one_group("paged_adamw8bit", parameter))
    for _ in range(3):
        step(optimizer, parameter)
    torch.save({"weights": parameter.detach(), "optimizer": optimizer.state_dict()}, tmp_path / "state.pt")
    saved = torch.load(tmp_path / "state.pt", weights_only=True)
    resumed = torch.nn.Parameter(saved["weights"])
    again = made("paged_adamw8bit", one_group("paged_adamw8bit", resumed))
    before = len(again.page_mng.paged_tensors)
    load_state(again, saved["optimizer"])
    states = [again.state[resumed][name] for name in ("state1", "state2")]
    assert all(state.is_paged for state in states)
    assert [id(tensor) for tensor in again.page_mng.paged_tensors[before:]] == [id(state) for state in states]
    for optimizer_, parameter_ in ((optimizer, parameter), (again, resumed)):
        step(optimizer_, parameter_)
    assert torch.equal(parameter, resumed)


def test_paged_states_that_are_loaded_never_lie_on_the_card(pages):
    """Which may have no room for them. The card here is one that keeps no numbers: what goes there is lost."""
    parameter = problem()
    optimizer = made("paged_adamw8bit", one_group("paged_adamw8bit", parameter))
    for _ in range(3):
        step(optimizer, parameter)
    on_card = torch.nn.Parameter(torch.empty_like(parameter, device="meta"))
    again = type(optimizer)([{"name": "unet", "params": [on_card]}], lr=1e-2)
    again.get_state_buffer = lambda _, dtype: type(optimizer).get_state_buffer(optimizer, parameter, dtype)
    load_state(again, optimizer.state_dict())
    for name in ("state1", "state2"):
        assert again.state[on_card][name].is_paged
        assert torch.equal(again.state[on_card][name], optimizer.state[parameter][name])
    assert again.state[on_card]["qmap1"].device.type == "meta"


def test_pages_of_a_group_that_leaves_are_sent_away_and_let_go(pages):
    stays, leaves = problem(1), problem(2)
    groups = [
        {"name": "unet", "params": [stays], "rate": 1e-2},
        {"name": "text_encoder", "params": [leaves], "rate": 1e-2},
    ]
    optimizer = made("paged_adamw8bit", groups)
    known = len(optimizer.page_mng.paged_tensors)
    step(optimizer, stays, leaves)
    left = [optimizer.state[leaves][name] for name in ("state1", "state2")]
    forget(optimizer, ["text_encoder"])
    assert [id(tensor) for tensor in pages] == [id(tensor) for tensor in left]
    assert len(optimizer.page_mng.paged_tensors) == known + 2
    assert [group["name"] for group in optimizer.param_groups] == ["unet"] and list(optimizer.state) == [stays]
    step(optimizer, stays)


@pytest.mark.parametrize("name", [name for name in NAMES if not OPTIMIZERS[name].finds_rate])
def test_each_group_has_its_own_rate(name):
    """Two equal parameters, one rate ten times the other, and a third at rate 0."""
    fast, slow, still = problem(), problem(), problem()
    groups = [
        {"name": "unet", "params": [fast], "rate": 1e-2},
        {"name": "text_encoder", "params": [slow], "rate": 1e-3},
        {"name": "text_encoder_2", "params": [still], "rate": 0},
    ]
    optimizer = made(name, groups, weight_decay=0.0)
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {
        "unet": 1e-2,
        "text_encoder": 1e-3,
        "text_encoder_2": 0,
    }
    step(optimizer, fast, slow, still)
    moved = [(p.detach() - problem().detach()).norm().item() for p in (fast, slow, still)]
    assert moved[2] == 0 and moved[0] == pytest.approx(10 * moved[1], rel=0.02)


def test_prodigy_takes_one_rate_and_groups_at_0():
    pytest.importorskip("prodigyopt")
    groups = [{"name": "unet", "params": [problem()], "rate": 1}, {"name": "b", "params": [problem()], "rate": 0.5}]
    with pytest.raises(UserError) as caught:
        made("prodigy", groups)
    assert caught.value.problem.field == "text_encoder_lr"
    groups[1]["rate"] = 0
    made("prodigy", groups)


@pytest.mark.parametrize("name", NAMES)
def test_weight_decay_reaches_the_weights(name):
    ends = []
    for decay in (0.0, 5.0):
        parameter = problem()
        optimizer = made(name, one_group(name, parameter), weight_decay=decay)
        for _ in range(3):
            step(optimizer, parameter)
        ends.append(parameter.detach().norm().item())
    assert ends[1] < ends[0]


def test_adamw_is_the_papers():
    """Loshchilov and Hutter 2019, Algorithm 2, in float64."""
    parameter = problem()
    w = parameter.detach().double().clone()
    m, v = torch.zeros_like(w), torch.zeros_like(w)
    optimizer = made("adamw", one_group("adamw", parameter), optimizer_args={"betas": [0.8, 0.95], "eps": 1e-6})
    for t in range(1, 6):
        step(optimizer, parameter)
        gradient = 2 * w / w.numel()
        m, v = 0.8 * m + 0.2 * gradient, 0.95 * v + 0.05 * gradient**2
        w = w - 1e-2 * 0.01 * w - 1e-2 * (m / (1 - 0.8**t)) / ((v / (1 - 0.95**t)).sqrt() + 1e-6)
    torch.testing.assert_close(parameter.detach().double(), w, rtol=1e-5, atol=1e-6)


# --- Arguments


ARGUMENTS = [
    ("adamw", {"betas": [0.8, 0.99]}, "betas", (0.8, 0.99)),
    ("adamw", {"amsgrad": True}, "amsgrad", True),
    ("adamw8bit", {"eps": 1e-6}, "eps", 1e-6),
    ("lion", {"betas": [0.95, 0.98]}, "betas", (0.95, 0.98)),
    ("adafactor", {"beta1": 0.9}, "beta1", 0.9),
    ("adafactor", {"scale_parameter": True}, "scale_parameter", True),
    ("prodigy", {"d_coef": 2}, "d_coef", 2),
    ("prodigy", {"safeguard_warmup": False}, "safeguard_warmup", False),
    ("came", {"betas": [0.9, 0.99, 0.999]}, "betas", (0.9, 0.99, 0.999)),
    ("prodigy_schedulefree", {"split_groups_mean": True}, "split_groups_mean", True),
    ("sgd", {"momentum": 0.9}, "momentum", 0.9),
]


@pytest.mark.parametrize(("name", "arguments", "key", "value"), ARGUMENTS)
def test_arguments_arrive(name, arguments, key, value):
    if name not in NAMES:
        pytest.skip(f"{name} does not work here")
    optimizer = made(name, one_group(name, problem()), optimizer_args=arguments)
    assert optimizer.param_groups[0][key] == value


REFUSED = [
    ("adamw", {"momentum": 0.9}),
    ("adamw", {"beta": [0.9, 0.99]}),
    ("adamw", {"betas": [0.9]}),
    ("adamw", {"betas": ["a", "b"]}),
    ("adamw", {"betas": [0.9, 1.5]}),
    ("adamw", {"eps": "small"}),
    ("adamw", {"amsgrad": "yes"}),
    ("adamw", {"lr": 1e-3}),
    ("adamw", {"weight_decay": 0.1}),
    ("adamw", {"maximize": True}),
    ("adamw", {"params": []}),
    ("adamw", {"self": 1}),
    ("adamw", {"fused": True, "foreach": True}),
    ("adamw8bit", {"optim_bits": 8}),
    ("adafactor", {"relative_step": True}),
    ("lion", {"betas": [0.9, 1.5]}),
    ("prodigy", {"d0": 0}),
    ("prodigy_schedulefree", {"use_schedulefree": False}),
    ("prodigy_schedulefree", {"fused_back_pass": True}),
    ("came", {"betas": [0.9, 0.99]}),
    ("sgd", {"nesterov": True}),
]


@pytest.mark.parametrize(("name", "arguments"), REFUSED)
def test_unknown_and_wrong_arguments_are_refused(name, arguments):
    if name not in NAMES:
        pytest.skip(f"{name} does not work here")
    with pytest.raises(UserError) as caught:
        made(name, one_group(name, problem()), optimizer_args=arguments)
    assert caught.value.problem.field == "optimizer_args" and caught.value.problem.remedy


def test_refusal_names_what_is_known():
    with pytest.raises(UserError) as caught:
        made("sgd", one_group("sgd", problem()), optimizer_args={"betas": [0.9, 0.99]})
    assert "betas" in caught.value.problem.message and "momentum" in caught.value.problem.remedy


# --- What a machine can do


@pytest.mark.parametrize("method", METHODS)
def test_auto_is_8_bit_where_whole_models_learn_on_an_nvidia_card(monkeypatch, method):
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(optimizer_creation, "missing_optimizer", lambda name, device: None)
    whole = method in ("dreambooth", "finetune", "unconditional")
    assert choose_optimizer(method, torch.device("cuda")) == ("adamw8bit" if whole else "adamw")
    assert choose_optimizer(method, CPU) == "adamw"
    monkeypatch.setattr(optimizer_creation, "missing_optimizer", lambda name, device: "it does not work here.")
    assert choose_optimizer(method, torch.device("cuda")) == "adamw"
    monkeypatch.setattr(torch.version, "cuda", None)  # AMD's torch calls its devices cuda too
    assert choose_optimizer(method, torch.device("cuda")) == "adamw"


def test_a_missing_package_is_a_reason_and_not_a_crash(monkeypatch):
    real = builtins.__import__

    def refuse(name, *rest, **more):
        if name.startswith("bitsandbytes"):
            raise ImportError("No module named 'bitsandbytes'")
        return real(name, *rest, **more)

    monkeypatch.setattr("importlib.import_module", lambda name, *rest: refuse(name))
    with pytest.raises(UserError) as caught:
        made("adamw8bit", one_group("adamw8bit", problem()))
    assert caught.value.problem.field == "optimizer" and "bitsandbytes" in caught.value.problem.message


def test_8_bit_without_a_path_for_this_machine_is_a_reason(monkeypatch):
    optim = pytest.importorskip("bitsandbytes.optim")

    class Broken(optim.AdamW8bit):
        def step(self, closure=None):
            raise NotImplementedError("no kernel for cpu\nand a long trace")

    monkeypatch.setattr(optim, "AdamW8bit", Broken)
    assert missing_optimizer("adamw8bit", CPU).endswith("no kernel for cpu")


def test_a_trial_of_pages_is_large_enough_to_be_paged(monkeypatch, pages):
    tried = []
    buffer = optimizer_creation.importlib.import_module("bitsandbytes.optim.optimizer").Optimizer8bit.get_state_buffer

    def watched(optimizer, parameter, dtype=torch.float32):
        tried.append(parameter.numel())
        return buffer(optimizer, parameter, dtype)

    monkeypatch.setattr("bitsandbytes.optim.optimizer.Optimizer8bit.get_state_buffer", watched)
    optimizer_creation._try_pages("paged_adamw8bit", "cpu")
    assert tried and min(tried) >= 1e5  # bitsandbytes pages from there on


def test_a_trial_in_a_process_of_its_own_returns_and_raises_as_a_call_does():
    assert optimizer_creation.apart(abs, -3) == 3
    with pytest.raises(ValueError, match="invalid literal"):
        optimizer_creation.apart(int, "x")


def test_a_card_without_pages_is_a_reason_though_its_library_ends_the_process(monkeypatch):
    optimizer_creation._missing_pages.cache_clear()
    monkeypatch.setattr(optimizer_creation, "apart", lambda *_: apart(os._exit, 1))
    reason = missing_optimizer("paged_adamw8bit", torch.device("cuda", 0))
    optimizer_creation._missing_pages.cache_clear()
    assert "cuda:0 has no managed memory" in reason


@pytest.mark.parametrize("name", NAMES)
def test_a_step_at_rate_0_changes_nothing_and_harms_nothing(name):
    """Warm-up begins at 0."""
    parameter = problem()
    optimizer = made(name, one_group(name, parameter))
    schedules = RateSchedules(RunConfig(lr_scheduler="linear", lr_warmup_steps=2), one_group(name, parameter), 50)
    before = copy.deepcopy(parameter.data)
    schedules.set_rates(optimizer, 0)
    step(optimizer, parameter)
    assert torch.equal(before, parameter.data)
    for index in range(1, 5):
        schedules.set_rates(optimizer, index)
        step(optimizer, parameter)
    assert not torch.equal(before, parameter.data) and torch.isfinite(parameter).all()
