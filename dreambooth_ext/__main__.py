"""The command line: `python -m dreambooth_ext VERB ...`. Needs only Python; verbs build the trainer's environment
first."""

from __future__ import annotations

import argparse
import difflib
import io
import sys
import traceback
from pathlib import Path

from .commands import check, demo, env, report, resume, runs, train, ui, verdict
from .commands.models import compare, convert, download, generate, network
from .commands.pictures import captions, prepare, sets
from .commands.support.exit_status import BAD_INPUT, FAILED, STOPPED
from .core.config.run_config import SETTINGS
from .core.errors import REPORT, UserError
from .core.system import disk
from .core.system.terminal import OutputError, open_missing_streams, say, say_unwritable, shield
from .core.version import __version__

VERBS = {
    "demo": demo,
    "train": train,
    "resume": resume,
    "check": check,
    "prepare": prepare,
    "generate": generate,
    "compare": compare,
    "convert": convert,
    "network": network,
    "download": download,
    "captions": captions,
    "runs": runs,
    "sets": sets,
    "verdict": verdict,
    "report": report,
    "ui": ui,
    "env": env,
}


def make_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m dreambooth_ext",
        description="Train Stable Diffusion models. Start with: python -m dreambooth_ext demo",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"dreambooth_ext {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        usage = getattr(verb, "USAGE", None)  # written out where argparse's own would list all settings
        sub = verbs.add_parser(
            name,
            help=verb.HELP,
            description=verb.HELP[:1].upper() + verb.HELP[1:] + ".",
            usage=usage,
            allow_abbrev=False,
        )
        verb.add_arguments(sub)
    return parser


def hint(unknown: list[str]) -> str:
    """A suggestion for a mistyped option: --learning_rate for --learning-rate."""
    options = [known.option for known in SETTINGS.values()]
    options += ["--runs-dir", "--output-dir", "--webui", "--comfyui", "--sdnext", "--publish-intermediate", "--config"]
    given = [word.partition("=")[0].lower().replace("_", "-") for word in unknown if word.startswith("--")]
    near = [match for word in given for match in difflib.get_close_matches(word, options, n=1, cutoff=0.7)]
    return f" (did you mean {', '.join(near)}?)" if near else ""


def main(argv: list[str] | None = None) -> int:
    argv = sys.argv[1:] if argv is None else argv
    parser = make_parser()
    arguments, unknown = parser.parse_known_args(argv)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{hint(unknown)}")
    arguments.given = argv[1:]  # for verbs that pass them on
    try:
        code = VERBS[arguments.verb].run(arguments)
        if sys.stdout is not None:
            sys.stdout.flush()  # what cannot be written is told here, not by Python at its end
        return code
    except UserError as error:
        say(f"error: {error}")
        return BAD_INPUT
    except KeyboardInterrupt:
        say("stopped.")
        return STOPPED
    except OutputError as error:
        say_unwritable(error)
        return BAD_INPUT
    except OSError as error:
        say(f"error: {disk.problem_of(error) or f'{error}. Check that file or folder, and the disk.'}")
        return FAILED
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{Path(place.filename).name}, line {place.lineno}"
        say(f"error: unexpected {type(error).__name__}: {error} ({where}). {REPORT}")
        return FAILED


if __name__ == "__main__":
    open_missing_streams()
    # Windows' own encoding lacks most letters; programs inside write UTF-8, too
    if isinstance(sys.stdout, io.TextIOWrapper) and not sys.stdout.isatty():
        sys.stdout.reconfigure(encoding="utf-8")
    shield()
    sys.exit(main())
