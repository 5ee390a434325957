"""The space of an objective that suggests its parameters as it runs, from what its calls asked for."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jhpo.errors import InvalidArgument, InvalidSpace, invalid
from jhpo.interop.distributions import Distribution, parameter_of
from jhpo.space.declared import value_key
from jhpo.space.listed import Listed, cell_values
from jhpo.space.parameters import Int, Parameter
from jhpo.space.space import Space

_MOST_VALUES = 1000  # of a parent: among more, a few calls would always find some that tell them apart


class Asked(NamedTuple):
    """What one call asked for, in this order, and what it got."""

    distributions: Mapping[str, Distribution]
    values: Mapping[str, Any]
    whole: bool = True  # it came to its end; one that broke off may not have asked for everything


def traced_space(calls: Sequence[Asked]) -> Space:
    """A space with every parameter that the calls asked for, and with conditions that explain who asked for what.

    A parameter that only some calls asked for gets a condition on an earlier choice or integer whose values tell those
    calls from the others that came to their end; of several such parents the one with the fewest different values, then
    the latest. It is active for the values that no call had. Without such a parent it is always active, which costs the
    search a coordinate that does not matter now and then.

    Raises:
        InvalidSpace: a parameter whose distribution changed from call to call, or no parameter at all.

    >>> from optuna import distributions as d
    >>> opt, b2 = d.CategoricalDistribution(["sgd", "adam"]), d.FloatDistribution(0.9, 0.99)
    >>> calls = [Asked({"opt": opt, "b2": b2}, {"opt": "adam", "b2": 0.95}), Asked({"opt": opt}, {"opt": "sgd"})]
    >>> dict(zip(*[(s := traced_space(calls)).names, s.parameters]))["b2"].when
    (('opt', ('adam',)),)
    """
    known: dict[str, Distribution] = {}
    for call in calls:
        for name, distribution in call.distributions.items():
            check_same(name, known.setdefault(name, distribution), distribution)
    if not known:
        raise no_suggestions("none")
    parameters = {name: parameter_of(name, d) for name, d in known.items()}
    conditions = {name: _condition(name, parameters, calls) for name in parameters}
    return Space({name: dataclasses.replace(p, when=conditions[name]) for name, p in parameters.items()})


def no_suggestions(got: str) -> InvalidArgument:
    """The error for an objective that suggested nothing."""
    return invalid("objective", "calls of trial.suggest_float, suggest_int or suggest_categorical", got, InvalidSpace)


def check_same(name: str, before: Distribution, now: Distribution) -> None:
    """Raises if a parameter is asked for with another distribution than before.

    Raises:
        InvalidSpace: it is.
    """
    if before != now:
        expected = f"the same distribution in every call ({before}); where it depends on others, suggest a share of it"
        raise invalid(name, expected, now, InvalidSpace)


def _condition(name: str, parameters: Mapping[str, Parameter], calls: Sequence[Asked]) -> dict[str, Any] | None:
    """The condition under which calls asked for a parameter; None if all did, or if none explains it."""
    asked = [call for call in calls if name in call.values]
    others = [call for call in calls if call.whole and name not in call.values]
    if not others:
        return None
    found: list[tuple[int, int, str, list[Any]]] = []
    for place, (parent, kind) in enumerate(parameters.items()):
        discrete = isinstance(kind, (Listed, Int)) and kind.cells <= _MOST_VALUES
        if not discrete or not all(_before(parent, name, call) for call in asked):
            continue
        wanted = {value_key(call.values[parent]) for call in asked}
        unwanted = {value_key(call.values[parent]) for call in others if parent in call.values}
        if not wanted & unwanted:
            allowed = [v for v in cell_values(kind) if value_key(v) not in unwanted]
            found.append((len(wanted | unwanted), -place, parent, allowed))
    if not found:
        return None
    _, _, parent, allowed = min(found, key=lambda each: each[:2])
    return {parent: allowed}


def _before(parent: str, name: str, call: Asked) -> bool:
    order = list(call.values)
    return parent in order and order.index(parent) < order.index(name)
