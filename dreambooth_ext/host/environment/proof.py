"""Checks whether an environment works: failed imports, wrong versions, and missing optional packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.messages.message import Message
from .interpreter import Interpreter
from .layout import Layout
from .lock_file import Recipe, Row, version_tuple


def names_to_import(recipe: Recipe) -> tuple[str, ...]:
    """The required and the optional imports."""
    return (*recipe.imports, *recipe.optional.values())


def faults(layout: Layout, found: Interpreter, expected: list[Row], kind: str) -> list[str]:
    """What keeps the trainer from working."""
    faults: list[str] = [
        Message("environment.no_import", name=name, error=found.imports[name])
        for name in layout.recipe.imports
        if found.imports[name]
    ]
    for row in expected:
        if not row.satisfied_by(found.packages) and row.name not in layout.recipe.optional:
            faults.append(_difference(row, found.packages.get(row.name)))
    if kind != "full":
        own = layout.own_site(found.python, kind)
        strangers = sorted(p.name for p in own.glob("torch*") if p.is_dir())
        if strangers:
            faults.append(Message("environment.second_torch", folder=own, names=strangers))
    return faults


def _difference(row: Row, version: str | None) -> Message:
    if version is None:
        return Message("environment.missing_package", name=row.name, version=row.version)
    return Message("environment.other_version", name=row.name, found=version, version=row.version)


def findings(
    recipe: Recipe, found: Interpreter, expected: set[str], install_errors: Mapping[str, str]
) -> dict[str, Any]:
    """The marker's entries that come from this check."""
    optional = {}
    for package, name in recipe.optional.items():
        reason = found.imports[name] and (install_errors.get(package) or found.imports[name])
        if package not in found.packages and not install_errors.get(package):
            reason = Message("environment.not_installed")
        if package == "bitsandbytes" and not reason and found.torch["device"] == "CPU only":
            # 0.50 is the first that was seen to step on a CPU, and needs torch 2.4
            version = found.packages[package]
            old = version_tuple(version) < (0, 50)
            reason = Message("environment.nvidia_only", name=package, version=version) if old else ""
        if reason:
            optional[package] = reason.as_dict() if isinstance(reason, Message) else reason
    places = {name: place for name, place in found.places.items() if name in expected and place}
    return {"torch": found.torch, "packages": found.packages, "places": places, "optional": optional}
