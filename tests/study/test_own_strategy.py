"""Studies made with strategies that jhpo does not know: who only reads them needs no definition."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import jax
import numpy as np
import optax
import pytest

import jhpo
from jhpo.errors import InvalidArgument, StorageError
from jhpo.strategies.random import RandomState
from jhpo.study.repair import repair
from tests.study.studies import SPACE, objective


@jhpo.strategy
class Mine(jhpo.Strategy):
    population: int = jhpo.static_field(default=4)
    scale: float = 1.0

    def init(self, space, key):
        return RandomState(space)

    def ask(self, state, key):
        return state.space.sample_unit(key, self.population), state

    def tell(self, state, units, result):
        return state


class Bare(jhpo.Strategy):
    population = 4

    def init(self, space, key):
        return RandomState(space)

    def ask(self, state, key):
        return state.space.sample_unit(key, self.population), state


class Undecorated(Bare):
    def tell(self, state, units, result):
        return state


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Bare(), r"population, init, ask, tell, got 'Bare'; it lacks \['tell'\]"),
        (Undecorated(), "@jhpo.strategy, got 'Und"),
    ],
)
def test_a_strategy_that_is_not_whole_is_named(strategy, message):
    for use in (lambda: jhpo.Study(SPACE, strategy), lambda: jhpo.minimize(objective, SPACE, strategy, budget=4)):
        with pytest.raises(InvalidArgument, match=message):
            use()


@jhpo.strategy
class Asks(Undecorated):
    """Asks for something else than it should."""

    how: Any = jhpo.static_field(default=None)

    def ask(self, state, key):
        return self.how(*super().ask(state, key))


@pytest.mark.parametrize(
    ("how", "got"),
    [
        (lambda units, state: (units[:3], state), r"float\[4, d\] and a state from Asks.ask, got float32\[3, 3\]"),
        (lambda units, state: (units[0], state), r"float\[4, d\] .* got float32\[3\]"),
        (lambda units, state: (units.astype(int), state), r"float\[4, d\] .* got int32\[4, 3\]"),
        (lambda units, state: (units.tolist, state), r"float\[4, d\] .*"),
        (lambda units, state: units, r"float\[4, d\] .* a tuple of two, got"),
        (lambda units, state: 1 / 0, r"a Asks.ask that JAX can trace, got ZeroDivisionError: division by zero \(line"),
    ],
)
def test_what_a_strategy_asks_for_is_its_own_fault(how, got):
    strategy = Asks(how=how)
    for use in (
        lambda: jhpo.minimize(objective, SPACE, strategy, budget=8),
        lambda: jhpo.Study(SPACE, strategy).ask(4),
        lambda: jhpo.Study(SPACE, strategy).optimize(objective, budget=8),
        lambda: jhpo.run(strategy, objective, SPACE, 2, jax.random.key(0)),
    ):
        with pytest.raises(InvalidArgument, match=f"^strategy: expected {got}"):
            use()


@pytest.mark.parametrize("how", [lambda u, state: (u[:, :1], state), lambda u, state: (u + 1.0, state)])
def test_points_of_another_space_are_too(how):
    study = jhpo.Study(SPACE, Asks(how=how))
    with pytest.raises(InvalidArgument, match=r"strategy: expected points of the unit cube from Asks.ask"):
        study.ask(4)
    assert len(study) == 0
    if how(np.zeros((1, 3)), None)[0].shape == (1, 1):
        with pytest.raises(InvalidArgument, match=r"units: expected float\[n, 3\] for this space, got float32\[4, 1\]"):
            jhpo.run(study.strategy, objective, SPACE, 2, jax.random.key(0))


@pytest.mark.parametrize("how", [lambda u, state: (u + 1.0, state), lambda u, state: (u * np.nan, state)])
def test_points_outside_the_cube_are_refused_however_they_are_evaluated(tmp_path, how):
    """Of generations in one program they were clipped, unnoticed, or damaged the log."""
    strategy, on_host = Asks(how=how), jhpo.host(lambda params: 0.0)
    study = jhpo.Study(SPACE, strategy, tmp_path / "a.db")
    message = r"points of the unit cube from Asks.ask, .* got array.*; jnp.clip\(units, 0.0, 1"
    for use in (
        lambda: jhpo.minimize(objective, SPACE, strategy, budget=32),
        lambda: jhpo.minimize(objective, SPACE, strategy, budget=32, keep="best"),
        lambda: jhpo.minimize(on_host, SPACE, strategy, budget=32),
        lambda: study.optimize(objective, budget=32),
    ):
        with pytest.raises(InvalidArgument, match=message):
            use()
    study.close()
    with jhpo.Study.load(tmp_path / "a.db", strategy=strategy) as study:
        assert len(study) == 0


@jhpo.strategy
class Decorated(Undecorated):
    """Without fields of its own."""


def test_a_strategy_without_fields_is_whole():
    assert len(jhpo.Study(SPACE, Decorated()).ask(4)) == 4


@pytest.mark.parametrize(
    "strategy",
    [Mine(4, 0.5), pytest.param(jhpo.HyperGradient(4, optimizer=optax.sgd(0.1)), marks=pytest.mark.slow)],
    ids=lambda s: type(s).__name__,
)
def test_reading_needs_no_strategy(tmp_path, strategy):
    path = tmp_path / "a.db"
    with jhpo.Study(SPACE, strategy, path, seed=2) as study:
        for trial in study.ask(4):
            study.tell(trial, trial.params["x"])
        best, table = study.best.params, study.history.table.value.array.copy()
    with jhpo.Study.load(path, read_only=True) as study:
        assert study.best.params == best and len(study.top(3)) == 3
        np.testing.assert_array_equal(study.history.table.value.array, table)
        assert study.report(tmp_path / "page.html").exists() and len(study.to_frame()) == 4
    with jhpo.Study.load(path, space=SPACE, read_only=True) as study:
        assert study.best.params == best
    show = [sys.executable, "-m", "jhpo", "show", str(path), "--report", "--out", str(tmp_path / "b.html")]
    shown = subprocess.run(show, capture_output=True, text=True, check=True, env={"COLUMNS": "200"})
    assert type(strategy).__name__.lower() in shown.stdout.lower() and (tmp_path / "b.html").exists()
    with pytest.raises(StorageError, match="strategy="):
        jhpo.Study.load(path)
    assert "whole" in repair(path)
    with jhpo.Study.load(path, strategy=strategy) as study:
        assert len(study.ask(2)) == 2


def test_a_study_goes_on_with_a_strategy_of_ones_own(tmp_path):
    whole = jhpo.Study(SPACE, Mine(4), seed=3)
    whole.optimize(objective, budget=16)
    with jhpo.Study(SPACE, Mine(4), tmp_path / "a.db", seed=3) as study:
        study.optimize(objective, budget=6)
    with jhpo.Study.load(tmp_path / "a.db", strategy=Mine(4)) as study:
        study.optimize(objective, budget=16)
        assert [t.params for t in study.top(16)] == [t.params for t in whole.top(16)]


def test_a_class_is_known_by_its_name_whatever_its_file_is_called(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    monkeypatch.setattr(Mine, "__module__", "__main__")
    with jhpo.Study(SPACE, Mine(4), path) as study:
        study.ask(1)
    monkeypatch.undo()
    with jhpo.Study.load(path, strategy=Mine(4)) as study:
        assert len(study.ask(1)) == 1
    with pytest.raises(InvalidArgument, match=r"scale: was 1\.0, now 2\.0"):
        jhpo.Study.load(path, strategy=Mine(4, 2.0))
    with pytest.raises(InvalidArgument, match="Mine, now random"):
        jhpo.Study.load(path, strategy=jhpo.RandomSearch(4))
