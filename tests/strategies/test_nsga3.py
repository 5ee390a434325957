"""NSGA-III: its parts against direct computations and loops, and fronts of many objectives."""

from __future__ import annotations

from math import comb

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.kernels import niching


def test_directions_are_a_lattice_and_a_second_layer_where_it_has_no_inside() -> None:
    for m, most, expected in ((2, 10, 10), (3, 92, 91), (4, 84, 84), (8, 156, 156), (10, 275, 275), (5, 4, 5)):
        found = niching.directions(m, most)
        assert found.shape == (expected, m) and len(np.unique(found.round(9), axis=0)) == expected
        np.testing.assert_allclose(found.sum(axis=1), 1.0)
    assert len(niching.simplex_lattice(4, 5)) == comb(8, 3)
    assert (niching.directions(8, 156) > 0).all(axis=1).sum() > 0  # the lattice alone has none inside


def test_points_go_to_the_nearest_line() -> None:
    rng = np.random.default_rng(0)
    values, lines = rng.random((20, 4)).astype(np.float32), niching.directions(4, 20).astype(np.float32)
    niche, distance = jax.jit(niching.assigned)(values, lines)
    unit = lines / np.linalg.norm(lines, axis=1, keepdims=True)
    away = np.linalg.norm(values[:, None] - (values @ unit.T)[..., None] * unit[None], axis=2)
    np.testing.assert_array_equal(niche, away.argmin(axis=1))
    np.testing.assert_allclose(distance, away.min(axis=1), atol=1e-4)


def test_levels_fill_the_emptiest_niches_one_by_one() -> None:
    """As algorithm 4 of Deb and Jain does, which takes one point after another."""
    rng = np.random.default_rng(1)
    niche, distance = rng.integers(0, 5, 40), rng.random(40)
    taken = np.arange(40) < 12
    level = np.asarray(
        jax.jit(niching.levels, static_argnums=4)(
            jnp.asarray(niche, jnp.int32), jnp.asarray(distance, jnp.float32), taken, ~taken, 5
        )
    )
    for room in (3, 11, 20):
        counts = np.bincount(niche[taken], minlength=5)
        left = set(np.flatnonzero(~taken))
        for _ in range(room):
            there = [k for k in range(5) if any(niche[i] == k for i in left)]
            k = min(there, key=lambda k: counts[k])
            left.remove(min((i for i in left if niche[i] == k), key=lambda i: distance[i]))
            counts[k] += 1
        chosen = np.flatnonzero(~taken)[np.argsort(level[~taken], kind="stable")[:room]]
        ours = np.bincount(niche[taken], minlength=5) + np.bincount(niche[chosen], minlength=5)
        assert sorted(ours) == sorted(counts)  # which of the equally empty niches is first is chance


def test_extreme_points_are_best_in_all_other_objectives() -> None:
    values = jnp.asarray([[0.0, 5.0], [4.0, 0.1], [1.0, 1.0], [9.0, 0.0]])
    none = jnp.full((2, 2), jnp.inf)
    found = niching.extremes(values, jnp.asarray([True, True, True, False]), none, jnp.asarray([0.0, 0.1]))
    assert found.tolist() == [[4.0, pytest.approx(0.1)], [0.0, 5.0]]
    kept = niching.extremes(values, jnp.zeros(4, bool), found, jnp.asarray([0.0, 0.1]))
    assert kept.tolist() == found.tolist()


@pytest.mark.slow
def test_a_front_of_four_objectives_is_covered_more_evenly_than_by_crowding() -> None:
    """DTLZ2: directions of the last population, and how far the nearest member is from each (IGD)."""
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(7,))})

    def dtlz2(hp):
        x = hp["x"]
        radius = 1.0 + ((x[3:] - 0.5) ** 2).sum()
        angles = 0.5 * jnp.pi * x[:3]
        parts = jnp.concatenate([jnp.ones(1), jnp.cumprod(jnp.cos(angles))])[::-1]
        return radius * parts * jnp.concatenate([jnp.ones(1), jnp.sin(angles)[::-1]])

    target = niching.directions(4, 56)
    target = target / np.linalg.norm(target, axis=1, keepdims=True)

    def distance(strategy) -> float:
        state, trace = jhpo.run(strategy, dtlz2, space, 100, jax.random.key(0), directions=["minimize"] * 4)
        assert trace.values.shape == (100, 56, 4) and np.isfinite(state.values).all()
        return float(np.linalg.norm(target[:, None] - np.asarray(state.values)[None], axis=2).min(axis=1).mean())

    spread, crowded = distance(jhpo.NSGA3(56)), distance(jhpo.NSGA2(56))
    assert spread < 0.8 * crowded and spread < 0.15


@pytest.mark.slow
def test_mixed_spaces_constraints_and_failures() -> None:
    space = jhpo.Space({"n": jhpo.Int(0, 9), "kind": jhpo.Choice(["a", "b"]), "x": jhpo.Float(0.0, 1.0)})

    def objective(hp):
        n = hp["n"].astype(jnp.float32)
        worse = 0.1 * hp["kind"].astype(jnp.float32)
        x = jnp.where(hp["x"] > 0.9, jnp.nan, hp["x"])
        return {"value": (n + worse, 9.0 - n + worse, x + worse), "constraint": n - 1.5}

    result = jhpo.minimize(objective, space, jhpo.NSGA3(28), budget=560, directions=["minimize"] * 3)
    points = result.pareto()
    assert min(p.params["n"] for p in points) == 2 and max(p.params["n"] for p in points) == 9
    rows = np.asarray(space.canonical(result.state.rows))[: int(result.state.valid)]
    assert len(np.unique(rows, axis=0)) == len(rows) and np.isfinite(result.state.ideal).all()
