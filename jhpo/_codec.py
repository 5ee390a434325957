"""How a space's unit rows become values and back: traced for one row (vmapped by `batched`), and on the host."""

from __future__ import annotations

import itertools
import math
import numbers
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidParameters, InvalidSpace, invalid
from jhpo.parameters import Float, Int, Ordinal, Parameter, value_key

if TYPE_CHECKING:
    from jhpo.space import Space

# (parent parameter's number, allowed cells of it as a boolean table)
Condition = tuple[int, tuple[bool, ...]]


def path_name(path: tuple[Any, ...]) -> str:
    """Dotted name of a pytree path."""
    parts = []
    for entry in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(entry, attribute):
                parts.append(str(getattr(entry, attribute)))
                break
    return ".".join(parts) if parts else "value"


def batched(row: Callable[[jax.Array], Any], x: Any) -> Any:
    """Apply a function of one row ``[d]`` to ``[..., d]``, leading dimensions kept on every output leaf."""
    x = jnp.asarray(x)
    for _ in range(x.ndim - 1):
        row = jax.vmap(row)
    return row(x)


# -- conditions -----------------------------------------------------------------------------------------------


def _find_parent(names: tuple[str, ...], child: str, parent: str) -> int:
    """A parent is looked for beside its child first, then by its full name."""
    scope = child.rpartition(".")[0]
    for candidate in (f"{scope}.{parent}" if scope else parent, parent):
        if candidate in names:
            return names.index(candidate)
    raise invalid(child, f"a condition on one of {list(names)}", parent, InvalidSpace)


def cell_values(parameter: Parameter) -> list[Any]:
    """Host values of the cells of a discrete parameter."""
    if isinstance(parameter, Int):
        return list(range(parameter.low, parameter.high + 1, parameter.step))
    return list(parameter.choices)  # type: ignore[attr-defined]


def resolve_conditions(names: tuple[str, ...], parameters: tuple[Parameter, ...]) -> tuple[tuple[Condition, ...], ...]:
    """Every parameter's conditions with parents found and allowed values turned into tables."""
    out = []
    for name, parameter in zip(names, parameters):
        mine = []
        for parent_name, allowed in parameter.when or ():
            at = _find_parent(names, name, parent_name)
            parent = parameters[at]
            if isinstance(parent, Float) or parent.shape:
                raise invalid(name, "a condition on a single discrete parameter", parent_name, InvalidSpace)
            keys = [value_key(v) for v in cell_values(parent)]
            wanted = [value_key(v) for v in allowed]
            unknown = [v for v, k in zip(allowed, wanted) if k not in keys]
            if unknown or not allowed:
                raise invalid(f"{name}.when", f"values that {names[at]!r} can take", unknown or allowed, InvalidSpace)
            mine.append((at, tuple(k in wanted for k in keys)))
        out.append(tuple(mine))
    return tuple(out)


def condition_order(names: tuple[str, ...], conditions: tuple[tuple[Condition, ...], ...]) -> tuple[int, ...]:
    """Parameter numbers, parents before children."""
    order: list[int] = []
    left = list(range(len(names)))
    while left:
        ready = [i for i in left if all(parent in order for parent, _ in conditions[i])]
        if not ready:
            raise invalid("when", "conditions without a cycle", [names[i] for i in left], InvalidSpace)
        order += ready
        left = [i for i in left if i not in ready]
    return tuple(order)


# -- one traced row -------------------------------------------------------------------------------------------


def _cells_as(space: Space, dtype: Any) -> jax.Array:
    return jnp.asarray(np.maximum(space.cells, 1), dtype)


def cell_index(space: Space, unit: jax.Array) -> jax.Array:
    """``float[d]`` to ``int32[d]``. Equal cells, or cells equal in the logarithm for logarithmic integers."""
    unit = jnp.clip(unit, 0.0, 1.0)
    cells = _cells_as(space, unit.dtype)
    position = jnp.floor(unit * cells)
    if space._log_cells.any():
        a, b = (jnp.asarray(e, unit.dtype) for e in space._ends)
        logarithmic = jnp.round(jnp.exp(a + unit * (b - a))) - jnp.asarray(space._low, unit.dtype)
        position = jnp.where(jnp.asarray(space._log_cells), logarithmic, position)
    return jnp.clip(position, jnp.zeros_like(cells), cells - 1).astype(jnp.int32)


def cell_centre(space: Space, index: jax.Array, dtype: Any) -> jax.Array:
    """``int32[d]`` to ``float[d]``."""
    position = jnp.clip(index, 0, jnp.asarray(np.maximum(space.cells, 1) - 1)).astype(dtype)
    centre = (position + jnp.asarray(0.5, dtype)) / _cells_as(space, dtype)
    if space._log_cells.any():
        a, b = (jnp.asarray(e, dtype) for e in space._ends)
        safe = jnp.where(jnp.asarray(space._log_cells), position + jnp.asarray(space._low, dtype), jnp.ones((), dtype))
        centre = jnp.where(jnp.asarray(space._log_cells), (jnp.log(safe) - a) / (b - a), centre)
    return centre


def snap(space: Space, unit: jax.Array) -> jax.Array:
    """Discrete coordinates to cell centres; the gradient of continuous ones passes."""
    clipped = unit + jax.lax.stop_gradient(jnp.clip(unit, 0.0, 1.0) - unit)
    if not space.cells.any():
        return clipped
    return jnp.where(jnp.asarray(space.cells > 0), cell_centre(space, cell_index(space, unit), unit.dtype), clipped)


def active(space: Space, unit: jax.Array) -> jax.Array:
    """``bool[d]``: all conditions hold, those of the parents too."""
    if not any(space.conditions):
        return jnp.ones((space.dim,), bool)
    index = cell_index(space, unit)
    on: dict[int, jax.Array] = {}
    for i in space.order:
        state = jnp.ones((), bool)
        for parent, table in space.conditions[i]:
            state = state & on[parent] & jnp.asarray(table)[index[space.slices[parent].start]]
        on[i] = state
    parts = [jnp.full((p.size,), on[i]) for i, p in enumerate(space.parameters)]
    return jnp.concatenate(parts)


def canonical(space: Space, unit: jax.Array) -> jax.Array:
    """Snapped, inactive coordinates at their default."""
    snapped = snap(space, unit)
    if not any(space.conditions):
        return snapped
    return jnp.where(active(space, unit), snapped, jnp.asarray(space._default, unit.dtype))


def decode_traced(space: Space, unit: jax.Array, static: dict[str, Any]) -> Any:
    """``float[..., d]`` to the hyperparameter tree; static values stay the Python values they are."""
    traced = iter(batched(lambda u: _traced_leaves(space, u), unit))
    leaves = [static[n] if p.static else next(traced) for n, p in zip(space.names, space.parameters)]
    return jax.tree_util.tree_unflatten(space.treedef, leaves)


def _traced_leaves(space: Space, unit: jax.Array) -> list[jax.Array]:
    """``float[d]`` to the values of the parameters that are not static."""
    unit = canonical(space, unit)
    index = cell_index(space, unit) if space.cells.any() else None
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
            elif isinstance(parameter, Ordinal) and parameter.numeric:
                leaf = jnp.asarray(_table(parameter, unit.dtype))[leaf]
        leaves.append(leaf.reshape(parameter.shape))
    return leaves


def _table(parameter: Ordinal, dtype: Any) -> np.ndarray:
    whole = all(isinstance(c, numbers.Integral) for c in parameter.choices)
    return np.array(parameter.choices, np.int32 if whole else dtype)


def encode_traced(space: Space, hp: Any) -> jax.Array:
    """The inverse of `decode_traced`, leading batch dimensions allowed on every leaf."""
    leaves = space.treedef.flatten_up_to(hp)
    dtype = jnp.result_type(float)
    parts = []
    for parameter, leaf in zip(space.parameters, leaves):
        if parameter.static:
            keys = [value_key(v) for v in cell_values(parameter)]
            leaf = jnp.asarray(keys.index(value_key(leaf)), jnp.int32)
        leaf = jnp.asarray(leaf)
        batch = leaf.shape[: leaf.ndim - len(parameter.shape)]
        if isinstance(parameter, Float):
            unit = parameter.unit(leaf.astype(dtype))
        else:
            if isinstance(parameter, Int):
                index = (leaf - np.int32(parameter.low)) // np.int32(parameter.step)
            elif isinstance(parameter, Ordinal) and parameter.numeric:
                table = jnp.asarray(_table(parameter, leaf.dtype))
                index = jnp.argmin(jnp.abs(leaf[..., None] - table.reshape((1,) * leaf.ndim + (-1,))), axis=-1)
            else:
                index = leaf
            unit = _unit_of_cell(parameter, index.astype(dtype))
        parts.append(unit.reshape((*batch, parameter.size)))
    widest = max((p.shape[:-1] for p in parts), key=len)
    return jnp.concatenate([jnp.broadcast_to(p, (*widest, p.shape[-1])) for p in parts], axis=-1)


def _unit_of_cell(parameter: Parameter, index: Any, xp: Any = jnp) -> Any:
    if isinstance(parameter, Int) and parameter.log:
        a, b = parameter.ends
        return (xp.log(index + parameter.low) - a) / (b - a)
    return (index + 0.5) / parameter.cells


def constraint(space: Space, hp: Any) -> jax.Array:
    """``float[c]`` of one tree."""
    dtype = jnp.result_type(float)
    values = [jnp.ravel(jnp.asarray(c(hp))).astype(dtype) for c in space.constraints]
    return jnp.concatenate(values) if values else jnp.zeros((0,), dtype)


def static_combinations(space: Space) -> list[dict[str, Any]]:
    """All values the static parameters can take together."""
    named = [(n, cell_values(p)) for n, p in zip(space.names, space.parameters) if p.static]
    return [dict(zip([n for n, _ in named], values)) for values in itertools.product(*(v for _, v in named))]


def unit_constraint(space: Space, unit: jax.Array) -> jax.Array:
    """``float[c]`` of one row; with static parameters, of the combination the row selects."""
    if not space.constraints:
        return jnp.zeros((0,), jnp.result_type(float))
    if not space.has_static:
        return constraint(space, decode_traced(space, unit, {}))
    combinations = static_combinations(space)
    if len(combinations) > 256:
        raise invalid("constraints", "at most 256 combinations of static parameters", len(combinations), InvalidSpace)
    each = jnp.stack([constraint(space, decode_traced(space, unit, c)) for c in combinations])
    radix = [p.cells for p in space.parameters if p.static]
    index = cell_index(space, canonical(space, unit))[np.flatnonzero(space.static_mask)]
    weights = jnp.asarray([math.prod(radix[i + 1 :]) for i in range(len(radix))], jnp.int32)
    return each[(index * weights).sum()]


def sample(space: Space, key: jax.Array, n: int, dtype: Any) -> jax.Array:
    """``float[n, d]``: uniform or prior draws, infeasible rows drawn again a bounded number of times."""
    from jhpo.space import REJECTION_ROUNDS

    def draw(key: jax.Array) -> jax.Array:
        uniform = jax.random.uniform(key, (n, space.dim), dtype)
        priors = [p.prior for p in space.parameters for _ in range(p.size)]
        if not any(priors):
            return uniform
        mean = jnp.asarray([p[0] if p else 0.5 for p in priors], dtype)[None]
        std = jnp.asarray([p[1] if p else 1.0 for p in priors], dtype)[None]
        cdf = lambda x: jax.scipy.stats.norm.cdf((x - mean) / std)  # noqa: E731
        a, b = cdf(jnp.zeros((), dtype)), cdf(jnp.ones((), dtype))
        normal = jnp.clip(mean + std * jax.scipy.stats.norm.ppf(a + uniform * (b - a)), 0.0, 1.0)
        return jnp.where(jnp.asarray([bool(p) for p in priors])[None], normal, uniform)

    first = draw(key)
    if not space.constraints:
        return first

    def bad(units: jax.Array) -> jax.Array:
        return ~(space.unit_constraint(units) >= 0).all(axis=-1)

    def again(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        units, i = carry
        return jnp.where(bad(units)[:, None], draw(jax.random.fold_in(key, i)), units), i + jnp.uint32(1)

    unfinished = lambda c: bad(c[0]).any() & (c[1] <= REJECTION_ROUNDS)  # noqa: E731
    return jax.lax.while_loop(unfinished, again, (first, jnp.uint32(1)))[0]


# -- the host -------------------------------------------------------------------------------------------------


def host_index(parameter: Parameter, unit: np.ndarray) -> np.ndarray:
    """Cells of unit coordinates, computed as `cell_index` does in the unit's dtype."""
    unit = np.clip(unit, 0, 1)
    if isinstance(parameter, Int) and parameter.log:
        a, b = (unit.dtype.type(e) for e in parameter.ends)
        at = np.round(np.exp(a + unit * (b - a))) - parameter.low
    else:
        at = np.floor(unit * unit.dtype.type(parameter.cells))
    return np.clip(at, 0, parameter.cells - 1).astype(np.int64)


def host_values(parameter: Parameter, unit: np.ndarray) -> Any:
    """Host value of a parameter's unit coordinates: a scalar, or nested lists / an array for shapes."""
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
        z = np.clip(z, parameter.low, parameter.high)
        return z.reshape(parameter.shape) if parameter.shape else float(z[0])
    index = host_index(parameter, unit)
    if isinstance(parameter, Int):
        values = index * parameter.step + parameter.low
        return values.reshape(parameter.shape) if parameter.shape else int(values[0])
    if not parameter.shape:
        return parameter.choices[int(index[0])]  # type: ignore[attr-defined]
    out = np.empty(index.shape, object)
    out[:] = [parameter.choices[int(i)] for i in index]  # type: ignore[attr-defined]
    return out.reshape(parameter.shape).tolist()


def host_active(space: Space, unit: np.ndarray) -> list[bool]:
    """Which parameters' conditions hold."""
    on: dict[int, bool] = {}
    for i in space.order:
        on[i] = all(
            on[p] and table[int(host_index(space.parameters[p], unit[space.slices[p]])[0])]
            for p, table in space.conditions[i]
        )
    return [on[i] for i in range(len(space.names))]


_ABSENT = object()


def _prune(tree: Any) -> Any:
    """Absent leaves leave their dict; in lists and tuples their place holds None."""
    if isinstance(tree, dict):
        return {k: _prune(v) for k, v in tree.items() if v is not _ABSENT}
    if isinstance(tree, (list, tuple)) and not hasattr(tree, "_fields"):
        return type(tree)(None if v is _ABSENT else _prune(v) for v in tree)
    return None if tree is _ABSENT else tree


def decode_host(space: Space, unit: np.ndarray) -> Any:
    """One row ``float[d]`` to host values."""
    if unit.shape != (space.dim,):
        raise invalid("unit", f"an array of shape ({space.dim},)", unit.shape, InvalidParameters)
    on = host_active(space, unit)
    leaves = [
        host_values(p, unit[where]) if state else _ABSENT
        for p, where, state in zip(space.parameters, space.slices, on)
    ]
    return _prune(jax.tree_util.tree_unflatten(space.treedef, leaves))


def flatten_host(space: Space, params: Any) -> dict[str, Any]:
    """Values by dotted name, from the tree's shape or from a flat mapping of dotted names."""
    if isinstance(params, dict) and params and all(k in space.names for k in params):
        return dict(params)
    names = set(space.names)
    out: dict[str, Any] = {}

    def walk(prefix: str, node: Any) -> None:
        if prefix in names or (not prefix and names == {"value"}):
            out[prefix or "value"] = node
        elif isinstance(node, dict):
            for key, child in node.items():
                walk(f"{prefix}.{key}" if prefix else str(key), child)
        elif hasattr(node, "_asdict"):
            walk(prefix, node._asdict())
        elif isinstance(node, (list, tuple)):
            for i, child in enumerate(node):
                walk(f"{prefix}.{i}" if prefix else str(i), child)
        else:
            raise invalid(prefix or "params", f"one of the parameters {sorted(names)}", node, InvalidParameters)

    walk("", params)
    return {k: v for k, v in out.items() if v is not None or _takes_none(space, k)}


def _takes_none(space: Space, name: str) -> bool:
    parameter = space.parameters[space.names.index(name)]
    return any(c is None for c in getattr(parameter, "choices", ()))


def encode_value(name: str, parameter: Parameter, value: Any) -> np.ndarray:
    """Host value to unit coordinates ``float64[size]``."""
    if isinstance(parameter, (Float, Int)):
        try:
            array = np.asarray(value, np.float64)
        except (TypeError, ValueError) as error:
            raise invalid(name, f"a number in [{parameter.low}, {parameter.high}]", value, InvalidParameters) from error
        if array.shape != parameter.shape:
            raise invalid(name, f"an array of shape {parameter.shape}", array.shape, InvalidParameters)
        if isinstance(value, bool) or not ((array >= parameter.low) & (array <= parameter.high)).all():
            raise invalid(name, f"a number in [{parameter.low}, {parameter.high}]", value, InvalidParameters)
        if isinstance(parameter, Float):
            return np.ravel(parameter.unit(array, np))
        at = (array - parameter.low) / parameter.step
        if (at != np.round(at)).any():
            wanted = f"an integer of the range {parameter.low}, {parameter.low + parameter.step}, ..."
            raise invalid(name, wanted, value, InvalidParameters)
        return np.ravel(_unit_of_cell(parameter, at, np))
    values = cell_values(parameter)
    keys = [value_key(v) for v in values]

    def find(item: Any) -> int:
        item = item.item() if isinstance(item, np.generic) else item
        if value_key(item) in keys:
            return keys.index(value_key(item))
        # JSON and NumPy lose int/float and tuple/list distinctions: an equal number is the same choice
        for i, v in enumerate(values):
            plain = isinstance(v, numbers.Number) and isinstance(item, numbers.Number)
            if plain and not isinstance(v, bool) and not isinstance(item, bool) and v == item:
                return i
            if isinstance(v, (tuple, list)) and isinstance(item, (tuple, list)) and list(v) == list(item):
                return i
        raise invalid(name, f"one of {values}", item, InvalidParameters)

    items = [value] if not parameter.shape else _ravel_items(name, parameter, value)
    return (np.array([find(i) for i in items], np.float64) + 0.5) / parameter.cells


def _ravel_items(name: str, parameter: Parameter, value: Any) -> list[Any]:
    items = [value]
    for size in parameter.shape:
        if any(not isinstance(i, (list, tuple, np.ndarray)) or len(i) != size for i in items):
            raise invalid(name, f"values of shape {parameter.shape}", value, InvalidParameters)
        items = [x for i in items for x in i]
    return items


def encode_host(space: Space, params: Any, fill: np.ndarray | None) -> np.ndarray:
    """Host values to ``float64[d]``."""
    given = flatten_host(space, params)
    unit = space.default_unit() if fill is None else np.array(fill, np.float64)
    for name, value in given.items():
        if name not in space.names:
            raise invalid(name, f"one of the parameters {list(space.names)}", value, InvalidParameters)
        at = space.names.index(name)
        unit[space.slices[at]] = encode_value(name, space.parameters[at], value)
    if fill is None:
        lacking = [n for n, on in zip(space.names, host_active(space, unit)) if on and n not in given]
        if lacking:
            raise invalid("params", f"values of {lacking}", sorted(given), InvalidParameters)
    return unit


def validate_host(space: Space, params: Any) -> None:
    """A complete and feasible point, or `InvalidParameters`."""
    unit = encode_host(space, params, None)
    given = flatten_host(space, params)
    extra = [n for n, on in zip(space.names, host_active(space, unit)) if not on and n in given]
    if extra:
        raise invalid(extra[0], "no value while its condition does not hold", given[extra[0]], InvalidParameters)
    if space.constraints:
        values = np.asarray(space.unit_constraint(jnp.asarray(unit, jnp.result_type(float))))
        if not (values >= -1e-6).all():
            raise invalid("params", "constraint values >= 0", values.tolist(), InvalidParameters)


def default_units(space: Space) -> np.ndarray:
    """``float64[d]`` of the declared defaults; the middle of the scale, snapped, for the others."""
    unit = np.full(space.dim, 0.5)
    for name, parameter, where in zip(space.names, space.parameters, space.slices):
        if parameter.default is not None:
            value = parameter.default
            if parameter.shape and np.ndim(value) == 0 and not isinstance(parameter, Ordinal):
                value = np.full(parameter.shape, value)
            unit[where] = encode_value(name, parameter, value)
        elif parameter.cells:
            unit[where] = _unit_of_cell(parameter, host_index(parameter, unit[where]).astype(np.float64), np)
    return unit


def static_groups(space: Space, units: np.ndarray) -> list[tuple[dict[str, Any], np.ndarray]]:
    """Row numbers by the values of the static parameters, in the order of the values."""
    named = [(n, p, w) for n, p, w in zip(space.names, space.parameters, space.slices) if p.static]
    if not named:
        return [({}, np.arange(len(units)))]
    canonical_units = np.asarray(space.canonical(jnp.asarray(units)))
    index = np.stack([host_index(p, canonical_units[:, w.start]) for _, p, w in named], axis=-1)
    groups = []
    for row in np.unique(index, axis=0):
        values = {n: cell_values(p)[int(i)] for (n, p, _), i in zip(named, row)}
        groups.append((values, np.flatnonzero((index == row).all(axis=-1))))
    return groups


# -- JSON of the tree -----------------------------------------------------------------------------------------


def plain_tree(tree: Any) -> Any:
    """Nested dicts, lists and tuples of leaf numbers as JSON; None if there is any other node."""
    if isinstance(tree, int):
        return tree
    if type(tree) is dict and all(isinstance(k, str) for k in tree):
        children: Any = {k: plain_tree(v) for k, v in tree.items()}
        return None if any(v is None for v in children.values()) else {"dict": children}
    if type(tree) in (list, tuple):
        children = [plain_tree(v) for v in tree]
        return None if any(v is None for v in children) else {type(tree).__name__: children}
    return None


def grow_tree(data: Any, leaves: list[Parameter]) -> Any:
    """The inverse of `plain_tree`."""
    if isinstance(data, int):
        return leaves[data]
    ((kind, children),) = data.items()
    if kind == "dict":
        return {k: grow_tree(v, leaves) for k, v in children.items()}
    return (list if kind == "list" else tuple)(grow_tree(v, leaves) for v in children)
