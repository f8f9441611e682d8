"""Each row of the table, given to each of its verbs."""

from __future__ import annotations

import pytest

from tests.bad_input.table import TABLE


@pytest.mark.parametrize(
    ("case", "verb"), [pytest.param(case, verb, id=f"{case.name} - {verb.name}") for case in TABLE for verb in case.verbs]
)
def test_it_is_refused_soon_and_in_words(tmp_path, case, verb):
    case.judge(verb, case.refusal(verb, tmp_path))


def test_no_row_is_there_twice():
    names = [case.name for case in TABLE]
    assert sorted(set(names)) == sorted(names)
