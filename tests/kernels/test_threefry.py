"""Keys and bits in programs are those of `jax.random`, whatever the generator and its settings."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels import threefry

PAIRS: dict[str, tuple[Callable[[jax.Array], jax.Array], Callable[[jax.Array], jax.Array]]] = {
    "fold_in": (lambda k: threefry.fold_in(k, 2**32 - 5), lambda k: jax.random.fold_in(k, np.uint32(2**32 - 5))),
    "split": (threefry.split, jax.random.split),
    "split in 41": (lambda k: threefry.split(k, 41), lambda k: jax.random.split(k, 41)),
    "bits": (lambda k: threefry.bits(k, (3, 5)), lambda k: jax.random.bits(k, (3, 5), jnp.uint32)),
    "one word": (lambda k: threefry.bits(k, ()), lambda k: jax.random.bits(k, (), jnp.uint32)),
}


def plain(x: jax.Array) -> np.ndarray:
    return np.asarray(x if x.dtype == jnp.uint32 else jax.random.key_data(x))


@pytest.mark.quick
@pytest.mark.parametrize("name", PAIRS)
def test_what_a_program_draws_is_what_jax_draws(name: str) -> None:
    ours, theirs = PAIRS[name]
    for seed in (0, 2**31 + 17):
        key = jax.random.key(seed, impl="threefry2x32")
        np.testing.assert_array_equal(plain(jax.jit(ours)(key)), plain(theirs(key)))
        np.testing.assert_array_equal(plain(ours(key)), plain(theirs(key)))
    keys = jax.random.split(key, 7)
    np.testing.assert_array_equal(plain(jax.jit(jax.vmap(ours))(keys)), plain(jax.vmap(theirs)(keys)))


@pytest.mark.parametrize("name", PAIRS)
def test_other_generators_and_settings_are_those_of_jax(name: str) -> None:
    ours, theirs = PAIRS[name]
    for key in (jax.random.key(3, impl="rbg"), jax.random.PRNGKey(3)):
        np.testing.assert_array_equal(plain(jax.jit(ours)(key)), plain(jax.jit(theirs)(key)))
    with jax.threefry_partitionable(False):
        key = jax.random.key(3, impl="threefry2x32")
        np.testing.assert_array_equal(plain(jax.jit(ours)(key)), plain(jax.jit(theirs)(key)))


def test_a_program_of_keys_has_no_loop() -> None:
    key = jax.random.key(0, impl="threefry2x32")
    for ours, theirs in PAIRS.values():
        compiled = jax.jit(ours).lower(key).compile().as_text()
        assert compiled is not None
        assert " while(" not in compiled
        if jax.default_backend() == "cpu":  # or there is no need of ours
            assert " while(" in str(jax.jit(theirs).lower(key).compile().as_text())
