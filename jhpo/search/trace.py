"""What `jhpo.run` keeps of a search."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jhpo.search.keep import Keep
from jhpo.strategies.base import Evaluation, lowest_feasible


class Trace(NamedTuple):
    """Evaluations of a phase by generation and member, in the order of trial ids.

    With ``keep="best"``, n is 1: the best trial of each generation.
    """

    units: jax.Array | None  # float[generations, n, d]; None with keep="values"
    value: jax.Array  # float[generations, n], NaN or +-inf where the member failed
    constraint: jax.Array | None = None  # float[generations, n, c]
    variance: jax.Array | None = None  # float[generations, n]; of several objectives [generations, n, m]
    values: jax.Array | None = None  # float[generations, n, m], of several objectives, of which `value` is the first
    ids: jax.Array | None = None  # uint32[generations, n], trials, where members were paused and continued
    parents: jax.Array | None = None  # int32[generations, n], rows whose training each one goes on with, if they evolve


def kept(
    keep: Keep,
    units: jax.Array,
    result: Evaluation,
    ids: jax.Array | None = None,
    parents: jax.Array | None = None,
) -> Trace:
    """The part of a generation that `keep` asks for."""
    made = Trace(units, result.value, result.constraint, result.variance, result.values, ids, parents)
    if keep == "best":
        row, _ = lowest_feasible(result)
        return jax.tree.map(lambda x: x[row[None]], made)
    return made._replace(units=None) if keep == "values" else made
