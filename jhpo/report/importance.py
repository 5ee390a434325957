"""Importance of hyperparameters by PED-ANOVA, from the trials of a study."""

from __future__ import annotations

import numpy as np

from jhpo.errors import JhpoError, check_number
from jhpo.objectives import check_single
from jhpo.report.trials import Trials

# Number of grid cells on which densities of a continuous coordinate are compared.
_GRID = 64
_FEWEST = 8


def importance(trials: Trials, quantile: float = 0.1) -> dict[str, float]:
    """Importance of each parameter by name; importances sum to 1.

    For each coordinate, the density of the best ``quantile`` of the trials is compared with that of all trials by the
    Pearson divergence: a parameter whose good values are distributed like all values did not matter. Interactions are
    ignored; a conditional parameter is judged by the trials in which it was active.

    If all trials count as good, for example because their values are equal, every importance is zero.

    Args:
      trials: columns with at least eight successful trials.
      quantile: fraction of the trials that count as good, in (0, 1].

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
    check_single("importance", trials.objectives, "it says what made one value good")
    ids = trials.table.ranked(trials.sign)
    if len(ids) < _FEWEST:
        raise JhpoError(f"importance needs at least {_FEWEST} successful trials, and there are {len(ids)}")
    space, units = trials.space, trials.table.unit.array[ids]
    value = trials.sign * trials.table.value.array[ids]
    # equal values are equally good: from constant values nothing can be learned
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
    """``float64[grid]``, positive with sum 1: counts if there are few cells, otherwise a Gaussian kernel estimate."""
    if 0 < cells <= _GRID:
        counts = np.bincount(np.minimum((unit * cells).astype(int), cells - 1), minlength=cells) + 1.0 / cells
        return counts / counts.sum()
    # Scott's rule, but not narrower than the grid
    width = max(1.06 * unit.std() * len(unit) ** -0.2, 1.0 / _GRID)
    centres = (np.arange(_GRID) + 0.5) / _GRID
    kernels = np.exp(-0.5 * ((centres[:, None] - unit[None]) / width) ** 2)
    # every observation has the same weight, even if its kernel is truncated at the border; plus a uniform prior
    estimate = (kernels / kernels.sum(axis=0)).sum(axis=1) + 1.0 / _GRID
    return estimate / estimate.sum()
