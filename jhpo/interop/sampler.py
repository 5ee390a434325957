"""A jhpo strategy as an Optuna sampler."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jhpo.errors import InvalidParameters, SpaceExhausted, check_integer, invalid
from jhpo.interop.distributions import OUTSIDE, constraint_of, directions_of, equal, fit, optuna, parameter_of, value_of
from jhpo.interop.scalars import PLAIN
from jhpo.interop.values_only import values_only
from jhpo.keys import root_key
from jhpo.objectives import read_directions
from jhpo.space.listed import Listed
from jhpo.space.space import Space
from jhpo.strategies import for_objectives
from jhpo.strategies.base import Strategy
from jhpo.study.study import Study
from jhpo.trial import Trial
from jhpo.values.pytrees import HP
from jhpo.words.advice import advised

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution as Distribution
    from optuna.trial import FrozenTrial
    from optuna.trial import TrialState as OptunaState

_MOST_ATTEMPTS = 3  # times that a proposal whose values were not used is repeated


class _Asked(NamedTuple):
    """The strategy's proposal for one of Optuna's trials."""

    trial: Trial | None  # None if the space is exhausted and the values are random
    values: dict[str, Any]  # by name, as proposed
    used: dict[str, Any]  # by name, as returned to Optuna


@advised
class JhpoSampler(optuna.samplers.BaseSampler):
    """A jhpo strategy as an Optuna sampler.

    The parameters that all trials so far have in common are proposed together; others, and those of the first trial,
    are drawn at random. With a `space` (scalar parameters, conditions allowed) the strategy proposes all of its
    parameters: a suggestion of any kind gets the proposed value if its distribution contains it (a float with a step
    gets the nearest one). Trials that the sampler did not propose (from other processes, enqueued, or from an earlier
    sampler) are absorbed by strategies that support it. After every point of a finite space, further points are random.
    An unpickled sampler starts again from the study's trials.

    Args:
        strategy: an instance or a registered name; it must learn from values only.
        space: the space, if it is known beforehand.
        seed: root of the random streams, combined with the number of the sampler's first trial, so that a second
            sampler of a study proposes other points.

    Raises:
        InvalidArgument: a space with arrays or with choices that Optuna cannot store, a strategy that needs gradients
            or shorter trainings, a seed that is none; while sampling, a study with several objectives.

    >>> import jhpo
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=JhpoSampler(jhpo.PSO(8), seed=0))
    >>> study.optimize(lambda t: t.suggest_float("x", -1.0, 1.0) ** 2, n_trials=30)
    >>> study.best_value < 0.05
    True
    """

    def __init__(self, strategy: Strategy | str = "bayes", *, space: Space | None = None, seed: int = 0) -> None:
        check_integer("seed", seed, 0)
        if space is not None:
            for name, p in zip(space.names, space.parameters):
                if p.shape or not all(isinstance(c, PLAIN) for c in (p.choices if isinstance(p, Listed) else ())):
                    raise invalid(name, "a scalar parameter with plain values", p)
        self._strategy = values_only(strategy)
        self._space, self._seed = space, seed
        self._common = optuna.search_space.IntersectionSearchSpace()
        self._random: optuna.samplers.RandomSampler | None = None
        self._lock = threading.RLock()
        self._forget()

    def _forget(self) -> None:
        self.inner: Study | None = None  # for the current search space
        self._asked: dict[int, _Asked] = {}  # by Optuna's trial number
        self._shown: set[int] = set()  # numbers of the trials that the strategy absorbed
        self._known: dict[Any, float] = {}  # values of those trials by their parameters

    def __getstate__(self) -> dict[str, Any]:
        """The arguments; the search is rebuilt from the study's trials."""
        kept = ("_strategy", "_space", "_seed", "_common", "_random")
        return {name: self.__dict__[name] for name in kept}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.RLock()
        self._forget()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Distribution]:
        """The distributions proposed together; none with a `space`, whose values are returned one by one."""
        if self._space is not None:
            return {}
        with self._lock:
            return {n: d for n, d in self._common.calculate(study).items() if not d.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Distribution]
    ) -> dict[str, Any]:
        """The proposed values by name."""
        for_objectives(self._strategy, read_directions(directions_of(study).get("directions")))
        if not search_space:
            return {}
        with self._lock:
            asked = self._propose(study, trial, Space({n: parameter_of(n, d) for n, d in search_space.items()}))
            asked.used.update(asked.values)
            return dict(asked.values)

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Distribution
    ) -> Any:
        """The proposed value for a parameter of the `space`, a random one otherwise."""
        for_objectives(self._strategy, read_directions(directions_of(study).get("directions")))
        with self._lock:
            if self._space is not None and param_name in self._space.names:
                asked = self._propose(study, trial, self._space)
                if param_name in asked.values:
                    fitting = fit(asked.values[param_name], param_distribution)
                    if fitting is not OUTSIDE:
                        asked.used[param_name] = fitting
                        return fitting
            if self._random is None:
                self._random = optuna.samplers.RandomSampler(seed=_seed(self._seed, trial.number))
            return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _propose(self, study: optuna.Study, trial: FrozenTrial, space: Space) -> _Asked:
        """The strategy's proposal for this trial, made once."""
        if self.inner is None or self.inner.space != space:
            self._forget()
            self.inner = Study(space, self._strategy, None, _seed(self._seed, trial.number), **directions_of(study))
        if trial.number not in self._asked:
            self._show_others(self.inner, study)
            asked = self._ask(self.inner)
            flat = space.flat(self._any_point(space, trial.number) if asked is None else asked.params)
            values = {n: v.item() if isinstance(v, np.generic) else v for n, v in flat.items()}
            self._asked[trial.number] = _Asked(asked, values, {})
        return self._asked[trial.number]

    def _any_point(self, space: Space, number: int) -> HP:
        """A random point, used when the strategy has no more."""
        return space.decode(space.sample_unit(root_key(_seed(self._seed, number)), 1)[0])

    def _ask(self, inner: Study) -> Trial | None:
        finite = inner.strategy.max_evaluations(inner.space) is not None
        while True:
            try:
                (asked,) = inner.ask(1)
            except SpaceExhausted:
                return None
            known = self._known.get(_point(inner.space.flat(asked.params))) if finite else None
            if known is None:
                return asked
            inner.tell(asked, known)  # an earlier sampler of this study had that point

    def _show_others(self, inner: Study, study: optuna.Study) -> None:
        finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
        params, values = [], []
        for other in study.get_trials(deepcopy=False, states=finished):
            if other.number not in self._shown and other.number not in self._asked:
                self._shown.add(other.number)
                mine = _own_params(inner, other)
                if mine is not None:
                    params.append(mine)
                    values.append(value_of(other))
        if params:
            inner.absorb(params, values, source="optuna")
            self._known.update((_point(p), v) for p, v in zip(params, values))

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: OptunaState, values: Sequence[float] | None
    ) -> None:
        """Tells the strategy the result."""
        with self._lock:
            asked = self._asked.get(trial.number)
            if asked is None or asked.trial is None or self.inner is None:
                return
            inner = self.inner
            told = values if state == optuna.trial.TrialState.COMPLETE else None
            value: Any = None if told is None else told[0] if len(told) == 1 else tuple(told)
            constraint = constraint_of(trial)
            if value is not None and constraint:
                value = {"value": value, "constraint": constraint}
            if all(equal(trial.params[n], asked.used.get(n)) for n in asked.values if n in trial.params):
                if value is None:
                    inner.tell(asked.trial, error=state.name.lower())
                else:
                    inner.tell(asked.trial, value)
                return
            # fixed or enqueued values were used instead: the result belongs to them
            mine = _own_params(inner, trial)
            if mine is not None:
                inner.absorb([mine], [math.nan if value is None else value], source="optuna")
            if asked.trial.attempt < _MOST_ATTEMPTS:
                inner.requeue([asked.trial.id])
            else:
                inner.tell(asked.trial, error="Optuna used other values")

    def reseed_rng(self) -> None:
        """New seeds for values drawn at random; the strategy is shared by all threads and is not reseeded."""
        if self._random is not None:
            self._random.reseed_rng()


def _seed(seed: int, number: int) -> int:
    """A seed derived from `seed` and the number of a trial."""
    return int(np.random.SeedSequence([seed, number]).generate_state(1)[0])


def _point(flat: dict[str, Any]) -> Any:
    return tuple(sorted((n, type(v).__name__, v) for n, v in flat.items()))


def _own_params(inner: Study, trial: FrozenTrial) -> dict[str, Any] | None:
    """The trial's parameters as a point of the inner space; None if they are not in it."""
    mine = {n: v for n, v in trial.params.items() if n in inner.space.names}
    try:
        inner.space.encode(mine)
    except InvalidParameters:
        return None  # a trial of another space
    return mine
