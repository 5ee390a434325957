"""CMA-ES as array functions: learning rates, a Gaussian with its adaptation, the margin of discrete coordinates.

Notation (Hansen 2016, "The CMA evolution strategy: a tutorial", arXiv:1604.00772; equation numbers from there):
    d  coordinates     l  members of a generation (lambda)     m  mean     s  step size (sigma)     C  covariance
    A  its Cholesky factor     z ~ N(0, I)     y = A z     x = m + s * scale * y, scale from the margin (else 1)

Instead of C^{-1/2} stands the inverse of the Cholesky factor (Krause, Arbones & Igel 2016): the same norms, no
eigendecomposition, and nothing but products and one loop over columns, batched or not.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtr, ndtri

_HIGH = jax.lax.Precision.HIGHEST


class Rates(NamedTuple):
    """Recombination weights and learning rates for one size of generation."""

    weights: jax.Array  # float[m], by rank; the positive ones sum to 1, 0 beyond the generation's size
    mu_eff: jax.Array  # float[], variance-effective selection mass
    c_sigma: jax.Array  # float[]
    d_sigma: jax.Array  # float[]
    c_c: jax.Array  # float[]
    c_1: jax.Array  # float[]
    c_mu: jax.Array  # float[]


class Gaussian(NamedTuple):
    """The search distribution and its memory. A diagonal one keeps vectors for cov, root and inverse."""

    mean: jax.Array  # float[d]
    sigma: jax.Array  # float[], step size
    cov: jax.Array  # float[d, d] or float[d], C
    root: jax.Array  # the same shape, A with A A' = C as of the last factorisation
    inverse: jax.Array  # the same shape, inverse of A
    path_sigma: jax.Array  # float[d], evolution path of the step size
    path_c: jax.Array  # float[d], evolution path of the covariance
    scale: jax.Array  # float[d], widening of discrete coordinates (the matrix A of Hamano et al. 2022)
    generation: jax.Array  # int32[], updates so far
    stale: jax.Array  # int32[], updates since the factorisation


def rates(size: jax.Array, count: int, dim: int, diagonal: bool) -> Rates:
    """Weights and learning rates (Table 1, eqs. 49-58) for a generation of ``size <= count`` members.

    Args:
      size: float[], members that count; may be traced, so that a growing population compiles once.
      count: static length of the weights.
      dim: number of adapted coordinates.
      diagonal: learn faster, as fewer numbers are learned (Ros & Hansen 2008).

    >>> r = rates(jnp.float32(10.0), 10, 10, False)
    >>> round(float(r.mu_eff), 2), round(float(r.weights[:5].sum()), 5)
    (3.17, 1.0)
    """
    dtype, n = size.dtype, float(max(dim, 1))
    rank = jnp.arange(1, count + 1, dtype=dtype)
    raw = jnp.where(rank <= size, jnp.log((size + 1) / 2) - jnp.log(rank), 0.0)  # (49)
    plus, minus = jnp.maximum(raw, 0.0), jnp.maximum(-raw, 0.0)
    tiny = float(np.finfo(dtype).tiny)
    mu_eff = plus.sum() ** 2 / (plus**2).sum()
    mu_minus = minus.sum() ** 2 / jnp.maximum((minus**2).sum(), tiny)
    c_1 = 2.0 / ((n + 1.3) ** 2 + mu_eff)  # (57)
    c_mu = 2.0 * (0.25 + mu_eff + 1.0 / mu_eff - 2.0) / ((n + 2.0) ** 2 + mu_eff)  # (58)
    faster = (n + 2.0) / 3.0 if diagonal else 1.0
    c_1 = jnp.minimum(c_1 * faster, 0.5)
    c_mu = jnp.minimum(c_mu * faster, 1.0 - c_1)
    shrink = jnp.minimum(1.0 + c_1 / c_mu, 1.0 + 2.0 * mu_minus / (mu_eff + 2.0))  # (50), (51)
    shrink = jnp.minimum(shrink, (1.0 - c_1 - c_mu) / (n * c_mu))  # (52)
    c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0)  # (55)
    return Rates(
        weights=plus / plus.sum() - minus * (shrink / jnp.maximum(minus.sum(), tiny)),  # (53)
        mu_eff=mu_eff,
        c_sigma=c_sigma,
        d_sigma=1.0 + 2.0 * jnp.maximum(0.0, jnp.sqrt((mu_eff - 1.0) / (n + 1.0)) - 1.0) + c_sigma,
        c_c=(4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n),  # (56)
        c_1=c_1,
        c_mu=c_mu,
    )


def gaussian(mean: jax.Array, sigma: jax.Array, diagonal: bool) -> Gaussian:
    """An isotropic start: ``mean`` float[d], ``sigma`` float[]."""
    one = jnp.ones_like(mean)
    eye = one if diagonal else jnp.eye(mean.shape[0], dtype=mean.dtype)
    zero = jnp.zeros_like(mean)
    count = jnp.zeros((), jnp.int32)
    return Gaussian(mean, jnp.asarray(sigma, mean.dtype), eye, eye, eye, zero, zero, one, count, count)


def factor(cov: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cholesky factor and its inverse, float[d, d] each; pivots are floored, so the result is always finite.

    Column by column in plain products: it vmaps without entering LAPACK, whose threads fight with XLA's.

    >>> A, inverse = factor(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
    >>> A.tolist(), (inverse @ A).tolist()
    ([[2.0, 0.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]])
    """
    n = cov.shape[0]
    rows = jnp.arange(n)
    eps, tiny = float(np.finfo(cov.dtype).eps), float(np.finfo(cov.dtype).tiny)

    def column(j: jax.Array, carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        lower, inverse = carry
        rest = cov[:, j] - jnp.matmul(lower, lower[j], precision=_HIGH)
        pivot = jnp.sqrt(jnp.maximum(rest[j], eps * jnp.abs(cov[j, j]) + tiny))
        lower = lower.at[:, j].set(jnp.where(rows > j, rest / pivot, jnp.where(rows == j, pivot, 0.0)))
        known = jnp.where(rows < j, lower[j], 0.0)
        unit = (rows == j).astype(cov.dtype)
        inverse = inverse.at[j].set((unit - jnp.matmul(known, inverse, precision=_HIGH)) / pivot)
        return lower, inverse

    zero = jnp.zeros_like(cov)
    return jax.lax.fori_loop(0, n, column, (zero, zero))


def variances(g: Gaussian) -> jax.Array:
    """``float[d]``, the diagonal of C."""
    return g.cov if g.cov.ndim == 1 else jnp.diagonal(g.cov)


def deviations(g: Gaussian) -> jax.Array:
    """``float[d]``, standard deviation of each coordinate."""
    return g.sigma * g.scale * jnp.sqrt(variances(g))


def _apply(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    """``matrix`` times each row of ``float[n, d]``; a vector is a diagonal."""
    return rows * matrix[None, :] if matrix.ndim == 1 else jnp.matmul(rows, matrix.T, precision=_HIGH)


def sample(g: Gaussian, key: jax.Array, n: int) -> jax.Array:
    """``float[n, d]`` draws (eqs. 38-40), not yet bounded."""
    z = jax.random.normal(key, (n, g.mean.shape[0]), g.mean.dtype)
    return g.mean[None, :] + (g.sigma * g.scale)[None, :] * _apply(g.root, z)


def sample_inside(g: Gaussian, key: jax.Array, n: int, rounds: jax.Array) -> jax.Array:
    """``float[n, d]`` draws; rows with a coordinate outside [0, 1] are drawn again, at most ``rounds`` times.

    What is still outside then is returned as it is: in many dimensions that may be nearly every row.
    """

    def outside(x: jax.Array) -> jax.Array:
        return ((x < 0.0) | (x > 1.0)).any(axis=1)

    def again(carry: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        x, i = carry
        fresh = sample(g, jax.random.fold_in(key, i), n)
        return jnp.where(outside(x)[:, None], fresh, x), i + 1

    def needed(carry: tuple[jax.Array, jax.Array]) -> jax.Array:
        return outside(carry[0]).any() & (carry[1] <= rounds)

    return jax.lax.while_loop(needed, again, (sample(g, key, n), jnp.ones((), jnp.int32)))[0]


def reflected(x: jax.Array) -> jax.Array:
    """Any real coordinate folded into [0, 1] by mirrors at both ends, in closed form.

    >>> reflected(jnp.array([-0.25, 0.5, 1.25, 7.5])).tolist()
    [0.25, 0.5, 0.75, 0.5]
    """
    t = jnp.mod(x, 2.0)
    return jnp.minimum(t, 2.0 - t)


def update(g: Gaussian, r: Rates, x: jax.Array, order: jax.Array, valid: jax.Array, adapted: np.ndarray) -> Gaussian:
    """The distribution after one generation.

    Args:
      g: the distribution ``x`` was drawn from.
      r: its rates; ``weights`` has one entry a row of ``x``.
      x: float[m, d], the points to learn from: draws of `sample`, or where they were moved to.
      order: int32[m], rows from best to worst.
      valid: bool[m], False for failed members: they neither attract nor repel.
      adapted: bool[d], static: coordinates the Gaussian describes; the others stay as they are.

    Without a single valid member nothing changes.
    """
    dtype = g.mean.dtype
    n = float(max(int(adapted.sum()), 1))
    on = jnp.asarray(adapted)
    y = jnp.where(on[None, :], (x - g.mean[None, :]) / (g.sigma * g.scale)[None, :], 0.0)
    weights = jnp.zeros_like(r.weights).at[order].set(r.weights)
    weights = jnp.where(valid, weights, 0.0)
    y = jnp.where((weights != 0)[:, None], y, 0.0)
    plus = jnp.maximum(weights, 0.0)
    mass = plus.sum()
    plus = plus / jnp.where(mass > 0, mass, 1.0)
    step = jnp.matmul(plus, y, precision=_HIGH)  # (41)
    mean = g.mean + g.sigma * g.scale * step  # (42)

    z = _apply(g.inverse, y)
    whitened = _apply(g.inverse, step[None, :])[0]
    keep = jnp.sqrt(r.c_sigma * (2.0 - r.c_sigma) * r.mu_eff)
    path_sigma = (1.0 - r.c_sigma) * g.path_sigma + keep * whitened  # (43)
    length = jnp.sqrt((path_sigma**2).sum())
    expected = math.sqrt(n) * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n))
    sigma = g.sigma * jnp.exp(jnp.minimum(1.0, r.c_sigma / r.d_sigma * (length / expected - 1.0)))  # (44)

    age = (g.generation + 1).astype(dtype)
    start = jnp.sqrt(1.0 - (1.0 - r.c_sigma) ** (2.0 * age))
    moving = (length / start < (1.4 + 2.0 / (n + 1.0)) * expected).astype(dtype)  # h_sigma
    path_c = (1.0 - r.c_c) * g.path_c + moving * jnp.sqrt(r.c_c * (2.0 - r.c_c) * r.mu_eff) * step  # (45)
    norm = jnp.maximum((z**2).sum(axis=1), float(np.finfo(dtype).tiny))
    signed = jnp.where(weights < 0, weights * n / norm, plus)  # (46)
    total = plus.sum() + jnp.minimum(weights, 0.0).sum()
    decay = 1.0 + r.c_1 * (1.0 - moving) * r.c_c * (2.0 - r.c_c) - r.c_1 - r.c_mu * total
    if g.cov.ndim == 1:
        cov = decay * g.cov + r.c_1 * path_c**2 + r.c_mu * jnp.matmul(signed, y**2, precision=_HIGH)
        cov = jnp.where(on, jnp.maximum(cov, float(np.finfo(dtype).tiny)), 1.0)
    else:
        outer = jnp.matmul(y.T, signed[:, None] * y, precision=_HIGH)
        cov = decay * g.cov + r.c_1 * path_c[:, None] * path_c[None, :] + r.c_mu * outer  # (47)
        cov = jnp.where(on[:, None] & on[None, :], 0.5 * (cov + cov.T), jnp.eye(len(adapted), dtype=dtype))
    stale = g.stale + 1
    due = stale.astype(dtype) * (10.0 * n * (r.c_1 + r.c_mu)) >= 1.0
    root, inverse = jax.lax.cond(due, _factors, lambda _: (g.root, g.inverse), cov)
    new = Gaussian(
        mean, sigma, cov, root, inverse, path_sigma, path_c, g.scale, g.generation + 1, jnp.where(due, 0, stale)
    )
    return jax.tree.map(lambda a, b: jnp.where(mass > 0, a, b), new, g)


def _factors(cov: jax.Array) -> tuple[jax.Array, jax.Array]:
    if cov.ndim == 1:
        root = jnp.sqrt(cov)
        return root, 1.0 / root
    return factor(cov)


def margin(g: Gaussian, low: jax.Array, high: jax.Array, discrete: np.ndarray, alpha: jax.Array) -> Gaussian:
    """Keep every discrete coordinate able to leave its cell (Hamano et al. 2022, "CMA-ES with margin").

    Args:
      g: the distribution.
      low, high: float[d], edges of the cell that holds the mean; -inf or inf where there is no neighbour.
      discrete: bool[d], static: the coordinates concerned.
      alpha: float[], least probability of leaving, 1 / (d l) in the paper.

    In an outer cell the mean moves towards the edge; in an inner one mean and deviation are set so that each
    neighbour has at least alpha / 2.
    """
    least = alpha / 2.0
    deviation = deviations(g)
    reach = deviation * ndtri(1.0 - alpha)
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
    u, v = ndtri(1.0 - p), ndtri(1.0 - q)  # (mean - a) / deviation and (b - mean) / deviation
    wanted = (b - a) / (u + v)
    on = jnp.asarray(discrete)
    fix = short & on
    return g._replace(
        mean=jnp.where(on, jnp.where(fix, a + u * wanted, mean), g.mean),
        scale=jnp.where(fix, g.scale * wanted / deviation, g.scale),
    )


def spread_categories(
    table: jax.Array, chosen: jax.Array, weights: jax.Array, rate: jax.Array, least: jax.Array
) -> jax.Array:
    """Category probabilities after one generation, each kept above ``least`` (Hamano et al. 2024, CatCMA, eqs. 9, 18).

    Args:
      table: float[d, k], rows that sum to 1; zeros stand for categories that do not exist.
      chosen: int32[m, d], categories that were evaluated.
      weights: float[m], >= 0, summing to 1 (or all 0: nothing is learned).
      rate: float[], learning rate. least: float[], smaller than 1 / k.
    """
    exists = table > 0
    onehot = jax.nn.one_hot(chosen, table.shape[1], dtype=table.dtype)
    target = jnp.einsum("m,mdk->dk", weights, onehot, precision=_HIGH)
    moved = table + rate * (target - weights.sum() * table)
    count = exists.sum(axis=1, keepdims=True).astype(table.dtype)
    floor = jnp.minimum(least, 0.5 / count)
    raised = jnp.where(exists, jnp.maximum(moved, floor), 0.0)
    above = raised - jnp.where(exists, floor, 0.0)
    room = (1.0 - floor * count) / jnp.maximum(above.sum(axis=1, keepdims=True), float(np.finfo(table.dtype).tiny))
    return jnp.where(exists, floor + above * room, 0.0)
