"""Importance of hyperparameters by fANOVA: variance of a random forest that each parameter explains by itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from jhpo.errors import JhpoError, MissingExtra
from jhpo.objectives import check_single
from jhpo.report.importance import FEWEST, Share
from jhpo.report.trials import Trials
from jhpo.space.host_rows import active_rows

_TREES, _DEPTH = 64, 64
_MOST_ROWS = 4000  # of a forest: more trials cost time and change the shares little


def fanova(trials: Trials, seed: int = 0) -> dict[str, Share]:
    """Main effect of each parameter by name, and its standard error over the trees; shares sum to at most 1.

    A random forest is fitted to the values; in each tree, the variance of the mean over all other parameters is divided
    by that of the whole tree. What is missing from 1 is due to interactions. Inactive parameters are at their defaults.
    Equal values give zeros.

    Args:
      trials: columns with at least eight successful trials; of more than 4,000 a random subset is used.
      seed: of the forest.

    Raises:
      JhpoError: too few successful trials.
      MissingExtra: scikit-learn is not installed.

    Source: Hutter, Hoos, Leyton-Brown, "An efficient approach for assessing hyperparameter importance", ICML 2014.
    """
    check_single("importance", trials.objectives, "it says what made one value good")
    try:
        from sklearn.ensemble import RandomForestRegressor
    except ImportError as error:
        raise MissingExtra("fANOVA needs scikit-learn: pip install 'jhpo[report]'") from error
    ids, space = trials.table.successes(), trials.space
    if len(ids) < FEWEST:
        raise JhpoError(f"importance needs at least {FEWEST} successful trials, and there are {len(ids)}")
    rng = np.random.default_rng(seed)
    if len(ids) > _MOST_ROWS:
        ids = np.sort(rng.choice(ids, _MOST_ROWS, replace=False))
    value = trials.table.value.array[ids]
    if np.ptp(value) == 0:
        return dict.fromkeys(space.names, Share(0.0, 0.0))
    columns = _columns(trials, ids)
    forest = RandomForestRegressor(_TREES, max_depth=_DEPTH, random_state=int(rng.integers(2**31)))
    forest.fit(np.concatenate(columns, axis=1), value)
    widths = [column.shape[1] for column in columns]
    effects = np.asarray([_main_effects(*_leaves(tree.tree_, sum(widths)), widths) for tree in forest.estimators_])
    effects = np.stack([effects[:, where].sum(axis=1) for where in space.slices], axis=1)
    share, spread = effects.mean(axis=0), effects.std(axis=0, ddof=1) / np.sqrt(len(effects))
    return {name: Share(*pair) for name, *pair in zip(space.names, share.tolist(), spread.tolist())}


def _columns(trials: Trials, ids: np.ndarray) -> list[np.ndarray]:
    """For each coordinate ``float64[n, 1]`` of the unit row, or a column of 0 and 1 for each value of a category."""
    space, columns = trials.space, []
    units = trials.table.unit.array[ids].copy()
    for active, where in zip(active_rows(space, units), space.slices):
        units[~active, where] = space.default[where]
    for d in range(space.dim):
        count = int(space.cells[d])
        if space.categorical[d] and count > 1:
            columns.append(np.eye(count)[np.minimum((units[:, d] * count).astype(int), count - 1)])
        else:
            columns.append(units[:, d : d + 1])
    return columns


def _leaves(tree: Any, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values ``float[k]`` of a tree's leaves, and the borders ``float[k, width]`` of their boxes in the unit cube."""
    nodes, low, high = np.zeros(1, int), np.zeros((1, width)), np.ones((1, width))
    found = []
    while len(nodes):
        left = tree.children_left[nodes]
        ends, goes = left < 0, left >= 0
        found.append((tree.value[nodes[ends], 0, 0], low[ends], high[ends]))
        nodes, low, high = nodes[goes], low[goes], high[goes]
        at, cut = (np.arange(len(nodes)), tree.feature[nodes]), tree.threshold[nodes]
        below, above = high.copy(), low.copy()
        below[at], above[at] = np.minimum(high[at], cut), np.maximum(low[at], cut)
        nodes = np.concatenate([tree.children_left[nodes], tree.children_right[nodes]])
        low, high = np.concatenate([low, above]), np.concatenate([below, high])
    value, low, high = (np.concatenate(parts) for parts in zip(*found))
    return value, low, high


def _main_effects(value: np.ndarray, low: np.ndarray, high: np.ndarray, widths: list[int]) -> np.ndarray:
    """``float[coordinates]``: share of the tree's variance that each coordinate explains by itself."""
    ends = np.cumsum(widths)
    places = [slice(end - width, end) for end, width in zip(ends, widths)]
    allowed = [_allowed(low[:, at], high[:, at]) for at in places]
    sides = [high[:, at][:, 0] - low[:, at][:, 0] if ok is None else ok.mean(axis=1) for at, ok in zip(places, allowed)]
    weight = np.prod(sides, axis=0)
    mean = (weight * value).sum()
    variance = (weight * (value - mean) ** 2).sum()
    if variance <= 0:
        return np.zeros(len(widths))
    out = []
    for at, ok, side in zip(places, allowed, sides):
        share = value * np.divide(weight, side, out=np.zeros_like(weight), where=side > 0)
        if ok is not None:
            sizes, means = np.full(ok.shape[1], 1.0 / ok.shape[1]), share @ ok
        else:
            # a leaf counts between its borders: add at the lower one, subtract at the upper one
            borders = np.unique([low[:, at], high[:, at]])
            steps = np.zeros(len(borders))
            np.add.at(steps, np.searchsorted(borders, low[:, at][:, 0]), share)
            np.subtract.at(steps, np.searchsorted(borders, high[:, at][:, 0]), share)
            sizes, means = np.diff(borders), np.cumsum(steps)[:-1]
        out.append((sizes * (means - mean) ** 2).sum() / variance)
    return np.asarray(out)


def _allowed(low: np.ndarray, high: np.ndarray) -> np.ndarray | None:
    """``bool[k, values]``: which values of a category the leaves contain; None for a number."""
    if low.shape[1] == 1:
        return None
    must = low > 0
    return (high >= 1) & (must | ~must.any(axis=1, keepdims=True))
