"""A pool of members that are frozen and thawed one by one, each at its own step; states stay on the device."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jhpo.errors import invalid
from jhpo.evaluation.batching import all_members
from jhpo.evaluation.described import NO_STATIC
from jhpo.evaluation.members import read_values, summarised
from jhpo.evaluation.paused import begin_units, check_continuable, rows_of, take_states
from jhpo.evaluation.population import Population
from jhpo.evaluation.shelf import Shelf
from jhpo.keys import is_key, trial_keys, zero_keys
from jhpo.process.lifetimes import Remembered
from jhpo.process.switches import in_own_program
from jhpo.programs.compilation import programs
from jhpo.programs.devices import own_device
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Floats, Ids
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import State, Trainable, Wanted, evaluate_state, train_until
from jhpo.training.values import release


class Rows(NamedTuple):
    """The members that one generation trains, n rows."""

    units: Floats  # float[n, d]
    members: Ids  # int32[n], places in the pool; -1 where a row is empty
    start: Ids  # int32[n], steps that they were trained before; 0 where one begins
    stop: Ids  # int32[n], steps at the end


def train_rows(
    trainable: Trainable, space: Space, held: State, rows: Rows, root: jax.Array, replicates: int, metric: Wanted
) -> tuple[State, Evaluation]:
    """States of the rows after some members were trained on, and what they evaluate to; pure.

    Args:
      trainable: one whose training can be paused.
      space: turns unit rows into hyperparameters.
      held: where they were left, a tree of ``[n * replicates, ...]``; anything where a member begins.
      rows: members; number i begins with ``fold_in(root, i)``.
      root: ``key[]``.
      replicates: trainings a member.
      metric: which metric to minimise if the evaluation returns several.
    """
    there = rows.members >= 0
    keys = trial_keys(root, jnp.maximum(rows.members, 0).astype(jnp.uint32))
    fresh = begin_units(trainable, space, rows.units, keys, replicates, NO_STATIC)
    begins = jnp.repeat(there & (rows.start == 0), replicates)
    states = jax.tree.map(lambda x, y: _where(begins, x, y), fresh, held)

    def further(unit: jax.Array, state: State, start: jax.Array, stop: jax.Array) -> tuple[State, Any, Any]:
        hp = space.from_unit(unit, NO_STATIC.values)
        state = train_until(trainable, hp, state, start, stop)
        return state, *read_values(evaluate_state(trainable, hp, state, metric), unit.dtype)

    units, start, stop = (jnp.repeat(x, replicates, axis=0) for x in (rows.units, rows.start, rows.stop))
    states, value, measured = all_members(further)(units, states, start, stop)
    result = summarised(space, rows.units, value, None, measured, replicates, metric=metric, static=NO_STATIC)
    return states, result._replace(value=jnp.where(there, result.value, jnp.nan))


def thaw_units(
    trainable: Trainable, space: Space, pool: State, rows: Rows, root: jax.Array, replicates: int, metric: Wanted
) -> tuple[State, Evaluation]:
    """`train_rows` with the states of all members, ``[C * replicates, ...]``, where members are numbered places."""
    there, place = rows.members >= 0, jnp.maximum(rows.members, 0)
    held = take_states(pool, place, replicates)
    states, result = train_rows(trainable, space, held, rows, root, replicates, metric)
    size = jax.tree.leaves(pool)[0].shape[0]
    at = jnp.where(jnp.repeat(there, replicates), rows_of(place, replicates), size)
    return jax.tree.map(lambda x, y: x.at[at].set(y, mode="drop"), pool, states), result


def empty_pool(
    trainable: Trainable, space: Space, units: jax.Array, root: jax.Array, capacity: int, replicates: int
) -> State:
    """Zeros for the states of ``capacity`` members; units and root key as in `thaw_units`."""
    return _zeros(_one_state(trainable, space, units, root), capacity * replicates)


def _one_state(trainable: Trainable, space: Space, units: jax.Array, root: jax.Array) -> State:
    """Shapes and dtypes of the state of one member."""

    def begun(units: jax.Array, key: jax.Array) -> State:
        keys = trial_keys(key, jnp.zeros(1, jnp.uint32))
        return begin_units(trainable, space, units[:1], keys, 1, NO_STATIC)

    return jax.eval_shape(begun, units, root)


_known_state = Remembered(_one_state)  # tracing a step takes a good part of a second


def _zeros(like: State, rows: int) -> State:
    def blank(x: jax.ShapeDtypeStruct) -> jax.Array:
        shape = (rows, *x.shape[1:])
        return zero_keys(shape, x) if is_key(x) else jnp.zeros(shape, x.dtype)

    return jax.tree.map(blank, like)


def _where(take: jax.Array, x: jax.Array, y: jax.Array) -> jax.Array:
    return jnp.where(take.reshape(-1, *[1] * (x.ndim - 1)), x, y)


rows_program = programs("replicates", "metric")(train_rows)


class Thawing:
    """The members of a search, on one device: a frame of rows that are trained, and a shelf for those that wait.

    A member's result is the same bits whenever it is trained, as all of it happens in one program of ``batch`` rows.

    Args:
      population: trainable, space and replicates.
      capacity: members at most, None if that is not known.
      batch: rows of the program.
      interval: steps of a part of the training.
      root: root key.

    Raises:
      InvalidArgument: a trainable that cannot be paused, or a space with static parameters.
    """

    def __init__(
        self, population: Population, capacity: int | None, batch: int, interval: int, root: jax.Array
    ) -> None:
        self.length = check_continuable(population.trainable)
        if population.space.has_static:
            named = [n for n, p in zip(population.space.names, population.space.parameters) if p.static]
            expected = "no static parameters for a strategy that trains all members in one program"
            raise invalid(
                "space", expected, named, note="jhpo.switch takes what belongs to a choice that is not static"
            )
        self.population, self._root = population, root
        self._capacity, self._batch, self._interval = capacity, batch, interval
        self._frame: State | None = None
        self._shelf: Shelf | None = None
        self._inside = np.full(batch, -1, np.int64)  # the members in the frame
        self.steps = self.places = 0

    def stops(self, parts: np.ndarray) -> np.ndarray:
        """Steps, ``int64[n]``, after one part more than ``parts``, ``int[n]``; the last part may be shorter."""
        return np.minimum((np.asarray(parts, np.int64) + 1) * self._interval, self.length)

    def parts_of(self, horizon: np.ndarray) -> np.ndarray:
        """Parts, ``int64[n]``, of members that were trained for fractions of the training, ``float[n]``."""
        steps = np.rint(horizon * self.length).astype(np.int64)
        return -(-steps // self._interval)  # the last part may be as short as one step

    def train(self, units: np.ndarray, members: np.ndarray, parts: np.ndarray) -> Evaluation:
        """Train members on by one part.

        Args:
          units: ``float[n, d]``.
          members: ``int32[n]``, -1 where a row is empty.
          parts: ``int32[n]``, which they were trained before.

        Returns:
          NumPy arrays, NaN where a row is empty.
        """
        units, _ = self.population.checked(units, np.zeros(len(units), np.uint32))
        start = np.asarray(parts, np.int32) * np.int32(self._interval)
        stop = np.where(members >= 0, self.stops(parts), start).astype(np.int32)
        rows = Rows(units, np.asarray(members, np.int32), start, stop)
        result = self._run(rows)
        self.steps += int((rows.stop - rows.start).sum()) * self.population.replicates
        self.places += len(units) * self._interval * self.population.replicates
        return result

    @in_own_program
    def _run(self, rows: Rows) -> Evaluation:
        population = self.population
        trainable, space = population.on_one_device(), population.space
        with jax.default_device(own_device(population.mesh)), objective_errors():
            self._move(rows)
            self._frame, result = rows_program(
                trainable, space, self._frame, rows, self._root,
                replicates=population.replicates, metric=population.metric,
            )  # fmt: skip
        found: Evaluation = jax.tree.map(np.asarray, jax.block_until_ready(result))
        return found

    def _move(self, rows: Rows) -> None:
        """Bring the members of the rows into the frame."""
        if self._frame is None:
            population = self.population
            like = _known_state(population.trainable, population.space, rows.units, self._root)
            self._frame = _zeros(like, self._batch * population.replicates)
        wanted = np.asarray(rows.members, np.int64)
        # a row that stays empty keeps its member, which may come back
        moves = (wanted >= 0) & (wanted != self._inside)
        enters = moves & (np.asarray(rows.start) > 0)
        leaves = (self._inside >= 0) & (moves | np.isin(self._inside, wanted[enters]))
        if leaves.any() or enters.any():
            self._swap(np.where(leaves, self._inside, -1), np.where(enters, wanted, -1))
        self._inside = np.where(moves, wanted, np.where(leaves, -1, self._inside))

    def _swap(self, leaving: np.ndarray, entering: np.ndarray) -> None:
        if self._shelf is None:
            self._shelf = Shelf(self.population, self._frame, self._capacity)
        self._frame = self._shelf.swap(self._frame, leaving, entering)

    def again(self, units: np.ndarray, members: np.ndarray, parts: np.ndarray) -> None:
        """Train members once more, from the beginning: the states of a search that went on elsewhere.

        Args:
          units: ``float[k, d]``.
          members: ``int[k]``.
          parts: ``int[k]``, at least one each.
        """
        steps, places = self.steps, self.places
        for first in range(0, len(members), self._batch):
            take = slice(first, first + self._batch)
            row = np.full((self._batch, units.shape[1]), 0.5, units.dtype)
            row[: len(units[take])] = units[take]
            number, target = np.full(self._batch, -1), np.zeros(self._batch, np.int64)
            number[: len(members[take])], target[: len(parts[take])] = members[take], parts[take]
            for part in range(int(target.max())):
                self.train(row, np.where(target > part, number, -1), np.full(self._batch, part))
        self.steps, self.places = steps, places  # they were counted the first time

    @in_own_program
    def states(self, members: np.ndarray) -> list[State]:
        """Trained states of members, of replicate 0."""
        out: list[State] = []
        with jax.default_device(own_device(self.population.mesh)):
            for member in np.asarray(members).tolist():
                row = np.flatnonzero(self._inside == member)
                if len(row):
                    at = int(row[0]) * self.population.replicates
                    out.append(release(jax.tree.map(lambda x, at=at: x[at], self._frame)))
                else:
                    assert self._shelf is not None
                    out.append(release(self._shelf.first_replicate(member)))
        return out


class Thawed:
    """What has the trained states of a search's members: its pool."""

    def __init__(self, pool: Thawing) -> None:
        self.pool, self.trainable = pool, pool.population.trainable

    def states(
        self,
        units: np.ndarray,
        ids: np.ndarray,
        root: jax.Array,
        values: ArrayLike | None = None,
        horizons: ArrayLike = 1.0,
    ) -> list[State]:
        """Trained states of members, where they were left."""
        return self.pool.states(np.asarray(ids))
