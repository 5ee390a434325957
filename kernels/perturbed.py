"""Gradients of a smoothed loss by antithetic perturbations: PES, ES-Single and truncated evolution strategies."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike

from jhpo.kernels import threefry, trees
from jhpo.kernels.shapes import Array, Float, Key
from jhpo.kernels.unroll import Step, unroll

Tree = Any

KINDS = ("pes", "es_single", "truncated")


class Smoothing(NamedTuple):
    """How hyperparameters are perturbed, and which estimator is used."""

    sigma: jax.Array | float  # standard deviation of the noise, in units of scale
    scale: jax.Array | None = None  # float[k], the unit of each hyperparameter; None for 1
    kind: str = "pes"  # one of KINDS


class Particles(NamedTuple):
    """State of N antithetic pairs of trainings."""

    states: Tree  # like a state with leading axes [2, N]: the trainings with + and with - the noise
    noise: jax.Array  # float[N, k], sum of the perturbations of a pair so far, in units of sigma * scale
    t: jax.Array  # int32[], steps done


Carry = tuple[Particles, jax.Array, jax.Array]  # the pairs, and the sums of losses and estimates


def particles(state: Tree, pairs: int, size: int, dtype: DTypeLike) -> Particles:
    """N pairs that all start at ``state``; ``size`` is the number k of hyperparameters."""
    copies = jax.tree.map(lambda x: jnp.broadcast_to(x, (2, pairs, *jnp.shape(x))), state)
    return Particles(copies, jnp.zeros((pairs, size), dtype), jnp.zeros((), jnp.int32))


def perturbed_window(
    step: Step,
    loss: Callable[[Tree, Tree, jax.Array], jax.Array],
    hp: Tree,
    current: Particles,
    key: Key[Array, ""],
    *,
    window: int,
    smoothing: Smoothing,
) -> tuple[Float[Array, "2 n"], Float[Array, "n k"], Particles]:
    """Advance every pair by one window, and estimate the gradient of its loss.

    ``pes`` draws new noise in every window and weights the loss by the sum of a pair's noise so far; ``es_single``
    keeps the noise of the first window; both are unbiased for the smoothed sum of the windows' losses. ``truncated``
    weights by the window's own noise and ignores the effect of earlier noise: it is biased, and provided for
    comparison.

    Args:
      step, loss: ``step(hp, state, t) -> state``; ``loss(hp, state, t) -> scalar`` after the window's last step.
      current: the pairs.
      key: for the noise.
      window: number of steps.
      smoothing: the noise.

    Returns:
      ``float[2, N]`` losses, ``float[N, k]`` estimates whose mean is the gradient, the pairs after the window.

    Source: Vicol, Metz, Sohl-Dickstein, "Unbiased gradient estimation in unrolled computation graphs with persistent
    evolution strategies" (2021), algorithm 1; Vicol, "Low-variance gradient estimation in unrolled computation graphs
    with ES-Single" (2023), algorithm 2.
    """
    flat, back = trees.flatten_floats(hp)
    scale = jnp.ones_like(flat) if smoothing.scale is None else smoothing.scale
    unit = jnp.asarray(smoothing.sigma, flat.dtype) * scale
    fresh = jax.random.normal(key, current.noise.shape, current.noise.dtype)
    if smoothing.kind == "es_single":
        fresh = jnp.where(current.t == 0, fresh, current.noise)
        total = fresh
    else:
        total = current.noise + fresh
    signs = jnp.array([1.0, -1.0], flat.dtype)

    def one(sign: jax.Array, epsilon: jax.Array, state: Tree) -> tuple[jax.Array, Tree]:
        moved = back(flat + sign * unit * epsilon)
        state = unroll(step, moved, state, window, start=current.t)
        return loss(moved, state, current.t + jnp.int32(window)), state

    values, states = jax.vmap(jax.vmap(one, (None, 0, 0)), (0, None, 0))(signs, fresh, current.states)
    weight = fresh if smoothing.kind == "truncated" else total
    estimates = ((values[0] - values[1]) / 2)[:, None].astype(flat.dtype) * weight / unit[None]
    return values, estimates, Particles(states, total, current.t + jnp.int32(window))


def perturbed_gradient(
    step: Step,
    loss: Callable[[Tree, Tree, jax.Array], jax.Array],
    init: Callable[[Tree], Tree],
    hp: Tree,
    key: Key[Array, ""],
    *,
    steps: int,
    window: int,
    pairs: int,
    smoothing: Smoothing,
    weights: Float[Array, "w"] | None = None,
) -> tuple[Float[Array, ""], Tree, Tree]:
    """Mean loss, gradient and its standard error over a whole training of ``steps`` steps in windows.

    Args:
      step, loss: see `perturbed_window`.
      init: ``init(hp) -> state``, where all pairs start.
      hp: hyperparameters, k floating numbers in all.
      key: for the noise.
      steps, window: T and the length of a window; W = T // window of them are run.
      pairs: N, antithetic pairs of trainings.
      smoothing: the noise.
      weights: ``float[W]``, weights of the W windows' losses; None for 1 each. (0, ..., 0, 1) gives the gradient of
        the final loss.

    Returns:
      The weighted sum of losses (mean over pairs), the gradient and its standard error, trees like hp. Pairs
      that failed (NaN or infinite) are ignored; if all failed, the gradient is NaN.
    """
    windows = steps // window
    flat, back = trees.flatten_floats(hp)
    weights = jnp.ones((windows,), flat.dtype) if weights is None else weights
    start = particles(init(hp), pairs, flat.shape[0], flat.dtype)

    def turn(carry: Carry, x: tuple[jax.Array, jax.Array]) -> tuple[Carry, None]:
        current, total, estimate = carry
        key, weight = x
        values, one, current = perturbed_window(step, loss, hp, current, key, window=window, smoothing=smoothing)
        counts = weight != 0  # 0 * NaN would be NaN
        total = total + jnp.where(counts, weight * jnp.mean(values.astype(flat.dtype), axis=0), 0)
        estimate = estimate + jnp.where(counts, weight * one, jnp.zeros_like(one))
        return (current, total, estimate), None

    zero = jnp.zeros((pairs,), flat.dtype), jnp.zeros((pairs, flat.shape[0]), flat.dtype)
    (_, total, estimate), _ = lax.scan(turn, (start, *zero), (threefry.split(key, windows), weights))
    good = jnp.isfinite(total) & jnp.all(jnp.isfinite(estimate), axis=1)
    count = jnp.sum(good).astype(flat.dtype)
    value = jnp.sum(jnp.where(good, total, 0)) / count
    estimate = jnp.where(good[:, None], estimate, 0)
    mean = jnp.sum(estimate, axis=0) / count
    spread = jnp.where(good[:, None], estimate - mean[None], 0)
    error = jnp.sqrt(jnp.sum(spread**2, axis=0) / jnp.maximum(count - 1, 1) / count)
    return value, _like(hp, back(mean)), _like(hp, back(error))


def _like(hp: Tree, tree: Tree) -> Tree:
    return trees.gradient_like(hp, trees.split_floats(tree)[0])
