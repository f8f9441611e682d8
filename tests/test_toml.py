"""Our TOML reader reads what Python's own does, and refuses what that refuses."""

from __future__ import annotations

import math

import pytest

from dreambooth_ext import toml

tomllib = pytest.importorskip("tomllib")

KOHYA = r'''
# a data set as kohya's documentation writes it
[general]
shuffle_caption = true
caption_extension = '.txt'   # literal
keep_tokens = 1

[[datasets]]
resolution = [ 512,
  512, ]   # an array over two lines
batch_size = 4

  [[datasets.subsets]]
  image_dir = 'C:\hoge'
  class_tokens = "hoge girl \"quoted\" \u00e9"
  num_repeats = 1_0

  [[datasets.subsets]]
  image_dir = "/fuga"
  caption_dropout_rate = 1e-1

[[datasets]]
  [[datasets.subsets]]
  image_dir = """
one \
   line"""
  flip_aug = false
'''
GOOD = [
    "",
    KOHYA,
    "a = 1\nb = -2\nc = +3\nd = 0xfF\ne = 0o17\nf = 0b1_1\ng = 0",
    "a = 1.5\nb = -1e3\nc = 6.02_2E+23\nd = inf\ne = -inf\nf = 0.0\ng = 1_0.5e-0_1",
    "a.b.c = 1\na.b.d = 2\n[x.y]\nz = 1\n[x]\nw = 2",
    '"a b" = 1\n\'c.d\'.e = 2\n"" = 3\nf-g_1 = 4',
    "a = {b = 1, c.d = [1, 2, {e = 'x'}]}\nf = {}\ng = []",
    "a = '''\nit's\n''two''\n'''",
    'a = """x"" y"""""',
    'a = """"quoted""""',
    "a = '''x''''",
    "[[a]]\nb = 1\n[a.c]\nd = 2\n[[a]]\nb = 3\n[[a.e]]\nf = 4\n[[a.e]]",
    "a = [[1, 2], ['x', [true]], ]\r\nb = 2 # end\r\n",
    "a = 'кот 猫'\n[ b . 'c d' ]\ne = 1",
    "a = [ # one\n  1, # two\n\n  2 # three\n]",
    "[a]\n[a.b]\nc = 1\n[a.d]",
    'a = "\\t\\n\\\\ \\U0001F600"',
]
BAD = [
    "a",
    "a =",
    "a = b",
    "a = 1 2",
    "a = 01",
    "a = 1__0",
    "a = 1.",
    "a = .5",
    "a = 'x",
    "a = 'x\ny'",
    'a = "C:\\pictures"',
    'a = "\\ud800"',
    "a = [1, 2",
    "a = [1 2]",
    "a = [,]",
    "a = {b = 1",
    "a = {b = 1,}",
    "a = {b = 1\n}",
    "a = 1\na = 2",
    "a = 1\na.b = 2",
    "a = {b = 1}\na.c = 2",
    "a = {b = 1}\n[a.c]",
    "a = [{b = 1}]\n[[a]]",
    "a.b = 1\n[a]",
    "[a]\n[a]",
    "[[a]]\n[a]",
    "[a]\n[[a]]",
    "[a\nb = 1",
    "[[a]\nb = 1",
    "[]",
    "= 1",
    "a b = 1",
    "a = True",
    "a = '''x",
    "a = 'x' 'y'",
    "a = 1 b = 2",
    "a = 'x\x00'",
    "a = " + "[" * 300 + "]" * 300,
    "[a.b]\n[a]\nb.c = 1",
]


@pytest.mark.parametrize("text", GOOD)
def test_reads_as_pythons_own(text):
    assert toml.read(text) == tomllib.loads(text) == toml.loads(text)


@pytest.mark.parametrize("text", BAD)
def test_refuses_with_the_line(text):
    try:
        tomllib.loads(text)
    except (ValueError, RecursionError):
        pass
    else:
        assert "[" * 300 in text  # only deeper than ours reads
    with pytest.raises(ValueError, match=r"\(at line \d+, column \d+\)"):
        toml.read(text)


def test_not_a_number_and_types():
    assert math.isnan(toml.read("a = nan")["a"])
    found = toml.read("a = true\nb = 1\nc = 1.0\nd = '1'")
    assert [type(value) for value in found.values()] == [bool, int, float, str]


def test_the_line_is_the_right_one():
    with pytest.raises(ValueError, match=r"set twice \(at line 3, column \d+\)"):
        toml.read("a = 1\n# b\na = 2\n")


def test_dates_are_refused_by_name():
    with pytest.raises(ValueError, match="dates"):
        toml.read("a = 2024-01-01")


def test_cut_anywhere_nothing_but_a_value_error():
    for end in range(len(KOHYA)):
        cut = KOHYA[:end]
        try:
            wanted = tomllib.loads(cut)
        except ValueError:
            with pytest.raises(ValueError):
                toml.read(cut)
        else:
            assert toml.read(cut) == wanted, cut
