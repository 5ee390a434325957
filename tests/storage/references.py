"""The study of the reliability campaigns, undisturbed, and how far another one equals it."""

from __future__ import annotations

import numpy as np

import jhpo
from benchmarks.reliability import SPACE, objective

GREEDY = jhpo.Greedy(8)


def whole(budget, seed=0):
    study = jhpo.Study(SPACE, GREEDY, seed=seed)
    study.optimize(objective, budget=budget)
    return study


def columns(study):
    table = study.history.table
    return table.value.array.copy(), table.unit.array.copy(), table.state.array.copy()


def assert_prefix(study, reference, rows):
    for a, b in zip(columns(study), columns(reference)):
        np.testing.assert_array_equal(a[:rows], b[:rows])
