"""Gradients with respect to unit coordinates, which a population evaluates for strategies that need them."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.gradients.dependence import derivative, has_forward_mode
from jhpo.gradients.estimators import estimate
from jhpo.gradients.spec import HP, Spec
from jhpo.kernels import trees
from jhpo.kernels.unroll import gradient_bytes, reverse_bytes, unroll
from jhpo.kernels.unroll_grad import forward_value_and_grad
from jhpo.space.space import Space
from jhpo.training.binding import Training, bind, differentiable, relaxed
from jhpo.training.trainable import Trainable
from jhpo.training.values import Releasing, hold

# Largest number of bytes for which a member saves all gradients or states; beyond that recomputing is cheaper.
_STORE = 2**23


@relaxed
def value_and_unit_grad(
    trainable: Trainable,
    space: Space,
    unit: jax.Array,
    key: jax.Array,
    *,
    horizon: float = 1.0,
    method: str = "auto",
    levels: int | None = None,
    metric: str | None = None,
    static: dict[str, Any] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Value and gradient with respect to one point of the unit cube.

    Args:
      trainable: see `jhpo.as_trainable`.
      space: converts the point to hyperparameters; discrete coordinates get a zero gradient.
      unit: ``float[d]``.
      key: the member's key.
      horizon: fraction of the training steps.
      method: "auto" is forward mode for one or two continuous coordinates, else reverse mode.
      levels: of rematerialisation; None for the first of 1 and 2 that saves at most 8 MiB, else 3.
      metric, static: see `jhpo.Population`.

    Returns:
      ``float[]`` and ``float[d]``. A failed training gives NaN, never an error; an evaluation without a derivative
      gives zeros, and a warning while it is traced.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 2.0)})
    >>> objective = jhpo.as_trainable(lambda hp: hp["x"] ** 2)
    >>> value, grad = value_and_unit_grad(objective, space, jnp.array([0.5]), jax.random.key(0))
    >>> float(value), grad.tolist()
    (1.0, [4.0])
    """
    continuous = np.flatnonzero(np.asarray(space.cells) == 0)
    run = bind(trainable, key, horizon, metric)
    inner = unit[continuous]

    def to_hp(inner: jax.Array) -> HP:
        return space.from_unit(unit.at[continuous].set(inner), static)

    def held(inner: jax.Array) -> HP:
        return hold(to_hp(inner), lambda x: not isinstance(x, jax.Array))

    if continuous.size == 0:
        return _trained(run, to_hp(inner)), jnp.zeros_like(unit)
    _warn_of_flat_evaluations(run, to_hp(inner))
    if method == "auto":
        few = run.steps and continuous.size <= 2
        method = "forward" if few and has_forward_mode(lambda x: _trained(run, to_hp(x)), inner) else "reverse"
    if method == "forward":
        forward = differentiable(run, forward=True)
        value, grad = forward_value_and_grad(lambda x: _trained(forward, to_hp(x)), inner)[:2]
    else:
        # the estimators make programs of the hyperparameters, in which values of static parameters are no arguments
        whole, hp = Releasing(trainable), held(inner)
        levels = _levels(bind(whole, key, horizon, metric), hp) if levels is None else levels
        out = estimate(whole, hp, key, Spec(method, levels, horizon=horizon, metric=metric))
        _, pull = jax.vjp(lambda x: trees.split_floats(held(x))[0], inner)
        value, (grad,) = out.value, pull(_floats_of(out.grad, hp))
    return value, jnp.zeros_like(unit).at[continuous].set(grad.astype(unit.dtype))


def _warn_of_flat_evaluations(run: Training, hp: HP) -> None:
    """Warns during tracing if all gradients will be zero."""
    if not any(derivative(lambda both: run.evaluate(*both), (hp, run.init(hp))).smooth):
        warnings.warn(
            "the evaluation has no derivative (an error rate, a rounding, a sign): every gradient is zero, and a "
            "strategy of gradients stays where it starts; choose a smooth metric, or a strategy without gradients",
            stacklevel=2,
        )


def _trained(run: Training, hp: HP) -> jax.Array:
    """The evaluation after the whole training."""
    return run.evaluate(hp, unroll(run.step, hp, run.init(hp), run.steps))


def _levels(run: Training, hp: HP) -> int:
    if run.steps == 0:
        return 0
    state = jax.eval_shape(run.init, hp)
    size, gradients = trees.num_bytes(state), gradient_bytes(run.step, hp, state)
    return next((n for n in (1, 2) if reverse_bytes(run.steps, n, size, gradients) <= _STORE), 3)


def _floats_of(grad: HP, hp: HP) -> list[jax.Array]:
    pairs = zip(jax.tree.leaves(grad), jax.tree.leaves(hp))
    return [g for g, leaf in pairs if trees.is_float(leaf)]
