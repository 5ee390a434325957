"""Members of a population trained once more from their keys, for their states."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from jhpo.errors import warn_caller
from jhpo.evaluation.chunks import Chunks, Program
from jhpo.evaluation.described import StaticValues
from jhpo.evaluation.members import state_program
from jhpo.process.lifetimes import Executable
from jhpo.programs.devices import own_device
from jhpo.space.space import Space
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import State, Trainable, Wanted

# Relative differences of so many units of the last place are no news: programs of different shapes round differently.
_ROUNDINGS = 8


class Members(NamedTuple):
    """Members of one static group that are trained again."""

    units: np.ndarray  # float[n, d]
    ids: np.ndarray  # uint32[n]
    root: jax.Array  # key[]
    static: StaticValues
    horizon: float

    def rows(self, chosen: np.ndarray) -> Members:
        """Some of them, by a mask or by indices."""
        return self._replace(units=self.units[chosen], ids=self.ids[chosen])


class Trainer(Protocol):
    """What evaluated the members: a `Population`."""

    space: Space
    replicates: int
    metric: Wanted
    mesh: Mesh
    chunks: Chunks

    @property
    def num_groups(self) -> int:
        """Combinations of static values there may be."""
        ...

    def member_bytes(self, unit: np.ndarray) -> int:
        """Size of the state of a member with these hyperparameters, ``float[d]``."""
        ...

    def on_one_device(self) -> Trainable:
        """The trainable with its arrays on the first device."""
        ...


def trained_again(population: Trainer, members: Members, known: np.ndarray) -> tuple[State, np.ndarray]:
    """Trains members once more; of the widths that were used, the one that gives the known values counts.

    Args:
      population: that evaluated them.
      members: of one static group.
      known: ``float[n]``, values as evaluated, NaN where unknown.

    Returns:
      Stacked states, and the values ``float[n]`` that they have.
    """
    population.chunks.settle(len(known), population.num_groups, lambda: population.member_bytes(members.units[0]))
    states, found = _trained_at(population, population.chunks.size, members)
    for width in population.chunks.widths[::-1]:
        other = np.isfinite(known) & (found != known)
        if not other.any():
            break
        again, value = _trained_at(population, width, members.rows(other))
        better = value == known[other]
        rows = np.flatnonzero(other)[better]
        states = jax.tree.map(lambda x, y, rows=rows, better=better: x.at[rows].set(y[better]), states, again)
        found[rows] = value[better]
    return states, found


def _trained_at(population: Trainer, width: int | None, members: Members) -> tuple[State, np.ndarray]:
    units, ids, root, static, horizon = members
    same = {"replicates": population.replicates, "metric": population.metric, "static": static, "horizon": horizon}

    def compile_it(arguments: tuple[Any, ...], options: dict[str, str] | None) -> Executable:
        with objective_errors():
            return state_program.compile(*arguments, options=options, **same)

    width = width or len(units)
    parts = []
    for start in range(0, len(units), width):
        take = np.minimum(np.arange(start, start + width), len(units) - 1)
        kept = min(width, len(units) - start)
        with jax.default_device(own_device(population.mesh)):
            arguments = (population.on_one_device(), population.space, units[take], ids[take], root)
            program = population.chunks.compiled(
                Program(("states", static, horizon), lambda *rows: rows, compile_it), arguments
            )
            parts.append(jax.tree.map(lambda x, kept=kept: x[:kept], program(*arguments)))
    states, value = jax.tree.map(lambda *xs: jnp.concatenate(xs), *parts)
    return states, np.array(value)


def warn_of_others(known: np.ndarray, found: np.ndarray) -> None:
    """Warns if a state evaluates to another value, ``float[n]``, than was measured, by more than roundings."""
    compared = np.isfinite(known)
    known, found = np.where(compared, known, 0.0), np.where(compared, found, 0.0)
    near = np.abs(known - found) <= _ROUNDINGS * np.finfo(found.dtype).eps * np.abs(known)
    other = np.flatnonzero(~near)
    if len(other):
        worst = other[np.argmax(np.abs(known - found)[other])]
        warn_caller(
            f"the trained state of {len(other)} of {len(known)} members evaluates differently from when it was "
            f"measured (by up to {abs(known[worst] - found[worst]):.3g}): another device, another version of JAX, or a "
            "value that was measured together with its gradient"
        )
