"""Transformations of objective values into targets of a Gaussian process: robust and standardised."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.order import inverse
from jhpo.kernels.shapes import Array, Bool, Float, Int

_TINY = 1e-30
# Signed values further from 0 than so many typical distances are drawn in, to at most so many times that.
_FAR, _FARTHEST = 3.0, 8.0


def masked_rank(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Int[Array, "n"]:
    """Rank int32[n] of each row (0 is the smallest) among those with ``mask``; rows without come last."""
    return inverse(jnp.argsort(jnp.where(mask, y, jnp.inf)).astype(jnp.int32))


def standardize(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> tuple[Float[Array, "n"], Float[Array, ""]]:
    """Values with zero mean and unit deviation over the rows with ``mask``; zeros elsewhere and for constant values.

    They are divided by the largest magnitude first, so that values of 1e+-12 and beyond neither overflow nor underflow.

    Returns:
        ``(z[n], scale[])``; ``scale`` is the standard deviation, 1 for constant values.

    >>> z, scale = standardize(jnp.array([2.0, 4.0, 9.0]), jnp.array([True, True, False]))
    >>> z.tolist(), float(scale)
    ([-1.0, 1.0, 0.0], 1.0)
    """
    count = jnp.maximum(jnp.sum(mask, dtype=y.dtype), 1.0)
    y = jnp.where(mask, y, 0.0)
    size = jnp.maximum(jnp.max(jnp.abs(y)), _TINY)
    y = y / size
    mean = jnp.sum(y) / count
    centred = jnp.where(mask, y - mean, 0.0)
    deviation = jnp.sqrt(jnp.sum(centred * centred) / count)
    # a deviation of a few rounding errors means constant values: do not amplify the noise
    flat = deviation <= 8 * float(np.finfo(y.dtype).eps)
    divisor = jnp.where(flat, 1.0, deviation)
    return jnp.where(flat, 0.0, centred / divisor), jnp.where(flat, 1.0, divisor * size)


def tame(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """Values relative to the median in units of the better half's spread, with outliers compressed.

    Dividing by a scale that one huge value dominates would cost the small ones their precision. So the unit is the
    typical distance of the better half from the median, and outliers grow logarithmically: beyond 30 units among the
    better values, beyond 100 (float32) or 10,000 (float64) among the worse. Differences within rounding become zero.

    Args:
        y: float[n]. mask: bool[n].

    Returns:
        ``(z[n], slope[n])``, the values (0 without ``mask``) and dz/dy.

    >>> z, slope = tame(jnp.array([1.0, 2.0, 3.0, 1e30]), jnp.ones(4, bool))
    >>> z.tolist()[:3], bool(z[3] < 1e4), bool(z[3] > z[2])
    ([-1.0, 0.0, 1.0], True, True)
    """
    eps = float(np.finfo(y.dtype).eps)
    count = jnp.sum(mask, dtype=jnp.int32)
    order = 0.5 * jnp.sort(jnp.where(mask, y, jnp.inf))  # halves: the difference of two finite values may overflow
    median = jnp.where(count > 0, order[_middle(count)], 0.0)

    def from_median(halves: jax.Array) -> jax.Array:
        gap = halves - median
        return jnp.where(jnp.abs(gap) <= 8 * eps * jnp.abs(median), 0.0, gap)

    gap = jnp.where(mask, from_median(0.5 * y), 0.0)
    # in order: the better ones come first, their distances fall
    gaps = from_median(order)
    less, more = (jnp.sum(mask & side, dtype=jnp.int32) for side in (gap < 0, gap > 0))
    better = jnp.where(less > 0, -gaps[less - 1 - _middle(less)], jnp.inf)
    worse = jnp.where(more > 0, gaps[count - more + _middle(more)], jnp.inf)
    unit = jnp.where(jnp.isfinite(better), better, jnp.where(jnp.isfinite(worse), worse, 0.5))
    z = jnp.clip(gap / unit, -1e30, 1e30)
    size, far = jnp.abs(z), jnp.where(z < 0, 30.0, 100.0 if y.dtype.itemsize < 8 else 1e4)
    drawn = far * (1.0 + jnp.log(jnp.maximum(size, far) / far))
    out = size > far
    return jnp.where(out, jnp.sign(z) * drawn, z), jnp.where(out, far / size, 1.0) * 0.5 / unit


def tame_signed(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Values whose sign matters, not centred, in units of their root mean square; those far from 0 are drawn in.

    They grow logarithmically beyond three typical distances, up to a bound: else a huge one hides which sign the
    others have (Eriksson and Poloczek 2021, "Scalable constrained Bayesian optimization", sec. 3, for this purpose).

    Args:
        y: float[n]. mask: bool[n]; 0 elsewhere.

    >>> z = tame_signed(jnp.array([-1.0, 1.0, 2.0, -1e30, 9.0]), jnp.arange(5) < 4)
    >>> (z < 0).tolist(), bool(z[0] < -0.01), float(z[4])
    ([True, False, False, True, False], True, 0.0)
    """
    counts = mask & (y != 0)
    count = jnp.sum(counts, dtype=jnp.int32)
    unit = jnp.where(count > 0, jnp.sort(jnp.where(counts, jnp.abs(y), jnp.inf))[_middle(count)], 1.0)
    far = _FAR * jnp.minimum(unit, 0.25 * float(np.finfo(y.dtype).max))
    size = jnp.maximum(jnp.abs(y) / far, 1.0)
    z = jnp.where(mask, jnp.where(size > 1, jnp.sign(y) * jnp.minimum(1.0 + jnp.log(size), _FARTHEST), y / far), 0.0)
    root = jnp.sqrt(jnp.sum(z * z) / jnp.maximum(jnp.sum(mask, dtype=y.dtype), 1.0))
    return z / jnp.where(root > 0, root, 1.0)


def stray(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Bool[Array, "n"]:
    """bool[n]: whether a value is a thousand times further above the median than the typical value above it.

    >>> stray(jnp.array([1.0, 2.0, 3.0, 5.0, 1e30]), jnp.ones(5, bool)).tolist()
    [False, False, False, False, True]
    """
    order = jnp.sort(jnp.where(mask, y, jnp.inf))  # as in `tame`: one sort in a program that has both
    count = jnp.sum(mask, dtype=jnp.int32)
    median = order[_middle(count)]
    above = mask & (y > median)
    more = jnp.sum(above, dtype=jnp.int32)
    typical = 1e-3 * order[count - more + _middle(more)] - 1e-3 * median
    return above & (1e-3 * (1e-3 * y - 1e-3 * median) > typical)


def _middle(count: jax.Array) -> jax.Array:
    """Index of the lower median of ``count`` sorted values."""
    return (jnp.maximum(count, 1) - 1) // 2


def half_log(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> tuple[Float[Array, "n"], Float[Array, "n"]]:
    """Values worse than the median compressed to median + s log(1 + (y - median) / s).

    Serves the purpose of `half_rank` for values with gradients: it is differentiable, with a continuous derivative.

    Args:
        y: float[n]. mask: bool[n].

    Returns:
        ``(z[n], slope[n])``, the values and dz/dy in (0, 1].

    >>> z, slope = half_log(jnp.array([1.0, 2.0, 3.0, 1e9]), jnp.ones(4, bool))
    >>> z.tolist()[:2], slope.tolist()[:2], bool(z[3] < 20.0)
    ([1.0, 2.0], [1.0, 1.0], True)
    """
    count = jnp.sum(mask, dtype=y.dtype)
    rank = masked_rank(y, mask).astype(y.dtype)
    # the mean of the two middle values: with the lower one, the best two of four, if close, would set a tiny spread
    middle = mask & (jnp.abs(rank - (count - 1.0) / 2.0) <= 0.5)
    median = jnp.sum(jnp.where(middle, y, 0.0)) / jnp.maximum(jnp.sum(middle, dtype=y.dtype), 1.0)
    gap = jnp.where(mask, jnp.minimum(y - median, 0.0), 0.0)
    above = jnp.where(mask, jnp.maximum(y - median, 0.0), 0.0)
    spread = jnp.sqrt(jnp.sum(gap * gap) / jnp.maximum(count, 1.0))
    # a better half of equal values has no spread
    spread = jnp.maximum(jnp.where(spread > 0, spread, jnp.sqrt(jnp.mean(above * above))), _TINY)
    above = above / spread
    return jnp.where(above > 0, median + spread * jnp.log1p(above), y), 1.0 / (1.0 + above)


def half_rank(y: Float[Array, "n"], mask: Bool[Array, "n"]) -> Float[Array, "n"]:
    """Values worse than the median replaced by normal quantiles of their ranks; better values are unchanged.

    The spread of the worse half is that of the better half, so a few huge values neither flatten the rest nor distort
    the model (Song et al. 2024, "The Vizier Gaussian process bandit algorithm", sec. 4.1, for minimisation).

    Args:
        y: float[n]. mask: bool[n].

    >>> half_rank(jnp.array([1.0, 2.0, 3.0, 1e9]), jnp.ones(4, bool)).tolist()[:2]
    [1.0, 2.0]
    """
    n = jnp.sum(mask, dtype=jnp.int32)
    count = n.astype(y.dtype)
    below = jnp.sum(mask[None, :] & (y[None, :] < y[:, None]), axis=1, dtype=y.dtype)
    equal = jnp.sum(mask[None, :] & (y[None, :] == y[:, None]), axis=1, dtype=y.dtype)
    rank = below + 0.5 * (jnp.maximum(equal, 1.0) - 1.0)  # equal values stay equal
    # the largest value with less than half of the values below it: cheaper to compile than a sort
    median = jnp.max(jnp.where(mask & (below <= _middle(n).astype(y.dtype)), y, -jnp.inf))
    gap = jnp.where(mask, y - median, 0.0)
    good = gap <= 0
    middle = jnp.floor((count - 1.0) / 2.0)
    spread = jnp.sqrt(jnp.sum(jnp.where(good, gap * gap, 0.0)) / jnp.maximum(middle, 1.0))
    # a better half of equal values has no spread
    spread = jnp.where(spread > 0, spread, jnp.sqrt(jnp.sum(gap * gap) / jnp.maximum(count, 1.0)))
    lowest = jnp.max(jnp.where(mask & good, rank, 0.0))
    quantile = (jnp.append(rank, lowest) + 0.5) / jnp.maximum(count, 1.0)
    normal = float(np.sqrt(2)) * jax.lax.erf_inv(2.0 * jnp.clip(quantile, 1e-6, 1.0 - 1e-6) - 1.0)
    worse = median + spread * (normal[:-1] - normal[-1])
    return jnp.where(good | ~mask, y, worse)
