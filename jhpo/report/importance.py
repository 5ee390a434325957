"""Importance of hyperparameters by PED-ANOVA, from the trials of a study."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jhpo.errors import JhpoError, check_number
from jhpo.objectives import check_single
from jhpo.report.trials import Trials
from jhpo.space.cells import index_of
from jhpo.space.host_rows import active_rows
from jhpo.space.parameters import Parameter

# Number of grid cells on which densities of a continuous coordinate are compared.
_GRID = 64
_FINE = 16 * _GRID
FEWEST = 8
_RESAMPLED = 20  # times, for standard errors


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
    trials = trials.still()
    ids = _checked(trials, quantile)
    shares = _shares(trials, trials.table.unit.array[ids], trials.sign * trials.table.value.array[ids], quantile)
    return dict(zip(trials.space.names, shares.tolist()))


class Share(NamedTuple):
    """How much a parameter mattered."""

    share: float
    error: float  # standard error


def importance_with_errors(trials: Trials, quantile: float = 0.1) -> dict[str, Share]:
    """`importance`, with standard errors from trials that are drawn again with replacement.

    Arguments and errors are those of `importance`.
    """
    ids = _checked(trials, quantile)
    units, value = trials.table.unit.array[ids], trials.sign * trials.table.value.array[ids]
    shares, rng = _shares(trials, units, value, quantile), np.random.default_rng(0)
    drawn = (np.sort(rng.integers(0, len(ids), len(ids))) for _ in range(_RESAMPLED))
    errors = np.std([_shares(trials, units[rows], value[rows], quantile) for rows in drawn], axis=0, ddof=1)
    return {name: Share(*pair) for name, *pair in zip(trials.space.names, shares.tolist(), errors.tolist())}


def _checked(trials: Trials, quantile: float) -> np.ndarray:
    """Successful trials, best first."""
    check_number("quantile", quantile, 0.0, 1.0, open_low=True)
    check_single("importance", trials.objectives, "it says what made one value good")
    ids = trials.table.ranked(trials.sign)
    if len(ids) < FEWEST:
        raise JhpoError(f"importance needs at least {FEWEST} successful trials, and there are {len(ids)}")
    return ids


def _shares(trials: Trials, units: np.ndarray, value: np.ndarray, quantile: float) -> np.ndarray:
    """``float64[parameters]`` from rows whose values ascend."""
    space = trials.space
    # equal values are equally good: from constant values nothing can be learned
    good = value <= value[min(max(int(np.ceil(quantile * len(value))), 2), len(value)) - 1]
    if good.all():
        return np.zeros(len(space.names))
    active = active_rows(space, units)
    divergences = np.zeros(space.dim)
    for on, parameter, where in zip(active, space.parameters, space.slices):
        for d in range(where.start, where.stop):
            if (on & good).sum() >= 2:
                top, every = (_density(units[rows, d], parameter) for rows in (on & good, on))
                divergences[d] = (every * (top / every - 1.0) ** 2).sum()
    shares = np.array([divergences[s].sum() for s in space.slices])
    total = shares.sum()
    return np.asarray(shares / total if total > 0 else shares)


def _density(unit: np.ndarray, parameter: Parameter) -> np.ndarray:
    """``float64[grid]``, positive with sum 1: counts if there are few cells, otherwise a Gaussian kernel estimate."""
    cells = parameter.cells
    if 0 < cells <= _GRID:
        counts = np.bincount(index_of(parameter, unit, np), minlength=cells) + 1.0 / cells
        return counts / counts.sum()
    # Scott's rule, but not narrower than the grid
    width = max(1.06 * unit.std() * len(unit) ** -0.2, 1.0 / _GRID)
    # of many trials, those of a narrow cell share a kernel
    places, weights = unit, np.ones(len(unit))
    if len(unit) > _FINE:
        cell = np.minimum((unit * _FINE).astype(int), _FINE - 1)
        weights = np.bincount(cell, minlength=_FINE).astype(float)
        places = (np.arange(_FINE) + 0.5) / _FINE
    centres = (np.arange(_GRID) + 0.5) / _GRID
    kernels = np.exp(-0.5 * ((centres[:, None] - places[None]) / width) ** 2)
    # every observation has the same weight, even if its kernel is truncated at the border; plus a uniform prior
    estimate = (weights * kernels / kernels.sum(axis=0)).sum(axis=1) + 1.0 / _GRID
    return estimate / estimate.sum()
