"""`jhpo tune --live`: what it shows, at several widths, and of studies without results."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

import jhpo
from jhpo.cli.live import View
from jhpo.search.meter import Update
from tests.report.studies import absorbed

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})


def shown(study: jhpo.Study, width: int, update: Update | None, encoding: str = "utf-8") -> list[str]:
    """The last lines of a view on a terminal."""
    terminal = io.TextIOWrapper(io.BytesIO(), encoding)
    console = Console(file=terminal, force_terminal=True, width=width, legacy_windows=False)
    view = View(console, study, 100)
    with view:
        if update is not None:
            view.update(update)
    out = io.StringIO()
    Console(file=out, width=width).print(view.render())
    return out.getvalue().splitlines()


def study() -> jhpo.Study:
    return absorbed(SPACE, lambda hp: hp["x"] if hp["x"] < 0.8 else float("nan"), 60)


@pytest.mark.parametrize("width", [120, 80, 40])
def test_a_view_fits_its_terminal(width):
    lines = shown(study(), width, Update(60, 60, 0.01, 4, 3.0, 1.0, budget=100))
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width and len(lines) == 7
    assert "best so far" in text and "0.01" in text and "█" in text and "60 of 100" in text and "compiling" in text
    if width >= 80:
        assert "nan" in text and " to go at 30 models/s" in text


def test_a_view_of_nothing_yet_of_several_objectives_and_without_unicode():
    assert any("compiling" in line for line in shown(jhpo.Study(SPACE), 80, None))
    assert any("none" in line for line in shown(jhpo.Study(SPACE), 80, Update(0, 0, np.nan, 0, 1.0, 1.0, budget=100)))
    several = absorbed(SPACE, lambda hp: {"a": hp["x"], "b": 1.0}, 8, directions={"a": "minimize", "b": "maximize"})
    assert any(line.startswith("best a") for line in shown(several, 80, Update(8, 8, 0.1, 1, 1.0, 0.5)))
    lines = shown(study(), 80, Update(60, 60, 0.01, 4, 3.0, 1.0, budget=100), "ascii")
    assert "#" in "".join(lines) and "█" not in "".join(lines)
