"""Studies told by hand, so that nothing compiles."""

from __future__ import annotations

import dataclasses

import numpy as np

import jhpo
from jhpo.report.trials import Trials
from jhpo.trial import TrialState, TrialTable

MIXED = jhpo.Space({
    "lr": jhpo.Float(1e-5, 1e-1, log=True), "momentum": jhpo.Float(0.5, 0.999, scale="reverse_log"),
    "dropout": jhpo.Float(0.01, 0.9, scale="logit"), "width": jhpo.Int(8, 256, log=True),
    "opt": jhpo.Choice(["sgd", "adam"]), "b2": jhpo.Float(0.9, 0.999, when={"opt": "adam"}),
    "mix": jhpo.Float(0.0, 1.0, shape=(2,)),
})  # fmt: skip


def absorbed(space, value, count=80, seed=0, **options) -> jhpo.Study:
    """A study of random points with the values of a function; None is a failure."""
    study = jhpo.Study(space, "random", seed=seed, **options)
    units = np.random.default_rng(seed).random((count, space.dim))
    points = [space.decode(u) for u in units]
    study.absorb(points, [value(space.flat(p)) for p in points])
    return study


def mixed(seed: int = 0, count: int = 80) -> jhpo.Study:
    """The learning rate matters most, the optimiser a little; large learning rates fail."""

    def value(hp):
        if hp["lr"] > 0.005:
            return float("nan")
        return (np.log10(hp["lr"]) + 3) ** 2 + 0.5 * (hp["opt"] == "sgd") + 0.1

    return absorbed(MIXED, value, count, seed)


def big(count: int) -> Trials:
    """Many trials with the best first, without a log behind them."""
    study = mixed(count=8)
    table = TrialTable(MIXED.dim)
    table.add(count)
    table.unit.array[:] = np.random.default_rng(0).random((count, MIXED.dim))
    table.value.array[:] = np.arange(count) + 1.0
    table.state.array[:] = TrialState.COMPLETE
    table.asked.array[:] = np.arange(count)
    table.told.array[:] = np.arange(count) + 5.0
    return dataclasses.replace(study.trials, table=table)
