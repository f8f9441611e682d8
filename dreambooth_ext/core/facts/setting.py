"""The description of one setting, and how a dataclass field carries it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..messages.message import written
from .methods import METHOD_LABELS


@dataclass(frozen=True)
class Setting:
    """What forms, command lines and tables need to know about one field of `RunConfig`."""

    name: str
    kind: str  # "int", "float", "bool", "str", "path", "rate", "list", "numbers", "dict", "concepts"; see `paths`
    default: Any
    label: str
    help: str
    group: str
    optional: bool  # None is allowed, and means: from the guide, the base or the machine
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] | None = None
    methods: tuple[str, ...] = tuple(METHOD_LABELS)
    lists: str = ""  # the kind of model files (MODEL_KINDS' values) that a form can offer for it
    words: tuple[str, ...] = ()  # what a path may be instead, and then names no file
    is_remote: bool = False  # a path that may be a Hugging Face name or a link instead
    goes_with: tuple[str, ...] = ()  # another setting, and its values without which this one has no effect
    listed_by: str = ""  # the setting that holds several words with commas where this path holds a list, too

    @property
    def option(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def limits(self) -> tuple[float, ...]:
        """Minimum and maximum, whole numbers as int: 1000000, not 1e+06. () if the setting has no limits."""
        if self.minimum is None or self.maximum is None:
            return ()
        return tuple(int(limit) if limit == int(limit) else limit for limit in (self.minimum, self.maximum))

    @property
    def range(self) -> str:
        """The limits as text, "1 to 512"; "" if the setting has no limits."""
        return " to ".join(map(written, self.limits))


def setting(default: Any, label: str, help: str, **about: Any) -> Any:
    """A dataclass field that carries its label, help, range, choices and the methods that use it."""
    metadata = {"label": label, "help": help, **about}
    if isinstance(default, list | dict):
        return field(default_factory=lambda: type(default)(default), metadata=metadata)
    return field(default=default, metadata=metadata)
