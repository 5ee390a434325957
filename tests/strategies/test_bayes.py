"""Bayesian optimisation as a strategy: hostile histories, pending points, finite spaces, models, trust regions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.kernels import gp, gp_fit
from jhpo.kernels.covariance import Points, matern52
from jhpo.strategies.base import Evaluation
from jhpo.strategies.bayes import candidates as pools
from jhpo.strategies.bayes import fitting
from jhpo.strategies.bayes import history as past
from jhpo.strategies.bayes import model as modelling
from jhpo.strategies.bayes import search as searching
from jhpo.strategies.bayes.ground import FLIPS, exact_ground, padded_ground
from jhpo.strategies.bayes.randomness import randomness
from tests.strategies.bayes_problems import MIXED, PLANE, ROWS, SMALL, bowl

# -- histories nobody wishes for ------------------------------------------------------------------------------


@jax.jit
def suggest(units: jax.Array, value: jax.Array, mask: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A suggestion after some absorbed results, and the theta of its fit."""
    state = SMALL.init(PLANE, jax.random.key(0))
    state = SMALL.absorb(state, units, Evaluation(value=value, mask=mask))
    units, state = SMALL.ask(state, jax.random.key(1))
    return units, state.theta


def test_hostile_histories(x64: None, rows: np.ndarray) -> None:
    good, all_told = bowl(rows), np.ones(ROWS, bool)
    one, none = np.arange(ROWS) == 0, np.zeros(ROWS, bool)
    failures = np.where(np.arange(ROWS) % 3 == 0, [np.nan, np.inf, -np.inf, 1.0] * 5, good)
    cases = {
        "plain": (rows, good, all_told),
        "nothing told": (rows, good, none),
        "one told": (rows, good, one),
        "duplicates": (np.repeat(rows[:2], 10, axis=0), np.arange(20.0), all_told),
        "constant": (rows, np.full(ROWS, 3.0), all_told),
        "failures of every kind": (rows, failures, all_told),
        "all failed": (rows, np.full(ROWS, np.nan), all_told),
        "huge": (rows, 1e12 * good, all_told),
        "tiny": (rows, 1e-12 * good, all_told),
        "beyond squares": (rows, 1e200 * good, all_told),
        "one outlier": (rows, np.where(one, 1e12, good), all_told),
        "outside the cube": (rows * 1.0 + 1e-9, good, all_told),
    }
    found = {}
    for name, case in cases.items():
        units, theta = suggest(*case)
        found[name] = np.asarray(units)
        assert np.isfinite(units).all() and (found[name] >= 0).all() and (found[name] <= 1).all(), name
        assert np.isfinite(theta).all(), name
    # the scale of the values is nothing to the search
    for name in ("huge", "tiny", "beyond squares"):
        np.testing.assert_allclose(found[name], found["plain"], atol=1e-4, err_msg=name)
    assert np.abs(found["plain"] - 0.3).max() < 0.15


def test_studies_side_by_side_equal_a_loop(x64: None, rows: np.ndarray) -> None:
    many = np.stack([np.roll(rows, i, axis=1) * (1 - 0.02 * i) for i in range(8)])
    values = np.stack([bowl(r) for r in many])
    mask = np.ones((8, ROWS), bool)
    together = np.asarray(jax.jit(jax.vmap(suggest))(many, values, mask)[0])
    alone = np.stack([np.asarray(suggest(*case)[0]) for case in zip(many, values, mask)])
    np.testing.assert_allclose(together, alone, atol=1e-8)


# -- what is under way ---------------------------------------------------------------------------------------------


def pending_model(rows: np.ndarray, worlds: int) -> tuple[modelling.Model, jax.Array, past.History]:
    """A model of 16 results and 4 points under way."""
    history = past.blank(32, PLANE.dim, 0, jnp.float64)
    told = past.told(exact_ground(PLANE), jnp.asarray(rows[:16]), Evaluation(value=bowl(rows[:16])), 0, jnp.float64)
    history, _ = past.record(history, jnp.int32(0), told, 0, 0)
    history = past.add_pending(history, jnp.arange(16, 20), jnp.asarray(rows[16:20]))
    surrogate = modelling.Surrogate(exact_ground(PLANE), matern52, "none", 20, 256, worlds)
    theta = jnp.asarray(gp_fit.default_prior(2, jnp.float64).mean)[None]
    build = jax.jit(lambda h: fitting.build(surrogate, h, theta, jnp.bool_(True), randomness(jax.random.key(0))))
    return *build(history), history


def test_points_under_way_have_the_values_that_the_posterior_thinks_possible(x64: None, rows: np.ndarray) -> None:
    """Against the joint normal distribution of the four values, from a dense computation; many worlds."""
    model, theta, history = pending_model(rows, 4000)
    data = gp.Data(Points(history.units), model.posterior.y[0], jnp.zeros(32), history.status == past.OBSERVED)
    told = gp.condition(theta[0], data, np.zeros(2, bool))
    mean, covariance = gp.joint(told, Points(jnp.asarray(rows[16:20])), np.zeros(2, bool))
    covariance = covariance + told.parameters.noise * np.eye(4)
    imagined = np.asarray(model.posterior.y[:, 16:20])
    root = np.linalg.cholesky(covariance)
    white = np.linalg.solve(root, (imagined - np.asarray(mean)).T)  # 4 independent normal values a world
    np.testing.assert_allclose(white.mean(axis=1), 0.0, atol=1e-6)
    np.testing.assert_allclose(np.cov(white), np.eye(4), atol=4 / np.sqrt(4000))
    # each world is a process of its own, conditioned on what is imagined in it
    for world in (0, 17):
        known = data._replace(y=model.posterior.y[world], mask=history.status != past.EMPTY)
        single = gp.condition(theta[0], known, np.zeros(2, bool))
        np.testing.assert_allclose(model.posterior.alpha[world], single.alpha, rtol=1e-5, atol=1e-6)
        at, _ = gp.joint(single, Points(history.units[:20]), np.zeros(2, bool))
        np.testing.assert_allclose(model.best[world], np.min(at), atol=1e-3)


def test_without_points_under_way_all_worlds_are_one(x64: None, rows: np.ndarray) -> None:
    history = past.blank(32, PLANE.dim, 0, jnp.float64)
    told = past.told(exact_ground(PLANE), jnp.asarray(rows), Evaluation(value=bowl(rows)), 0, jnp.float64)
    history, _ = past.record(history, jnp.int32(0), told, 0, 0)
    scores = []
    for worlds in (1, 8):
        surrogate = modelling.Surrogate(exact_ground(PLANE), matern52, "none", 20, 256, worlds)
        theta = jnp.asarray(gp_fit.default_prior(2, jnp.float64).mean)[None]
        model, _ = fitting.build(surrogate, history, theta, jnp.bool_(True), randomness(jax.random.key(0)))
        search = pools.Search(exact_ground(PLANE), matern52, 64, 2, 8)
        scores.append(searching.score(search, model, Points(jnp.array([0.31, 0.29]))))
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-10)


# -- finite spaces -----------------------------------------------------------------------------------------------


def test_a_finite_space_is_exhausted() -> None:
    space = jhpo.Space({"c": jhpo.Choice(["a", "b", "c"]), "k": jhpo.Int(1, 2)})
    study = jhpo.Study(space, jhpo.BayesOpt(batch=4, candidates=64, starts=2, fit_iterations=3), seed=1)
    seen = set()
    for _ in range(6):
        (trial,) = study.ask()
        seen.add((trial.params["c"], trial.params["k"]))
        study.tell(trial, float(trial.params["k"]))
    assert len(seen) == 6
    with pytest.raises(jhpo.SpaceExhausted, match="all 6 points"):
        study.ask()


def test_mixed_points_are_never_proposed_twice(x64: None) -> None:
    space = jhpo.Space({"k": jhpo.Int(0, 30), "c": jhpo.Choice(list("abcdefghij")), "j": jhpo.Int(0, 30)})
    strategy = jhpo.BayesOpt(batch=4, candidates=64, starts=2, fit_iterations=3, search_iterations=3)
    objective = lambda hp: jnp.abs(hp["k"] - 11).astype(float) + jnp.where(hp["c"] == 3, 0.0, 1.0)  # noqa: E731
    _, trace = jhpo.run(strategy, objective, space, 7, jax.random.key(0))
    units = np.asarray(trace.units).reshape(-1, 3)
    assert len(np.unique(units, axis=0)) == len(units)


def test_thompson_sampling_fills_a_batch(x64: None) -> None:
    """Different points of a mixed, constrained space, and most of them better than random ones."""
    space = jhpo.Space(
        {"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0), "c": jhpo.Choice(["a", "b", "c"])},
        constraints=[lambda hp: 1.5 - hp["x"] - hp["y"]],
    )
    strategy = jhpo.BayesOpt(batch=16, picks="thompson", candidates=256, fit_iterations=8)
    objective = lambda hp: (hp["x"] - 0.3) ** 2 + (hp["y"] - 0.6) ** 2 + jnp.where(hp["c"] == 1, 0.0, 0.5)  # noqa: E731
    _, trace = jhpo.run(strategy, objective, space, 4, jax.random.key(0))
    last = np.asarray(trace.units)[-1]
    assert len(np.unique(last, axis=0)) == 16 and (np.asarray(trace.constraint)[-1] >= 0).all()
    assert np.median(trace.value[-1]) < 0.3 * np.median(trace.value[0])


# -- what the model is made of -------------------------------------------------------------------------------------


def test_targets(x64: None) -> None:
    """Failures count as bad as the worst, replicates' variances follow the units of the values."""
    history = past.blank(8, PLANE.dim, 0, jnp.float64)
    value = np.array([1.0, 2.0, 4.0, np.nan, 3.0])
    for factor in (1.0, 1e6):
        result = Evaluation(value=factor * value, variance=factor**2 * np.array([0.5, 0.1, 0.0, 0.2, np.nan]))
        rows = past.told(
            exact_ground(PLANE), jnp.asarray(np.random.default_rng(0).random((5, 2))), result, 0, jnp.float64
        )
        full, _ = past.record(history, jnp.int32(0), rows, 0, 0)
        y, variance, _ = modelling.targets(full, "none")
        assert float(y[3]) == float(y[2]) == float(jnp.max(y))
        deviation = np.array([1.0, 2.0, 4.0, 4.0, 3.0]).std()
        np.testing.assert_allclose(variance[:5], np.array([0.5, 0.1, 0.0, 0.0, 0.0]) / deviation**2, rtol=1e-9)


def test_selection_of_a_long_history(x64: None) -> None:
    random = np.random.default_rng(0)
    history = past.blank(256, PLANE.dim, 0, jnp.float64)
    units = random.random((200, 2))
    told = past.told(exact_ground(PLANE), jnp.asarray(units), Evaluation(value=bowl(units)), 0, jnp.float64)
    history, _ = past.record(history, jnp.int32(0), told, 0, 0)
    history = history._replace(status=history.status.at[7].set(past.PENDING))
    history, free = past.reserve(history, 4)
    chosen, slots = modelling.select(history, free, 64, jnp.ones(2), exact_ground(PLANE))
    assert chosen.status.shape == (64,)
    assert (np.asarray(chosen.status)[np.asarray(slots)] == past.EMPTY).all()
    assert (np.asarray(chosen.status) == past.EMPTY).sum() == 4 and (
        np.asarray(chosen.status) == past.PENDING
    ).sum() == 1
    kept = np.asarray(chosen.units)[np.asarray(chosen.status) == past.OBSERVED]
    nearest = units[np.argsort(np.linalg.norm(units - units[np.argmin(bowl(units))], axis=1))[:30]]
    assert all((np.abs(kept - row).max(axis=1) < 1e-9).any() for row in nearest[1:] if not np.allclose(row, units[7]))


def test_measured_constraints(x64: None) -> None:
    """Feasible where x + y >= 1, which only the results tell; the lowest feasible value is 0.5 on that line."""
    strategy = jhpo.BayesOpt(constraints=1, capacity=32, candidates=128, starts=3)

    def step(state, key):
        units, state = strategy.ask(state, key)
        slack = units.sum(axis=1, keepdims=True) - 1.0
        result = Evaluation(value=(units**2).sum(axis=1), constraint=slack)
        return strategy.tell(state, units, result), (result.value, slack[:, 0])

    state = strategy.init(PLANE, jax.random.key(0))
    _, (value, slack) = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(jax.random.key(1), 25)))(state)
    feasible = np.asarray(slack)[:, 0] >= 0
    assert 5 < feasible.sum()
    assert 0.5 <= np.asarray(value)[feasible].min() < 0.53


# -- trust region ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anew", [True, False])
def test_rules_of_the_trust_region(anew: bool) -> None:
    on, region = jnp.asarray(True), past.first_region(jnp.float32)
    rules = past.Rules(successes=3, failures=4, shortest=0.5**7, anew=anew)

    def tell(region: past.Region, *values: float) -> past.Region:
        units = jnp.full((len(values), 2), 0.5)
        rows = past.told(exact_ground(PLANE), units, Evaluation(value=np.asarray(values, np.float32)), 0, jnp.float32)
        return past.update_region(region, rows, rules, on)

    for value in (9.0, 8.0, 7.0):
        region = tell(region, value)
    assert float(region.length) == pytest.approx(1.6) and int(region.successes) == 0
    region = tell(region, np.nan, 9.0)
    assert int(region.failures) == 2
    region = tell(region, 6.9999, 8.0)  # better by less than a thousandth
    assert float(region.length) == pytest.approx(0.8) and float(region.best) == pytest.approx(6.9999)
    for _ in range(4 * 7):
        region = tell(region, 9.0)
    if anew:
        assert int(region.epoch) == 1 and float(region.length) == pytest.approx(0.8) and np.isinf(region.best)
    else:
        assert int(region.epoch) == 0 and float(region.length) == pytest.approx(1.6)
        assert float(region.best) == pytest.approx(6.9999)


def test_trust_region_in_many_dimensions(x64: None) -> None:
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(24,))})
    strategy = jhpo.BayesOpt(batch=8, candidates=256, starts=2, fit_iterations=10, search_iterations=10)
    state, trace = jhpo.run(strategy, lambda hp: ((hp["x"] - 0.3) ** 2).sum(), space, 12, jax.random.key(0))
    value = np.asarray(trace.value)
    assert float(state.region.best) == value.min()
    assert value[6:].mean() < 0.5 * value[:2].mean()


# -- the rest ----------------------------------------------------------------------------------------------------


def test_neighbours_of_discrete_coordinates(x64: None) -> None:
    unit = MIXED.canonical(jnp.full((1, 4), 0.4))
    for ground, wide in ((exact_ground(MIXED), 4), (padded_ground(MIXED, 8), 8)):
        blocks = np.arange(-(-int(ground.flips.number) // FLIPS), dtype=np.int32)
        flipped = pools.flipped(ground, jnp.repeat(ground.widened(unit), len(blocks), axis=0), jnp.asarray(blocks))
        near = np.asarray(ground.canonical(flipped))
        assert near.shape == (len(blocks) * FLIPS, wide) and (near[:, 4:] == 0.5).all()
        changed = np.abs(near[:, :4] - np.asarray(unit)) > 1e-6
        width, kind = MIXED.names.index("width"), MIXED.names.index("kind")
        assert (changed.sum(axis=1) <= 2).all() and changed[:, width].sum() >= 6  # decay follows kind
        assert {MIXED.decode(row[:4])["kind"] for row in near[changed[:, kind]]} == {"a", "c"}


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"batch": 0}, "batch"),
        ({"initial": -1}, "initial"),
        ({"kernel": "cubic"}, "kernel"),
        ({"warp": "rank"}, "warp"),
        ({"region": "sometimes"}, "region"),
        ({"picks": "random"}, "picks"),
        ({"candidates": 3}, "candidates"),
        ({"starts": 1}, "starts"),
        ({"fit_iterations": 0}, "fit_iterations"),
        ({"constraints": -1}, "constraints"),
    ],
)
def test_bad_options_are_named(options: dict, name: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=f"^{name}: expected"):
        jhpo.BayesOpt(**options)


@pytest.mark.quick
def test_a_finite_space_of_which_no_point_meets_the_constraints_is_refused() -> None:
    space = jhpo.Space({"c": jhpo.Choice([1, 2, 3])}, constraints=[lambda hp: -1.0])
    with pytest.raises(jhpo.InvalidSpace, match="constraints: expected functions that some point of the space meets"):
        jhpo.minimize(lambda hp: hp["c"], space, jhpo.BayesOpt(), budget=3)
    with pytest.raises(jhpo.InvalidSpace, match="constraints: expected"):
        jhpo.BayesOpt().init(space, jax.random.key(0))
