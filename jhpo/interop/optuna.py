"""Conversion between Optuna's and jhpo's studies, and jhpo's strategies as an Optuna sampler."""

from __future__ import annotations

import dataclasses
import datetime
import math
import os
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from jhpo.errors import InvalidArgument, InvalidParameters, invalid, warn_caller
from jhpo.evaluation.outcome import Outcome, failure, judge, stopped_early
from jhpo.interop.define_by_run import Asked, traced_space
from jhpo.interop.distributions import (
    CONSTRAINTS,
    constraint_of,
    fit,
    named_directions_of,
    optuna,
    value_of,
)
from jhpo.interop.distributions import distribution_of as distribution_of
from jhpo.interop.distributions import parameter_of as parameter_of
from jhpo.interop.running import run as run
from jhpo.interop.sampler import JhpoSampler as JhpoSampler
from jhpo.interop.scalars import plain_choice, point_of, scalars
from jhpo.objectives import Objectives
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy
from jhpo.study import events
from jhpo.study.study import Study
from jhpo.trial import Trial, TrialState
from jhpo.values.notes import Notes, noted
from jhpo.values.pytrees import HP
from jhpo.words.advice import advised
from jhpo.words.markup import counted

T = TypeVar("T")
_State = optuna.trial.TrialState
_STATES = {
    TrialState.WAITING: _State.WAITING,
    TrialState.RUNNING: _State.RUNNING,
    TrialState.COMPLETE: _State.COMPLETE,
    TrialState.FAILED: _State.FAIL,
    TrialState.PRUNED: _State.PRUNED,
}
_VALUED = (TrialState.COMPLETE, TrialState.PRUNED)
_FIXED = "fixed_params"  # Optuna's system attribute with the values of a trial that waits
_ID, _REASON = "jhpo_id", "reason"  # user attributes


def space_of(trials: Iterable[optuna.trial.FrozenTrial]) -> Space:
    """The space of Optuna trials; conditions, which Optuna does not store, are read from who has which parameter.

    A trial that failed or was pruned may have ended before it asked for everything: what it lacks tells nothing.

    Raises:
        InvalidSpace: a parameter whose distribution changed from trial to trial.
    """
    return traced_space([Asked(t.distributions, t.params, t.state == _State.COMPLETE) for t in trials])


@advised
def from_optuna(
    study: optuna.Study,
    space: Space | None = None,
    strategy: Strategy | str = "bayes",
    storage: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Study:
    """A jhpo study that starts with the trials of an Optuna study.

    Finished trials keep their state, values, constraints and intermediate values: pruned ones are PRUNED, with the last
    value that they reported. Waiting trials (``enqueue_trial``) are in the queue. User attributes of trials and of the
    study are notes. What cannot come along is named in a warning: running trials, trials without parameters, user
    attributes that are not plain. Times are those of this call.

    Args:
        study: an ``optuna.Study``; with several objectives the strategy has to support them.
        space: the search space; by default the parameters of the trials, see `space_of`. The space of a study that
            `to_optuna` made an Optuna study of: ``name[i]`` become arrays again, texts the choices they stand for.
        strategy, storage, seed: see `jhpo.Study`.

    Raises:
        InvalidArgument: no study, several objectives with a strategy for one, or no finished trial and no space.
        InvalidSpace: a parameter whose distribution changed from trial to trial, and no space.
        InvalidParameters: a trial outside the space; it is named.

    >>> source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    >>> source.optimize(lambda t: t.suggest_float("x", -1.0, 1.0) ** 2, n_trials=5)
    >>> mine = from_optuna(source, strategy="random")
    >>> len(mine), mine.best.value == source.best_value
    (5, True)
    """
    if not isinstance(study, optuna.Study):
        raise invalid("study", "an optuna.Study (optuna.load_study opens a stored one)", study)
    trials = study.get_trials(deepcopy=False)
    finished = [t for t in trials if t.state.is_finished() and t.params]
    waiting = [t for t in trials if t.state == _State.WAITING and _fixed(t)]
    given = space is not None
    if space is None:
        if not finished:
            raise invalid("study", "at least one finished trial, or a space", study.study_name)
        space = space_of(finished)
    # before a file is created
    points = [_named(t, _point, space, t, given) for t in finished]
    queue = [point_of(space, _fixed(t)) for t in waiting]
    for trial, point in zip(waiting, queue):
        _named(trial, space.encode_some, point)
    made = Study(space, strategy, storage, seed, **named_directions_of(study))
    if finished:
        outcomes = [_outcome(t, made.objectives) for t in finished]
        curves = [t.intermediate_values for t in finished]
        made.absorb_outcomes(points, outcomes, f"optuna:{study.study_name}", curves)
    for point in queue:
        made.enqueue(point)
    unkept = _keep_notes(made, [study.user_attrs, *(t.user_attrs for t in [*finished, *waiting])])
    _warn_of_losses(trials, len(finished) + len(waiting), unkept)
    return made


def _keep_notes(study: Study, attributes: Sequence[Mapping[str, Any]]) -> set[str]:
    """Keep user attributes as notes, of the study and of its trials; returns the names of those that are not plain."""
    unkept = set[str]()
    with study.ledger.transaction() as append:
        for trial, named in enumerate(attributes, start=-1):
            kept: Notes = {}
            for name in set(named) - {_ID, _REASON}:
                try:
                    kept |= noted({name: named[name]}, {})
                except InvalidArgument:
                    unkept.add(name)
            if kept:
                append(events.Note(trial, dict(sorted(kept.items())), time.time()))
    return unkept


def _fixed(trial: optuna.trial.FrozenTrial) -> dict[str, Any]:
    """The values with which a trial waits."""
    return trial.system_attrs.get(_FIXED) or trial.params


def _named(trial: optuna.trial.FrozenTrial, make: Callable[..., T], *arguments: Any) -> T:
    """What is made of a trial; an error names it."""
    try:
        return make(*arguments)
    except InvalidParameters as error:
        raise InvalidParameters(f"trial {trial.number} of the Optuna study: {error}") from error


def _point(space: Space, trial: optuna.trial.FrozenTrial, given: bool) -> HP:
    """The parameters of a trial; what one that broke off, or a space that was read, lacks has its default."""
    params: Mapping[str, Any] = trial.params
    if given:
        params = point_of(space, params)
    else:
        params = {name: fit(value, trial.distributions[name]) for name, value in params.items()}
    partly = not given or trial.state != _State.COMPLETE
    return space.decode(space.encode(params, space.default_unit() if partly else None), space.exact(params))


def _outcome(trial: optuna.trial.FrozenTrial, objectives: Objectives | None) -> Outcome:
    """The result of a finished trial."""
    if trial.state == _State.COMPLETE:
        return judge(value_of(trial), objectives)
    if trial.state == _State.FAIL:
        reason = trial.user_attrs.get(_REASON) if _ID in trial.user_attrs else None
        return failure(str(reason or "failed in Optuna"))
    values = list(trial.intermediate_values.values())[-1:] if trial.values is None else list(trial.values)
    constraint = constraint_of(trial)
    made = stopped_early(float(values[0]) if len(values) == 1 and objectives is None else math.nan)
    return dataclasses.replace(made, constraint=np.asarray(constraint)) if constraint else made


def _warn_of_losses(trials: Sequence[optuna.trial.FrozenTrial], taken: int, unkept: set[str]) -> None:
    running = sum(t.state == _State.RUNNING for t in trials)
    bare = len(trials) - taken - running
    lost = [f"{counted(running, 'running trial')} (import again when ended)"] * bool(running)
    lost += [f"{counted(bare, 'trial')} without parameters"] * bool(bare)
    lost += [f"the user attributes {sorted(unkept)}, which are not plain values"] * bool(unkept)
    if lost:
        warn_caller(f"from_optuna leaves out {'; '.join(lost)}")


@advised
def to_optuna(
    study: Study, storage: str | optuna.storages.BaseStorage | None = None, name: str | None = None
) -> optuna.Study:
    """An Optuna study with the trials of a jhpo study, for Optuna's dashboard and plots.

    All states are kept. A trial whose training was stopped at a rung is PRUNED there. Notes, other measurements that
    were reported, the reasons of failures and the ids are user attributes; scales other than linear and logarithmic,
    priors and defaults, which Optuna does not have, and the variances of replicates stay behind.

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
    made = optuna.create_study(storage=storage, study_name=name, directions=list(study.directions))
    if study.objectives is not None and study.objectives.names is not None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            made.set_metric_names(list(study.objectives.names))
    table = study.history.table
    constraint, whole = table.extra.get("constraint"), table.horizon.array[table.successes()].max(initial=0.0)
    parameters = dict(zip(study.space.names, study.space.parameters))
    for attribute, value in study.notes.items():
        made.set_user_attr(attribute, value)
    rows = []
    for trial in study:
        params: dict[str, Any] = {}
        distributions: dict[str, Any] = {}
        for parameter, value in study.space.flat(trial.params).items():
            for label, item in scalars(parameter, value, parameters[parameter].shape):
                params[label] = plain_choice(item)
                distributions[label] = distribution_of(label, parameters[parameter])
        row = optuna.trial.create_trial(
            state=_State.PRUNED if _stopped_at_a_rung(trial, whole) else _STATES[trial.status],
            values=list(trial.values) if trial.status in _VALUED and np.isfinite(trial.values).all() else None,
            intermediate_values=trial.curve,
            params=params,
            distributions=distributions,
            system_attrs=_constraints(None if constraint is None else constraint.array[trial.id]),
            user_attrs=_attributes(trial),
        )
        if trial.status is TrialState.WAITING:
            row.system_attrs[_FIXED] = params
            row.params, row.distributions = {}, {}
        else:
            row.datetime_start = _moment(table.asked.array[trial.id])
            row.datetime_complete = None if trial.status is TrialState.RUNNING else _moment(table.told.array[trial.id])
        rows.append(row)
    made.add_trials(rows)
    return made


def _stopped_at_a_rung(trial: Trial, whole: float) -> bool:
    return trial.status is TrialState.COMPLETE and trial.horizon < whole


def _moment(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(float(seconds))


def _constraints(values: np.ndarray | None) -> dict[str, Any]:
    """Constraint values as a system attribute of Optuna, feasible where <= 0; one that is missing is violated."""
    if values is None or not len(values) or np.isnan(values).all():
        return {}
    return {CONSTRAINTS: np.where(np.isnan(values), np.inf, -values).tolist()}


def _attributes(trial: Trial) -> dict[str, Any]:
    more = {
        f"{name}_reported" if name in trial.notes else name: {str(step): value for step, value in curve.items()}
        for name, curve in trial.curves.items()
    }
    return more | trial.notes | {_ID: trial.id} | ({_REASON: trial.reason} if trial.reason else {})
