"""The README's figure shows what RESULTS.md says."""

from __future__ import annotations

import doctest
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks import figure

pytestmark = pytest.mark.quick
ROOT = Path(__file__).parents[2]


def test_the_figure_is_drawn_from_the_results() -> None:
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    assert (ROOT / "docs" / "overview.svg").read_text() == figure.overview(text), "run python benchmarks/figure.py"


def test_bars_are_as_long_as_their_numbers() -> None:
    tree = ElementTree.fromstring(figure.drawn([("a & b", {"theirs": 4.0, "ours": 1.0})]))
    _, theirs, ours = tree.findall("{*}rect")
    assert float(theirs.attrib["width"]) == 4 * float(ours.attrib["width"])
    assert ours.attrib["fill"] == figure.OURS and theirs.attrib["fill"] == figure.THEIRS
    assert [t.text for t in tree.findall("{*}text")] == ["a & b", "theirs", "4", "ours", "1"]


def test_columns_are_read() -> None:
    assert doctest.testmod(figure) == (0, 1)
