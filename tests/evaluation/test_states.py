"""The state that comes back is the one that was measured, whatever the chunk and however many are asked for."""

from __future__ import annotations

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jhpo
from jhpo.evaluation.retraining import warn_of_others

RNG = np.random.default_rng(0)
X = RNG.normal(size=(160, 8)).astype(np.float32)
Y = (X[:, 0] * X[:, 1] > 0).astype(np.int32)
SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 1e-1, log=True)})


class Linen(nn.Module):
    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(16)(x))
        return nn.Dense(2)(nn.Dropout(0.1, deterministic=not train)(nn.relu(x)))


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first, self.last = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 2, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.norm(self.first(x))))


def task(model):
    data = {"train": (X[:128], Y[:128]), "valid": (X[128:], Y[128:])}
    return jhpo.supervised(model, lambda hp: optax.adam(hp["lr"]), **data, batch_size=32, steps=40)


def losses(trainable, params, states):
    """Of the states, evaluated side by side: products of the shape in which they were measured."""
    hp = {"lr": jnp.asarray([p["lr"] for p in params], jnp.result_type(float))}
    stacked = jax.tree.map(lambda *xs: jnp.stack(xs), *states)
    return np.asarray(jax.jit(jax.vmap(trainable.evaluate))(hp, stacked)["loss"])


@pytest.fixture(autouse=True)
def warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.mark.parametrize(
    ("model", "chunk"),
    [
        pytest.param(
            model, chunk, id=f"{name}-{chunk}", marks=[pytest.mark.slow] * (name != "linen" or chunk is not None)
        )
        for name, model in (("linen", Linen()), ("nnx", Nnx))
        for chunk in (None, 5, 8)
    ],
)
def test_states_of_a_search_are_those_measured(model, chunk) -> None:
    trainable = task(model)
    result = jhpo.minimize(trainable, SPACE, jhpo.RandomSearch(12), budget=24, chunk=chunk)
    for k in (1, 2, 7):
        top = result.top(k)
        found = losses(trainable, [t.params for t in top], [t.state for t in top])
        np.testing.assert_allclose(found, [t.value for t in top], rtol=3e-6)


@pytest.mark.parametrize("found", [1.001, np.nan, np.inf])
def test_roundings_of_a_value_are_no_news_and_other_values_are(found: float) -> None:
    known = np.asarray([0.64, np.inf, np.nan, 1.0], np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warn_of_others(known, np.nextafter(np.asarray([0.64, np.inf, 1.0, 1.0], np.float32), np.float32(2.0)))
    with pytest.warns(UserWarning, match="1 of 4 members evaluates differently"):
        warn_of_others(known, np.asarray([0.64, np.inf, 1.0, found], np.float32))


@pytest.mark.slow
def test_one_member_was_trained_otherwise_than_many() -> None:
    """The fault that this guards against: a program of one member ends elsewhere."""
    population = jhpo.Population(task(Linen()), SPACE, chunk=8)
    units, ids, root = np.linspace(0.3, 0.9, 8)[:, None], np.arange(8), jax.random.key(0)
    value = population.evaluate(units, ids, root).value
    alone = jhpo.Population(task(Linen()), SPACE, chunk=1)
    with pytest.warns(UserWarning, match="evaluates differently"):
        alone.states(units, ids, root, value)
    population.states(units[3:4], ids[3:4], root, value[3:4])


@pytest.mark.slow
def test_states_of_every_width_that_was_used(tmp_path) -> None:
    """An enqueued trial is measured alone, in a narrower program than the generations after it."""
    trainable, storage = task(Linen()), tmp_path / "s.db"
    with jhpo.Study(SPACE, jhpo.RandomSearch(12), storage=storage, seed=1) as study:
        study.enqueue({"lr": 0.02})
        study.optimize(trainable, budget=1)
        study.optimize(trainable, budget=25)
        before = study.states(trainable, range(25))
    with jhpo.Study.load(storage) as study:
        after = study.states(trainable, range(25))
        values = [study[i].value for i in range(25)]
        params = [study[i].params for i in range(25)]
    assert jax.tree.all(
        jax.tree.map(lambda a, b: bool(jnp.all(a == b)), [s.params for s in before], [s.params for s in after])
    )
    np.testing.assert_allclose(losses(trainable, params, after), values, rtol=3e-6)


@pytest.mark.slow
def test_with_replicates_the_state_is_that_of_the_first() -> None:
    trainable = task(Linen())
    population = jhpo.Population(trainable, SPACE, replicates=3)
    units, ids, root = np.linspace(0.3, 0.9, 6)[:, None], np.arange(6), jax.random.key(0)
    value = population.evaluate(units, ids, root).value
    states = population.states(units, ids, root, value)
    key = jax.random.fold_in(jax.random.fold_in(root, 4), 0)
    wanted = jax.random.key_data(jax.random.split(key)[1])
    assert np.array_equal(jax.random.key_data(states[4].key), wanted)


@pytest.mark.slow
def test_states_with_a_named_metric(tmp_path) -> None:
    trainable = task(Linen())
    study = jhpo.Study(SPACE, jhpo.RandomSearch(8), seed=1)
    study.optimize(trainable, budget=8, metric="error")
    assert len(study.states(trainable, study.top(2))) == 2


@pytest.mark.slow
def test_states_of_shorter_trainings_are_as_short_as_those_measured(tmp_path) -> None:
    class Count:
        steps = 8

        def init(self, hp, key):
            return jnp.float32(0.0)

        def step(self, hp, state, t):
            return state + hp["x"]

        def evaluate(self, hp, state):
            return state

    space = jhpo.Space({"x": jhpo.Float(0.5, 1.0)})
    chain = jhpo.Chain(jhpo.RandomSearch(4), jhpo.HyperGradient(2), evaluations=8, horizon=0.25)
    study = jhpo.Study(space, chain, storage=tmp_path / "s.db")
    study.optimize(Count(), budget=16)
    horizons = study.history.table.horizon.array
    ids = [int(np.flatnonzero(horizons == h)[0]) for h in np.unique(horizons)]
    assert len(ids) == 2
    for trial, state in zip(ids, study.states(Count(), ids)):
        assert float(state) == pytest.approx(study.history.table.value.array[trial], rel=1e-6)
