"""Searches over learning curves by other libraries, for `multifidelity_curves.py`; each returns ``float[shares]``.

A training is continued from where it was wherever the library asks for more of the same configuration, so that only
the further epochs are counted, also where the library itself would train anew. A library is told 1 epoch as the least
and 52 as the most: DEHB and SMAC compare at 2, 6, 17 and 52 epochs, as `Hyperband` here does at 2, 6, 18 and 52, and
Optuna at 1, 3, 9 and 27. All else is as they come.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from typing import Any

import numpy as np

import jhpo

Curves = Callable[[np.ndarray], Any]  # the values of a unit row at epochs 1, 2, ...
Best = Callable[[np.ndarray, np.ndarray], np.ndarray]  # epochs spent and values to what counts


def optuna_search(space: jhpo.Space, curve_of: Curves, best: Best, epochs: int, total: int, seed: int) -> np.ndarray:
    """TPE with HyperbandPruner until the epochs are spent."""
    import optuna

    from jhpo.interop.optuna import distribution_of

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        sampler=optuna.samplers.TPESampler(seed=seed),
        pruner=optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs, reduction_factor=3),
    )
    distributions = {n: distribution_of(n, p) for n, p in zip(space.names, space.parameters)}
    values = list[float]()
    while len(values) < total:
        trial = study.ask(distributions)
        curve = curve_of(space.encode(trial.params))
        state = optuna.trial.TrialState.COMPLETE
        for epoch in range(1, epochs + 1):
            values.append(float(curve[epoch - 1]))
            trial.report(values[-1], epoch)
            if len(values) == total or (epoch < epochs and trial.should_prune()):
                state = optuna.trial.TrialState.PRUNED
                break
        study.tell(trial, None if state == optuna.trial.TrialState.PRUNED else values[-1], state=state)
    return best(np.arange(1, total + 1), np.asarray(values))


class _Spent:
    """Epochs and values of trainings that are continued."""

    def __init__(self, space: jhpo.Space, curve_of: Curves) -> None:
        self.space, self.curve_of = space, curve_of
        self.trained: dict[bytes, int] = {}
        self.spent, self.values = list[int](), list[float]()

    @property
    def epochs(self) -> int:
        return self.spent[-1] if self.spent else 0

    def train(self, params: dict[str, Any], until: int) -> tuple[float, int]:
        """The value at an epoch, and the epochs that it took."""
        unit = self.space.encode(params)
        curve, before = self.curve_of(unit), self.trained.get(unit.tobytes(), 0)
        for epoch in range(before + 1, until + 1):
            self.spent.append(self.epochs + 1)
            self.values.append(float(curve[epoch - 1]))
        self.trained[unit.tobytes()] = max(before, until)
        return float(curve[until - 1]), max(until - before, 0)


def _configuration_space(space: jhpo.Space, seed: int) -> Any:
    import ConfigSpace as cs

    made = cs.ConfigurationSpace(seed=seed)
    for name, parameter in zip(space.names, space.parameters):
        if isinstance(parameter, jhpo.Choice):
            made.add(cs.CategoricalHyperparameter(name, list(parameter.options)))
            continue
        if isinstance(parameter, jhpo.Int):
            made.add(cs.UniformIntegerHyperparameter(name, parameter.low, parameter.high, log=parameter.log))
            continue
        assert isinstance(parameter, jhpo.Float)
        made.add(cs.UniformFloatHyperparameter(name, parameter.low, parameter.high, log=parameter.scale == "log"))
    return made


def dehb_search(space: jhpo.Space, curve_of: Curves, best: Best, epochs: int, total: int, seed: int) -> np.ndarray:
    """DEHB by its ask and tell."""
    from dehb import DEHB

    spent = _Spent(space, curve_of)
    with tempfile.TemporaryDirectory() as folder:
        search = DEHB(
            cs=_configuration_space(space, seed), f=None, min_fidelity=1, max_fidelity=epochs, eta=3, n_workers=1,
            seed=seed, output_path=folder, log_level="ERROR",
        )  # fmt: skip
        while spent.epochs < total:
            job = search.ask()
            value, cost = spent.train(dict(job["config"]), max(round(job["fidelity"]), 1))
            search.tell(job, {"fitness": value, "cost": cost})
    return best(np.asarray(spent.spent), np.asarray(spent.values))


def smac_search(space: jhpo.Space, curve_of: Curves, best: Best, epochs: int, total: int, seed: int) -> np.ndarray:
    """SMAC's multi-fidelity facade: Hyperband with random forests."""
    from pathlib import Path

    from smac import MultiFidelityFacade, Scenario

    spent = _Spent(space, curve_of)
    with tempfile.TemporaryDirectory() as folder:
        scenario = Scenario(
            _configuration_space(space, seed), deterministic=True, n_trials=100_000, min_budget=1, max_budget=epochs,
            seed=seed, output_directory=Path(folder),
        )  # fmt: skip
        search = MultiFidelityFacade(scenario, lambda config, seed=0, budget=0.0: 0.0, logging_level=50, overwrite=True)
        from smac.runhistory.dataclasses import TrialValue

        while spent.epochs < total:
            job = search.ask()
            assert job.budget is not None
            value, cost = spent.train(dict(job.config), max(round(job.budget), 1))
            search.tell(job, TrialValue(cost=value, time=float(cost)))
    return best(np.asarray(spent.spent), np.asarray(spent.values))


PEERS = {"optuna": optuna_search, "dehb": dehb_search, "smac": smac_search}
