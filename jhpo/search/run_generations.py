"""Searches of strategies that ask for every point once, as a pure function: a scan for each of their phases."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jhpo.evaluation.described import describe
from jhpo.keys import init_key, strategy_keys
from jhpo.objectives import Objectives
from jhpo.search.generations import evaluation, minimised_result
from jhpo.search.keep import Keep
from jhpo.search.starts import absorbed, completed
from jhpo.search.trace import Trace, kept
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request, State, Strategy
from jhpo.training.trainable import Trainable


def run_generations(
    strategy: Strategy,
    trainable: Trainable,
    space: Space,
    key: jax.Array,
    given: jax.Array | None,
    *,
    generations: int,
    replicates: int,
    keep: Keep,
    objectives: Objectives | None,
    gaps: tuple[int, ...],
) -> tuple[Any, Trace | tuple[Trace, ...]]:
    """The search of `jhpo.run`.

    Args:
      strategy: one that does not continue members.
      trainable: what is evaluated.
      space: without static parameters.
      key: root key.
      given: ``float[k, d]``, evaluated first, NaN where the strategy chooses; or None.
      generations: how many.
      replicates: trainings a member.
      keep: what the traces hold.
      objectives: several; None for one.
      gaps: rows of `given` in which something is missing.

    Returns:
      The strategy's last state, and the trace of all generations, or one for each phase.
    """

    def evaluate(units: jax.Array, ids: jax.Array, request: Request, inside: bool = False) -> Evaluation:
        made = evaluation(trainable, space, request, replicates, objectives, inside=inside, points=False)
        return made(units, ids, key)[1]

    def minimised(result: Evaluation) -> Evaluation:
        if objectives is None:
            return result
        return minimised_result(result, objectives.signs, jnp.ones(result.value.shape, bool))

    if strategy.measuring(1) is not strategy:  # it learns constraints, whose number is known without an evaluation
        strategy = strategy.measuring(describe(trainable, space, objectives).constraints)
    segments = strategy.segments(generations)
    # buffers are sized by the points of a phase, for which this is an upper bound
    strategy = strategy.prepare(generations * strategy.population + (0 if given is None else given.shape[0]))
    state = strategy.init(space, init_key(key))
    traces: list[Trace] = []
    asked = evaluated = 0
    if given is not None:
        evaluated = given.shape[0]
        request = strategy.request(state)
        units = completed(strategy, state, given, key, gaps)
        result = evaluate(units, jnp.arange(evaluated, dtype=jnp.uint32), request._replace(horizon=1.0))
        alone = kept(keep, units, result)
        traces.append(jax.tree.map(lambda x: x[None], alone))
        if request.horizon == 1.0:
            state = absorbed(strategy, state, units, minimised(result))
    for number, length in enumerate(segments):
        state = strategy.advance(state) if number else state
        if length < 1:
            continue
        request = strategy.request(state)
        rows = jax.eval_shape(strategy.ask, state, key)[0].shape[0]

        offset = evaluated - asked * rows  # trial ids continue those of the last phase

        def generation(
            state: State,
            one: tuple[jax.Array, jax.Array],
            rows: int = rows,
            request: Request = request,
            offset: int = offset,
        ) -> tuple[Any, Trace]:
            g, own = one
            units, state = strategy.ask(state, own)
            first = (g.astype(jnp.int32) * rows + offset).astype(jnp.uint32)
            ids = first + jnp.arange(rows, dtype=jnp.uint32)
            result = evaluate(units, strategy.evaluation_ids(state, ids), request, strategy.inside)
            state = strategy.tell(state, units, minimised(result))
            return state, kept(keep, units, result)

        numbers = jnp.arange(asked, asked + length, dtype=jnp.uint32)
        # made within the loop, keys take a tenth of the time of forty particles
        state, trace = jax.lax.scan(generation, state, (numbers, strategy_keys(key, numbers)))
        traces.append(trace)
        asked, evaluated = asked + length, evaluated + length * rows
    return state, traces[0] if len(traces) == 1 else tuple(traces)
