"""Conversion between Optuna's distributions and jhpo's parameters."""

from __future__ import annotations

import contextlib
import warnings
from typing import Any

from jhpo.errors import MissingExtra, invalid
from jhpo.interop.scalars import plain_choice
from jhpo.objectives import RESERVED
from jhpo.space.listed import Choice, Listed, Ordinal
from jhpo.space.parameters import Float, Int, Parameter

try:
    import optuna
except ImportError as error:
    raise MissingExtra("jhpo.interop.optuna needs Optuna: pip install 'jhpo[optuna]'") from error

Distribution = Any  # an `optuna.distributions.BaseDistribution`
OUTSIDE: Any = object()  # what `fit` gives where a value does not fit
CONSTRAINTS = "constraints"  # Optuna's system attribute for values of a sampler's constraints_func


def parameter_of(name: str, distribution: Distribution) -> Parameter:
    """The jhpo parameter of an Optuna distribution; a float with a step becomes an `Ordinal`.

    >>> parameter_of("lr", optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True)).scale
    'log'
    """
    d = optuna.distributions
    if isinstance(distribution, d.CategoricalDistribution):
        return Choice(list(distribution.choices))
    if distribution.single():
        return Ordinal([distribution.low])
    if isinstance(distribution, d.IntDistribution):
        return Int(distribution.low, distribution.high, log=distribution.log, step=distribution.step)
    if isinstance(distribution, d.FloatDistribution):
        if distribution.step is None:
            return Float(distribution.low, distribution.high, log=distribution.log)
        count = round((distribution.high - distribution.low) / distribution.step) + 1
        # as Optuna computes them, to the last bit
        return Ordinal([min(distribution.low + i * distribution.step, distribution.high) for i in range(count)])
    raise invalid(name, "a float, int or categorical distribution", distribution)


def distribution_of(name: str, parameter: Parameter) -> Distribution:
    """The Optuna distribution of a scalar jhpo parameter; values that Optuna cannot store become their repr.

    >>> distribution_of("width", Int(8, 64, log=True))
    IntDistribution(high=64, log=True, low=8, step=1)
    """
    d = optuna.distributions
    if isinstance(parameter, Float):
        return d.FloatDistribution(parameter.low, parameter.high, log=parameter.scale == "log")
    if isinstance(parameter, Int):
        return d.IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    if not isinstance(parameter, Listed):
        raise invalid(name, "a Float, Int, Choice or Ordinal", parameter)
    steps = _steps(name, parameter) if isinstance(parameter, Ordinal) else None
    return d.CategoricalDistribution([plain_choice(c) for c in parameter.choices]) if steps is None else steps


def _steps(name: str, parameter: Ordinal) -> Distribution | None:
    """The float distribution with a step that `parameter_of` reads as these very values; None if there is none."""
    values = list(parameter.choices)
    if len(values) < 2 or not all(isinstance(v, float) for v in values):
        return None
    low, high = values[0], values[-1]
    for step in (float(f"{values[1] - low:.12g}"), values[1] - low, (high - low) / (len(values) - 1)):
        with warnings.catch_warnings(), contextlib.suppress(ValueError):
            warnings.simplefilter("ignore")  # about a range that the step does not divide
            found = optuna.distributions.FloatDistribution(low, high, step=step)
            if not found.single() and list(getattr(parameter_of(name, found), "choices", ())) == values:
                return found
    return None


def directions_of(study: optuna.Study) -> dict[str, Any]:
    """The ``direction`` or ``directions`` of an Optuna study, as arguments of `jhpo.Study`."""
    names = [d.name.lower() for d in study.directions]
    return {"direction": names[0]} if len(names) == 1 else {"directions": names}


def named_directions_of(study: optuna.Study) -> dict[str, Any]:
    """The same with the names of several objectives, if the study has names that jhpo can use."""
    found, names = directions_of(study), study.metric_names
    if names is None or "directions" not in found or len({*names, *RESERVED}) != len(names) + len(RESERVED):
        return found
    return {"directions": dict(zip(names, found["directions"]))}


def value_of(trial: optuna.trial.FrozenTrial) -> Any:
    """The value of an Optuna trial as `jhpo.Study.tell` takes it; NaN if it failed or was pruned.

    Optuna's constraints are feasible where <= 0, jhpo's where >= 0, so their sign is flipped.
    """
    values = trial.values if trial.state == optuna.trial.TrialState.COMPLETE else None
    value: Any = float("nan") if values is None else values[0] if len(values) == 1 else tuple(values)
    constraint = constraint_of(trial)
    return {"value": value, "constraint": constraint} if constraint and values else value


def constraint_of(trial: optuna.trial.FrozenTrial) -> list[float]:
    """The constraint values of an Optuna trial, with jhpo's sign."""
    named = getattr(trial, "constraints", None)  # since Optuna 5, those of `set_constraint` too
    found = list(trial.system_attrs.get(CONSTRAINTS) or ()) if named is None else list(named.values())
    return [-c for c in found]


def equal(a: object, b: object) -> bool:
    """Whether two values are the same, 1 and 1.0 and True apart."""
    return type(a) is type(b) and bool(a == b)


def fit(value: Any, distribution: Distribution) -> Any:
    """The value converted to the type and grid of `distribution`; `OUTSIDE` if it lies outside (None may be a choice).

    >>> choices = optuna.distributions.CategoricalDistribution([True, None])
    >>> fit(None, choices), fit(1.0, choices) is OUTSIDE
    (None, True)
    """
    if isinstance(distribution, optuna.distributions.CategoricalDistribution):
        return next((c for c in distribution.choices if equal(c, value)), OUTSIDE)
    if isinstance(value, (bool, str)) or value is None or not distribution.low <= value <= distribution.high:
        return OUTSIDE
    step = distribution.step
    if step is not None:
        steps = round((value - distribution.low) / step)
        value = min(distribution.low + steps * step, distribution.high)
    whole = isinstance(distribution, optuna.distributions.IntDistribution)
    return int(value) if whole else float(value)
