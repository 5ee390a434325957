"""A Ctrl-C that arrives while garbage is collected ends a search all the same."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import jhpo
from jhpo.interrupts import interruptible
from jhpo.search.meter import Update

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})


class Dropping:
    """Python drops what is raised here, as it does in callbacks of the garbage collector."""

    def __del__(self) -> None:
        raise KeyboardInterrupt


def slow(params: dict[str, Any]) -> float:
    time.sleep(0.005)
    return float(params["x"])


def dropping() -> Callable[[Update], None]:
    """A callback in which one Ctrl-C is dropped."""
    left = [Dropping()]
    return lambda update: left.clear()


@pytest.mark.parametrize("kind", ["minimize", "optimize"])
def test_a_search_ends_with_an_interrupt_that_python_drops(kind: str, tmp_path: Path) -> None:
    objective, hook = jhpo.host(slow), sys.unraisablehook
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4), tmp_path / "study.db")
    calls: dict[str, Callable[[], object]] = {
        "minimize": lambda: jhpo.minimize(objective, SPACE, jhpo.RandomSearch(4), budget=4000, callback=dropping()),
        "optimize": lambda: study.optimize(objective, budget=4000, callback=dropping()),
    }
    with pytest.raises(KeyboardInterrupt):
        calls[kind]()
    assert sys.unraisablehook is hook
    if kind == "optimize":
        done = study.evaluations
        assert done < 1000 and not study.history.running  # and goes on
        study.optimize(objective, budget=done + 4)
        assert study.evaluations == done + 4


def test_other_exceptions_are_printed_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, seen.append
    try:
        with interruptible():
            sys.unraisablehook(type("Dropped", (), {"exc_type": ValueError})())
    finally:
        sys.unraisablehook = before
    assert len(seen) == 1
