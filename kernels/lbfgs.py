"""Box-constrained L-BFGS as a flat state machine: one value and gradient per iteration, no inner loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jhpo.kernels.shapes import Array, Float

ValueAndGrad = Callable[[jax.Array], tuple[jax.Array, jax.Array]]

# Sufficient decrease (Armijo), and the smallest curvature relative to |s||y| of a pair that is kept.
_ARMIJO = 1e-4
_CURVATURE = 1e-10


class LBFGSState(NamedTuple):
    """State of one minimisation: p parameters, m stored pairs."""

    x: jax.Array  # float[p], best point so far, inside the box
    value: jax.Array  # float[], at x; inf before the first finite value
    grad: jax.Array  # float[p], at x
    direction: jax.Array  # float[p], of the search from x
    step: jax.Array  # float[], the step length tried next
    fresh: jax.Array  # bool[], no accepted step since the memory was cleared
    s: jax.Array  # float[m, p], steps, oldest first, zero rows while unused
    y: jax.Array  # float[m, p], gradient differences
    r_inverse: jax.Array  # float[m, m], inverse of the upper triangle of s y^T (zero rows while unused)


class LBFGSResult(NamedTuple):
    """Result of a minimisation."""

    x: jax.Array  # float[p]
    value: jax.Array  # float[], at x; not finite only if no value was finite
    grad: jax.Array  # float[p]
    residual: jax.Array  # float[], largest |x - clip(x - grad)|: 0 at a stationary point of the box


def _free(
    x: Float[Array, "d"], grad: Float[Array, "d"], lower: Float[Array, "d"], upper: Float[Array, "d"]
) -> Float[Array, "d"]:
    """1 where x can move downhill, 0 where a bound stops it."""
    stopped = ((x <= lower) & (grad > 0)) | ((x >= upper) & (grad < 0))
    return jnp.where(stopped, 0.0, 1.0).astype(x.dtype)


def _inverse_hessian_times(state: LBFGSState, v: Float[Array, "d"]) -> Float[Array, "d"]:
    """H v in the compact form of Byrd, Nocedal and Schnabel (1994), eq. 3.1: a handful of small products."""
    s, y, r = state.s, state.y, state.r_inverse
    sy, yy = jnp.sum(s[-1] * y[-1]), jnp.sum(y[-1] * y[-1])
    gamma = jnp.where(yy > 0, sy / jnp.where(yy > 0, yy, 1.0), 1.0)
    a = r @ (s @ v)
    b = jnp.sum(s * y, axis=1) * a + gamma * (y @ (a @ y)) - gamma * (y @ v)
    return gamma * v + (b @ r) @ s - gamma * (a @ y)


def _remember(state: LBFGSState, s: Float[Array, "d"], y: Float[Array, "d"]) -> LBFGSState:
    """The memory with one more pair, the oldest dropped; unchanged if the curvature is not positive."""
    sy = jnp.sum(s * y)
    good = sy > _CURVATURE * jnp.sqrt(jnp.sum(s * s) * jnp.sum(y * y))
    safe = jnp.where(good, sy, 1.0)
    kept = state.r_inverse[1:, 1:]  # dropping the first row and column of a triangle keeps the rest of its inverse
    column = -kept @ (state.s[1:] @ y) / safe
    block = jnp.concatenate([kept, column[:, None]], axis=1)
    corner = jnp.zeros_like(state.r_inverse[:1]).at[0, -1].set(1.0 / safe)
    return state._replace(
        s=jnp.where(good, jnp.concatenate([state.s[1:], s[None]]), state.s),
        y=jnp.where(good, jnp.concatenate([state.y[1:], y[None]]), state.y),
        r_inverse=jnp.where(good, jnp.concatenate([block, corner]), state.r_inverse),
    )


def _aim(state: LBFGSState, lower: Float[Array, "d"], upper: Float[Array, "d"]) -> LBFGSState:
    """A new direction from the current point, and the first step along it."""
    free = _free(state.x, state.grad, lower, upper)
    masked = state.grad * free
    direction = -_inverse_hessian_times(state, masked) * free
    slope = jnp.sum(direction * state.grad)
    downhill = (slope < 0) & jnp.isfinite(slope)
    direction = jnp.where(downhill, direction, -masked)
    size = jnp.sqrt(jnp.sum(masked * masked))
    # without curvature the gradient has no length scale: move by a tenth of the box at most, or by 1 unscaled
    first = jnp.minimum(1.0, 1.0 / jnp.where(size > 0, size, 1.0))
    return state._replace(direction=direction, step=jnp.where(state.fresh | ~downhill, first, 1.0).astype(first.dtype))


def start(x: Float[Array, "d"], lower: Float[Array, "d"], upper: Float[Array, "d"], memory: int) -> LBFGSState:
    """The initial state; the first `iterate` evaluates ``x``, clipped to the box."""
    empty = jnp.zeros((memory, x.shape[0]), x.dtype)
    return LBFGSState(
        x=jnp.clip(x, lower, upper),
        value=jnp.full((), jnp.inf, x.dtype),
        grad=jnp.zeros_like(x),
        direction=jnp.zeros_like(x),
        step=jnp.ones((), x.dtype),
        fresh=jnp.ones((), bool),
        s=empty,
        y=empty,
        r_inverse=jnp.zeros((memory, memory), x.dtype),
    )


def iterate(
    value_and_grad: ValueAndGrad, state: LBFGSState, lower: Float[Array, "d"], upper: Float[Array, "d"]
) -> LBFGSState:
    """Try one point: accept it and compute a new direction, or shrink the step. Non-finite values are rejected."""
    trial = jnp.clip(state.x + state.step * state.direction, lower, upper)
    value, grad = value_and_grad(trial)
    moved = trial - state.x
    slope = jnp.sum(state.grad * moved)
    finite = jnp.isfinite(value) & jnp.all(jnp.isfinite(grad))
    accept = finite & (value <= state.value + _ARMIJO * slope) & (jnp.any(moved != 0) | jnp.isinf(state.value))

    accepted = _remember(state, moved, jnp.where(finite, grad - state.grad, 0.0))
    accepted = accepted._replace(x=trial, value=value, grad=grad, fresh=jnp.all(accepted.r_inverse == 0))
    accepted = _aim(accepted, lower, upper)

    # minimum of the parabola through the value, the slope and the failed value
    curve = value - state.value - slope
    ratio = jnp.where(finite & (curve > 0), -0.5 * slope / jnp.where(curve > 0, curve, 1.0), 0.1)
    shorter = state._replace(step=state.step * jnp.clip(ratio, 0.1, 0.5))
    return jax.tree.map(lambda new, old: jnp.where(accept, new, old), accepted, shorter)


def minimize(
    value_and_grad: ValueAndGrad,
    x: Float[Array, "d"],
    lower: Float[Array, "d"],
    upper: Float[Array, "d"],
    *,
    iterations: int,
    memory: int = 8,
    tolerance: float = 0.0,
) -> LBFGSResult:
    """Minimise a function of a few dozen variables in a box, in a limited number of evaluations.

    Projected L-BFGS with backtracking (Nocedal and Wright, 2006, ch. 7; directions over the free variables only). The
    loop is flat: a rejected step costs an iteration, so many starts vmap or map in lockstep. For several starts:
    ``jax.vmap(lambda x: minimize(f, x, lower, upper, iterations=30))(xs)``.

    Args:
        value_and_grad: maps float[p] to (float[], float[p]); may return non-finite values outside its domain.
        x: float[p], the start; clipped to the box.
        lower, upper: float[p], bounds, possibly infinite.
        iterations: evaluations after the first one.
        memory: stored pairs.
        tolerance: the search ends once no entry of ``x - clip(x - grad)`` or no step is larger; under vmap, once all
            have ended.

    >>> f = jax.value_and_grad(lambda x: jnp.sum((x - jnp.array([0.5, 2.0])) ** 2))
    >>> result = minimize(f, jnp.zeros(2), jnp.zeros(2), jnp.ones(2), iterations=20)
    >>> [round(float(v), 4) for v in result.x]
    [0.5, 1.0]
    """

    def residual(state: LBFGSState) -> jax.Array:
        return jnp.max(jnp.abs(state.x - jnp.clip(state.x - state.grad, lower, upper)))

    def unfinished(carry: tuple[jax.Array, LBFGSState]) -> jax.Array:
        i, state = carry
        reach = state.step * jnp.max(jnp.abs(state.direction))
        small = (residual(state) <= tolerance) | (reach <= 1e-3 * tolerance)
        return (i <= iterations) & ((i == 0) | ~small)

    def step(carry: tuple[jax.Array, LBFGSState]) -> tuple[jax.Array, LBFGSState]:
        return carry[0] + jnp.int32(1), iterate(value_and_grad, carry[1], lower, upper)

    _, state = jax.lax.while_loop(unfinished, step, (jnp.int32(0), start(x, lower, upper, memory)))
    return LBFGSResult(state.x, state.value, state.grad, residual(state))
