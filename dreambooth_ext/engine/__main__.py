"""The verbs that run inside the trainer's environment; `dreambooth_ext` starts them there."""

from __future__ import annotations

import argparse
import importlib
import sys
from types import ModuleType

from .. import conversion, generation, links, networks, users
from ..errors import UserError
from ..terminal import open_missing_streams, say, shield

# verb -> its options, which need nothing installed, and the engine's module that does it
VERBS: dict[str, tuple[ModuleType, str]] = {
    "generate": (generation, "generate"),
    "convert": (conversion, "convert_command"),
    "network": (networks, "network_command"),
}


def main(argv: list[str]) -> int:
    options, module = VERBS[argv[0]]
    parser = argparse.ArgumentParser(prog=f"python -m dreambooth_ext {argv[0]}")
    options.add_arguments(parser)
    arguments = parser.parse_args(argv[1:])
    given = links.taken()
    for name, value in vars(arguments).items():
        if isinstance(value, str):
            setattr(arguments, name, links.found(value, given))
    problems = options.problems(arguments) if hasattr(options, "problems") else []
    say(*(f"error: {problem}" for problem in problems))
    if problems:
        return 1
    try:
        with users.joined(argv[0]):
            result = importlib.import_module(f"{__package__}.{module}").run(arguments)
    except UserError as error:
        say(f"error: {error}")
        return 1
    say(*(result if isinstance(result, list) else [result]), stream=sys.stdout)
    return 0


if __name__ == "__main__":
    open_missing_streams()
    shield()
    sys.exit(main(sys.argv[1:]))
