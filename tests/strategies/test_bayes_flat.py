"""BayesOpt where the objective says little: plateaus, steps, needles, huge values. Random search is the yardstick."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.kernels import warp
from tests.strategies.bayes_problems import MIXED, PLANE, SMALL

BUDGET, SEEDS = 32, 8


def bowl(x: jax.Array, y: jax.Array) -> jax.Array:
    return (x - 0.37) ** 2 + (y - 0.71) ** 2


def inside(x: jax.Array, y: jax.Array, low: tuple[float, float], high: tuple[float, float]) -> jax.Array:
    return (x > low[0]) & (x < high[0]) & (y > low[1]) & (y < high[1])


BOX = (0.55, 0.25), (0.8, 0.65)
PLATEAUS = {
    "constant": lambda x, y: 0.0 * x + 7.0,
    "box": lambda x, y: jnp.where(inside(x, y, *BOX), -1.0 - x, 0.0),
    "step": lambda x, y: jnp.where(x > 0.5, 0.0, 1.0),
    "levels": lambda x, y: jnp.floor(20 * jnp.sqrt(bowl(x, y))) / 20,
    "floor": lambda x, y: jnp.maximum(bowl(x, y), 0.05),
    "accuracy": lambda x, y: -jnp.round(12 * jnp.exp(-8 * bowl(x, y))) / 12,
    "noise": lambda x, y: jnp.where(
        inside(x, y, (0.55, 0.25), (0.8, 0.65)), -1.0 - x, 1e-7 * jnp.sin(1e4 * x + 3e4 * y)
    ),
    "failures": lambda x, y: jnp.where(inside(x, y, *BOX), -1.0 - x, jnp.nan),
    "huge": lambda x, y: jnp.where(inside(x, y, (0.8, 0.4), (1.0, 1.0)), 1e15, bowl(x, y)),
    "beyond": lambda x, y: jnp.where(inside(x, y, (0.9, 0.5), (1.0, 1.0)), 1e30, bowl(x, y)),
    "canyon": lambda x, y: jnp.where(inside(x, y, (0.4, 0.3), (0.7, 0.6)), -1e12, bowl(x, y)),
}


def study(strategy: jhpo.Strategy, plateau: jax.Array, key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """One search of the plateau with that number: units and values. The number is data, so one program does for all."""

    def objective(hp: dict) -> jax.Array:
        point = jnp.stack([hp["x"], hp["y"]])
        return jax.lax.switch(plateau, [lambda p, f=f: jnp.asarray(f(*p), p.dtype) for f in PLATEAUS.values()], point)

    _, trace = jhpo.run(strategy, objective, PLANE, BUDGET // strategy.population, key)
    return trace.units.reshape(BUDGET, -1), trace.value.reshape(-1)


@pytest.mark.parametrize(
    ("double", "batch", "names"),
    [
        (True, 1, ("box", "huge")),
        pytest.param(True, 1, ("step", "accuracy"), marks=pytest.mark.slow),
        pytest.param(True, 1, ("floor", "noise"), marks=pytest.mark.slow),
        pytest.param(False, 1, ("constant", "levels", "beyond", "canyon"), marks=pytest.mark.slow),
        pytest.param(True, 4, ("box", "failures", "huge"), marks=pytest.mark.slow),
    ],
)
def test_plateaus_never_worse_than_random_and_never_twice_the_same(
    double: bool, batch: int, names: tuple[str, ...]
) -> None:
    with jax.enable_x64(double):
        mine = jax.jit(lambda k, key: study(jhpo.BayesOpt(batch=batch), k, key))
        other = jax.jit(jax.vmap(lambda k, key: study(jhpo.RandomSearch(1), k, key), in_axes=(None, 0)))
        for name in names:
            number = jnp.int32(tuple(PLATEAUS).index(name))
            runs = [mine(number, key) for key in jax.random.split(jax.random.key(1), SEEDS)]
            for units, _ in runs:
                assert len(np.unique(np.round(np.asarray(units), 6), axis=0)) == BUDGET, name
            best = np.array([lowest(value) for _, value in runs])
            random = lowest(other(number, jax.random.split(jax.random.key(2), 200))[1])
            wins = (best[:, None] < random).mean() + 0.5 * (best[:, None] == random).mean()
            assert wins >= 0.5, (name, wins)
            if name in ("huge", "beyond"):
                assert np.median(best) < 1e-4, name


def lowest(values: jax.Array) -> np.ndarray:
    return np.where(np.isfinite(values), values, np.inf).min(axis=-1)


@pytest.mark.slow  # the plateau "box" above is its short form
def test_a_needle_among_equal_values_in_six_dimensions(x64: None) -> None:
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(6,))})

    def objective(hp: dict) -> jax.Array:
        return jnp.where((hp["x"][:3] > 0.5).all(), -1.0 - hp["x"][0], 0.0)

    search = jax.jit(lambda key: jhpo.run(jhpo.BayesOpt(), objective, space, 40, key)[1])
    for key in jax.random.split(jax.random.key(3), 4):
        trace = search(key)
        assert trace.value.min() < -1.9
        assert len(np.unique(np.round(np.asarray(trace.units).reshape(40, 6), 6), axis=0)) == 40


EITHER = jhpo.Space(
    {
        "kind": jhpo.Choice(["a", "b"]),
        "x": jhpo.Float(0.0, 1.0, when={"kind": "b"}),
        "y": jhpo.Float(1e-5, 1.0, log=True, when={"kind": "a"}),
    }
)


@pytest.mark.parametrize(("space", "value"), [(MIXED, 7.0), (MIXED, float("nan")), (EITHER, -1e15)])
def test_asked_and_told_without_any_difference(space: jhpo.Space, value: float) -> None:
    study = jhpo.Study(space, SMALL, seed=3)
    seen = []
    for _ in range(5):
        trials = study.ask(4)
        seen += [repr(sorted(study.space.flat(t.params).items())) for t in trials]
        for trial in trials[:3]:  # one of each four stays pending
            study.tell(trial, value)
    assert len(set(seen)) == len(seen)


tame, half_rank = jax.jit(warp.tame), jax.jit(warp.half_rank)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_far_values_cost_no_digits(x64: None, dtype: jnp.dtype) -> None:
    most = float(jnp.finfo(dtype).max)
    near = np.linspace(0.2, 0.21, 9)
    for far in ([most], [1e30, 1e15], [1e30, most, most]):
        y = jnp.asarray(np.concatenate([near, far]), dtype)
        z, slope = tame(y, jnp.ones(y.shape, bool))
        assert np.isfinite(z).all() and np.isfinite(slope).all()
        steps = np.diff(z[:9])
        np.testing.assert_allclose(steps, steps[0], rtol=1e-3)
        assert steps[0] > 0.1 and z[9] > 10 and z[9] < 1e7
        ranked = half_rank(z, jnp.ones(y.shape, bool))
        assert (np.diff(np.asarray(ranked)[:9]) > 0.1).all()


def test_one_value_out_of_proportion_hides_no_valley() -> None:
    for seed in range(3):
        study = jhpo.Study(PLANE, jhpo.BayesOpt(), seed=seed)
        best = np.inf
        for number in range(30):
            (trial,) = study.ask(1)
            value = 1e15 if number == 5 else 0.2 + (trial.params["x"] - 0.37) ** 2 + (trial.params["y"] - 0.71) ** 2
            study.tell(trial, value)
            best = min(best, value)
        assert best < 0.2 + 1e-4


def test_equal_values_stay_equal(x64: None) -> None:
    mask = jnp.ones(8, bool)
    for y in ([0.0, 0, 0, 0, 0, 1, 1, 2], [0.0, 1, 2, 2, 3, 3, 3, 4]):
        z = np.asarray(half_rank(jnp.asarray(y), mask))
        np.testing.assert_array_equal(np.diff(z) > 0, np.diff(y) > 0)
    # what rounding alone makes different is equal
    z, _ = tame(0.1 + 1e-17 * jnp.arange(8.0), mask)
    np.testing.assert_array_equal(z, 0.0)
