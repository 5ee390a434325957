"""The trial that an Optuna objective gets when jhpo runs it."""

from __future__ import annotations

import datetime
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jhpo.errors import InvalidArgument, InvalidSpace, invalid, no_float
from jhpo.interop.define_by_run import Asked, check_same
from jhpo.interop.distributions import OUTSIDE, Distribution, fit, optuna, parameter_of
from jhpo.space.space import Space
from jhpo.trial import Trial


class SuggestingTrial(optuna.trial.BaseTrial):
    """Suggests the values of one point of a jhpo search, and random ones for parameters that the point lacks.

    Args:
        trial: the jhpo trial, which takes the reports.
        point: its values by name.
        known: the distributions that calls asked for so far, by name; this one adds its own.
        fixed: refuse what the point lacks, instead of suggesting a random value.
    """

    def __init__(self, trial: Trial, point: Mapping[str, Any], known: dict[str, Distribution], fixed: bool) -> None:
        self._trial, self._point, self._known, self._fixed = trial, point, known, fixed
        self._random = np.random.default_rng(trial.seed)
        self._values: dict[str, Any] = {}
        self._distributions: dict[str, Distribution] = {}
        self._attributes: dict[str, Any] = {}  # those that cannot be notes
        self._constraints: dict[str, float] = {}
        self._steps: set[int] = set()
        self._started = datetime.datetime.now()
        self.surprised = False  # it asked for a parameter that the point lacks

    @property
    def asked(self) -> Asked:
        """What was asked for so far."""
        return Asked(dict(self._distributions), dict(self._values))

    def measured(self, value: Any) -> Any:
        """What the objective returned, with its constraints as jhpo takes them, feasible where >= 0."""
        return {"value": value, "constraint": [-c for c in self._constraints.values()]} if self._constraints else value

    def _suggest(self, name: str, distribution: Distribution) -> Any:
        check_same(name, self._known.setdefault(name, distribution), distribution)
        if name not in self._values:
            self._distributions[name] = distribution
            self._values[name] = self._chosen(name, distribution)
        return self._values[name]

    def _chosen(self, name: str, distribution: Distribution) -> Any:
        if name in self._point:
            value = fit(self._point[name], distribution)
            if value is OUTSIDE:
                raise invalid(name, f"a distribution that holds {self._point[name]!r}", distribution, InvalidSpace)
            return value
        if self._fixed:
            expected = f"a parameter of this point of the space, one of {sorted(self._point)}"
            raise invalid(f"suggest({name!r})", expected, distribution, InvalidSpace)
        self.surprised = True
        space = Space({name: parameter_of(name, distribution)})
        return space.flat(space.decode(self._random.random(space.dim)))[name]

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._suggest(name, optuna.distributions.FloatDistribution(low, high, log=log, step=step))

    def suggest_uniform(self, name: str, low: float, high: float) -> float:
        return self.suggest_float(name, low, high)

    def suggest_loguniform(self, name: str, low: float, high: float) -> float:
        return self.suggest_float(name, low, high, log=True)

    def suggest_discrete_uniform(self, name: str, low: float, high: float, q: float) -> float:
        return self.suggest_float(name, low, high, step=q)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return self._suggest(name, optuna.distributions.IntDistribution(low, high, log=log, step=step))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._suggest(name, optuna.distributions.CategoricalDistribution(choices))

    def report(self, value: float, step: int) -> None:
        """Keeps an intermediate value; as in Optuna, a second value for a step is ignored with a warning."""
        if step in self._steps:
            warnings.warn(f"step {step} of trial {self._trial.id} was reported before: ignored", stacklevel=2)
            return
        self._trial.report(step, value)
        self._steps.add(step)

    def should_prune(self) -> bool:
        """Whether ``early_stop=`` or the strategy says that the trial should end."""
        return self._trial.should_stop()

    def set_user_attr(self, key: str, value: Any) -> None:
        """Kept as a note of the trial; what is not plain is kept while the call runs, as Optuna in memory does."""
        try:
            self._trial.note({key: value})
        except InvalidArgument as error:
            warnings.warn(f"user attribute kept only while the call runs: {error}", stacklevel=2)
            self._attributes[key] = value
        else:
            self._attributes.pop(key, None)

    def set_constraint(self, key: str, value: float) -> None:
        """Feasible where the value is <= 0, as in Optuna."""
        if no_float(value):
            raise invalid(key, "a number, feasible where <= 0", value)
        self._constraints[key] = float(value)

    @property
    def params(self) -> dict[str, Any]:
        return dict(self._values)

    @property
    def distributions(self) -> dict[str, Distribution]:
        return dict(self._distributions)

    @property
    def user_attrs(self) -> dict[str, Any]:
        return self._trial.notes | self._attributes

    @property
    def constraints(self) -> dict[str, float]:
        return dict(self._constraints)

    @property
    def datetime_start(self) -> datetime.datetime:
        return self._started

    @property
    def number(self) -> int:
        return self._trial.id
