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
    pairs: jax.Array  # float[2, m, p], steps and gradient differences, oldest first, zero rows while unused
    r_inverse: jax.Array  # float[m, m], inverse of the upper triangle of s y^T (zero rows while unused)


_Loop = tuple[jax.Array, jax.Array, LBFGSState]  # iterations so far, whether to go on, state


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


def _times(matrix: jax.Array, v: Float[Array, "d"]) -> jax.Array:
    """``matrix @ v`` as a sum: XLA:CPU compiles such a product in 20 ms, and joins a sum with what surrounds it."""
    return jnp.sum(matrix * jnp.expand_dims(v, range(matrix.ndim - 1)), axis=-1)


def _inverse_hessian_times(state: LBFGSState, v: Float[Array, "d"]) -> Float[Array, "d"]:
    """H v in the compact form of Byrd, Nocedal and Schnabel (1994), eq. 3.1: a handful of small products."""
    (s, y), r = state.pairs, state.r_inverse
    sy = jnp.sum(s * y, axis=1)
    yy = jnp.sum(y[-1] * y[-1])
    gamma = jnp.where(yy > 0, sy[-1] / jnp.where(yy > 0, yy, 1.0), 1.0)
    sv, yv = _times(state.pairs, v)
    a = _times(r, sv)
    ay = _times(y.T, a)
    b = _times(r.T, sy * a + gamma * (_times(y, ay) - yv))
    return gamma * (v - ay) + _times(s.T, b)


def _remembered(state: LBFGSState, s: Float[Array, "d"], y: Float[Array, "d"], accept: jax.Array) -> LBFGSState:
    """The memory with one more pair, the oldest dropped, if the step is accepted and has positive curvature."""
    sy = jnp.sum(s * y)
    good = accept & (sy > _CURVATURE * jnp.sqrt(jnp.sum(s * s) * jnp.sum(y * y)))
    safe = jnp.where(good, sy, 1.0)
    kept = state.r_inverse[1:, 1:]  # dropping the first row and column of a triangle keeps the rest of its inverse
    column = -_times(kept, _times(state.pairs[0, 1:], y)) / safe
    m = len(kept) + 1
    last = jnp.arange(m, dtype=jnp.int32) == m - 1
    r_inverse = jnp.where(last[None, :], jnp.append(column, 1.0 / safe)[:, None], jnp.pad(kept, ((0, 1), (0, 1))))
    pairs = jnp.concatenate([state.pairs[:, 1:], jnp.stack([s, y])[:, None]], axis=1)
    return state._replace(
        pairs=jnp.where(good, pairs, state.pairs), r_inverse=jnp.where(good, r_inverse, state.r_inverse)
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
    fresh = state.r_inverse[-1, -1] == 0
    return state._replace(direction=direction, step=jnp.where(fresh | ~downhill, first, 1.0).astype(first.dtype))


def start(x: Float[Array, "d"], lower: Float[Array, "d"], upper: Float[Array, "d"], memory: int) -> LBFGSState:
    """The initial state; the first `iterate` evaluates ``x``, clipped to the box."""
    return LBFGSState(
        x=jnp.clip(x, lower, upper),
        value=jnp.full((), jnp.inf, x.dtype),
        grad=jnp.zeros_like(x),
        direction=jnp.zeros_like(x),
        step=jnp.ones((), x.dtype),
        pairs=jnp.zeros((2, memory, x.shape[0]), x.dtype),
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

    # minimum of the parabola through the value, the slope and the failed value
    curve = value - state.value - slope
    ratio = jnp.where(finite & (curve > 0), -0.5 * slope / jnp.where(curve > 0, curve, 1.0), 0.1)
    shorter = state.step * jnp.clip(ratio, 0.1, 0.5)

    state = _remembered(state, moved, jnp.where(finite, grad - state.grad, 0.0), accept)
    state = state._replace(
        x=jnp.where(accept, trial, state.x),
        value=jnp.where(accept, value, state.value),
        grad=jnp.where(accept, grad, state.grad),
    )
    aimed = _aim(state, lower, upper)  # the direction as before, if the point was not accepted
    return aimed._replace(step=jnp.where(accept, aimed.step, shorter))


def _residual(state: LBFGSState, lower: Float[Array, "d"], upper: Float[Array, "d"]) -> jax.Array:
    return jnp.max(jnp.abs(state.x - jnp.clip(state.x - state.grad, lower, upper)))


def _moving(state: LBFGSState, lower: Float[Array, "d"], upper: Float[Array, "d"], tolerance: float) -> jax.Array:
    """bool[]: neither at a stationary point nor with a step next that changes nothing."""
    reach = state.step * jnp.max(jnp.abs(state.direction))
    return ~((_residual(state, lower, upper) <= tolerance) | (reach <= 1e-3 * tolerance))


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

    def step(carry: _Loop) -> _Loop:
        i, _, state = carry
        state = iterate(value_and_grad, state, lower, upper)
        return i + jnp.int32(1), _moving(state, lower, upper, tolerance), state

    begin = jnp.int32(0), jnp.ones((), bool), start(x, lower, upper, memory)
    _, _, state = jax.lax.while_loop(lambda carry: (carry[0] <= iterations) & carry[1], step, begin)
    return LBFGSResult(state.x, state.value, state.grad, _residual(state, lower, upper))


def minimize_each(
    problem: Callable[[jax.Array], tuple[ValueAndGrad, jax.Array, jax.Array]],
    starts: Float[Array, "n d"],
    *,
    iterations: int,
    memory: int = 8,
    tolerance: float = 0.0,
) -> LBFGSResult:
    """`minimize` from n starts side by side: the same as under ``vmap``, in a third of the time to trace.

    Args:
        problem: maps a start, float[p], to its function and its bounds. starts: float[n, p].
        iterations, memory, tolerance: as of `minimize`.

    Returns:
        The n results, with a leading axis of n.

    >>> f = jax.value_and_grad(lambda x: jnp.sum((x - jnp.array([0.5, 2.0])) ** 2))
    >>> found = minimize_each(lambda x: (f, jnp.zeros(2), jnp.ones(2)), jnp.zeros((3, 2)), iterations=20)
    >>> found.x.round(4).tolist()
    [[0.5, 1.0], [0.5, 1.0], [0.5, 1.0]]
    """

    def one(x: jax.Array, moving: jax.Array, state: LBFGSState) -> tuple[jax.Array, LBFGSState]:
        value_and_grad, lower, upper = problem(x)
        new = iterate(value_and_grad, state, lower, upper)
        new = jax.tree.map(lambda a, b: jnp.where(moving, a, b), new, state)
        return moving & _moving(new, lower, upper, tolerance), new

    def step(carry: _Loop) -> _Loop:
        return carry[0] + jnp.int32(1), *jax.vmap(one)(starts, *carry[1:])

    begin = jax.vmap(lambda x: start(x, *problem(x)[1:], memory))(starts)
    going = lambda carry: (carry[0] <= iterations) & jnp.any(carry[1])  # noqa: E731
    _, _, state = jax.lax.while_loop(going, step, (jnp.int32(0), jnp.ones(len(starts), bool), begin))
    residual = jax.vmap(lambda x, state: _residual(state, *problem(x)[1:]))(starts, state)
    return LBFGSResult(state.x, state.value, state.grad, residual)
