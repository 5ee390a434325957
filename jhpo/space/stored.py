"""The JSON form of a space, and the differences between two spaces."""

from __future__ import annotations

import json
from typing import Any

import jax

from jhpo.errors import InvalidSpace, invalid, shown
from jhpo.space.declared import from_plain, stable_name, to_plain, value_key
from jhpo.space.layout import Layout
from jhpo.space.listed import Choice, Ordinal, cell_values
from jhpo.space.parameters import Float, Int, Parameter
from jhpo.values.pytrees import Tree

Json = Any  # a result of `json.loads`
VERSION = 1

KINDS: dict[str, type[Parameter]] = {"Float": Float, "Int": Int, "Choice": Choice, "Ordinal": Ordinal}


def parameter_from_json(data: dict[str, Any], named: bool = False) -> Parameter:
    """The parameter from the result of `Parameter.to_json`.

    Args:
      data: from `to_json`.
      named: represent choices that are not plain values by placeholders with their name.

    Raises:
      InvalidSpace: an unknown type, or a choice that is not a plain value.

    >>> parameter_from_json(Int(1, 9, log=True).to_json()).key == Int(1, 9, log=True).key
    True
    """
    kind = data.get("type")
    if kind not in KINDS:
        raise invalid("type", f"one of {sorted(KINDS)}", kind, InvalidSpace)
    fields = {k: from_plain(v, named) for k, v in data.items() if k != "type"}
    if "when" in fields:
        fields["when"] = {parent: list(values) for parent, values in fields["when"]}
    return KINDS[kind](**fields)


def space_to_json(space: Layout) -> str:
    """See `Space.to_json`."""
    parameters = [
        {"name": n, **p.to_json(), **_when(space, i)} for i, (n, p) in enumerate(zip(space.names, space.parameters))
    ]
    tree = jax.tree_util.tree_unflatten(space.treedef, list(range(len(space.names))))
    constraints = [getattr(c, "__qualname__", type(c).__name__) for c in space.constraints]
    data = {"version": VERSION, "parameters": parameters, "tree": _plain_tree(tree), "constraints": constraints}
    return json.dumps(data, sort_keys=True)


def earlier_json(text: str) -> str:
    """The text of `space_to_json` as version 0.1.0 wrote it, which left out defaults of False and of ()."""
    data = json.loads(text)
    for parameter in data["parameters"]:
        if parameter.get("default") is False or parameter.get("default") == {"tuple": []}:
            del parameter["default"]
    return json.dumps(data, sort_keys=True)


def tree_from_json(text: str, constraints: int, named: bool) -> Tree:
    """The tree of parameters of a stored space, see `Space.from_json`.

    Args:
      text: from `space_to_json`.
      constraints: number of constraint functions that are given.
      named: see `parameter_from_json`.
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise invalid("text", "the JSON of a space", text[:80], InvalidSpace) from error
    if not isinstance(data, dict) or data.get("version") != VERSION:
        raise invalid("text", f"the JSON of a space, version {VERSION}", str(data)[:80], InvalidSpace)
    if data["tree"] is None:
        expected = "dicts, lists and tuples (give the space itself for other pytrees)"
        raise invalid("tree", expected, None, InvalidSpace)
    if len(data["constraints"]) != constraints:
        raise invalid("constraints", f"the functions {data['constraints']}", f"{constraints} functions", InvalidSpace)
    leaves = [parameter_from_json({k: v for k, v in p.items() if k != "name"}, named) for p in data["parameters"]]
    return _grow_tree(data["tree"], leaves)


def differences(before: Layout, after: Layout) -> list[str]:
    """See `Space.diff`."""
    mine, theirs = ({n: p.to_json() for n, p in zip(s.names, s.parameters)} for s in (before, after))
    out = [f"{n}: removed" for n in mine if n not in theirs] + [f"{n}: added" for n in theirs if n not in mine]
    for name in (n for n in mine if n in theirs and mine[n] != theirs[n]):
        fields = sorted(set(mine[name]) | set(theirs[name]))
        changes = [f for f in fields if mine[name].get(f) != theirs[name].get(f)]
        out += [f"{name}: {f} was {_written(f, mine[name])}, now {_written(f, theirs[name])}" for f in changes]
    if len(before.constraints) != len(after.constraints):
        out.append(f"constraints: were {len(before.constraints)}, now {len(after.constraints)}")
    return out


def _written(field: str, data: dict[str, Any]) -> str:
    """A field of a stored parameter as its declaration has it."""
    if field == "type" or field not in data:
        return str(data.get(field, "not given"))
    value = from_plain(data[field], named=True)
    if field == "when":
        value = {parent: allowed[0] if len(allowed) == 1 else list(allowed) for parent, allowed in value}
    return shown(list(value) if field == "choices" else value)


def _when(space: Layout, row: int) -> Json:
    """The conditions of a parameter on choices that JSON cannot hold, by their place in the list: {} without any."""
    when = space.parameters[row].when or ()
    out, opaque = [], False
    for (parent, allowed), (at, _) in zip(when, space.conditions[row]):
        keys = [value_key(v) for v in cell_values(space.parameters[at])]
        values = [to_plain(v) for v in allowed]
        for k, value in enumerate(allowed):
            if '"opaque"' in json.dumps(values[k]):
                opaque = True
                values[k] = {"opaque": stable_name(value), "index": keys.index(value_key(value))}
        out.append({"tuple": [parent, {"tuple": values}]})
    return {"when": {"tuple": out}} if opaque else {}


def _plain_tree(tree: Tree) -> Json:
    """Nested dicts, lists and tuples of leaf numbers as JSON; None if there is any other node."""
    if isinstance(tree, int):
        return tree
    if type(tree) is dict and all(isinstance(k, str) for k in tree):
        children: Json = {k: _plain_tree(v) for k, v in tree.items()}
        return None if any(v is None for v in children.values()) else {"dict": children}
    if type(tree) in (list, tuple):
        children = [_plain_tree(v) for v in tree]
        return None if any(v is None for v in children) else {type(tree).__name__: children}
    return None


def _grow_tree(data: Json, leaves: list[Parameter]) -> Tree:
    """The inverse of `_plain_tree`."""
    if isinstance(data, int):
        return leaves[data]
    ((kind, children),) = data.items()
    if kind == "dict":
        return {k: _grow_tree(v, leaves) for k, v in children.items()}
    return (list if kind == "list" else tuple)(_grow_tree(v, leaves) for v in children)
