"""The rows of the data that a supervised task trains and is measured on: minibatches, epochs, folds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jhpo.errors import invalid
from jhpo.kernels.shuffle import batch_rows
from jhpo.keys import key_of_words
from jhpo.space.categories import check_at_most
from jhpo.training.data import Data, count, rows_at
from jhpo.training.folds import FoldRows, counted, smallest, task_folds
from jhpo.training.lengths import traced_steps
from jhpo.training.metrics import Metric, check_whole
from jhpo.training.targets import Labels
from jhpo.training.trainable import HP
from jhpo.values.structure import Structured


class Rows(Structured):
    """Base of `Supervised`, whose fields these are."""

    train: Data
    valid: Data | None
    order: jax.Array
    task: str | None
    labels: Labels
    metrics: tuple[tuple[str, tuple[Any, ...]], ...]
    batch_size: int | Callable[[HP], jax.Array]
    max_batch_size: int
    length: int | Callable[[HP], jax.Array] | None
    epochs: float | Callable[[HP], jax.Array] | None
    max_steps: int
    independent_batches: bool
    splits: FoldRows | None
    ordered: bool
    usual_batch: bool
    fold: FoldRows | None

    @property
    def steps(self) -> int | Callable[[HP], jax.Array]:
        """Optimiser steps, or a function of the hyperparameters."""
        if self.length is not None:
            return self.length
        return self._steps_of_epochs if callable(self.epochs) or callable(self.batch_size) else self.max_steps

    def _steps_of_epochs(self, hp: HP) -> jax.Array:
        epochs = self.epochs(hp) if callable(self.epochs) else self.epochs
        per_epoch = (jnp.asarray(self._rows, jnp.int32) // self._batch_size(hp)).astype(jnp.float32)
        return traced_steps(jnp.asarray(epochs).astype(jnp.float32) * per_epoch)

    def _batch_size(self, hp: HP) -> jax.Array:
        """Batch size of a member, ``int32[]``."""
        if not callable(self.batch_size):
            return jnp.int32(self.batch_size)
        found = self.batch_size(hp)
        check_at_most("batch_size", found, self.max_batch_size, "max_batch_size")
        size = jnp.asarray(found)
        if size.shape != () or not jnp.issubdtype(size.dtype, jnp.integer):
            raise invalid("batch_size", "a function that returns an integer", f"{size.dtype}{list(size.shape)}")
        return jnp.clip(size, 1, self.max_batch_size).astype(jnp.int32)

    @property
    def _rows(self) -> int | jax.Array:
        """Number of training rows, ``int32[]`` where folds differ in size."""
        if self.fold is None:
            return count(self.train)
        return self.fold.train.shape[0] if self.fold.train_count is None else self.fold.train_count

    def all_rows(self) -> tuple[Data, jax.Array | None]:
        """The training data, and a mask ``bool[n]`` of the rows that count (None for all)."""
        if self.fold is None:
            return self.train, None
        return rows_at(self.train, self.fold.train), counted(self.fold.train, self.fold.train_count)

    def batch(self, key: jax.Array, t: jax.Array, hp: HP = None) -> Data:
        """Minibatch ``t``, shared by all members or drawn with the member's ``key``.

        If the size is a hyperparameter there are ``max_batch_size`` rows: those of the batch, repeated.
        """
        return self.batch_and_mask(key, t, hp)[0]

    def batch_and_mask(self, key: jax.Array, t: jax.Array, hp: HP) -> tuple[Data, jax.Array | None]:
        """The rows of a batch, and a mask ``bool[b]`` of those that count (None for all)."""
        if self.batch_size == (count(self.train) if self.fold is None else self.fold.train.shape[0]):
            return self.all_rows()
        order = key if self.independent_batches else key_of_words(self.order)
        if callable(self.batch_size):
            size = self._batch_size(hp)
            rows = batch_rows(order, t, self._rows, size, self.max_batch_size)
        else:
            rows = batch_rows(order, t, self._rows, self.batch_size)
        live = counted(rows, size) if callable(self.batch_size) else None
        return rows_at(self.train, rows if self.fold is None else self.fold.train[rows]), live

    def fold_parts(self, folds: int) -> FoldRows:
        """Rows of the training data in each of ``folds`` folds; see `jhpo.k_folds`.

        They are stratified for classification with a label a row, and dealt out at random unless ``ordered``.

        Raises:
          InvalidArgument: validation data beside the folds, a class that is missing in one, a batch that is larger.
        """
        if self.valid is not None:
            raise invalid("folds", "1 beside validation data; without valid= they are cut from train", folds)
        found = task_folds(self.train, self.labels, self.task, self.splits, folds, self.order, self.ordered)
        most, rows = smallest(found), count(self.train)
        asked = min(self.max_batch_size, found.train.shape[-1]) if self.usual_batch else self.max_batch_size
        whole = self.usual_batch and asked == found.train.shape[-1]  # whose rows that do not count are masked
        if asked > most and self.batch_size != rows and not whole:
            raise invalid("batch_size", f"at most {most}, the training rows of the smallest fold", self.max_batch_size)
        chosen = {name: Metric(*fields) for name, fields in self.metrics}
        for k in range(folds):
            valid = found.valid[k] if found.valid_count is None else found.valid[k, : int(found.valid_count[k])]
            check_whole(chosen, rows_at(self.train[1], valid), self.labels.ignore, unlike=found.valid_count is not None)
        return found

    def validation(self) -> tuple[Data, jax.Array | None]:
        """The validation data, and a mask ``bool[m]`` of the rows that count (None for all)."""
        if self.fold is not None:
            return rows_at(self.train, self.fold.valid), counted(self.fold.valid, self.fold.valid_count)
        if self.valid is None:
            raise invalid("valid", "validation data, or folds= in the search to cut them from train", None)
        return self.valid, None
