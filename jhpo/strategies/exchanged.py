"""What the methods of a strategy are given and return: its form is checked where it is traced."""

from __future__ import annotations

from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, invalid
from jhpo.strategies.results import Evaluation
from jhpo.values.pytrees import Structure
from jhpo.words.markup import brief

# dimensions of the fields of an `Evaluation`, the first of which are the points
_DIMENSIONS = {"value": 1, "grad": 2, "cost": 1, "constraint": 2, "variance": 1, "mask": 1, "values": 2}


def check_result(units: Any, result: Any) -> None:
    """Raises `InvalidArgument` unless an `Evaluation` has a row for each point: others would be broadcast, unnoticed.

    Args:
      units: ``float[n, d]``.
      result: at these points.

    >>> check_result(np.zeros((4, 2)), Evaluation(np.zeros((4, 1))))
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: result.value: expected an array of shape (4,), got float64[4, 1]
    """
    if not isinstance(result, Evaluation):
        raise invalid("result", "jhpo.Evaluation(value), with value of shape (n,)", result)
    if len(getattr(units, "shape", ())) != 2:
        raise invalid("units", "points as rows, float[n, d]", units)
    rows = np.shape(units)[0]
    for name, dimensions in _DIMENSIONS.items():
        found = getattr(result, name)
        if found is None and name != "value":
            continue
        if name == "variance" and result.values is not None:
            dimensions = 2  # of each objective
        shape = getattr(found, "shape", None)
        if shape is None or len(shape) != dimensions or shape[0] != rows:
            wanted = f"({rows},)" if dimensions == 1 else f"({rows}, ...), of {dimensions} dimensions"
            several = name == "value" and shape is not None and len(shape) == 2 and shape[0] == rows and shape[1] > 1
            meant = "; several objectives are Evaluation(values[:, 0], values=values)" * several
            raise InvalidArgument(f"result.{name}: expected an array of shape {wanted}, got {brief(found)}{meant}")


def check_asked(strategy: Any, out: Any) -> None:
    """Raises `InvalidArgument` unless `ask` has returned a row for each member of the population, and a state."""
    rows = None if getattr(strategy, "phased", False) else strategy.population
    wanted = f"float[{rows or 'n'}, d] and a state from {type(strategy).__name__}.ask"
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise invalid("strategy", f"{wanted}, a tuple of two", type(out).__name__)
    units = out[0]
    form = hasattr(units, "dtype") and jnp.issubdtype(units.dtype, jnp.floating) and len(units.shape) == 2
    if not form or rows not in (None, units.shape[0]):
        raise InvalidArgument(f"strategy: expected {wanted}, got {brief(units)}")


def check_state(what: str, before: Any, after: Any) -> None:
    """Raises `InvalidArgument` if a state has another structure, other shapes or dtypes than the one it comes from.

    Args:
      what: the method that has returned it.
      before: the state that it was given.
      after: the one that it has returned.

    >>> check_state("Hill.tell", {"x": np.zeros(3)}, {"x": np.zeros(4)})
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: strategy: expected a state from Hill.tell with the shapes and dtypes of the one that \
it was given, got another ['x']: float32[4] instead of float32[3]
    """
    wanted = f"a state from {what} with the %s of the one that it was given"
    was_made, made = (cast(Structure, jax.tree.structure(state)) for state in (before, after))
    if was_made != made:
        raise invalid("strategy", wanted % "structure", type(after).__name__)
    for (path, was), now in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        if _form(was) != _form(now):
            text = f"another {jax.tree_util.keystr(path) or 'array'}: {_form(now)} instead of {_form(was)}"
            raise InvalidArgument(f"strategy: expected {wanted % 'shapes and dtypes'}, got {text}")


def _form(leaf: Any) -> str:
    dtype: Any = jax.dtypes.canonicalize_dtype(leaf.dtype if hasattr(leaf, "dtype") else np.result_type(leaf), True)
    return f"{dtype}{list(np.shape(leaf))}"
