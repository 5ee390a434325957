"""Conversion between Optuna's and jhpo's studies, and jhpo's strategies as an Optuna sampler."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np

from jhpo.errors import invalid
from jhpo.interop.define_by_run import Asked, traced_space
from jhpo.interop.distributions import CONSTRAINTS, directions_of, fit, optuna, plain_choice, value_of
from jhpo.interop.distributions import distribution_of as distribution_of
from jhpo.interop.distributions import parameter_of as parameter_of
from jhpo.interop.running import run as run
from jhpo.interop.sampler import JhpoSampler as JhpoSampler
from jhpo.interop.scalars import scalars
from jhpo.pytrees import HP
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy
from jhpo.study.study import Study
from jhpo.trial import TrialState


def space_of(trials: Iterable[optuna.trial.FrozenTrial]) -> Space:
    """The space of Optuna trials; conditions, which Optuna does not store, are read from who has which parameter.

    Raises:
        InvalidSpace: a parameter whose distribution changed from trial to trial.
    """
    return traced_space([Asked(t.distributions, t.params) for t in trials])


def _complete(space: Space, trial: optuna.trial.FrozenTrial) -> HP:
    """The parameters of a trial, with the default of one that is always active but was not asked for."""
    params = {name: fit(value, trial.distributions[name]) for name, value in trial.params.items()}
    return space.decode(space.encode(params, space.default_unit()), space.exact(params))


def from_optuna(
    study: optuna.Study,
    space: Space | None = None,
    strategy: Strategy | str = "bayes",
    storage: str | os.PathLike[str] | None = None,
    seed: int = 0,
) -> Study:
    """A jhpo study that starts with the finished trials of an Optuna study (pruned and failed ones as failures).

    Args:
        study: an ``optuna.Study``; with several objectives the strategy has to support them.
        space: the search space; by default the parameters of the trials, see `space_of`.
        strategy, storage, seed: see `jhpo.Study`.

    Raises:
        InvalidArgument: several objectives with a strategy for one, or no finished trial and no space.
        InvalidSpace: a parameter whose distribution changed from trial to trial, and no space.
        InvalidParameters: a trial outside the space; it is named.

    >>> source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    >>> source.optimize(lambda t: t.suggest_float("x", -1.0, 1.0) ** 2, n_trials=5)
    >>> mine = from_optuna(source, strategy="random")
    >>> len(mine), mine.best.value == source.best_value
    (5, True)
    """
    trials = [t for t in study.trials if t.state.is_finished() and t.params]
    points = [t.params for t in trials]
    if space is None:
        if not trials:
            raise invalid("study", "at least one finished trial, or a space", study.study_name)
        space = space_of(trials)
        points = [_complete(space, trial) for trial in trials]
    made = Study(space, strategy, storage, seed, **directions_of(study))
    if trials:
        made.absorb(points, [value_of(t) for t in trials], source=f"optuna:{study.study_name}")
    return made


def _constraints(values: np.ndarray | None) -> dict[str, Any]:
    """Constraint values as a system attribute of Optuna, feasible where <= 0."""
    there = values is not None and len(values) > 0 and bool(np.isfinite(values).all())
    return {CONSTRAINTS: (-values).tolist()} if there and values is not None else {}


def to_optuna(
    study: Study, storage: str | optuna.storages.BaseStorage | None = None, name: str | None = None
) -> optuna.Study:
    """An Optuna study with the finished trials of a jhpo study, for Optuna's dashboard and plots.

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
    constraint = study.history.table.extra.get("constraint")
    parameters = dict(zip(study.space.names, study.space.parameters))
    states = {
        TrialState.COMPLETE: optuna.trial.TrialState.COMPLETE,
        TrialState.FAILED: optuna.trial.TrialState.FAIL,
        TrialState.PRUNED: optuna.trial.TrialState.PRUNED,
    }
    rows = []
    for trial in (study[i] for i in range(len(study))):
        if trial.status not in states:
            continue
        params: dict[str, Any] = {}
        distributions: dict[str, Any] = {}
        for parameter, value in study.space.flat(trial.params).items():
            for label, item in scalars(parameter, value) if parameters[parameter].shape else ((parameter, value),):
                params[label] = plain_choice(item)
                distributions[label] = distribution_of(label, parameters[parameter])
        rows.append(
            optuna.trial.create_trial(
                state=states[trial.status],
                values=list(trial.values) if trial.status is TrialState.COMPLETE else None,
                intermediate_values=trial.curve,
                params=params,
                distributions=distributions,
                system_attrs=_constraints(None if constraint is None else constraint.array[trial.id]),
                user_attrs={"jhpo_id": trial.id} | ({"reason": trial.reason} if trial.reason else {}),
            )
        )
    made.add_trials(rows)
    return made
