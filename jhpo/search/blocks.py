"""Blocks: many generations in one program, for evaluations that are cheaper than returning to the host."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import warn_caller
from jhpo.evaluation.chunks import is_out_of_memory
from jhpo.evaluation.cost import is_cheap
from jhpo.evaluation.evaluators import Evaluator, blank_result
from jhpo.evaluation.population import Population
from jhpo.objectives import Sign
from jhpo.process.switches import own_program
from jhpo.search.driver import Driver, Place
from jhpo.search.generations import Made, Told, alone_program, block_program
from jhpo.search.keep import Keep
from jhpo.strategies.base import Evaluation, Request, Strategy
from jhpo.training.tracing import objective_errors

BLOCK_SECONDS = 0.25  # longest block, so that progress, Ctrl-C and time limits stay prompt
_FASTER = 8  # a block has at most this many times the generations of the previous one
_NUMBERS = 2**22  # numbers that a block returns to the host
_FEW, _MOST = 4, 1024  # generations per block; up to _FEW may return eight times _NUMBERS


class Block(NamedTuple):
    """The results of g generations, and the strategy's state after them."""

    place: Place  # state of the strategy, which has asked for the last generation
    told: Told  # the last generation
    made: Made | None  # all rows; None if only the best are kept
    leaders: Made  # the best row of each generation
    lowest: np.ndarray  # float[g], value of that row, to be minimised; infinite if it is not feasible


class Blocks:
    """Runs generations of a search in blocks.

    The results do not depend on the lengths of the blocks: one program with a variable number of iterations runs all.

    Args:
        driver: of the strategy; its state is not changed.
        evaluator: of the search, one for which `possible` holds.
        sign: 1.0 to minimise, -1.0 to maximise; one per objective if there are several.
        keep: which rows are returned to the host.
    """

    def __init__(self, driver: Driver, evaluator: Population, sign: Sign, *, keep: Keep = "all") -> None:
        self.driver, self.evaluator, self.keep = driver, evaluator, keep
        self._sign = sign
        self._count, self._each = 1, 0.0  # generations of the last block, and seconds that one of them took
        self._failed = False

    @staticmethod
    def possible(driver: Driver, evaluator: Evaluator) -> bool:
        """Whether the strategy needs nothing from the host between generations and evaluations are cheap."""
        strategy = driver.strategy
        if type(strategy).grow is not Strategy.grow or strategy.host_float64 or not driver.whole:
            return False
        return is_cheap(evaluator, strategy.population, driver.root, Request(strategy.needs_grad))

    def length(self, place: Place, rows: int, room: int, seconds: float) -> int:
        """Number of generations to run now, 0 if the host has something to do first.

        Args:
            place: state of the strategy.
            rows: per generation.
            room: evaluations left in the budget.
            seconds: time left for the search.
        """
        if self._failed:
            return 0
        most = 1
        if self._each:
            within = int(min(BLOCK_SECONDS, seconds) / self._each)
            most = max(min(self._most(rows), within, _FASTER * self._count), 1)
        return min(most, -(-room // rows), self.driver.stretch(place.generation))

    def run(self, place: Place, told: Told | None, count: int, room: int, trial: int, target: float) -> Block | None:
        """Runs generations within one phase; None if there is not enough memory.

        Args:
            place: state of the strategy.
            told: results to tell it first; None before the first generation.
            count: largest number of generations, at least one.
            room: evaluations left in the budget; the last generation may count in part.
            trial: number of the first trial.
            target: a value, to be minimised, after which there is no further generation; -inf for none.
        """
        driver, evaluator, first = self.driver, self.evaluator, place.state is None
        with driver.precision():
            state = driver.blank_state() if first else place.state
            request = driver.strategy.request(state)
            told = self._blank() if told is None else told
            rows = len(told.units)
            moving = jax.device_put((state, told, np.bool_(first), driver.root))
            numbers = (
                np.uint32(place.generation), np.uint32(trial), np.int32(count), np.int32(min(room, 2**31 - 1)),
                np.asarray(self._sign, np.float32), np.float32(target),
            )  # fmt: skip
            arguments = (driver.strategy, driver.space, evaluator.on_devices(), evaluator.space, *moving, *numbers)
            try:
                with objective_errors():
                    program = block_program.compile(
                        *arguments,
                        rows=rows, most=self._most(rows), request=request,
                        replicates=evaluator.replicates, metric=evaluator.metric,
                        masked=driver.strategy.steady, keep=self.keep,
                    )  # fmt: skip
                begin = time.perf_counter()
                done, state, told, out = jax.block_until_ready(program(*arguments))
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                self._failed = True
                warn_caller("no memory for many generations in one program: they run one by one now")
                return None
            done = int(done)
            self._count, self._each = done, max((time.perf_counter() - begin) / done, 1e-6)
            made, leaders, lowest = jax.tree.map(lambda x: np.asarray(x)[:done], out)
        seen = leaders if made is None else made
        if seen.units is not None:
            driver.check_rows(seen.units)
            evaluator.warn(seen.units.reshape(-1, evaluator.space.dim), seen.result.value.reshape(-1))
        return Block(Place(state, place.generation + done, place.growths), told, made, leaders, lowest)

    def evaluate(
        self, units: np.ndarray, ids: np.ndarray, request: Request, *, rows: int | None = None, member: int = 0
    ) -> Evaluation:
        """Results of rows of a generation, as NumPy arrays with the same bits as in a block.

        Args:
            units: ``float[k, d]``.
            ids: ``uint32[k]``.
            request: of the strategy.
            rows: of the whole generation; the strategy's population if None.
            member: index of the first row in it.
        """
        population, dtype = self.evaluator, jnp.result_type(float)
        n = self.driver.strategy.population if rows is None else rows
        parts = []
        for start in range(0, len(units), n):
            take = np.clip(np.arange(n) - member + start, 0, len(units) - 1)
            arguments = (population.on_devices(), population.space, np.asarray(units[take], dtype), ids[take])
            with own_program(), objective_errors():
                result = alone_program(
                    *arguments, self.driver.root,
                    request=request, replicates=population.replicates, metric=population.metric,
                )  # fmt: skip
            kept = slice(member, member + min(n, len(units) - start))
            parts.append(jax.tree.map(lambda x, kept=kept: x[kept], jax.device_get(result)))
        result = jax.tree.map(lambda *xs: np.concatenate(xs), *parts)
        population.warn(units, result.value)
        return result

    @property
    def _objectives(self) -> int:
        return np.size(self._sign)

    def _most(self, rows: int) -> int:
        """Largest number of generations in a block."""
        values = self._objectives
        width = self.evaluator.space.dim + 2 + values
        kept = width + {"all": rows * width, "values": (2 + values) * rows, "best": 0}[self.keep]
        return max(min(_NUMBERS // kept, _MOST), min(8 * _NUMBERS // kept, _FEW), 1)

    def _blank(self) -> Told:
        """A placeholder with the structure of `Told`, for the first generation."""
        strategy, space = self.driver.strategy, self.evaluator.space
        units = np.zeros((strategy.population, space.dim), jnp.result_type(float))
        measured = self.evaluator.described.constraints
        return Told(units, blank_result(strategy, space, self.evaluator.repeats, self._objectives, measured))
