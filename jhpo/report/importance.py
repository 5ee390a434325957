"""Which hyperparameters mattered: PED-ANOVA, from nothing but the trials of a study."""

from __future__ import annotations

import numpy as np

from jhpo.errors import JhpoError, check_number
from jhpo.report.trials import Trials

# Cells of the grid on which the densities of a continuous coordinate are compared.
_GRID = 64
_FEWEST = 8


def importance(trials: Trials, quantile: float = 0.1) -> dict[str, float]:
    """Share of each parameter in how the best trials differ from all others; the shares sum to 1.

    For each coordinate, the density of the best ``quantile`` of the trials is compared with that of all trials by the
    Pearson divergence: a parameter whose good values lie where all values lie did not matter. Interactions are not
    seen, and conditional parameters are judged by the trials in which they were active.

    Where the trials do not differ in value, or the best ones are most of them, every share is zero.

    Args:
      trials: columns with at least eight successful trials.
      quantile: share of trials that count as good, in (0, 1).

    Raises:
      InvalidArgument: a quantile out of range.
      JhpoError: too few successful trials.

    Source: Watanabe, Bansal, Hutter, "PED-ANOVA: efficiently quantifying hyperparameter importance in arbitrary
    subspaces", IJCAI 2023, theorem 1 with the whole space as reference.

    >>> import jhpo
    >>> study = jhpo.Study(jhpo.Space({"x": jhpo.Float(-1.0, 1.0), "idle": jhpo.Float(-1.0, 1.0)}), "random")
    >>> _ = study.optimize(lambda hp: hp["x"] ** 2, budget=256)
    >>> importance(study.trials)["x"] > 0.9
    True
    """
    check_number("quantile", quantile, 0.0, 1.0, open_low=True)
    ids = trials.table.ranked(trials.sign)
    if len(ids) < _FEWEST:
        raise JhpoError(f"importance needs at least {_FEWEST} successful trials, and there are {len(ids)}")
    space, units = trials.space, trials.table.unit.array[ids]
    value = trials.sign * trials.table.value.array[ids]
    # equal values are equally good: a constant says nothing of any parameter
    good = value <= value[min(max(int(np.ceil(quantile * len(ids))), 2), len(ids)) - 1]
    if good.all():
        return dict.fromkeys(space.names, 0.0)
    active = np.asarray(space.active(units.astype(np.float32)))
    divergences = np.zeros(space.dim)
    for d in range(space.dim):
        rows = active[:, d]
        if (rows & good).sum() >= 2:
            cells = int(space.cells[d])
            top, every = (_density(units[r, d], cells) for r in (rows & good, rows))
            divergences[d] = (every * (top / every - 1.0) ** 2).sum()
    shares = np.array([divergences[s].sum() for s in space.slices])
    total = shares.sum()
    return dict(zip(space.names, (shares / total if total > 0 else shares).tolist()))


def _density(unit: np.ndarray, cells: int) -> np.ndarray:
    """``float64[grid]``, positive with sum 1: counts of few cells, a Gaussian kernel estimate of a continuous line."""
    if 0 < cells <= _GRID:
        counts = np.bincount(np.minimum((unit * cells).astype(int), cells - 1), minlength=cells) + 1.0 / cells
        return counts / counts.sum()
    # Scott's rule, and no narrower than the grid can show
    width = max(1.06 * unit.std() * len(unit) ** -0.2, 1.0 / _GRID)
    centres = (np.arange(_GRID) + 0.5) / _GRID
    kernels = np.exp(-0.5 * ((centres[:, None] - unit[None]) / width) ** 2)
    # every observation weighs the same, also one at the border whose kernel is cut off there; and a uniform prior
    estimate = (kernels / kernels.sum(axis=0)).sum(axis=1) + 1.0 / _GRID
    return estimate / estimate.sum()
