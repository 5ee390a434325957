"""The table of times over the forms of spaces, at its smallest."""

from __future__ import annotations

from benchmarks import space_forms


def test_a_row_has_a_cell_for_every_form() -> None:
    _, name, first, *others, _ = space_forms.row("RandomSearch", 8, ["array", "integers", "constrained"], 2, 1).split(
        "|"
    )
    assert name.strip() == "RandomSearch(8)" and float(first) > 0
    assert len(others) == 2 and all("(" in cell for cell in others)
