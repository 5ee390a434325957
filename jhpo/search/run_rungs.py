"""Searches that pause members as a pure function: survivors are gathered at sizes that are known beforehand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jhpo.evaluation.described import NO_STATIC
from jhpo.evaluation.paused import begin_units, continue_units, take_states
from jhpo.keys import init_key, strategy_key, trial_keys
from jhpo.search.keep import Keep
from jhpo.search.starts import with_given
from jhpo.search.trace import Trace, kept
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Rung, State, Strategy
from jhpo.training.trainable import Trainable


def run_rungs(
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
) -> tuple[Any, tuple[Trace, ...]]:
    """The search of `jhpo.run`: generations go through the rungs, over and over.

    Args:
      strategy: one that pauses members, prepared.
      trainable: one that can be paused.
      space: without static parameters.
      key: root key.
      given: ``float[k, d]``, the first members, NaN where the strategy chooses; or None.
      rungs: of the strategy.
      generations: how many.
      replicates: trainings a member.
      keep: what the traces hold.

    Returns:
      The strategy's last state, and for each rung the trace of its generations.
    """
    cycle = sum(rung.size for rung in rungs if not rung.start)

    def through(state: State, c: jax.Array, some: tuple[Rung, ...]) -> tuple[Any, tuple[Trace, ...]]:
        """Some generations from the first rung on, in the given round."""
        made, states, ids = [], None, jnp.zeros(0, jnp.uint32)
        begun = c * jnp.uint32(cycle)
        for number, rung in enumerate(some):
            units, state = strategy.ask(state, strategy_key(key, c * jnp.uint32(len(rungs)) + jnp.uint32(number)))
            if rung.start:
                parents = strategy.parents(state)[: rung.size]
                there, rows = parents >= 0, jnp.maximum(parents, 0)
                states, ids = take_states(states, rows, replicates), ids[rows]
            else:
                if given is not None and not number:
                    units = with_given(units, given, c == 0)
                there = jnp.ones(rung.size, jnp.bool_)
                ids = begun + jnp.arange(rung.size, dtype=jnp.uint32)
                begun = begun + jnp.uint32(rung.size)
                keys = trial_keys(key, ids)
                states = begin_units(trainable, space, units[: rung.size], keys, replicates, NO_STATIC)
            members = units[: rung.size]
            states, result = continue_units(
                trainable, space, members, states, rung.start, rung.stop, replicates, metric=None, static=NO_STATIC
            )
            result = result._replace(value=jnp.where(there, result.value, jnp.nan))
            state = strategy.tell(state, units, _padded(result, there, units.shape[0]))
            made.append(kept(keep, members, result, ids))
        return state, tuple(made)

    state = strategy.init(space, init_key(key))
    rounds, rest = divmod(generations, len(rungs))
    numbers = jnp.arange(rounds, dtype=jnp.uint32)
    state, traces = jax.lax.scan(lambda state, c: through(state, c, rungs), state, numbers)
    if rest:
        state, more = through(state, jnp.uint32(rounds), rungs[:rest])
        traces = tuple(
            jax.tree.map(lambda x, y: jnp.concatenate([x, y[None]]), trace, more[k]) if k < rest else trace
            for k, trace in enumerate(traces)
        )
    return state, traces


def _padded(result: Evaluation, there: jax.Array, n: int) -> Evaluation:
    """The results of the whole population, of which these are the first rows."""

    def pad(x: Any, blank: Any = jnp.nan) -> Any:
        return None if x is None else jnp.pad(x, [(0, n - len(x))] + [(0, 0)] * (x.ndim - 1), constant_values=blank)

    return Evaluation(pad(result.value), constraint=pad(result.constraint), mask=pad(there, False))
