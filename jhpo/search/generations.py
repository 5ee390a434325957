"""Generations in one program: a loop of ask, evaluate and tell, and the rows it returns to the host."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.evaluation.members import evaluate_units
from jhpo.kernels.loops import apart
from jhpo.keys import init_key, strategy_key, trial_keys
from jhpo.programs.compilation import programs
from jhpo.search.keep import Keep
from jhpo.search.turns import turn
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Floats, Ids, Request, State, Strategy, lowest_feasible
from jhpo.training.trainable import Trainable, Wanted


class Told(NamedTuple):
    """What the strategy is told next: the last generation and its results."""

    units: Floats  # float[n, d]
    result: Evaluation  # to be minimised, NaN where a member failed or does not count


class Made(NamedTuple):
    """Evaluated rows, r of each of g generations, in the user's own sign."""

    units: Floats  # float[g, r, d], None where values alone are kept
    result: Evaluation  # float[g, r, ...]
    rows: Ids  # int32[g, r], index within the generation
    streams: Ids  # uint32[g, r], ids from which the evaluation keys were made


def evaluation(
    trainable: Trainable,
    space: Space,
    request: Request,
    replicates: int,
    metric: Wanted,
    *,
    inside: bool = False,
    points: bool = True,
) -> Callable[[Floats, Ids, jax.Array], tuple[Any, Evaluation]]:
    """The function of units, ids and the root key that evaluates a generation.

    It is compiled to the same instructions in every program, and its results are computed once: those of an objective
    without sums or loops would be computed again, with the points that they belong to, wherever they are read.

    Args:
      trainable, space, request, replicates, metric, inside: see `evaluate_units`.
      points: return the units too, so that they are the same numbers wherever they are read; otherwise None.
    """

    @apart
    def evaluate(_: None, units: jax.Array, ids: jax.Array, root: jax.Array) -> tuple[Any, Evaluation]:
        keys = trial_keys(root, ids)  # made here, or they would be made where nobody reads them
        result = evaluate_units(trainable, space, units, keys, request, replicates, metric=metric, inside=inside)
        return units if points else None, result

    return functools.partial(evaluate, None)


@programs("request", "replicates", "metric", most=12)
def alone_program(
    trainable: Trainable,
    space: Space,
    units: jax.Array,
    ids: jax.Array,
    root: jax.Array,
    *,
    request: Request,
    replicates: int,
    metric: Wanted,
) -> Evaluation:
    """One generation without the strategy."""
    return evaluation(trainable, space, request, replicates, metric)(units, ids, root)[1]


@programs("rows", "most", "request", "replicates", "metric", "masked", "keep", most=12)
def block_program(
    strategy: Strategy,
    bound: Any,
    trainable: Trainable,
    space: Space,
    state: State,
    told: Told,
    first: jax.Array,
    root: jax.Array,
    generation: jax.Array,
    trial: jax.Array,
    count: jax.Array,
    room: jax.Array,
    sign: jax.Array,
    target: jax.Array,
    *,
    rows: int,
    most: int,
    request: Request,
    replicates: int,
    metric: Wanted,
    masked: bool,
    keep: Keep,
) -> tuple[jax.Array, Any, Told, Any]:
    """Run up to ``count`` generations.

    Returns:
        Their number, the strategy's state after them, what it is told next, and their rows (zeros beyond them).
    """
    place = jnp.arange(rows, dtype=jnp.int32)
    evaluate = evaluation(trainable, space, request, replicates, metric)

    begin = init_key(root)

    def one(done: jax.Array, state: State, told: Told) -> tuple[Any, Told, tuple[Made | None, Made, jax.Array]]:
        number = generation + done.astype(jnp.uint32)
        key = strategy_key(root, number)
        units, state = turn(strategy, bound, state, told.units, told.result, first & (done == 0), begin, key)
        ids = trial + done.astype(jnp.uint32) * rows + place.astype(jnp.uint32)
        streams = strategy.evaluation_ids(state, ids)
        units, result = evaluate(units, streams, root)
        counts = place < room - done * rows  # the budget may end within a generation
        seen = minimised_result(result, sign, counts)
        row, lowest = lowest_feasible(seen)
        made = Made(units, result, place, jnp.asarray(streams, jnp.uint32))
        leader = jax.tree.map(lambda x: x[row[None]], made)
        kept = {"all": made, "values": made._replace(units=None), "best": None}[keep]
        seen = seen._replace(mask=jnp.ones(rows, jnp.bool_)) if masked else seen
        return state, Told(units, seen), (kept, leader, lowest)

    def goes_on(carry: Any) -> jax.Array:
        done, _, _, _, best = carry
        return (done < count) & ~(best <= target.astype(best.dtype))

    def body(carry: Any) -> Any:
        done, state, told, out, best = carry
        state, told, new = one(done, state, told)
        out = jax.tree.map(lambda all, x: all.at[done].set(x), out, new)
        return done + 1, state, told, out, jnp.minimum(best, new[2])

    shapes = jax.eval_shape(one, jnp.int32(0), state, told)[2]
    out = jax.tree.map(lambda x: jnp.zeros((most, *x.shape), x.dtype), shapes)
    best = jnp.full((), jnp.inf, shapes[2].dtype)
    done, state, told, out, _ = jax.lax.while_loop(goes_on, body, (jnp.int32(0), state, told, out, best))
    return done, state, told, out


def minimised_result(result: Evaluation, sign: Any, counts: Floats, xp: ModuleType = jnp) -> Evaluation:
    """The result as a strategy sees it: to be minimised, NaN where a member failed or does not count.

    Args:
        result: in the user's own sign.
        sign: 1.0 to minimise, -1.0 to maximise; ``float[m]`` with several objectives.
        counts: ``bool[n]``.
        xp: NumPy on the host.
    """
    signs = xp.asarray(sign)
    first = signs.reshape(-1)[0]

    def seen(x: Any, there: Any, sign: Any = None) -> Any:
        if x is None:
            return None
        x = xp.asarray(x)
        there = xp.asarray(there).reshape(-1, *[1] * (x.ndim - 1))
        turned = x if sign is None else sign.astype(x.dtype).reshape((1,) * (x.ndim - sign.ndim) + sign.shape) * x
        return xp.where(there, turned, xp.asarray(xp.nan, x.dtype))

    return result._replace(
        stages=None,
        value=seen(result.value, xp.isfinite(result.value) & counts, first),
        values=seen(result.values, counts, signs),
        grad=seen(result.grad, counts, first),
        constraint=seen(result.constraint, counts),
        variance=seen(result.variance, counts),
    )
