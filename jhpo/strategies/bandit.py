"""Which hyperparameters a population tries next, by a model of what they gained at which time (PB2)."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import gp, gp_fit, threefry
from jhpo.kernels.covariance import Points
from jhpo.kernels.order import lexsort
from jhpo.space.space import Space

WINDOW = 96  # stretches of training that the model remembers
_CANDIDATES, _ITERATIONS = 256, 25


class Increments(NamedTuple):
    """The last w stretches of training; w is 0 where no model is asked for."""

    units: jax.Array  # float[w, d], hyperparameters
    time: jax.Array  # float[w], share of the training at which it began
    change: jax.Array  # float[w], of the value
    known: jax.Array  # bool[w]


def nothing(window: int, dim: int, dtype: jnp.dtype) -> Increments:
    """No stretches yet."""
    zeros = jnp.zeros(window, dtype)
    return Increments(jnp.zeros((window, dim), dtype), zeros, zeros, jnp.zeros(window, jnp.bool_))


def remember(seen: Increments, units: jax.Array, time: jax.Array, change: jax.Array) -> Increments:
    """With further stretches ``float[n, d]`` that began at one time; changes that are not finite are left out."""
    window = seen.time.shape[0]
    if not window:
        return seen
    known = jnp.isfinite(change)
    rows = Increments(
        jnp.concatenate([seen.units, units]),
        jnp.concatenate([seen.time, jnp.broadcast_to(time.astype(seen.time.dtype), change.shape)]),
        jnp.concatenate([seen.change, jnp.where(known, change, 0.0)]),
        jnp.concatenate([seen.known, known]),
    )
    order = lexsort((jnp.arange(rows.time.shape[0]), rows.known.astype(jnp.int32)))[-window:]
    return jax.tree.map(lambda x: x[order], rows)


def modelled(space: Space) -> np.ndarray:
    """The columns that the model chooses, ``int[c]``: numbers that may change during a training."""
    return np.flatnonzero(~np.asarray(space.categorical) & ~np.asarray(space.static_mask))


def chosen(
    space: Space,
    key: jax.Array,
    seen: Increments,
    units: jax.Array,
    explores: jax.Array,
    now: jax.Array,
    number: jax.Array,
) -> jax.Array:
    """Hyperparameters for the rows that explore, ``float[n, d]``, one after the other: the others stay.

    A Gaussian process models the change of the value in a stretch as a function of the hyperparameters and the time at
    which it began. A row takes the point with the lowest confidence bound, given what the rows before it will try.

    Args:
      space: of the points.
      key: ``key[]``.
      seen: what is known.
      units: ``float[n, d]``, proposals; their categories are kept, and all of them while less than two stretches are
        known.
      explores: ``bool[n]``.
      now: ``float[]``, share of the training.
      number: ``int32[]``, of the exchange, from 1.

    Source: Parker-Holder, Nguyen, Roberts, "Provably efficient online hyperparameter optimization with population-based
    bandits", NeurIPS 2020, algorithm 2. The covariance in time is that of the other coordinates, and its length is
    fitted with theirs.
    """
    columns, n, dtype = modelled(space), units.shape[0], units.dtype
    if not len(columns):
        return units
    window = seen.time.shape[0]
    padded = 1 << (window + n - 1).bit_length()
    count = seen.known.sum().astype(dtype)
    mean = jnp.where(seen.known, seen.change, 0.0).sum() / jnp.maximum(count, 1.0)
    spread = jnp.sqrt(jnp.where(seen.known, jnp.square(seen.change - mean), 0.0).sum() / jnp.maximum(count, 1.0))
    y = jnp.where(seen.known, (seen.change - mean) / jnp.maximum(spread, jnp.finfo(dtype).tiny), 0.0)

    def points(units: jax.Array, time: jax.Array) -> jax.Array:
        return jnp.concatenate([units[..., columns], jnp.broadcast_to(time, units.shape[:-1])[..., None]], axis=-1)

    room = padded - window
    x = jnp.pad(points(seen.units, seen.time), ((0, room), (0, 0)), constant_values=0.5)
    data = gp.Data(Points(x), jnp.pad(y, (0, room)), jnp.zeros(padded, dtype), jnp.pad(seen.known, (0, room)))
    prior = gp_fit.default_prior(len(columns) + 1, dtype)
    theta, _ = gp_fit.fit(prior.mean[None], data, prior, None, iterations=_ITERATIONS)
    # the width of the bound as in the authors' code
    width = jnp.sqrt(0.2 + jnp.maximum(jnp.log(0.4 * number.astype(dtype)), 0.0))

    def lowest(posterior: gp.Posterior, row: jax.Array) -> jax.Array:
        """The best of a member's own candidates, ``float[d]``: of common ones many would take the same."""
        own = units[row]
        candidates = jax.random.uniform(threefry.fold_in(key, row), (_CANDIDATES, len(columns)), dtype)
        rows = jnp.broadcast_to(own, (_CANDIDATES, own.shape[0])).at[:, columns].set(candidates)
        found, variance = jax.vmap(lambda q: gp.predict(posterior, Points(q), None))(points(rows, now))
        bound = found - width * jnp.sqrt(variance)
        if space.has_constraints:
            bound = jnp.where((space.unit_constraint(rows) >= 0).all(axis=-1), bound, jnp.inf)
        best = jnp.argmin(bound)
        return jnp.where(jnp.isfinite(bound[best]), rows[best], own)

    def one(posterior: gp.Posterior, row: jax.Array) -> tuple[gp.Posterior, jax.Array]:
        unit = jax.lax.cond(explores[row], lowest, lambda _, row: units[row], posterior, row)
        here = Points(points(unit, now))
        expected, _ = gp.predict(posterior, here, None)
        return gp.append(posterior, jnp.int32(window) + row, here, expected, None), unit

    # members that go on as they are count as tried before those that explore choose
    order = jnp.argsort(explores, stable=True).astype(jnp.int32)
    _, tried = jax.lax.scan(one, gp.condition(theta, data, None), order)
    return jnp.where(count >= 2, units.at[order].set(tried), units)
