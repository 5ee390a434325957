"""Metrics by name (accuracy, F1, AUC, R2, ...), each equal to scikit-learn's, and metrics of your own.

A metric of rows has one value per row, of which the mean is taken (accuracy); a metric of the whole is computed from
all rows at once (F1, AUC, R2). The same code runs inside ``jit`` on a model's logits and on the host in NumPy.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jhpo.errors import InvalidArgument, invalid
from jhpo.kernels.internals import is_traced
from jhpo.objectives import Objectives
from jhpo.process.switches import with_transfers
from jhpo.training import measures
from jhpo.training.arguments import check_place_of_hp, takes_third
from jhpo.training.data import array_of
from jhpo.training.measures import Array, check_classes
from jhpo.training.targets import warn_of_pairs


@dataclasses.dataclass(frozen=True)
class Metric:
    """A metric of outputs and targets; made by `rows` and `whole`, or found by name."""

    function: Callable[..., Any]  # rows: (outputs, targets); whole: (outputs, targets, live)
    whole: bool  # computed from all rows at once, otherwise one value per row
    higher: bool | None  # whether higher is better; None if unknown
    task: str | None = None  # "classification" or "regression"; None for a function of the user


# a name, names, or functions of (outputs, targets) by name
Wanted = str | Sequence[str] | Mapping[str, str | Callable[..., Any] | Metric] | None


def rows(function: Callable[..., Any], *, higher_is_better: bool | None = None) -> Metric:
    """A metric of rows: ``function(outputs, targets)`` returns one value per row, of which the mean is taken.

    Args:
      function: of outputs ``[n, ...]`` and targets ``[n, ...]``.
      higher_is_better: True or False, so that a search in the wrong direction raises; None if unknown.

    Raises:
      InvalidArgument: not a function, or not True, False or None.
    """
    return Metric(_function(function), False, _flag(higher_is_better))


def whole(function: Callable[..., Any], *, higher_is_better: bool | None = None) -> Metric:
    """A metric of the whole validation set: ``function(outputs, targets)`` or ``(outputs, targets, live)``.

    Args:
      function: of all outputs ``[n, ...]`` and targets ``[n, ...]``; returns a scalar. ``live`` is a bool array like
        the targets, False where the label is ignored; with ``ignore=`` the function has to take it.
      higher_is_better: True or False, so that a search in the wrong direction raises; None if unknown.

    Raises:
      InvalidArgument: not a function, or not True, False or None.

    >>> spread = whole(lambda outputs, targets: jnp.std(outputs - targets), higher_is_better=False)
    >>> spread.whole, spread.higher
    (True, False)
    """
    return Metric(_function(function), True, _flag(higher_is_better))


def _function(function: object) -> Callable[..., Any]:
    if not callable(function):
        raise invalid("function", "a function of outputs and targets", function)
    return function


def _flag(value: object) -> bool | None:
    if value is not None and not isinstance(value, bool):
        raise invalid("higher_is_better", "True, False or None", value)
    return value


_AVERAGES = ("binary", "macro", "micro", "weighted")


def _named() -> dict[str, tuple[Metric, Callable[..., Any]]]:
    """By name, the metric and the same metric as a function of all rows for the host."""

    def of_whole(function: Callable[..., Any], higher: bool, task: str) -> tuple[Metric, Callable[..., Any]]:
        return Metric(function, True, higher, task), function

    table = {
        "accuracy": (Metric(measures.accuracy, False, True, "classification"), measures.mean_accuracy),
        "error": (Metric(measures.error_rate, False, False, "classification"), measures.mean_error),
        "balanced_accuracy": of_whole(measures.balanced_accuracy, True, "classification"),
        "auc": of_whole(measures.auc, True, "classification"),
        "r2": of_whole(measures.r2, True, "regression"),
        "rmse": of_whole(measures.rmse, False, "regression"),
        "mae": (Metric(measures.absolute_error, False, False, "regression"), measures.mae),
        "mse": (Metric(measures.squared_error, False, False, "regression"), measures.mse),
    }
    for kind in ("f1", "precision", "recall"):
        for average in ("auto", *_AVERAGES):
            name = kind if average == "auto" else f"{kind}_{average}"
            table[name] = of_whole(functools.partial(measures.by_class, kind, average), True, "classification")
    return table


_NAMED = _named()
NAMES = {name: "maximize" if found.higher else "minimize" for name, (found, _) in _NAMED.items()}
"""The names of all metrics, with the direction in which each is tuned."""


def named(names: Wanted, metric: str, task: str | None) -> dict[str, Metric]:
    """The metrics from the arguments of `jhpo.supervised`.

    Args:
      names: a name, names, or a dict of names and functions. metric: the one to tune for, added if it is a known name.
      task: "classification", "regression" or None.

    Raises:
      InvalidArgument: an unknown name, or one that does not fit the task.
    """
    names = [names] if isinstance(names, str) else names or {}
    if not isinstance(names, Mapping):
        if not isinstance(names, Sequence) or not all(isinstance(n, str) for n in names):
            raise invalid("metrics", "names, or a dict of names and functions", names)
        names = {n: n for n in names}
    if names.get("loss", "loss") != "loss":
        note = "loss= takes the function that is trained and measured; a metric beside it has a name of its own"
        raise invalid("metrics", "no metric called 'loss', which is measured anyway", names["loss"], note=note)
    if metric != "loss" and metric not in names and metric in _NAMED:
        names = {**names, metric: metric}
    return {str(name): _one(f"metrics: {name}", given, task) for name, given in names.items() if name != "loss"}


def _one(where: str, given: object, task: str | None) -> Metric:
    if isinstance(given, Metric):
        return given
    if callable(given):
        check_place_of_hp(where, given, "metric(outputs, targets)", None)
        return Metric(given, False, None)
    if given not in _NAMED:
        raise invalid(where, f"a function, or one of {list(NAMES)}", given)
    found = _NAMED[given][0]
    if task is not None and found.task != task:
        fitting = [n for n, (m, _) in _NAMED.items() if m.task == task]
        raise invalid(where, f"one for {task}: {fitting}", given)
    return found


def as_tuples(chosen: Mapping[str, Metric]) -> dict[str, tuple[Any, ...]]:
    """The fields of each metric as a plain tuple, in which `jhpo.values.structure` can refer to functions weakly."""
    return {name: (m.function, m.whole, m.higher, m.task) for name, m in chosen.items()}


def check_whole(
    chosen: Mapping[str, Metric], targets: jax.Array | np.ndarray, ignore: int | None, *, unlike: bool = False
) -> None:
    """Raises before tracing if a metric cannot be computed on this validation set.

    Args:
      chosen: metrics by name.
      targets: of the validation set.
      ignore: label of rows that do not count.
      unlike: whether it is a fold of several that differ in size, so that some are padded.

    Raises:
      InvalidArgument: AUC of a single class, R2 of a single row, or a function of the whole that does not take
        ``live`` although some rows are ignored.
    """
    for name, measure in chosen.items():
        if not measure.whole:
            continue
        if measure.task is None and (ignore is not None or unlike) and not takes_third(measure.function, "live"):
            why = "folds differ in size" if ignore is None else "some labels are ignored"
            raise invalid(f"metrics: {name}", f"a function (outputs, targets, live), as {why}", "two")
        if is_traced(targets):
            continue
        ignored = [] if ignore is None else [ignore]
        if measure.function is measures.auc and len(np.setdiff1d(np.asarray(targets), ignored)) < 2:
            raise invalid(f"metrics: {name}", "validation labels of at least two classes", "one")
        if measure.function is measures.r2 and len(targets) < 2:
            raise invalid(f"metrics: {name}", "at least two validation rows", len(targets))


def of_whole(name: str, measure: Metric, outputs: Array, targets: Array, live: Array | None) -> Array:
    """``float[]``: the value of a metric of the whole.

    Raises:
      InvalidArgument: its function does not return a scalar.
    """
    if measure.task is not None or takes_third(measure.function, "live"):
        if measure.task is None and live is None:
            # of several targets, the rows
            live = jnp.ones(targets.shape if hasattr(targets, "shape") else jax.tree.leaves(targets)[0].shape[:1], bool)
        value = jnp.asarray(measure.function(outputs, targets, live))
    else:
        value = jnp.asarray(measure.function(outputs, targets))
        warn_of_pairs(f"metrics: {name}", measure.function, outputs, targets)
    if value.shape != ():
        raise invalid(f"metrics: {name}", "a scalar from a function of the whole", f"{value.dtype}{list(value.shape)}")
    return value


@with_transfers
def measure(name: str, outputs: ArrayLike, targets: ArrayLike) -> float:
    """The value of a metric by name, on the host; equal to scikit-learn's.

    Args:
      name: one of `NAMES`.
      outputs: predicted labels ``int[n]``, or logits or probabilities ``float[n, classes]``, for "auc" also scores
        ``float[n]``; for regression predictions like the targets.
      targets: labels ``int[n]``, or numbers.

    Raises:
      InvalidArgument: an unknown name, or arrays that do not fit it.

    >>> measure("f1", [1, 1, 0, 0], [1, 0, 0, 0])
    0.6666666666666666
    >>> round(measure("auc", [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]), 2)
    0.75
    """
    if not isinstance(name, str) or name not in _NAMED:
        raise invalid("metric", f"one of {list(NAMES)}", name)
    found, function = _NAMED[name]
    outputs, targets = (np.asarray(array_of(n, n, x)) for n, x in (("outputs", outputs), ("targets", targets)))
    if outputs.dtype.kind in "OUSMm":
        raise invalid("outputs", "an array of numbers", outputs.dtype.name)
    if not targets.size or not outputs.ndim or not targets.ndim or len(outputs) != len(targets):
        raise invalid("outputs, targets", "arrays of one length >= 1", (outputs.shape, targets.shape))
    if found.task == "classification":
        if targets.dtype.kind not in "iub" or targets.min() < 0:
            expected = f"labels 0, 1, ... for {name!r} (outputs come first, then targets)"
            raise invalid("targets", expected, targets.dtype.name)
        if outputs.shape == targets.shape and outputs.dtype.kind == "f" and name != "auc":
            raise invalid("outputs", f"labels [n], or numbers [n, classes] for {name!r}", "numbers [n]")
        check_classes(outputs, targets)
    elif targets.dtype.kind in "OUSMm":
        raise invalid("targets", f"numbers for {name!r}", targets.dtype.name)
    else:
        outputs, targets = outputs.astype(np.float64), targets.astype(np.float64)
    return float(function(outputs, targets, None))


# -- directions -----------------------------------------------------------------------------------------------------


def direction_of(objective: object, metric: str | None = None) -> str | None:
    """The direction of an objective's metric, "minimize" or "maximize"; None if unknown."""
    known = getattr(objective, "direction_of", None)
    return known(metric) if known is not None else None


def check_metric(metric: object) -> None:
    """Raises InvalidArgument if it is no name of a metric, nor None."""
    if metric is not None and not isinstance(metric, str):
        raise invalid("metric", "the name of one metric, or None", metric)


def check_direction(objective: object, metric: str | None, direction: str) -> None:
    """Raises if a score would be minimised or an error maximised.

    Raises:
      InvalidArgument: the message says what to do instead.
    """
    check_metric(metric)
    known = direction_of(objective, metric)
    if known is None or known == direction:
        return
    name = metric or getattr(objective, "metric", None)
    what = "a score, the higher the better" if known == "maximize" else "an error, the lower the better"
    raise InvalidArgument(
        f"metric: {name!r} is {what}: it cannot be {direction}d; take jhpo.{known}, or Study(..., direction={known!r})"
    )


def check_directions(objective: object, objectives: Objectives) -> None:
    """`check_direction` of each of several objectives whose names are known.

    Raises:
      InvalidArgument: it says which one.
    """
    for name, direction in zip(objectives.names or (), objectives.directions):
        known = direction_of(objective, name)
        if known is not None and known != direction:
            raise invalid(f"directions: {name}", f"{known!r}, as it is such a measure", direction)


def named_direction(higher: bool | None) -> str | None:
    """The direction as "maximize" or "minimize"; None if unknown."""
    return None if higher is None else "maximize" if higher else "minimize"
