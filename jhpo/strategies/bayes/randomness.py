"""All random numbers of one ask, from a single draw of JAX's generator: each draw is a loop of its own."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jhpo.kernels.counter_random import more_seeds


class Randomness(NamedTuple):
    """Independent streams of `jhpo.kernels.counter_random`, and a key for what draws in another way."""

    key: jax.Array  # of spaces with priors or constraints, and of functions drawn from a posterior
    design: jax.Array  # uint32[2], as all others; of the order of a small space's points
    lot: jax.Array  # of the even points among the model's
    search: jax.Array  # of the candidates
    rows: jax.Array  # of those that a fit is made of
    worlds: jax.Array  # of what pending points may be worth


def randomness(key: jax.Array) -> Randomness:
    """Of the key of an ask.

    >>> [stream.shape for stream in randomness(jax.random.key(0))[1:]]
    [(2,), (2,), (2,), (2,), (2,)]
    """
    return Randomness(key, *more_seeds(key, len(Randomness._fields) - 1))
