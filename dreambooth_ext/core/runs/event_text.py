"""Renders a run's events as English text for terminals and logs."""

from __future__ import annotations

from typing import Any

from ..errors import Problem
from ..messages.message import number
from ..system.terminal import clock


def told(event: dict[str, Any]) -> str:
    """One line of text for a worker's event; "" if there is nothing to show."""
    teller = _TELLERS.get(event["type"])
    return teller(event) if teller else ""


def step_figures(event: dict[str, Any]) -> str:
    """A step event's loss, learning rates and memory as text."""
    rates = ", ".join(f"{name} {number(rate)}" for name, rate in event["lr"].items())
    memory = event["memory"]["peak"] / 2**30
    loss = "overflowed (step skipped)" if event["loss"] is None else f"{event['loss']:.4f}"
    return f"loss {loss}, learning rate {rates}, {memory:.1f} GB"


def precision(plan: dict[str, Any]) -> str:
    """The precision in which a planned run computes."""
    return "fp32" if plan["mixed_precision"] == "no" else plan["mixed_precision"]


def _status(event: dict[str, Any]) -> str:
    if "stage" in event:
        more = f", for {event['minutes']} minutes more at most" if event.get("minutes") else ""
        return f"{event['stage']} {event['done']}" + (f"/{event['of']}" if event["of"] else "") + more
    if plan := event.get("plan"):
        length = f"{plan['pictures']} pictures, {plan['steps']} steps ({plan['epochs']:g} epochs)"
        if not plan["pictures"]:
            length = f"pictures in shards, {plan['steps']} steps"
        device = f"{plan['device']}, {precision(plan)}"
        return f"{plan['family']} at {plan['resolution']}, {length} with {plan['optimizer']} on {device}"
    return event["status"]


def _step(event: dict[str, Any]) -> str:
    return f"step {event['step']}/{event['total']}, {step_figures(event)}, {clock(event['eta_s'])} left"


def _problem(level: str, event: dict[str, Any]) -> str:
    return f"{level}: {Problem.from_dict({'message': event['what'], **event})}"


def _measurement(event: dict[str, Any]) -> str:
    shares = [f"{name} noise {ratio:.3f}" for name, ratio in event["learned"].items()]
    rest = [f"{name} {event[name]:.3f}" for name in ("held", "class", "drift", "word") if event.get(name) is not None]
    return f"measured at step {event['step']}: loss relative to the base's {', '.join(shares)}; {', '.join(rest)}"


_TELLERS = {
    "status": _status,
    "step": _step,
    "measurement": _measurement,
    "sample": lambda event: f"preview of step {event['step']}: {event['path']}",
    "checkpoint": lambda event: f"saved the training state of step {event['step']}",
    "artifact": lambda event: f"wrote {event['path']}",
    "warning": lambda event: _problem("warning", event),
    "error": lambda event: _problem("error", event),
}
