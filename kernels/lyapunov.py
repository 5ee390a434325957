"""The Lyapunov exponent of a training: how much a small change of its state grows over all steps."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from jhpo.kernels import trees
from jhpo.kernels.shapes import Array, Float, Key
from jhpo.kernels.trees import Tree
from jhpo.kernels.unroll import Step

# Lambda up to which a gradient through the unroll is trusted, and up to which its direction is still useful after
# clipping and averaging over seeds (digits networks, 729 steps: stable trainings stay below 1).
TRUSTED, USABLE = 5.0, 15.0


class TangentGrowth(NamedTuple):
    """Growth of one tangent through a training."""

    exponent: jax.Array  # float[], Lambda = sum_t log |J_t v_t|; +inf if the state became non-finite
    growth: jax.Array  # float[T], log |J_t v_t|; 0 while no tangent exists yet
    state: Tree  # w_T


def tangent_growth(step: Step, hp: Tree, direction: Tree, state: Tree, tangent: Tree, steps: int) -> TangentGrowth:
    """Lambda = sum_t log |J_t v_t|, the sum of the finite-time Lyapunov exponents of the steps.

    v_t is the normalised tangent that is carried through the training, and J_t the Jacobian of the step with respect to
    the state. The tangent starts as the effect of the hyperparameters on the state (``tangent`` at the initial state,
    or the change that ``direction`` makes in the first steps if that is zero), because a random change of an
    optimiser's second moments would be larger than any effect of a hyperparameter. exp(Lambda) bounds, to leading
    order, the growth of a gradient on its way back through the unroll.

    Args:
      step: ``step(hp, state, t) -> state``.
      hp, direction: hyperparameters, and a list of tangents for their floating leaves.
      state, tangent: w_0, and a list of tangents for its floating leaves (zeros where init does not depend on hp).
      steps: T.

    >>> import jax.numpy as jnp
    >>> one, zero = [jnp.ones(())], [jnp.zeros(())]
    >>> run = tangent_growth(lambda hp, w, t: w - hp * w, jnp.float32(2.2), one, jnp.float32(1), zero, 50)
    >>> round(float(run.exponent / 49), 4)
    0.1823
    """
    floats, rebuild_hp = trees.split_floats(hp)

    def turn(carry: tuple[Tree, list[jax.Array]], t: jax.Array) -> tuple[tuple[Tree, list[jax.Array]], jax.Array]:
        state, v = carry
        leaves, rebuild = trees.split_floats(state)
        started = trees.norm(v) > 0

        def after(hp: list[jax.Array], state: list[jax.Array]) -> tuple[list[jax.Array], Tree]:
            new = step(rebuild_hp(hp), rebuild(state), t)
            return trees.split_floats(new)[0], new

        force = [jnp.where(started, jnp.zeros_like(d), d) for d in direction]
        _, moved, new = jax.jvp(after, (floats, leaves), (force, v), has_aux=True)
        size = trees.norm(moved)
        usable = (size > 0) & jnp.isfinite(size)
        v = [jnp.where(usable, m / jnp.where(usable, size, 1.0).astype(m.dtype), x) for m, x in zip(moved, v)]
        # a tangent that vanished (dead units) or overflowed keeps its last direction; the log of its norm is recorded
        grown = jnp.where(jnp.isnan(size), jnp.inf, jnp.log(jnp.maximum(size, jnp.finfo(size.dtype).tiny)))
        # no growth before there is a tangent, but a NaN even then means that the step has no derivative here
        return (new, v), jnp.where(started | jnp.isnan(size), grown, jnp.zeros_like(grown))

    size = trees.norm(tangent)
    start = [t / jnp.where(size > 0, size, jnp.ones_like(size)).astype(t.dtype) for t in tangent]
    (state, _), growth = lax.scan(turn, (state, start), jnp.arange(steps, dtype=jnp.int32))
    return TangentGrowth(jnp.sum(growth), growth, state)


def backward_growth(norms: Float[Array, "t"]) -> Float[Array, ""]:
    """Lambda estimated from |dE/dw_t| of reverse mode: the log of the largest norm over the last, at least 0.

    >>> float(backward_growth(jnp.array([4.0, 2.0, 1.0])) / jnp.log(2.0))
    2.0
    """
    last, largest = norms[-1], jnp.max(norms)
    return jnp.where(largest == 0, jnp.zeros_like(last), jnp.log(largest) - jnp.log(last))


def forward_growth(norms: Float[Array, "t"]) -> Float[Array, ""]:
    """A rough estimate of Lambda from |dw_t/dhp| of forward mode; at least 0.

    In a stable training every step adds to dw/dhp, which then grows linearly in time, so only growth beyond that
    counts: the largest of that from the first derivative to the maximum, and those over the last three quarters and the
    last half, extrapolated to the whole training. In a chaotic training the derivatives of the first steps outgrow
    later ones; there the estimate is below Lambda by up to half the logarithm of the number of steps.

    >>> steps = jnp.arange(1.0, 101.0)
    >>> round(float(forward_growth(steps)), 4), round(float(forward_growth(steps * jnp.exp(0.1 * steps))), 4)
    (0.0, 10.0)
    """
    steps = norms.shape[0]
    first = jnp.argmax((norms > 0) | jnp.isnan(norms))
    age = jnp.maximum(jnp.arange(steps) - first + 1, 1).astype(norms.dtype)
    beyond = jnp.log(norms) - jnp.log(age)  # -inf before the first derivative
    grown = jnp.max(beyond) - beyond[first]
    for start in (steps // 4, steps // 2) if steps >= 8 else ():
        rate = (beyond[-1] - beyond[start]) * (steps / (steps - 1 - start))
        grown = jnp.where(start > first, jnp.maximum(grown, rate), grown)
    return jnp.where(jnp.all(norms == 0), jnp.zeros_like(grown), grown)


def hyper_direction(key: Key[Array, ""], hp: Tree) -> list[jax.Array]:
    """A random direction for the floating leaves of hp, each entry scaled by its absolute value (1 if it is 0)."""
    floats = trees.split_floats(hp)[0]
    noise = trees.normal_like(key, floats)
    return [n * jnp.where(f == 0, jnp.ones_like(f), jnp.abs(f)) for n, f in zip(noise, floats)]
