"""From unit rows to host values, in NumPy."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from jhpo.errors import InvalidParameters, invalid
from jhpo.kernels.internals import is_traced
from jhpo.space.cells import index_of, index_of_one
from jhpo.space.layout import Condition, Layout
from jhpo.space.listed import Listed, cell_values
from jhpo.space.parameters import Float, Int, Parameter
from jhpo.values.pytrees import HP

_DTYPES = {"bool": np.bool_, "int": np.int64, "float": np.float64}  # of what `Listed.delivers`
_FEW = 8  # rows that Python decodes faster than NumPy, to the same bits


def coordinate_values(parameter: Parameter, unit: np.ndarray) -> np.ndarray:
    """Host values of unit coordinates, in their shape: float64, int64, or objects of a list of values."""
    if isinstance(parameter, Float):
        a, b = parameter.ends
        z = np.asarray(a + np.asarray(unit, np.float64) * (b - a))
        match parameter.scale:
            case "log":
                z = np.exp(z)
            case "reverse_log":
                z = -np.expm1(-z)
            case "logit":
                z = 1.0 / (1.0 + np.exp(-z))
        return np.asarray(np.clip(z, parameter.low, parameter.high))
    index = index_of(parameter, unit, np).astype(np.int64)
    if isinstance(parameter, Int):
        return np.asarray(index * parameter.step + parameter.low)
    choices = cell_values(parameter)
    out = np.empty(index.shape, object)
    for at, i in np.ndenumerate(index):  # one by one: NumPy would unpack choices that are tuples
        out[at] = choices[int(i)]
    return out


def host_values(parameter: Parameter, unit: np.ndarray) -> Any:
    """Host value of a parameter's unit coordinates: a scalar, or what `shaped` makes of them."""
    return _column(parameter, unit[None])[0]


def shaped(parameter: Parameter, values: np.ndarray) -> Any:
    """Host values of one parameter in its shape: an array of numbers or bools, nested lists of anything else."""
    values = values.reshape(parameter.shape)
    if isinstance(parameter, Listed):
        return values.tolist() if parameter.delivers is None else values.astype(_DTYPES[parameter.delivers])
    return values


def columns(space: Layout, units: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Host values of rows ``float[n, d]`` by parameter: ``[n, size]``, and ``bool[n]``, where it is active."""
    on, named = active_rows(space, units), zip(space.names, space.parameters, space.slices)
    return {name: (coordinate_values(p, units[:, where]), rows) for (name, p, where), rows in zip(named, on)}


def active_rows(space: Layout, units: np.ndarray) -> list[np.ndarray]:
    """For each parameter, in which of the rows ``float[n, d]`` its conditions hold: ``bool[n]``."""
    on: dict[int, np.ndarray] = {}
    met: dict[Condition, np.ndarray] = {}  # many parameters share one
    for i in space.order:
        on[i] = np.ones(len(units), np.bool_)
        for condition in space.conditions[i]:
            if condition not in met:
                p, table = condition
                index = _indices(space.parameters[p], units[:, space.slices[p].start])
                met[condition] = on[p] & np.asarray(table)[index]
            on[i] &= met[condition]
    return [on[i] for i in range(len(space.names))]


def host_active(space: Layout, unit: np.ndarray) -> list[bool]:
    """For each parameter, whether its conditions hold."""
    if not any(space.conditions):
        return [True] * len(space.names)
    return [bool(rows[0]) for rows in active_rows(space, unit[None])]


ABSENT = object()


def absent(space: Layout, index: int) -> Any:
    """What stands for an inactive parameter until `prune_absent`; None in trees of other classes, which it leaves."""
    return ABSENT if space.plainly[index] else None


def prune_absent(tree: HP) -> HP:
    """The tree without absent leaves: removed from dicts, None in lists and tuples."""
    if isinstance(tree, dict):
        return {k: prune_absent(v) for k, v in tree.items() if v is not ABSENT}
    if isinstance(tree, (list, tuple)) and not hasattr(tree, "_fields"):
        return type(tree)(None if v is ABSENT else prune_absent(v) for v in tree)
    return None if tree is ABSENT else tree


def check_known(name: str, value: object, inside: str) -> None:
    """Raises if it has no numbers yet, as in a program that is traced, where a method of the space ``inside`` is meant.

    Raises:
      InvalidParameters: it is a tracer, or holds one.
    """
    for leaf in filter(is_traced, jax.tree.leaves(value)):
        note = f"in a program Space.{inside} converts values"
        raise invalid(name, "what is known outside of jit, vmap and scan", leaf, InvalidParameters, note=note)


def decode_rows(space: Layout, units: np.ndarray) -> list[HP]:
    """Host values of rows ``float[n, d]``, each as `decode_host` gives them, column by column."""
    check_known("units", units, "from_unit")
    conditional = any(space.conditions)
    columns, prune = [], conditional
    for parameter, where in zip(space.parameters, space.slices):
        column = _column(parameter, units[:, where])
        # `prune_absent` also copies lists and dicts, so that no caller holds the space's own
        prune = prune or (isinstance(parameter, Listed) and any(isinstance(v, (dict, list, tuple)) for v in column))
        columns.append(column)
    if conditional:
        on = active_rows(space, units)
        gaps = [absent(space, i) for i in range(len(columns))]
        columns = [[v if there else g for v, there in zip(c, rows.tolist())] for c, g, rows in zip(columns, gaps, on)]
    trees = [jax.tree_util.tree_unflatten(space.treedef, leaves) for leaves in zip(*columns)]
    return [prune_absent(tree) for tree in trees] if prune else trees


def _column(parameter: Parameter, units: np.ndarray) -> list[Any]:
    """The host value of a parameter in each row of its unit coordinates ``float[n, size]``."""
    if parameter.shape:
        return [shaped(parameter, coordinate_values(parameter, row)) for row in units]
    few = len(units) <= _FEW
    if few and isinstance(parameter, Int):
        return [i * parameter.step + parameter.low for i in _indices(parameter, units[:, 0])]
    if few and isinstance(parameter, Listed):
        return [parameter.choices[i] for i in _indices(parameter, units[:, 0])]
    if few and isinstance(parameter, Float) and parameter.scale == "linear":
        (a, b), low, high = parameter.ends, float(parameter.low), float(parameter.high)
        return [min(max(a + unit * (b - a), low), high) for unit in np.asarray(units[:, 0], np.float64).tolist()]
    values: list[Any] = coordinate_values(parameter, np.ascontiguousarray(units[:, 0])).tolist()
    return values


def _indices(parameter: Parameter, units: np.ndarray) -> Any:
    """`index_of` of the coordinates ``float[n]``; a list if they are few."""
    if len(units) > _FEW:
        return index_of(parameter, units, np)
    return [index_of_one(parameter, unit) for unit in units.tolist()]
