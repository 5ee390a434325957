"""The study of the reliability campaigns, undisturbed."""

from __future__ import annotations

import jhpo
from tests.study.campaigns import SPACE, objective

GREEDY = jhpo.Greedy(8)


def whole(budget, seed=0):
    study = jhpo.Study(SPACE, GREEDY, seed=seed)
    study.optimize(objective, budget=budget)
    return study
