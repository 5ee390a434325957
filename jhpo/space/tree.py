"""The tree that a space is made from, read: names, parameters, conditions, constraint functions."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax

from jhpo.errors import InvalidSpace, invalid
from jhpo.space.declared import Named, value_key
from jhpo.space.layout import Condition, Constraint, Layout
from jhpo.space.listed import cell_values
from jhpo.space.parameters import Float, Parameter
from jhpo.values.pytrees import HP, Structure


class Leaves(NamedTuple):
    """The leaves of a tree, in its order."""

    names: tuple[str, ...]  # dotted
    parameters: tuple[Parameter, ...]
    treedef: Structure
    plainly: tuple[bool, ...]  # whether dicts, lists and tuples alone lead to it, which can lack what is inactive


def read_tree(tree: HP) -> Leaves:
    """The parameters of a tree and their names.

    Raises:
      InvalidSpace: no parameter, a leaf that is not one, one that is not complete, or two of the same name.
    """
    try:
        ends = lambda x: isinstance(x, (Parameter, Layout))  # noqa: E731
        pairs, treedef = jax.tree_util.tree_flatten_with_path(tree, is_leaf=ends)
    except (TypeError, ValueError) as unsorted:  # pytrees sort the keys of dicts
        text = str(unsorted).split("\n")[0]
        raise InvalidSpace(
            f"space: expected dicts whose keys are all of one type, as text is, got {text}"
        ) from unsorted
    if not pairs:
        raise invalid("space", "at least one parameter", tree, InvalidSpace)
    names = tuple(path_name(path) for path, _ in pairs)
    for name, (path, leaf) in zip(names, pairs):
        if not isinstance(leaf, Parameter):
            note = as_parameter(leaf, listed=bool(path) and isinstance(path[-1], jax.tree_util.SequenceKey))
            raise invalid(name, "a parameter (Float, Int, Choice, Ordinal)", leaf, InvalidSpace, note=note)
        error = leaf.unresolved()
        if error is not None:
            raise InvalidSpace(f"{name}: {error}")
    if len(set(names)) < len(names):
        raise invalid("space", "distinct dotted names", names, InvalidSpace)
    return Leaves(names, tuple(leaf for _, leaf in pairs), treedef, tuple(_plainly(tree, path) for path, _ in pairs))


def as_parameter(value: object, listed: bool = False) -> str:
    """How to write as a parameter what other libraries take in a space; "" where that is not known.

    Args:
      value: which is no parameter.
      listed: it is an entry of a list.

    >>> as_parameter(0.1, listed=True)
    'values to choose from are jhpo.Choice([...]), a range is jhpo.Float(low, high) or jhpo.Int(low, high)'
    """
    if isinstance(value, Layout):
        return "a part of a space is a dict of its parameters, and their constraints are those of the whole"
    if hasattr(value, "rvs"):  # a distribution of SciPy, as RandomizedSearchCV takes them
        return "loguniform(a, b) is jhpo.Float(a, b, log=True), randint(a, b) is jhpo.Int(a, b - 1)"
    if not listed:
        return ""
    return "values to choose from are jhpo.Choice([...]), a range is jhpo.Float(low, high) or jhpo.Int(low, high)"


def _plainly(node: Any, path: tuple[Any, ...]) -> bool:
    for entry in path:
        if not isinstance(node, (dict, list, tuple)) or hasattr(node, "_fields"):
            return False
        node = node[entry.key if isinstance(node, dict) else entry.idx]
    return True


def path_name(path: tuple[Any, ...]) -> str:
    """Dotted name of a pytree path."""
    parts = []
    for entry in path:
        for attribute in ("key", "name", "idx"):
            if hasattr(entry, attribute):
                parts.append(str(getattr(entry, attribute)))
                break
    return ".".join(parts) if parts else "value"


def _find_parent(names: tuple[str, ...], child: str, parent: str) -> int:
    """Index of a parent, searched among the siblings of the child first, then by its full name."""
    scope = child.rpartition(".")[0]
    for candidate in (f"{scope}.{parent}" if scope else parent, parent):
        if candidate in names:
            return names.index(candidate)
    raise invalid(child, f"a condition on one of {list(names)}", parent, InvalidSpace)


def resolve_conditions(names: tuple[str, ...], parameters: tuple[Parameter, ...]) -> tuple[tuple[Condition, ...], ...]:
    """The conditions of each parameter, with parents as indices and allowed values as boolean tables."""
    out = []
    for name, parameter in zip(names, parameters):
        mine = []
        for parent_name, allowed in parameter.when or ():
            at = _find_parent(names, name, parent_name)
            parent = parameters[at]
            if isinstance(parent, Float) or parent.shape:
                raise invalid(name, "a condition on a single discrete parameter", parent_name, InvalidSpace)
            keys = [value_key(v) for v in cell_values(parent)]
            wanted = [keys[v.index] if isinstance(v, Named) and v.index is not None else value_key(v) for v in allowed]
            known, chosen = set(keys), set(wanted)  # an integer may have a million values
            unknown = [v for v, k in zip(allowed, wanted) if k not in known]
            if unknown or not allowed:
                raise invalid(f"{name}.when", f"values that {names[at]!r} can take", unknown or allowed, InvalidSpace)
            mine.append((at, tuple(k in chosen for k in keys)))
        out.append(tuple(mine))
    return tuple(out)


def condition_order(names: tuple[str, ...], conditions: tuple[tuple[Condition, ...], ...]) -> tuple[int, ...]:
    """Indices of the parameters, parents before children."""
    order: list[int] = []
    left = list(range(len(names)))
    while left:
        ready = [i for i in left if all(parent in order for parent, _ in conditions[i])]
        if not ready:
            raise invalid("when", "conditions without a cycle", [names[i] for i in left], InvalidSpace)
        order += ready
        left = [i for i in left if i not in ready]
    return tuple(order)


def checked_constraints(constraints: object) -> tuple[Constraint, ...]:
    """The constraint functions as a tuple; raises `InvalidSpace` unless each takes one argument."""
    if not isinstance(constraints, Sequence) or not all(callable(c) for c in constraints):
        raise invalid("constraints", "a list of functions of the hyperparameters", constraints, InvalidSpace)
    for function in constraints:
        try:
            signature = inspect.signature(function)
        except ValueError:
            continue  # a builtin without a signature
        try:
            signature.bind(None)
        except TypeError as error:
            expected = "functions of one argument, the tree of all hyperparameters"
            raise invalid("constraints", expected, f"one of {signature}", InvalidSpace) from error
    return tuple(constraints)
