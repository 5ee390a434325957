"""Random keys: every key of a search is derived from its root key and a counter, so any member can be repeated."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jhpo.errors import check_integer, invalid

SEEDS = 2**32  # seeds are in [0, SEEDS)
# Trial ids count up from 0; the strategy uses two ids that no trial reaches.
_STRATEGY = 0xFFFFFFFF
_INIT = 0xFFFFFFFE


def root_key(seed: int) -> jax.Array:
    """The root key of a search, ``key[]``; it does not depend on JAX's default PRNG implementation.

    Args:
        seed: an integer in [0, 2^32).

    Raises:
        InvalidArgument: the seed is not such an integer.

    >>> root_key(-1)
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: seed: expected an integer in [0, 4294967295], got -1
    """
    return jax.random.key(check_integer("seed", seed, 0, SEEDS - 1), impl="threefry2x32")


def check_key(key: object) -> jax.Array:
    """A user's root key after checking it: a single key from `jax.random.key` or `jax.random.PRNGKey`.

    Raises:
        InvalidArgument: not such a key.
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    typed = dtype is not None and jnp.issubdtype(dtype, jax.dtypes.prng_key)
    if not ((typed and shape == ()) or (dtype == jnp.uint32 and shape in ((2,), (4,)))):
        raise invalid("key", "a key as jax.random.key(0) makes it", key)
    return cast(jax.Array, key)


def trial_key(root: jax.Array, trial_id: jax.Array | int) -> jax.Array:
    """The key of one trial, ``fold_in(root, trial_id)``.

    >>> import jax
    >>> a, b = trial_key(jax.random.key(0), 3), jax.random.fold_in(jax.random.key(0), 3)
    >>> bool((jax.random.key_data(a) == jax.random.key_data(b)).all())
    True
    """
    return jax.random.fold_in(root, jnp.asarray(trial_id, jnp.uint32))


def trial_keys(root: jax.Array, trial_ids: jax.Array) -> jax.Array:
    """Keys ``key[n]`` of trials with ids ``uint32[n]``."""
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.asarray(trial_ids, jnp.uint32))


def strategy_key(root: jax.Array, generation: jax.Array | int) -> jax.Array:
    """The key for the strategy's `ask` of a generation."""
    return jax.random.fold_in(jax.random.fold_in(root, jnp.uint32(_STRATEGY)), jnp.asarray(generation, jnp.uint32))


def init_key(root: jax.Array) -> jax.Array:
    """The key for the strategy's `init`."""
    return jax.random.fold_in(root, jnp.uint32(_INIT))


def key_of_data(data: ArrayLike, like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """The key with the given data and the PRNG implementation of another key.

    Args:
        data: ``uint32[..., words]``.
        like: a key, or its abstract value from `jax.eval_shape`.
    """
    impl: Any = None

    def look(key: jax.Array) -> jax.Array:
        nonlocal impl
        impl = jax.random.key_impl(key)
        return key

    jax.eval_shape(look, like)
    return jax.random.wrap_key_data(jnp.asarray(data), impl=impl)
