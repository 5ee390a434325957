"""Pure functions for members of a population: their values, and their trained states."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import DTypeLike

from jhpo.errors import InvalidArgument
from jhpo.evaluation.batching import all_members
from jhpo.evaluation.described import NO_STATIC, StaticValues, describe
from jhpo.keys import trial_keys
from jhpo.objectives import Objectives
from jhpo.programs.compilation import programs
from jhpo.programs.devices import over_devices
from jhpo.space.codec import constraints_of, decode_traced
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request
from jhpo.training.crossvalidation import CrossValidated
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import Metrics, State, Trainable, Wanted, evaluate_state, train_and_evaluate, train_state
from jhpo.values.columns import violated_if_nan
from jhpo.words.markup import brief

NOTHING_MORE = Request()  # only values, at full horizon


class PerFold(NamedTuple):
    """The values of one member on k folds, k = 1 without any."""

    value: jax.Array  # float[k], float[k, m] for several objectives
    run: jax.Array | None = None  # int32[], how many of them count, the first ones; None if all


def _member(
    trainable: Trainable,
    space: Space,
    unit: jax.Array,
    key: jax.Array,
    *,
    request: Request,
    metric: Wanted,
    static: StaticValues,
    inside: bool,
) -> tuple[PerFold, jax.Array | None, jax.Array | None]:
    """Values, gradient ``float[d]`` (if requested) and measured constraints ``float[c]`` of one member.

    In the unit's dtype.
    """
    if request.grad:
        if describe(trainable, space, metric, static).constraints:
            raise InvalidArgument("objective: expected no 'constraint' beside gradients, got a dict with one")
        assert not isinstance(metric, Objectives)  # such strategies are refused earlier
        from jhpo.gradients.units import value_and_unit_grad  # late: a third of a Study's import time, seldom needed

        def graded(task: Trainable, key: jax.Array) -> tuple[jax.Array, jax.Array]:
            return value_and_unit_grad(
                task, space, unit, key, horizon=request.horizon, metric=metric, static=static.values
            )

        if isinstance(trainable, CrossValidated):
            value, grad = trainable.over_folds(graded, trainable.keys(key))
            grad = grad.mean(axis=0)
        else:
            value, grad = graded(trainable, key)
            value = value[None]
        return PerFold(value.astype(unit.dtype)), grad.astype(unit.dtype), None
    hp = decode_traced(space, unit, static.values, inside)
    found = train_and_evaluate(trainable, hp, key, request.horizon, metric)
    value, constraint = read_values(found, unit.dtype)
    return value, None, constraint


def read_values(found: Metrics, dtype: DTypeLike) -> tuple[PerFold, jax.Array | None]:
    """Values on the folds, and measured constraints ``float[c]``, of one member."""
    value = found.value[None] if found.folds is None else found.folds
    constraint = None if found.constraint is None else found.constraint.astype(dtype)
    return PerFold(value.astype(dtype), found.run), constraint


def replicated(units: jax.Array, keys: jax.Array, replicates: int) -> tuple[jax.Array, jax.Array]:
    """Each row and key repeated ``replicates`` times in a row; replicate r has the key ``fold_in(key, r)``."""
    if replicates == 1:
        return units, keys
    counts = jnp.arange(replicates, dtype=jnp.uint32)
    keys = jax.vmap(lambda k: jax.vmap(lambda r: jax.random.fold_in(k, r))(counts))(keys).reshape(-1)
    return jnp.repeat(units, replicates, axis=0), keys


def evaluate_units(
    trainable: Trainable,
    space: Space,
    units: jax.Array,
    keys: jax.Array,
    request: Request = NOTHING_MORE,
    replicates: int = 1,
    *,
    metric: Wanted = None,
    static: StaticValues = NO_STATIC,
    chunk: int | None = None,
    inside: bool = False,
) -> Evaluation:
    """Evaluate members as a pure function, inside or outside ``jit``, ``scan`` and ``vmap``.

    Args:
      trainable: a trainable (see `jhpo.as_trainable`).
      space: converts unit rows to hyperparameters.
      units: ``float[n, d]``.
      keys: ``key[n]``, one per member; replicate r of several uses ``fold_in(key, r)``.
      request: whether to compute gradients, and the fraction of the training to run.
      replicates: evaluations per member. The value is their mean, and ``variance`` the variance of that mean; a member
        fails if one of its replicates fails. Folds of a cross-validated trainable count as replicates do.
      metric: which metric to minimise if the evaluation returns several, or the objectives if there are several.
      static: values of the static parameters, the same for all rows.
      chunk: number of rows evaluated at once, chunks one after another in a `lax.map`; all at once if None.
      inside: the rows are known to lie in the unit cube.

    Returns:
      An `Evaluation` of ``units.dtype``: value ``[n]``, grad ``[n, d]`` if requested, constraint ``[n, c]`` if the
      space has any or the evaluation measures any (the space's first), variance ``[n]`` if there are replicates or
      folds, and of several objectives values ``[n, m]`` and variance ``[n, m]``.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 2.0)})
    >>> units, keys = jnp.array([[0.0], [0.5]]), jax.random.split(jax.random.key(0), 2)
    >>> evaluate_units(jhpo.as_trainable(lambda hp: hp["x"] + 1.0), space, units, keys).value.tolist()
    [1.0, 2.0]
    """
    if units.ndim != 2 or units.shape[1] != space.dim:
        raise InvalidArgument(f"units: expected float[n, {space.dim}] for this space, got {brief(units)}")
    n = units.shape[0]
    rows, keys = replicated(units, keys, replicates)

    how: dict[str, Any] = {"request": request, "metric": metric, "static": static, "inside": inside}
    members = all_members(lambda unit, key: _member(trainable, space, unit, key, **how), request.grad)
    total = n * replicates
    width = total if chunk is None else min(total, chunk * replicates)
    with objective_errors():
        if width == total:
            value, grad, measured = members(rows, keys)
        else:
            padded = -(-total // width) * width
            take = jnp.minimum(jnp.arange(padded), total - 1).reshape(-1, width)
            value, grad, measured = jax.tree.map(
                lambda x: x.reshape(padded, *x.shape[2:])[:total],
                jax.lax.map(lambda at: members(rows[at], keys[at]), take),
            )
    return summarised(space, units, value, grad, measured, replicates, metric=metric, static=static)


def summarised(
    space: Space,
    units: jax.Array,
    value: PerFold,
    grad: jax.Array | None,
    measured: jax.Array | None,
    replicates: int,
    *,
    metric: Wanted,
    static: StaticValues,
) -> Evaluation:
    """Results of ``n * replicates`` rows on k folds as those of n members."""
    n = units.shape[0]
    mean, variance = _moments(value, replicates)
    if replicates > 1:
        grad, measured = (None if x is None else x.reshape(n, replicates, -1).mean(axis=1) for x in (grad, measured))
    constraint = measured = None if measured is None else violated_if_nan(measured, jnp)
    if space.has_constraints:
        constraint = constraints_of(space, units, static.values).astype(units.dtype)
        constraint = constraint if measured is None else jnp.concatenate([constraint, measured], axis=1)
    values = None
    if isinstance(metric, Objectives):
        values, mean = mean, jnp.where(jnp.isfinite(mean).all(axis=1), mean[:, 0], jnp.nan)
    return Evaluation(value=mean, grad=grad, constraint=constraint, variance=variance, values=values)


def _moments(found: PerFold, replicates: int) -> tuple[jax.Array, jax.Array | None]:
    """Means over the replicates and folds of each member, and the variances of these means (None of one value).

    The variance of a mean of which one value was run is NaN: unknown.
    """
    value, run = found
    folds, more = value.shape[1], value.shape[2:]
    count = replicates * folds
    several = value.reshape(-1, count, *more)
    if count == 1:
        return several[:, 0], None
    if run is None:
        return several.mean(axis=1), several.var(axis=1, ddof=1) / count
    there = (jnp.arange(folds, dtype=jnp.int32)[None, :] < run[:, None]).reshape(-1, count, *[1] * len(more))
    number = there.sum(axis=1).astype(value.dtype)
    mean = jnp.where(there, several, 0.0).sum(axis=1) / number
    squares = jnp.where(there, (several - mean[:, None]) ** 2, 0.0).sum(axis=1)
    return mean, squares / (number - 1.0) / number


@programs("request", "replicates", "metric", "static", "mesh")
def evaluate_program(
    trainable: Trainable,
    space: Space,
    units: jax.Array,
    ids: jax.Array,
    root: jax.Array,
    *,
    request: Request,
    replicates: int,
    metric: Wanted,
    static: StaticValues,
    mesh: Mesh,
) -> Evaluation:
    """`evaluate_units` of one chunk, sharded over the devices of the mesh."""

    def rows(trainable: Trainable, root: jax.Array, units: jax.Array, ids: jax.Array) -> Evaluation:
        keys = trial_keys(root, ids)
        return evaluate_units(trainable, space, units, keys, request, replicates, metric=metric, static=static)

    return over_devices(rows, mesh)(trainable, root, units, ids)


@programs("replicates", "metric", "static", "horizon")
def state_program(
    trainable: Trainable,
    space: Space,
    units: jax.Array,
    ids: jax.Array,
    root: jax.Array,
    *,
    replicates: int,
    metric: Wanted,
    static: StaticValues,
    horizon: float,
) -> tuple[State, jax.Array]:
    """Trained states (of replicate 0) and first values of members, by the same computation as `evaluate_units`."""

    def member(unit: jax.Array, key: jax.Array) -> tuple[State, PerFold]:
        hp = space.from_unit(unit, static.values)
        state = train_state(trainable, hp, key, horizon)
        value, _ = read_values(evaluate_state(trainable, hp, state, metric), unit.dtype)
        return state, value if value.value.ndim == 1 else value._replace(value=value.value[:, 0])

    rows, keys = replicated(units, trial_keys(root, ids), replicates)
    states, each = all_members(member)(rows, keys)
    value, _ = _moments(each, replicates)
    return states if replicates == 1 else jax.tree.map(lambda x: x[::replicates], states), value
