"""What a host cannot use, said before it is trained: kinds of models, families of bases, and single settings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from ...core.checks import base_header
from ...core.config.run_config import RunConfig
from ...core.errors import Problem
from ...core.facts.family_marks import BASE_FAMILIES
from ...core.facts.methods import MODEL_KINDS, PROMPTED_METHODS
from ...core.messages.message import Message


def problems(
    lacks: Mapping[str, Message],
    refused: Callable[[RunConfig, str], list[Problem]],
    config: RunConfig,
    family: str | None = None,
) -> list[Problem]:
    """Of what a config would make. lacks, refused: see host.Host; family: its title in the plan, where there is one."""
    known = family_of(config) if family is None else base_header.by_title(family)
    named = {"method": lacks.get(MODEL_KINDS[config.method]), "base_model": lacks.get(known)}
    lacking = [Problem(why.code, field, **why.values) for field, why in named.items() if why]
    return lacking or refused(config, known)


def told(bases: Iterable[Mapping[str, str]], lacks: Mapping[str, Message]) -> list[dict[str, str]]:
    """A host's bases, each with the family for which the host cannot use it ("lacks"), "" where it can."""
    families = lacks.keys() & BASE_FAMILIES.keys()  # usually none: then no file is looked into
    found = ((base, base_header.family_of(base["path"]) if families else "") for base in bases)
    return [{**base, "lacks": family if family in families else ""} for base, family in found]


def family_of(config: RunConfig) -> str:
    return base_header.family_of(config.base_model) if config.method in PROMPTED_METHODS else ""
