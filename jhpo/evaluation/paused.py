"""Members that are paused and continued, as pure functions: begin, train from one step to another, take some of them.

States are stacked along the first axis of every leaf, the replicates of a member one after the other.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.typing import ArrayLike

from jhpo.errors import InvalidArgument, invalid
from jhpo.evaluation.batching import all_members
from jhpo.evaluation.described import StaticValues
from jhpo.evaluation.members import PerFold, read_values, replicated, summarised
from jhpo.keys import is_key, trial_keys
from jhpo.programs.compilation import programs
from jhpo.programs.devices import over_devices
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation
from jhpo.training.objective import Objective
from jhpo.training.trainable import State, Trainable, Wanted, evaluate_state, max_steps, train, train_until


def check_continuable(trainable: Trainable) -> int:
    """Length of a training that can be paused.

    Raises:
      InvalidArgument: there are no steps between which it could be.
    """
    if isinstance(trainable, Objective):
        raise InvalidArgument(
            "objective: expected a trainable (steps, init, step, evaluate), whose training can be paused and "
            "continued, got a function; write its loop as the steps of a trainable"
        )
    length = max_steps(trainable)
    if length < 1:
        raise invalid("steps", "at least one step of training, to be paused and continued", length)
    return length


def begin_units(
    trainable: Trainable, space: Space, units: jax.Array, keys: jax.Array, replicates: int, static: StaticValues
) -> State:
    """States before the first step.

    Args:
      trainable: one whose training can be paused.
      space: turns unit rows into hyperparameters.
      units: ``float[n, d]``.
      keys: ``key[n]``; replicate r of several begins with ``fold_in(key, r)``.
      replicates: trainings a member.
      static: values of the static parameters, the same for all rows.

    Returns:
      A tree of ``[n * replicates, ...]``, of the types that a step gives back.
    """

    def begin(unit: jax.Array, key: jax.Array) -> State:
        hp = space.from_unit(unit, static.values)
        state = trainable.init(hp, key)
        trained = jax.eval_shape(lambda state: train(trainable, hp, state, 0, 1), state)
        return jax.tree.map(_of_type, state, trained)

    return all_members(begin)(*replicated(units, keys, replicates))


def _of_type(x: ArrayLike, like: jax.ShapeDtypeStruct) -> jax.Array:
    """A leaf as a training gives it back: a weak type would be another program's."""
    if is_key(like):
        return jnp.asarray(x)
    return jax.lax.convert_element_type(jnp.asarray(x), like.dtype)


def continue_units(
    trainable: Trainable,
    space: Space,
    units: jax.Array,
    states: State,
    start: jax.Array | int,
    stop: jax.Array | int,
    replicates: int,
    *,
    metric: Wanted,
    static: StaticValues,
) -> tuple[State, Evaluation]:
    """States at step ``stop`` of members that are at step ``start``, and what they evaluate to there.

    Args:
      trainable, space, replicates, static: as in `begin_units`.
      units: ``float[n, d]``, the hyperparameters from here on.
      states: a tree of ``[n * replicates, ...]``.
      start, stop: ``int32[]``; two Python integers make a loop of fixed length.
      metric: which metric to minimise if the evaluation returns several.
    """

    def further(unit: jax.Array, state: State) -> tuple[State, PerFold, jax.Array | None]:
        hp = space.from_unit(unit, static.values)
        if isinstance(start, int) and isinstance(stop, int):
            state = train(trainable, hp, state, start, stop - start)
        else:
            state = train_until(trainable, hp, state, start, stop)
        found = evaluate_state(trainable, hp, state, metric)
        return state, *read_values(found, unit.dtype)

    rows = units if replicates == 1 else jnp.repeat(units, replicates, axis=0)
    states, value, measured = all_members(further)(rows, states)
    return states, summarised(space, units, value, None, measured, replicates, metric=metric, static=static)


def rows_of(members: jax.Array, replicates: int) -> jax.Array:
    """The rows, ``int32[m * replicates]``, in which the states of some members lie, ``int32[m]``."""
    if replicates == 1:
        return members
    return (members[:, None] * replicates + jnp.arange(replicates, dtype=members.dtype)[None, :]).reshape(-1)


def take_states(states: State, members: jax.Array, replicates: int) -> State:
    """The states of some members, ``int32[m]``."""
    rows = rows_of(members, replicates)
    return jax.tree.map(lambda x: x[rows], states)


@programs("replicates", "static", "mesh")
def begin_program(
    trainable: Trainable,
    space: Space,
    units: jax.Array,
    ids: jax.Array,
    root: jax.Array,
    *,
    replicates: int,
    static: StaticValues,
    mesh: Mesh,
) -> State:
    """The first states of a chunk."""

    def rows(trainable: Trainable, root: jax.Array, units: jax.Array, ids: jax.Array) -> State:
        return begin_units(trainable, space, units, trial_keys(root, ids), replicates, static)

    return over_devices(rows, mesh)(trainable, root, units, ids)


@programs("replicates", "metric", "static", "mesh")
def continue_program(
    trainable: Trainable,
    space: Space,
    units: jax.Array,
    states: State,
    start: jax.Array,
    stop: jax.Array,
    *,
    replicates: int,
    metric: Wanted,
    static: StaticValues,
    mesh: Mesh,
) -> tuple[State, Evaluation]:
    """A chunk from one step to another: one program for all parts of a training, as both are arguments."""

    def rows(
        trainable: Trainable, steps: tuple[jax.Array, jax.Array], units: jax.Array, states: State
    ) -> tuple[State, Evaluation]:
        first, last = steps
        return continue_units(trainable, space, units, states, first, last, replicates, metric=metric, static=static)

    return over_devices(rows, mesh)(trainable, (start, stop), units, states)


@programs("replicates")
def take_program(pieces: tuple[State, ...], rows: jax.Array, *, replicates: int) -> State:
    """The states of some members of several chunks; rows are counted through the chunks."""
    return take_states(jax.tree.map(lambda *xs: jnp.concatenate(xs), *pieces), rows, replicates)
