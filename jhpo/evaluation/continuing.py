"""Populations whose members are paused, compacted and continued: the survivors alone are trained on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import ArrayLike

from jhpo.errors import check_integer, invalid
from jhpo.evaluation.chunks import Program, joined
from jhpo.evaluation.described import StaticValues
from jhpo.evaluation.offload import taken_on_host, to_host
from jhpo.evaluation.paused import begin_program, check_continuable, continue_program, take_program
from jhpo.evaluation.population import Population
from jhpo.evaluation.widths import planned_for, slices, slices_of_widths
from jhpo.process.lifetimes import Executable
from jhpo.process.switches import as_in_this_thread, in_own_program
from jhpo.programs.devices import fetched, least_memory, readable
from jhpo.strategies.base import Evaluation, Rung
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import State
from jhpo.training.values import release

logger = logging.getLogger("jhpo.population")


class Part(NamedTuple):
    """A stretch of a training that was made before, to be made again."""

    units: np.ndarray  # float[n, d], the hyperparameters in it
    stop: int  # step at its end; it begins where the one before it ended
    widths: np.ndarray  # int[n], of the programs that trained the members


class _Paused(NamedTuple):
    """The states of the last generation, a list of chunks for each static group."""

    step: int
    statics: list[StaticValues]
    pieces: list[list[State]]  # on the device, or as NumPy arrays
    group: np.ndarray  # int[n], of each member
    place: np.ndarray  # int[n], its row, counted through the chunks of its group


class _Wanted(NamedTuple):
    """A generation to be made: new members with ids and a root key, or those that go on from parents."""

    units: np.ndarray  # float[n, d]
    stop: int  # step at its end
    widths: np.ndarray | None  # int[n], of the programs, where a training is repeated
    ids: np.ndarray | None = None  # uint32[n]
    root: jax.Array | None = None
    parents: np.ndarray | None = None  # int[n], rows of the generation before


class Continuing:
    """Members of a population whose training is paused and continued; states stay on the device in between.

    One generation follows another. The first begins new members; each later one takes rows of the one before it (the
    survivors of a rung, or the parents of a population that evolves), perhaps with other hyperparameters, and trains
    them on. Only members that are continued are trained: they are compacted into programs of a smaller width, so that
    those that were stopped cost nothing. Where the sizes of the generations are known, widths are those that fit them
    (`jhpo.evaluation.widths.planned`), otherwise powers of two. A member's result is that of a training in one piece:
    the same bits where the widths are the same, otherwise up to rounding (see `Population`).

    States that take more than half of the device's free memory wait in the memory of the host.

    Args:
      population: trainable, space, chunks and devices.
      rungs: the generations to come, as far as they are known.

    Attributes:
      widths: ``int[n]``, of the programs that trained the last generation's members.
      steps: member-steps trained so far.
      places: the same with the places that were empty: ``steps / places`` is the share of work on live members.

    Raises:
      InvalidArgument: a trainable that cannot be paused.

    >>> import jax.numpy as jnp, jhpo
    >>> class Descent:
    ...     steps = 8
    ...     def init(self, hp, key): return jnp.float32(4.0)
    ...     def step(self, hp, w, t): return w - hp["lr"] * w
    ...     def evaluate(self, hp, w): return w**2
    >>> members = Continuing(Population(Descent(), jhpo.Space({"lr": jhpo.Float(0.0, 1.0)})))
    >>> units = np.array([[0.0], [0.5], [0.75]])
    >>> members.begin(units, np.arange(3), jax.random.key(0), 1).value.tolist()
    [16.0, 4.0, 1.0]
    >>> members.further([2, 1], units[[2, 1]], 2).value.tolist()
    [0.0625, 1.0]
    """

    def __init__(self, population: Population, rungs: Sequence[Rung] = ()) -> None:
        self.length = check_continuable(population.trainable)
        self._rungs = tuple((rung.size, rung.stop - rung.start) for rung in rungs)
        self.population, self._chunks, self._threads = population, population.chunks, population.chunks.threads
        self.widths = np.empty(0, np.int64)
        self.steps = self.places = 0
        self._paused: _Paused | None = None
        self._offloads: bool | None = None

    def begin(
        self, units: ArrayLike, ids: ArrayLike, root: jax.Array, stop: int, *, widths: np.ndarray | None = None
    ) -> Evaluation:
        """New members, trained to step ``stop`` and evaluated there; NumPy arrays.

        Args:
          units: ``float[n, d]``.
          ids: ``uint32[n]``, from which the keys are made.
          root: root key.
          stop: a step of the training, at least 1.
          widths: ``int[n]``, of the programs, where a training is repeated.
        """
        units, ids = self.population.checked(units, ids)
        if self._offloads is None:
            self._offloads = self._too_large(units)
        self._paused = None
        return self._generation(_Wanted(units, stop, widths, ids=ids, root=root))

    def further(
        self, parents: ArrayLike, units: ArrayLike, stop: int, *, widths: np.ndarray | None = None
    ) -> Evaluation:
        """Members of the last generation, trained on to step ``stop`` and evaluated there; NumPy arrays.

        Args:
          parents: ``int[m]``, rows of the last generation; one may be there several times, or not at all.
          units: ``float[m, d]``, their hyperparameters from here on.
          stop: a step of the training, after that of the last generation.
          widths: ``int[m]``, of the programs, where a training is repeated.

        Raises:
          InvalidArgument: no such rows, a step that goes back, or another value of a static parameter.
        """
        paused = self._paused
        if paused is None:
            raise invalid("parents", "rows of a generation before this one", "no generation")
        parents = np.asarray(parents, np.int64)
        units, _ = self.population.checked(units, np.zeros(len(parents), np.uint32))
        if parents.min() < 0 or parents.max() >= len(paused.group):
            raise invalid("parents", f"rows of the {len(paused.group)} members before", parents[:10].tolist())
        return self._generation(_Wanted(units, stop, widths, parents=parents))

    def again(self, parts: Sequence[Part], ids: ArrayLike, root: jax.Array) -> Evaluation:
        """Members trained once more as they were the first time, to the last bit; they are the last generation then.

        Args:
          parts: of their trainings, one after the other.
          ids: ``uint32[n]``.
          root: root key.
        """
        first, *later = parts
        result = self.begin(first.units, ids, root, first.stop, widths=first.widths)
        for part in later:
            result = self.further(np.arange(len(part.units)), part.units, part.stop, widths=part.widths)
        return result

    @in_own_program
    def states(self, rows: ArrayLike) -> list[State]:
        """Trained states of some members of the last generation, of replicate 0."""
        assert self._paused is not None
        out: list[State] = []
        for row in np.asarray(rows, np.int64).tolist():
            taken = self._take(self._paused, int(self._paused.group[row]), self._paused.place[[row]])
            out.append(release(jax.tree.map(lambda x: readable(x, self.population.mesh)[0], taken)))
        return out

    def _generation(self, wanted: _Wanted) -> Evaluation:
        before, units = self._paused, wanted.units
        start = 0 if before is None else before.step
        check_integer("stop", wanted.stop, start + 1, self.length)
        groups, population = self.population.groups(units), self.population
        if wanted.widths is None:
            # for the largest generation, also where a study goes on with a later one
            most = max(len(units), *(size for size, _ in self._rungs), 0)
            self._chunks.settle(most, population.num_groups, lambda: population.member_bytes(units[0]))

        def call() -> Any:
            return [self._group(static, rows, start, wanted) for static, rows in groups]

        made = self._chunks.within_memory(call)
        numbers = [np.full(len(rows), k) for k, (_, rows) in enumerate(groups)]
        columns = [(m[0], number, m[2], m[3]) for m, number in zip(made, numbers)]
        result, group, place, self.widths = joined(columns, [rows for _, rows in groups])
        self._paused = _Paused(wanted.stop, [static for static, _ in groups], [m[1] for m in made], group, place)
        each = (wanted.stop - start) * self.population.replicates
        self.steps += len(units) * each
        self.places += sum(width for m in made for _, width in m[4]) * each
        self.population.warn(units, result.value)
        return result

    def _group(
        self, static: StaticValues, rows: np.ndarray, start: int, wanted: _Wanted
    ) -> tuple[Evaluation, list[State], np.ndarray, np.ndarray, list[tuple[np.ndarray, int]]]:
        """Members of one static group: results, chunks of states, and each member's place and width, in their order."""
        units, stop, widths, ids, root, parents = wanted
        before = self._paused
        source = -1
        if parents is not None:
            assert before is not None
            source = next((k for k, known in enumerate(before.statics) if known == static), -1)
            if source < 0 or (before.group[parents[rows]] != source).any():
                raise invalid("units", "the static values with which the members began", static.values)
        everyone = np.arange(len(rows))
        if widths is None:
            assert self._chunks.size is not None
            # how many members of a rung are of which static group is not known
            rungs = self._rungs if self.population.num_groups == 1 else ()
            plan = planned_for(rungs, self._chunks.size, self.population.mesh, self._threads)
            parts = slices(everyone, self._chunks.size, self.population.mesh.size, self._threads, plan)
        else:
            parts = slices_of_widths(everyone, widths[rows])

        @in_own_program
        def run(part: tuple[np.ndarray, int]) -> tuple[State, Evaluation]:
            members, width = part
            padded = rows[members[np.minimum(np.arange(width), len(members) - 1)]]
            if parents is None:
                assert ids is not None and root is not None
                states = self._begun(static, units[padded], ids[padded], root)
            else:
                assert before is not None
                states = self._take(before, source, before.place[parents[padded]], spread=True)
            states, evaluation = self._trained(static, units[padded], states, (start, stop))
            evaluation = jax.tree.map(lambda x: fetched(x)[: len(members)], jax.block_until_ready(evaluation))
            return to_host(states) if self._offloads else states, evaluation

        if self._threads > 1 and len(parts) > 1:
            with ThreadPoolExecutor(min(self._threads, len(parts))) as pool:
                made = list(pool.map(as_in_this_thread(run), parts))
        else:
            made = [run(part) for part in parts]
        firsts = np.cumsum([0, *(width for _, width in parts)])
        places = [first + np.arange(len(members)) for first, (members, _) in zip(firsts, parts)]
        each = [np.full(len(members), width) for members, width in parts]
        columns = [(evaluation, *column) for (_, evaluation), *column in zip(made, places, each)]
        result, place, width = joined(columns, [members for members, _ in parts])
        return result, [states for states, _ in made], place, width, parts

    def _begun(self, static: StaticValues, units: np.ndarray, ids: np.ndarray, root: jax.Array) -> State:
        population = self.population

        def compile_it(arguments: tuple[Any, ...], options: dict[str, str] | None) -> Executable:
            with objective_errors():
                return begin_program.compile(
                    *arguments, options=options, replicates=population.replicates, static=static, mesh=population.mesh
                )

        arguments = (population.on_devices(), population.space, *population.spread(units, ids), root)
        program = Program(("begin", static), lambda *rows: rows, compile_it)
        return self._chunks.compiled(program, arguments)(*arguments)

    def _trained(
        self, static: StaticValues, units: np.ndarray, states: State, steps: tuple[int, int]
    ) -> tuple[State, Evaluation]:
        population = self.population

        def compile_it(arguments: tuple[Any, ...], options: dict[str, str] | None) -> Executable:
            population.check_same(static)
            with objective_errors():
                return continue_program.compile(
                    *arguments, options=options, replicates=population.replicates, metric=population.metric,
                    static=static, mesh=population.mesh,
                )  # fmt: skip

        (placed,) = population.spread(units)
        bounds = tuple(np.int32(step) for step in steps)
        arguments = (population.on_devices(), population.space, placed, states, *bounds)
        program = Program(("continue", static), lambda *rows: rows, compile_it)
        made: tuple[State, Evaluation] = self._chunks.compiled(program, arguments, check=True)(*arguments)
        return made

    def _take(self, paused: _Paused, group: int, places: np.ndarray, spread: bool = False) -> State:
        """States of some places of a static group, on the devices."""
        pieces, replicates = paused.pieces[group], self.population.replicates
        if self._offloads:
            taken = taken_on_host(pieces, places, replicates)
        else:
            taken = take_program(tuple(pieces), np.asarray(places, np.int32), replicates=replicates)
        return jax.tree.map(lambda x: self.population.spread(x)[0], taken) if spread else taken

    def _too_large(self, units: np.ndarray) -> bool:
        """The states of a generation would take more than half of the memory."""
        population, chunks = self.population, self._chunks
        need = population.member_bytes(units[0]) * len(units) * population.replicates / population.mesh.size
        room = chunks.memory or least_memory(population.mesh)
        if need <= room / 2:
            return False
        notice = (
            f"paused members wait in the memory of the host: their states take {need / 2**20:.1f} MiB of the "
            f"{room / 2**20:.1f} MiB that are free on a device"
        )
        logger.warning(notice)
        chunks.notices.append(notice)
        return True
