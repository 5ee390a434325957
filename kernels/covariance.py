"""Covariance functions on mixed and conditional spaces, written for one pair of points.

Notation: x, z float[d] points of the unit cube (discrete coordinates at their cell centres, inactive ones at their
default); r2 the squared distance after scaling; a profile maps r2 to a correlation in (0, 1].

The squared distance is a sum of one term per coordinate, (x_j - z_j)^2 if the coordinate is ordered and [x_j != z_j]
(Hamming) for an unordered choice, and a last term that counts the coordinates active in only one of the points. Each is
the squared distance of an embedding (x_j itself; a one-hot code over sqrt(2); the activity as 0 or 1), so every profile
that is positive definite on Euclidean space is so here.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.cells import distinct
from jhpo.kernels.numerics import safe_sqrt

Profile = Callable[[jax.Array], jax.Array]
# bool[d], True where the coordinate is an unordered choice; None if there is none
Categorical = np.ndarray | jax.Array | None
# From this number of points on, distances are summed one coordinate at a time.
_MANY = 16


class Points(NamedTuple):
    """Points as the kernel sees them; all fields share their leading dimensions."""

    x: jax.Array  # float[..., d], snapped and canonical
    active: jax.Array | None = None  # bool[..., d], None where the space has no conditions


def matern12(r2: jax.Array) -> jax.Array:
    """exp(-r): continuous, nowhere differentiable paths."""
    return jnp.exp(-safe_sqrt(r2))


@jax.custom_jvp
def matern32(r2: jax.Array) -> jax.Array:
    """(1 + sqrt(3) r) exp(-sqrt(3) r): once differentiable paths (Rasmussen and Williams 2006, eq. 4.17)."""
    a = safe_sqrt(3.0 * r2)
    return (1.0 + a) * jnp.exp(-a)


@matern32.defjvp
def _matern32_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    a = safe_sqrt(3.0 * primals[0])
    decay = jnp.exp(-a)
    return (1.0 + a) * decay, -1.5 * decay * tangents[0]


@jax.custom_jvp
def matern52(r2: jax.Array) -> jax.Array:
    """(1 + a + a^2/3) exp(-a), a = sqrt(5) r: twice differentiable paths (Rasmussen and Williams 2006, eq. 4.17).

    >>> float(matern52(jnp.float32(0.0)))
    1.0
    """
    a = safe_sqrt(5.0 * r2)
    return (1.0 + a + a * a * (1.0 / 3.0)) * jnp.exp(-a)


@matern52.defjvp
def _matern52_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    # with respect to r2, so there is no singularity at coincident points
    a = safe_sqrt(5.0 * primals[0])
    decay = jnp.exp(-a)
    return (1.0 + a + a * a * (1.0 / 3.0)) * decay, (-5.0 / 6.0) * (1.0 + a) * decay * tangents[0]


def rbf(r2: jax.Array) -> jax.Array:
    """exp(-r^2 / 2): infinitely differentiable paths."""
    return jnp.exp(-0.5 * r2)


def _matern52_jet(r2: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    a = safe_sqrt(5.0 * r2)
    decay = jnp.exp(-a)
    return matern52(r2), (-5.0 / 6.0) * (1.0 + a) * decay, (25.0 / 12.0) * decay


def _rbf_jet(r2: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    c = rbf(r2)
    return c, -0.5 * c, 0.25 * c


PROFILES: dict[str, Profile] = {"matern12": matern12, "matern32": matern32, "matern52": matern52, "rbf": rbf}
# functions that return c, c' and c'' at r2, for the profiles whose paths are continuously differentiable
JETS: dict[Profile, Callable[[jax.Array], tuple[jax.Array, jax.Array, jax.Array]]] = {
    matern52: _matern52_jet,
    rbf: _rbf_jet,
}


def some(categorical: Categorical) -> bool:
    """Whether there may be unordered choices; a traced array counts as yes."""
    return bool(categorical.any()) if isinstance(categorical, np.ndarray) else categorical is not None


def pair_terms(x: Points, z: Points, categorical: Categorical) -> jax.Array:
    """Unscaled terms of the squared distance of one pair: one per coordinate, and a last one for activity.

    Args:
        x, z: single points, ``x.x`` float[d].
        categorical: which coordinates are unordered choices.

    Returns:
        float[d + 1]. The last term is the number of coordinates active in only one of the two, else 0.
    """
    difference = x.x - z.x
    terms = difference * difference
    if some(categorical):
        terms = jnp.where(jnp.asarray(categorical), distinct(difference).astype(difference.dtype), terms)
    if x.active is None or z.active is None:
        gap = jnp.zeros((1,), terms.dtype)
    else:
        gap = jnp.sum(x.active != z.active, dtype=terms.dtype, keepdims=True)
    return jnp.concatenate([terms, gap])


def squared_distance(x: Points, z: Points, weights: jax.Array, categorical: Categorical) -> jax.Array:
    """Scaled squared distance of one pair: ``pair_terms . weights``, ``weights`` float[d + 1] (1 / lengthscale^2)."""
    difference = x.x - z.x
    own = weights[:-1]
    terms = own * difference * difference
    if some(categorical):
        terms = jnp.where(jnp.asarray(categorical), jnp.where(distinct(difference), own, 0.0), terms)
    r2 = jnp.sum(terms)
    if x.active is None or z.active is None:
        return r2
    return r2 + weights[-1] * jnp.sum(x.active != z.active, dtype=r2.dtype)


def all_terms(points: Points, categorical: Categorical) -> jax.Array:
    """`pair_terms` of every pair among n points: float[d + 1, n, n], computed once and reused by every step of a fit.

    The pairs are the last axes because a step multiplies the terms by a row of weights, which is fast in this layout.
    """
    row = jax.vmap(lambda x, z: pair_terms(x, z, categorical), in_axes=(None, 0), out_axes=1)
    return jax.vmap(row, in_axes=(0, None), out_axes=1)(points, points)


def distances(terms: jax.Array, weights: jax.Array) -> jax.Array:
    """Squared distances float[n, n] of `all_terms`."""
    return (weights @ terms.reshape(terms.shape[0], -1)).reshape(terms.shape[1:])


def cross_distances(x: Points, z: Points, weights: jax.Array, categorical: Categorical) -> jax.Array:
    """`squared_distance` of every pair among n and m points: float[n, m]."""
    x, z, weights = jax.tree.map(jnp.asarray, (x, z, weights))
    by_pairs = functools.partial(_by_pairs, categorical)
    if x.x.shape[0] < _MANY:
        return by_pairs(x, z, weights)
    by_columns = functools.partial(_by_columns, categorical)
    # on a CPU, one coordinate at a time for all pairs is ten times faster than a sum over the coordinates of each pair,
    # which is a single kernel elsewhere
    return jax.lax.platform_dependent(x, z, weights, cpu=by_columns, default=by_pairs)


def _by_pairs(categorical: Categorical, x: Points, z: Points, weights: jax.Array) -> jax.Array:
    row = jax.vmap(lambda a, b: squared_distance(a, b, weights, categorical), in_axes=(None, 0))
    return jax.vmap(row, in_axes=(0, None))(x, z)


def _by_columns(categorical: Categorical, x: Points, z: Points, weights: jax.Array) -> jax.Array:
    choice = jnp.asarray(categorical) if some(categorical) else None

    def one(j: jax.Array, r2: jax.Array) -> jax.Array:
        difference = x.x[:, j][:, None] - z.x[:, j][None, :]
        own = difference * difference
        if choice is not None:
            own = jnp.where(choice[j], distinct(difference).astype(own.dtype), own)
        r2 = r2 + weights[j] * own
        if x.active is None or z.active is None:
            return r2
        return r2 + jnp.where(x.active[:, j][:, None] != z.active[:, j][None, :], weights[-1], 0.0)

    empty = jnp.zeros((x.x.shape[0], z.x.shape[0]), jnp.result_type(x.x, weights))
    return jax.lax.fori_loop(0, x.x.shape[1], one, empty)


def cross(x: Points, z: Points, weights: jax.Array, categorical: Categorical, profile: Profile = matern52) -> jax.Array:
    """Correlations float[n, m] between n and m points.

    >>> p = Points(jnp.array([[0.0], [1.0]], jnp.float32))
    >>> k = cross(p, p, jnp.ones(2, jnp.float32), np.array([False]), rbf)
    >>> [[round(float(v), 3) for v in row] for row in k]
    [[1.0, 0.607], [0.607, 1.0]]
    """
    return profile(cross_distances(x, z, weights, categorical))


def slope_row(
    query: Points, points: Points, index: jax.Array, r2: jax.Array, weights: jax.Array, profile: Profile
) -> jax.Array:
    """Correlations float[N + S d] of the value at one point with N values and S scaled gradients (see `gp_slopes`).

    Args:
        points: N rows. index: int32[S], those with a gradient. r2: float[N], squared distances to the query.
    """
    c, first, _ = JETS[profile](r2)
    t = (points.x[index] - query.x[None, :]) * jnp.sqrt(weights[:-1])[None, :]
    return jnp.concatenate([c, (2.0 * first[index][:, None] * t).reshape(-1)])
