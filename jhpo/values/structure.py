"""Static Python objects in the structure of pytrees, compared by content, or by identity and then held weakly.

JAX keeps the structure of the arguments of a program as long as the program. Inside `weakly`, structure refers to the
user's functions and objects weakly, so that `jhpo.process.lifetimes.Programs` can release programs when those are
collected.
"""

from __future__ import annotations

import contextlib
import itertools
import threading
import types
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

import jax

from jhpo.values.pytrees import Structure, Tree

T = TypeVar("T", bound=type)
_GONE = object()


class _Mode(threading.local):
    """The objects found inside `weakly`; None outside of it."""

    met: list[Any] | None = None


_mode = _Mode()


@contextlib.contextmanager
def weakly() -> Iterator[list[Any]]:
    """Context in which structure refers to its objects weakly; yields the list of them."""
    before, _mode.met = _mode.met, []
    try:
        yield _mode.met
    finally:
        _mode.met = before


class Held:
    """A static Python object in the structure of a pytree, equal to any other that holds an equal object.

    Inside `weakly` it holds the object weakly if that is compared by identity: a function, a class, an instance without
    an ``__eq__``. Objects with their own ``__eq__`` are values, and are held strongly.
    """

    __slots__ = ("_get", "_hash")

    def __init__(self, value: Hashable, unique: bool = False) -> None:
        self._hash = hash(value)
        unique = unique or isinstance(value, types.MethodType) or type(value).__eq__ is object.__eq__
        self._get = _reference(value) if unique else lambda: value

    def __call__(self) -> Any:
        """The object.

        Raises:
          ReferenceError: it has been collected.
        """
        value = self._value()
        if value is _GONE:
            raise ReferenceError("the object that this structure was made from is gone")
        return value

    def _value(self) -> Any:
        value = self._get()
        return _GONE if value is None and isinstance(self._get, weakref.ref) else value

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, Held) or self._hash != other._hash:
            return False
        mine, theirs = self._value(), other._value()
        return mine is not _GONE and theirs is not _GONE and (mine is theirs or self._same(mine, theirs))

    def _same(self, mine: object, theirs: object) -> bool:
        return type(mine) is type(theirs) and bool(mine == theirs)  # 1 equals neither 1.0 nor True here

    def __hash__(self) -> int:
        return self._hash


class Form(Held):
    """A static pytree, equal to any other with the same structure whatever the leaves; inside `weakly` held weakly."""

    __slots__ = ()

    def __init__(self, tree: Tree) -> None:
        self._hash, self._get = hash(jax.tree.structure(tree)), _reference(tree)

    def _same(self, mine: object, theirs: object) -> bool:
        a: Structure = jax.tree.structure(mine)
        return bool(a == jax.tree.structure(theirs))


def _reference(value: Any) -> Callable[[], Any]:
    """Inside `weakly` a weak reference if the object supports one, otherwise a strong one."""
    if _mode.met is not None:
        method = isinstance(value, types.MethodType)
        with contextlib.suppress(TypeError):
            reference = weakref.WeakMethod(value) if method else weakref.ref(value)
            _mode.met.append(value.__self__ if method else value)
            return reference
    return lambda: value


def hold(value: Hashable) -> Structure:
    """A `Held`, or for a tuple a tuple of them."""
    return tuple(hold(v) for v in value) if type(value) is tuple else Held(value)


def held(structure: Structure) -> Any:
    """The inverse of `hold`."""
    return tuple(held(s) for s in structure) if isinstance(structure, tuple) else structure()


class Structured:
    """Base of pytree classes that are registered by `structured`."""


def structured(cls: T, data: Sequence[str] = (), meta: Sequence[str] = ()) -> T:
    """Registers a class as a pytree; ``data`` attributes are children, ``meta`` attributes are static, see `Held`."""

    def static(node: object) -> Structure:
        return tuple(hold(getattr(node, name)) for name in meta)

    def rebuilt(structure: Structure, children: Iterable[Any]) -> Any:
        return _made(cls, zip(data, children), zip(meta, map(held, structure)))

    return _registered(cls, data, static, rebuilt)


def declared(cls: T, data: Sequence[str] = (), meta: Sequence[str] = ()) -> T:
    """Registers a dataclass as a pytree, like `jax.tree_util.register_dataclass`, but its structure names its class.

    With JAX's (0.10 to 0.12) structures of two classes with equal static fields are equal, with other hashes. `jax.jit`
    compares hashes by a few bits, so that now and then it runs the program of random search for a Sobol search. What a
    tree holds in place of numbers while JAX works on it is not checked, as ``__init__`` is not called.
    """

    def static(node: object) -> Structure:
        return tuple(getattr(node, name) for name in meta)

    def rebuilt(structure: Structure, children: Iterable[Any]) -> Any:
        return _made(cls, zip(data, children), zip(meta, structure))

    return _registered(cls, data, static, rebuilt)


def _made(cls: type, *attributes: Iterable[tuple[str, Any]]) -> Any:
    """An instance with these attributes, made without its ``__init__``."""
    node: Any = object.__new__(cls)
    for name, value in itertools.chain(*attributes):
        object.__setattr__(node, name, value)
    return node


def _registered(
    cls: T,
    data: Sequence[str],
    static: Callable[[object], Structure],
    rebuilt: Callable[[Structure, Iterable[Any]], Any],
) -> T:
    keys = [jax.tree_util.GetAttrKey(name) for name in data]

    def flatten(node: object) -> tuple[list[Any], Structure]:
        return [getattr(node, name) for name in data], static(node)

    def flatten_with_keys(node: object) -> tuple[list[Any], Structure]:
        children, structure = flatten(node)
        return list(zip(keys, children)), structure

    jax.tree_util.register_pytree_with_keys(cls, flatten_with_keys, rebuilt, flatten)
    return cls
