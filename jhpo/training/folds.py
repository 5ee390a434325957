"""Rows of the data in each fold of a cross-validation, as index arrays of one length."""

from __future__ import annotations

import functools
import numbers
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from jhpo.errors import InvalidArgument, check_integer, invalid
from jhpo.kernels.internals import is_traced
from jhpo.kernels.shuffle import permuted
from jhpo.keys import check_key, key_of_words, root_key
from jhpo.process.switches import with_transfers
from jhpo.training.data import Data, count
from jhpo.training.targets import Labels

# Folded into the key of the batches for the order in which rows are dealt out to the folds.
_DEALING = 0xF01D
SPLITS = "None, 'ordered', or pairs of index arrays (train, valid)"  # what cuts the folds of a task


class FoldRows(NamedTuple):
    """Rows on which a fold trains and on which it is measured; with a leading axis ``[folds]`` those of all folds.

    Folds of unlike sizes are padded with rows of their own.
    """

    train: jax.Array  # int32[n]
    valid: jax.Array  # int32[m]
    train_count: jax.Array | None  # int32[], how many of the first rows count; None if all do in every fold
    valid_count: jax.Array | None  # int32[]


@with_transfers
def k_folds(
    rows: int,
    folds: int,
    *,
    labels: ArrayLike | None = None,
    seed: int | jax.Array = 0,
    ordered: bool = False,
    ignore: int | None = None,
) -> FoldRows:
    """The rows of each fold of a k-fold cross-validation, for a trainable of your own (see docs/crossvalidation.md).

    Args:
      rows: number of rows of the data.
      folds: in how many parts they are cut, at least 2.
      labels: ``int[rows]``; the share of each class is then the same in all folds, up to one row.
      seed: of the random order in which rows are dealt out, an integer or a ``key[]``.
      ordered: keep the order of the data instead: the folds of scikit-learn's `KFold` and `StratifiedKFold`.
      ignore: label of rows that do not count, which are no class that each fold has to have.

    Raises:
      InvalidArgument: more folds than rows, or than the rows of a class; labels of another number.

    >>> parts = k_folds(5, 2, ordered=True)
    >>> parts.valid.tolist(), parts.valid_count.tolist()
    ([[0, 1, 2], [3, 4, 4]], [3, 2])
    """
    check_integer("rows", rows)
    check_integer("folds", folds, low=2)
    if labels is not None and np.shape(labels) != (rows,):
        raise invalid("labels", f"an array of shape ({rows},), a label for each row", np.shape(labels))
    if folds > rows:
        raise invalid("folds", f"at most {rows}, the number of rows", folds)
    order = np.arange(rows)
    if not ordered:
        key = root_key(seed) if isinstance(seed, numbers.Integral) else check_key(seed, "seed")
        dealing = jax.random.fold_in(key, jnp.uint32(_DEALING))
        order = np.asarray(_dealt(dealing, rows))
    owner = np.empty(rows, np.int64)
    if labels is None:
        owner[order] = np.repeat(np.arange(folds), [len(part) for part in np.array_split(order, folds)])
    else:
        owner[order] = _stratified(np.asarray(labels)[order], folds, ignore)
    return _stacked([(np.flatnonzero(owner != k), np.flatnonzero(owner == k)) for k in range(folds)])


@functools.partial(jax.jit, static_argnames="rows")
def _dealt(key: jax.Array, rows: int) -> jax.Array:
    """Row numbers in the order in which they are dealt out, ``int32[rows]``."""
    return permuted(key, jnp.arange(rows, dtype=jnp.int32), rows)


def _stratified(labels: np.ndarray, folds: int, ignore: int | None) -> np.ndarray:
    """The fold of each row, ``int[n]``: rows of a class go to the folds in turn, as in scikit-learn's splitter."""
    values, first, inverse, counts = np.unique(labels, return_index=True, return_inverse=True, return_counts=True)
    enough = counts >= folds if ignore is None else (counts >= folds) | (values == ignore)
    if not enough.all():
        few = int(np.where(enough, len(labels), counts).argmin())
        raise InvalidArgument(
            f"folds: expected at most {counts[few]}, the rows of class {values[few]}, which would be missing in a "
            f"fold, got {folds}"
        )
    classes = np.argsort(np.argsort(first))[inverse]  # numbered as they appear
    dealt = np.sort(classes)
    shares = [np.bincount(dealt[k::folds], minlength=len(values)) for k in range(folds)]
    owner = np.empty(len(labels), np.int64)
    for number, share in enumerate(np.stack(shares, axis=1)):
        owner[classes == number] = np.repeat(np.arange(folds), share)
    return owner


def given_folds(splits: Sequence[Any], rows: int) -> FoldRows:
    """Folds that the user cut: pairs of indices (train, valid), such as scikit-learn's splitters give.

    Raises:
      InvalidArgument: no pairs, or not of distinct row numbers, or a row that is trained on and measured in one fold.
    """
    if not isinstance(splits, Iterable):
        raise invalid("splits", SPLITS, splits)
    pairs = []
    for number, pair in enumerate(splits):
        name = f"splits[{number}]"
        if not isinstance(pair, (tuple, list)) or len(pair) != 2:
            raise invalid(name, "a pair of index arrays (train, valid)", type(pair).__name__)
        parts = [np.asarray(part) for part in pair]
        for part in parts:
            fits = part.ndim == 1 and part.size and part.dtype.kind in "iu"
            if not fits or part.min() < 0 or part.max() >= rows or len(np.unique(part)) < len(part):
                raise invalid(name, f"distinct row numbers below {rows}, at least one in each part", part)
        both = np.intersect1d(parts[0], parts[1])
        if len(both):
            raise invalid(name, "no row in both parts", f"{len(both)}, row {both[0]} among them")
        pairs.append(parts)
    if len(pairs) < 2:
        raise invalid("splits", "at least two folds", len(pairs))
    return _stacked(pairs)


def _stacked(pairs: Sequence[Sequence[np.ndarray]]) -> FoldRows:
    """Index arrays of all folds in one, padded with the last row of each."""
    sides, counts = [], []
    for parts in zip(*pairs):
        sizes = np.array([len(part) for part in parts], np.int32)
        places = np.minimum(np.arange(sizes.max()), sizes[:, None] - 1)
        sides.append(jnp.asarray(np.stack([part[at] for part, at in zip(parts, places)]), jnp.int32))
        counts.append(None if (sizes == sizes[0]).all() else jnp.asarray(sizes))
    return FoldRows(*sides, *counts)


def smallest(fold: FoldRows) -> int:
    """The training rows of the smallest fold."""
    return fold.train.shape[-1] if fold.train_count is None else int(np.asarray(fold.train_count).min())


def labels_in_folds(folds: FoldRows, labels: np.ndarray, ignore: int | None) -> None:
    """Refuses folds of which a part has no labels, or that lack a class to learn.

    Args:
      folds: all of them.
      labels: ``int[rows, ...]`` of the data.
      ignore: label of rows that do not count.

    Raises:
      InvalidArgument: it names the fold and the class.
    """

    def classes(rows: Any) -> np.ndarray:
        found = np.unique(labels[np.asarray(rows)])
        return found if ignore is None else found[found != ignore]

    everything = classes(np.arange(len(labels)))
    for number, (train, valid) in enumerate(zip(folds.train, folds.valid)):
        missing = np.setdiff1d(everything, classes(train))
        if len(missing):
            raise InvalidArgument(
                f"folds: expected every class in the training rows of each fold, got none of class {missing[0]} in "
                f"fold {number}"
            )
        if not len(classes(valid)):
            raise InvalidArgument(
                f"folds: expected labels that are not ignored in every fold, got none in fold {number}"
            )


@with_transfers
def task_folds(
    train: Data,
    labels: Labels,
    task: str | None,
    splits: FoldRows | None,
    folds: int,
    order: jax.Array,
    ordered: bool,
) -> FoldRows:
    """The folds of a supervised task; arguments are fields of `Supervised`.

    Raises:
      InvalidArgument: another number than the user cut, or folds that lack a class.
    """
    if any(map(is_traced, (*jax.tree.leaves(train), order))):
        raise InvalidArgument("folds: expected data that are known outside of jit, got traced ones")
    classes = task == "classification" or labels.ignore is not None
    targets = np.asarray(train[1]) if classes else np.empty(0)
    if splits is not None:
        if len(splits.train) != folds:
            raise invalid("folds", f"{len(splits.train)}, as many as there are splits", folds)
        found = splits
    else:
        by_row = classes and targets.size == len(targets)
        found = k_folds(
            count(train), folds, seed=key_of_words(order), ordered=ordered,
            labels=targets.reshape(-1) if by_row else None, ignore=labels.ignore,
        )  # fmt: skip
    if classes:
        labels_in_folds(found, targets, labels.ignore)
    return found


def counted(rows: jax.Array, count: jax.Array | None) -> jax.Array | None:
    """A mask ``bool[k]`` of the first ``count`` rows; None if all count."""
    return None if count is None else jnp.arange(rows.shape[0], dtype=jnp.int32) < count
