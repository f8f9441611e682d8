"""`python -m tests [--slow] [pytest's own arguments]` with any Python 3.10 or newer: makes what it needs, then runs.

`--slow` runs the long proofs too.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]


def main(arguments: list[str]) -> int:
    from dreambooth_ext.core.errors import UserError
    from dreambooth_ext.core.system.terminal import StageLine
    from dreambooth_ext.host.environment.environment import Environment

    environment = Environment()
    try:
        environment.ensure()
        with StageLine() as progress:
            environment.add(Path(__file__).with_name("requirements.lock"), progress)
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    os.chdir(REPOSITORY)
    # One thread a process: on a busy machine, threads that wait for each other take a hundred times as long.
    return environment.run_inside(["-m", "pytest", *options(arguments)], {"OMP_NUM_THREADS": "1"}, replace=True)


def options(arguments: list[str]) -> list[str]:
    """pytest's arguments: the quick tests unless told otherwise, on several processes when all of them run."""
    given = [argument for argument in arguments if argument != "--slow"]
    chosen = []
    if "--slow" not in arguments and not any(argument.startswith("-m") for argument in given):
        chosen += ["-m", "not slow"]
    if not any(
        argument.startswith(("-n", "--numprocesses")) or Path(argument.split("::")[0]).exists() for argument in given
    ):
        processes = min(5, (os.cpu_count() or 1) + 1)  # one more than cores: browsers and workers are waited for
        chosen += ["-n", str(processes), "--dist", "worksteal"]
    return chosen + given


if __name__ == "__main__":
    if sys.version_info < (3, 10):  # noqa: UP036 - the reason why nothing else is imported above
        sys.exit("The tests need Python 3.10 or newer.")
    sys.exit(main(sys.argv[1:]))
