"""CMA-ES as array functions: learning rates, and a Gaussian with its adaptation.

Notation (Hansen 2016, "The CMA evolution strategy: a tutorial", arXiv:1604.00772; equation numbers from there):
    d  coordinates     l  members of a generation (lambda)     m  mean     s  step size (sigma)     C  covariance
    A  its Cholesky factor     z ~ N(0, I)     y = A z     x = m + s * scale * y, scale from the margin (else 1)

The inverse of the Cholesky factor takes the place of C^{-1/2} (Krause, Arbones & Igel 2016): it gives the same norms
without an eigendecomposition.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import counter_random, threefry
from jhpo.kernels.libraries import by_library, finite_factor
from jhpo.kernels.loops import apart

_HIGH = jax.lax.Precision.HIGHEST
# The share of draws inside the cube is judged from this number of draws on.
_ENOUGH_DRAWS = 64


class Rates(NamedTuple):
    """Weights and learning rates for one size of a generation (scalars), or for several (rows of a table)."""

    middle: jax.Array  # float[], logarithm of the rank whose weight is 0
    attract: jax.Array  # float[], factor of the positive weights, which sum to 1
    repel: jax.Array  # float[], factor of the negative ones
    mu_eff: jax.Array  # float[], variance-effective selection mass
    c_sigma: jax.Array  # float[]
    d_sigma: jax.Array  # float[]
    c_c: jax.Array  # float[]
    c_1: jax.Array  # float[]
    c_mu: jax.Array  # float[]


class Sums(NamedTuple):
    """Weighted sums over a generation or a part of it; the sums of parts add up to those of the generation."""

    step: jax.Array  # float[d], weighted steps, positive weights only
    outer: jax.Array  # float[d, d] or float[d], weighted outer products, negative weights rescaled
    minus: jax.Array  # float[], sum of the negative weights


class Gaussian(NamedTuple):
    """The search distribution and its evolution paths. If it is diagonal, cov, root and inverse are vectors."""

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


def rates(sizes: np.ndarray, dim: int, diagonal: bool, dtype: np.dtype) -> Rates:
    """Weights and learning rates (Table 1, eqs. 49-58) for generations of several sizes: a table.

    Args:
      sizes: int[k], members of a generation, at least 2.
      dim: number of adapted coordinates.
      diagonal: use faster rates, as there are fewer entries to learn (Ros & Hansen 2008).
      dtype: of the result.

    >>> r = rates(np.array([10]), 10, False, np.dtype("float32"))
    >>> round(float(r.mu_eff[0]), 2), round(float(weight(r, jnp.arange(1.0, 6.0)).sum()), 5)
    (3.17, 1.0)
    """
    rows = [_rates(int(size), float(max(dim, 1)), diagonal) for size in sizes]
    return Rates(*(jnp.asarray(np.array(column), dtype) for column in zip(*rows)))


def _rates(size: int, n: float, diagonal: bool) -> tuple[float, ...]:
    middle = math.log((size + 1) / 2)
    raw = middle - np.log(np.arange(1, size + 1))  # (49)
    plus, minus = np.maximum(raw, 0.0), np.maximum(-raw, 0.0)
    mu_eff = plus.sum() ** 2 / (plus**2).sum()
    mu_minus = minus.sum() ** 2 / (minus**2).sum()
    c_1 = 2.0 / ((n + 1.3) ** 2 + mu_eff)  # (57)
    c_mu = 2.0 * (0.25 + mu_eff + 1.0 / mu_eff - 2.0) / ((n + 2.0) ** 2 + mu_eff)  # (58)
    faster = (n + 2.0) / 3.0 if diagonal else 1.0
    c_1 = min(c_1 * faster, 0.5)
    c_mu = min(c_mu * faster, 1.0 - c_1)
    shrink = min(1.0 + c_1 / c_mu, 1.0 + 2.0 * mu_minus / (mu_eff + 2.0), (1.0 - c_1 - c_mu) / (n * c_mu))  # (50)-(52)
    c_sigma = (mu_eff + 2.0) / (n + mu_eff + 5.0)  # (55)
    d_sigma = 1.0 + 2.0 * max(0.0, math.sqrt((mu_eff - 1.0) / (n + 1.0)) - 1.0) + c_sigma
    c_c = (4.0 + mu_eff / n) / (n + 4.0 + 2.0 * mu_eff / n)  # (56)
    return middle, 1.0 / plus.sum(), shrink / minus.sum(), mu_eff, c_sigma, d_sigma, c_c, c_1, c_mu


def postpones(sizes: np.ndarray, dim: int, diagonal: bool) -> bool:
    """Whether C changes so little in a generation of any of these sizes that its factors are kept for the next ones."""
    n = float(max(dim, 1))
    return any(10.0 * n * sum(_rates(int(size), n, diagonal)[-2:]) < 1.0 for size in sizes)


def weight(r: Rates, rank: jax.Array) -> jax.Array:
    """``float[...]`` recombination weights (53) of ranks ``float[...]``, 1 for the best."""
    raw = r.middle - jnp.log(rank)
    return raw * jnp.where(raw > 0, r.attract, r.repel)


def gaussian(mean: jax.Array, sigma: jax.Array, diagonal: bool) -> Gaussian:
    """An isotropic `Gaussian` with ``mean`` float[d] and step size ``sigma`` float[]."""
    one = jnp.ones_like(mean)
    eye = one if diagonal else jnp.eye(mean.shape[0], dtype=mean.dtype)
    zero = jnp.zeros_like(mean)
    count = jnp.zeros((), jnp.int32)
    return Gaussian(mean, jnp.asarray(sigma, mean.dtype), eye, eye, eye, zero, zero, one, count, count)


@by_library(finite_factor)
def factor(cov: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cholesky factor and its inverse, float[d, d] each; pivots are floored, so the result is always finite.

    By elimination of [C, I], elementwise: under vmap no LAPACK is called, whose threads compete with XLA's.

    >>> A, inverse = factor(jnp.array([[4.0, 2.0], [2.0, 5.0]]))
    >>> A.tolist(), (inverse @ A).tolist()
    ([[2.0, 0.0], [1.0, 2.0]], [[1.0, 0.0], [0.0, 1.0]])
    """
    n = cov.shape[0]
    rows = jnp.arange(n, dtype=jnp.int32)[:, None]
    eps, tiny = float(np.finfo(cov.dtype).eps), float(np.finfo(cov.dtype).tiny)
    least = (eps * jnp.abs(jnp.diagonal(cov)) + tiny)[None, :]

    def column(j: jax.Array, both: jax.Array) -> jax.Array:
        row = jax.lax.dynamic_slice_in_dim(both, j, 1, axis=0)
        pivot, floor = (jax.lax.dynamic_slice_in_dim(a, j, 1, axis=1) for a in (row, least))
        root, here = jnp.sqrt(jnp.maximum(pivot, floor)), (rows == j).astype(cov.dtype)
        share = jnp.where(rows > j, -jax.lax.dynamic_slice_in_dim(both, j, 1, axis=1) / root, here)
        return (1.0 - here) * both + share * (row / root)

    both = jax.lax.fori_loop(0, n, column, jnp.concatenate([cov, jnp.eye(n, dtype=cov.dtype)], axis=1))
    inverse = jnp.tril(both[:, n:])
    # a floored pivot stands on the inverse's diagonal alone
    return jnp.where(rows == rows.T, 1.0 / jnp.diagonal(inverse), jnp.tril(both[:, :n].T)), inverse


def variances(g: Gaussian) -> jax.Array:
    """``float[d]``, the diagonal of C."""
    return g.cov if g.cov.ndim == 1 else jnp.diagonal(g.cov)


def deviations(g: Gaussian) -> jax.Array:
    """``float[d]``, standard deviation of each coordinate."""
    return g.sigma * g.scale * jnp.sqrt(variances(g))


def _apply(matrix: jax.Array, rows: jax.Array) -> jax.Array:
    """``matrix`` times each row of ``float[n, d]``; a vector is a diagonal."""
    return rows * matrix[None, :] if matrix.ndim == 1 else jnp.matmul(rows, matrix.T, precision=_HIGH)


@apart
def _normals(kind: tuple[int, jnp.dtype], seed: jax.Array) -> jax.Array:
    """Standard normal numbers, so many of a dtype: in one row, which takes half the time of many short ones."""
    count, dtype = kind
    return counter_random.normal(seed, (count,), dtype)


def sample(g: Gaussian, key: jax.Array, n: int) -> jax.Array:
    """``float[n, d]`` draws (eqs. 38-40), not yet bounded."""
    d, dtype = g.mean.shape[0], g.mean.dtype
    z = _normals((n * d, dtype), counter_random.seeds(key, 1)[0]).reshape(n, d)
    return g.mean[None, :] + (g.sigma * g.scale)[None, :] * _apply(g.root, z)


class _Drawing(NamedTuple):
    """Carry of the loop of `sample_inside`."""

    x: jax.Array  # float[n, d]
    lost: jax.Array  # bool[n], rows that are outside
    found: jax.Array  # int32[], draws that were inside
    turn: jax.Array  # int32[], rounds so far


def sample_inside(g: Gaussian, key: jax.Array, n: int, rounds: jax.Array) -> jax.Array:
    """``float[n, d]`` draws; rows outside [0, 1] are redrawn, in at most ``rounds`` rounds of n draws.

    If so few draws are inside that the rounds cannot suffice, as in many dimensions, redrawing stops early. Rows that
    are still outside are returned as they are.
    """
    rows = jnp.arange(n, dtype=jnp.int32)

    def outside(x: jax.Array) -> jax.Array:
        return ((x < 0.0) | (x > 1.0)).any(axis=1)

    def again(c: _Drawing) -> _Drawing:
        fresh = sample(g, threefry.fold_in(key, c.turn), n)
        # the k-th fresh row that is inside replaces the k-th row that is outside
        good = ~outside(fresh)
        nth = jnp.cumsum(good, dtype=jnp.int32) - 1
        source = jnp.zeros((n,), jnp.int32).at[jnp.where(good, nth, n)].set(rows, mode="drop")
        place = jnp.cumsum(c.lost, dtype=jnp.int32) - 1
        filled = c.lost & (place <= nth[-1])
        x = jnp.where(filled[:, None], fresh[source[place]], c.x)
        return _Drawing(x, c.lost & ~filled, c.found + nth[-1] + 1, c.turn + 1)

    def needed(c: _Drawing) -> jax.Array:
        drawn = n * c.turn
        hopeless = (drawn >= _ENOUGH_DRAWS) & (rounds * c.found < drawn)
        return c.lost.any() & (c.turn <= rounds) & ~hopeless

    first = sample(g, key, n)
    lost = outside(first)
    begin = _Drawing(first, lost, n - lost.sum(dtype=jnp.int32), jnp.ones((), jnp.int32))
    return jax.lax.while_loop(needed, again, begin).x


def reflected(x: jax.Array) -> jax.Array:
    """Coordinates reflected into [0, 1] at both ends, elementwise and in closed form.

    >>> reflected(jnp.array([-0.25, 0.5, 1.25, 7.5])).tolist()
    [0.25, 0.5, 0.75, 0.5]
    """
    t = jnp.mod(x, 2.0)
    return jnp.minimum(t, 2.0 - t)


def sums(g: Gaussian, x: jax.Array, weights: jax.Array, adapted: np.ndarray) -> Sums:
    """The `Sums` of members.

    Args:
      g: the distribution ``x`` was drawn from.
      x: float[m, d], the points to learn from: draws of `sample`, possibly moved to the bounds.
      weights: float[m], 0 for members to ignore.
      adapted: bool[d], static: coordinates that the Gaussian adapts; the others do not change.
    """
    n = float(max(int(adapted.sum()), 1))
    y = jnp.where(jnp.asarray(adapted)[None, :], (x - g.mean[None, :]) / (g.sigma * g.scale)[None, :], 0.0)
    y = jnp.where((weights != 0)[:, None], y, 0.0)
    plus, minus = jnp.maximum(weights, 0.0), jnp.minimum(weights, 0.0)
    norm = (_apply(g.inverse, y) ** 2).sum(axis=1)
    # a member at the mean says nothing
    signed = jnp.where(weights < 0, weights * n / jnp.where(norm > 0, norm, jnp.inf), plus)  # (46)
    if g.cov.ndim == 1:
        outer = jnp.matmul(signed, y**2, precision=_HIGH)
    else:
        outer = jnp.matmul(y.T, signed[:, None] * y, precision=_HIGH)
    return Sums(jnp.matmul(plus, y, precision=_HIGH), outer, minus.sum())  # (41)


def update(g: Gaussian, r: Rates, said: Sums, adapted: np.ndarray, postponed: bool = True) -> Gaussian:
    """The distribution after one generation.

    Args:
      g: the distribution before.
      r: rates for the generation's size.
      said: the sums of the generation; its positive weights sum to 1.
      adapted: bool[d], static: coordinates that the Gaussian adapts.
      postponed: whether the rates may put a factorisation off (`postpones`).
    """
    dtype = g.mean.dtype
    n = float(max(int(adapted.sum()), 1))
    on = jnp.asarray(adapted)
    mean = g.mean + g.sigma * g.scale * said.step  # (42)

    whitened = _apply(g.inverse, said.step[None, :])[0]
    keep = jnp.sqrt(r.c_sigma * (2.0 - r.c_sigma) * r.mu_eff)
    path_sigma = (1.0 - r.c_sigma) * g.path_sigma + keep * whitened  # (43)
    length = jnp.sqrt((path_sigma**2).sum())
    expected = math.sqrt(n) * (1.0 - 1.0 / (4.0 * n) + 1.0 / (21.0 * n * n))
    sigma = g.sigma * jnp.exp(jnp.minimum(1.0, r.c_sigma / r.d_sigma * (length / expected - 1.0)))  # (44)

    age = (g.generation + 1).astype(dtype)
    start = jnp.sqrt(1.0 - (1.0 - r.c_sigma) ** (2.0 * age))
    moving = (length / start < (1.4 + 2.0 / (n + 1.0)) * expected).astype(dtype)  # h_sigma
    path_c = (1.0 - r.c_c) * g.path_c + moving * jnp.sqrt(r.c_c * (2.0 - r.c_c) * r.mu_eff) * said.step  # (45)
    decay = 1.0 + r.c_1 * (1.0 - moving) * r.c_c * (2.0 - r.c_c) - r.c_1 - r.c_mu * (1.0 + said.minus)
    if g.cov.ndim == 1:
        cov = decay * g.cov + r.c_1 * path_c**2 + r.c_mu * said.outer
        cov = jnp.where(on, jnp.maximum(cov, float(np.finfo(dtype).tiny)), 1.0)
    else:
        cov = decay * g.cov + r.c_1 * path_c[:, None] * path_c[None, :] + r.c_mu * said.outer  # (47)
        cov = jnp.where(on[:, None] & on[None, :], 0.5 * (cov + cov.T), jnp.eye(len(adapted), dtype=dtype))
    stale = g.stale + 1
    if postponed:
        due = stale.astype(dtype) * (10.0 * n * (r.c_1 + r.c_mu)) >= 1.0
        root, inverse = jax.lax.cond(due, _factors, lambda _: (g.root, g.inverse), cov)
        stale = jnp.where(due, 0, stale)
    else:
        (root, inverse), stale = _factors(cov), jnp.zeros_like(stale)
    return Gaussian(mean, sigma, cov, root, inverse, path_sigma, path_c, g.scale, g.generation + 1, stale)


def _factors(cov: jax.Array) -> tuple[jax.Array, jax.Array]:
    if cov.ndim == 1:
        root = jnp.sqrt(cov)
        return root, 1.0 / root
    return factor(cov)
