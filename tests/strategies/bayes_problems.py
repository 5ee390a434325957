"""Spaces, rows and a small BayesOpt that the tests of BayesOpt share."""

from __future__ import annotations

import numpy as np

import jhpo

PLANE = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)})
MIXED = jhpo.Space(
    {
        "kind": jhpo.Choice(["a", "b", "c"]),
        "rate": jhpo.Float(1e-4, 1.0, log=True),
        "decay": jhpo.Float(0.0, 1.0, when={"kind": ["b", "c"]}),
        "width": jhpo.Int(1, 40),
    }
)
# small programs: what is tested here does not depend on how hard they search
SMALL = jhpo.BayesOpt(candidates=64, starts=2, fit_iterations=8, search_iterations=8)
ROWS = 20


def bowl(units: np.ndarray) -> np.ndarray:
    return ((np.asarray(units) - 0.3) ** 2).sum(axis=1)
