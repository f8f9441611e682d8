"""`python -m benchmarks [...]` with any Python 3.10 or newer: makes the trainer's environment, then measures in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from dreambooth_ext.core.errors import UserError
from dreambooth_ext.host.environment.environment import Environment


def main(arguments: list[str]) -> int:
    environment = Environment()
    try:
        environment.ensure()
    except UserError as error:
        print(error, file=sys.stderr)
        return 1
    os.chdir(Path(__file__).parents[1])
    return environment.run_inside(["-m", "benchmarks.run", *arguments], replace=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
