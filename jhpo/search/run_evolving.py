"""Populations whose members take over from one another as a pure function: one scan over their generations."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.evaluation.described import NO_STATIC
from jhpo.evaluation.paused import begin_units, continue_units, take_states
from jhpo.keys import init_key, strategy_key, trial_keys
from jhpo.search.keep import Keep
from jhpo.search.starts import with_given
from jhpo.search.trace import Trace, kept
from jhpo.search.turns import blank
from jhpo.space.space import Space
from jhpo.strategies.base import Rung, Strategy
from jhpo.training.trainable import Trainable


def run_evolving(
    strategy: Strategy,
    trainable: Trainable,
    space: Space,
    key: jax.Array,
    given: jax.Array | None,
    *,
    rungs: tuple[Rung, ...],
    generations: int,
    replicates: int,
    keep: Keep,
) -> tuple[Any, Trace]:
    """The search of `jhpo.run`; see `run_rungs`. All generations share one body, so that many compile as fast as few.

    Returns:
      The strategy's last state, and the trace of all generations.
    """
    n = rungs[0].size
    starts, stops = (jnp.asarray(np.array(steps, np.int32)) for steps in zip(*((r.start, r.stop) for r in rungs)))
    rows = jnp.arange(n, dtype=jnp.int32)

    def ids_of(g: jax.Array) -> jax.Array:
        return (g // jnp.uint32(len(rungs))) * jnp.uint32(n) + rows.astype(jnp.uint32)

    def begin(units: jax.Array, g: jax.Array) -> Any:
        return begin_units(trainable, space, units, trial_keys(key, ids_of(g)), replicates, NO_STATIC)

    def generation(carry: Any, g: jax.Array) -> tuple[Any, Trace]:
        state, states = carry
        units, state = strategy.ask(state, strategy_key(key, g))
        if given is not None:
            units = with_given(units, given, g == 0)
        at = g % jnp.uint32(len(rungs))
        parents = jnp.where(starts[at] == 0, rows, strategy.parents(state))
        there = parents >= 0
        states = jax.lax.cond(
            starts[at] == 0,
            lambda states: begin(units, g),
            lambda states: take_states(states, jnp.maximum(parents, 0), replicates),
            states,
        )
        # members that have all failed are not trained on
        stop = jnp.where(there.any(), stops[at], starts[at])
        states, result = continue_units(
            trainable, space, units, states, starts[at], stop, replicates, metric=None, static=NO_STATIC
        )
        result = result._replace(value=jnp.where(there, result.value, jnp.nan))
        state = strategy.tell(state, units, result._replace(mask=there, variance=None))
        return (state, states), kept(keep, units, result, ids_of(g), parents)

    state = strategy.init(space, init_key(key))
    units = jax.ShapeDtypeStruct((n, space.dim), jax.eval_shape(strategy.ask, state, key)[0].dtype)
    states = blank(jax.eval_shape(begin, units, jnp.uint32(0)))
    (state, _), trace = jax.lax.scan(generation, (state, states), jnp.arange(generations, dtype=jnp.uint32))
    return state, trace
