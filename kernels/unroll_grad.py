"""Value of a whole training and its gradient with respect to the hyperparameters, in reverse and in forward mode.

Notation: w_t the state after t steps, T the number of steps, S the bytes of a state, k the number of hyperparameters,
E the evaluation.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jhpo.kernels import trees
from jhpo.kernels.loops import wide_sums
from jhpo.kernels.probes import read_leaves
from jhpo.kernels.shapes import Array, Float
from jhpo.kernels.unroll import Step, Tree, unroll


def reverse_value_and_grad(
    step: Step,
    evaluate: Callable[[Tree, Tree], jax.Array],
    init: Callable[[Tree], Tree],
    hp: Tree,
    steps: int,
    levels: int = 0,
    *,
    window: int | None = None,
    norms: bool = False,
) -> tuple[Float[Array, ""], Tree, Float[Array, "t"] | None]:
    """E(w_T) and its gradient by reverse mode.

    Args:
      step, evaluate, init: ``step(hp, state, t)``, ``evaluate(hp, state) -> scalar``, ``init(hp) -> state``.
      hp: hyperparameters; leaves that are not floats are held fixed and get a zero gradient.
      steps, levels: see `unroll`.
      window: differentiate through the last ``window`` steps only (see `truncated`); None for all.
      norms: also return ``float[T]``, the norm of dE/dw_t for t = 1..T (of the window's steps if there is one), over
        the leaves that the evaluation reads.

    Returns:
      The value, the gradient (a tree like hp) and the norms or None.
    """
    floats, rebuild = trees.split_floats(hp)
    covered = steps if window is None else min(window, steps)
    dtype = jnp.result_type(float)
    watched = read_leaves(evaluate, hp, jax.eval_shape(init, hp)) if norms else None

    def value(floats: list[jax.Array], probe: jax.Array | None) -> jax.Array:
        hp = rebuild(floats)
        state = init(hp)
        if covered < steps:
            fixed = lax.stop_gradient(hp)
            state = lax.stop_gradient(unroll(step, fixed, lax.stop_gradient(state), steps - covered))
        state = unroll(step, hp, state, covered, levels, start=steps - covered, probe=probe, watched=watched)
        return evaluate(hp, state)

    if norms:
        out, (grad, sizes) = wide_sums(jax.value_and_grad(value, argnums=(0, 1)))(floats, jnp.zeros((covered,), dtype))
        return out, trees.gradient_like(hp, grad), sizes
    out, grad = wide_sums(jax.value_and_grad(value))(floats, None)
    return out, trees.gradient_like(hp, grad), None


def forward_value_and_grad(
    fun: Callable[[Tree], Any], hp: Tree, chunk: int = 8, has_marks: bool = False
) -> tuple[Float[Array, ""], Tree, Float[Array, "t"] | None]:
    """``fun(hp)`` and its gradient by forward mode: 1 + (1..2) k trainings of time, (1 + chunk) S bytes.

    Args:
      fun: a scalar function of hp (a whole training and its evaluation).
      hp: leaves that are not floats are held fixed and get a zero gradient.
      chunk: number of directions computed together.
      has_marks: ``fun`` returns ``(scalar, marks)`` with the marks of `marked_unroll`.

    Returns:
      The value, the gradient (a tree like hp) and ``float[T]``, the norm |dw_t/dhp| over all directions, or None
      without marks.

    Source: Franceschi, Donini, Frasconi, Pontil, "Forward and reverse gradient-based hyperparameter
    optimization" (2017).

    >>> import jax.numpy as jnp
    >>> hp = {"a": jnp.float32(3), "b": jnp.float32(2)}
    >>> value, grad, _ = forward_value_and_grad(lambda hp: hp["a"] ** 2 * hp["b"], hp)
    >>> float(value), float(grad["a"]), float(grad["b"])
    (18.0, 12.0, 9.0)
    """
    flat, back = trees.flatten_floats(hp)
    size = flat.shape[0]
    marked = fun if has_marks else (lambda hp: (fun(hp), jnp.zeros((0,), flat.dtype)))

    def along(index: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        direction = (jnp.arange(size) == index).astype(flat.dtype)
        (value, _), (slope, sizes) = jax.jvp(lambda x: marked(back(x)), (flat,), (direction,))
        return value, slope, sizes

    if size == 0:
        value, marks = marked(hp)
        grad, norms = jnp.zeros((0,), flat.dtype), marks
    elif size == 1:
        # one direction needs no batch of tangents, whose products are slower
        value, slope, norms = along(jnp.arange(size)[0])
        grad = slope[None]
    elif size <= chunk:
        value, grad, sizes = jax.vmap(along, out_axes=(None, 0, 0))(jnp.arange(size))
        norms = jnp.sqrt(jnp.sum(sizes**2, axis=0))
    else:
        padded = -(-size // chunk) * chunk
        rows = jnp.arange(padded).reshape(-1, chunk)
        values, grads, sizes = lax.map(jax.vmap(along, out_axes=(None, 0, 0)), rows)
        value, grad = values[0], grads.reshape(-1)[:size]
        # directions beyond the last one are zero, and so are their sizes
        norms = jnp.sqrt(jnp.sum(sizes**2, axis=(0, 1)))
    leaves = trees.split_floats(back(grad.astype(flat.dtype)))[0]
    grad = trees.gradient_like(hp, leaves)
    return value, grad, norms if has_marks else None
