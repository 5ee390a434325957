"""Traced conversion between unit points and hyperparameters, written for one row and vmapped by `batched`."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jhpo.errors import LIBRARIES, InvalidSpace, JhpoError, invalid, line_of
from jhpo.kernels import threefry
from jhpo.kernels.internals import strings_refused
from jhpo.kernels.lapack import lapack_in_turn
from jhpo.keys import check_key
from jhpo.process.switches import with_transfers
from jhpo.space.categories import remember
from jhpo.space.cells import centre_of
from jhpo.space.declared import value_key
from jhpo.space.layout import Layout
from jhpo.space.listed import Choice, Ordinal, cell_values
from jhpo.space.outline import canonical, cell_index, draw
from jhpo.space.parameters import Float, Int, Parameter
from jhpo.values.columns import violated_if_nan
from jhpo.values.pytrees import HP
from jhpo.words.lookups import names_there

Out = TypeVar("Out")
# Rounds in which infeasible random rows are redrawn.
REJECTION_ROUNDS = 64


@with_transfers
def batched(row: Callable[[jax.Array], Out], x: ArrayLike, dim: int | None = None) -> Out:
    """Applies a function of one row ``[d]`` to ``[..., d]``; output leaves keep the leading dimensions.

    Raises:
      InvalidArgument: d is not ``dim``.
    """
    array = jnp.asarray(x)
    if dim is not None and array.shape[-1:] != (dim,):
        raise invalid("unit", f"rows of {dim}, the coordinates of the space", f"the shape {array.shape}")
    for _ in range(array.ndim - 1):
        row = jax.vmap(row)
    return row(array)


# -- one traced row -------------------------------------------------------------------------------------------


@with_transfers
def decode_traced(space: Layout, unit: jax.Array, static: dict[str, Any], inside: bool = False) -> HP:
    """Hyperparameters of ``float[..., d]``; static parameters have the Python values in ``static``.

    ``inside``: the rows are known to lie in the unit cube.
    """
    traced = iter(batched(lambda u: _traced_leaves(space, u, inside), unit, space.dim))
    leaves = [static[n] if p.static else next(traced) for n, p in zip(space.names, space.parameters)]
    for parameter, leaf in zip(space.parameters, leaves):
        if isinstance(parameter, (Choice, Ordinal)) and not parameter.static:
            remember(leaf, parameter.choices)
        elif isinstance(parameter, Int):
            remember(leaf, range(parameter.low, parameter.high + 1, parameter.step))
    return jax.tree_util.tree_unflatten(space.treedef, leaves)


def _traced_leaves(space: Layout, unit: jax.Array, inside: bool) -> list[jax.Array]:
    """Values of the parameters that are not static, from ``float[d]``."""
    unit = canonical(space.outline, unit, inside)
    index = cell_index(space.outline, unit) if space.cells.any() else None
    leaves = []
    for parameter, where in zip(space.parameters, space.slices):
        if parameter.static:
            continue
        if isinstance(parameter, Float):
            leaf = parameter.value(unit[where])
        else:
            assert index is not None
            leaf = index[where]
            if isinstance(parameter, Int):
                leaf = leaf * np.int32(parameter.step) + np.int32(parameter.low)
            elif parameter.delivers is not None:
                leaf = jnp.asarray(_table(parameter, unit.dtype))[leaf]
        leaves.append(leaf.reshape(parameter.shape))
    return leaves


def _table(parameter: Parameter, dtype: DTypeLike) -> np.ndarray:
    """The values of a listed parameter as an array of the dtype that the objective gets."""
    kind = {"bool": np.bool_, "int": np.int32, "float": dtype}[parameter.delivers or "float"]
    return np.array(cell_values(parameter), kind)


def _nearest(value: jax.Array, table: np.ndarray, dtype: DTypeLike) -> jax.Array:
    """Places ``int32[...]`` in a table of the numbers nearest to ``[...]``; an equal one, though float32 has others."""
    each, listed = value[..., None], table.reshape((1,) * value.ndim + (-1,))
    distance = jnp.abs(each.astype(dtype) - jnp.asarray(listed, dtype))
    if table.dtype == np.int32 and jnp.issubdtype(value.dtype, jnp.integer):
        distance = jnp.where(each.astype(jnp.int32) == listed, jnp.asarray(-1, dtype), distance)
    return jnp.argmin(distance, axis=-1).astype(jnp.int32)


def _is_choice(parameter: Parameter, leaf: object) -> bool:
    """Whether a leaf is a choice itself, such as its name, and not the index by which it is traced."""
    is_named = isinstance(parameter, (Choice, Ordinal)) and parameter.delivers is None
    return is_named and not isinstance(leaf, (numbers.Number, np.ndarray, jax.Array))


@with_transfers
def encode_traced(space: Layout, hp: HP) -> jax.Array:
    """``float[..., d]`` of hyperparameters, the inverse of `decode_traced`; leaves may have leading dimensions.

    Raises:
      InvalidArgument: no value of a static parameter, or no choice.
    """
    leaves = space.treedef.flatten_up_to(hp)
    dtype = jnp.result_type(float)
    parts = []
    for name, parameter, leaf in zip(space.names, space.parameters, leaves):
        if parameter.static or _is_choice(parameter, leaf):
            keys = [value_key(v) for v in cell_values(parameter)]
            if value_key(leaf) not in keys:
                raise invalid(name, f"one of {list(cell_values(parameter))}", leaf)
            leaf = jnp.asarray(keys.index(value_key(leaf)), jnp.int32)
        leaf = jnp.asarray(leaf)
        batch = leaf.shape[: leaf.ndim - len(parameter.shape)]
        if isinstance(parameter, Float):
            unit = parameter.unit(leaf.astype(dtype))
        else:
            if isinstance(parameter, Int):
                # the distance from the lowest value may exceed an int32
                inside = jnp.clip(leaf.astype(jnp.int32), np.int32(parameter.low), np.int32(parameter.high))
                above = inside.astype(jnp.uint32) - np.uint32(parameter.low % 2**32)
                index = (above // np.uint32(parameter.step)).astype(jnp.int32)
            elif parameter.delivers is not None:
                index = _nearest(leaf, _table(parameter, dtype), dtype)
            else:
                index = leaf
            unit = centre_of(parameter, index, dtype)
        parts.append(unit.reshape((*batch, parameter.size)))
    widest = max((p.shape[:-1] for p in parts), key=len)
    return jnp.concatenate([jnp.broadcast_to(p, (*widest, p.shape[-1])) for p in parts], axis=-1)


@with_transfers
def constraint(space: Layout, hp: HP) -> jax.Array:
    """Constraint values ``float[c]`` of one tree of hyperparameters.

    Raises:
      InvalidSpace: a constraint that JAX cannot trace, or that returns no numbers.
    """
    dtype = jnp.result_type(float)
    try:
        with strings_refused(LIBRARIES):
            values = [jnp.ravel(jnp.asarray(c(hp))) for c in space.constraints]
    except (JhpoError, jax.errors.JaxRuntimeError, MemoryError):
        raise
    except Exception as error:
        text = str(error).split("\n")[0][:500] + line_of(error, LIBRARIES) + names_there(error, LIBRARIES)
        raise InvalidSpace(
            "constraints: expected functions that JAX can trace and that return numbers, "
            f"got {type(error).__name__}: {text}; they get what a traced objective gets, jnp takes the place of numpy "
            "and math, and a choice that is not a number is its index"
        ) from error
    if any(v.dtype == bool for v in values):
        expected = "functions whose numbers are >= 0 where feasible (high - low, not low <= high)"
        raise invalid("constraints", expected, "a truth value", InvalidSpace)
    if not values:
        return jnp.zeros((0,), dtype)
    return violated_if_nan(jnp.concatenate([v.astype(dtype) for v in values]), jnp)


def static_combinations(space: Layout) -> list[dict[str, Any]]:
    """All combinations of the values of static parameters."""
    named = [(n, cell_values(p)) for n, p in zip(space.names, space.parameters) if p.static]
    return [dict(zip([n for n, _ in named], values)) for values in itertools.product(*(v for _, v in named))]


def unit_constraint(space: Layout, unit: jax.Array) -> jax.Array:
    """Constraint values ``float[c]`` of one row, whose static parameters may be traced."""
    if not space.constraints:
        return jnp.zeros((0,), jnp.result_type(float))
    if not space.static_mask.any():
        return constraint(space, decode_traced(space, unit, {}))
    combinations = static_combinations(space)
    if len(combinations) > 256:
        raise invalid("constraints", "at most 256 combinations of static parameters", len(combinations), InvalidSpace)
    each = jnp.stack([constraint(space, decode_traced(space, unit, c)) for c in combinations])
    radix = [p.cells for p in space.parameters if p.static]
    index = cell_index(space.outline, canonical(space.outline, unit))[np.flatnonzero(space.static_mask)]
    weights = jnp.asarray([math.prod(radix[i + 1 :]) for i in range(len(radix))], jnp.int32)
    return each[(index * weights).sum()]


def constraints_of(space: Layout, units: ArrayLike, static: dict[str, Any] | None = None) -> jax.Array:
    """Constraint values ``float[..., c]`` of rows ``[..., d]``; matrices in them are factorised one by one on a CPU.

    ``static``: the values of static parameters if they are the same in all rows.
    """

    def row(unit: jax.Array) -> jax.Array:
        return unit_constraint(space, unit) if static is None else constraint(space, decode_traced(space, unit, static))

    return batched(lapack_in_turn(row), units, space.dim)


@with_transfers
def sample(space: Layout, key: jax.Array, n: int, dtype: DTypeLike) -> jax.Array:
    """``float[n, d]`` draws, uniform or from priors; infeasible rows are redrawn up to `REJECTION_ROUNDS` times."""
    first = draw(space.outline, check_key(key), n, dtype)
    if not space.constraints:
        return first

    def bad(units: jax.Array) -> jax.Array:
        return ~(constraints_of(space, units) >= 0).all(axis=-1)

    def again(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        units, i = carry
        other = draw(space.outline, threefry.fold_in(key, i), n, dtype)
        return jnp.where(bad(units)[:, None], other, units), i + jnp.uint32(1)

    unfinished = lambda c: bad(c[0]).any() & (c[1] <= REJECTION_ROUNDS)  # noqa: E731
    return jax.lax.while_loop(unfinished, again, (first, jnp.uint32(1)))[0]
