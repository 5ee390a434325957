"""Models that are a pair of plain functions."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax

from jhpo.errors import invalid
from jhpo.training.arguments import signature_of
from jhpo.training.makers import KEYS
from jhpo.training.trainable import HP
from jhpo.values.pytrees import Params
from jhpo.values.structure import structured

_INIT = ("hp",)  # what the functions may take by name
_APPLY = ("hp", "key", "train")


@functools.partial(structured, meta=["make", "call"])
@dataclasses.dataclass(frozen=True)
class FunctionModel:
    """``init(key, x) -> params`` and ``apply(params, x) -> outputs``; see `pair_model` for what else they may take."""

    make: Callable[..., Params]
    call: Callable[..., Any]

    def init(self, hp: HP, key: jax.Array, x: jax.Array) -> tuple[Params, Any]:
        """See `Model.init`."""
        return self.make(*(key, x)[: _positions(self.make, _INIT)], **_named(self.make, _INIT, hp=hp)), {}

    def apply(
        self, hp: HP, params: Params, extra: Any, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Any]:
        """See `Model.apply`."""
        return self.call(params, x, **_named(self.call, _APPLY, hp=hp, key=key, train=train)), extra

    def trained(self, hp: HP, params: Params, extra: Any) -> Callable[[jax.Array], jax.Array]:
        """``apply`` with the trained parameters."""
        named = _named(self.call, _APPLY, hp=hp, key=jax.random.key(0), train=False)
        return functools.partial(self.call, params, **named)


def pair_model(init: Callable[..., Any], apply: Callable[..., Any]) -> FunctionModel:
    """The model of ``init(key, x)``, or ``init(key)``, and ``apply(params, x)``.

    By their names `init` may also take ``hp``, and `apply` ``hp``, ``key`` and ``train``.

    Raises:
        InvalidArgument: a function with other arguments.
    """
    for name, function, first, named in (("init", init, "key", _INIT), ("apply", apply, "params", _APPLY)):
        signature = signature_of(function)
        if signature is None:
            continue
        places = range(max(_positions(function, named), 1 if name == "init" else 2))
        if _swapped(name, signature) or not _binds(signature, places, _named(function, named)):
            more = " and ".join((", ".join(named[:-1]), named[-1])) if len(named) > 1 else named[0]
            expected = f"a pair of functions (init, apply) with {name}({first}, x), which may also take {more} by name"
            raise invalid("model", expected, f"{name}{signature}")
    return FunctionModel(init, apply)


def _swapped(name: str, signature: inspect.Signature) -> bool:
    """Whether the second argument has the name of the first: ``init(x, key)``, ``apply(x, params)``."""
    second = [p.name for p in signature.parameters.values() if p.kind is not p.KEYWORD_ONLY][1:2]
    return bool(second) and second[0] in (KEYS if name == "init" else ("params", "variables"))


def _binds(signature: inspect.Signature, places: range, named: dict[str, Any]) -> bool:
    """Whether a function can be called with so many positional and these named arguments."""
    try:
        signature.bind(*places, **named)
    except TypeError:
        return False
    return True


def _positions(function: Callable[..., Any], named: tuple[str, ...]) -> int:
    """How many of the two first arguments a function takes."""
    signature = signature_of(function)
    if signature is None:
        return 2
    kinds = [p.kind for p in signature.parameters.values() if p.name not in named or p.kind is p.POSITIONAL_ONLY]
    if inspect.Parameter.VAR_POSITIONAL in kinds:
        return 2
    places = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return min(sum(kind in places for kind in kinds), 2)


def _named(function: Callable[..., Any], names: tuple[str, ...], **given: Any) -> dict[str, Any]:
    """What a function takes by name, of what is given (None otherwise); not what comes first, a key called so."""
    signature = signature_of(function)
    taken = [] if signature is None else list(signature.parameters.values())[1:]
    return {p.name: given.get(p.name) for p in taken if p.name in names and p.kind is not p.POSITIONAL_ONLY}
