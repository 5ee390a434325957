"""BayesOpt(gradients=True): conformance, bad gradients, programs, studies and chains, and what gradients are worth."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import testing
from jhpo.kernels import gp_slopes
from jhpo.kernels.covariance import PROFILES
from jhpo.strategies.base import Evaluation
from jhpo.strategies.bayes import history as past
from jhpo.strategies.bayes import model as modelling
from jhpo.strategies.bayes.ground import exact_ground

# small programs: what is tested here does not depend on how hard they search
SMALL = jhpo.BayesOpt(gradients=True, candidates=64, starts=2, fit_iterations=8, search_iterations=8)
PAIRS = jhpo.BayesOpt(batch=2, gradients=True, candidates=128, starts=3, fit_iterations=15, search_iterations=15)
BOX = jhpo.Space({"x": jhpo.Float(-1.0, 2.0, shape=(3,))})
MIXED = jhpo.Space(
    {
        "kind": jhpo.Choice(["a", "b", "c"]),
        "rate": jhpo.Float(1e-4, 1.0, log=True),
        "decay": jhpo.Float(0.0, 1.0, when={"kind": ["b", "c"]}),
        "width": jhpo.Int(1, 40),
    }
)


def sphere(hp):
    return ((hp["x"] - 0.3) ** 2).sum()


# the same checks run without gradients in the conformance suite; each of these compiles programs of its own
QUICK_CHECKS = ("state",)
CHECKS = [c if c in QUICK_CHECKS else pytest.param(c, marks=pytest.mark.slow) for c in testing.CHECKS if c != "several"]


@pytest.mark.parametrize("check", CHECKS)
def test_conformance(check: str) -> None:
    testing.CHECKS[check](PAIRS)


@pytest.mark.slow
def test_conformance_in_float64(x64: None) -> None:
    testing.check_points(PAIRS)
    testing.check_state(PAIRS)


# -- what is learned from a gradient -----------------------------------------------------------------------------


def history_of(space: jhpo.Space, units: np.ndarray, value: np.ndarray, grad: np.ndarray, rows: int) -> past.History:
    blank = past.blank(rows, space.dim, 0, jnp.float64, space.dim)
    told = past.told(exact_ground(space), jnp.asarray(units), Evaluation(value, grad), 0, jnp.float64, space.dim)
    return past.record(blank, jnp.int32(0), told, 0, 0)[0]


def slopes_of(space: jhpo.Space, history: past.History) -> tuple[gp_slopes.Slopes, jax.Array, jax.Array]:
    surrogate = modelling.Surrogate(exact_ground(space), PROFILES["matern52"], "half_log", 8, 256, 4)
    y, _, steep = modelling.targets(history, "half_log")
    points = exact_ground(space).points_of(history.units)
    return modelling.slopes(surrogate, history, points, steep, jnp.ones(space.dim)), y, steep


def test_chaotic_lost_and_discrete_slopes_do_not_count(x64: None) -> None:
    kind, rate, decay = (MIXED.names.index(name) for name in ("kind", "rate", "decay"))
    units = np.random.default_rng(0).random((6, 4))
    grad = np.ones((6, 4))
    grad[:, kind] = np.nan  # nobody knows
    grad[1, rate], grad[2, rate] = np.nan, 1e9
    value = np.array([1.0, 2.0, 3.0, np.nan, 2.5, 1.5])
    units[:, kind] = [0.9, 0.9, 0.9, 0.9, 0.9, 0.1]  # in the last one decay is inactive
    history = history_of(MIXED, units, value, grad, 8)
    known, _, _ = slopes_of(MIXED, history)
    mask = np.zeros((8, 4), bool)
    mask[np.asarray(known.rows)] = known.mask
    expected = np.zeros((8, 4), bool)
    expected[[0, 4, 5], rate] = True
    expected[[0, 4], decay] = True
    np.testing.assert_array_equal(mask, expected)


def test_slopes_are_those_of_the_warped_targets(x64: None) -> None:
    random = np.random.default_rng(1)
    units, grad = random.random((9, 3)), random.normal(size=(9, 3))
    value = np.exp(random.normal(size=9))
    known, y, steep = slopes_of(BOX, history_of(BOX, units, value, grad, 16))
    rows = np.asarray(known.rows)
    np.testing.assert_allclose(
        np.asarray(known.grad)[rows < 9], (grad * np.asarray(steep)[:9, None])[rows[rows < 9]], rtol=1e-12
    )
    # the targets are a smooth function of the values: their order is kept, and steep says how they follow
    order = np.argsort(value)
    np.testing.assert_array_equal(np.argsort(np.asarray(y)[:9]), order)
    secant = np.diff(np.asarray(y)[:9][order]) / np.diff(value[order])
    ends = np.asarray(steep)[:9][order]
    assert ((secant <= ends[:-1] * (1 + 1e-9)) & (secant >= ends[1:] * (1 - 1e-9))).all()


def test_only_some_gradients_of_a_long_history(x64: None) -> None:
    units = np.random.default_rng(0).random((250, 3))
    value = ((units - 0.3) ** 2).sum(axis=1)
    known, _, _ = slopes_of(BOX, history_of(BOX, units, value, 2 * (units - 0.3), 256))
    assert len(known.rows) == (512 - 256) // 3 and np.asarray(known.mask).all()
    assert np.isin(np.argsort(value)[:20], known.rows).all()
    assert gp_slopes.rows_for(256, len(known.rows), 3) == modelling.SLOPE_ROWS


@pytest.mark.slow
def test_hostile_gradients(x64: None) -> None:
    @jax.jit
    def suggest(units: jax.Array, value: jax.Array, grad: jax.Array) -> jax.Array:
        state = SMALL.absorb(SMALL.init(BOX, jax.random.key(0)), units, Evaluation(value, grad))
        return SMALL.ask(state, jax.random.key(1))[0]

    units = np.random.default_rng(0).random((12, 3))
    value, grad = ((units - 0.3) ** 2).sum(axis=1), 2 * (units - 0.3)
    chaos = np.where(np.arange(12)[:, None] % 2 == 0, 1e30 * grad, grad)
    cases = {
        "plain": (units, value, grad),
        "none at all": (units, value, np.full_like(grad, np.nan)),
        "all zero": (units, value, np.zeros_like(grad)),
        "infinite": (units, value, np.full_like(grad, np.inf)),
        "half of them chaotic": (units, value, chaos),
        "constant": (units, np.ones(12), grad),
        "all failed": (units, np.full(12, np.nan), grad),
        "duplicates": (np.repeat(units[:2], 6, axis=0), np.repeat(value[:2], 6), np.repeat(grad[:2], 6, axis=0)),
        "contradictory": (np.repeat(units[:2], 6, axis=0), value, grad),
        "huge": (units, 1e30 * value, 1e30 * grad),
        "tiny": (units, 1e-30 * value, 1e-30 * grad),
    }
    for name, case in cases.items():
        found = np.asarray(suggest(*case))
        assert np.isfinite(found).all() and (found >= 0).all() and (found <= 1).all(), name
    np.testing.assert_allclose(suggest(*cases["plain"]), np.full((1, 3), 0.3), atol=0.1)


# -- programs ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_gradients_are_worth_evaluations() -> None:
    """Six coordinates, fourteen evaluations: near the optimum with gradients, far from it without."""
    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0, shape=(6,))})
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0].astype(np.float32)
    scales = np.geomspace(1.0, 10.0, 6).astype(np.float32)

    def valley(hp):
        return ((turn @ (hp["x"] - 0.4)) ** 2 * scales).sum()

    best = [jhpo.minimize(valley, space, jhpo.BayesOpt(gradients=g), budget=14, seed=0).value for g in (True, False)]
    assert best[0] < 0.02 and best[0] < 0.1 * best[1]


@pytest.mark.slow
def test_run_in_float32_and_side_by_side() -> None:
    def study(key: jax.Array) -> jax.Array:
        return jhpo.run(PAIRS, sphere, BOX, 8, key)[1].value.min()

    keys = jax.vmap(jax.random.key)(jnp.arange(3, dtype=jnp.uint32))
    together = np.asarray(jax.jit(jax.vmap(study))(keys))
    assert together.dtype == np.float32 and (together < 1e-2).all()


@pytest.mark.slow
def test_mixed_space() -> None:
    def objective(hp):
        decay = jnp.where(hp["kind"] > 0, (hp["decay"] - 0.4) ** 2, 0.3)
        return jnp.log10(hp["rate"] / 0.03) ** 2 + decay + 0.01 * jnp.abs(hp["width"].astype(jnp.float32) - 7.0)

    result = jhpo.minimize(objective, MIXED, PAIRS, budget=24, seed=0)
    assert result.value < 0.1 and result.best["kind"] in ("b", "c")


def test_constraints_that_are_measured() -> None:
    def objective(hp):
        return hp["x"].sum(), {"constraint": (hp["x"] ** 2).sum()[None] - 0.5}

    strategy = jhpo.BayesOpt(gradients=True, constraints=1, candidates=128, starts=3)
    state = strategy.init(BOX, jax.random.key(0))
    step = jax.jit(lambda state, key: strategy.ask(state, key))
    tell = jax.jit(lambda state, units, result: strategy.tell(state, units, result))
    best = np.inf
    for i in range(14):
        units, state = step(state, jax.random.key(i))
        x = 3.0 * np.asarray(units) - 1.0
        value, slack = (x**2).sum(axis=1), x[:, :1] - 0.5
        state = tell(state, units, Evaluation(value, 6.0 * x, constraint=slack))
        best = min(best, float(value[0]) if slack[0, 0] >= 0 else np.inf)
    assert state.theta.shape == (2, 3 + 4)
    assert 0.25 <= best < 0.3


# -- studies and chains ------------------------------------------------------------------------------------------


def test_a_resumed_study_equals_the_uninterrupted_one(tmp_path) -> None:
    whole = jhpo.Study(BOX, SMALL, seed=3)
    whole.optimize(jhpo.as_trainable(sphere), budget=12)
    for budget in (7, 12):
        with jhpo.Study(BOX, SMALL, tmp_path / "s.db", seed=3, resume=budget > 7) as study:
            study.optimize(jhpo.as_trainable(sphere), budget=budget)
    with jhpo.Study.load(tmp_path / "s.db") as loaded:
        assert loaded.strategy == SMALL
        for name in ("value", "unit"):
            ours, theirs = getattr(whole.history.table, name).array, getattr(loaded.history.table, name).array
            np.testing.assert_array_equal(ours, theirs)


def test_ask_and_tell_with_and_without_a_gradient() -> None:
    study = jhpo.Study(BOX, SMALL, seed=0)
    for i in range(16):
        trial = study.ask()[0]
        x = 3.0 * trial.unit - 1.0
        study.tell(trial, float((x**2).sum()), grad=6.0 * x if i % 3 else None)
    grads = np.asarray(study.ledger.follower().driver.state.history.grad)
    assert np.isfinite(grads).all(axis=1).sum() >= 9
    assert study.best.value < 0.05


@pytest.mark.slow
def test_as_the_polish_of_a_chain() -> None:
    chain = jhpo.Chain(jhpo.SobolSearch(8), SMALL, evaluations=8, horizon=1.0)
    result = jhpo.minimize(sphere, BOX, chain, budget=20, seed=0)
    assert result.value < 1e-2


@pytest.mark.parametrize(
    ("options", "name"),
    [({"gradients": 1}, "gradients"), ({"kernel": "matern32"}, "kernel"), ({"picks": "thompson"}, "picks")],
)
def test_bad_options_are_named(options: dict, name: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=f"^{name}: expected"):
        jhpo.BayesOpt(**({"gradients": True} | options))


@pytest.mark.parametrize(
    "space",
    [jhpo.Space({"n": jhpo.Int(1, 9)}), jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(257,))})],
)
def test_spaces_without_use_are_refused(space: jhpo.Space) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=r"^space: expected"):
        SMALL.init(space, jax.random.key(0))
