"""What is particular to random, Sobol, grid and greedy search; the conformance suite tests the rest."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Choice, Float, Greedy, GridSearch, Int, InvalidArgument, RandomSearch, SobolSearch, Space
from jhpo.strategies.base import Evaluation
from jhpo.strategies.grid import along_diagonals

pytestmark = pytest.mark.quick


def ask_all(strategy, space, generations: int, seed: int = 0) -> np.ndarray:
    state = strategy.init(space, jax.random.key(seed))
    rows = []
    for g in range(generations):
        units, state = strategy.ask(state, jax.random.key(100 + g))
        rows.append(np.asarray(units))
    return np.concatenate(rows)


def test_a_grid_visits_every_point_once_and_then_starts_again() -> None:
    space = Space({"x": Float(0.0, 1.0), "k": Int(1, 5), "c": Choice(["a", "b"])})
    grid = GridSearch(resolution=3, population=10)
    assert grid.max_evaluations(space) == 30
    units = ask_all(grid, space, 6)
    assert len(np.unique(units[:30], axis=0)) == 30
    np.testing.assert_array_equal(units[:30], units[30:])
    assert {0.0, 0.5, 1.0} == set(units[:, space.names.index("x")].tolist())


@pytest.mark.parametrize("levels", [[1], [7], [2, 3, 10], [5, 5, 5, 5], [4, 4, 4], [1, 97, 2], [2] * 9])
def test_the_order_along_diagonals_is_a_permutation(levels: list[int]) -> None:
    cells = along_diagonals(jnp.arange(math.prod(levels), dtype=jnp.uint32), levels)
    assert len(set(zip(*(np.asarray(cell).tolist() for cell in cells)))) == math.prod(levels)
    assert all(int(cell.max()) == size - 1 for cell, size in zip(cells, levels))


@pytest.mark.parametrize("dimension", [2, 6, 12])
def test_a_grid_that_ends_early_has_seen_all_values(dimension: int) -> None:
    space = Space({"x": Float(0.0, 1.0, shape=(dimension,)), "k": Int(1, 3)})
    units = ask_all(GridSearch(population=5), space, 1)
    assert all(len(set(column)) == 5 for column in units[:, 1:].T) and len(set(units[:, 0])) == 3


@pytest.mark.parametrize("size", [100, 1000, 2**20, 2**31 - 1])
def test_a_few_of_many_values_are_spread_over_all(size: int) -> None:
    (cells,) = along_diagonals(jnp.arange(64, dtype=jnp.uint32), [size])
    places = np.sort(np.asarray(cells)) / size
    assert len(set(places)) == 64 and (size > 2**16 or np.diff([0.0, *places, 1.0]).max() < 4.0 / 64)


def test_the_first_points_of_a_grid_have_all_pairs_of_values() -> None:
    units = ask_all(GridSearch(population=25), Space({"x": Float(0.0, 1.0, shape=(5,))}), 1)
    for i, j in itertools.combinations(range(5), 2):
        assert len(np.unique(units[:, [i, j]], axis=0)) == 25


def test_a_grid_ends_a_search_by_itself() -> None:
    space = Space({"k": Int(0, 6)})
    result = jhpo.minimize(
        lambda hp: (hp["k"].astype(jnp.float32) - 3.0) ** 2, space, GridSearch(population=4), budget=100
    )
    assert result.best == {"k": 3} and len(result.history.value) == 7
    assert result.stopped.startswith("exhausted: all 7")


def test_a_grid_too_large_is_refused() -> None:
    space = Space({"x": Float(0.0, 1.0, shape=(20,))})
    with pytest.raises(InvalidArgument, match="resolution: expected a grid of at most"):
        GridSearch(resolution=10).init(space, jax.random.key(0))


def test_sobol_is_stratified_over_generations() -> None:
    units = ask_all(SobolSearch(8), Space({"x": Float(0.0, 1.0, shape=(3,))}), 4)
    for j in range(3):
        assert sorted(np.floor(units[:, j] * 32).astype(int).tolist()) == list(range(32))


def test_random_search_is_uniform_over_categories() -> None:
    space = Space({"c": Choice(["a", "b", "c"])})
    cells = np.asarray(space.index(jnp.asarray(ask_all(RandomSearch(300), space, 3))))
    counts = np.bincount(cells.ravel(), minlength=3)
    assert ((counts - 300) ** 2 / 300).sum() < 13.8  # chi-square, 2 degrees of freedom, 0.1%


def test_greedy_finds_the_best_category_and_integer() -> None:
    space = Space({"c": Choice(list("abcdef")), "k": Int(0, 50), "x": Float(-3.0, 3.0)})

    def objective(hp):
        wrong = jnp.where(hp["c"] == 4, 0.0, 1.0 + (hp["c"] % 3).astype(jnp.float32))
        return wrong + 0.01 * (hp["k"].astype(jnp.float32) - 33.0) ** 2 + (hp["x"] - 1.0) ** 2

    result = jhpo.minimize(objective, space, Greedy(16), budget=800, seed=3)
    assert result.best["c"] == "e" and result.best["k"] == 33
    assert result.best["x"] == pytest.approx(1.0, abs=0.02)


def test_greedy_steps_follow_success_and_failure() -> None:
    space = Space({"x": Float(0.0, 1.0), "y": Float(0.0, 1.0)})
    greedy = Greedy(4, explore=0.0)
    state = greedy.init(space, jax.random.key(0))
    units, state = greedy.ask(state, jax.random.key(1))
    state = greedy.tell(state, units, Evaluation(jnp.arange(4.0)))
    np.testing.assert_array_equal(state.centre, units[0])
    units, state = greedy.ask(state, jax.random.key(2))
    moves = np.asarray(state.move)
    state = greedy.tell(state, units, Evaluation(jnp.array([-1.0, 5.0, 5.0, 5.0])))
    assert float(state.step[moves[0]]) == 0.5 and float(state.step[moves[1]]) == 0.125
    assert float(state.value) == -1.0


def test_greedy_prefers_feasible_points() -> None:
    space = Space({"x": Float(0.0, 1.0)}, constraints=[lambda hp: hp["x"] - 0.6])
    result = jhpo.minimize(lambda hp: hp["x"], space, Greedy(8), budget=400)
    assert 0.6 <= result.value < 0.601


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSearch(0), "population: expected an integer >= 1, got 0"),
        (lambda: SobolSearch(2.5), "population"),
        (lambda: GridSearch(resolution=0), "resolution"),
        (lambda: Greedy(first_step=0.0), "first_step"),
        (lambda: Greedy(expand=0.5), "expand"),
        (lambda: Greedy(explore=1.5), "explore"),
        (lambda: jhpo.make_strategy("annealing"), "strategy: expected one of"),
        (lambda: jhpo.make_strategy("random", {"size": 3}), "size: expected one of the options"),
    ],
)
def test_bad_arguments(make, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()
