"""Objects of the user's as pytrees: functions, partials, trainables that are no pytrees or another library's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

from jhpo.errors import invalid
from jhpo.structure import Form, structured
from jhpo.training.values import Delegate, pack, release


@functools.partial(structured, meta=["value"])
class Constant:
    """A hashable object as structure of a pytree: compared by equality, compiled into the program."""

    def __init__(self, value: object) -> None:
        try:
            hash(value)
        except TypeError as error:
            raise invalid("objective", "a hashable object or a registered pytree", value) from error
        self.value: Any = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Constant) and self.value == other.value

    def __hash__(self) -> int:
        return hash(self.value)


def is_pytree(value: object) -> bool:
    """The object has a structure that JAX knows: it is more than a single leaf."""
    return not jax.tree_util.treedef_is_leaf(jax.tree.structure(value))


def _is_array(value: object) -> bool:
    return isinstance(value, (jax.Array, np.ndarray))


@functools.partial(structured, data=["call", "arguments"], meta=["treedef"])
class Bound:
    """A `functools.partial` whose array arguments are leaves and whose other arguments are structure."""

    def __init__(self, function: functools.partial[Any]) -> None:
        leaves, self.treedef = jax.tree.flatten((function.args, dict(function.keywords)))
        # the leaves of jax.tree_util.Partial are its own choice
        traced = isinstance(function, jax.tree_util.Partial)
        self.call = Constant(function.func)
        self.arguments = [x if traced or _is_array(x) else Constant(x) for x in leaves]

    @property
    def bound(self) -> int:
        """Number of positional arguments that have a value."""
        return len(jax.tree.unflatten(self.treedef, self.arguments)[0])

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        leaves = [x.value if isinstance(x, Constant) else x for x in self.arguments]
        first, named = jax.tree.unflatten(self.treedef, leaves)
        return self.call.value(*first, *args, **{**named, **kwargs})


# a state may hold functions and names beside its arrays (an equinox module does): programs carry them as structure
_PACKING: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "init": lambda f: lambda hp, key: pack(f(hp, key)),
    "step": lambda f: lambda hp, state, t: pack(f(hp, release(state), t)),
    "evaluate": lambda f: lambda hp, state: f(hp, release(state)),
    "params": lambda f: lambda state: pack(f(release(state))),
    "with_params": lambda f: lambda state, params: pack(f(release(state), release(params))),
    "train_loss": lambda f: lambda hp, params: f(hp, release(params)),
}


class Wrapped(Delegate):
    """An object of the user's with all that it offers, and another way of being a pytree."""

    def _offered(self, name: str, value: Any) -> Any:
        return _PACKING[name](value) if name in _PACKING and callable(value) else value


@functools.partial(structured, meta=["_inner"])
class Opaque(Wrapped):
    """A trainable object that is no pytree, as structure of the compiled program."""


class _Packed(Form):
    """A pytree as structure, together with those of its leaves that are no arrays."""

    __slots__ = ()

    def _same(self, mine: object, theirs: object) -> bool:
        a: object = jax.tree.structure(pack(mine))
        return bool(a == jax.tree.structure(pack(theirs)))


@jax.tree_util.register_pytree_node_class
class Foreign(Wrapped):
    """A pytree of another library or of the user's own, whose structure a compiled program does not keep alive."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._inner(*args, **kwargs)

    def tree_flatten(self) -> tuple[list[Any], _Packed]:
        """Its arrays, and itself as structure."""
        return jax.tree.leaves(pack(self._inner)), _Packed(self._inner)

    @classmethod
    def tree_unflatten(cls, form: _Packed, leaves: Sequence[Any]) -> Foreign:
        """Another of the same structure."""
        return cls(release(jax.tree.unflatten(jax.tree.structure(pack(form())), leaves)))
