"""Checks of targets against outputs: range of labels, shapes, ignored rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jhpo.errors import InvalidArgument, invalid, warn_caller
from jhpo.kernels.internals import is_traced, shape_of
from jhpo.kernels.programs import equations


class Labels(NamedTuple):
    """Properties of integer labels, known before tracing."""

    classes: int | None  # one more than the largest label that is not ignored; None if the labels are traced
    ignore: int | None  # label of rows to ignore


def check_labels(named: dict[str, Any], ignore: int | None) -> Labels:
    """The `Labels` of several data sets, after checking them.

    Args:
      named: "train" and "valid", each an array of labels of any shape.
      ignore: label of rows to ignore, or None.

    Raises:
      InvalidArgument: labels that are not integers >= 0, or only ignored ones.

    >>> check_labels({"train": np.array([0, 2, -1])}, ignore=-1)
    Labels(classes=3, ignore=-1)
    """
    if ignore is not None and (isinstance(ignore, bool) or not isinstance(ignore, (int, np.integer))):
        raise invalid("ignore", "an integer label, or None", ignore)
    if ignore is not None and not -(2**31) <= ignore < 2**31:
        raise invalid("ignore", "a label that an int32 can hold", ignore)
    largest: int | None = -1
    for name, labels in named.items():
        if not jnp.issubdtype(labels.dtype, jnp.integer) and labels.dtype != bool:
            hint = "" if labels.ndim == 1 else " (one-hot rows become labels by argmax)"
            note = "for targets that are numbers: loss='regression'"
            expected = f"integers 0, 1, ... for classification{hint}"
            raise invalid(f"{name}: labels", expected, str(labels.dtype), note=note)
        if is_traced(labels):
            largest = None
            continue
        values = np.asarray(labels).astype(np.int64 if labels.dtype != np.uint64 else np.uint64)
        live = values if ignore is None else values[values != ignore]
        if not live.size:
            raise invalid(f"{name}: labels", f"some that are not ignored ({ignore})", "none")
        if live.min() < 0:
            lowest = int(live.min())
            hint = "labels -1 and 1 become 0 and 1 by y > 0" if lowest == -1 else "rows that do not count"
            hint = hint if lowest == -1 else f"pass ignore={lowest} for {hint}"
            raise invalid(f"{name}: labels", f"integers from 0 to the number of outputs less one ({hint})", lowest)
        if live.max() >= 2**31 - 1:
            raise invalid(f"{name}: labels", "integers below 2^31", int(live.max()))
        largest = None if largest is None else max(largest, int(live.max()))
    return Labels(None if largest is None else largest + 1, None if ignore is None else int(ignore))


def fit_labels(outputs: jax.Array, targets: jax.Array, labels: Labels) -> jax.Array:
    """Labels in the shape ``outputs.shape[:-1]``, from that shape or one with an extra last axis of length 1.

    Raises:
      InvalidArgument: another shape, fewer than two outputs, or fewer outputs than classes. Raised during tracing,
        before anything is compiled.
    """
    wanted = outputs.shape[:-1]
    if outputs.ndim < 2 or outputs.shape[-1] < 2:
        raise InvalidArgument(
            f"model: expected outputs [n, classes] with at least 2 classes for loss='classification', got "
            f"{list(outputs.shape)} for labels {list(targets.shape)}; two classes need two outputs"
        )
    if labels.classes is not None and labels.classes > outputs.shape[-1]:
        number, largest = outputs.shape[-1], labels.classes - 1
        raise InvalidArgument(
            f"train, valid: labels: expected 0 to {number - 1} for a model with {number} outputs, got {largest}; "
            f"labels count from 0, and rows that do not count are marked by ignore={largest}"
        )
    if targets.shape == (*wanted, 1):
        targets = targets[..., 0]
    if targets.shape != wanted:
        hint = "; one-hot rows become labels by argmax" if targets.shape == outputs.shape else ""
        raise InvalidArgument(
            f"train, valid: labels: expected the shape {list(wanted)} for outputs {list(outputs.shape)}, got "
            f"{list(targets.shape)}{hint}"
        )
    return targets


def fit_values(outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Outputs and targets in a common shape; either may have an extra last axis of length 1.

    Raises:
      InvalidArgument: shapes that differ otherwise and would be broadcast against each other.
    """
    if outputs.shape == (*targets.shape, 1):
        outputs = outputs[..., 0]
    elif targets.shape == (*outputs.shape, 1):
        targets = targets[..., 0]
    if outputs.shape != targets.shape:
        raise invalid("model", f"outputs of the targets' shape {list(targets.shape)}", list(outputs.shape))
    return outputs, targets.astype(outputs.dtype)


def wide(values: jax.Array) -> jax.Array:
    """Floats of 16 bits as float32, others as they are: their means would have three digits, and many ties.

    >>> wide(jnp.ones(2, jnp.bfloat16)).dtype.name, wide(jnp.ones(2, jnp.float32)).dtype.name
    ('float32', 'float32')
    """
    narrow = jnp.issubdtype(values.dtype, jnp.floating) and values.dtype.itemsize < 4
    return values.astype(jnp.float32) if narrow else values


def live_rows(targets: jax.Array, labels: Labels) -> jax.Array | None:
    """A bool array like the targets, False where the label is ignored; None if no label is ignored."""
    if labels.ignore is None:
        return None
    low, high = (0, 1) if targets.dtype == bool else (np.iinfo(targets.dtype).min, np.iinfo(targets.dtype).max)
    if not low <= labels.ignore <= high:  # as -100 among unsigned integers
        return jnp.ones(targets.shape, bool)
    return targets != jnp.asarray(labels.ignore, targets.dtype)


def those_that_count(outputs: jax.Array, targets: jax.Array, labels: Labels) -> tuple[jax.Array, jax.Array]:
    """Outputs ``float[k, m, classes]`` and labels ``int[m]`` without those that are ignored; as they are if none is."""
    if labels.ignore is None:
        return outputs, targets
    live = np.asarray(targets).reshape(outputs.shape[1:-1]) != labels.ignore
    return outputs[:, live], targets.reshape(live.shape)[live]


def mean_of_live(name: str, values: ArrayLike, outputs: Any, live: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Mean over the live examples and their number, ``float[]`` each.

    Args:
      name: of the function that returned the values, for the message.
      values: a scalar, which is returned as it is, or a value for each example (or each output of it).
      outputs: of the model, ``[n, ...]``, or a tree of such.
      live: see `live_rows`.

    Raises:
      InvalidArgument: no numbers, or values of a shape that comes from broadcasting outputs against targets.
    """
    try:
        values = jnp.asarray(values)
    except (TypeError, ValueError) as error:
        raise invalid(name, "a scalar or a value for each example", values) from error
    parts = jax.tree.leaves(outputs)
    rows = parts[0].shape[0]
    dtype = values.dtype if jnp.issubdtype(values.dtype, jnp.floating) else parts[0].dtype
    values = wide(values.astype(dtype))
    dtype = values.dtype
    prefixes = {part.shape[:k] for part in parts for k in range(part.ndim + 1)}
    if live is not None:
        prefixes |= {live.shape}
    if values.shape not in prefixes and not (values.ndim and values.shape[0] == rows and values.size == rows):
        raise InvalidArgument(
            f"{name}: expected a scalar or a value for each example, got {list(values.shape)} for outputs "
            f"{list(parts[0].shape)}: shapes such as [n] and [n, 1] were broadcast against each other"
        )
    if live is None:
        return values.mean(), jnp.asarray(rows, dtype)
    by_row = live.reshape(rows, -1).any(axis=1)
    if not values.ndim:
        return values, by_row.sum().astype(dtype)
    counts = live if live.shape == values.shape else by_row.reshape(rows, *(1,) * (values.ndim - 1))
    weights = jnp.broadcast_to(counts, values.shape)
    number = weights.sum().astype(dtype)
    total = jnp.where(weights, values, jnp.zeros((), dtype)).sum()
    return total / jnp.maximum(number, jnp.ones((), dtype)), number


def warn_of_pairs(name: str, function: Callable[[Any, Any], Any], outputs: Any, targets: Any) -> None:
    """Warns if a function that returns a scalar compares every output with every target, as nobody has written.

    The difference of shapes ``[n, 1]`` and ``[n]`` is ``[n, n]``, and a mean hides it. A function may compare the rows
    of a batch with one another. So it is traced for other numbers of outputs and targets, which fails where the n-th
    output belongs to the n-th target. If an array has a number for each pair, but by no ``[:, None]`` of the function,
    whose arrays have the same number of axes then, it is told.
    """
    shapes = jnp.shape(outputs), jnp.shape(targets)
    if sorted(map(len, shapes)) != [1, 2] or {s[1:] for s in shapes} != {(), (1,)}:
        return
    sizes = 1009, 1013  # that nothing else has
    both = zip(sizes, shapes, (outputs, targets))
    given = [jax.ShapeDtypeStruct((n, *shape[1:]), jnp.result_type(x)) for n, shape, x in both]
    try:
        with jax.numpy_rank_promotion("allow"):
            program = jax.make_jaxpr(function)(*given).jaxpr
    except Exception:  # noqa: BLE001 as it should
        return
    if not any(set(sizes) <= set(shape_of(v).shape) for eqn in equations(program) for v in eqn.outvars):
        return
    try:
        with jax.numpy_rank_promotion("raise"):
            jax.make_jaxpr(function)(*given)
    except Exception:  # noqa: BLE001 of whatever type JAX has for it
        column = "outputs" if len(shapes[0]) == 2 else "targets"
        warn_caller(
            f"{name}: {column} [n, 1] beside [n] make [n, n]: it compares every output with every target, not with its "
            f"own; write {column}[:, 0], or [:, None] and [None, :] where all pairs are meant"
        )


def check_by_row(name: str, values: ArrayLike, why: str) -> None:
    """Refuses a scalar where some rows do not count.

    Raises:
      InvalidArgument: ``why`` says what masks them.
    """
    if not jnp.ndim(values):
        raise invalid(name, f"a value for each example, as {why}", "a scalar")
