"""Differential evolution as a strategy: memory, pools of any size, known results, failures, constraints, bad input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.strategies.base import Evaluation
from jhpo.strategies.differential import VARIANTS
from tests.selection import slow_except

CUBE = jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(10,))})
SHIFT = np.linspace(-2.0, 2.5, 10)


def sphere(hp: dict) -> jax.Array:
    return ((hp["x"] - SHIFT.astype(np.float32)) ** 2).sum()


def searches(strategy, objective, space: jhpo.Space, generations: int, count: int):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.jit(jax.vmap(lambda k: jhpo.run(strategy, objective, space, generations, k)))(keys)


def least(trace) -> np.ndarray:
    return np.asarray(trace.value).reshape(len(trace.value), -1).min(axis=1)


def test_lshade_memory_moves_within_five_generations_and_is_never_nan() -> None:
    state, _ = searches(jhpo.DifferentialEvolution(40, pool=40), sphere, CUBE, 6, 9)
    for memory in (np.asarray(state.memory_f), np.asarray(state.memory_cr)):
        assert np.isfinite(memory).all()
        assert (memory != 0.5).any(axis=1).all()
    late, _ = searches(jhpo.DifferentialEvolution(40, pool=40), lambda hp: jnp.round(sphere(hp)), CUBE, 120, 9)
    assert np.isfinite(late.memory_f).all() and np.isfinite(late.memory_cr).all()


@pytest.mark.parametrize("variant", slow_except({"lshade"}, VARIANTS))
def test_sphere_to_1e_minus_8(variant: str) -> None:
    _, trace = searches(jhpo.DifferentialEvolution(40, variant=variant), sphere, CUBE, 750, 9)
    assert (least(trace) <= 1e-8).all()


@pytest.mark.slow
def test_lshade_solves_rastrigin() -> None:
    def rastrigin(hp: dict) -> jax.Array:
        z = hp["x"] - SHIFT.astype(np.float32)
        return (z * z - 10.0 * jnp.cos(2.0 * jnp.pi * z) + 10.0).sum()

    _, trace = searches(jhpo.DifferentialEvolution(100), rastrigin, CUBE, 600, 5)
    assert (least(trace) <= 1e-4).all()


@pytest.mark.parametrize(("batch", "pool"), [(7, 20), (20, 20), (50, 20)])
def test_batch_and_pool_are_independent(batch: int, pool: int) -> None:
    strategy = jhpo.DifferentialEvolution(batch, pool=pool, horizon=2800)
    state, trace = jhpo.run(strategy, sphere, CUBE, 2800 // batch, jax.random.key(0))
    assert trace.units.shape[1] == batch and state.rows.shape[0] == pool
    first = np.asarray(trace.units).reshape(-1, 10)[:pool]
    assert len(np.unique(first, axis=0)) == pool  # every member of the pool is evaluated once to begin with
    assert int(state.alive) <= 5  # the pool has shrunk with the budget
    assert float(trace.value.min()) < 0.05 * float(np.median(trace.value[0]))
    # the pool never loses its best
    np.testing.assert_allclose(strategy.best(state)[1], trace.value.min(), rtol=1e-6)


def test_categories_and_integers() -> None:
    space = jhpo.Space(
        {"c": jhpo.Choice(list("abcde"), shape=(3,)), "k": jhpo.Int(0, 30, shape=(2,)), "x": jhpo.Float(-1.0, 1.0)}
    )
    wanted = jnp.array([3, 0, 4])

    def objective(hp: dict) -> jax.Array:
        miss = (hp["c"] != wanted).sum().astype(jnp.float32)
        return miss + ((hp["k"].astype(jnp.float32) - 11.0) ** 2).sum() + (hp["x"] - 0.3) ** 2

    _, trace = searches(jhpo.DifferentialEvolution(30), objective, space, 150, 6)
    assert (least(trace) < 1e-3).all()


@pytest.mark.parametrize("variant", slow_except({"lshade"}, VARIANTS))
def test_a_third_of_failures_does_no_harm(variant: str) -> None:
    strategy = jhpo.DifferentialEvolution(40, variant=variant).prepare(12_000)

    def generation(state, key):
        k_ask, k_fail, k_kind = jax.random.split(key, 3)
        units, state = strategy.ask(state, k_ask)
        value = ((units * 10.0 - 5.0 - jnp.asarray(SHIFT, units.dtype)[None, :]) ** 2).sum(axis=1)
        wrong = jnp.where(jax.random.bernoulli(k_kind, 0.5, (40,)), jnp.nan, -jnp.inf)
        value = jnp.where(jax.random.bernoulli(k_fail, 0.3, (40,)), wrong, value)
        state = strategy.tell(state, units, Evaluation(value=value))
        return state, strategy.best(state)[1]

    start = strategy.init(CUBE, jax.random.key(1))
    state, best = jax.jit(lambda: jax.lax.scan(generation, start, jax.random.split(jax.random.key(2), 300)))()
    best = np.asarray(best)
    assert np.isfinite(best).all() and (np.diff(best) <= 0).all() and best[-1] < 1.0
    assert np.isfinite(state.rows).all() and np.isfinite(state.memory_f).all()


def test_infeasible_members_never_beat_feasible_ones() -> None:
    space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(4,))}, constraints=[lambda hp: hp["x"].sum() - 4.0])
    strategy = jhpo.DifferentialEvolution(30)
    state, _ = jhpo.run(strategy, lambda hp: (hp["x"] ** 2).sum(), space, 150, jax.random.key(0))
    unit, value = strategy.best(state)
    assert float(space.unit_constraint(unit)[0]) >= 0
    assert float(value) == pytest.approx(4.0, rel=0.02)


def test_searches_side_by_side_equal_searches_alone() -> None:
    strategy = jhpo.DifferentialEvolution(16, pool=16)
    _, together = searches(strategy, sphere, CUBE, 20, 4)
    for i, key in enumerate(jax.random.split(jax.random.key(0), 4)):
        _, alone = jhpo.run(strategy, sphere, CUBE, 20, key)
        np.testing.assert_allclose(together.units[i], alone.units, atol=2e-3)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"population": 0}, "population"),
        ({"population": 3, "variant": "rand1"}, "population"),
        ({"pool": 3}, "pool"),
        ({"variant": "best2"}, "variant"),
        ({"f": 0.0}, "f"),
        ({"cr": 1.5}, "cr"),
        ({"p": 0.0}, "p"),
        ({"horizon": 0}, "horizon"),
    ],
)
def test_bad_options_are_named(options: dict, name: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=f"^{name}: expected"):
        jhpo.DifferentialEvolution(**options)
