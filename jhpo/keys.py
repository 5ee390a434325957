"""Random streams: every key of a study follows from its root key and a counter, so any member can be repeated."""

from __future__ import annotations

import jax
import jax.numpy as jnp

# Trial ids count up from 0; the strategy draws from two ids no trial can reach.
_STRATEGY = 0xFFFFFFFF
_INIT = 0xFFFFFFFE


def trial_key(root: jax.Array, trial_id: jax.Array | int) -> jax.Array:
    """Key of one trial: ``fold_in(root, trial_id)``.

    >>> import jax
    >>> a, b = trial_key(jax.random.key(0), 3), jax.random.fold_in(jax.random.key(0), 3)
    >>> bool((jax.random.key_data(a) == jax.random.key_data(b)).all())
    True
    """
    return jax.random.fold_in(root, jnp.asarray(trial_id, jnp.uint32))


def trial_keys(root: jax.Array, trial_ids: jax.Array) -> jax.Array:
    """Keys of many trials: ``uint32[n]`` ids to ``key[n]``."""
    return jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.asarray(trial_ids, jnp.uint32))


def strategy_key(root: jax.Array, generation: jax.Array | int) -> jax.Array:
    """Key with which the strategy asks for ``generation``."""
    return jax.random.fold_in(jax.random.fold_in(root, jnp.uint32(_STRATEGY)), jnp.asarray(generation, jnp.uint32))


def init_key(root: jax.Array) -> jax.Array:
    """Key with which the strategy makes its first state."""
    return jax.random.fold_in(root, jnp.uint32(_INIT))
