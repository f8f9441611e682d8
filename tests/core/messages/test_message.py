"""The catalogue and what is said with it: every code is there, said with its values, and used."""

from __future__ import annotations

import ast
import copy
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreambooth_ext.core.errors import Problem, UserError
from dreambooth_ext.core.messages import message
from dreambooth_ext.core.messages.message import HOLE, REMEDY, Message, beside, catalogue, from_json, number

PACKAGE = Path(message.__file__).parents[2]
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
NAMERS = {"Message", "Problem", "UserError", "Refusal"}  # calls that say a code
OPTIONS = {"is_grave"}  # of these calls, that are no values


@pytest.fixture
def words(monkeypatch):
    """A catalogue of two messages."""
    made = {
        "other.as_said": "{message}",
        "a.few": "only {count} {what}.",
        "a.few.remedy": "{least} are enough.",
        "a.cats": "cats of {place}",
    }
    monkeypatch.setattr(message, "catalogue", lambda: made)
    monkeypatch.setattr("dreambooth_ext.core.errors.catalogue", lambda: made)


def test_a_message_is_its_text_and_knows_its_code(words):
    told = Message("a.few", count=3, what=Message("a.cats", place="Rome"))
    assert told == "only 3 cats of Rome." and told.code == "a.few" and told.values["count"] == 3
    for twin in (copy.deepcopy(told), pickle.loads(pickle.dumps(told))):
        assert (twin, twin.code, twin.values) == (told, told.code, told.values)


def test_a_value_that_is_not_given_hides_no_error(words):
    assert Message("a.few", count=3) == "only 3 {what}."


def test_problems_go_through_json(words):
    problem = Problem("a.few", "folder", count=3, what=Message("a.cats", place="Rome"), least=5, is_grave=True)
    assert str(problem) == "folder: only 3 cats of Rome. 5 are enough."
    known = json.loads(json.dumps(problem.as_dict()))
    assert known["code"] == "a.few" and known["values"]["what"]["values"] == {"place": "Rome"}
    assert Problem.from_dict(known) == problem and Problem.from_dict(known).is_grave
    assert UserError("a.few", "folder", **problem.values).problem.message == problem.message


def test_problems_of_other_versions_keep_their_text(words):
    told = {"code": "gone.away", "values": {}, "field": "name", "message": "is bad.", "remedy": "Change it."}
    assert str(Problem.from_dict(told)) == "name: is bad. Change it."
    assert from_json({"code": "gone.away", "values": {}, "text": "told"}) == "told"


def test_events_and_answers_carry_the_code(words):
    problem = Problem("a.few", "folder", count=3, what="dogs", least=5)
    assert problem.as_event() | {"values": 0} == {
        "code": "a.few", "values": 0, "field": "folder", "what": "only 3 dogs.", "remedy": "5 are enough."
    }  # fmt: skip
    assert beside("why", Message("a.cats", place=2e-6)) == {
        "why": "cats of 2e-6", "why_code": "a.cats", "why_values": {"place": "2e-6"}
    }  # fmt: skip
    assert beside("why", "as it is") == {"why": "as it is"}


def test_lists_and_numbers_in_sentences(words):
    assert Message("a.cats", place=["Rome", "Oslo"]) == "cats of Rome, Oslo"
    two = [Message("a.cats", place=1), Message("a.cats", place=0.5)]
    assert Message("a.cats", place=two) == "cats of cats of 1; cats of 0.5"


@pytest.mark.parametrize(
    ("value", "text"),
    [(2e-6, "2e-6"), (1.5e-4, "1.5e-4"), (0.002, "0.002"), (5e-3, "0.005"), (1.0, "1"), (0, "0"), (1.5e6, "1.5e6")],
)
def test_numbers_have_one_notation(value, text):
    assert number(value) == text


# --- the catalogue itself


def calls() -> Iterator[tuple[str, str, set[str] | None]]:
    """Each call that says a code: (place, code, names of its values; None where they are not all written there)."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") not in NAMERS:
                continue
            first = next((a for a in node.args[:2] if isinstance(a, ast.Constant) and isinstance(a.value, str)), None)
            if first is not None and first.value in catalogue():
                names = [keyword.arg for keyword in node.keywords]
                known = None if None in names else {name for name in names if name} - OPTIONS
                yield f"{path.relative_to(PACKAGE)}:{node.lineno}", first.value, known


def values_of(code: str) -> set[str]:
    return set(HOLE.findall(catalogue()[code] + catalogue().get(code + REMEDY, "")))


def test_every_code_is_said_with_its_values():
    wrong = [
        f"{place}: {code} takes {sorted(values_of(code))}, and is given {sorted(names)}"
        for place, code, names in calls()
        if names is not None and names != values_of(code)
    ]
    assert not wrong, "\n".join(wrong)


def test_every_code_is_used():
    texts = {
        node.value
        for tree in TREES.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert [code for code in catalogue() if code.removesuffix(REMEDY) not in texts] == []


@pytest.mark.parametrize("path", sorted(message.ENGLISH.glob("*.json")), ids=lambda path: path.stem)
def test_a_file_of_the_catalogue_is_in_order(path):
    entries = json.loads(path.read_text(encoding="utf-8"))
    assert list(entries) == sorted(entries)
    for texts in entries.values():
        assert 1 <= len(texts) <= 2 and all(text and text == text.strip() for text in texts)
