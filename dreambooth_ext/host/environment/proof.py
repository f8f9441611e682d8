"""Whether an environment works: what does not import, what has another version, and which options it lacks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .interpreter import Interpreter
from .layout import Layout
from .lock_file import Recipe, Row, version_tuple


def names_to_import(recipe: Recipe) -> tuple[str, ...]:
    """What has to import, and what may."""
    return (*recipe.imports, *recipe.optional.values())


def faults(layout: Layout, found: Interpreter, expected: list[Row], kind: str) -> list[str]:
    """What keeps the trainer from working, one sentence each."""
    faults = [
        f"{name} does not import ({found.imports[name]})" for name in layout.recipe.imports if found.imports[name]
    ]
    for row in expected:
        if not row.satisfied_by(found.packages) and row.name not in layout.recipe.optional:
            faults.append(f"{row.name} is {found.packages.get(row.name, 'missing')}, not {row.version}")
    if kind != "full":
        own = layout.own_site(found.python, kind)
        strangers = sorted(p.name for p in own.glob("torch*") if p.is_dir())
        if strangers:
            faults.append(f"a second torch in {own} ({', '.join(strangers)})")
    return faults


def findings(
    recipe: Recipe, found: Interpreter, expected: set[str], install_errors: Mapping[str, str]
) -> dict[str, Any]:
    """The marker's entries that come from trying it out."""
    optional = {}
    for package, name in recipe.optional.items():
        reason = found.imports[name] and (install_errors.get(package) or found.imports[name])
        if package not in found.packages and not install_errors.get(package):
            reason = "not installed"
        if package == "bitsandbytes" and not reason and found.torch["device"] == "CPU only":
            # 0.50 is the first that was seen to step on a CPU, and needs torch 2.4
            old = version_tuple(found.packages[package]) < (0, 50)
            reason = f"{found.packages[package]}, which this torch needs, works on NVIDIA cards only" if old else ""
        if reason:
            optional[package] = reason
    places = {name: place for name, place in found.places.items() if name in expected and place}
    return {"torch": found.torch, "packages": found.packages, "places": places, "optional": optional}
