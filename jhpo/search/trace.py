"""What `jhpo.run` keeps of a search, and the best of it."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jhpo.errors import invalid
from jhpo.process.switches import with_transfers
from jhpo.search.keep import Keep
from jhpo.strategies.base import Evaluation, lowest_feasible
from jhpo.words.markup import brief


class Trace(NamedTuple):
    """Evaluations of a phase by generation and member, in the order of trial ids.

    With ``keep="best"``, n is 1: the best trial of each generation. Infeasible members have values too, so in a space
    with constraints ``value.min()`` may be the value of one; see `lowest`.
    """

    units: jax.Array | None  # float[generations, n, d]; None with keep="values"
    value: jax.Array  # float[generations, n], NaN or +-inf where the member failed
    constraint: jax.Array | None = None  # float[generations, n, c]
    variance: jax.Array | None = None  # float[generations, n]; of several objectives [generations, n, m]
    values: jax.Array | None = None  # float[generations, n, m], of several objectives, of which `value` is the first
    ids: jax.Array | None = None  # uint32[generations, n], trials, where members were paused and continued
    parents: jax.Array | None = None  # int32[generations, n], rows whose training each one goes on with, if they evolve

    def __repr__(self) -> str:
        return brief(self)

    @with_transfers
    def lowest(self) -> tuple[jax.Array | None, jax.Array]:
        """The feasible point of the lowest value, ``float[d]``, and that value, ``float[]``; traceable.

        The point is None with ``keep="values"``. If no member was feasible, the value is infinite, and the point any.

        Raises:
          InvalidArgument: several objectives, or the traces of several searches (``jax.vmap(jhpo.Trace.lowest)``).

        >>> import jax, jhpo
        >>> space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)}, constraints=[lambda hp: hp["x"] - 0.5])
        >>> _, trace = jhpo.run(jhpo.PSO(16), lambda hp: hp["x"] ** 2, space, 20, jax.random.key(0))
        >>> unit, value = trace.lowest()
        >>> round(float(value), 2), round(space.decode(unit)["x"], 2)
        (0.25, 0.5)
        """
        if self.values is not None:
            raise invalid("trace", "one objective: several have no lowest value, see jhpo.kernels.pareto", "several")
        if self.value.ndim != 2:
            raise invalid(
                "trace",
                "one search, values [generations, n]: jax.vmap(jhpo.Trace.lowest) for several",
                self.value.shape,
            )
        each = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), Evaluation(self.value, constraint=self.constraint))
        row, value = lowest_feasible(each)
        return None if self.units is None else self.units.reshape(-1, self.units.shape[-1])[row], value


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
