"""Type aliases, all `Any`, for pytrees whose structure belongs to the user or to a library; equality of host values."""

from __future__ import annotations

from typing import Any

import numpy as np

HP = Any  # hyperparameters, a tree like the space's: arrays in traced code, Python and NumPy values on the host
Params = Any  # trained parameters of a model, a pytree of arrays
State = Any  # the state of a training or a strategy, a pytree of arrays
Tree = Any  # any pytree
Structure = Any  # a result of `jax.tree.structure`, whose stubs lack the methods


def same(a: Any, b: Any) -> bool:
    """Whether two host values have equal content: arrays and all that is in dicts, lists and tuples too; NaN is NaN.

    >>> same({"w": np.ones(2), "x": float("nan")}, {"w": np.ones(2), "x": float("nan")}), same(np.ones(2), np.ones(3))
    (True, False)
    """
    if a is b:
        return True
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        alike = isinstance(a, np.ndarray) and isinstance(b, np.ndarray) and a.shape == b.shape
        return alike and same(a.tolist(), b.tolist())
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple) and type(a) is type(b):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b) or bool(a != a and b != b)
