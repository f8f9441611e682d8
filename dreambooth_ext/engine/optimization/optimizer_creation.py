"""Create optimizers by name: whether they work on this machine, loading their state, removing parameter groups."""

from __future__ import annotations

import functools
import importlib
import inspect
import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import torch

from ...core.config.parsing import shown
from ...core.config.rates import parse_rate_schedule
from ...core.config.stages import ResolvedConfig
from ...core.errors import UserError
from ...core.facts.methods import WHOLE_METHODS
from ...core.facts.optimizer_facts import EVERYWHERE, OPTIMIZERS, SMALL, OptimizerFacts
from ...core.messages.message import Message, reason_of
from ..runtime.device import take_device
from ..runtime.left_out import uncompiled_step
from .kernel_matrices import with_matrices
from .parameter_group import ParameterGroup
from .single_steps import loaded_as_float32

PAGED_FROM = 100_000  # parameters, from which on bitsandbytes pages a tensor's state


def choose_optimizer(method: str, device: torch.device) -> str:
    """Return what "auto" means: 8-bit AdamW for whole models on an NVIDIA card that supports it, else AdamW.

    bitsandbytes steps tensor by tensor and synchronises with the card after each: for the 1444 tensors of an SDXL LoRA
    that takes 100 ms a step, ten times as long as PyTorch's AdamW, to save 0.3 GB.
    """
    if method not in WHOLE_METHODS or device.type != "cuda" or torch.version.cuda is None:
        return EVERYWHERE
    return EVERYWHERE if missing_optimizer(SMALL, device) else SMALL


def missing_optimizer(name: str, device: torch.device) -> Message | None:
    """Return why this optimizer cannot work on this device, or None if it can."""
    facts = OPTIMIZERS[name]
    try:
        optimizer_class = class_of(facts)
        if facts.is_paged and device.type == "cuda":
            return _missing_pages(name, str(device))
        if facts.needs_trial:
            _try_step(optimizer_class, device)
    except (ImportError, AttributeError, NameError, OSError, RuntimeError, NotImplementedError) as error:
        # NameError: bitsandbytes 0.45 leaves its functions undefined where it has no library
        return Message("device.package_fails", package=facts.package, error=reason_of(error))
    return None


def class_of(facts: OptimizerFacts) -> type[torch.optim.Optimizer]:
    found: Any = uncompiled_step(getattr(importlib.import_module(facts.module), facts.class_name))
    return with_matrices(found) if facts.is_factored else found


@functools.cache
def _missing_pages(name: str, device: str) -> Message | None:
    """Return why this card does not support paged memory, or None if it does.

    This is tried in a separate process: if the driver does not provide such memory (virtual cards often lack it),
    bitsandbytes ends the process from C.
    """
    package = OPTIMIZERS[name].package
    try:
        apart(_try_pages, name, device)
    except BrokenProcessPool:
        return Message("device.no_paged_memory", package=package, device=device)
    except (ImportError, AttributeError, NameError, OSError, RuntimeError, NotImplementedError) as error:
        return Message("device.package_fails", package=package, error=reason_of(error))
    return None


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a module-level function in a separate process and return its result. Raises what it raises, and
    BrokenProcessPool if the process dies."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def _try_pages(name: str, device: str) -> None:
    take_device(device)
    _try_step(class_of(OPTIMIZERS[name]), torch.device(device), PAGED_FROM)


def _try_step(optimizer_class: type[torch.optim.Optimizer], device: torch.device, numbers: int = 4096) -> None:
    """Take one step with 8-bit AdamW: bitsandbytes may import without a library for this machine and fail only then."""
    parameter = torch.nn.Parameter(torch.zeros(numbers, device=device))  # with fewer than 4096 numbers it keeps 32 bits
    parameter.grad = torch.ones_like(parameter)
    optimizer_class([parameter], lr=1e-3).step()
    if not parameter.abs().sum() > 0:
        raise RuntimeError(Message("device.step_changes_nothing"))


def make_optimizer(config: ResolvedConfig, groups: Iterable[ParameterGroup]) -> torch.optim.Optimizer:
    """Create the optimizer that `config.optimizer` names, which must not be "auto".

    groups: dicts of "name", "params" (a list) and "rate" (a number or a schedule's text), optionally "weight_decay".
    The optimizer's groups have "name" and "lr"; `RateSchedules` updates "lr" each step.
    Raises UserError if the optimizer does not work on this machine, or for unknown arguments.
    """
    facts, groups = OPTIMIZERS[config.optimizer], list(groups)
    device = groups[0]["params"][0].device
    if reason := missing_optimizer(config.optimizer, device):
        raise UserError("device.optimizer_fails", "optimizer", optimizer=config.optimizer, reason=reason)
    optimizer_class = class_of(facts)
    arguments = {**facts.defaults} | _checked_arguments(config, optimizer_class)
    if "foreach" not in arguments:  # torch accepts only one of the two
        arguments = _fused(optimizer_class, device) | arguments
    parameters: list[dict[str, Any]] = []
    for group in groups:
        rate = parse_rate_schedule(group["rate"])[0][0]
        own = {"weight_decay": group["weight_decay"]} if "weight_decay" in group else {}
        parameters.append({"params": group["params"], "name": group["name"], "lr": rate, **own})
    rates = {group["lr"] for group in parameters if group["lr"]}
    if facts.finds_rate and len(rates) > 1:
        raise UserError("device.one_learning_rate", "text_encoder_lr", optimizer=facts.class_name)
    highest = max(rates, default=1e-6)  # some optimizers refuse a default of 0; each group has its own
    try:
        return optimizer_class(parameters, lr=highest, weight_decay=config.weight_decay, **arguments)
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        known = {"optimizer": config.optimizer, "error": reason_of(error)}
        raise UserError("device.arguments_refused", "optimizer_args", **known) from error


def load_state(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Call `load_state_dict` so that numbers keep their precision. `state` must not be used afterwards."""
    if hasattr(optimizer, "non_castable_tensor_keys"):
        _load_quantised(optimizer, state)
        return
    with loaded_as_float32(optimizer):
        optimizer.load_state_dict(state)
    for parameter, saved in _by_parameter(optimizer, state):
        loaded = optimizer.state[parameter]
        for name, value in saved.items():
            if isinstance(value, torch.Tensor) and loaded[name].dtype != value.dtype:
                loaded[name] = value.to(loaded[name].device)


def _load_quantised(optimizer: Any, state: dict[str, Any]) -> None:
    """Load the state of one of bitsandbytes' optimizers, and paged parts into pages. Its own function would copy all
    of it first, and load pages as tensors on the card, which may have no room for them."""
    optimizer.load_state_dict({**state, "state": {}})
    for parameter, saved in _by_parameter(optimizer, state):
        values = dict(saved)
        values |= values.pop(getattr(optimizer, "_FSDP_WRAPPED_QUANT_STATE_KEY", ""), {})
        for name, value in values.items():
            if isinstance(value, torch.Tensor):
                pages = optimizer.is_paged and name in ("state1", "state2")
                buffer = optimizer.get_state_buffer(parameter, dtype=value.dtype) if pages else None
                values[name] = value.to(parameter.device) if buffer is None else buffer.copy_(value)
        optimizer.state[parameter] = values


def _by_parameter(
    optimizer: torch.optim.Optimizer, state: dict[str, Any]
) -> Iterator[tuple[torch.nn.Parameter, dict[str, Any]]]:
    """Yield an optimizer's parameters with what a saved state has of each."""
    places = [place for group in state["param_groups"] for place in group["params"]]
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for place, parameter in zip(places, parameters, strict=True):
        if place in state["state"]:
            yield parameter, state["state"][place]


def forget(optimizer: torch.optim.Optimizer, names: list[str]) -> None:
    """Remove parameter groups that have stopped learning, with their optimizer state.

    bitsandbytes keeps a list of all pages that it ever created and cannot free them: those no longer needed are moved
    to the computer's own memory, which frees the card's.
    """
    left = [group for group in optimizer.param_groups if group["name"] in names]
    states = [optimizer.state.pop(parameter, {}) for group in left for parameter in group["params"]]
    optimizer.param_groups[:] = [group for group in optimizer.param_groups if group["name"] not in names]
    pages = [value for values in states for value in values.values() if getattr(value, "is_paged", False)]
    if pages:
        functional = importlib.import_module("bitsandbytes.functional")
        gone = set(map(id, pages))
        manager = optimizer.page_mng
        manager.paged_tensors[:] = [tensor for tensor in manager.paged_tensors if id(tensor) not in gone]
        for tensor in pages:
            functional.prefetch_tensor(tensor, to_cpu=True)


def _fused(optimizer_class: type, device: torch.device) -> dict[str, bool]:
    """Return the option for torch's fused implementation, if available: several times faster on a CPU, without copies
    of the weights."""
    if "fused" not in inspect.signature(optimizer_class).parameters:
        return {}
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    return {"fused": True} if device.type == "cuda" or (device.type == "cpu" and version >= (2, 4)) else {}


def _checked_arguments(config: ResolvedConfig, optimizer_class: type) -> dict[str, Any]:
    """Return `config.optimizer_args` after checking their names and types; lists become tuples."""
    closed = OPTIMIZERS[config.optimizer].closed | {"self", "params", "lr", "weight_decay"}
    known = {n: p for n, p in inspect.signature(optimizer_class).parameters.items() if n not in closed}
    arguments = {}
    for name, value in config.optimizer_args.items():
        if name in ("lr", "weight_decay"):
            setting = "learning_rate" if name == "lr" else name
            raise UserError("device.own_setting", "optimizer_args", name=name, setting=setting)
        if name not in known:
            said = {"optimizer": config.optimizer, "name": name, "known": list(known)}
            raise UserError("device.unknown_argument", "optimizer_args", **said)
        value = tuple(value) if isinstance(value, list) else value
        if not _fits(value, known[name].default):
            said = {"name": name, "value": shown(value), "default": shown(known[name].default)}
            raise UserError("device.bad_argument", "optimizer_args", **said)
        arguments[name] = value
    return arguments


def _fits(value: Any, default: Any) -> bool:
    """Whether a value has the type of an argument's default, if that tells."""
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, tuple):
        return isinstance(value, tuple) and len(value) == len(default) and all(_fits(v, 0.0) for v in value)
    if isinstance(default, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return value is None or isinstance(value, bool | int | float)
