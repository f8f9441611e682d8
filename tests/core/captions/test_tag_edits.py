"""Bulk changes of captions: each does what it says, to what it names, and no more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreambooth_ext.core.captions import tag_edits
from dreambooth_ext.core.captions.tag_edits import Edit, apply, changed, frequencies
from dreambooth_ext.core.errors import UserError

SET = {
    "1.png": "red sofa, evening, 1girl",
    "2.png": "Evening, red Sofa",
    "3.png": "",
    "4.png": "a girl on a red sofa",
    "5.png": "1girl, tree, evening, 1girl",
}


def made(kind: str, **values) -> dict[str, str]:
    """What an edit changes."""
    return changed(SET, apply(Edit.from_dict({"kind": kind, **values}), SET))


@pytest.mark.parametrize(
    "asked, expected",
    [
        ({"kind": "replace", "find": "sofa", "text": "chair"},
         {"1.png": "red chair, evening, 1girl", "4.png": "a girl on a red chair"}),
        ({"kind": "replace", "find": "RED SOFA", "text": r"\1 chair", "any_case": True},
         {"1.png": r"\1 chair, evening, 1girl", "2.png": r"Evening, \1 chair", "4.png": r"a girl on a \1 chair"}),
        ({"kind": "replace_tag", "find": "red sofa", "text": "red, sofa"}, {"1.png": "red, sofa, evening, 1girl"}),
        ({"kind": "replace_tag", "find": "evening", "text": "", "any_case": True},
         {"1.png": "red sofa, 1girl", "2.png": "red Sofa", "5.png": "1girl, tree"}),
        ({"kind": "add", "tags": ["evening", "new"]},
         {"1.png": "red sofa, evening, 1girl, new", "2.png": "Evening, red Sofa, new", "3.png": "evening, new",
          "4.png": "a girl on a red sofa, evening, new", "5.png": "1girl, tree, evening, 1girl, new"}),
        ({"kind": "remove", "tags": ["EVENING"]},
         {"1.png": "red sofa, 1girl", "2.png": "red Sofa", "5.png": "1girl, tree, 1girl"}),
        ({"kind": "first", "tags": ["1girl", "evening"]},
         {"1.png": "1girl, evening, red sofa", "5.png": "1girl, evening, tree"}),
        ({"kind": "sort", "by": "alphabet", "keep": 1},
         {"1.png": "red sofa, 1girl, evening", "5.png": "1girl, 1girl, evening, tree"}),
        ({"kind": "sort"}, {"1.png": "1girl, evening, red sofa", "5.png": "1girl, 1girl, evening, tree"}),
        ({"kind": "unique"}, {"5.png": "1girl, tree, evening"}),
        ({"kind": "template", "text": "a photo of [name], [filewords]", "word": "zkz"},
         {"1.png": "a photo of zkz, red sofa, evening, 1girl", "2.png": "a photo of zkz, Evening, red Sofa",
          "3.png": "a photo of zkz", "4.png": "a photo of zkz, a girl on a red sofa",
          "5.png": "a photo of zkz, 1girl, tree, evening, 1girl"}),
        ({"kind": "set", "texts": {"3.png": "  a   red \n\n tree ", "other.png": "nothing"}}, {"3.png": "a red\ntree"}),
    ],
)  # fmt: skip
def test_an_edit_changes_what_it_names(asked, expected):
    assert made(**asked) == expected


def test_a_template_is_applied_once():
    edit = Edit.from_dict({"kind": "template", "text": "a photo of [name], [filewords]", "word": "zkz"})
    once = apply(edit, SET)
    assert apply(edit, once) == once


def test_each_line_of_a_file_is_a_caption():
    lines = {"1.png": "a dog\na dog, sleeping"}
    assert apply(Edit("add", tags=("sleeping",)), lines) == {"1.png": "a dog, sleeping\na dog, sleeping"}
    assert frequencies(lines) == [("a dog", 1), ("sleeping", 1)]


def test_frequencies_count_captions_and_not_tags():
    assert frequencies(SET)[:2] == [("1girl", 2), ("evening", 2)]
    assert frequencies({"1.png": "sky|sky|sea", "2.png": "sea"}, "|") == [("sea", 2), ("sky", 1)]


@pytest.mark.parametrize(
    "asked, field",
    [
        ({"kind": "delete everything"}, "kind"),
        ({"kind": "replace", "find": " "}, "find"),
        ({"kind": "add", "tags": [" "]}, "tags"),
        ({"kind": "add", "tags": "evening"}, "tags"),
        ({"kind": "add", "tags": [1]}, "tags"),
        ({"kind": "sort", "by": "colour"}, "by"),
        ({"kind": "sort", "keep": True}, "keep"),
        ({"kind": "template"}, "text"),
        ({"kind": "set", "texts": {"1.png": 3}}, "texts"),
        ({"kind": "add", "tags": ["x" * 5000]}, "text"),
        ({"kind": "add", "tags": ["x"] * 501}, "tags"),
        ({"kind": "unique", "separator": " "}, "separator"),
        ({"kind": "unique", "colour": "red"}, "colour"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(asked, field):
    with pytest.raises(UserError) as caught:
        Edit.from_dict(asked)
    assert caught.value.problem.field == field


TAGS = st.lists(st.sampled_from(["red", "Red", "sofa", "evening light", "1girl"]), max_size=6).map(", ".join)


@given(st.lists(TAGS, max_size=5), st.sampled_from(["sort", "unique", "first"]), st.integers(0, 3))
def test_reordering_loses_and_invents_nothing(texts, kind, keep):
    before = {f"{place}.png": text for place, text in enumerate(texts)}
    after = apply(Edit(kind, tags=("sofa", "red"), keep=keep), before)
    for name, text in before.items():
        had, has = ({tag.casefold() for tag in tag_edits.tags(one, ",")} for one in (text, after[name]))
        assert had == has
