"""Hyperparameters that are no numbers (a name, a function, a depth): structure of a program, not leaves of it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Hashable
from typing import Any

import jax
import numpy as np

from jhpo.errors import invalid
from jhpo.pytrees import HP, State
from jhpo.structure import Structured, structured

_TAKE_HP = ("init", "step", "evaluate", "train_loss")


@functools.partial(structured, meta=["value"])
@dataclasses.dataclass(frozen=True)
class Value:
    """A Python value in the place of a leaf."""

    value: Hashable


def is_integer(x: object) -> bool:
    """An integer or a truth value of Python or NumPy, which may be a length or a switch in the user's code."""
    return isinstance(x, (bool, int, np.bool_, np.integer))


def is_number(x: object) -> bool:
    """A number or an array; True and False are none: nobody asks for their derivative."""
    if isinstance(x, (bool, np.bool_)):
        return False
    return isinstance(x, (int, float, complex, np.generic, np.ndarray, jax.Array))


def hold(hp: HP, chosen: Callable[[Any], bool], what: str = "hp") -> HP:
    """The tree with its chosen leaves as structure.

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
    """A tree whose leaves are arrays and numbers, everything else in it (functions, names) held."""
    return hold(state, lambda x: not (is_number(x) or is_integer(x)), "state")


def release(hp: HP) -> HP:
    """The tree with the values that were held in it, as the user's functions expect it.

    >>> release({"lr": 0.1, "opt": hold("adam", lambda x: True)})
    {'lr': 0.1, 'opt': 'adam'}
    """
    return jax.tree.map(lambda x: x.value if _is_value(x) else x, hp, is_leaf=_is_value)


def without(hp: HP) -> HP:
    """The tree with 0 for numbers that were held, and None for everything else that was: a gradient's parts."""

    def leaf(x: object) -> object:
        if not isinstance(x, Value):
            return x
        return jax.numpy.zeros(()) if isinstance(x.value, (int, float)) else None

    return jax.tree.map(leaf, hp, is_leaf=_is_value)


def _is_value(x: object) -> bool:
    return isinstance(x, Value)


class Delegate:
    """An object that offers all that another one offers, some of it in another form."""

    def __init__(self, inner: object) -> None:
        self._inner: Any = inner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_inner":  # not there while an instance is copied
            raise AttributeError(name)
        return self._offered(name, getattr(self._inner, name))

    def _offered(self, name: str, value: Any) -> Any:
        """What stands for an attribute of the inner object."""
        return value


@functools.partial(structured, data=["_inner"])
class Releasing(Delegate, Structured):
    """A trainable of hyperparameters some of which are held: its functions see the values themselves."""

    def _offered(self, name: str, value: Any) -> Any:
        if name in _TAKE_HP or (name == "steps" and callable(value)):
            return lambda hp, *args: value(release(hp), *args)
        return value
