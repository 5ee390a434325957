"""Optuna: its studies as jhpo studies and back, and jhpo's strategies as an Optuna sampler."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from jhpo.errors import InvalidParameters, MissingExtra, invalid
from jhpo.space.parameters import Choice, Float, Int, Ordinal, Parameter
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy
from jhpo.study.study import Study
from jhpo.trial import Trial, TrialState

try:
    import optuna
except ImportError as error:
    raise MissingExtra("jhpo.interop.optuna needs Optuna: pip install 'jhpo[optuna]'") from error

_PLAIN = (type(None), bool, int, float, str)  # what Optuna can store as a choice


def parameter_of(name: str, distribution: Any) -> Parameter:
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
        return Ordinal([distribution.low + i * distribution.step for i in range(count)])
    raise invalid(name, "a float, int or categorical distribution", distribution)


def distribution_of(name: str, parameter: Parameter) -> Any:
    """The Optuna distribution of a scalar jhpo parameter; values Optuna cannot store become their repr.

    >>> distribution_of("width", Int(8, 64, log=True))
    IntDistribution(high=64, log=True, low=8, step=1)
    """
    d = optuna.distributions
    if isinstance(parameter, Float):
        return d.FloatDistribution(parameter.low, parameter.high, log=parameter.scale == "log")
    if isinstance(parameter, Int):
        return d.IntDistribution(parameter.low, parameter.high, log=parameter.log, step=parameter.step)
    choices: Sequence[Any] = getattr(parameter, "choices", ())
    if not choices:
        raise invalid(name, "a Float, Int, Choice or Ordinal", parameter)
    return d.CategoricalDistribution([_plain(c) for c in choices])


def _plain(value: Any) -> Any:
    return value if isinstance(value, _PLAIN) else repr(value)


def _scalars(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """A value, or the entries of an array as ``name[0]``, ``name[1, 2]``."""
    array = np.asarray(value, object)
    for place in np.ndindex(array.shape):
        item = array[place]
        yield (f"{name}{list(place)}" if place else name), item.item() if isinstance(item, np.generic) else item


def space_of(trials: Iterable[Any]) -> Space:
    """The space of Optuna trials that all have the same parameters.

    Raises:
        InvalidArgument: a parameter that only some trials have: the condition is not stored, so give a space.
    """
    found: dict[str, Any] = {}
    names: list[set[str]] = []
    for trial in trials:
        found |= trial.distributions
        names.append(set(trial.distributions))
    partly = sorted(n for n in found if not all(n in there for there in names))
    if partly:
        raise invalid("space", "a jhpo.Space with conditions (Optuna does not store them)", partly)
    return Space({name: parameter_of(name, d) for name, d in found.items()})


def _value(trial: Any) -> float:
    complete = trial.state == optuna.trial.TrialState.COMPLETE
    return trial.value if complete else float("nan")


def from_optuna(
    study: Any,
    space: Space | None = None,
    strategy: Strategy | str = "bayes",
    storage: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Study:
    """A jhpo study that begins with the finished trials of an Optuna study (pruned and failed ones as failures).

    Args:
        study: a single-objective ``optuna.Study``.
        space: what to search; by default the parameters of the trials, if all have the same ones.
        strategy, storage, seed: see `jhpo.Study`.

    Raises:
        InvalidArgument: several objectives, no finished trial and no space, or parameters that only some trials have.
        InvalidParameters: a trial outside the space; it is named.

    >>> source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    >>> source.optimize(lambda t: t.suggest_float("x", -1.0, 1.0) ** 2, n_trials=5)
    >>> mine = from_optuna(source, strategy="random")
    >>> len(mine), mine.best.value == source.best_value
    (5, True)
    """
    direction = _direction(study)
    trials = [t for t in study.trials if t.state.is_finished() and t.params]
    if space is None:
        if not trials:
            raise invalid("study", "at least one finished trial, or a space", study.study_name)
        space = space_of(trials)
    made = Study(space, strategy, storage, seed, direction)
    if trials:
        made.absorb([t.params for t in trials], [_value(t) for t in trials], source=f"optuna:{study.study_name}")
    return made


def _direction(study: Any) -> str:
    if len(study.directions) != 1:
        raise invalid("study", "a single objective", f"{len(study.directions)} objectives")
    return str(study.direction.name.lower())


def to_optuna(study: Study, storage: Any = None, name: str | None = None) -> Any:
    """An Optuna study with the finished trials of a jhpo study, for its dashboard and plots.

    Args:
        study: any jhpo study. Arrays become parameters ``name[i]``.
        storage: an Optuna storage or its URL; in memory if None.
        name: of the Optuna study.

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(2,))}), "random")
    >>> for trial in study.ask(4):
    ...     study.tell(trial, float(trial.params["x"].sum()))
    >>> sorted(to_optuna(study).best_params)
    ['x[0]', 'x[1]']
    """
    made = optuna.create_study(storage=storage, study_name=name, direction=study.direction)
    parameters = dict(zip(study.space.names, study.space.parameters))
    states = {TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE, TrialState.FAILED: optuna.trial.TrialState.FAIL}
    rows = []
    for trial in (study[i] for i in range(len(study))):
        if trial.state not in states:
            continue
        params: dict[str, Any] = {}
        distributions: dict[str, Any] = {}
        for parameter, value in study.space.flat(trial.params).items():
            for label, item in _scalars(parameter, value) if parameters[parameter].shape else ((parameter, value),):
                params[label] = _plain(item)
                distributions[label] = distribution_of(label, parameters[parameter])
        rows.append(
            optuna.trial.create_trial(
                state=states[trial.state],
                value=trial.value if trial.state is TrialState.COMPLETE else None,
                params=params,
                distributions=distributions,
                user_attrs={"jhpo_id": trial.id} | ({"reason": trial.reason} if trial.reason else {}),
            )
        )
    made.add_trials(rows)
    return made


class JhpoSampler(optuna.samplers.BaseSampler):
    """A jhpo strategy that proposes the trials of an Optuna study.

    The parameters that all trials so far have in common are proposed together; others, and those of the first trial,
    are drawn at random. With a `space` of your own (scalar parameters, conditions allowed) nothing is left to chance.
    Trials the sampler did not propose (of other processes, enqueued ones) are shown to strategies that can use them.

    Args:
        strategy: an instance or a registered name.
        space: the space, if it is known beforehand.
        seed: root of the strategy's random streams.

    Raises:
        InvalidArgument: a space with arrays or with choices Optuna cannot store.

    >>> import jhpo
    >>> optuna.logging.set_verbosity(optuna.logging.WARNING)
    >>> study = optuna.create_study(sampler=JhpoSampler(jhpo.PSO(8), seed=0))
    >>> study.optimize(lambda t: t.suggest_float("x", -1.0, 1.0) ** 2, n_trials=30)
    >>> study.best_value < 0.05
    True
    """

    def __init__(self, strategy: Strategy | str = "bayes", *, space: Space | None = None, seed: int = 0) -> None:
        if space is not None:
            for name, p in zip(space.names, space.parameters):
                if p.shape or not all(isinstance(c, _PLAIN) for c in getattr(p, "choices", ())):
                    raise invalid(name, "a scalar parameter with plain values", p)
        self._strategy, self._space, self._seed = strategy, space, seed
        self._independent = optuna.samplers.RandomSampler(seed=seed)
        self._common = optuna.search_space.IntersectionSearchSpace()
        self._lock = threading.RLock()
        self._inner: Study | None = None
        self._asked: dict[int, Trial] = {}  # by Optuna's trial number
        self._shown: set[int] = set()  # numbers of the trials the strategy knows

    def infer_relative_search_space(self, study: Any, trial: Any) -> dict[str, Any]:
        """The distributions proposed together."""
        if self._space is not None:
            return {n: distribution_of(n, p) for n, p in zip(self._space.names, self._space.parameters)}
        with self._lock:
            return {n: d for n, d in self._common.calculate(study).items() if not d.single()}

    def sample_relative(self, study: Any, trial: Any, search_space: dict[str, Any]) -> dict[str, Any]:
        """Values by name; parameters whose condition does not hold are left out."""
        if not search_space:
            return {}
        with self._lock:
            space = self._space or Space({n: parameter_of(n, d) for n, d in search_space.items()})
            if self._inner is None or self._inner.space != space:
                self._inner = Study(space, self._strategy, None, self._seed, _direction(study))
                self._asked, self._shown = {}, set()
            self._show_others(self._inner, study)
            (asked,) = self._inner.ask(1)
            self._asked[trial.number] = asked
            flat = space.flat(asked.params)
            return {n: v.item() if isinstance(v, np.generic) else v for n, v in flat.items()}

    def _show_others(self, inner: Study, study: Any) -> None:
        finished = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.FAIL)
        params, values = [], []
        for other in study.get_trials(deepcopy=False, states=finished):
            if other.number in self._shown or other.number in self._asked:
                continue
            self._shown.add(other.number)
            mine = {n: v for n, v in other.params.items() if n in inner.space.names}
            try:
                inner.space.encode(mine)
            except InvalidParameters:
                continue  # a trial of another space says nothing about this one
            params.append(mine)
            values.append(_value(other))
        if params:
            inner.absorb(params, values, source="optuna")

    def sample_independent(self, study: Any, trial: Any, param_name: str, param_distribution: Any) -> Any:
        """A random value, for parameters that are not proposed together."""
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Any, trial: Any, state: Any, values: Sequence[float] | None) -> None:
        """Tell the strategy."""
        with self._lock:
            asked = self._asked.get(trial.number)
            if asked is None or self._inner is None:
                return
            if state == optuna.trial.TrialState.COMPLETE and values is not None:
                self._inner.tell(asked, values[0])
            else:
                self._inner.tell(asked, error=state.name.lower())

    def reseed_rng(self) -> None:
        """New seeds for the values drawn at random; the strategy is shared by all threads and stays as it is."""
        self._independent.reseed_rng()
