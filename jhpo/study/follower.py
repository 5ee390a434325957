"""Keeps a strategy in step with a study's log: one turn for each closed generation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import StorageError, warn_caller
from jhpo.kernels.internals import float_precision
from jhpo.objectives import Sign
from jhpo.search.driver import Driver, Place, as_dtype
from jhpo.search.generations import Told
from jhpo.search.starts import completions
from jhpo.space.space import Space
from jhpo.storage.snapshot import dump_state, read_snapshot
from jhpo.strategies.base import Evaluation, Request, Strategy
from jhpo.strategies.blind import learns
from jhpo.study.closing import Closing
from jhpo.study.fold import Fold
from jhpo.trial import TrialTable


class Mark(NamedTuple):
    """A strategy's position in a study."""

    place: Place  # of the driver
    units: np.ndarray  # float[n, d], the rows of the open generation


class Follower:
    """Keeps a `Driver` in step with a `Fold`.

    The state is a cache of the fold over the log: `catch_up` rebuilds it from any earlier point.

    Args:
        sign: 1.0 to minimise, -1.0 to maximise, one per objective if there are several; only here are values flipped.
        x64: whether the strategy computes in float64, as in the process that created the study.
        repeats: evaluations of each member, replicates times folds; above 1 the strategy sees variances.
    """

    def __init__(
        self, strategy: Strategy, space: Space, root: jax.Array, *, sign: Sign, x64: bool, repeats: int
    ) -> None:
        self.strategy, self._made, self.space = strategy, strategy, space
        self._signs, self._x64, self._repeats = np.asarray(sign), x64, repeats
        self._sign = float(np.ravel(sign)[0])
        self.driver = Driver(strategy, space, root)
        self.units = np.empty((0, space.dim))  # float[n, d], the rows of the open generation
        self._absorbs = strategy.steady or type(strategy).absorb is not Strategy.absorb
        self._learns = learns(strategy)
        self._expects = type(strategy).expect is not Strategy.expect
        self._warned = False
        self._before = self.mark()  # of the generation that is opened

    @property
    def generation(self) -> int:
        """Generations asked for."""
        return self.driver.generation

    @property
    def request(self) -> Request:
        """What the evaluation of the open generation should deliver."""
        return self.driver.request

    @property
    def fixes_keys(self) -> bool:
        """Whether the members' keys may be made from other ids than their own."""
        return type(self.strategy).evaluation_ids is not Strategy.evaluation_ids

    def evaluation_ids(self, ids: np.ndarray) -> np.ndarray:
        """``uint32[n]``: the ids from which the members' keys are made."""
        with float_precision(self._x64):
            return self.driver.evaluation_ids(ids)

    def measures(self, constraints: int) -> None:
        """So many constraints are measured: a strategy that learns them needs their number before its first turn."""
        self.strategy = self._made = self._made.measuring(constraints)
        self.driver = Driver(self.strategy, self.space, self.driver.root)

    def last(self, steps: int, members: int | None) -> None:
        """The length of the training is known: a strategy that pauses members needs it before its first turn.

        ``members`` is for how many it makes room, None where it knows that itself or grows.
        """
        strategy = self._made.lasting(steps)
        self.strategy = strategy if members is None else strategy.prepare(members)
        self.driver = Driver(self.strategy, self.space, self.driver.root)

    def mark(self) -> Mark:
        """The strategy's position, to `restore` if a transaction fails."""
        return Mark(self.driver.place, self.units)

    def restore(self, mark: Mark) -> None:
        """Back to a `mark`."""
        self.driver.place, self.units = mark

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Context after which the strategy is where it was before, whatever ends it."""
        mark = self.mark()
        try:
            yield
        finally:
            self.restore(mark)

    def step_back(self, opened: int) -> None:
        """Take back a generation that was asked for and never stored: `opened` ones are in the log."""
        if self.generation > opened:
            self.restore(self._before)

    def catch_up(self, history: Fold) -> None:
        """Bring the strategy to the open generation of the log."""
        closings = history.closings
        while True:
            while closings and closings[0].generation + 1 < self.generation:
                closings.popleft()
            if self.generation >= history.opened:
                return
            self._turn(closings[0], history.table)  # stays until its turn has ended

    def completions(self, given: np.ndarray, samples: np.ndarray, number: int, table: TrialTable) -> np.ndarray:
        """``float[m, d]``: a partly given point completed, the best first; nothing changes. See `completions`."""
        with float_precision(self._x64):
            return completions(self.driver, self._blank(table), given, self.units, samples, number)

    def open(self, history: Fold) -> np.ndarray:
        """Close the open generation, and ask for the next: ``float[n, d]``."""
        self.catch_up(history)
        self._before = self.mark()
        self._turn(history.closing(), history.table)
        return self.units

    def learning(self, closing: Closing, history: Fold) -> Told | None:
        """What closing the open generation would tell the strategy; None before the first."""
        if closing.generation < 0:
            return None
        with float_precision(self._x64):
            result = self._evaluation(np.where(closing.told, closing.members, -1), history.table, closing.step)
            dtype = jnp.result_type(float)
            units = np.asarray(self._told_units(closing, history.table), dtype)
        return Told(units, as_dtype(result, dtype))

    def _turn(self, closing: Closing, table: TrialTable) -> None:
        """Tell and ask, all of it or nothing: Ctrl-C comes while the points are awaited, too."""
        mark = self.mark()
        try:
            self._told_and_asked(closing, table)
        except BaseException:
            self.restore(mark)
            raise

    def _told_and_asked(self, closing: Closing, table: TrialTable) -> None:
        with float_precision(self._x64):
            absorbed = False
            # a strategy that does not look at values stays as it is
            if self._absorbs and len(closing.others) and (closing.generation < 0 or self._learns):
                # values at another horizon do not compare with this phase's
                horizon = self.driver.started().horizon
                absorbed = self._absorb(closing.others[table.horizon.array[closing.others] == horizon], table)
            if self._expects and len(closing.expected):
                horizon = self.driver.started().horizon
                absorbed |= self._expect(closing.expected[table.horizon.array[closing.expected] == horizon], table)
            if closing.generation < 0:
                blank = self._blank(table)
                self.units = self.driver.ask(blank) if absorbed else self.driver.turn(None, blank)
                return
            units = self._told_units(closing, table)
            told = np.where(closing.told, closing.members, -1)
            self.units = self.driver.turn(units, self._evaluation(told, table, closing.step))

    def _told_units(self, closing: Closing, table: TrialTable) -> np.ndarray:
        """The rows that were asked for; where the log differs, its rows, with a warning."""
        there = closing.members >= 0
        # members that evolve have other hyperparameters by now
        column = table.steered[closing.step] if self.strategy.evolves else table.unit
        logged = column.array[closing.members[there]].astype(self.units.dtype)
        units = np.array(self.units)
        if not np.array_equal(units[there], logged):
            if not self._warned:
                warn_caller(
                    f"the rebuilt search asks for other points in generation {closing.generation} than the log holds "
                    "(another version of jhpo or of JAX, or another processor?): the search goes on from the stored "
                    "results, but not bit for bit as before"
                )
                self._warned = True
            units[there] = logged
        return units

    def _absorb(self, ids: np.ndarray, table: TrialTable) -> bool:
        for padded, units, mask in self._parts(ids, table):
            self.driver.absorb(units, self._evaluation(padded, table)._replace(mask=mask))
        return len(ids) > 0

    def _expect(self, ids: np.ndarray, table: TrialTable) -> bool:
        for _, units, mask in self._parts(ids, table):
            self.driver.expect(units, mask)
        return len(ids) > 0

    def _parts(self, ids: np.ndarray, table: TrialTable) -> Iterator[tuple[np.ndarray, np.ndarray, Any]]:
        """Ids in blocks of a population, padded with -1; their rows; and the mask that is False for padding."""
        rows = self.strategy.population
        for start in range(0, len(ids), rows):
            padded = np.full(rows, -1, np.int64)
            part = ids[start : start + rows]
            padded[: len(part)] = part
            yield padded, np.where((padded >= 0)[:, None], table.unit.array[padded], 0.5), padded >= 0

    def _blank(self, table: TrialTable) -> Evaluation:
        """A generation of which nothing is known."""
        return self._evaluation(np.full(self.strategy.population, -1, np.int64), table)

    def _evaluation(self, ids: np.ndarray, table: TrialTable, step: Any = 0) -> Evaluation:
        """Results of trials, NaN where the id is -1; its structure is the same in every generation of a phase.

        Values and constraints are those at `step` if the training was paused there: it may have gone on since. A step
        for each row, ``int64[n]``, is one where members are thawed one by one.
        """
        there: Any = ids >= 0

        def column(values: np.ndarray, sign: Sign = 1.0) -> Any:
            out = np.full((len(ids), *values.shape[1:]), np.nan)
            out[there] = sign * values[ids[there]]
            return out

        def extra(name: str, wanted: bool, width: tuple[int, ...], sign: Sign = 1.0) -> Any:
            if name in table.extra:
                return column(table.extra[name].array, sign)
            return np.full((len(ids), *width), np.nan) if wanted else None

        grad = self.strategy.needs_grad if self.driver.state is None else self.request.grad
        constraints, several = self.space.num_constraints, self._signs.shape
        limits = extra("constraint", constraints > 0, (constraints,))
        several_steps = isinstance(step, np.ndarray)
        if not several_steps and step in table.limits:
            limits = column(table.limits[step].array)
        value = table.value.array
        if several_steps:
            value = np.array(value)
            for at in np.unique(step[there]).tolist():
                some = ids[there & (step == at)]
                value[some] = table.curve[at].array[some]
                if limits is not None and at in table.limits:
                    limits[there & (step == at)] = table.limits[at].array[some]
        elif step:
            value = table.curve[step].array
        return Evaluation(
            value=column(value, self._sign),
            grad=extra("grad", True, (self.space.dim,), self._sign) if grad else None,
            cost=extra("cost", False, ()),
            constraint=limits,
            variance=None if self.strategy.continues else extra("variance", self._repeats > 1, several),
            mask=there if self.strategy.steady or self.strategy.continues else None,
            values=extra("values", bool(several), several, self._signs),
        )

    def snapshot(self) -> bytes:
        """The state as bytes; it belongs to `generation`."""
        return dump_state(self.driver.state, self.units, self.driver.growths)

    def resume(self, generation: int, data: bytes) -> None:
        """Restore a snapshot that was taken after `generation` generations.

        Raises:
            StorageError: the snapshot does not fit this strategy; the log can still rebuild the state.
        """
        snapshot = read_snapshot(data)
        if snapshot.units.shape[1] != self.space.dim:
            raise StorageError("a snapshot belongs to another space")
        with float_precision(self._x64):
            self.driver.place, self.units = self.driver.restored(snapshot, generation), snapshot.units
