"""Keys made on the host are those that JAX makes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo import keys
from jhpo.evaluation.measures import trial_seeds
from tests.conftest import counting

NUMBERS = [0, 1, 77, 2**31, 2**32 - 1]


def words(key: jax.Array) -> list[int]:
    return np.asarray(jax.random.key_data(key)).tolist()


@pytest.mark.quick
@pytest.mark.parametrize("seed", NUMBERS)
def test_keys_are_those_of_jax(seed: int) -> None:
    key = keys.root_key(seed)
    assert words(key) == words(jax.random.key(seed, impl="threefry2x32"))
    for number in NUMBERS:
        expected = jax.random.fold_in(key, np.uint32(number))
        assert words(keys.trial_key(key, number)) == words(expected)
        strategy = jax.random.fold_in(jax.random.fold_in(key, np.uint32(2**32 - 1)), np.uint32(number))
        assert words(keys.strategy_key(key, number)) == words(strategy)


@pytest.mark.parametrize("replicate", [None, 3])
def test_seeds_of_many_trials(replicate: int | None) -> None:
    root = keys.root_key(5)
    each = keys.trial_keys(root, jnp.asarray(NUMBERS, jnp.uint32))
    if replicate is not None:
        each = jax.vmap(lambda k: jax.random.fold_in(k, replicate))(each)
    high, low = np.asarray(jax.random.key_data(each), np.uint64).T
    found = trial_seeds(root, np.asarray(NUMBERS), replicate)
    assert found.dtype == np.uint64
    np.testing.assert_array_equal(found, (high << np.uint64(32)) | low)


def test_traced_keys_and_other_generators_are_folded_by_jax() -> None:
    for root in (keys.root_key(4), jax.random.key(4, impl="rbg"), jax.random.PRNGKey(4)):
        expected = words(jax.random.fold_in(jax.random.fold_in(root, np.uint32(2**32 - 1)), np.uint32(9)))
        assert words(keys.strategy_key(root, 9)) == expected
        assert words(jax.jit(lambda g, root=root: keys.strategy_key(root, g))(jnp.uint32(9))) == expected
        assert words(jax.jit(keys.strategy_key, static_argnums=1)(root, 9)) == expected


def test_keys_on_the_host_compile_nothing() -> None:
    with counting() as compilations:
        root = keys.root_key(2**20 + 1)
        keys.strategy_key(keys.init_key(root), 3)
        trial_seeds(root, np.arange(1, 8))
    assert compilations.total == 0, compilations.names
