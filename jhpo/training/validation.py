"""Evaluation of a whole validation set in blocks of rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jhpo.training.data import Arrays, count, rows_at

Targets = Any  # a pytree of arrays [n, ...]
Averages = dict[str, tuple[jax.Array, jax.Array]]  # by name, a mean over rows and the number of rows, float[] each


def in_blocks(
    outputs_of: Callable[[Arrays], Any],
    means: Callable[[Any, Targets], Averages],
    data: tuple[Arrays, Targets],
    block: int,
    *,
    keep: bool,
) -> tuple[dict[str, jax.Array], Any]:
    """Means over all rows, computed in blocks of at most ``block`` rows.

    Args:
      outputs_of: the model, ``[b, ...] -> [b, ...]``; inputs and outputs may be trees.
      means: of outputs and targets of a block.
      data: inputs and targets, each an array ``[n, ...]`` or a tree of them.
      block: b, the rows of a block; the last one may have fewer.
      keep: whether to return the outputs of all rows.

    Returns:
      The means by name, ``float[]``, and the outputs ``[n, ...]`` or None.

    >>> x = jnp.arange(5.0)
    >>> square = lambda outputs, targets: {"loss": (jnp.mean((outputs - targets) ** 2), jnp.float32(len(outputs)))}
    >>> found, outputs = in_blocks(lambda x: 2 * x, square, (x, x), 2, keep=True)
    >>> float(found["loss"]), outputs.tolist()
    (6.0, [0.0, 2.0, 4.0, 6.0, 8.0])
    """

    def sums(part: tuple[Arrays, Targets]) -> tuple[Averages, Any]:
        outputs = outputs_of(part[0])
        found = means(outputs, part[1])
        return {name: (mean * count, count) for name, (mean, count) in found.items()}, outputs if keep else None

    n = count(data)
    block = min(block, n)
    whole = n // block
    if whole == 1:
        total, outputs = sums(rows_at(data, slice(block)))
    else:
        blocks = jax.tree.map(lambda a: a[: whole * block].reshape(whole, block, *a.shape[1:]), data)
        total, outputs = jax.lax.map(sums, blocks)
        total = jax.tree.map(lambda s: s.sum(axis=0), total)
        outputs = jax.tree.map(lambda a: a.reshape(whole * block, *a.shape[2:]), outputs)
    if n > whole * block:
        rest, others = sums(rows_at(data, slice(whole * block, n)))
        total = jax.tree.map(jnp.add, total, rest)
        outputs = jax.tree.map(lambda *parts: jnp.concatenate(parts), outputs, others)
    return {name: value / count for name, (value, count) in total.items()}, outputs


def scalars_of(
    outputs_of: Callable[[Arrays], Any],
    values: Callable[[Any, Targets], dict[str, Any]],
    data: tuple[Arrays, Targets],
    block: int,
) -> set[str]:
    """The names of values that are no means over rows: scalars, of which those of blocks do not add up.

    Args:
      outputs_of, data, block: as of `in_blocks`.
      values: of outputs and targets of a block, by name, a scalar or a value for each row.

    Returns:
      The names of the scalars (a root, a likelihood of ranks); none where all rows are one block.

    >>> root = lambda outputs, targets: {"root": jnp.sqrt(jnp.mean((outputs - targets) ** 2)), "rows": outputs}
    >>> scalars_of(jnp.exp, root, (jnp.arange(5.0), jnp.arange(5.0)), 2)
    {'root'}
    """
    found: set[str] = set()

    def note(part: tuple[Arrays, Targets]) -> None:
        found.update(name for name, value in values(outputs_of(part[0]), part[1]).items() if not jnp.ndim(value))

    if count(data) > block:
        jax.eval_shape(note, rows_at(data, slice(block)))
    return found
