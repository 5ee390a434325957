"""The table of speeds through the public API, at its smallest."""

from __future__ import annotations

import pytest

from benchmarks import public_speed


@pytest.mark.parametrize("separate", [False, True])
def test_a_row_has_the_cost_of_the_whole_search(separate: bool) -> None:
    method = public_speed.METHODS['PSO gbest, restart="none"']
    found = public_speed.cell(method, 8, studies=1, generations=2, repeats=1, peer=False, separate=separate)
    _, name, members, milliseconds, *_ = public_speed.line("PSO", "8", found).split("|")
    assert (name.strip(), members.strip()) == ("PSO", "8") and float(milliseconds) > 0
    assert found[0].compiling > 0 and found[0].memory > 0
