"""The table of bad input: every row, from the files beside this one."""

from __future__ import annotations

from tests.bad_input import config, descriptions, pickles, tensor_files

TABLE = [*config.CASES, *tensor_files.CASES, *pickles.CASES, *descriptions.CASES]
