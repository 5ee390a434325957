"""What a search gives goes to bytes and to other processes, and comes back."""

from __future__ import annotations

import pickle  # noqa: TID251 between a user's own processes
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

import jhpo
from jhpo.errors import JhpoError
from jhpo.trial import TrialState

SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True), "kind": jhpo.Choice(["a", "b"])})


class Descent:
    """A trainable with a typed key, of any generator, in its state."""

    steps = 3

    def __init__(self, impl="threefry2x32"):
        self.impl = impl

    def init(self, hp, key):
        data = jax.random.bits(key, jax.random.key_data(jax.random.key(0, impl=self.impl)).shape)
        return {"w": jax.random.normal(key, (2,)), "key": jax.random.wrap_key_data(data, impl=self.impl)}

    def step(self, hp, state, t):
        key, _ = jax.random.split(state["key"])
        return {"w": state["w"] * (1.0 - hp["lr"]), "key": key}

    def evaluate(self, hp, state):
        return jnp.square(state["w"]).sum()


def assert_same(a, b):
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b)):
        assert x.dtype == y.dtype
        if jnp.issubdtype(x.dtype, jax.dtypes.prng_key):
            x, y = jax.random.key_data(x), jax.random.key_data(y)
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_trained_states_go_through_flax(impl):
    task = Descent(impl)
    study = jhpo.Study(SPACE, jhpo.RandomSearch(4))
    study.optimize(task, budget=4)
    best = jhpo.minimize(task, SPACE, jhpo.RandomSearch(4), budget=4).top(1)[0]
    for state in (best.state, study.states(task, study.top(1))[0]):
        blank = task.init({"lr": 0.1}, jax.random.key(9))
        assert_same(serialization.from_bytes(blank, serialization.to_bytes(state)), state)


@pytest.mark.parametrize("strategy", [jhpo.PSO(4), jhpo.CMAES(4), jhpo.SobolSearch(4)], ids=lambda s: type(s).__name__)
def test_states_of_strategies_go_through_flax(strategy):
    state = jhpo.minimize(lambda hp: hp["lr"], SPACE, strategy, budget=8).state
    other = jhpo.minimize(lambda hp: hp["lr"], SPACE, strategy, budget=4, seed=1).state
    assert_same(serialization.from_bytes(other, serialization.to_bytes(state)), state)


READ = """
import pickle, sys
result = pickle.load(sys.stdin.buffer)
print(result.best["kind"], float(result.value), len(result.history.value), result.top(2)[1].state["w"].shape)
"""


def test_a_result_reaches_another_process():
    result = jhpo.minimize(Descent(), SPACE, jhpo.RandomSearch(4), budget=8, start=[{"lr": 0.01}])
    result.top(2)
    sent = pickle.dumps(result)
    out = subprocess.run([sys.executable, "-c", READ], input=sent, capture_output=True, check=True).stdout.decode()
    assert out.split() == [result.best["kind"], str(float(result.value)), "8", "(2,)"]
    copy = pickle.loads(sent)  # noqa: S301 our own bytes
    assert_same([t.state for t in copy.top(2)], [t.state for t in result.top(2)])
    assert [t.params for t in copy.top(8, states=False)] == [t.params for t in result.top(8, states=False)]
    with pytest.raises(JhpoError, match=r"top\(3\) there before"):
        copy.top(3)
    with pytest.raises(JhpoError, match="before pickling"):
        _ = copy.state
    again = pickle.loads(pickle.dumps(copy))  # noqa: S301 our own bytes
    assert again.best == result.best


@pytest.mark.parametrize("objective", [lambda hp: hp["lr"], jhpo.host(lambda hp: hp["lr"])], ids=["function", "host"])
def test_results_without_training_need_no_states(objective):
    result = jhpo.minimize(objective, SPACE, jhpo.PSO(4), budget=8)
    state = result.state
    copy = pickle.loads(pickle.dumps(result))  # noqa: S301 our own bytes
    assert [t.params for t in copy.top(3)] == [t.params for t in result.top(3)] and copy.top(1)[0].state is None
    assert_same(copy.state, state)


def test_status_and_state_are_two_things():
    study = jhpo.Study(SPACE, "random")
    (trial,) = study.ask()
    study.tell(trial, 1.0)
    assert trial.status is TrialState.RUNNING and study.best.status is TrialState.COMPLETE
    with pytest.warns(DeprecationWarning, match="status"):
        assert study.best.state is TrialState.COMPLETE


def test_states_of_own_programs_go_through_flax():
    """Nothing of a search was touched before in this process."""
    code = """
        import jax, jax.numpy as jnp, numpy as np, optax
        from flax import serialization
        import jhpo

        space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})
        jax.eval_shape(lambda: jhpo.PSO(4).init(space, jax.random.key(0)))
        state = jhpo.PSO(4).init(space, jax.random.key(0))
        back = serialization.from_bytes(jhpo.PSO(4).init(space, jax.random.key(1)), serialization.to_bytes(state))
        assert (back.swarm.position == state.swarm.position).all() and back.space is not None
        line = (lambda key, x: {"w": jnp.zeros(1)}, lambda p, x: x @ p["w"])
        data = np.zeros((4, 1), np.float32), np.zeros(4, np.float32)
        task = jhpo.supervised(line, lambda hp: optax.sgd(hp["lr"]), "regression", train=data, valid=data, steps=1)
        assert serialization.to_bytes(task.init({"lr": 0.1}, jax.random.key(0)))
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], check=True)


def test_empty_arrays_go_through_a_checkpoint(tmp_path):
    state = jhpo.PSO(4).init(SPACE, jax.random.key(0))
    assert not state.swarm.exemplar.size
    for name, saved in (("swarm", state), ("random", jhpo.RandomSearch(4).init(SPACE, jax.random.key(0)))):
        assert_same(
            jhpo.load_states(jhpo.save_states(tmp_path / name, saved), jax.tree.map(jnp.zeros_like, saved)), saved
        )
