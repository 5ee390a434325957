"""Random keys: every key of a search is derived from its root key and a counter, so any member can be repeated."""

from __future__ import annotations

import functools
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jhpo.errors import check_integer, invalid
from jhpo.kernels import threefry
from jhpo.kernels.internals import is_traced
from jhpo.kernels.threefry import is_key as is_key
from jhpo.process.switches import with_transfers

SEEDS = 2**32  # seeds are in [0, SEEDS)
# Trial ids count up from 0; the strategy uses two ids that no trial reaches.
_STRATEGY = 0xFFFFFFFF
_INIT = 0xFFFFFFFE
_WORD = 0xFFFFFFFF


@with_transfers
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
    # what `jax.random.key` makes of a seed of 32 bits, without two programs for it
    return key_of_words(jax.device_put(np.array([0, check_integer("seed", seed, 0, SEEDS - 1)], np.uint32)))


def check_key(key: object, name: str = "key") -> jax.Array:
    """A user's key after checking it: a single key from `jax.random.key` or `jax.random.PRNGKey`.

    Raises:
        InvalidArgument: not such a key, but an integer for example.
    """
    dtype, shape = getattr(key, "dtype", None), getattr(key, "shape", None)
    if not ((is_key(key) and shape == ()) or (dtype == jnp.uint32 and shape in ((2,), (4,)))):
        raise invalid(name, "a key as jax.random.key(0) makes it", key)
    return cast(jax.Array, key)


def typed_key(key: object) -> jax.Array:
    """`check_key`, with a key of `jax.random.PRNGKey` as one of `jax.random.key`.

    >>> typed_key(jax.random.PRNGKey(0)) == jax.random.key(0)
    Array(True, dtype=bool)
    """
    key = check_key(key)
    return key if is_key(key) else jax.random.wrap_key_data(key)


def trial_key(root: jax.Array, trial_id: jax.Array | int) -> jax.Array:
    """The key of one trial, ``fold_in(root, trial_id)``.

    >>> import jax
    >>> a, b = trial_key(jax.random.key(0), 3), jax.random.fold_in(jax.random.key(0), 3)
    >>> bool((jax.random.key_data(a) == jax.random.key_data(b)).all())
    True
    """
    return _fold_in(root, trial_id)


def trial_keys(root: jax.Array, trial_ids: jax.Array) -> jax.Array:
    """Keys ``key[n]`` of trials with ids ``uint32[n]``."""
    return jax.vmap(lambda i: threefry.fold_in(root, i))(jnp.asarray(trial_ids, jnp.uint32))


def strategy_key(root: jax.Array, generation: jax.Array | int) -> jax.Array:
    """The key for the strategy's `ask` of a generation."""
    return _fold_in(root, _STRATEGY, generation)


def strategy_keys(root: jax.Array, generations: jax.Array) -> jax.Array:
    """The `strategy_key` of each of several generations ``uint32[n]``, all at once: ``key[n]``.

    >>> root = jax.random.key(0)
    >>> bool(strategy_keys(root, jnp.arange(3, dtype=jnp.uint32))[2] == strategy_key(root, 2))
    True
    """
    fold = functools.partial(threefry.fold_in, _fold_in(root, _STRATEGY))
    # other generators than JAX's usual one need not give the same under vmap
    return jax.vmap(fold)(generations) if threefry.usual(root) else jax.lax.map(fold, generations)


def init_key(root: jax.Array) -> jax.Array:
    """The key for the strategy's `init`."""
    return _fold_in(root, _INIT)


def strategy_words(root: jax.Array, generation: int | None, words: tuple[int, int] | None = None) -> Any:
    """What a program is given in place of `strategy_key`, or of `init_key` for None, and takes by `key_of_words`.

    Args:
        root: a key.
        generation: its number, or None.
        words: of the root, if they are known.

    Returns:
        NumPy's uint32[2], so that nothing is sent to a device for it; the key itself where its generator is not JAX's
        usual one.
    """
    words = words_of(root) if words is None else words
    if words is not None:
        found = fold_words(words, _INIT) if generation is None else fold_words(words, _STRATEGY, generation)
        return np.array(found, np.uint32)
    key = init_key(root) if generation is None else strategy_key(root, generation)
    return key if is_key(key) else jax.random.wrap_key_data(key)


def key_of_words(words: jax.Array) -> jax.Array:
    """The key that `strategy_words` stands for; a key stays what it is."""
    return jax.random.wrap_key_data(words, impl=threefry.IMPL) if words.dtype == jnp.uint32 else words


def folded_words(root: jax.Array, *data: Any) -> tuple[Any, Any] | None:
    """The words of ``root`` with some numbers folded in one after the other, on the host: nothing compiles.

    Args:
        root: a key.
        data: each an integer below 2^32, or uint64[n] of them.

    Returns:
        Two such integers or arrays, the data of what `jax.random.fold_in` gives; None where the key is traced, or its
        generator not JAX's usual one.
    """
    words = words_of(root)
    return None if words is None else fold_words(words, *data)


@with_transfers
def words_of(root: jax.Array) -> tuple[int, int] | None:
    """The words of a key, for `fold_words`; None where it is traced, or its generator not JAX's usual one."""
    if is_traced(root) or not threefry.usual(root):
        return None
    known = jax.random.key_data(root)
    if is_traced(known):  # while a program is traced, all becomes a part of it
        return None
    high, low = np.asarray(known).tolist()
    return high, low


def fold_words(words: tuple[Any, Any], *data: Any) -> tuple[Any, Any]:
    """`folded_words` of a key whose words are known: asking JAX for them takes longer than all the rest."""
    for number in data:
        words = threefry.rounds(words, (0, number), lambda word: word & _WORD)
    return words


@with_transfers
def _fold_in(key: jax.Array, *data: Any) -> jax.Array:
    """`jax.random.fold_in` of one number after the other, without a program where all is known."""
    if not any(is_traced(number) or np.ndim(number) for number in data):
        words = folded_words(key, *(int(number) for number in data))
        if words is not None:
            return key_of_words(jax.device_put(np.array(words, np.uint32)))
    for number in data:
        key = threefry.fold_in(key, jnp.asarray(number, jnp.uint32))
    return key


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


def zero_keys(shape: tuple[int, ...], like: jax.Array | jax.ShapeDtypeStruct) -> jax.Array:
    """Keys ``key[*shape]`` whose data are zeros, with the PRNG implementation of another key."""
    data = jax.eval_shape(jax.random.key_data, like)
    return key_of_data(jnp.zeros((*shape, *data.shape[len(like.shape) :]), data.dtype), like)
