"""How a population that trains exchanges its members: who takes over from whom, and which hyperparameters it tries."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jhpo.kernels import threefry
from jhpo.kernels.order import inverse
from jhpo.space.space import Space

SLACK = 1.000001  # keeps 0.1 * 30 = 2.9999998 at 3


def share_of(fraction: jax.Array | float, count: jax.Array) -> jax.Array:
    """How many a fraction ``float[]`` of ``int32[...]`` members are, rounded down.

    >>> share_of(0.1, jnp.array([30, 39, 40])).tolist()
    [3, 3, 4]
    """
    return jnp.floor(jnp.asarray(fraction, jnp.float32) * count.astype(jnp.float32) * SLACK).astype(jnp.int32)


def truncation(
    key: jax.Array, value: jax.Array, violation: jax.Array, there: jax.Array, fraction: jax.Array | float
) -> jax.Array:
    """Which row each row continues: the worst take over from the best (Jaderberg et al. 2017, truncation selection).

    The last ``fraction`` of the rows, at least one, and all that failed, continue a random row of as many best ones;
    the others continue themselves. Infeasible rows come after feasible ones.

    Args:
      key: ``key[]``.
      value: ``float[n]``, to be minimised; NaN or infinite where a row failed.
      violation: ``float[n]``, 0 where feasible.
      there: ``bool[n]``, False where there is no member; those come last.
      fraction: ``float[]``, in (0, 0.5].

    Returns:
      ``int32[n]``; -1 where there is no member, and everywhere if all have failed.

    >>> value, there = jnp.array([3.0, jnp.nan, 1.0, 2.0]), jnp.ones(4, bool)
    >>> truncation(jax.random.key(0), value, jnp.zeros(4), there, 0.25).tolist()
    [0, 2, 2, 3]
    """
    n = value.shape[0]
    rows = jnp.arange(n, dtype=jnp.int32)
    alive = there & jnp.isfinite(value)
    order = jnp.lexsort((jnp.where(alive, value, jnp.inf), violation, ~alive)).astype(jnp.int32)
    rank = inverse(order)
    count = there.sum(dtype=jnp.int32)
    share = jnp.minimum(jnp.maximum(share_of(fraction, count), 1), count // 2)
    best = jnp.maximum(jnp.minimum(share, alive.sum(dtype=jnp.int32)), 1)
    taken = order[jax.random.randint(key, (n,), jnp.int32(0), best)]
    parent = jnp.where(~alive | (rank >= count - share), taken, rows)
    return jnp.where(there & alive.any(), parent, -1)


def perturbed(
    space: Space, key: jax.Array, units: jax.Array, scale: jax.Array | float, resample: jax.Array | float
) -> jax.Array:
    """Points near others, ``float[n, d]``.

    Coordinates move by a normal step, in the scale of their parameter, and are reflected at the ends; those of numbers
    in cells move by one cell at least. Each is drawn anew with probability ``resample``, and so are those whose
    condition begins to hold; a category changes in no other way. Static coordinates stay, and a row stays as it is if
    it would be infeasible or another static group's.

    Args:
      space: of the points.
      key: ``key[]``.
      units: ``float[n, d]``.
      scale: ``float[]``, standard deviation in unit coordinates.
      resample: ``float[]``, a probability.

    >>> from jhpo.space.space import Float, Int
    >>> space = Space({"layers": Int(1, 3), "lr": Float(1e-4, 1.0, log=True)})
    >>> units = jnp.full((2, 2), 0.5)
    >>> near = perturbed(space, jax.random.key(0), units, 0.05, 0.0)
    >>> bool((jnp.abs(near - units)[:, 1] < 0.25).all()), sorted(set(space.index(near)[:, 0].tolist()))
    (True, [0, 2])
    """
    k_step, k_which, k_fresh = threefry.split(key, 3)
    dtype = units.dtype
    normal = jax.random.normal(k_step, units.shape, dtype)
    moved = _reflected(units + jnp.asarray(scale, dtype) * normal)
    if space.cells.any():
        cells = jnp.broadcast_to(jnp.asarray(space.cells)[None, :], units.shape)
        before, after = space.index(units), space.index(moved)
        last = jnp.maximum(cells - 1, 0)
        up = ((normal > 0) | (before == 0)) & (before < last)
        beside = jnp.where(up, before + 1, jnp.maximum(before - 1, 0))
        after = jnp.where(after == before, beside, after)
        moved = jnp.where(cells > 0, space.from_index(after, dtype), moved)
        moved = jnp.where(jnp.asarray(space.categorical)[None, :], units, moved)
    fresh = space.sample_unit(k_fresh, units.shape[0], dtype)
    fixed = jnp.asarray(space.static_mask)[None, :]
    anew = jax.random.uniform(k_which, units.shape, dtype) < jnp.asarray(resample, dtype)
    moved = jnp.where(fixed, units, jnp.where(anew, fresh, moved))
    moved = jnp.where(space.active(moved) & ~space.active(units) & ~fixed, fresh, moved)
    good = jnp.ones(units.shape[0], jnp.bool_)
    if space.has_constraints:
        good = good & (space.unit_constraint(moved) >= 0).all(axis=-1)
    if space.has_static:
        same = space.index(space.canonical(moved)) == space.index(space.canonical(units))
        good = good & (same | ~fixed).all(axis=-1)
    return jnp.where(good[:, None], moved, units)


def _reflected(x: jax.Array) -> jax.Array:
    """Coordinates outside [0, 1] as a mirror at its ends shows them."""
    return jnp.abs(jnp.mod(x + 1, 2) - 1)
