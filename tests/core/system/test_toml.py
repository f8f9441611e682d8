"""TOML is read on every Python; where nothing can, a sentence says so."""

from __future__ import annotations

import importlib.util
import sys

import pytest

from dreambooth_ext.core.system import toml

TEXT = "[[datasets]]\nresolution = 512\n  [[datasets.subsets]]\n  image_dir = 'C:\\hoge'\n"


@pytest.mark.parametrize("there", toml.READERS)
def test_the_first_reader_that_is_there_reads(monkeypatch, there):
    reader = next(found for name in toml.READERS if (found := importlib.util.find_spec(name)))
    module = importlib.import_module(reader.name)
    for name in toml.READERS:
        monkeypatch.setitem(sys.modules, name, module if name == there else None)  # None: as if it were not installed
    assert toml.loads(TEXT) == {"datasets": [{"resolution": 512, "subsets": [{"image_dir": "C:\\hoge"}]}]}
    with pytest.raises(ValueError, match="line 1"):
        toml.loads("a =\nb = 1")


def test_no_reader_is_told(monkeypatch):
    for name in toml.READERS:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r"Python 3\.11"):
        toml.loads(TEXT)
