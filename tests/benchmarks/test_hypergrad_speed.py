"""benchmarks/hypergrad_speed.py works: a short training, measured in both ways of one process."""

from __future__ import annotations

import pytest

from benchmarks.hypergrad_speed import calls, once


@pytest.mark.slow
def test_calls_by_hand_and_through_the_library_agree() -> None:
    line = calls(6, 2, memory=2**20, seconds=0.0, hidden=4)
    assert line["method"].startswith("forward") and line["turns"] == 3
    assert set(line["ms"]) == {"reverse", "forward", "hypergrad"} and line["ratio"] > 0


@pytest.mark.slow
def test_first_calls_take_time() -> None:
    assert once("hand forward", 3, 2) > 0
