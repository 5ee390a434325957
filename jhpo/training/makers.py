"""Functions that make a model, called with hyperparameters and randomness wherever and however they take them."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Sequence
from typing import Any

# what people call the argument for a key
KEYS = ("key", "rng", "rng_key", "prng_key")


@dataclasses.dataclass(frozen=True)
class Maker:
    """A function whose arguments are in another order than ``(hp, random=...)``, called so; equal if the function is.

    >>> Maker(lambda rng, hp: (rng, hp), "rng", "hp", ())(1, key=2)
    (2, 1)
    """

    function: Callable[..., Any]
    random: str | None  # the names of its two arguments, None where it takes no such one
    hp: str | None
    leading: tuple[str, ...]  # those of them that have no name for callers, in their order

    def __call__(self, *hp: Any, **random: Any) -> Any:
        """What the function makes."""
        named = dict(zip([self.hp] * len(hp), hp)) | dict(zip([self.random] * len(random), random.values()))
        first = [named.pop(name) for name in self.leading]
        return self.function(*first, **named)  # type: ignore[arg-type]


def maker(
    function: Callable[..., Any], random: inspect.Parameter | None, others: Sequence[inspect.Parameter], name: str = ""
) -> Callable[..., Any]:
    """The function itself if it can be called as ``function(hp, name=random)``, else a `Maker`.

    Args:
        function: of the user.
        random: its argument for a key or for rngs, if it takes one.
        others: the one for the hyperparameters, if it takes one.
        name: of the argument for randomness in calls.
    """
    usual = random is None or (random.name == name and random.kind is not random.POSITIONAL_ONLY)
    hp = others[0] if others else None
    if hp is not None and hp.kind is not hp.VAR_POSITIONAL:
        before = random is None or random.kind is random.KEYWORD_ONLY or _place(function, hp) < _place(function, random)
        usual = usual and hp.kind is not hp.KEYWORD_ONLY and before
    if usual or (hp is not None and hp.kind is hp.VAR_POSITIONAL):
        return function
    taken = [p for p in sorted((p for p in (random, hp) if p is not None), key=lambda p: _place(function, p))]
    leading = tuple(p.name for p in taken if p.kind is p.POSITIONAL_ONLY)
    return Maker(function, None if random is None else random.name, None if hp is None else hp.name, leading)


def parameters_of(function: Any) -> list[inspect.Parameter]:
    """The parameters of a function or of a class's constructor, which the metaclass of nnx modules hides.

    Of partials, those bound by name come after the others, as they are.
    """
    if isinstance(function, type):
        return list(inspect.signature(function.__init__).parameters.values())[1:]  # type: ignore[misc]
    return list(inspect.signature(function).parameters.values())


def _place(function: Any, parameter: inspect.Parameter) -> int:
    return [p.name for p in parameters_of(function)].index(parameter.name)
