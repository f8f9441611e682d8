"""The table of bad input: every row, from the files beside this one."""

from __future__ import annotations

from tests.bad_input.case import Case
from tests.bad_input.rows import (
    config,
    config_files,
    descriptions,
    lists,
    machine,
    no_files,
    pickles,
    pictures,
    programs,
    requests,
    starting_files,
    tensor_files,
)

TABLE: list[Case] = [
    *config.CASES,
    *config_files.CASES,
    *pictures.CASES,
    *lists.CASES,
    *machine.CASES,
    *tensor_files.CASES,
    *pickles.CASES,
    *descriptions.CASES,
    *starting_files.CASES,
    *programs.CASES,
    *no_files.CASES,
    *requests.CASES,
]
