"""The Pareto front as a Bayesian search of several objectives sees it, and the improvement that it aims at.

Everything is in units of the targets. A point is worth the hypervolume that it is expected to add to the front of the
predicted means, so noise does not carry a lucky trial onto the front.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import acquisition, pareto, warp
from jhpo.kernels.hypervolume import Boxes, Lines, open_boxes, open_lines
from jhpo.kernels.order import precedes
from jhpo.kernels.sobol import sobol
from jhpo.strategies.bayes.history import OBSERVED, History, told_rows

# Points of the front that the improvement is computed with: the others are close to these.
_MOST = 96
# Objectives whose improvement is exact, and lines that it is sampled along for more.
_EXACT, _LINES = 3, 256
# Points of the front that are perturbed for candidates.
_CENTRES = 16
# The reference point lies so far beyond the front's worst values, as a share of the front's extent, and of the way from
# there to a bad result: the extent of a front of few points says nothing, and searches that believe it fill a part of
# the front and do not look for its ends.
_BEYOND, _TOWARDS_BAD = 0.1, 0.3
# A bad result: the worst of all, but at most so many times further from the median of the first so many than their best
# is: a training may have diverged, and later results are those of a search that has narrowed.
_EARLY, _FURTHEST = 8, 10.0
# While the model leaves more than this share of the targets' variance unexplained, the reference point is modest: at
# most so many times as far from the front's best values as its best compromise is, in units of the front's extent.
MODEST_ABOVE, _MODEST = 0.1, 2.0
# Samples begin so far below the front's best values, in deviations of the targets.
_BELOW = 1.0

Regions = Boxes | Lines


class Front(NamedTuple):
    """Predicted means in several worlds, which differ in the values of pending points, and what they leave open."""

    means: jax.Array  # float[worlds, N, m], inf at rows that are neither feasible and observed nor pending
    reference: jax.Array  # float[m]
    imagined: jax.Array  # bool[], whether the worlds differ; if not, the first one stands for all
    regions: Regions | None = None  # not dominated, one for each of the worlds; None before `completed`
    centres: jax.Array | None = None  # int32[k], rows whose surroundings are searched; None before `completed`


def regions_of(means: jax.Array, reference: jax.Array) -> Regions:
    """What a front leaves open below the reference point; means float[N, m]."""
    n, m = means.shape
    some = means
    if n > _MOST:
        some = means[pareto.best(means, None, _MOST)[0]]
    if m <= _EXACT:
        return open_boxes(some, reference)
    low = jnp.min(jnp.where(jnp.isfinite(some), some, reference[None, :]), axis=0)
    even = sobol(0, _LINES, m - 1, jnp.asarray(np.arange(1, m, dtype=np.uint32) * np.uint32(0x9E3779B9)), some.dtype)
    return open_lines(some, reference, jnp.minimum(low, reference) - _BELOW, even)


def front_of(means: jax.Array, reference: jax.Array, worlds: int) -> Front:
    """The front before anything is imagined; means float[N, m]."""
    return Front(jnp.broadcast_to(means, (worlds, *means.shape)), reference, jnp.zeros((), bool))


def completed(front: Front) -> Front:
    """The front with what it leaves open, and the centres of the search."""
    return _opened(front)._replace(centres=_centres(front.means[0]))


def extended(front: Front, row: jax.Array, values: jax.Array) -> Front:
    """The front with another point: values float[worlds, m], inf where it does not count; row int32[], a free one."""
    front = front._replace(means=front.means.at[:, row].set(values), imagined=jnp.ones((), bool))
    return front if front.regions is None else _opened(front)


def _opened(front: Front) -> Front:
    """The front with what it leaves open, in one world after another: side by side they take a larger program."""
    worlds = front.means.shape[0]

    def one(w: jax.Array, regions: Regions) -> Regions:
        return jax.tree.map(lambda all, new: all.at[w].set(new), regions, regions_of(front.means[w], front.reference))

    form = jax.eval_shape(regions_of, front.means[0], front.reference)
    empty = jax.tree.map(lambda leaf: jnp.zeros((worlds, *leaf.shape), leaf.dtype), form)
    count = jnp.where(front.imagined, jnp.int32(worlds), 1)
    return front._replace(regions=jax.lax.fori_loop(0, count, one, empty))


def natural_reference(
    values: jax.Array, seen: jax.Array, order: jax.Array, far: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """The reference point of a front, float[m], and its best values, float[m].

    Args:
        values: float[N, m], whose typical value is 0.
        seen: bool[N], those that count.
        order: int32[N], how many points were asked for before.
        far: bool[], whether it lies beyond a bad result by as much as that is worse than the best.
    """
    low, high = _ends(jnp.where(seen[:, None], values, jnp.inf))
    some = jnp.any(seen)
    early = seen & (order < _EARLY)
    first = jnp.where(early[:, None], values, jnp.inf)
    median = _median(first, early)
    furthest = jnp.where(jnp.any(early), median + _FURTHEST * (median - jnp.min(first, axis=0)), jnp.inf)
    bad = jnp.minimum(jnp.max(jnp.where(seen[:, None], values, -jnp.inf), axis=0), furthest)
    reference = high + _BEYOND * (high - low) + _TOWARDS_BAD * jnp.maximum(bad - high, 0.0)
    if far is not None:
        reference = jnp.where(far, jnp.maximum(bad + (bad - low), reference), reference)
    return jnp.where(some, reference, 0.0), jnp.where(some, low, -1.0)


def _median(values: jax.Array, counted: jax.Array) -> jax.Array:
    """float[m]: the higher median of a few rows float[N, m], found without a sort of all; 0 if none counts."""
    place = jnp.sum(precedes(values.T) & counted[None, None, :], axis=2, dtype=jnp.int32)
    middle = counted[None, :] & (place == jnp.sum(counted, dtype=jnp.int32) // 2)
    return jnp.sum(jnp.where(middle, values.T, 0.0), axis=1)


def modest(reference: jax.Array, means: jax.Array) -> jax.Array:
    """A reference point float[m] near the front's best compromise, for a model that does not know the space.

    Far reference points reward the ends of a front, which hardly anything dominates: such a model looks for them at the
    corners of the cube, where it learns nothing about the inside. Means float[N, m] of the targets, inf where they do
    not count.
    """
    low, high = _ends(means)
    extent = high - low
    some = (extent > 0).all()  # else there is no compromise
    size = jnp.where(some, extent, 1.0)
    compromise = jnp.min(jnp.max((means - low[None, :]) / size[None, :], axis=1))
    return jnp.where(some, jnp.minimum(reference, low + _MODEST * compromise * size), reference)


def targets(
    history: History, kind: str, given: np.ndarray | None, far: jax.Array | None = None
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Standardised targets float[m, N] of several objectives, variances in their units, and the reference point.

    Values that are worse than the reference point add nothing to any front. "half_rank" compresses them, so that the
    model resolves the others; these keep their proportions, because hypervolume depends on them. Failed rows get the
    worst target.

    Args:
        history: with values. kind: half_rank or none. given: float[m], the reference point in units of the values, to
            be minimised; None for a natural one. far: bool[], whether that lies beyond all results; None for False.
    """
    assert history.values is not None
    seen = history.status == OBSERVED
    told = told_rows(history)
    tame = jax.vmap(warp.tame, (1, None))
    z, slope = tame(history.values, seen)
    reference, best = natural_reference(z.T, seen & history.feasible, history.order, far)
    typical = jnp.argmin(jnp.where(seen[None, :], jnp.abs(z), jnp.inf), axis=1)
    if given is not None:
        middle = jnp.take_along_axis(history.values, typical[None, :], axis=0)[0]
        steep = jnp.take_along_axis(slope, typical[:, None], axis=1)[:, 0]
        reference = steep * (jnp.asarray(given, z.dtype) - middle)
    if kind != "none":
        size = reference - best
        size = jnp.where(size > 0, size, 1.0)[:, None]
        excess = jnp.maximum(z - reference[:, None], 0.0) / size
        z = jnp.where(excess > 0, reference[:, None] + size * jnp.log1p(excess), z)
        slope = slope / (1.0 + excess)
    worst = jnp.max(jnp.where(seen[None, :], z, -jnp.inf), axis=1, keepdims=True)
    z = jnp.where(seen[None, :], z, jnp.where(jnp.isfinite(worst), worst, 0.0))
    y, scale = jax.vmap(warp.standardize, (0, None))(z, told)
    row = typical[:, None]
    at, here = (jnp.take_along_axis(rows, row, axis=1)[:, 0] for rows in (y, z))
    reference = at + (reference - here) / scale
    known = history.variance.T * (slope / scale[:, None]) ** 2
    return y, jnp.where(seen[None, :], known, 0.0), reference


def improvement(front: Front, mean: jax.Array, variance: jax.Array) -> jax.Array:
    """Log of the expected hypervolume improvement, averaged over the worlds; -inf where nothing is left open.

    Args:
        front: completed. mean: float[m, worlds]. variance: float[m].
    """
    of_one = (
        acquisition.log_expected_hypervolume_improvement
        if isinstance(front.regions, Boxes)
        else acquisition.sampled_log_expected_hypervolume_improvement
    )
    assert front.regions is not None
    worlds = mean.shape[1]
    if worlds == 1:
        return of_one(mean[:, 0], variance, jax.tree.map(lambda leaf: leaf[0], front.regions))
    count = jnp.where(front.imagined, jnp.int32(worlds), 1)
    return _averaged(of_one, mean.T, variance, front.regions, count)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _averaged(
    of_one: Callable[..., jax.Array], mean: jax.Array, variance: jax.Array, regions: Regions, count: jax.Array
) -> jax.Array:
    """Log of the mean of ``exp(of_one)`` over the first ``count`` worlds: a loop, as they are all the same at first."""

    def one(w: jax.Array, total: jax.Array) -> jax.Array:
        return jnp.logaddexp(total, of_one(mean[w], variance, jax.tree.map(lambda leaf: leaf[w], regions)))

    total = jax.lax.fori_loop(0, count, one, jnp.full((), -jnp.inf, mean.dtype))
    return total - jnp.log(count.astype(mean.dtype))


def _averaged_forward(
    of_one: Callable[..., jax.Array], mean: jax.Array, variance: jax.Array, regions: Regions, count: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    """The value, and its derivatives by mean and variance: a loop of unknown length cannot be reversed."""

    def one(w: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        total, by_mean, by_variance = carry
        region = jax.tree.map(lambda leaf: leaf[w], regions)
        value, (dm, dv) = jax.value_and_grad(of_one, (0, 1))(mean[w], variance, region)
        new = jnp.logaddexp(total, value)
        base = jnp.where(jnp.isfinite(new), new, 0.0)
        was, share = jnp.exp(total - base), jnp.exp(value - base)
        return new, (was * by_mean).at[w].set(share * dm), was * by_variance + share * dv

    begin = (jnp.full((), -jnp.inf, mean.dtype), jnp.zeros_like(mean), jnp.zeros_like(variance))
    total, by_mean, by_variance = jax.lax.fori_loop(0, count, one, begin)
    return total - jnp.log(count.astype(mean.dtype)), (by_mean, by_variance, *jax.tree.leaves(regions))


def _averaged_backward(
    of_one: Callable[..., jax.Array], kept: tuple[jax.Array, ...], slope: jax.Array
) -> tuple[jax.Array, jax.Array, None, None]:
    return slope * kept[0], slope * kept[1], None, None


_averaged.defvjp(_averaged_forward, _averaged_backward)


def _centres(means: jax.Array) -> jax.Array:
    """int32[k]: the rows of the front with most room around them first; the first one again if there are fewer."""
    n = means.shape[0]
    on = pareto.first_front(means)
    room = jnp.where(on, pareto.crowding(means, jnp.where(on, 0, n).astype(jnp.int32)), -1.0)
    room, chosen = jax.lax.top_k(room, min(_CENTRES, n))
    return jnp.where(room >= 0, chosen, chosen[0]).astype(jnp.int32)


def front_rows(front: Front) -> jax.Array:
    """bool[N]: the rows on the front, in the first world."""
    return pareto.first_front(front.means[0])


def _ends(means: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The best and the worst values on the front, float[m] each; inf and -inf where there is none."""
    best = pareto.first_front(means)[:, None]
    return jnp.min(jnp.where(best, means, jnp.inf), axis=0), jnp.max(jnp.where(best, means, -jnp.inf), axis=0)
