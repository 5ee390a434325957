"""Numbers of steps are rounded up, but not by a rounding of floats."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.training.lengths import traced_steps, whole_steps
from jhpo.training.trainable import train_state


def test_percents_of_any_length_are_whole() -> None:
    percent, length = np.meshgrid(np.arange(1, 101), np.arange(1, 1201))
    exact = -(-percent * length // 100)
    share = jnp.asarray((percent / 100).astype(np.float32))
    np.testing.assert_array_equal(traced_steps(jnp.asarray(length, jnp.float32) * share), exact)
    assert [whole_steps(p / 100 * n) for p, n in zip(percent.flat, length.flat)] == exact.ravel().tolist()
    large = jnp.asarray([2.0**22, 2.0**23 - 1, 2.0**24], jnp.float32)
    np.testing.assert_array_equal(traced_steps(large), np.asarray(large, int))


class Counter:
    """Counts the steps that changed its state."""

    max_steps = 300

    def steps(self, hp: dict[str, jax.Array]) -> jax.Array:
        return hp["steps"]

    def init(self, hp: dict[str, jax.Array], key: jax.Array) -> jax.Array:
        return jnp.zeros((), jnp.int32)

    def step(self, hp: dict[str, jax.Array], state: jax.Array, t: jax.Array) -> jax.Array:
        return state + 1

    def evaluate(self, hp: dict[str, jax.Array], state: jax.Array) -> jax.Array:
        return state.astype(jnp.float32)


@pytest.mark.parametrize(("horizon", "steps"), [(0.09, 27), (0.07, 21), (1.0, 300), (0.0901, 28)])
def test_a_share_of_a_members_own_length(horizon: float, steps: int) -> None:
    assert int(train_state(Counter(), {"steps": jnp.int32(300)}, jax.random.key(0), horizon)) == steps


def test_a_share_of_an_epoch() -> None:
    x = np.ones((100, 2), np.float32)
    task = jhpo.supervised(
        jhpo.masked_mlp([2], [2], outputs=1), lambda hp: optax.sgd(0.1), train=(x, x[:, 0]), valid=(x, x[:, 0]),
        batch_size=1, epochs=0.07, loss="regression",
    )  # fmt: skip
    assert task.steps == 7


def test_integers_that_would_wrap_are_refused() -> None:
    x = np.ones((4, 2), np.float32)
    y = np.array([0, 1, 2, 3], np.int64)
    make = lambda y: jhpo.supervised(  # noqa: E731
        jhpo.masked_mlp([2], [2], outputs=1), lambda hp: optax.sgd(0.1), train=(x, y), valid=(x, y), steps=1,
        loss="regression",
    )  # fmt: skip
    make(y)
    with pytest.raises(jhpo.InvalidArgument, match="train: targets: expected integers that fit into int32"):
        make(y * 10**12)


def test_numbers_that_would_become_infinite_are_refused() -> None:
    x, y = np.ones((4, 2)), np.arange(4.0)

    def make(x, y):
        jhpo.supervised(
            jhpo.masked_mlp([2], [2], outputs=1), lambda hp: optax.sgd(0.1), "regression", train=(x, y), steps=1
        )

    make(x * 1e38, y)
    with pytest.raises(jhpo.InvalidArgument, match=r"train: inputs: expected numbers up to 3.4e.38.*, got '1e.40'"):
        make(x * 1e40, y)
    with pytest.raises(jhpo.InvalidArgument, match=r"train: targets: expected numbers up to 3.4e.38"):
        make(x, -y * 1e60)
    with pytest.raises(jhpo.InvalidArgument, match="train: expected finite numbers"):
        make(x + 1j * np.nan, y)
    with jax.enable_x64(True):
        make(x * 1e40, y)
