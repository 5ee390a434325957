"""Fronts, crowding, orders: against comparisons of all pairs in NumPy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels import genetic, order, pareto, staircase


def fronts(values: np.ndarray) -> np.ndarray:
    """Ranks by taking off what nothing dominates, -1 where a value is not finite."""
    better = (values[:, None] <= values[None]).all(-1) & (values[:, None] < values[None]).any(-1)
    rank, alive, k = np.full(len(values), -1), np.isfinite(values).all(1), 0
    while alive.any():
        front = alive & ~(better & alive[:, None]).any(0)
        rank[front], alive, k = k, alive & ~front, k + 1
    return rank


def sample(kind: str, n: int, m: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.random((n, m))
    if kind == "ties":
        values = np.round(4 * values)
    if kind == "one":  # objectives that are one: every point is a front
        values = np.repeat(values[:, :1], m, axis=1)
    values[rng.random(n) < 0.1, 0] = np.nan
    values[rng.random(n) < 0.05, m - 1] = np.inf
    return values


# 40 points are compared in pairs; 300 and 1,501 in steps, then one by one (two objectives), or in blocks (three)
@pytest.mark.parametrize(("n", "m"), [(40, 1), (40, 3), (300, 2), (1501, 2), (300, 3)])
def test_ranks_are_those_of_all_pairs(n: int, m: int) -> None:
    program = jax.jit(pareto.ranks)
    for kind in ("even", "ties", "one"):
        values = sample(kind, n, m).astype(np.float32)
        expected = fronts(values)
        assert np.array_equal(np.asarray(program(values)), np.where(expected < 0, 2 * n + 1, expected)), kind


def test_fronts_of_two_objectives_in_passes_as_on_an_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax.lax, "platform_dependent", lambda *x, cpu, default: default(*x))
    for kind in ("even", "ties", "one"):  # 1 to 300 fronts: 16 of them in passes
        values = sample(kind, 300, 2, seed=1).astype(np.float32)
        expected = fronts(values)
        alive = np.isfinite(values).all(1)
        found = np.asarray(jax.jit(lambda v, a: staircase.ranks(v, a, 300))(values, alive))
        assert np.array_equal(found, np.where(expected < 0, 300, expected)), kind


def test_ranks_in_float64_and_side_by_side(x64: None) -> None:
    values = np.stack([sample("even", 300, 2, seed) for seed in range(2)])
    values[0, :2] = [[0.5, 0.5], [0.5, 0.5 + 1e-12]]  # equal in float32
    found = np.asarray(jax.jit(jax.vmap(pareto.ranks))(values))
    for one, rank in zip(values, found):
        expected = fronts(one)
        assert np.array_equal(rank, np.where(expected < 0, 601, expected))
    assert found[0, 0] < found[0, 1]


def test_a_search_for_enough_points_stops_with_their_front() -> None:
    for m in (2, 3):
        some = sample("even", 300, m).astype(np.float32)
        whole = fronts(some)
        found = np.asarray(jax.jit(pareto.ranks, static_argnames="enough")(some, enough=20))
        last = np.sort(whole[whole >= 0])[19]
        assert np.array_equal(found[(whole >= 0) & (whole <= last)], whole[(whole >= 0) & (whole <= last)]), m
        assert (found[whole > last] == 300).all() or (found[whole > last] >= last).all()
        assert (found[whole < 0] == 601).all()


def test_infeasible_points_come_after_feasible_ones_by_their_violation() -> None:
    values = np.asarray([[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0], [-1.0, -1.0]], np.float32)
    violation = np.asarray([0.5, 0.0, 0.0, 0.0, 0.1], np.float32)
    program = jax.jit(pareto.ranks)
    assert np.asarray(program(values, violation)).tolist() == [7, 0, 0, 1, 6]
    lost = np.asarray([0.5, 0.0, np.inf, np.nan, 0.5], np.float32)
    assert np.asarray(program(values, lost)).tolist() == [6, 0, 11, 11, 6]


def test_many_infeasible_failed_and_equal_points_are_ranked_by_constraint_dominance() -> None:
    rng = np.random.default_rng(5)
    values = np.round(rng.random((700, 2)), 2).astype(np.float32)
    values[:20] = values[20:40]
    violation = np.where(rng.random(700) < 0.3, np.round(rng.random(700), 1), 0.0).astype(np.float32)
    violation[rng.random(700) < 0.1] = np.inf
    values[rng.random(700) < 0.1, 1] = np.nan
    there = np.isfinite(values).all(1) & np.isfinite(violation)
    feasible = there & (violation == 0)
    expected = np.where(feasible, fronts(np.where(feasible[:, None], values, np.nan)), 1401)
    for row in np.flatnonzero(there & ~feasible):
        expected[row] = 701 + len(np.unique(violation[there & ~feasible & (violation < violation[row])]))
    assert np.array_equal(np.asarray(jax.jit(pareto.ranks)(values, violation)), expected)
    chosen, rank = jax.jit(lambda v, w: pareto.best(v, w, 350))(values, violation)
    assert np.array_equal(np.asarray(rank), np.sort(expected)[:350])
    crowded = np.asarray(pareto.crowding(jnp.asarray(values), jnp.asarray(expected, jnp.int32)))[np.asarray(chosen)]
    assert (crowded[1:] <= crowded[:-1])[np.diff(rank) == 0].all()


def test_crowding_is_the_distance_of_neighbours_in_units_of_the_front() -> None:
    rng = np.random.default_rng(3)
    for n, m in ((60, 2), (60, 3), (90, 2), (90, 3)):  # by pairs, and sorted
        values = rng.random((n, m))
        rank = fronts(values)
        expected = np.zeros(n)
        for k in range(rank.max() + 1):
            rows = np.flatnonzero(rank == k)
            for j in range(m):
                line = rows[np.argsort(values[rows, j])]
                gap = values[line[2:], j] - values[line[:-2], j]
                expected[line[1:-1]] += gap / max(values[line[-1], j] - values[line[0], j], 1e-30)
                expected[line[[0, -1]]] = np.inf
        found = np.asarray(jax.jit(pareto.crowding)(values.astype(np.float32), rank.astype(np.int32)))
        np.testing.assert_allclose(found, expected, rtol=2e-5)


@pytest.mark.parametrize("m", [2, 3])
def test_few_points_have_the_crowding_and_the_copies_that_they_have_among_many(m: int) -> None:
    """Points that are compared in pairs, and the same ones in a sort; many of them equal others."""
    rng = np.random.default_rng(5)
    some = rng.integers(0, 5, (60, m)).astype(np.float32)
    many = np.concatenate([some, np.full((300, m), np.inf, np.float32)])
    few, all_ = (np.asarray(jax.jit(pareto.ranks)(values)) for values in (some, many))
    assert np.array_equal(np.asarray(pareto.first_front(some)), few == 0)
    assert np.array_equal(np.asarray(pareto.first_front(many)), all_ == 0)
    for alone, among in (
        (pareto.crowding(some, jnp.asarray(few)), pareto.crowding(many, jnp.asarray(all_))),
        (order.repeated(some, jnp.arange(60) % 7 > 0), order.repeated(many, (jnp.arange(360) % 7 > 0))),
    ):
        np.testing.assert_array_equal(np.asarray(alone), np.asarray(among)[:60])
    assert np.asarray(order.repeated(some, jnp.ones(60, bool))).any()
    violation = jnp.asarray(rng.integers(0, 4, 60).astype(np.float32))
    behind = jnp.concatenate([violation, jnp.full(300, jnp.inf)])
    few, all_ = np.asarray(pareto.ranks(some, violation)), np.asarray(pareto.ranks(many, behind))[:60]
    assert np.array_equal(few - (few > 60) * 61, all_ - (all_ > 360) * 361)


def test_crowding_of_equal_points_and_failed_ones_is_a_number() -> None:
    values = jnp.asarray([[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [jnp.nan, jnp.inf]])
    rank = jax.jit(pareto.ranks)(values)
    assert rank.tolist() == [0, 0, 0, 9]
    assert not np.isnan(np.asarray(jax.jit(pareto.crowding)(values, rank))).any()


def test_the_best_are_whole_fronts_and_the_sparse_points_of_the_last() -> None:
    x = np.linspace(0, 1, 11)
    line = np.stack([x, 1 - x], 1).astype(np.float32)  # one front, and another one behind it
    values = np.concatenate([line + 1, line])
    chosen, rank = jax.jit(lambda v: pareto.best(v, None, 12))(values)
    assert sorted(np.asarray(chosen)[:11]) == list(range(11, 22))
    assert np.asarray(chosen)[11] in (0, 10) and np.asarray(rank).tolist() == [0] * 11 + [1]


@pytest.mark.parametrize("n", [50, 3000, 70_000])
def test_orders_are_stable_and_those_of_numpy(n: int) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.integers(-3, 3, n).astype(np.int32), np.round(rng.normal(size=n), 1).astype(np.float32)
    second[:3] = [-0.0, 0.0, np.inf]
    found = np.asarray(jax.jit(lambda a, b: order.lexsort((b, a)))(first, second))
    assert np.array_equal(found, np.lexsort((second, first)))
    assert np.array_equal(np.asarray(order.inverse(jnp.asarray(found)))[found], np.arange(n))


@pytest.mark.parametrize(("n", "below"), [(50, 7), (3000, 6002), (3000, 2**21)])
def test_orders_of_small_integers_are_stable(n: int, below: int) -> None:
    key = np.random.default_rng(n).integers(0, below, n).astype(np.int32)
    key[:2] = [below - 1, 0]
    found = np.asarray(jax.jit(lambda key: order.lexsort((key,), (below,)))(key))
    assert np.array_equal(found, np.argsort(key, kind="stable"))


def test_orders_by_keys_of_several_kinds() -> None:
    rng = np.random.default_rng(1)  # 32, 7, 32, 1 and 32 bits, in parts of 54
    value, heavy = np.round(rng.normal(size=1000), 1).astype(np.float32), rng.integers(-1, 1, 1000).astype(np.float32)
    few, whole = rng.integers(0, 100, 1000).astype(np.int32), rng.integers(-3, 3, 1000).astype(np.int32)
    late = rng.random(1000) < 0.5
    keys = (value, few, whole, late, heavy)
    found = jax.jit(lambda *keys: order.lexsort(keys, (None, 100, None, None, None)))(*keys)
    assert found.dtype == jnp.int32 and np.array_equal(np.asarray(found), np.lexsort(keys))
    pairs = jax.jit(jax.vmap(lambda a, b: order.lexsort((a, b))))(value.reshape(2, 500), heavy.reshape(2, 500))
    for row, a, b in zip(np.asarray(pairs), value.reshape(2, 500), heavy.reshape(2, 500)):
        assert np.array_equal(row, np.lexsort((a, b)))


def test_orders_put_nan_last_and_tell_doubles_apart(x64: None) -> None:
    values = np.linspace(1.0, 1.0 + 1e-12, 100)[::-1].copy()
    values[7] = np.nan
    found = np.asarray(order.lexsort((jnp.asarray(values),)))
    assert found[-1] == 7 and np.array_equal(found[:-1], np.argsort(values, kind="stable")[:-1])


# -- variation ------------------------------------------------------------------------------------------------------


def test_children_lie_about_the_mean_of_their_parents_and_inside() -> None:
    u = jax.random.uniform(jax.random.key(0), (4000, 2))
    a, b = jnp.full_like(u, 0.45), jnp.full_like(u, 0.55)
    low, high = map(np.asarray, genetic.simulated_binary(a, b, u, 15.0))
    np.testing.assert_allclose(low + high, 1.0, atol=1e-5)  # the bounds are far
    spread = (high - low) / 0.1
    # half of the children lie between their parents; the density of the spread is (eta + 1) / 2 b^eta there
    assert abs((spread <= 1).mean() - 0.5) < 0.03
    assert abs((spread <= 0.9).mean() - 0.5 * 0.9**16) < 0.03
    near = genetic.simulated_binary(jnp.zeros_like(u), jnp.full_like(u, 0.3), u, 2.0)
    assert float(min(x.min() for x in near)) >= 0 and float(max(x.max() for x in near)) <= 1
    same = genetic.simulated_binary(a, a, u, 15.0)
    assert np.array_equal(np.asarray(same[0]), np.asarray(a)) and np.array_equal(np.asarray(same[1]), np.asarray(a))


def test_mutations_stay_inside_and_near() -> None:
    u = jax.random.uniform(jax.random.key(1), (4000, 3))
    x = jnp.broadcast_to(jnp.asarray([0.0, 0.5, 1.0]), u.shape)
    moved = np.asarray(genetic.polynomial(x, u, 20.0))
    assert moved.min() >= 0 and moved.max() <= 1
    middle = moved[:, 1] - 0.5
    # P(|step| > s) = (1 - s)^(eta + 1) of a mutation far from the bounds, which at eta = 20 these are
    assert abs((np.abs(middle) > 0.05).mean() - 0.95**21) < 0.03 and abs(middle.mean()) < 0.01


def test_crossover_and_mutation_are_their_formulas(x64: None) -> None:
    rng = np.random.default_rng(2)
    first, second, u = rng.random((3, 500, 3))
    first[0], second[1], u[2], u[3] = 0.0, 1.0, 0.0, 1.0 - 2.0**-53
    first[4], second[4] = 0.3, 0.3 + 1e-5
    low, high, power = np.minimum(first, second), np.maximum(first, second), 1.0 / 16.0

    def spread(room: np.ndarray) -> np.ndarray:
        alpha = 2.0 - (1.0 + 2.0 * room / (high - low)) ** -16.0
        return np.where(u <= 1.0 / alpha, u * alpha, 1.0 / (2.0 - u * alpha)) ** power * (high - low)

    expected = 0.5 * (low + high - spread(low)), 0.5 * (low + high + spread(1.0 - high))
    for kind, tolerance in ((np.float64, 1e-13), (np.float32, 2e-6)):
        one, other, drawn = (jnp.asarray(x, kind) for x in (first, second, u))
        for found, e in zip(genetic.simulated_binary(one, other, drawn, 15.0), expected):
            assert found.dtype == kind
            np.testing.assert_allclose(found[:3], e[:3], atol=tolerance)
            np.testing.assert_allclose(found[4:], e[4:], atol=tolerance)
    down = (2.0 * u + (1.0 - 2.0 * u) * (1.0 - first) ** 21.0) ** (1.0 / 21.0) - 1.0
    up = 1.0 - (2.0 * (1.0 - u) + 2.0 * (u - 0.5) * first**21.0) ** (1.0 / 21.0)
    moved = first + np.where(u <= 0.5, down, up)
    np.testing.assert_allclose(genetic.polynomial(jnp.asarray(first), jnp.asarray(u), 20.0), moved, atol=1e-13)
    found = genetic.polynomial(jnp.asarray(first, jnp.float32), jnp.asarray(u, jnp.float32), 20.0)
    kept = (u > 0.01) & (u < 0.99)  # steps of rare moves are powers of differences of 1
    np.testing.assert_allclose(found[kept], moved[kept], atol=3e-6)


def test_a_mutated_cell_is_another_one() -> None:
    rng = np.random.default_rng(0)
    cells = np.asarray([2, 5, 5, 1, 0], np.int32)
    cell = (rng.random((2000, 5)) * np.maximum(cells, 1)).astype(np.int32)
    near = np.clip(cell + rng.integers(-1, 2, cell.shape), 0, np.maximum(cells - 1, 0)).astype(np.int32)
    unordered = np.asarray([True, True, False, True, False])
    found = np.asarray(genetic.other_cell(cell, near, rng.random(cell.shape).astype(np.float32), cells, unordered))
    assert (found[:, :3] != cell[:, :3]).all() and (found[:, 3:] == 0).all()
    assert (found >= 0).all() and (found < np.maximum(cells, 1)).all()
    assert (np.abs(found - cell)[:, 2] == 1).all()
    other = np.bincount(found[cell[:, 1] == 2, 1], minlength=5)
    assert other[2] == 0 and (other[[0, 1, 3, 4]] > 50).all()


@pytest.mark.parametrize("shape", [(7,), (5, 4), (2, 3, 9)])
def test_the_first_of_several_least_is_found(shape: tuple[int, ...]) -> None:
    numbers = np.random.default_rng(0).integers(0, 3, shape).astype(np.float32)
    numbers[..., -1] = np.inf
    found = jax.jit(order.first_least)(numbers)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, numbers.argmin(axis=-1))
