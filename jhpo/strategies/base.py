"""The strategy protocol: a frozen dataclass of coefficients with pure ``init``, ``ask`` and ``tell``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.curves.rules import EarlyStop
from jhpo.strategies.declared import static_field as static_field
from jhpo.strategies.declared import strategy as strategy
from jhpo.strategies.results import Evaluation as Evaluation
from jhpo.strategies.results import Floats as Floats
from jhpo.strategies.results import Request as Request
from jhpo.strategies.results import Stages as Stages
from jhpo.strategies.results import feasible_value as feasible_value
from jhpo.strategies.results import lowest_feasible as lowest_feasible
from jhpo.strategies.results import objective_values as objective_values
from jhpo.strategies.results import warn_of_unlearnt as warn_of_unlearnt

if TYPE_CHECKING:
    from jhpo.objectives import Objectives
    from jhpo.space.space import Space

Ids = Any  # uint32[n], a jax.Array in traced code, a NumPy array on the host
State = Any  # a pytree of arrays, defined by the strategy


class Rung(NamedTuple):
    """A generation of members that are paused at its end; Python integers."""

    size: int  # members, at most
    start: int  # steps they were trained before; 0 where the generation begins new members
    stop: int  # steps at its end


class Bound(NamedTuple):
    """A strategy bound to a space, for the programs of the host."""

    strategy: Strategy
    space: Any  # the argument of its `init`: the Space, or None if the strategy knows it already
    columns: int  # of its unit rows: the space's coordinates, then padding


class Strategy:
    """Base class of strategies; `population`, `init`, `ask` and `tell` are required, the rest has defaults.

    A strategy minimises. All methods are traceable, except those marked "on the host", so a strategy runs inside
    ``jit``, ``scan`` and ``vmap``. Their arguments:

    - ``space``: the `jhpo.Space` to search; d is ``space.dim``.
    - ``state``: a pytree of arrays with fixed shapes and dtypes, defined by the strategy.
    - ``key``: ``key[]``, a new one in every call.
    - ``units``: ``float[n, d]``, points of the unit cube; the space converts them to hyperparameters.
    - ``result``: the results at ``units``, row by row.
    """

    needs_grad: ClassVar[bool] = False
    # steady: can be asked while earlier points are pending, and told any rows of a padded batch
    steady: ClassVar[bool] = False
    inside: ClassVar[bool] = False  # all points that it asks for lie in the unit cube: nothing has to clip them
    # pauses: members are paused and continued, see `rungs`
    pauses: ClassVar[bool] = False
    # evolves: its rungs have one size; a row stays the same trial, whichever row's training it takes over (`parents`)
    evolves: ClassVar[bool] = False
    # thaws: a generation trains any of the members on by one part, or begins new ones, see `members`
    thaws: ClassVar[bool] = False
    # phased: its phases have populations of their own, see `segments`
    phased: ClassVar[bool] = False
    # host_float64: runs in float64 on the host, through a local context, whatever the global setting
    host_float64: ClassVar[bool] = False
    # several: can take several objectives, `Evaluation.values` (see `for_objectives`)
    several: ClassVar[bool] = False
    # compiled_quickly: the host compiles its large programs, run a few dozen times each, with less optimisation
    compiled_quickly: ClassVar[bool] = False
    # early_stop: the rule by which it stops trials early
    early_stop: ClassVar[EarlyStop | None] = None

    @property
    def continues(self) -> bool:
        """Whether members are paused and continued, in one way or the other."""
        return self.pauses or self.thaws

    # -- required -------------------------------------------------------------------------------------------

    @property
    def population(self) -> int:
        """Number of points a single `ask` returns."""
        raise TypeError(f"{type(self).__name__} must define 'population'")

    def init(self, space: Space, key: jax.Array) -> State:
        """The state before the first generation."""
        raise TypeError(f"{type(self).__name__} must define 'init'")

    def ask(self, state: State, key: jax.Array) -> tuple[jax.Array, State]:
        """The points of the next generation.

        Args:
          state: from `init` or `tell`; a steady strategy may be asked several times in between.
          key: of this generation.

        Returns:
          ``float[population, d]`` points, and the new state.
        """
        raise TypeError(f"{type(self).__name__} must define 'ask'")

    def tell(self, state: State, units: jax.Array, result: Evaluation) -> State:
        """The state after the results of a generation.

        Args:
          state: from `ask`.
          units: the points last asked for. A steady strategy gets any rows, some of them padding (``result.mask``).
          result: their values, NaN or infinite where a member failed; with ``grad`` if `request` asked for it.

        Returns:
          The state for the next `ask`.
        """
        raise TypeError(f"{type(self).__name__} must define 'tell'")

    # -- results from elsewhere -----------------------------------------------------------------------------

    def absorb(self, state: State, units: jax.Array, result: Evaluation) -> State:
        """The state after results of points that it did not ask for: earlier trials, enqueued points, late results.

        By default a steady strategy is told them, and others keep their state; override it in a generational strategy
        that can use them. The study's best counts them in any case.

        Args:
          state: between two generations.
          units: ``float[n, d]`` for any n.
          result: their values.
        """
        return self.tell(state, units, result) if self.steady else state

    # -- what is evaluated ----------------------------------------------------------------------------------

    def request(self, state: State) -> Request:
        """On the host: what the evaluation of the coming generation has to deliver.

        Args:
          state: from `ask`; the result may depend only on its structure, so that programs do not change in a phase.
        """
        return Request(self.needs_grad, 1.0)

    def evaluation_ids(self, state: State, ids: Ids) -> Ids:
        """The ids from which the members' evaluation keys are derived; equal ids have equal randomness.

        Args:
          state: from `ask`.
          ids: ``uint32[n]``, the members' ids, new in every generation.

        Returns:
          ``uint32[n]``; by default ``ids``.
        """
        return ids

    def for_objectives(self, objectives: Objectives) -> Strategy:
        """On the host: the strategy for these objectives; itself if their number does not shape its state.

        Called with more than one only if `several` says that the strategy supports it. Values are to be minimised in
        any case; the directions matter to what the user says in values of their own, like a reference point.
        """
        return self

    def measuring(self, constraints: int) -> Any:
        """On the host: the strategy for an objective that measures so many constraints, beside those of the space.

        Itself if it need not know their number, as where members are compared, or was told a number already.
        """
        return self

    # -- members that are paused and continued ----------------------------------------------------------------

    def rungs(self, steps: int) -> tuple[Rung, ...]:
        """On the host, for a strategy that ``pauses``: the generations of one cycle, which is repeated.

        The first begins new members, and so does every other one with ``start == 0``: the first ``size`` rows that
        `ask` returns. The rows of all others continue rows of the generation before it, see `parents`. `tell` is given
        the results of the whole population, with a mask of the rows that were trained.

        Args:
          steps: length of the whole training.
        """
        raise TypeError(f"{type(self).__name__} must define 'rungs'")

    def lasting(self, steps: int) -> Any:
        """On the host: the strategy for trainings of so many steps; itself if they do not matter to it.

        Raises:
          InvalidArgument: they are too few for it.
        """
        return self

    def parents(self, state: State) -> Ids:
        """The row of the previous generation that each row continues.

        Args:
          state: as `ask` returned it, for a generation that continues members.

        Returns:
          ``int32[population]``; rows that continue nothing are -1, and come last.
        """
        raise TypeError(f"{type(self).__name__} must define 'parents'")

    # -- members that are frozen and thawed, one by one ---------------------------------------------------------

    def members(self, state: State) -> Ids:
        """For a strategy that ``thaws``: the member that each row trains; those that begin have the next numbers.

        Args:
          state: as `ask` returned it.

        Returns:
          ``int32[population]``; -1 where a row is empty.
        """
        raise TypeError(f"{type(self).__name__} must define 'members'")

    def trained(self, state: State) -> Ids:
        """The parts, ``int32[population]``, that the members of `members` were trained before; 0 for new ones."""
        raise TypeError(f"{type(self).__name__} must define 'trained'")

    # -- length of a search ---------------------------------------------------------------------------------

    def max_evaluations(self, space: Space) -> int | None:
        """On the host: the number of evaluations after which the search ends by itself (a grid does), or None."""
        return None

    def segments(self, generations: int) -> tuple[int, ...]:
        """On the host: the lengths of the phases of a run; `advance` is called between two of them.

        Args:
          generations: of the whole run, the sum of the lengths.
        """
        return (generations,)

    def advance(self, state: State) -> State:
        """The state at the start of the next phase; its structure may differ."""
        return state

    # -- histories that grow --------------------------------------------------------------------------------

    def expect(self, state: State, units: jax.Array, mask: jax.Array) -> State:
        """The state when points that it did not ask for (enqueued ones) are being evaluated; `absorb` gets the results.

        Override it to avoid asking for the same points. ``mask``, bool[n], is False in padding rows.
        """
        return state

    def withdraw(self, state: State) -> State:
        """The state when none of its points is being evaluated any more, though some were never told."""
        return state

    def prepare(self, evaluations: int) -> Any:
        """The strategy with buffers for ``evaluations`` evaluations; itself if it keeps no history."""
        return self

    def full(self, state: State) -> bool:
        """On the host: whether the buffers lack room for another generation, so that `grow` has to be called."""
        return False

    def nearly_full(self, state: State) -> bool:
        """On the host: whether to compile the program for the grown state in the background."""
        return False

    def grow(self, state: State) -> State:
        """On the host: the same state with buffers of the next size."""
        return state

    # -- programs -------------------------------------------------------------------------------------------

    def opening(self, state: State) -> Any:
        """On the host: a strategy of the same states whose smaller program asks for the coming generation, or itself.

        The whole program compiles in the background meanwhile. Only the state decides, so that a search that is
        resumed runs the same programs.
        """
        return self

    def bind(self, space: Space) -> Bound:
        """The strategy and space for the programs of the host: by default this strategy and the space itself.

        A strategy that keeps the data of the space in arrays can share programs among spaces.
        """
        return Bound(self, space, space.dim)


def default_dtype() -> jnp.dtype[Any]:
    """The dtype of the floats in a state: float32, or float64 if x64 is enabled."""
    return jnp.result_type(float)
