"""The table of speeds through the public API, at its smallest."""

from __future__ import annotations

import pytest

from benchmarks import public_speed


def test_a_row_has_the_cost_of_the_whole_search(capsys: pytest.CaptureFixture[str]) -> None:
    public_speed.main(["--tiny", "--methods", "DifferentialEvolution"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| Diff")]
    assert [row[1] for row in rows] == ["32", "3 searches of 32"]
    assert all(float(row[2]) > 0 for row in rows)
