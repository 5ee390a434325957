"""The host side of a strategy: its state, one fused program per generation, phases and growing buffers."""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import DTypeLike

from jhpo.errors import StorageError, invalid
from jhpo.kernels.internals import float_precision
from jhpo.keys import strategy_words, words_of
from jhpo.process.forks import check_process
from jhpo.process.switches import own_program
from jhpo.programs.devices import beside_the_models, check_float64, default_devices
from jhpo.search import turns
from jhpo.search.ahead import Ahead
from jhpo.space.space import Space
from jhpo.storage.snapshot import Snapshot
from jhpo.strategies.base import Evaluation, Request, State, Strategy, warn_of_unlearnt

# More generations than any study has; phases are laid out over this many.
_FOREVER = 2**31
_MOST_GROWTHS = 48  # doublings of a buffer: more than any memory holds


class Place(NamedTuple):
    """A strategy's position in a search."""

    state: State  # of the strategy; None before the first generation
    generation: int  # generations asked for
    growths: int  # how often its buffers have grown in the phase it is in


class Driver:
    """Drives one strategy over one study.

    Every generation costs one call of one compiled program (`turn`): the results of the last generation are told
    and the next one is asked for. A strategy with `host_float64` runs in float64 through a local context, and on the
    CPU even if the default device is an accelerator, because its many small steps depend on each other. Full buffers
    grow; the program for the next size compiles in the background beforehand. So does that of a strategy whose first
    generations need a smaller one, see `Strategy.opening`.

    Args:
      strategy: proposes the points.
      space: the search space.
      root: root key of the study.

    >>> import jax, numpy as np
    >>> from jhpo import Float, RandomSearch, Space
    >>> driver = Driver(RandomSearch(4), Space({"x": Float(0.0, 1.0)}), jax.random.key(0))
    >>> driver.turn(None, Evaluation(value=np.zeros(4, np.float32))).shape
    (4, 1)
    """

    def __init__(self, strategy: Strategy, space: Space, root: jax.Array) -> None:
        self.strategy, self.space, self._columns = strategy.bind(space)
        self.root, self._words, self._dim = root, words_of(root), space.dim
        self._own, self._warned = space.num_constraints, False
        self._begin = strategy_words(root, None, self._words)
        with self.precision():
            if strategy.host_float64:
                name, cpu = type(strategy).__name__, "jax.default_device(jax.devices('cpu')[0]) drives it on the CPU"
                check_float64(default_devices()[0], f"{name}, which a host drives in float64", cpu)
        self.state: State = None
        self.generation = 0  # number of generations asked for
        self.growths = 0  # how often the buffers have grown in this phase
        self._boundaries = set(itertools.accumulate(strategy.segments(_FOREVER)[:-1]))
        self.ahead = Ahead(self.precision)

    def precision(self) -> contextlib.AbstractContextManager[Any]:
        """The context in which the strategy's programs run."""
        stack = contextlib.ExitStack()
        stack.enter_context(own_program())
        if self.strategy.host_float64:
            stack.enter_context(float_precision(True))
            stack.enter_context(beside_the_models())
        return stack

    @functools.cached_property
    def _opens(self) -> bool:
        """Whether a smaller program asks for the first generations."""
        return self.strategy.opening(self.blank_state()) is not self.strategy

    @property
    def whole(self) -> bool:
        """Whether the strategy works on the space's own columns, without padding."""
        return self._columns == self._dim

    def stretch(self, generation: int) -> int:
        """Number of generations from the given one on until a phase begins; 0 if it begins one."""
        return min((b for b in self._boundaries if b >= generation), default=_FOREVER) - generation

    def blank_state(self) -> Any:
        """Zeros in the structure of the strategy's first state."""
        return turns.blank_state(self.strategy, self.space, self.root)

    @property
    def place(self) -> Place:
        """The strategy's position; assign to it to go back."""
        return Place(self.state, self.generation, self.growths)

    @place.setter
    def place(self, place: Place) -> None:
        self.state, self.generation, self.growths = place

    def restored(self, snapshot: Snapshot, generation: int) -> Place:
        """The `Place` of a state stored after `generation` generations; the driver itself does not change.

        Raises:
          StorageError: the state does not fit this strategy.
        """
        with self.precision():
            template = turns.blank_state(self.strategy, self.space, self.root)
            for boundary in sorted(self._boundaries):
                if boundary < generation:
                    template = turns.blank(jax.eval_shape(self.strategy.advance, template))
            growths = 0
            while growths != snapshot.growths and not (snapshot.growths is None and snapshot.fits(template)):
                grown = jax.eval_shape(self.strategy.grow, template)
                if growths == _MOST_GROWTHS or jax.tree.map(np.shape, grown) == jax.tree.map(np.shape, template):
                    raise StorageError("a snapshot has other buffers than this strategy's state")
                template, growths = grown, growths + 1
            return Place(snapshot.state(template), generation, growths)

    @property
    def request(self) -> Request:
        """What the evaluation of the generation last asked for should deliver."""
        return self.strategy.request(self.state)

    def evaluation_ids(self, ids: np.ndarray) -> np.ndarray:
        """Ids from which the keys of the last generation's members are made."""
        with self.precision():
            return np.asarray(self.strategy.evaluation_ids(self.state, np.asarray(ids, np.uint32)))

    def turn(self, units: np.ndarray | None, result: Evaluation) -> np.ndarray:
        """Tell ``result`` of the last ``units`` and ask for the next generation, ``float[n, d]``.

        The first call passes None for ``units`` and a result whose structure alone matters.
        """
        check_process()
        with self.precision():
            first = self.state is None
            if first:
                self.state = turns.blank_state(self.strategy, self.space, self.root)
            elif self.generation in self._boundaries:
                return self._cross(np.asarray(units), result)
            self._make_room()
            return self._turned(units, result, first)

    def _turned(self, units: np.ndarray | None, result: Evaluation, first: bool, learn: bool = True) -> np.ndarray:
        """`turn` by the program that the state needs; without `learn` nothing is told."""
        told, opening = np.bool_(learn) if self._opens else None, self.strategy.opening(self.state)
        rows = np.zeros((len(result.value), self._dim)) if units is None else units
        results, keys = self._told(rows, result), (self._begin, self._key())
        # what an opening has started the whole program need not start
        rest = (*results, None if self._opens else np.bool_(first), *keys, told)
        if opening is self.strategy:
            arguments = (self.strategy, self.space, self.state, *rest)
        else:
            self.ahead.compile(self.strategy, self.space, self.state, *rest)
            arguments = (opening, self.space, self.state, *results, np.bool_(first), *keys, told)
        asked, self.state = self.ahead.program(arguments)(*arguments)
        self.generation += 1
        if self.strategy.nearly_full(self.state):
            self.ahead.compile(self.strategy, self.space, jax.eval_shape(self.strategy.grow, self.state), *rest)
        return self._rows(asked)

    def tell(self, units: np.ndarray, result: Evaluation) -> None:
        """Tell results without asking for more (the end of a phase, or a study that is told first)."""
        with self.precision():
            self._ensure()
            self.state = turns.tell_program(self.strategy, self.state, *self._told(units, result))

    def ask(self, like: Evaluation) -> np.ndarray:
        """Ask without telling. ``like`` is of the structure of results: one program may serve both."""
        check_process()
        with self.precision():
            self._ensure()
            if self.generation in self._boundaries:
                self.state, self.growths = turns.advance_program(self.strategy, self.state), 0
            self._make_room()
            if self._opens:
                return self._turned(None, like, False, learn=False)
            asked, self.state = turns.ask_program(self.strategy, self.state, self._key())
            self.generation += 1
            return self._rows(asked)

    def absorb(self, units: np.ndarray, result: Evaluation) -> None:
        """Tell results the strategy did not ask for: earlier trials, enqueued points, late results."""
        with self.precision():
            self._ensure()
            self._make_room()
            self.state = turns.absorb_program(self.strategy, self.state, *self._told(units, result))

    def expect(self, units: np.ndarray, mask: np.ndarray) -> None:
        """Announce pending points the strategy did not ask for; ``mask`` is False where a row is padding."""
        with self.precision():
            self._ensure()
            self._make_room()
            told, _ = self._told(units, Evaluation(value=np.zeros(len(units))))
            self.state = turns.expect_program(self.strategy, self.state, told, mask)

    def started(self) -> Request:
        """The request of the current phase; initialises the strategy if needed."""
        with self.precision():
            self._ensure()
        return self.request

    def _key(self) -> Any:
        """Words of the key of the generation that is asked for next."""
        return strategy_words(self.root, self.generation, self._words)

    def _ensure(self) -> None:
        if self.state is None:
            self.state = turns.init_program(self.strategy, self.space, self._begin)

    def _told(self, units: np.ndarray, result: Evaluation) -> tuple[np.ndarray, Evaluation]:
        """Units and results in the strategy's dtype, padded to its columns."""
        self._warned = self._warned or warn_of_unlearnt(self.strategy, result, self._own)
        result = _with_measured(result, self._own, getattr(self.strategy, "constraints", 0))
        dtype, missing = jnp.result_type(float), self._columns - self._dim
        if missing:
            units = np.pad(units, [(0, 0), (0, missing)], constant_values=0.5)
            grad = None if result.grad is None else np.pad(result.grad, [(0, 0), (0, missing)])
            result = result._replace(grad=grad)
        return np.asarray(units, dtype), as_dtype(result, dtype)

    def _rows(self, asked: jax.Array) -> np.ndarray:
        """`asked` as a NumPy array without padding columns.

        Raises:
          InvalidArgument: the strategy asks for points of another space, or outside the unit cube.
        """
        rows = np.asarray(asked)
        self.check_rows(rows, self._columns)
        return rows[:, : self._dim]

    def check_rows(self, rows: np.ndarray, columns: int | None = None) -> None:
        """Raises `InvalidArgument` unless rows, ``float[..., columns]``, are points of the unit cube."""
        columns = self._dim if columns is None else columns
        if rows.shape[-1] != columns or not (rows.min(initial=0.0) >= 0 and rows.max(initial=0.0) <= 1):
            inside = ((rows >= 0) & (rows <= 1)).all(-1)
            one = rows[~inside][0] if rows.shape[-1] == columns else rows
            name = type(self.strategy).__name__
            expected = f"points of the unit cube from {name}.ask, float[n, {self._dim}] in [0, 1]"
            raise invalid("strategy", expected, one, note="jnp.clip(units, 0.0, 1.0) takes the nearest ones")

    def _make_room(self) -> None:
        while self.strategy.full(self.state):
            self.state = self.strategy.grow(self.state)
            self.growths += 1

    def _cross(self, units: np.ndarray, result: Evaluation) -> np.ndarray:
        """Enter the next phase: tell, advance and ask in one program."""
        self._make_room()
        asked, self.state = turns.cross_program(self.strategy, self.state, *self._told(units, result), self._key())
        self.growths = 0
        self.generation += 1
        return self._rows(asked)

    def live_parents(self) -> np.ndarray:
        """``int64[k]``: rows of the last generation that the generation asked for continues."""
        with self.precision():
            parents = np.asarray(self.strategy.parents(self.state), np.int64)
        return parents[parents >= 0]

    def thawed(self) -> tuple[np.ndarray, np.ndarray]:
        """The members that the generation asked for trains, and how many parts they were trained before.

        Returns:
            ``int64[n]`` each; -1 and 0 where a row is empty.
        """
        with self.precision():
            members, parts = (np.asarray(x, np.int64) for x in turns.thawed_program(self.strategy, self.state))
        return members, np.where(members >= 0, parts, 0)


def _with_measured(result: Evaluation, own: int, measured: object) -> Evaluation:
    """The result with NaN for measured constraints that it lacks: it failed, or is the blank one before the first.

    Results of one structure need one program, which compiles while the first points are evaluated.
    """
    known = result.constraint
    if not (isinstance(measured, int) and measured) or (known is not None and known.shape[1] != own):
        return result
    known = np.full((len(result.value), own), np.nan) if known is None else known
    return result._replace(constraint=np.pad(known, [(0, 0), (0, measured)], constant_values=np.nan))


def as_dtype(result: Evaluation, dtype: DTypeLike) -> Evaluation:
    """A result as NumPy arrays of the strategy's dtype (masks stay boolean)."""
    made: Evaluation = jax.tree.map(lambda x: np.asarray(x, dtype), result._replace(mask=None, stages=None))
    return made._replace(mask=None if result.mask is None else np.asarray(result.mask, np.bool_))
