"""Differential evolution as array functions: donors, trial points, the success memory and the archive of L-SHADE.

Notation:
    N  members alive (the first N rows of a pool, sorted from best to worst)     x_i  target of a trial
    F  scale factor     CR  crossover rate     p  fraction of the pool that counts as best     A  archive of losers

rand/1/bin: Storn & Price 1997. current-to-pbest/1 and the archive: Zhang & Sanderson 2009 (JADE). Memory and the
shrinking population: Tanabe & Fukunaga 2014 (L-SHADE), equation numbers from there.

Random numbers come from streams of `counter_random`: a ``seed`` is uint32[2], one for each use.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import counter_random
from jhpo.kernels.shapes import Array, UInt

MEMORY_LEAST_F = 1e-3  # a scale factor of 0 would only copy


class Success(NamedTuple):
    """Improvements of one sweep, one row per target."""

    gain: jax.Array  # float[N], improvement over the target, 0 if there was none
    f: jax.Array  # float[N], the scale factor used
    cr: jax.Array  # float[N], the crossover rate used


def distinct_below(seed: UInt[Array, "2"], taken: jax.Array, limit: jax.Array) -> jax.Array:
    """``int32[n]`` uniform rows below ``limit`` that are not among ``taken``.

    Args:
      taken: int32[n, k], distinct in each row and below ``limit``; k is small.
      limit: int32[], larger than k (otherwise rows repeat).

    >>> seed = counter_random.seeds(jax.random.key(0), 1)[0]
    >>> distinct_below(seed, jnp.array([[0, 1, 3], [3, 0, 2]], jnp.int32), jnp.int32(4)).tolist()
    [2, 1]
    """
    room = jnp.maximum(limit - taken.shape[1], 1)
    draw = counter_random.integers(seed, taken.shape[:1], room)
    for skip in _ascending(list(taken.T)):  # skip over each taken row
        draw = draw + (draw >= skip).astype(jnp.int32)
    return jnp.minimum(draw, limit - 1)


def _ascending(columns: list[jax.Array]) -> list[jax.Array]:
    """A few columns, sorted row by row."""
    for end in range(len(columns) - 1, 0, -1):
        for i in range(end):
            low, high = jnp.minimum(columns[i], columns[i + 1]), jnp.maximum(columns[i], columns[i + 1])
            columns[i], columns[i + 1] = low, high
    return columns


def cauchy_f(seed: UInt[Array, "2"], location: jax.Array) -> jax.Array:
    """``float[n]`` scale factors from Cauchy(location, 0.1), redrawn if not positive, clipped at 1 (eq. 2).

    Instead of redrawing, the distribution conditioned on being positive is sampled by its inverse.

    >>> f = cauchy_f(jnp.array([3, 7], jnp.uint32), jnp.full((1000,), 0.5))
    >>> bool((f > 0).all()), bool((f <= 1).all())
    (True, True)
    """
    u = counter_random.uniform(seed, location.shape, location.dtype)
    lowest = jnp.arctan(-location / 0.1) / np.pi + 0.5
    value = location + 0.1 * jnp.tan(np.pi * (lowest + u * (1.0 - lowest) - 0.5))
    return jnp.clip(jnp.where(jnp.isfinite(value), value, 1.0), MEMORY_LEAST_F, 1.0)


def normal_cr(seed: UInt[Array, "2"], location: jax.Array) -> jax.Array:
    """``float[n]`` crossover rates from N(location, 0.1) clipped to [0, 1] (eq. 1); 0 if the location is negative."""
    value = location + 0.1 * counter_random.normal(seed, location.shape, location.dtype)
    return jnp.where(location < 0, 0.0, jnp.clip(value, 0.0, 1.0))


def bounced(mutant: jax.Array, base: jax.Array) -> jax.Array:
    """The mutant with coordinates outside [0, 1] moved halfway between the base and the bound; never NaN."""
    inside = jnp.where(mutant < 0, 0.5 * base, jnp.where(mutant > 1, 0.5 * (1.0 + base), mutant))
    return jnp.where(jnp.isfinite(inside), inside, base)


def crossover(seeds: UInt[Array, "2 2"], target: jax.Array, mutant: jax.Array, cr: jax.Array) -> jax.Array:
    """Binomial crossover, ``float[n, d]``: each coordinate is the mutant's with probability ``cr``, one always."""
    n, d = target.shape
    one = counter_random.integers(seeds[1], (n,), d)
    taken = counter_random.uniform(seeds[0], (n, d), target.dtype) < cr[:, None]
    taken = taken | (jnp.arange(d, dtype=jnp.int32)[None, :] == one[:, None])
    return jnp.where(taken, mutant, target)


def mutate_categories(
    seeds: UInt[Array, "2 2"], base: jax.Array, first: jax.Array, second: jax.Array, f: jax.Array, cells: np.ndarray
) -> jax.Array:
    """``int32[n, d]`` categories of the mutant.

    Unordered values have no difference to scale. Where the two donors differ, the base's category is replaced by a
    random one with probability ``f``.

    Args:
      base, first, second: int32[n, d], categories. f: float[n]. cells: int[d], static, their number.
    """
    change = (first != second) & (counter_random.uniform(seeds[0], base.shape, f.dtype) < f[:, None])
    which = counter_random.uniform(seeds[1], base.shape, f.dtype) * jnp.asarray(np.maximum(cells, 1), f.dtype)[None, :]
    return jnp.where(change, jnp.minimum(which.astype(jnp.int32), jnp.asarray(cells, jnp.int32)[None, :] - 1), base)


def lehmer(values: jax.Array, weights: jax.Array) -> jax.Array:
    """Weighted Lehmer mean, sum w v^2 / sum w v (eq. 7); 0 where all values or weights are 0."""
    bottom = (weights * values).sum()
    return jnp.where(bottom > 0, (weights * values**2).sum() / jnp.where(bottom > 0, bottom, 1.0), 0.0)


def remember(
    memory_f: jax.Array, memory_cr: jax.Array, slot: jax.Array, success: Success
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Write the weighted means of the successes to one entry of the memory (Algorithm 1); unchanged without successes.

    Args:
      memory_f, memory_cr: float[h]; a rate of -1 is terminal (all successes had a rate of 0).
      slot: int32[], the entry to write.
      success: the sweep's gains; they are divided by the largest, as only their ratios matter.

    Returns:
      The two memories and the next slot. Never NaN, whatever the gains.
    """
    gain = jnp.where(jnp.isfinite(success.gain), jnp.maximum(success.gain, 0.0), 0.0)
    most = gain.max()
    any_gain = most > 0
    weight = gain / jnp.where(any_gain, most, 1.0)
    new_f = lehmer(success.f, weight)
    dead = (memory_cr[slot] < 0) | (jnp.where(weight > 0, success.cr, 0.0).max() <= 0)
    new_cr = jnp.where(dead, -1.0, lehmer(success.cr, weight))
    h = memory_f.shape[0]
    return (
        memory_f.at[slot].set(jnp.where(any_gain, jnp.clip(new_f, MEMORY_LEAST_F, 1.0), memory_f[slot])),
        memory_cr.at[slot].set(jnp.where(any_gain, new_cr, memory_cr[slot])),
        jnp.where(any_gain, (slot + 1) % h, slot).astype(slot.dtype),
    )


def archive_losers(
    archive: jax.Array, count: jax.Array, capacity: jax.Array, losers: jax.Array, lost: jax.Array, u: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Add the replaced targets to the archive; once it is full they overwrite random entries.

    Args:
      archive: float[a, d]. count: int32[], entries in use. capacity: int32[], at most a.
      losers: float[n, d], targets before their replacement. lost: bool[n], which of them were replaced.
      u: float[n], uniform: which entry a loser overwrites.

    Returns:
      The archive and its count.
    """
    count = jnp.minimum(count, capacity)
    place = count + jnp.cumsum(lost.astype(jnp.int32)) - 1
    anywhere = jnp.minimum((u * capacity.astype(u.dtype)).astype(jnp.int32), capacity - 1)
    place = jnp.where(place < capacity, place, anywhere)
    place = jnp.where(lost & (capacity > 0), place, archive.shape[0])  # out of range: dropped
    # two losers may be assigned one entry: scatter-max of row numbers lets the later row win on every device
    rows = jnp.arange(lost.shape[0], dtype=jnp.int32)
    owner = jnp.full((archive.shape[0],), -1, jnp.int32).at[place].max(rows, mode="drop")
    place = jnp.where(owner.at[place].get(mode="fill", fill_value=-1) == rows, place, archive.shape[0])
    filled = jnp.minimum(count + lost.sum(dtype=jnp.int32), capacity)
    return archive.at[place].set(losers, mode="drop"), filled


def shrunk(first: int, last: int, spent: jax.Array, horizon: jax.Array) -> jax.Array:
    """Members alive after ``spent`` of ``horizon`` evaluations: linear from first to last (eq. 10), ``int32[]``."""
    share = jnp.clip(spent.astype(jnp.float32) / jnp.maximum(horizon.astype(jnp.float32), 1.0), 0.0, 1.0)
    return jnp.round(first + (last - first) * share).astype(jnp.int32)
