"""Data of supervised tasks: inputs and targets, each an array or a tree of arrays, with one row for each example."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, invalid
from jhpo.kernels.internals import is_traced
from jhpo.words.markup import brief

Arrays = Any  # an array [n, ...], or a tree of such: a dict, a tuple, a dataclass that is a pytree
Data = tuple[Arrays, Arrays]


def count(arrays: Arrays) -> int:
    """The number of rows.

    >>> count({"image": np.zeros((3, 8, 8)), "age": np.zeros(3)})
    3
    """
    return len(jax.tree.leaves(arrays)[0])


def rows_at(arrays: Arrays, rows: Any) -> Arrays:
    """Some rows, by ``int32[k]`` or a slice."""
    return jax.tree.map(lambda a: a[rows], arrays)


def as_arrays(given: Any) -> Arrays:
    """A list as one array, anything else as a tree of JAX's arrays."""
    return jnp.asarray(given) if isinstance(given, list) else jax.tree.map(jnp.asarray, given)


def is_single(arrays: Arrays) -> bool:
    """Whether it is one array, and no tree."""
    return hasattr(arrays, "shape")


def checked_data(name: str, pair: object) -> Data:
    """Inputs and targets as arrays of finite numbers, or trees of such.

    Raises:
      InvalidArgument: no pair, arrays of other things than numbers, or without a common first axis.
    """
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        found = f"a {type(pair).__name__}" + (f" of {len(pair)}" if isinstance(pair, (tuple, list)) else "")
        raise invalid(name, "a pair (inputs, targets) of arrays", found)
    other = [_length(part) for part in reversed(pair)]
    inputs, targets = (_arrays(name, what, a, n) for what, a, n in zip(("inputs", "targets"), pair, other))
    leaves = {f"{what}{jax.tree_util.keystr(path)}": leaf
              for what, tree in (("inputs", inputs), ("targets", targets))
              for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}  # fmt: skip
    lengths = {leaf.shape[:1] for leaf in leaves.values()}
    if len(lengths) != 1 or lengths & {(), (0,)}:
        shapes = {what: tuple(leaf.shape) for what, leaf in leaves.items()}
        raise invalid(name, "inputs and targets of one length >= 1", shapes)
    for what, leaf in leaves.items():
        _check_numbers(name if len(leaves) == 2 else f"{name}: {what}", leaf)
        check_held(f"{name}: {what}", leaf)
    return inputs, targets


def check_alike(train: Data, valid: Data) -> None:
    """Raises if the validation data have other parts than the training data.

    Raises:
      InvalidArgument: they do.
    """
    for what, a, b in zip(("inputs", "targets"), train, valid):
        forms: list[Any] = [jax.tree.structure(part) for part in (a, b)]
        if forms[0] != forms[1]:
            raise InvalidArgument(f"valid: expected {what} like those of train, {brief(a)}, got {brief(b)}")


def _length(part: Any) -> int | None:
    """The rows of inputs or targets, as far as that can be seen."""
    leaves = jax.tree.leaves(part)
    first = part if isinstance(part, list) or not leaves or not hasattr(leaves[0], "shape") else leaves[0]
    return len(first) if hasattr(first, "__len__") else None


def _arrays(name: str, what: str, given: Any, rows: int | None) -> Arrays:
    """An array, or a tree of arrays; lists, and tuples that are rows, become one array."""
    if isinstance(given, (list, tuple)) and not hasattr(given, "_fields") and _are_rows(given, rows):
        return array_of(name, what, given)
    if jax.tree_util.all_leaves([given]):  # an array, or a table of another library
        return array_of(name, what, given)
    if not jax.tree.leaves(given):
        raise invalid(name, f"{what}, an array or a tree of arrays", given)
    return jax.tree.map(lambda leaf: array_of(name, what, leaf), given)


def _are_rows(given: Sequence[Any], rows: int | None) -> bool:
    """Whether the entries of a list or a tuple are rows of one array, and no arrays with rows of their own."""
    shapes = {np.shape(part) for part in given if hasattr(part, "shape")}
    if not shapes:
        return not any(hasattr(leaf, "shape") for leaf in jax.tree.leaves(given))  # numbers, lists of them
    return len(shapes) == 1 and (isinstance(given, list) or len(given) == rows)


def array_of(name: str, what: str, given: Any) -> Any:
    """An array of what may be a table of another library, a list, or an array of objects.

    Raises:
      InvalidArgument: masked or missing values, lists of unlike lengths.
    """
    if np.ma.is_masked(given):  # NumPy would give the values below the mask
        raise invalid(name, "finite numbers", "masked values in the data")
    try:
        array: Any = given if isinstance(given, jax.Array) else np.asarray(given)
    except ValueError as error:  # lists of unlike lengths
        note = "several arrays with a row for each example go into a dict or a tuple"
        raise invalid(name, f"{what} in arrays", f"a {type(given).__name__}: {error}", note=note) from error
    return _of_objects(name, given, array) if array.dtype == object else array


def _of_objects(name: str, given: Any, array: np.ndarray) -> np.ndarray:
    """The numbers in an array of objects, as tables give them where columns have several types or may lack values."""
    others = [x for x in array.flat if not isinstance(x, (numbers.Real, np.bool_))]
    if not others:
        return np.asarray(array.tolist())
    if all(x is None or type(x).__name__ in ("NAType", "NaTType") for x in others):
        raise invalid(name, "finite numbers", "missing values in the data")
    columns = getattr(given, "columns", None)
    if columns is not None and array.ndim == 2:
        is_other = [any(not isinstance(x, (numbers.Real, np.bool_)) for x in column) for column in array.T]
        found = [str(column) for column, bad in zip(columns, is_other) if bad]
        advice = "a column of names becomes one of numbers by pandas.get_dummies, or by its cat.codes"
        raise invalid(name, "columns of numbers", found, note=advice)
    return array


def _check_numbers(name: str, array: Any) -> None:
    if not jnp.issubdtype(array.dtype, jnp.number) and array.dtype != bool:
        advice = "names become numbers by np.unique(names, return_inverse=True)[1]"
        raise invalid(name, "arrays of numbers", str(array.dtype), note=advice)
    if jnp.issubdtype(array.dtype, jnp.inexact) and not is_traced(array) and not np.isfinite(array).all():
        raise invalid(name, "finite numbers", "NaN or infinity in the data")


def check_held(name: str, array: Any) -> None:
    """Raises where JAX would make other numbers of those in a NumPy array: infinities, or integers modulo 2^32.

    Raises:
      InvalidArgument: it would.
    """
    if not isinstance(array, np.ndarray) or not array.size or array.dtype.kind not in "iufc":
        return
    held = jax.dtypes.canonicalize_dtype(array.dtype)
    if held == array.dtype:
        return
    advice = "scale them, or enable jax_enable_x64"
    if array.dtype.kind in "fc":
        if (most := np.abs(array).max()) > (limit := np.finfo(held).max):
            raise invalid(name, f"numbers up to {limit:.3g}, the largest of {held}", f"{most:.3g}", note=advice)
    elif array.min() < np.iinfo(held).min or array.max() > np.iinfo(held).max:
        found = f"{array.dtype} up to {array.max()}"
        raise invalid(name, f"integers that fit into {held}", found, note=f"convert them to floats, {advice}")
