"""A Ctrl-C that arrives while garbage is collected ends a search all the same."""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jhpo
from jhpo.process.interrupts import interruptible
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


def test_a_wait_ends_too() -> None:
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), interruptible():
        Dropping()
        time.sleep(60.0)
    assert time.monotonic() - begin < 30.0


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


class DroppingPath:
    """A path; one Ctrl-C is dropped when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __fspath__(self) -> str:
        Dropping()
        return str(self.path)


class DroppingTask:
    """A training; one Ctrl-C is dropped whenever its beginning is traced."""

    steps = 1

    def init(self, hp: Any, key: jax.Array) -> jax.Array:
        if self.dropping:
            Dropping()
        return jnp.zeros(())

    def step(self, hp: Any, w: jax.Array, t: jax.Array) -> jax.Array:
        return w + hp["x"]

    def evaluate(self, hp: Any, w: jax.Array) -> jax.Array:
        return w

    dropping = False


@pytest.mark.parametrize("kind", ["Study", "load", "transaction", "states", "top"])
def test_opening_and_telling_and_training_again_lose_no_interrupt(kind: str, tmp_path: Path) -> None:
    path = DroppingPath(tmp_path / "study.db")
    with jhpo.Study(SPACE, jhpo.RandomSearch(2), path.path) as study:
        task = DroppingTask()
        calls: dict[str, Callable[[], object]] = {
            "Study": lambda: jhpo.Study(SPACE, jhpo.RandomSearch(2), path, resume=True),
            "load": lambda: jhpo.Study.load(path),
            "transaction": lambda: _open_and_drop(study),
        }
        if kind == "states":
            study.optimize(task, budget=2)
            calls[kind] = lambda: study.states(task, [0])
        elif kind == "top":
            result = jhpo.minimize(task, SPACE, jhpo.RandomSearch(2), budget=2)
            calls[kind] = lambda: result.top(1)
        task.dropping = True
        hook = sys.unraisablehook
        with pytest.raises(KeyboardInterrupt):
            calls[kind]()
            time.sleep(1.0)  # it is raised a moment later
        assert sys.unraisablehook is hook


def test_the_first_use_of_a_name_loses_no_interrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    def importing(name: str) -> Any:
        Dropping()
        return sys.modules[name]

    monkeypatch.setattr(jhpo, "importlib", types.SimpleNamespace(import_module=importing))
    monkeypatch.delitem(vars(jhpo), "Space")
    with pytest.raises(KeyboardInterrupt):
        assert jhpo.Space is type(SPACE)
        time.sleep(1.0)


def _open_and_drop(study: jhpo.Study) -> None:
    with study.ledger.transaction():  # of `ask`, `tell` and all that stores
        Dropping()


def test_a_warning_is_about_the_line_that_called() -> None:
    with pytest.warns(UserWarning, match="all 4 evaluations failed") as seen:
        jhpo.minimize(jhpo.host(lambda params: float("nan")), SPACE, jhpo.RandomSearch(4), budget=4)
    assert [one.filename for one in seen] == [__file__]


def test_other_exceptions_are_printed_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    before, sys.unraisablehook = sys.unraisablehook, seen.append
    try:
        with interruptible():
            sys.unraisablehook(type("Dropped", (), {"exc_type": ValueError})())
    finally:
        sys.unraisablehook = before
    assert len(seen) == 1
