"""Small programs for host objectives: constraint values and integer seeds of any number of trials."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.keys import fold_words, trial_keys, words_of
from jhpo.process.lifetimes import Programs
from jhpo.process.switches import in_own_program
from jhpo.space.space import Space

_FEW = 8
_seed_program = jax.jit(lambda root, ids: jax.random.key_data(trial_keys(root, ids)))
_replicate_program = jax.jit(
    lambda root, ids, r: jax.random.key_data(jax.vmap(lambda k: jax.random.fold_in(k, r))(trial_keys(root, ids)))
)
_constraint_program = Programs(lambda space, units: space.unit_constraint(units))


@in_own_program
def measure_constraints(space: Space, units: np.ndarray) -> np.ndarray | None:
    """Values ``float64[n, c]`` of the space's constraints, None if it has none."""
    if not space.has_constraints:
        return None
    values = _constraint_program(space, _padded(np.asarray(units, jnp.result_type(float))))
    return np.asarray(values, np.float64)[: len(units)]


@in_own_program
def trial_seeds(root: jax.Array, ids: np.ndarray, replicate: int | None = None) -> np.ndarray:
    """``uint64[n]``: the key data of ``fold_in(root, id)``, with the replicate folded in too, as one integer each."""
    if not len(ids):
        return np.empty(0, np.uint64)
    words = words_of(root)
    if words is not None:
        return np.asarray(seeds_of(words, ids, replicate), np.uint64)
    padded = _padded(np.asarray(ids, np.uint32))
    if replicate is None:
        data = _seed_program(root, padded)
    else:
        data = _replicate_program(root, padded, np.uint32(replicate))
    high, low = np.asarray(data).astype(np.uint64).T[:, : len(ids)]
    return (high << np.uint64(32)) | low


def seeds_of(words: tuple[int, int], ids: np.ndarray, replicate: int | None = None) -> list[int]:
    """The numbers of `trial_seeds` from the words of the root key, on the host: nothing compiles."""
    more = () if replicate is None else (replicate,)
    if len(ids) <= _FEW:  # one by one, which Python does faster
        pairs = [fold_words(words, number, *more) for number in np.asarray(ids).tolist()]
        return [(high << 32) | low for high, low in pairs]
    high, low = fold_words(words, np.asarray(ids, np.uint64), *more)
    found: list[int] = ((high << np.uint64(32)) | low).tolist()
    return found


def _padded(rows: np.ndarray) -> np.ndarray:
    """The rows, the last repeated up to the next power of two, so that all counts share a few compiled programs."""
    more = (1 << (len(rows) - 1).bit_length()) - len(rows)
    return np.pad(rows, [(0, more)] + [(0, 0)] * (rows.ndim - 1), mode="edge")
