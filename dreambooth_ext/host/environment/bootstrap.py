"""Starts a program with the trainer's packages if no virtual environment could be made (embedded Pythons).

`python bootstrap.py PACKAGES -m module ...` or `python bootstrap.py PACKAGES file.py ...`. Embedded Pythons ignore
PYTHONPATH, hence this file.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    packages, first, *rest = sys.argv[1:]
    sys.path[:1] = [packages, str(Path(__file__).parents[3])]
    if first == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv = [first, *rest]
        runpy.run_path(first, run_name="__main__")
