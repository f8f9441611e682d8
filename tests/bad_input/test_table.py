"""Each row of the table, given to each of its verbs."""

from __future__ import annotations

import pytest

from tests.bad_input.table import TABLE


@pytest.mark.parametrize("case", TABLE, ids=lambda case: case.name)
def test_every_verb_refuses_it_soon_and_in_words(tmp_path, case):
    case.prove(tmp_path)


def test_no_row_is_there_twice():
    names = [case.name for case in TABLE]
    assert sorted(set(names)) == sorted(names)
