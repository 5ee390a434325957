"""The smaller program of the design: the points of the whole one, which compiles in the meantime."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

import jhpo
from jhpo.search import ahead
from jhpo.search.driver import Driver
from jhpo.strategies.base import Evaluation
from jhpo.strategies.bayes.strategy import GroundedBayesOpt
from tests.selection import slow_except

FEW: dict[str, Any] = {"candidates": 64, "starts": 2}
WIDE = {"x": jhpo.Float(1e-3, 1.0, log=True), "n": jhpo.Int(1, 50, log=True), "c": jhpo.Choice(list("abc"))}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "mixed": (WIDE, {}),
    "conditional": ({"c": jhpo.Choice(["p", "q"]), "y": jhpo.Float(0.0, 2.0, when={"c": "p"})}, {}),
    "finite": ({"a": jhpo.Int(1, 6), "c": jhpo.Choice(["p", "q"])}, {"initial": 5}),
    "priors": ({"x": jhpo.Float(0.0, 1.0, prior=(0.3, 0.2)), "z": jhpo.Float(0.0, 1.0)}, {}),
    "batches": ({"x": jhpo.Float(0.0, 1.0, shape=(5,))}, {"batch": 3, "initial": 8}),
}


def driven(space: jhpo.Space, strategy: jhpo.BayesOpt, turns: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """The points of some turns, and the leaves of the state after them."""
    driver = Driver(strategy, space, jax.random.key(5))
    units, result, asked = None, Evaluation(value=np.zeros(strategy.batch)), []
    for _ in range(turns):
        units = driver.turn(units, result)
        asked.append(units)
        result = Evaluation(value=np.sin(7 * units.sum(axis=1)))
    return asked, [np.asarray(leaf) for leaf in jax.tree.leaves(driver.state)]


@pytest.mark.parametrize("case", slow_except(("mixed",), CASES))
def test_its_points_and_states_are_those_of_the_whole_program(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit, so that a study goes on that began when there was but one program."""
    parameters, options = CASES[case]
    space, strategy = jhpo.Space(parameters), jhpo.BayesOpt(**FEW, **options)
    seen: list[Any] = []
    opening = GroundedBayesOpt.opening

    def watched(self: Any, state: Any) -> Any:
        seen.append(opening(self, state))
        return seen[-1]

    monkeypatch.setattr(GroundedBayesOpt, "opening", watched)
    asked, state = driven(space, strategy, 6)
    small = [type(used) is not GroundedBayesOpt for used in seen[1:]]  # the first asks whether there is an opening
    count = next(i for i, value in enumerate([*small, False]) if not value)
    assert count == -(-(options.get("initial") or space.dim + 1) // strategy.batch) and not any(small[count:])
    monkeypatch.setattr(GroundedBayesOpt, "opening", lambda self, state: self)
    for mine, whole in zip((asked, state), driven(space, strategy, 6)):
        for a, b in zip(mine, whole, strict=True):
            np.testing.assert_array_equal(a, b)


def test_regions_and_gradients_have_no_opening() -> None:
    """Where the design of a region lasts is not counted on the host."""
    for strategy in (jhpo.BayesOpt(region="always"), jhpo.BayesOpt(gradients=True)):
        bound = strategy.bind(jhpo.Space({"x": jhpo.Float(0.0, 1.0)})).strategy
        state = jax.eval_shape(lambda: bound.init(None, jax.random.key(0)))  # noqa: B023
        assert bound.opening(state) is bound


@pytest.mark.parametrize("constraints", [0, 1])
def test_the_whole_program_compiles_while_the_first_points_are_evaluated(
    constraints: int, count_compilations: Any
) -> None:
    """With measured constraints too, which no result has before the first."""
    strategy = jhpo.BayesOpt(**FEW, fit_iterations=7, constraints=constraints)
    driver = Driver(strategy, jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), jax.random.key(0))
    units = driver.turn(None, Evaluation(value=np.zeros(1)))
    driver.ahead.wait()
    with count_compilations() as seen:
        for _ in range(3):
            constraint = units - 0.5 if constraints else None
            units = driver.turn(units, Evaluation(value=units.sum(axis=1), constraint=constraint))
    assert not [name for name in seen.names if "turn" in name]


def test_settings_of_one_thread_are_not_lost(monkeypatch: pytest.MonkeyPatch, count_compilations: Any) -> None:
    """What a thread would compile without them compiles where it is needed."""
    compiled = []
    monkeypatch.setattr(ahead.turns.turn_program, "compile", lambda *arguments: compiled.append(arguments))
    with jax.default_matmul_precision("highest"):
        driver = Driver(jhpo.BayesOpt(**FEW), jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), jax.random.key(0))
        driver.turn(None, Evaluation(value=np.zeros(1)))
        driver.ahead.wait()
        assert not compiled
