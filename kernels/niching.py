"""Reference directions, and members of a population assigned to them, for many objectives (NSGA-III).

Notation:
    n  points     m  objectives, all to be minimised     h  directions, rows >= 0 that sum to 1
"""

from __future__ import annotations

from math import comb

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels.order import first_least, inverse, lexsort
from jhpo.kernels.shapes import Array, Bool, Float, Int

# The scale of the inner layer of directions, where the outer one has points on the boundary only.
_INNER = 0.5
# What the achievement function of an extreme point multiplies the other objectives by.
_STEEP = 1e6


def simplex_lattice(m: int, partitions: int) -> np.ndarray:
    """``float64[h, m]``: all rows of multiples of 1 / partitions that sum to 1 (Das and Dennis 1998).

    >>> simplex_lattice(2, 2).tolist()
    [[0.0, 1.0], [0.5, 0.5], [1.0, 0.0]]
    """
    rows = np.zeros((1, 0), np.int64)
    for _ in range(m - 1):
        left = partitions - rows.sum(axis=1)
        rows = np.concatenate([
            np.column_stack([np.repeat(row[None], most + 1, axis=0), np.arange(most + 1)])
            for row, most in zip(rows, left)
        ])  # fmt: skip
    return np.column_stack([rows, partitions - rows.sum(axis=1)]) / partitions


def directions(m: int, most: int) -> np.ndarray:
    """``float64[h, m]``: evenly spread directions, as many as a lattice has with h <= most, but at least m.

    A lattice of fewer partitions than objectives has no point inside. It then gets a second layer, half as far from the
    centre (Deb and Jain 2014, sec. V).

    >>> len(directions(3, 92)), len(directions(8, 156)), len(directions(1, 10))
    (91, 156, 1)
    """
    if m == 1:
        return np.ones((1, 1))

    def partitions(room: int) -> int:
        p = 1
        while comb(p + m, m - 1) <= room:
            p += 1
        return p

    outer = partitions(most)
    lattice = simplex_lattice(m, outer)
    if outer >= m or most - m < comb(outer + m - 1, m - 1):
        return lattice
    inner = simplex_lattice(m, partitions(most - len(lattice)))
    return np.concatenate([lattice, _INNER * inner + (1.0 - _INNER) / m])


def extremes(
    values: Float[Array, "n m"], there: Bool[Array, "n"], before: Float[Array, "k m"], ideal: Float[Array, "m"]
) -> Float[Array, "k m"]:
    """For each objective the point that is best in all others: ``float[m, m]`` (Deb and Jain 2014, eq. 4).

    Args:
      values: points. there: those that count. before: extreme points known before, inf if there are none. ideal: the
        lowest value of every objective.
    """
    points = jnp.concatenate([before, jnp.where(there[:, None], values, jnp.inf)])
    gap = points - ideal[None, :]
    steep = jnp.asarray(1.0 + (_STEEP - 1.0) * (1.0 - np.eye(values.shape[1])), values.dtype)
    worst = jnp.max(gap[None, :, :] * steep[:, None, :], axis=2)
    return points[jnp.argmin(jnp.where(jnp.isnan(worst), jnp.inf, worst), axis=1)]


def assigned(values: Float[Array, "n m"], lines: Float[Array, "h m"]) -> tuple[Int[Array, "n"], Float[Array, "n"]]:
    """The direction whose line through the origin is nearest to each point, int32[n], and its distance, float[n].

    >>> niche, distance = assigned(jnp.array([[2.0, 0.1]]), jnp.eye(2))
    >>> int(niche[0]), round(float(distance[0]), 3)
    (0, 0.1)
    """
    unit = lines / jnp.sqrt(jnp.sum(lines * lines, axis=1, keepdims=True))
    along = values @ unit.T
    squares = jnp.maximum(jnp.sum(values * values, axis=1, keepdims=True) - along * along, 0.0)
    return first_least(squares), jnp.sqrt(jnp.min(squares, axis=1))


def levels(
    niche: Int[Array, "n"], distance: Float[Array, "n"], taken: Bool[Array, "n"], wanted: Bool[Array, "n"], count: int
) -> Int[Array, "n"]:
    """How full its niche is when a point would be chosen: ``int32[n]``, 0 where nothing was chosen there yet.

    To choose points in the order of their levels is to fill, again and again, one of the emptiest niches with its
    nearest point (Deb and Jain 2014, algorithm 4), without a loop.

    Args:
      niche, distance: from `assigned`. taken: points that are chosen already. wanted: those to choose from; others
        have no meaning. count: number of niches.

    >>> niche, near, wanted = jnp.array([0, 0, 1, 1]), jnp.array([0.0, 0.1, 0.3, 0.2]), jnp.arange(4) > 0
    >>> levels(niche, near, ~wanted, wanted, 2).tolist()[1:]
    [1, 1, 0]
    """
    n = niche.shape[0]
    full = jax.ops.segment_sum(taken.astype(jnp.int32), niche, count)
    group = jnp.where(wanted, niche, count)
    order = lexsort((distance, group))
    ordered, row = group[order], jnp.arange(n, dtype=jnp.int32)
    first = jnp.concatenate([jnp.ones((1,), bool), ordered[1:] != ordered[:-1]])
    place = row - jax.lax.cummax(jnp.where(first, row, 0))
    return full[niche] + place[inverse(order)]
