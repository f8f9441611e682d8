"""Curves as an .svg file that stands alone."""

from __future__ import annotations

from xml.etree import ElementTree

from dreambooth_ext.core.charts.line_chart import Curve, svg_file


def test_a_file_of_its_own_with_a_legend():
    drawing = svg_file(
        "Scores <1>", [Curve("likeness & more", [0, 10], [0.0, 0.5]), Curve("copies", [0, 10], [0, None])], 10
    )
    root = ElementTree.fromstring(drawing)
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "likeness & more" in texts and "copies" in texts
    assert len(list(root.iter("{http://www.w3.org/2000/svg}path"))) == 2


def test_nothing_to_draw():
    assert svg_file("Scores", [Curve("likeness", [0], [None])], 1) == ""
