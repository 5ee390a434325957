"""The history of a Bayesian optimisation: padded buffers that are written out of order, and the trust region."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import invalid
from jhpo.kernels import pareto
from jhpo.kernels.cells import distinct
from jhpo.kernels.order import repeated
from jhpo.strategies.base import Evaluation
from jhpo.strategies.bayes.ground import Ground

# status of a row
EMPTY, PENDING, OBSERVED, FAILED = 0, 1, 2, 3
# Rows of the smallest buffer.
SMALLEST = 32

# TuRBO's side lengths (Eriksson et al. 2019, appendix), and the share by which a success improves.
_FIRST_LENGTH, _LONGEST = 0.8, 1.6
_IMPROVEMENT = 1e-3


class Rules(NamedTuple):
    """When the trust region changes, as in TuRBO.

    Eriksson et al. 2019, "Scalable global optimization via local Bayesian optimization", sec. 3.
    """

    successes: int  # evaluations in a row that improve and double its side
    failures: int | jax.Array  # evaluations in a row that do not and halve it
    shortest: float  # a shorter side ends the region
    anew: bool  # a new region then starts without earlier results; otherwise it opens to the whole space


class History(NamedTuple):
    """Rows of the history in the order of asking (or a selection of them); N is a power of two."""

    units: jax.Array  # float[N, d], canonical
    value: jax.Array  # float[N], 0 unless OBSERVED; with several objectives the number of the row's front
    variance: jax.Array  # float[N], of value, known from replicates; 0 where unknown; float[N, m] of values
    constraint: jax.Array  # float[N, c], measured constraints, feasible where >= 0; NaN where unknown
    grad: jax.Array  # float[N, d], of value by the unit coordinates, NaN where unknown; [N, 0] in a search without
    feasible: jax.Array  # bool[N], no constraint is known to be violated
    status: jax.Array  # int32[N]
    epoch: jax.Array  # int32[N], the trust region the row was asked in
    order: jax.Array  # int32[N], how many points came before
    values: jax.Array | None = None  # float[N, m], of several objectives, 0 unless OBSERVED


class Region(NamedTuple):
    """The trust region: it moves with the best point, grows with success, shrinks with failure, and starts anew."""

    length: jax.Array  # float[], side of the box before it is stretched by the lengthscales
    best: jax.Array  # float[], lowest feasible value in this epoch, inf before there is one
    successes: jax.Array  # int32[], tells in a row that improved
    failures: jax.Array  # int32[], evaluations in a row that did not
    epoch: jax.Array  # int32[], number of regions given up before


def bucket(rows: int) -> int:
    """The smallest buffer for so many rows: 32, 64, 128, ...

    >>> bucket(1), bucket(33), bucket(64)
    (32, 64, 64)
    """
    return max(SMALLEST, 1 << (max(rows, 1) - 1).bit_length())


def blank(rows: int, dim: int, constraints: int, dtype: jnp.dtype, slopes: int = 0, objectives: int = 1) -> History:
    """A buffer in which no row is used; ``slopes`` is the width of the gradients, d or 0."""
    zeros = jnp.zeros((rows,), dtype)
    several = None if objectives == 1 else jnp.zeros((rows, objectives), dtype)
    return History(
        units=jnp.full((rows, dim), 0.5, dtype),
        value=zeros,
        variance=zeros if several is None else several,
        constraint=jnp.full((rows, constraints), jnp.nan, dtype),
        grad=jnp.full((rows, slopes), jnp.nan, dtype),
        feasible=jnp.ones((rows,), bool),
        status=jnp.full((rows,), EMPTY, jnp.int32),
        epoch=jnp.zeros((rows,), jnp.int32),
        order=jnp.zeros((rows,), jnp.int32),
        values=several,
    )


def first_region(dtype: jnp.dtype) -> Region:
    """The region before anything is known."""
    zero = jnp.zeros((), jnp.int32)
    return Region(jnp.asarray(_FIRST_LENGTH, dtype), jnp.asarray(jnp.inf, dtype), zero, zero, zero)


def _dispensable(history: History) -> jax.Array:
    """float[N]: priority of rows to overwrite: empty ones first, then the oldest; the best and pending ones last.

    The worst results are kept, because the search would return to their places at once.
    """
    dtype = history.value.dtype
    best = jnp.min(jnp.where((history.status == OBSERVED) & history.feasible, history.value, jnp.inf))
    kept = (history.status == PENDING) | ((history.status == OBSERVED) & (history.value <= best))
    age = jnp.where(kept, -jnp.inf, -history.order.astype(dtype))
    return jnp.where(history.status == EMPTY, jnp.inf, age)


def reserve(history: History, q: int) -> tuple[History, jax.Array]:
    """Empty ``q`` rows for new points: free ones, or else the oldest results. The history, and int32[q]."""
    first = _dispensable(history)
    # for one a search, which is cheaper to compile than a sort
    rows = jnp.argmax(first)[None].astype(jnp.int32) if q == 1 else jax.lax.top_k(first, q)[1]
    return history._replace(status=history.status.at[rows].set(EMPTY)), rows


def add_pending(
    history: History, rows: jax.Array, units: jax.Array, epoch: jax.Array | int = 0, order: jax.Array | int = 0
) -> History:
    """New points without results: ``rows`` int32[q], ``units`` float[q, d]."""
    return history._replace(
        units=history.units.at[rows].set(units),
        status=history.status.at[rows].set(PENDING),
        epoch=history.epoch.at[rows].set(epoch),
        order=history.order.at[rows].set(order),
    )


def without_pending(history: History) -> tuple[History, jax.Array]:
    """The history without points that have no results, and how many these are, int32[]."""
    gone = history.status == PENDING
    return history._replace(status=jnp.where(gone, EMPTY, history.status)), jnp.sum(gone, dtype=jnp.int32)


class Told(NamedTuple):
    """Results as the history stores them; n rows."""

    units: jax.Array  # float[n, d], canonical
    value: jax.Array  # float[n], 0 where it failed
    variance: jax.Array  # float[n] or float[n, m]
    constraint: jax.Array  # float[n, c]
    grad: jax.Array  # float[n, d] or [n, 0]
    feasible: jax.Array  # bool[n]
    status: jax.Array  # int32[n], OBSERVED or FAILED; EMPTY where there is no result
    values: jax.Array | None = None  # float[n, m]


def told(
    ground: Ground,
    units: jax.Array,
    result: Evaluation,
    constraints: int,
    dtype: jnp.dtype,
    slopes: int = 0,
    objectives: int = 1,
) -> Told:
    """Results as the history stores them. Columns of constraints: the space's, then ``constraints`` measured ones."""
    n = units.shape[0]
    value = jnp.asarray(result.value).astype(dtype)
    good = jnp.isfinite(value)
    values, variance, known = None, jnp.zeros_like(value), good
    if objectives > 1:
        given = jnp.full((n, objectives), jnp.nan) if result.values is None else result.values
        known = good[:, None]
        values = jnp.where(known, jnp.asarray(given).astype(dtype), 0.0)
        variance = jnp.zeros_like(values)
    if result.variance is not None:
        given = jnp.asarray(result.variance).astype(dtype)
        variance = jnp.where(known & jnp.isfinite(given), jnp.maximum(given, 0.0), 0.0)
    measured, feasible = jnp.full((n, constraints), jnp.nan, dtype), jnp.ones((n,), bool)
    if result.constraint is not None and result.constraint.shape[-1]:
        slack = jnp.asarray(result.constraint).astype(dtype)
        # a row of NaN has no constraint values and counts as feasible
        unknown = jnp.isnan(slack).all(axis=1, keepdims=True)
        feasible = ((slack >= 0) | unknown).all(axis=1)
        own = 0 if ground.bounded is None else ground.bounded.num_constraints
        if constraints:
            if slack.shape[1] != own + constraints:
                expected = f"{slack.shape[1] - own}, the number of constraints that the objective measures"
                raise invalid("constraints", expected, constraints)
            measured = slack[:, own:]
    grad = jnp.full((n, slopes), jnp.nan, dtype)
    if slopes and result.grad is not None:
        grad = jnp.where(good[:, None], jnp.asarray(result.grad).astype(dtype), grad)
    status = jnp.where(good, OBSERVED, FAILED).astype(jnp.int32)
    if result.mask is not None:
        status = jnp.where(result.mask, status, EMPTY)
    canonical = ground.canonical(jnp.asarray(units).astype(dtype))
    value = jnp.where(good, value, 0.0) if values is None else jnp.zeros_like(value)
    return Told(canonical, value, variance, measured, grad, feasible, status, values)


def record(
    history: History, used: jax.Array, rows: Told, epoch: jax.Array | int, order: jax.Array | int
) -> tuple[History, jax.Array]:
    """Write results where their points are pending, or into new rows if nobody asked for them.

    Results may come in any order and any number; a full buffer gives up its oldest row.

    Args:
        used: int32[], rows in use (the first ones). epoch, order: of rows that nobody asked for.

    Returns:
        The history and the new ``used``.
    """
    size = history.status.shape[0]

    def one(carry: tuple[History, jax.Array], row: Told) -> tuple[tuple[History, jax.Array], None]:
        h, used = carry
        pending = (h.status == PENDING) & ~distinct(h.units - row.units[None, :]).any(axis=1)
        asked = jnp.any(pending)
        index = jnp.where(asked, jnp.argmax(pending), jnp.argmax(_dispensable(h)))
        index = jnp.where(row.status == EMPTY, size, index)  # out of bounds: dropped
        where = index % size
        own = {"epoch": jnp.where(asked, h.epoch[where], epoch), "order": jnp.where(asked, h.order[where], order)}
        new = History(**row._asdict(), **own)
        h = jax.tree.map(lambda column, entry: column.at[index].set(entry, mode="drop"), h, new)
        fresh = (row.status != EMPTY) & ~asked & (used < size)
        return (h, used + fresh.astype(jnp.int32)), None

    (history, used), _ = jax.lax.scan(one, (history, used), rows)
    return ranked(history), used


def flatness(history: History) -> jax.Array:
    """float[]: the share of points to take from the space-filling design, because the objective looks flat.

    Three times the share of results that tie for the best value, the first one not counted: there the model has no
    direction. 1 while all results are equal, or there are none. With several objectives those on the front tie that
    have equal values.
    """
    dtype = history.value.dtype
    observed = history.status == OBSERVED
    seen = observed & history.feasible
    every = jnp.sum(told_rows(history), dtype=dtype)
    if history.values is not None:
        copies = repeated(history.values, seen)
        alone = (seen == observed).all() & (jnp.sum(seen & ~copies, dtype=jnp.int32) <= 1)
        others = jnp.sum(copies & (history.value == 0), dtype=dtype)
        return jnp.where(alone, 1.0, 3.0 * others / jnp.maximum(every, 1.0))
    best = jnp.min(jnp.where(seen, history.value, jnp.inf))
    tied = seen & (history.value - best <= 8 * float(jnp.finfo(dtype).eps) * jnp.abs(best))
    others = jnp.sum(tied, dtype=dtype) - 1.0
    return jnp.where((tied == observed).all(), 1.0, 3.0 * others / jnp.maximum(every, 1.0))


def told_rows(history: History) -> jax.Array:
    """bool[N]: the rows with a result, a failure or not."""
    return (history.status == OBSERVED) | (history.status == FAILED)


def ranked(history: History) -> History:
    """The history of several objectives with the fronts of its rows: 0 for the best, and for rows without values."""
    if history.values is None:
        return history
    observed = history.status == OBSERVED
    violation = jnp.where(observed, jnp.where(history.feasible, 0.0, 1.0), jnp.inf).astype(history.value.dtype)
    rank = pareto.ranks(history.values, violation).astype(history.value.dtype)
    return history._replace(value=jnp.where(observed, rank, 0.0))


def grow(history: History) -> History:
    """Twice as many rows."""

    def twice(column: jax.Array, fill: Any) -> jax.Array:
        return jnp.concatenate([jnp.asarray(column), jnp.full(column.shape, fill, column.dtype)])

    fills = (0.5, 0.0, 0.0, jnp.nan, jnp.nan, True, EMPTY, 0, 0)
    several = None if history.values is None else twice(history.values, 0.0)
    return History(*(twice(c, f) for c, f in zip(history[:-1], fills)))._replace(values=several)


def update_region(region: Region, rows: Told, rules: Rules, on: jax.Array) -> Region:
    """The region after results, if it is ``on``."""
    count = jnp.sum(rows.status != EMPTY, dtype=jnp.int32)
    best = jnp.min(jnp.where((rows.status == OBSERVED) & rows.feasible, rows.value, jnp.inf))
    margin = jnp.where(jnp.isfinite(region.best), _IMPROVEMENT * jnp.abs(region.best), 0.0)
    better = best < region.best - margin
    nothing = count == 0
    successes = jnp.where(nothing, region.successes, jnp.where(better, region.successes + 1, 0))
    failures = jnp.where(better, 0, region.failures + count)
    longer, shorter = successes >= rules.successes, failures >= rules.failures
    length = jnp.where(longer, jnp.minimum(2.0 * region.length, _LONGEST), region.length)
    length = jnp.where(shorter, 0.5 * length, length)
    over = length < rules.shortest
    anew = over if rules.anew else jnp.zeros_like(over)
    new = Region(
        length=jnp.where(over, _FIRST_LENGTH if rules.anew else _LONGEST, length),
        best=jnp.where(anew, jnp.inf, jnp.minimum(region.best, best)),
        successes=jnp.where(longer, 0, successes),
        failures=jnp.where(shorter, 0, failures),
        epoch=region.epoch + anew.astype(jnp.int32),
    )
    # a region that is not on only tracks the best value
    idle = region._replace(best=jnp.minimum(region.best, best))
    return jax.tree.map(lambda a, b: jnp.where(on, a, b), new, idle)
