"""How a strategy is declared; its methods run without JAX's debugging flags, and their errors name them."""

from __future__ import annotations

import copy
import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import (
    LIBRARIES,
    InvalidArgument,
    JhpoError,
    check_flag,
    check_number,
    line_of,
    of_searches,
    warn_caller,
)
from jhpo.kernels.internals import is_traced
from jhpo.keys import check_key
from jhpo.process.switches import without_switches
from jhpo.space.serialize import known_to_flax
from jhpo.strategies.exchanged import check_asked, check_result, check_state
from jhpo.values.structure import declared
from jhpo.words.advice import advised

S = TypeVar("S")
T = TypeVar("T", bound=type)


def static_field(default: Any = dataclasses.MISSING) -> Any:
    """A static field of a strategy (a size, a variant), as opposed to a coefficient."""
    return dataclasses.field(default=default, metadata={"static": True})


_ARGUMENTS = {"init": 2, "ask": 2, "tell": 3, "absorb": 3}  # beside self, of methods whose arguments are checked
# Methods to which JAX's debugging flags do not apply, as infinity in a state means "no value yet".
_PROGRAMS = frozenset(("init", "ask", "tell", "absorb", "expect", "withdraw", "advance", "grow"))


@dataclass_transform(frozen_default=True, field_specifiers=(static_field,))
def strategy(cls: T) -> T:
    """Class decorator for strategies: a frozen dataclass and pytree whose `static_field`s are static, others leaves.

    Equal instances share one compiled program, and coefficients can be traced, vmapped and differentiated.
    """
    after = getattr(cls, "__post_init__", None)

    def checked_kinds(self: Any) -> None:
        _check_kinds(self)
        if after is not None:
            after(self)

    cls.__post_init__ = checked_kinds  # type: ignore[attr-defined]
    made: Any = advised(dataclasses.dataclass(frozen=True)(cls))
    for name in _PROGRAMS & vars(made).keys():
        setattr(made, name, checked(vars(made)[name], name))
    fields = dataclasses.fields(made)
    data = [f.name for f in fields if not f.metadata.get("static")]
    meta = [f.name for f in fields if f.metadata.get("static")]
    return declared(made, data, meta)


def _check_kinds(strategy: Any) -> None:
    """Raises `InvalidArgument` for an option that is neither a number nor, where it may be, None; or no truth value."""
    for field in dataclasses.fields(strategy):
        kinds, value = [kind.strip() for kind in str(field.type).split("|")], getattr(strategy, field.name)
        if {"Number", "float"} & set(kinds) and not (value is None and "None" in kinds):
            check_number(field.name, value)
        if kinds == ["bool"]:
            check_flag(field.name, value)


def warn_of_unused(strategy: Any, where: str, *names: str) -> None:
    """A warning about options other than their defaults that have no effect ``where``; traced ones are passed over."""
    given = [(f, getattr(strategy, f.name)) for f in dataclasses.fields(strategy) if f.name in names]
    if unused := [f"{f.name}={v!r}" for f, v in given if not is_traced(v) and np.any(v != f.default)]:
        warn_caller(f"{type(strategy).__name__}: {', '.join(unused)}: no effect {where}")


def altered(strategy: S, **fields: Any) -> S:
    """The strategy with other values of some fields, which the caller has checked; it does not warn a second time."""
    other = copy.copy(strategy)
    for name, value in fields.items():
        object.__setattr__(other, name, value)
    return other


def checked(method: Callable[..., Any], name: str) -> Callable[..., Any]:
    """A method of a strategy whose exceptions say that they are the strategy's; of `ask` the points are checked.

    >>> class Four:
    ...     population = 4
    ...     ask = checked(lambda self, state, key: (jnp.zeros((3, 2)), state), "ask")
    >>> Four().ask(None, jax.random.key(0))
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: strategy: expected float[4, d] and a state from Four.ask, got float32[3, 2]
    """
    plain = without_switches(method)
    names = list(inspect.signature(method).parameters)[1:]

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        what = f"{type(self).__name__}.{name}"
        args, kwargs = _of_jax((args, kwargs))
        given = dict(zip(names, args, strict=False)) | kwargs
        usual = len(names) == _ARGUMENTS.get(name) and given.keys() == set(names)
        if name in ("tell", "absorb") and usual:
            check_result(*(given[each] for each in names[1:]))
        if name in ("init", "ask") and usual:
            check_key(given[names[1]], "key")
        try:
            out = plain(self, *args, **kwargs)
        except (JhpoError, jax.errors.JaxRuntimeError, MemoryError):
            raise
        except Exception as error:
            text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:500]
            place = line_of(error, (*LIBRARIES, "jhpo"))
            raise InvalidArgument(
                f"strategy: expected a {what} that JAX can trace, got {text}{place}{of_searches(error)}"
            ) from error
        if getattr(type(self), name, None) is wrapper:  # not what a subclass makes something else of
            if name == "ask":
                check_asked(self, out)
            if name in ("ask", "tell") and usual:
                check_state(what, given[names[0]], out[1] if name == "ask" else out)
        if name == "init":
            known_to_flax()  # what the state holds, a space for example
        return unshared(out)

    return wrapper


@without_switches
def _of_jax(tree: Any) -> Any:
    """The tree with JAX's arrays for NumPy's, as in ``jit``; checkpoints and host functions return those."""
    return jax.tree.map(lambda leaf: jnp.asarray(leaf) if isinstance(leaf, np.ndarray | np.generic) else leaf, tree)


@without_switches
def unshared(tree: Any) -> Any:
    """The tree in which no array stands twice, so that a program can be given its memory (``donate_argnums``).

    Tracers stay as they are: what a program returns has memory of its own.

    >>> zero = jnp.zeros(())
    >>> one, other = unshared((zero, zero))
    >>> one is zero, other is zero
    (True, False)
    """
    leaves, structure = jax.tree.flatten(tree)
    seen: set[int] = set()
    again = []
    for place, leaf in enumerate(leaves):
        if isinstance(leaf, jax.Array) and not is_traced(leaf):
            again += [place] if id(leaf) in seen else []
            seen.add(id(leaf))
    for place in again:
        leaves[place] = jnp.array(leaves[place])
    return jax.tree.unflatten(structure, leaves) if again else tree
