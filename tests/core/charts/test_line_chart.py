"""Curves as a figure of a page, and as an .svg file that stands alone."""

from __future__ import annotations

from xml.etree import ElementTree

from dreambooth_ext.core.charts.line_chart import Curve, line_chart, svg_file, ticks


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


def test_ticks_are_round_and_inside():
    assert ticks(0, 1000) == [0, 200, 400, 600, 800, 1000]
    assert ticks(0.013, 0.0299) == [0.015, 0.02, 0.025]
    assert ticks(1.9e-6, 2.1e-6)[0] == 1.9e-6


def test_charts_of_nothing_and_of_a_constant():
    assert line_chart("x", [Curve("a", [1, 2], [None, None])], 2) == ""
    assert "<path" in line_chart("x", [Curve("a", [1], [0.0])], 1)
