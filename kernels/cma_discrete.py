"""CMA-ES with discrete coordinates: a margin for integers, probabilities for categories."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

from jhpo.kernels import counter_random
from jhpo.kernels.cma import Gaussian, deviations
from jhpo.kernels.shapes import Array, Float, Int, UInt


def draw_categories(seed: UInt[Array, "2"], table: Float[Array, "d k"], n: int) -> Int[Array, "n d"]:
    """Random categories, by inversion.

    Args:
      seed: of a stream of `counter_random`.
      table: rows that sum to 1 but for rounding; a category of probability 0 is never drawn.
      n: number of members.

    >>> table = jnp.array([[0.5, 0.0, 0.5, 0.0]])
    >>> draw_categories(counter_random.seeds(jax.random.key(0), 1)[0], table, 8).ravel().tolist()
    [0, 2, 0, 2, 2, 0, 2, 2]
    """
    edges = jax.lax.cummax(jnp.cumsum(table, axis=1), axis=1)  # sums of different lengths are rounded differently
    edges = edges / edges[:, -1:]  # 1 at the end, which no number reaches
    u = counter_random.uniform(seed, (n, table.shape[0]), table.dtype)
    return (u[:, :, None] >= edges[None, :, :]).sum(axis=2, dtype=jnp.int32)


def category_weights(chosen: jax.Array, weights: jax.Array, categories: int) -> jax.Array:
    """``float[d, k]``: summed weights ``float[m]`` of the members that had each category, ``chosen`` int32[m, d]."""
    onehot = jax.nn.one_hot(chosen, categories, dtype=weights.dtype)
    return jnp.einsum("m,mdk->dk", weights, onehot, precision=jax.lax.Precision.HIGHEST)


def margin(g: Gaussian, low: jax.Array, high: jax.Array, discrete: np.ndarray, alpha: jax.Array) -> Gaussian:
    """Keep every discrete coordinate able to leave its cell (Hamano et al. 2022, "CMA-ES with margin").

    Args:
      g: the distribution.
      low, high: float[d], edges of the cell that holds the mean; -inf or inf where there is no neighbour.
      discrete: bool[d], static: the discrete coordinates.
      alpha: float[], least probability of leaving, 1 / (d l) in the paper.

    In an outer cell the mean moves towards the edge; in an inner one mean and deviation are set so that each
    neighbour has a probability of at least alpha / 2.
    """
    least = alpha / 2.0
    deviation = deviations(g)
    reach = -deviation * ndtri(alpha)  # 1 - alpha may be 1 in float32
    mean = jnp.where(jnp.isinf(low) & ~jnp.isinf(high), jnp.maximum(g.mean, high - reach), g.mean)
    mean = jnp.where(jnp.isinf(high) & ~jnp.isinf(low), jnp.minimum(mean, low + reach), mean)

    inner = ~jnp.isinf(low) & ~jnp.isinf(high)
    a, b = jnp.where(inner, low, 0.0), jnp.where(inner, high, 1.0)
    below, above = ndtr((a - g.mean) / deviation), ndtr((g.mean - b) / deviation)
    short = inner & ((below < least) | (above < least))
    p, q = jnp.maximum(below, least), jnp.maximum(above, least)
    middle = 1.0 - below - above
    spare = (1.0 - p - q - middle) / (p + q + middle - 3.0 * least)  # what was added is taken back in proportion
    p, q = p + spare * (p - least), q + spare * (q - least)
    u, v = -ndtri(p), -ndtri(q)  # (mean - a) / deviation and (b - mean) / deviation
    wanted = (b - a) / (u + v)
    on = jnp.asarray(discrete)
    fix = short & on
    return g._replace(
        mean=jnp.where(on, jnp.where(fix, a + u * wanted, mean), g.mean),
        scale=jnp.where(fix, g.scale * wanted / deviation, g.scale),
    )


def spread_categories(table: jax.Array, target: jax.Array, rate: jax.Array, least: jax.Array) -> jax.Array:
    """Category probabilities after one generation, each kept above ``least`` (Hamano et al. 2024, CatCMA, eqs. 9, 18).

    Args:
      table: float[d, k], rows that sum to 1; zeros stand for categories that do not exist.
      target: float[d, k], weight of the members that had each category; rows sum to 1, or to 0 for no update.
      rate: float[], learning rate. least: float[], smaller than 1 / k.
    """
    exists = table > 0
    moved = table + rate * (target - target.sum(axis=1, keepdims=True) * table)
    count = exists.sum(axis=1, keepdims=True).astype(table.dtype)
    floor = jnp.minimum(least, 0.5 / count)
    raised = jnp.where(exists, jnp.maximum(moved, floor), 0.0)
    above = raised - jnp.where(exists, floor, 0.0)
    room = (1.0 - floor * count) / jnp.maximum(above.sum(axis=1, keepdims=True), float(np.finfo(table.dtype).tiny))
    return jnp.where(exists, floor + above * room, 0.0)
