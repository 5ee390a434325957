"""The first rows that are different points of a space."""

from __future__ import annotations

import numpy as np

from jhpo.process.lifetimes import Programs
from jhpo.process.switches import with_transfers
from jhpo.space.space import Space

_BLOCK = 1024  # rows per call: one shape, one program

_canonical = Programs(lambda space, units: space.canonical(units))


@with_transfers
def first_distinct(space: Space, units: np.ndarray, order: np.ndarray, k: int) -> np.ndarray:
    """The first ``k`` entries of ``order`` whose rows are different points, or fewer if there are no more.

    Rows with the same hyperparameters are one point: the same cells, inactive coordinates ignored. Continuous
    coordinates are compared in float32, in which they are evaluated.

    Args:
      space: of the rows.
      units: ``float[n, d]``.
      order: ``int[m]``, row numbers, preferred ones first.
      k: the number of rows wanted.

    Returns:
      ``int64[<= k]`` row numbers.

    >>> from jhpo import Choice
    >>> space = Space({"kind": Choice(["a", "b"])})
    >>> first_distinct(space, np.array([[0.1], [0.2], [0.9]]), np.array([1, 0, 2]), 2).tolist()
    [1, 2]
    """
    found: dict[bytes, np.integer] = {}
    for start in range(0, len(order), _BLOCK):
        rows = order[start : start + _BLOCK]
        padded = np.zeros((_BLOCK, space.dim), np.float32)
        padded[: len(rows)] = units[rows]
        points = np.asarray(_canonical(space, padded))[: len(rows)] + np.float32(0)  # no negative zero
        for row, point in zip(rows, points):
            found.setdefault(point.tobytes(), row)
            if len(found) == k:
                return np.array(list(found.values()), np.int64)
    return np.array(list(found.values()), np.int64)
