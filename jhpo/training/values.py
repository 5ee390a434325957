"""Hyperparameters that are not numbers (a string, a function, a depth) as static nodes of a pytree."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from jhpo.errors import invalid
from jhpo.values.pytrees import HP, State
from jhpo.values.structure import Structured, structured

_TAKE_HP = ("init", "step", "evaluate", "train_loss")


@functools.partial(structured, meta=["value"])
@dataclasses.dataclass(frozen=True)
class Value:
    """A static Python value in the place of a leaf."""

    value: Hashable


def is_integer(x: object) -> bool:
    """Whether it is an integer or a bool of Python or NumPy, which may be a length or a flag in the user's code."""
    return isinstance(x, (bool, int, np.bool_, np.integer))


def is_number(x: object) -> bool:
    """Whether it is a number or an array, not of text; bools are not numbers here, as they have no derivative."""
    if isinstance(x, (bool, np.bool_)) or getattr(getattr(x, "dtype", None), "kind", "") in ("U", "S"):
        return False
    return isinstance(x, (int, float, complex, np.generic, np.ndarray, jax.Array))


def hold(hp: HP, chosen: Callable[[Any], bool], what: str = "hp") -> HP:
    """The tree with the chosen leaves made static.

    Raises:
      InvalidArgument: a chosen leaf cannot be hashed.
    """

    def leaf(path: jax.tree_util.KeyPath, x: object) -> object:
        if not chosen(x):
            return x
        x = x.item() if isinstance(x, np.generic) else x
        try:
            hash(x)
        except TypeError as error:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise invalid(f"{what}: {name}", "a number, an array, or a hashable value", x) from error
        return Value(x)

    return jax.tree_util.tree_map_with_path(leaf, hp)


def pack(state: State) -> State:
    """The tree with all leaves but arrays and numbers (functions, strings) made static."""
    return hold(state, lambda x: not (is_number(x) or is_integer(x)), "state")


@functools.partial(structured, data=["state", "more"])
@dataclasses.dataclass(frozen=True)
class Carried:
    """A state with what a training carries beside it and nobody else needs: `release` gives the state."""

    state: State
    more: Any


def release(hp: HP) -> HP:
    """The inverse of `hold`: the tree with static values as leaves again, as the user's functions expect them.

    >>> release({"lr": 0.1, "opt": hold("adam", lambda x: True)})
    {'lr': 0.1, 'opt': 'adam'}
    """
    if isinstance(hp, Carried):
        return release(hp.state)
    return jax.tree.map(lambda x: x.value if _is_value(x) else x, hp, is_leaf=_is_value)


def without(hp: HP) -> HP:
    """A gradient's tree with 0 for static numbers and None for other static values."""

    def leaf(x: object) -> object:
        if not isinstance(x, Value):
            return x
        return jax.numpy.zeros(()) if isinstance(x.value, (int, float)) else None

    return jax.tree.map(leaf, hp, is_leaf=_is_value)


def _is_value(x: object) -> bool:
    return isinstance(x, Value)


class Delegate:
    """A wrapper with all attributes of an object, some of them transformed."""

    def __init__(self, inner: object) -> None:
        self._inner: Any = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_inner":  # missing while an instance is being copied
            raise AttributeError(name)
        return self._offered(name, getattr(self._inner, name))

    def _offered(self, name: str, value: Any) -> Any:
        """The attribute ``name`` of the wrapper, from that of the inner object."""
        return value


@functools.partial(structured, data=["_inner"])
class Releasing(Delegate, Structured):
    """A trainable of hyperparameters with static nodes, whose functions get the values themselves."""

    def _offered(self, name: str, value: Any) -> Any:
        if name in _TAKE_HP or (name == "steps" and callable(value)):
            return lambda hp, *args: value(release(hp), *args)
        return value
