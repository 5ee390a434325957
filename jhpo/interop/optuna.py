"""Conversion between Optuna's and jhpo's studies, and jhpo's strategies as an Optuna sampler."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jhpo.errors import invalid
from jhpo.interop.distributions import CONSTRAINTS, directions_of, optuna, plain_choice, value_of
from jhpo.interop.distributions import distribution_of as distribution_of
from jhpo.interop.distributions import parameter_of as parameter_of
from jhpo.interop.sampler import JhpoSampler as JhpoSampler
from jhpo.space.space import Space
from jhpo.strategies.base import Strategy
from jhpo.study.study import Study
from jhpo.trial import TrialState


def _scalars(name: str, value: object) -> Iterator[tuple[str, Any]]:
    """Name and value, or for an array the entries as ``name[0]``, ``name[1, 2]``."""
    array = np.asarray(value, object)
    for place in np.ndindex(array.shape):
        item = array[place]
        yield (f"{name}{list(place)}" if place else name), item.item() if isinstance(item, np.generic) else item


def space_of(trials: Iterable[optuna.trial.FrozenTrial]) -> Space:
    """The space of Optuna trials that all have the same parameters.

    Raises:
        InvalidArgument: only some trials have a parameter; Optuna does not store the condition, so pass a space.
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
        space: the search space; by default the parameters of the trials, if all have the same ones.
        strategy, storage, seed: see `jhpo.Study`.

    Raises:
        InvalidArgument: several objectives with a strategy for one, no finished trial and no space, or parameters
            that only some trials have.
        InvalidParameters: a trial outside the space; it is named.

    >>> source = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    >>> source.optimize(lambda t: t.suggest_float("x", -1.0, 1.0) ** 2, n_trials=5)
    >>> mine = from_optuna(source, strategy="random")
    >>> len(mine), mine.best.value == source.best_value
    (5, True)
    """
    trials = [t for t in study.trials if t.state.is_finished() and t.params]
    if space is None:
        if not trials:
            raise invalid("study", "at least one finished trial, or a space", study.study_name)
        space = space_of(trials)
    made = Study(space, strategy, storage, seed, **directions_of(study))
    if trials:
        made.absorb([t.params for t in trials], [value_of(t) for t in trials], source=f"optuna:{study.study_name}")
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
            for label, item in _scalars(parameter, value) if parameters[parameter].shape else ((parameter, value),):
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
