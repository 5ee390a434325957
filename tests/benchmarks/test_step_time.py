"""The model of a step's time agrees with what was measured, and says what binds."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.step_time import H100, H200, Network, busy_chunk, largest_chunk, step_time

DIGITS = Network(2410, 64, 30e3)


@pytest.mark.parametrize(("members", "measured"), [(256, 8.9e-3), (4096, 57.5e-3), (65536, 882e-3)])
def test_agrees_with_the_populations_measured(members: int, measured: float) -> None:
    """Of RESULTS.md, 200 steps each; 65,536 in 16 chunks."""
    assert 200 * step_time(H200, DIGITS, members).seconds == pytest.approx(measured, rel=0.06)


def test_what_binds() -> None:
    wide = Network(10**7, 4096, 30e3)
    assert [step_time(H200, DIGITS, n).bound for n in (1, busy_chunk(H200, DIGITS), 1000)] == ["launches"] * 2 + [
        "bytes"
    ]
    exact, narrow = (step_time(H200, wide, 64, p) for p in ("exact", "bf16"))
    assert exact.bound == narrow.bound == "operations"
    assert exact.seconds / narrow.seconds == pytest.approx(558 / 49.8)
    assert step_time(H100, DIGITS, 4096).seconds > step_time(H200, DIGITS, 4096).seconds
    assert largest_chunk(H100, DIGITS) < largest_chunk(H200, DIGITS)


def test_the_script() -> None:
    script = Path(__file__).parents[2] / "benchmarks" / "step_time.py"
    command = [sys.executable, str(script), "--parameters", "2410", "--batch", "64", "--members", "1", "4096"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "H100, predicted: busy from" in done.stdout and done.stdout.count("\n") == 5
