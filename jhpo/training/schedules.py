"""Schedules, per-layer values and per-example weights from hyperparameters that are arrays."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from jhpo.errors import check_flag, check_integer, invalid
from jhpo.training.decays import constant_schedule as constant_schedule
from jhpo.training.decays import cosine_decay_schedule as cosine_decay_schedule
from jhpo.training.decays import cosine_onecycle_schedule as cosine_onecycle_schedule
from jhpo.training.decays import exponential_decay as exponential_decay
from jhpo.training.decays import join_schedules as join_schedules
from jhpo.training.decays import linear_onecycle_schedule as linear_onecycle_schedule
from jhpo.training.decays import linear_schedule as linear_schedule
from jhpo.training.decays import piecewise_constant_schedule as piecewise_constant_schedule
from jhpo.training.decays import piecewise_interpolate_schedule as piecewise_interpolate_schedule
from jhpo.training.decays import polynomial_schedule as polynomial_schedule
from jhpo.training.decays import sgdr_schedule as sgdr_schedule
from jhpo.training.decays import warmup_constant_schedule as warmup_constant_schedule
from jhpo.training.decays import warmup_cosine_decay_schedule as warmup_cosine_decay_schedule
from jhpo.training.decays import warmup_exponential_decay_schedule as warmup_exponential_decay_schedule
from jhpo.training.networks import Params
from jhpo.training.trainable import HP

KINDS = ("linear", "cosine", "cubic")


def knots(values: ArrayLike, steps: int, kind: str = "linear", log: bool = False) -> Callable[[Any], jax.Array]:
    """A schedule through evenly spaced knots, the first at step 0 and the last at step ``steps - 1``.

    Args:
      values: ``float[n]``, n >= 1, the hyperparameter; one knot is a constant.
      steps: length of the training.
      kind: "linear"; "cosine", which is flat at the knots; "cubic", the natural cubic spline, which is twice
        differentiable but may overshoot (use ``log`` for values that have to stay positive).
      log: interpolate the logarithms of the values.

    Returns:
      A function of the step with the values' dtype, usable as a learning rate in optax; for other arguments of a
      transformation see `scheduled`. Steps beyond the ends have the values of the end knots.

    Raises:
      InvalidArgument: an argument out of range.

    >>> rate = knots(jnp.array([0.0, 1.0, 0.0]), 5)
    >>> [float(rate(t)) for t in range(5)]
    [0.0, 0.5, 1.0, 0.5, 0.0]
    >>> optimiser = optax.sgd(knots(jnp.array([0.1, 0.01]), 100, "cosine", log=True))
    """
    values = jnp.asarray(values)
    if values.ndim != 1 or not values.size or not jnp.issubdtype(values.dtype, jnp.floating):
        raise invalid("values", "float[n] with n >= 1", f"{values.dtype}{list(values.shape)}")
    if kind not in KINDS:
        raise invalid("kind", f"one of {KINDS}", kind)
    check_flag("log", log)
    steps, last = check_integer("steps", steps), values.shape[0] - 1
    heights = jnp.log(values) if log else values
    bends = _second_derivatives(last + 1).astype(values.dtype) @ heights if kind == "cubic" else None

    def schedule(t: ArrayLike) -> jax.Array:
        place = jnp.clip(jnp.asarray(t).astype(values.dtype) * (last / max(steps - 1, 1)), 0, last)
        i = jnp.minimum(place.astype(jnp.int32), max(last - 1, 0))
        j = jnp.minimum(i + 1, last)
        b = place - i.astype(values.dtype)
        if kind == "cosine":
            b = (1 - jnp.cos(jnp.pi * b)) / 2
        a = 1 - b
        height = a * heights[i] + b * heights[j]
        if bends is not None:
            height = height + ((a**3 - a) * bends[i] + (b**3 - b) * bends[j]) / 6
        return jnp.exp(height) if log else height

    return schedule


def _second_derivatives(n: int) -> np.ndarray:
    """``float[n, n]``: maps values at n unit-spaced knots to second derivatives of the natural cubic spline."""
    if n < 3:
        return np.zeros((n, n))
    inner = 4 * np.eye(n - 2) + np.eye(n - 2, k=1) + np.eye(n - 2, k=-1)
    differences = np.eye(n - 2, n) - 2 * np.eye(n - 2, n, k=1) + np.eye(n - 2, n, k=2)
    return np.pad(np.linalg.solve(inner, 6 * differences), ((1, 1), (0, 0)))


class ScheduledState(NamedTuple):
    """State of `scheduled`."""

    step: jax.Array  # int32[], steps done
    inner: optax.OptState  # the transformation's own state


def scheduled(make: Callable[..., Any], **schedules: Callable[[Any], Any]) -> optax.GradientTransformationExtraArgs:
    """An optax transformation with arguments that follow schedules: momentum, weight decay, a clipping norm.

    It is built again in every step with the current values, so that hypergradients reach the schedules.

    Args:
      make: an optax factory, such as ``optax.adamw``.
      schedules: by the name of an argument of ``make``, functions of the step.

    Returns:
      An optax transformation with state `ScheduledState`.

    >>> decay = knots(jnp.array([0.0, 0.1]), 100)
    >>> tx = scheduled(optax.adamw, learning_rate=lambda t: 0.01, weight_decay=decay)
    >>> state = tx.init({"w": jnp.ones(3)})
    >>> updates, state = tx.update({"w": jnp.ones(3)}, state, {"w": jnp.ones(3)})
    >>> int(state.step)
    1
    """

    def at(count: jax.Array) -> Any:
        made = make(**{name: schedule(count) for name, schedule in schedules.items()})
        return optax.with_extra_args_support(made)

    def init(params: Params) -> ScheduledState:
        count = jnp.zeros((), jnp.int32)
        return ScheduledState(count, at(count).init(params))

    def update(
        updates: Params, state: ScheduledState, params: Params = None, **extra: Any
    ) -> tuple[Any, ScheduledState]:
        updates, inner = at(state.step).update(updates, state.inner, params, **extra)
        return updates, ScheduledState(state.step + jnp.int32(1), inner)

    return optax.GradientTransformationExtraArgs(init, update)


def layer_names(params: Mapping[str, Any]) -> list[str]:
    """Names of a model's layers, the top-level keys of its parameters, in natural order of their numbers.

    Raises:
      InvalidArgument: ``params`` is not a mapping.

    >>> layer_names({"Dense_10": 0, "Dense_2": 0, "Out": 0})
    ['Dense_2', 'Dense_10', 'Out']
    """
    if not isinstance(params, Mapping):
        raise invalid("params", "a dict of layers", type(params).__name__)
    return sorted(params, key=lambda name: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", str(name))])


def per_layer(scale: ArrayLike | HP = None, decay: ArrayLike | None = None) -> optax.GradientTransformation:
    """An optax transformation with a learning rate scale and a weight decay per layer: ``scale_l u + decay_l p``.

    Args:
      scale, decay: ``float[layers]`` in the order of `layer_names`, or a dict by name (layers that are not in it keep
        their update); None for 1 and 0.

    Raises:
      InvalidArgument: during tracing, if the values do not match the layers.

    >>> tx = optax.chain(optax.scale_by_adam(), per_layer(jnp.array([1.0, 0.1]), {"Out": 1e-3}), optax.scale(-0.01))
    >>> params = {"In": jnp.ones(2), "Out": jnp.ones(2)}
    >>> updates, _ = per_layer(jnp.array([1.0, 0.1])).update(params, optax.EmptyState(), params)
    >>> round(float(updates["Out"][0]), 3)
    0.1
    """

    def value_of(name: str, values: Any, names: list[str]) -> dict[str, Any]:
        if values is None or isinstance(values, Mapping):
            unknown = sorted(set(values or {}) - set(names))
            if unknown:
                raise invalid(name, f"layers among {names}", unknown)
            return dict(values or {})
        if jnp.shape(values) != (len(names),):
            raise invalid(name, f"float[{len(names)}], a value for each of {names}", jnp.shape(values))
        return {layer: values[i] for i, layer in enumerate(names)}

    def update(updates: Params, state: optax.OptState, params: Params = None) -> tuple[Any, Any]:
        names = layer_names(updates)
        scales, decays = value_of("scale", scale, names), value_of("decay", decay, names)
        if decays and params is None:
            raise invalid("params", "the parameters, for a decay", None)
        new = dict(updates)
        for layer, by in scales.items():
            new[layer] = jax.tree.map(lambda u, by=by: u * jnp.asarray(by, u.dtype), new[layer])
        for layer, by in decays.items():
            new[layer] = jax.tree.map(lambda u, p, by=by: u + jnp.asarray(by, u.dtype) * p, new[layer], params[layer])
        return new, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def indexed(targets: ArrayLike, weighted: bool = True) -> np.ndarray:
    """Targets paired with the index of their example, ``[n, 2]``, for `example_weights`.

    Args:
      targets: ``[n]``, labels or numbers.
      weighted: False for rows without a weight, such as validation rows: their index is -1.

    Returns:
      int32 for integer targets, otherwise float32.

    Raises:
      InvalidArgument: targets of another shape, or too many for float32 to index.

    >>> indexed([7, 3, 5]).tolist(), indexed([1], weighted=False).tolist()
    ([[7, 0], [3, 1], [5, 2]], [[1, -1]])
    """
    targets = np.asarray(targets)
    if targets.ndim != 1:
        raise invalid("targets", "an array [n]", targets.shape)
    rows = np.arange(len(targets)) if weighted else np.full(len(targets), -1)
    dtype = np.int32 if np.issubdtype(targets.dtype, np.integer) else np.float32
    if dtype == np.float32 and len(targets) > 2**24:
        raise invalid("targets", "at most 2**24 rows, which float32 can number", len(targets))
    return np.stack([targets.astype(dtype), rows.astype(dtype)], axis=1)


def example_weights(
    loss: Callable[[jax.Array, jax.Array], jax.Array], weights: Callable[[Any], jax.Array]
) -> Callable[[jax.Array, jax.Array, Any], jax.Array]:
    """A loss for `jhpo.supervised` with a weight for each training example, which is a hyperparameter.

    Args:
      loss: ``loss(outputs, targets) -> float[n]``.
      weights: ``weights(hp) -> float[examples]``.

    Returns:
      ``loss(outputs, targets, hp) -> float[n]`` for targets made by `indexed`; rows with index -1 have weight 1.

    >>> from jhpo.training.supervised import squared_error
    >>> weighted = example_weights(squared_error, lambda hp: jax.nn.sigmoid(hp["w"]))
    >>> weighted(jnp.ones(2), jnp.array([[3.0, 0.0], [3.0, -1.0]]), {"w": jnp.zeros(1)}).tolist()
    [2.0, 4.0]
    """

    def weighted(outputs: jax.Array, targets: jax.Array, hp: HP) -> jax.Array:
        values = loss(outputs, targets[..., 0])
        row = targets[..., 1].astype(jnp.int32)
        by = jnp.take(weights(hp), jnp.maximum(row, 0), axis=0)
        return values * jnp.where(row >= 0, by, jnp.ones_like(by)).astype(values.dtype)

    return weighted
