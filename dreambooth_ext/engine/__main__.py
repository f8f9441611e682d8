"""Entry point for the verbs that run in the trainer's environment, where `dreambooth_ext` starts them."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import signal
import sys
from types import FrameType, ModuleType

from ..core.config import links
from ..core.errors import REPORT, UserError
from ..core.system import environment_users
from ..core.system.terminal import OutputError, open_missing_streams, say, say_traceback, say_unwritable, shield
from ..core.verbs import (
    compare_options,
    convert_options,
    download_options,
    generate_options,
    network_options,
    pictures_options,
    prepare_options,
    tag_options,
    tagger_options,
    verdict_options,
)

# verb -> its options, which need nothing installed, and the engine's module that runs it
VERBS: dict[str, tuple[ModuleType, str]] = {
    "generate": (generate_options, "verbs.generate"),
    "compare": (compare_options, "verbs.compare"),
    "convert": (convert_options, "verbs.convert"),
    "download": (download_options, "verbs.download"),
    "network": (network_options, "verbs.network"),
    "verdict": (verdict_options, "verbs.verdict"),
    "prepare": (prepare_options, "doctor.prepare"),
    "pictures": (pictures_options, "pictures.worker"),
    "tag": (tag_options, "verbs.tag"),
    "tagger": (tagger_options, "tagging.about"),
}


FAILED, STOPPED = 3, 130
interrupts: list[int] = []  # signals received: a library may turn one into another exception while it is imported


def interrupted(number: int, frame: FrameType | None) -> None:
    interrupts.append(number)
    raise KeyboardInterrupt


def main(argv: list[str]) -> int:
    """Run the verb of the command line. Ctrl-C ends it at any time, leaving only complete files; exit status 130."""
    try:
        return carried_out(argv)
    except KeyboardInterrupt as error:
        return stopped(str(error))
    except OutputError as error:
        say_unwritable(error)
        return 1
    except Exception as error:
        if interrupts:
            return stopped()
        say_traceback(error)
        say(f"error: unexpected {type(error).__name__}: {error}. {REPORT}")
        return FAILED


def stopped(kept: str = "") -> int:
    """Print that the verb was stopped. kept: what has been finished so far."""
    if signal.getsignal(signal.SIGINT) is interrupted:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # another Ctrl-C must not interrupt the ending
    say(f"stopped; {kept}" if kept else "stopped.")
    return STOPPED


def carried_out(argv: list[str]) -> int:
    options, module = VERBS[argv[0]]
    parser = argparse.ArgumentParser(prog=f"python -m dreambooth_ext {argv[0]}")
    options.add_arguments(parser)
    if hasattr(options, "add_hidden"):
        options.add_hidden(parser)
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
        is_counted = (
            options is not pictures_options
        )  # it waits for questions, and whoever changes the environment ends it
        with environment_users.joined(argv[0]) if is_counted else contextlib.nullcontext():
            result = importlib.import_module(f"{__package__}.{module}").run(arguments)
    except UserError as error:
        say(f"error: {error}")
        return 1
    say(*(result if isinstance(result, list) else [result]), stream=sys.stdout)
    return 0


if __name__ == "__main__":
    open_missing_streams()
    shield()
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else a shell said to ignore it
        signal.signal(signal.SIGINT, interrupted)
    sys.exit(main(sys.argv[1:]))
