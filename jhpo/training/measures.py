"""Implementations of the metrics, equal to scikit-learn's: functions of rows, and functions of all rows at once.

The same code runs inside ``jit`` on a model's logits and on the host in NumPy. ``live`` is a bool array like the
labels, False for ignored rows, or None.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, invalid
from jhpo.training.targets import Labels, fit_labels, fit_values, wide

Array = Any  # a jax.Array inside a program, a NumPy array on the host


# -- classification -------------------------------------------------------------------------------------------------


def _xp(x: object) -> ModuleType:
    return jnp if isinstance(x, jax.Array) else np


def _float(x: Array) -> Any:
    """At least float32, and float64 on the host."""
    if isinstance(x, np.ndarray):
        return np.dtype(np.float64)
    return x.dtype if jnp.issubdtype(x.dtype, jnp.floating) and x.dtype.itemsize >= 4 else np.dtype(np.float32)


def _scores(outputs: Array, targets: Array) -> tuple[Array, Array]:
    """Logits ``float[m, classes]`` and labels ``int[m]``, flattened; a single output is the logit of class 1."""
    if not jnp.issubdtype(targets.dtype, jnp.integer) and targets.dtype != bool:
        raise invalid("targets", "integer labels for this metric", str(targets.dtype))
    xp = _xp(outputs)
    if _is_single(outputs, targets):
        single = outputs.reshape(-1)
        return xp.stack([xp.zeros_like(single), single], axis=1), targets.reshape(-1)
    targets = fit_labels(outputs, targets, Labels(None, None))
    return outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1)


def _is_single(outputs: Array, targets: Array) -> bool:
    """Whether there is one output a label, the logit of class 1."""
    fits = outputs.shape in (targets.shape, (*targets.shape, 1))
    return fits and (outputs.ndim < 2 or outputs.shape[-1] != 2)


def check_classes(outputs: np.ndarray, targets: np.ndarray) -> None:
    """Raises if there are labels of classes that outputs do not have, whose rows would not count.

    Raises:
      InvalidArgument: predicted labels below 0, or labels beyond the columns.
    """
    if _is_prediction(outputs, targets):
        if outputs.min() < 0:
            raise invalid("outputs", "labels 0, 1, ... as targets have them", int(outputs.min()))
        return
    classes = 2 if _is_single(outputs, targets) else outputs.shape[-1]
    if targets.max() >= classes:
        raise invalid("targets", f"labels below {classes}, the classes of the outputs", int(targets.max()))


def _live(labels: Array, live: Array | None) -> Array:
    return _xp(labels).ones(labels.shape, bool) if live is None else live.reshape(labels.shape)


def _broken(outputs: Array, live: Array) -> Array:
    """bool[]: whether there is a NaN among the outputs of live rows, which makes the member fail."""
    xp = _xp(outputs)
    return xp.any(xp.isnan(outputs) & live.reshape(-1, *(1,) * (outputs.ndim - 1)))


def _counts(outputs: Array, targets: Array, live: Array | None) -> tuple[Array, Array, Array, Array]:
    """Per class: true positives, support, predictions; and NaN if there is a NaN among the outputs, else 0."""
    xp = _xp(outputs)
    if _is_prediction(outputs, targets):
        predicted, labels = outputs.reshape(-1), targets.reshape(-1)
        classes, bad = int(max(predicted.max(), labels.max(), 1)) + 1, False
        live = _live(labels, live)
    else:
        scores, labels = _scores(outputs, targets)
        live = _live(labels, live)
        predicted, classes, bad = xp.argmax(scores, axis=1), scores.shape[1], _broken(scores, live)
    every = xp.arange(classes, dtype=np.int32)[None, :]  # not of a narrow integer, in which classes wrap
    has = (labels.astype(every.dtype)[:, None] == every) & live[:, None]
    says = (predicted.astype(every.dtype)[:, None] == every) & live[:, None]
    dtype = _float(outputs if jnp.issubdtype(outputs.dtype, jnp.floating) else np.zeros(1))
    # counts are summed as integers: float32 is exact up to 2^24 only
    right, support, predictions = ((x.sum(axis=0).astype(dtype)) for x in (has & says, has, says))
    return right, support, predictions, xp.where(bad, xp.asarray(np.nan, dtype), xp.asarray(0.0, dtype))


def _is_prediction(outputs: Array, targets: Array) -> bool:
    """Whether the outputs are predicted labels instead of logits; on the host only."""
    return isinstance(outputs, np.ndarray) and outputs.shape == targets.shape and outputs.dtype.kind in "iub"


def _ratio(a: Array, b: Array) -> Array:
    """a / b, 0 where b is 0."""
    xp = _xp(a)
    return xp.where(b > 0, a / xp.where(b > 0, b, xp.ones_like(b)), xp.zeros_like(a))


def by_class(kind: str, average: str, outputs: Array, targets: Array, live: Array | None) -> Array:
    """F1, precision or recall; "auto" is binary for two classes and macro for more."""
    right, support, predicted, bad = _counts(outputs, targets, live)
    if average == "auto":
        average = "binary" if len(support) == 2 else "macro"
    if average == "binary" and len(support) != 2:
        raise InvalidArgument(f"metric: {kind}_binary needs two classes, got a model with {len(support)} outputs")
    tops = {"f1": 2 * right, "precision": right, "recall": right}
    bases = {"f1": support + predicted, "precision": predicted, "recall": support}
    if average == "micro":
        return _ratio(tops[kind].sum(), bases[kind].sum()) + bad
    values = _ratio(tops[kind], bases[kind])
    if average == "binary":
        return values[1] + bad
    there = (support + predicted > 0).astype(values.dtype) if average == "macro" else support
    return _ratio((values * there).sum(), there.sum()) + bad


def balanced_accuracy(outputs: Array, targets: Array, live: Array | None) -> Array:
    """Mean recall of the classes that occur."""
    right, support, _, bad = _counts(outputs, targets, live)
    there = (support > 0).astype(support.dtype)
    return _ratio((_ratio(right, support)).sum(), there.sum()) + bad


def mean_accuracy(outputs: Array, targets: Array, live: Array | None) -> Array:
    """``float[]``: fraction of the rows predicted correctly."""
    right, support, _, bad = _counts(outputs, targets, live)
    return _ratio(right.sum(), support.sum()) + bad


def mean_error(outputs: Array, targets: Array, live: Array | None) -> Array:
    """``float[]``: fraction of the rows predicted incorrectly."""
    return 1.0 - mean_accuracy(outputs, targets, live)


def accuracy(outputs: Array, targets: Array) -> Array:
    """``float[...]``: 1 where the largest logit is the label's, else 0; NaN where a logit is NaN."""
    xp = _xp(outputs)
    scores, labels = _scores(outputs, targets)
    right = (xp.argmax(scores, axis=1).astype(np.int32) == labels.astype(np.int32)).astype(_float(outputs))
    right = xp.where(xp.isnan(scores).any(axis=1), xp.asarray(np.nan, right.dtype), right)
    return right.reshape(targets.shape[:-1] if targets.shape == (*outputs.shape[:-1], 1) else targets.shape)


def error_rate(outputs: Array, targets: Array) -> Array:
    """``float[...]``: 1 where the largest logit is not the label's, else 0; NaN where a logit is NaN."""
    return 1.0 - accuracy(outputs, targets)


def _auc_of(scores: Array, positive: Array, live: Array) -> tuple[Array, Array]:
    """Probability that a positive row scores higher than a negative one, ties counting half; whether both occur."""
    xp = _xp(scores)
    n, dtype = scores.shape[0], _float(scores)
    order = xp.argsort(xp.where(live, scores, xp.asarray(np.inf, scores.dtype)))
    s, positive, live = scores[order], positive[order] & live[order], live[order]
    s = xp.where(live, s, xp.asarray(np.inf, s.dtype))
    negative = xp.cumsum((live & ~positive).astype(np.int32))
    row = xp.arange(n, dtype=np.int32)
    new = xp.concatenate([xp.ones(1, bool), s[1:] != s[:-1]])
    last = xp.concatenate([new[1:], xp.ones(1, bool)])
    start: Array
    end: Array
    if xp is np:
        start = np.maximum.accumulate(np.where(new, row, 0))
        end = np.minimum.accumulate(np.where(last, row, n - 1)[::-1])[::-1]
    else:
        start = jax.lax.cummax(jnp.where(new, row, 0))
        end = jax.lax.cummin(jnp.where(last, row, n - 1), reverse=True)
    before = xp.where(start > 0, negative[xp.maximum(start - 1, 0)], 0)
    below = (before + negative[end]).astype(dtype) / 2
    positives, negatives = positive.sum().astype(dtype), negative[-1].astype(dtype)
    share = xp.where(positive, below / xp.maximum(negatives, xp.ones((), dtype)), xp.zeros((), dtype)).sum()
    return share / xp.maximum(positives, xp.ones((), dtype)), (positives > 0) & (negatives > 0)


def _log_odds(scores: Array) -> Array:
    """Log odds of each class against all others, float[m, C]: ordered like probabilities, without their rounding."""
    xp = _xp(scores)
    top = scores.max(axis=1, keepdims=True)
    weight = xp.exp(scores - top)
    is_top = xp.arange(scores.shape[1])[None, :] == xp.argmax(scores, axis=1)[:, None]
    rest = xp.where(is_top, xp.zeros_like(weight), weight).sum(axis=1, keepdims=True)
    others = xp.where(is_top, rest, rest + 1.0 - weight)
    return scores - top - xp.log(xp.maximum(others, xp.asarray(np.finfo(scores.dtype).tiny, scores.dtype)))


def auc(outputs: Array, targets: Array, live: Array | None = None) -> Array:
    """``float[]``: area under the ROC curve; for more than two classes the mean of each class against the rest.

    Classes without positive or without negative rows are left out; NaN if no class remains.
    """
    xp = _xp(outputs)
    scores, labels = _scores(outputs, targets)
    live, labels = _live(labels, live), labels.astype(np.int32)
    scores = scores.astype(_float(scores))
    bad = _broken(scores, live)
    if xp is np and (scores >= 0).all() and np.allclose(scores.sum(axis=1), 1.0, atol=1e-4):
        columns = scores  # probabilities
    elif scores.shape[1] == 2:
        columns = xp.stack([scores[:, 0] - scores[:, 1], scores[:, 1] - scores[:, 0]], axis=1)
    else:
        columns = _log_odds(scores)
    first = 1 if scores.shape[1] == 2 else 0
    found = [_auc_of(columns[:, c], labels == c, live) for c in range(first, scores.shape[1])]
    values, known = (xp.stack(x) for x in zip(*found))
    count = known.sum().astype(values.dtype)
    mean = xp.where(known, values, xp.zeros_like(values)).sum() / xp.maximum(count, xp.ones_like(count))
    return xp.where(bad | (count == 0), xp.asarray(np.nan, values.dtype), mean)


# -- regression -----------------------------------------------------------------------------------------------------


def absolute_error(outputs: Array, targets: Array) -> Array:
    """``float[...]``: absolute differences."""
    outputs, targets = fit_values(outputs, targets)
    return abs(outputs - targets)


def squared_error(outputs: Array, targets: Array) -> Array:
    """``float[...]``: squared differences; outputs ``[n, 1]`` fit targets ``[n]``."""
    outputs, targets = fit_values(wide(outputs), targets)
    return (outputs - targets) ** 2


def _columns(outputs: Array, targets: Array, live: Array | None) -> tuple[Array, Array, Array, Array]:
    """Outputs, targets and weights ``float[n, k]``, and the number of live rows ``float[k]``."""
    outputs, targets = fit_values(outputs, targets)
    outputs, targets = (x.reshape(x.shape[0], -1).astype(_float(x)) for x in (outputs, targets))
    xp = _xp(outputs)
    if live is None:
        weight = xp.ones_like(targets)
    else:
        weight = xp.broadcast_to(live.reshape(live.shape[0], -1), targets.shape).astype(targets.dtype)
    return outputs, targets, weight, weight.sum(axis=0)


def _mean_squares(outputs: Array, targets: Array, live: Array | None) -> Array:
    outputs, targets, weight, count = _columns(outputs, targets, live)
    return _ratio((weight * (outputs - targets) ** 2).sum(axis=0), count)


def rmse(outputs: Array, targets: Array, live: Array | None = None) -> Array:
    """``float[]``: root of the mean squared error, averaged over the outputs."""
    return _xp(outputs).sqrt(_mean_squares(outputs, targets, live)).mean()


def mse(outputs: Array, targets: Array, live: Array | None) -> Array:
    """``float[]``: mean squared error."""
    return _mean_squares(outputs, targets, live).mean()


def mae(outputs: Array, targets: Array, live: Array | None) -> Array:
    """``float[]``: mean absolute error."""
    outputs, targets, weight, count = _columns(outputs, targets, live)
    return _ratio((weight * abs(outputs - targets)).sum(axis=0), count).mean()


def r2(outputs: Array, targets: Array, live: Array | None = None) -> Array:
    """``float[]``: coefficient of determination, averaged over the outputs.

    For a constant target it is 1 for a perfect prediction, otherwise 0; NaN with fewer than two rows.
    """
    xp = _xp(outputs)
    outputs, targets, weight, count = _columns(outputs, targets, live)
    first = xp.argmax(weight > 0, axis=0)
    origin = xp.take_along_axis(targets, first[None, :], axis=0)  # so that constants have no variance from rounding
    shifted = (targets - origin) * weight
    spread = (weight * (targets - origin - _ratio(shifted.sum(axis=0), count)[None, :]) ** 2).sum(axis=0)
    wrong = (weight * (outputs - targets) ** 2).sum(axis=0)
    ones = xp.ones_like(spread)
    share = xp.where(spread > 0, 1.0 - wrong / xp.where(spread > 0, spread, ones), xp.where(wrong == 0, ones, 0 * ones))
    share = xp.where(xp.isnan(wrong), wrong, share)
    return xp.where(count < 2, xp.asarray(np.nan, share.dtype), share).mean()
