"""CMA-ES as a strategy: known evaluation counts, restarts, integers, categories, failures, constraints, bad input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.strategies.base import Evaluation

CUBE = jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(10,))})


def rotation(d: int, seed: int = 0) -> np.ndarray:
    q, r = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))
    return q * np.sign(np.diag(r))


def first_below(value: jax.Array, target: float) -> np.ndarray:
    """Evaluations until the target, for each search of ``value[searches, generations, n]``."""
    best = np.fmin.accumulate(np.asarray(value).reshape(len(value), -1), axis=1)
    assert (best[:, -1] <= target).all(), best[:, -1]
    return (best > target).sum(axis=1) + 1


def searches(strategy: jhpo.CMAES, objective, space: jhpo.Space, generations: int, count: int):
    keys = jax.random.split(jax.random.key(0), count)
    return jax.jit(jax.vmap(lambda k: jhpo.run(strategy, objective, space, generations, k)))(keys)


def test_rotated_ellipsoid_in_6000_evaluations(x64: None) -> None:
    turn, scale = jnp.asarray(rotation(10)), jnp.logspace(0, 6, 10)
    shift = jnp.linspace(-2.0, 2.5, 10)

    def ellipsoid(hp: dict) -> jax.Array:
        return (scale * (turn @ (hp["x"] - shift)) ** 2).sum()

    _, trace = searches(jhpo.CMAES(10, start="random"), ellipsoid, CUBE, 600, 9)
    assert first_below(trace.value, 1e-8).max() <= 6000


def test_sphere_in_float32_takes_the_known_number_of_evaluations() -> None:
    shift = jnp.linspace(-2.0, 2.5, 10)
    _, trace = searches(jhpo.CMAES(10, start="random"), lambda hp: ((hp["x"] - shift) ** 2).sum(), CUBE, 220, 9)
    assert trace.value.dtype == jnp.float32
    assert 1000 < np.median(first_below(trace.value, 1e-8)) < 2000  # cmaes 0.13.1: 1,520


def rastrigin(hp: dict) -> jax.Array:
    z = hp["x"] - 0.7
    return (z * z - 10.0 * jnp.cos(2.0 * jnp.pi * z) + 10.0).sum()


@pytest.mark.parametrize("restarts", ["ipop", "bipop"])
def test_restarts_escape_local_minima(restarts: str) -> None:
    space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(3,))})
    alone, trace = searches(jhpo.CMAES(8, restarts="none", start="random"), rastrigin, space, 1200, 16)
    state, again = searches(jhpo.CMAES(8, restarts=restarts, start="random"), rastrigin, space, 1200, 16)
    least = lambda t: np.asarray(t.value).reshape(16, -1).min(axis=1)  # noqa: E731
    assert (np.asarray(alone.doublings) == 0).all() and (np.asarray(state.doublings) >= 2).all()
    assert (least(again) < 1e-4).sum() > (least(trace) < 1e-4).sum()
    # of 64 searches 3 end in the optimum without restarts, 51 with IPOP and 38 with BIPOP
    assert (least(again) < 1e-4).sum() >= 6
    # every evaluation is in one of the three budgets, and BIPOP keeps its small runs within that of the large ones
    spent = np.asarray(state.spent)
    assert (spent.sum(axis=1) == 1200 * 8).all()
    if restarts == "bipop":
        assert (spent[:, 1] > 0).all() and (spent[:, 1] <= 2 * spent[:, 0]).all()


def asked(strategy: jhpo.CMAES, objective, space: jhpo.Space, generations: int) -> np.ndarray:
    """All points of a search of unit points, [generations, n, d]."""

    def one(state, key: jax.Array):
        units, state = strategy.ask(state, key)
        return strategy.tell(state, units, Evaluation(jax.vmap(objective)(units))), units

    state = strategy.init(space, jax.random.key(0))
    keys = jax.random.split(jax.random.key(1), generations)
    return np.asarray(jax.jit(lambda state: jax.lax.scan(one, state, keys)[1])(state))


@pytest.mark.parametrize("kind", [{"x": jhpo.Float(0.0, 1.0, shape=(2,))}, {"k": jhpo.Int(0, 100, shape=(2,))}])
def test_without_restarts_a_converged_search_goes_on(kind: dict) -> None:
    units = asked(jhpo.CMAES(12, restarts="none"), lambda u: ((u - 0.3) ** 2).sum(), jhpo.Space(kind), 1200)
    assert np.isfinite(units).all()
    assert np.abs(units[-100:] - 0.3).min(axis=(0, 1)).max() < 0.01


def test_tiny_values_end_no_run_early() -> None:
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(3,))})
    objective = lambda u: (jnp.array([1.0, 10.0, 100.0]) * (u - 0.3) ** 2).sum()  # noqa: E731
    usual, tiny = (asked(jhpo.CMAES(8), lambda u, f=f: f * objective(u), space, 60) for f in (1.0, 2.0**-60))
    np.testing.assert_array_equal(usual, tiny)


def test_margin_reaches_the_optimum_of_integers() -> None:
    """SphereInt (Hamano et al. 2022): without the margin integers freeze in a wrong cell."""
    space = jhpo.Space(
        {"k": jhpo.Int(-10, 10, shape=(5,)), "w": jhpo.Int(1, 512, log=True), "x": jhpo.Float(-3.0, 4.0)}
    )

    def objective(hp: dict) -> jax.Array:
        k, w = hp["k"].astype(jnp.float32), hp["w"].astype(jnp.float32)
        return ((k - 7.0) ** 2).sum() + (hp["x"] - 1.1) ** 2 + jnp.abs(w - 37.0) / 8.0

    _, trace = searches(jhpo.CMAES(12, restarts="none"), objective, space, 250, 8)
    assert first_below(trace.value, 0.13).max() <= 3000  # all but the neighbour of w = 37 solved
    assert np.median(np.asarray(trace.value).reshape(8, -1).min(axis=1)) < 1e-3


def test_categories_are_learned_as_probabilities() -> None:
    space = jhpo.Space({"c": jhpo.Choice(list("abcde"), shape=(4,)), "x": jhpo.Float(-1.0, 1.0)})
    wanted = jnp.array([3, 0, 4, 1])
    objective = lambda hp: (hp["c"] != wanted).sum().astype(jnp.float32) + (hp["x"] - 0.3) ** 2  # noqa: E731
    state, trace = searches(jhpo.CMAES(12, restarts="none"), objective, space, 120, 6)
    assert first_below(trace.value, 1e-4).max() <= 1440
    likely = np.asarray(state.table).argmax(axis=-1)
    assert (likely[:, :4] == np.asarray(wanted)).all()


def test_above_200_dimensions_the_covariance_is_diagonal() -> None:
    space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(300,))})
    state, trace = jhpo.run(jhpo.CMAES(24), lambda hp: ((hp["x"] - 1.0) ** 2).sum(), space, 400, jax.random.key(0))
    assert state.gauss.cov.shape == (300,)
    assert float(trace.value.min()) < 0.05 * float(trace.value[0].min())


def test_a_third_of_failures_does_no_harm() -> None:
    strategy, shift = jhpo.CMAES(12), jnp.linspace(-2.0, 2.5, 10)

    def generation(carry, key):
        state, _ = carry
        k_ask, k_fail, k_kind = jax.random.split(key, 3)
        units, state = strategy.ask(state, k_ask)
        value = ((units * 10.0 - 5.0 - shift[None, :]) ** 2).sum(axis=1)
        wrong = jnp.where(jax.random.bernoulli(k_kind, 0.5, (12,)), jnp.nan, -jnp.inf)
        value = jnp.where(jax.random.bernoulli(k_fail, 0.3, (12,)), wrong, value)
        state = strategy.tell(state, units, Evaluation(value=value))
        return (state, strategy.best(state)[1]), strategy.best(state)[1]

    start = (strategy.init(CUBE, jax.random.key(1)), jnp.asarray(jnp.inf))
    _, best = jax.jit(lambda: jax.lax.scan(generation, start, jax.random.split(jax.random.key(2), 250)))()
    best = np.asarray(best)
    assert np.isfinite(best).all() and (np.diff(best) <= 0).all()
    assert best[-1] < 1e-6


def test_a_failed_generation_keeps_the_distribution() -> None:
    strategy = jhpo.CMAES(8)
    state = strategy.init(CUBE, jax.random.key(0))
    units, state = strategy.ask(state, jax.random.key(1))
    after = strategy.tell(state, units, Evaluation(value=jnp.full((8,), jnp.nan)))
    for old, new in zip(jax.tree.leaves(state.gauss), jax.tree.leaves(after.gauss)):
        np.testing.assert_array_equal(old, new)
    assert jnp.isinf(after.best_value)


def test_infeasible_members_never_beat_feasible_ones() -> None:
    space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(4,))}, constraints=[lambda hp: hp["x"].sum() - 4.0])
    state, _ = jhpo.run(jhpo.CMAES(12), lambda hp: (hp["x"] ** 2).sum(), space, 150, jax.random.key(0))
    unit, value = jhpo.CMAES(12).best(state)
    assert float(space.unit_constraint(unit)[0]) >= 0
    assert float(value) == pytest.approx(4.0, rel=0.02)  # the optimum lies on the constraint, at x = 1


def test_searches_side_by_side_equal_searches_alone() -> None:
    strategy, objective = jhpo.CMAES(8, start="random"), rastrigin
    space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0, shape=(3,))})
    _, together = searches(strategy, objective, space, 30, 4)
    for i, key in enumerate(jax.random.split(jax.random.key(0), 4)):
        _, alone = jhpo.run(strategy, objective, space, 30, key)
        np.testing.assert_allclose(together.units[i], alone.units, atol=2e-3)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"population": 3}, "population"),
        ({"sigma": 0.0}, "sigma"),
        ({"sigma": float("nan")}, "sigma"),
        ({"growth": 6}, "growth"),
        ({"restarts": "often"}, "restarts"),
        ({"covariance": "block"}, "covariance"),
        ({"start": "corner"}, "start"),
        ({"bounds": "open"}, "bounds"),
    ],
)
def test_bad_options_are_named(options: dict, name: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=f"^{name}: expected"):
        jhpo.CMAES(**options)


@pytest.mark.parametrize("bounds", ["auto", "reflect"])
def test_an_optimum_on_the_bound_is_found(bounds: str) -> None:
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(5,))})
    strategy = jhpo.CMAES(8, bounds=bounds, restarts="none")
    _, trace = searches(strategy, lambda hp: hp["x"][:3].sum() + ((hp["x"][3:] - 0.4) ** 2).sum(), space, 120, 6)
    assert (trace.units >= 0).all() and (trace.units <= 1).all()
    best = np.asarray(trace.value).reshape(6, -1).min(axis=1)
    assert np.median(best) < 1e-4
    if bounds == "auto":  # clipped: the bound itself is evaluated
        assert (np.asarray(trace.units)[..., :3] == 0).all(axis=-1).any(axis=(1, 2)).all()
