"""Hyperparameters adapted while the training runs, by the gradient of a short window."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jhpo.kernels import trees
from jhpo.kernels.loops import wide_sums
from jhpo.kernels.unroll import Step, unroll

Tree = Any


class OnlineResult(NamedTuple):
    """Result of `online`; W = T // window."""

    hp: Tree  # the hyperparameters at the end
    state: Tree  # the training state at the end
    values: jax.Array  # float[W], the loss after each window
    path: Tree  # like hp with a leading axis W: the values used in each window
    grads: Tree  # like hp with a leading axis W: the gradient after each window


def window_value_and_grad(
    step: Step,
    loss: Callable[[Tree, Tree, jax.Array], jax.Array],
    hp: Tree,
    state: Tree,
    *,
    start: jax.Array,
    window: int,
) -> tuple[jax.Array, Tree, Tree]:
    """Value, gradient and next state of one window; the state before it is held constant.

    With one step and plain gradient descent this is -grad f(w_{t+1}) . grad f(w_t).
    """
    floats, rebuild = trees.split_floats(hp)
    state = lax.stop_gradient(state)

    def after(floats: list[jax.Array]) -> tuple[jax.Array, Tree]:
        hp = rebuild(floats)
        new = unroll(step, hp, state, window, 1 if window > 1 else 0, start=start)
        return loss(hp, new, start + jnp.int32(window)), new

    (value, new), grad = wide_sums(jax.value_and_grad(after, has_aux=True))(floats)
    return value, trees.gradient_like(hp, grad), new


def online(
    step: Step,
    loss: Callable[[Tree, Tree, jax.Array], jax.Array],
    update: Callable[[Tree, Tree, Tree], tuple[Tree, Tree]],
    hp: Tree,
    state: Tree,
    memory: Tree,
    *,
    steps: int,
    window: int = 1,
) -> OnlineResult:
    """Train for ``steps`` steps and update the hyperparameters after every ``window`` of them.

    Costs about one training plus a gradient of ``loss`` per window, and the memory of one window. The gradient is
    greedy: it looks ``window`` steps ahead, so that learning rates end up below the best constant ones.

    Args:
      step: ``step(hp, state, t) -> state``.
      loss: ``loss(hp, state, t) -> scalar`` after each window (on a validation batch, or on the next training batch).
      update: ``update(grad, memory, hp) -> (hp, memory)``, one outer step.
      hp, state, memory: trees at the start.
      steps, window: T and the length of a window, which has to divide T.

    Source: Almeida, Langlois, Amaral, Plakhov (1998); Baydin, Cornish, Rubio, Schmidt, Wood, "Online learning rate
    adaptation with hypergradient descent" (2018), equation 5.
    """

    def turn(carry: tuple[Tree, Tree, Tree], start: jax.Array) -> tuple[tuple[Tree, Tree, Tree], Any]:
        hp, state, memory = carry
        value, grad, state = window_value_and_grad(step, loss, hp, state, start=start, window=window)
        moved, memory = update(grad, memory, hp)
        return (moved, state, memory), (value, hp, grad)

    starts = jnp.arange(0, steps - window + 1, window, dtype=jnp.int32)
    (hp, state, _), (values, path, grads) = lax.scan(turn, (hp, state, memory), starts)
    return OnlineResult(hp, state, values, path, grads)
