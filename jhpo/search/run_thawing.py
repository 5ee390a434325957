"""Searches that freeze and thaw members as a pure function: the pool of their states is carried through the loop."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jhpo.evaluation.thawing import Rows, empty_pool, thaw_units
from jhpo.keys import init_key, strategy_key
from jhpo.search.keep import Keep
from jhpo.search.starts import with_given
from jhpo.search.trace import Trace, kept
from jhpo.space.space import Space
from jhpo.training.trainable import Trainable, max_steps


def run_thawing(
    strategy: Any,
    trainable: Trainable,
    space: Space,
    key: jax.Array,
    given: jax.Array | None,
    *,
    generations: int,
    replicates: int,
    keep: Keep,
) -> tuple[Any, Trace]:
    """The search of `jhpo.run`; ``ids`` of the trace says which member a row trained, 2^32 - 1 where it was empty.

    Args:
      strategy: one that thaws members, prepared.
      trainable: one that can be paused.
      space: without static parameters.
      key: root key.
      given: ``float[k, d]``, the first members, NaN where the strategy chooses; or None.
      generations: how many.
      replicates: trainings a member.
      keep: what the trace holds.
    """
    state, length = strategy.init(space, init_key(key)), max_steps(trainable)
    blank = jnp.full((strategy.population, space.dim), 0.5, jnp.result_type(float))
    pool = empty_pool(trainable, space, blank, key, strategy.capacity, replicates)

    def one(carry: Any, g: jax.Array) -> tuple[Any, Trace]:
        state, pool = carry
        units, state = strategy.ask(state, strategy_key(key, g))
        if given is not None:
            units = with_given(units, given, g == 0)
        members, start = strategy.members(state), strategy.trained(state) * strategy.interval
        there = members >= 0
        stop = jnp.where(there, jnp.minimum(start + strategy.interval, length), start)
        pool, result = thaw_units(trainable, space, pool, Rows(units, members, start, stop), key, replicates, None)
        state = strategy.tell(state, units, result._replace(mask=there, variance=None))
        return (state, pool), kept(keep, units, result, members.astype(jnp.uint32))

    (state, _), trace = jax.lax.scan(one, (state, pool), jnp.arange(generations, dtype=jnp.uint32))
    return state, trace
