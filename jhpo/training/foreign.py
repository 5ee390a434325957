"""The user's objects as pytrees: functions, partials, trainables that are not pytrees or are another library's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jhpo.errors import invalid
from jhpo.training.values import Delegate, pack, release
from jhpo.values.structure import Form, Structured, structured


@functools.partial(structured, meta=["value"])
class Constant:
    """A hashable object as a static pytree node, compared by equality."""

    def __init__(self, value: object) -> None:
        try:
            hash(value)
        except TypeError as error:
            advice = (
                "a dataclass is hashable with @dataclasses.dataclass(frozen=True, eq=False), where its arrays become "
                "constants of the program, and a pytree with jax.tree_util.register_dataclass, where they are arguments"
            )
            raise invalid("objective", "a hashable object or a registered pytree", value, note=advice) from error
        self.value: Any = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


def is_pytree(value: object) -> bool:
    """Whether the object is a registered pytree, not a leaf."""
    return not jax.tree_util.treedef_is_leaf(jax.tree.structure(value))


def _is_array(value: object) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


@functools.partial(structured, data=["call", "arguments"], meta=["treedef"])
class Bound:
    """A `functools.partial` whose array arguments are leaves and whose other arguments are static."""

    def __init__(self, function: functools.partial[Any]) -> None:
        leaves, self.treedef = jax.tree.flatten((function.args, dict(function.keywords)))
        # jax.tree_util.Partial traces all its leaves
        traced = isinstance(function, jax.tree_util.Partial)
        self.call = Constant(function.func)
        self.arguments = [x if traced or _is_array(x) else Constant(x) for x in leaves]

    @property
    def bound(self) -> int:
        """Number of bound positional arguments."""
        return len(jax.tree.unflatten(self.treedef, self.arguments)[0])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves = [x.value if isinstance(x, Constant) else x for x in self.arguments]
        first, named = jax.tree.unflatten(self.treedef, leaves)
        return self.call.value(*first, *args, **{**named, **kwargs})


# a state may contain functions and strings besides arrays, as an equinox module does: they become static
_PACKING: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "init": lambda f: lambda hp, key: pack(f(hp, key)),
    "step": lambda f: lambda hp, state, t: pack(f(hp, release(state), t)),
    "evaluate": lambda f: lambda hp, state: f(hp, release(state)),
    "params": lambda f: lambda state: pack(f(release(state))),
    "with_params": lambda f: lambda state, params: pack(f(release(state), release(params))),
    "train_loss": lambda f: lambda hp, params: f(hp, release(params)),
}


class Wrapped(Delegate):
    """A user's object with all its attributes, but another pytree structure."""

    def _offered(self, name: str, value: Any) -> Any:
        return _PACKING[name](value) if name in _PACKING and callable(value) else value


@functools.partial(structured, meta=["_inner"])
class Opaque(Wrapped):
    """A trainable object that is not a pytree, as a static node."""


def in_this_trace(made: Any) -> Any:
    """A trainable that may hold traced arrays, and so be no static node: it is used inside of this trace alone."""
    return made if isinstance(made, (Structured, Wrapped)) else Opaque(made)


class _Packed(Form):
    """The structure of a pytree, including those of its leaves that are not arrays."""

    __slots__ = ()

    def _same(self, mine: object, theirs: object) -> bool:
        a: object = jax.tree.structure(pack(mine))
        return bool(a == jax.tree.structure(pack(theirs)))


@jax.tree_util.register_pytree_node_class
class Foreign(Wrapped):
    """A pytree of the user or of another library, whose structure is not kept alive by compiled programs."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner(*args, **kwargs)

    def tree_flatten(self) -> tuple[list[Any], _Packed]:
        """Its arrays, and itself as the structure."""
        return jax.tree.leaves(pack(self._inner)), _Packed(self._inner)

    @classmethod
    def tree_unflatten(cls, form: _Packed, leaves: Sequence[Any]) -> Foreign:
        """An object of the same structure with other leaves."""
        return cls(release(jax.tree.unflatten(jax.tree.structure(pack(form())), leaves)))
