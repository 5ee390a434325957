"""Conversion between unit points and host values, in NumPy except for constraints."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jhpo.errors import InvalidParameters, InvalidSpace, invalid
from jhpo.process.switches import with_transfers
from jhpo.space.cells import centre_of, index_of
from jhpo.space.codec import batched, unit_constraint
from jhpo.space.declared import Named, plain, value_key
from jhpo.space.host_rows import absent, check_known, decode_rows, host_active, host_values, prune_absent
from jhpo.space.layout import Layout
from jhpo.space.listed import Listed, cell_values
from jhpo.space.outline import canonical
from jhpo.space.parameters import Float, Int, Parameter
from jhpo.space.tree import path_name
from jhpo.values.pytrees import HP


def exact_values(space: Layout, params: HP) -> dict[str, Any]:
    """Values of the `Float` parameters among ``params``, by dotted name."""
    floats = {name: p for name, p in zip(space.names, space.parameters) if isinstance(p, Float)}
    given = {name: np.asarray(v, np.float64) for name, v in flatten_host(space, params).items() if name in floats}
    inside = {name: np.clip(v, floats[name].low, floats[name].high).tolist() for name, v in given.items()}
    return inside


def decode_host(space: Layout, unit: ArrayLike, exact: Mapping[str, Any]) -> HP:
    """Host values of one row ``float[d]``; values in ``exact`` take precedence."""
    check_known("unit", unit, "from_unit")
    unit = np.asarray(jax.device_get(unit))
    if unit.shape != (space.dim,):
        raise invalid("unit", f"an array of shape ({space.dim},)", unit.shape, InvalidParameters)
    if np.isnan(unit).any():
        raise invalid("unit", "numbers in [0, 1]", unit, InvalidParameters)
    if not exact:
        return decode_rows(space, unit[None])[0]
    on = host_active(space, unit)

    def value(name: str, parameter: Parameter, where: slice) -> Any:
        if name not in exact:
            return host_values(parameter, unit[where])
        return np.asarray(exact[name], np.float64) if parameter.shape else float(exact[name])

    named = zip(space.names, space.parameters, space.slices, on)
    leaves = [value(n, p, where) if state else absent(space, i) for i, (n, p, where, state) in enumerate(named)]
    return prune_absent(jax.tree_util.tree_unflatten(space.treedef, leaves))


def flatten_host(space: Layout, params: HP) -> dict[str, Any]:
    """Values by dotted name, from a tree of any kind or from a flat mapping of dotted names."""
    if isinstance(params, dict) and params and all(k in space.names for k in params):
        return dict(params)
    names, bare = set(space.names), jax.tree_util.treedef_is_leaf(space.treedef)
    out: dict[str, Any] = {}

    def walk(prefix: str, node: HP) -> None:
        if prefix in names or bare:
            out[prefix or "value"] = node
            return
        children: list[tuple[Any, Any]]
        if isinstance(node, dict):
            children = list(node.items())
        else:
            parts = jax.tree_util.tree_flatten_with_path(node, is_leaf=lambda x: x is not node)[0]
            children = [(path_name(path), child) for path, child in parts if path]
        if not children and not isinstance(node, (dict, list, tuple)):
            if node is None and prefix in empty_places(space):
                return
            raise invalid(prefix or "params", f"one of the parameters {sorted(names)}", node, InvalidParameters)
        for key, child in children:
            walk(f"{prefix}.{key}" if prefix else str(key), child)

    walk("", params)
    return {k: v for k, v in out.items() if v is not None or takes_none(space, k)}


def empty_places(space: Layout) -> set[str]:
    """The dotted names of the places where the tree of a space has None."""
    named = jax.tree_util.tree_unflatten(space.treedef, space.names)
    places = jax.tree_util.tree_flatten_with_path(named, is_leaf=lambda x: x is None)[0]
    return {path_name(path) for path, leaf in places if leaf is None}


def takes_none(space: Layout, name: str) -> bool:
    """Whether None is one of the values of this parameter."""
    parameter = space.parameters[space.names.index(name)]
    return isinstance(parameter, Listed) and any(c is None for c in parameter.choices)


def encode_value(name: str, parameter: Parameter, value: object) -> np.ndarray:
    """Unit coordinates ``float64[size]`` of a host value."""
    check_known(name, value, "to_unit")
    if np.ma.is_masked(value):  # NumPy would give the values below the mask
        raise invalid(name, "a value", "masked ones", InvalidParameters)
    if isinstance(parameter, (Float, Int)):
        try:
            given = np.asarray(value)
            array = np.asarray(None if given.dtype.kind in "US" else given, np.float64)  # not "0.1", which NumPy reads
        except (TypeError, ValueError, OverflowError) as error:
            raise invalid(name, f"a number in [{parameter.low}, {parameter.high}]", value, InvalidParameters) from error
        if array.shape != parameter.shape:
            raise invalid(name, f"an array of shape {parameter.shape}", array.shape, InvalidParameters)
        low, high = parameter.rounded if isinstance(parameter, Float) else (parameter.low, parameter.high)
        if isinstance(value, (bool, np.bool_)) or not ((array >= low) & (array <= high)).all():
            raise invalid(name, f"a number in [{parameter.low}, {parameter.high}]", value, InvalidParameters)
        if isinstance(parameter, Float):
            return np.ravel(parameter.unit(np.clip(array, parameter.low, parameter.high), np))
        at = (array - parameter.low) / parameter.step
        if (at != np.round(at)).any():
            wanted = f"an integer of the range {parameter.low}, {parameter.low + parameter.step}, ..."
            raise invalid(name, wanted, value, InvalidParameters)
        return np.ravel(centre_of(parameter, at.astype(np.int64), np.float64, np))
    assert isinstance(parameter, Listed), parameter
    values, keys = parameter.choices, parameter.keys

    def find(item: object) -> int:
        item = plain(item)
        if value_key(item) in keys:
            return keys[value_key(item)]
        # JSON and NumPy lose the distinctions int/float and tuple/list: an equal number is the same choice
        for i, v in enumerate(values):
            both = isinstance(v, numbers.Number) and isinstance(item, numbers.Number)
            if both and not isinstance(v, bool) and not isinstance(item, bool) and v == item:
                return i
            if (
                isinstance(v, (tuple, list, dict))
                and isinstance(item, (tuple, list, dict))
                and _lists(v) == _lists(item)
            ):
                return i
            if isinstance(v, Named) and isinstance(item, Named) and v.name == item.name:
                return i
        # 0.3 and 3 * 0.1, or 0.1 in float32
        near = [i for i, v in enumerate(values) if isinstance(v, float) and isinstance(item, float)
                and math.isclose(v, item, rel_tol=2.0**-23)]  # fmt: skip
        if len(near) == 1:
            return near[0]
        raise invalid(name, f"one of {list(values)}", item, InvalidParameters)

    items = [value] if not parameter.shape else _ravel_items(name, parameter, value)
    return (np.array([find(i) for i in items], np.float64) + 0.5) / parameter.cells


def _lists(value: Any) -> Any:
    """The value with lists in place of tuples, as JSON has them."""
    if isinstance(value, dict):
        return {k: _lists(v) for k, v in value.items()}
    return [_lists(v) for v in value] if isinstance(value, (tuple, list)) else value


def _ravel_items(name: str, parameter: Parameter, value: Any) -> list[Any]:
    items = [value]
    for size in parameter.shape:
        if any(not isinstance(i, (list, tuple, np.ndarray)) or len(i) != size for i in items):
            raise invalid(name, f"values of shape {parameter.shape}", value, InvalidParameters)
        items = [x for i in items for x in i]
    return items


def encode_host(space: Layout, params: HP, fill: np.ndarray | None) -> np.ndarray:
    """Unit point ``float64[d]`` of host values; see `Space.encode`."""
    given = flatten_host(space, params)
    unit = space.default.copy() if fill is None else np.array(fill, np.float64)
    for name, value in given.items():
        if name not in space.names:
            raise invalid(name, f"one of the parameters {list(space.names)}", value, InvalidParameters)
        at = space.names.index(name)
        unit[space.slices[at]] = encode_value(name, space.parameters[at], value)
    if fill is None:
        # whether a child is required can only be decided if its parents are given
        known = [all(space.names[p] in given for p, _ in c) for c in space.conditions]
        on = host_active(space, unit)
        lacking = [n for n, a, k in zip(space.names, on, known) if a and k and n not in given]
        if lacking:
            note = "a result needs all of them; points with some are for enqueue and start=, which evaluate them"
            raise invalid("params", f"values of {lacking}", sorted(given), InvalidParameters, note=note)
    return unit


def encode_some(space: Layout, params: HP) -> np.ndarray:
    """Unit point ``float64[d]`` of some host values, NaN where nothing is given.

    Parents of conditional values that are not given take the first value under which all their conditions hold.
    """
    given = flatten_host(space, params)
    unit = encode_host(space, params, np.full(space.dim, np.nan))
    counts = {space.names.index(name) for name in given}
    for at in space.order[::-1]:
        counts |= {parent for parent, _ in space.conditions[at]} if at in counts else set()
    for at in (i for i in space.order if i in counts):
        for parent, table in space.conditions[at]:
            if not table[int(index_of(space.parameters[parent], unit[space.slices[parent]], np)[0])]:
                name = space.names[at]
                raise invalid(name, "no value while its condition does not hold", given.get(name), InvalidParameters)
        if np.isnan(unit[space.slices[at]]).any() and space.names[at] not in given:
            tables = [t for child in counts for parent, t in space.conditions[child] if parent == at]
            cell = np.argmax(np.all(tables, axis=0))  # 0 where none suits all, which is said of one of them
            unit[space.slices[at]] = centre_of(space.parameters[at], np.asarray([cell]), np.float64, np)
    return unit


@with_transfers
def validate_host(space: Layout, params: HP) -> None:
    """Raises `InvalidParameters` unless ``params`` is a complete and feasible point."""
    unit = encode_host(space, params, None)
    given = flatten_host(space, params)
    extra = [n for n, on in zip(space.names, host_active(space, unit)) if not on and n in given]
    if extra:
        raise invalid(extra[0], "no value while its condition does not hold", given[extra[0]], InvalidParameters)
    if space.constraints:
        values = np.asarray(unit_constraint(space, jnp.asarray(unit, jnp.result_type(float))))
        if not (values >= -1e-6).all():
            raise invalid("params", "constraint values >= 0", values.tolist(), InvalidParameters)


def default_units(space: Layout) -> np.ndarray:
    """Unit point ``float64[d]`` of the declared defaults; parameters without one are in the middle of their scale."""
    unit = np.full(space.dim, 0.5)
    for name, parameter, where in zip(space.names, space.parameters, space.slices):
        if parameter.default is not None:
            value: Any = parameter.default
            if parameter.shape and np.ndim(value) == 0:
                value = np.full(parameter.shape, value)
            try:
                unit[where] = encode_value(name, parameter, value)
            except InvalidParameters as error:
                raise InvalidSpace(f"default of {error}") from error
        elif parameter.cells:
            unit[where] = centre_of(parameter, index_of(parameter, unit[where], np), np.float64, np)
    return unit


@with_transfers
def static_groups(space: Layout, units: np.ndarray) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Values of the static parameters and the rows that have them, one pair per group; see `Space.static_groups`."""
    named = [(n, p, w) for n, p, w in zip(space.names, space.parameters, space.slices) if p.static]
    if not named:
        return [({}, np.arange(len(units)))]
    snapped = np.asarray(batched(lambda u: canonical(space.outline, u), jnp.asarray(units)))
    index = np.stack([index_of(p, snapped[:, w.start], np) for _, p, w in named], axis=-1)
    groups = []
    for row in np.unique(index, axis=0):
        values = {n: cell_values(p)[int(i)] for (n, p, _), i in zip(named, row)}
        groups.append((values, np.flatnonzero((index == row).all(axis=-1))))
    return groups
