"""What a search strategy is: a frozen dataclass of coefficients with pure ``init``, ``ask`` and ``tell``."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp

from jhpo.switches import without_switches

if TYPE_CHECKING:
    from jhpo.space.space import Space

T = TypeVar("T", bound=type)


Floats = Any  # a jax.Array inside a program, a NumPy array on the host
Ids = Any  # uint32[n], likewise
State = Any  # a pytree of arrays, of the strategy's own making


class Evaluation(NamedTuple):
    """What was measured at n points. NaN or +-inf in ``value`` means that the member failed.

    With m > 1 objectives ``values`` has all of them; ``value`` is the first one, NaN where any of them is no number.
    """

    value: Floats  # float[n], to be minimised
    grad: Floats | None = None  # float[n, d], with respect to the unit coordinates
    cost: Floats | None = None  # float[n], whatever the user pays for an evaluation
    constraint: Floats | None = None  # float[n, c], feasible where >= 0
    variance: Floats | None = None  # float[n], of ``value``, from replicates; float[n, m] of ``values``
    mask: Floats | None = None  # bool[n], False where the row is padding
    values: Floats | None = None  # float[n, m], each to be minimised, where there are several objectives


class Request(NamedTuple):
    """What the next generation's evaluation should deliver; Python values, fixed between phases."""

    grad: bool = False  # also the gradient with respect to the unit coordinates
    horizon: float = 1.0  # share of the training steps to run, in (0, 1]


class Bound(NamedTuple):
    """A strategy on a space, as the host drives it."""

    strategy: Any  # a Strategy
    space: Any  # what its `init` is given: the Space, or None where the strategy knows it already
    columns: int  # of the rows that it takes and gives: the space's, then padding


def static_field(default: Any = dataclasses.MISSING) -> Any:
    """A dataclass field that shapes the program (a size, a variant) rather than a coefficient in it."""
    return dataclasses.field(default=default, metadata={"static": True})


# Methods that compute: infinity means "nothing seen yet" in a state, whatever JAX's debugging switches say.
_PROGRAMS = frozenset(("init", "ask", "tell", "absorb", "expect", "advance", "grow"))


@dataclass_transform(frozen_default=True, field_specifiers=(static_field,))
def strategy(cls: T) -> T:
    """Make a class a frozen dataclass and a pytree: plain fields are leaves, `static_field`s are structure.

    Two equal instances share one compiled program, and coefficients can be traced, vmapped and differentiated.
    """
    made: Any = dataclasses.dataclass(frozen=True)(cls)
    for name in _PROGRAMS & vars(made).keys():
        setattr(made, name, without_switches(vars(made)[name]))
    fields = dataclasses.fields(made)
    return jax.tree_util.register_dataclass(
        made,
        data_fields=[f.name for f in fields if not f.metadata.get("static")],
        meta_fields=[f.name for f in fields if f.metadata.get("static")],
    )


class Strategy:
    """Base of the strategies: the four parts each one has, and the defaults of all the others.

    A strategy minimises. Every method but those marked as host questions is traceable, so a strategy runs inside
    ``jit``, ``scan`` and ``vmap``. Their arguments mean the same everywhere:

    - ``space``: the `jhpo.Space` that is searched; d is ``space.dim``.
    - ``state``: a pytree of arrays of fixed shapes and dtypes, of the strategy's own making.
    - ``key``: ``key[]``, a fresh one in every call.
    - ``units``: ``float[n, d]``, points of the unit cube; the space turns them into hyperparameters.
    - ``result``: what was measured there, row for row.

    Required are `population`, `init`, `ask` and `tell`.
    """

    needs_grad: ClassVar[bool] = False
    # steady: may be asked while earlier points are pending, and told any rows of a padded batch
    steady: ClassVar[bool] = False
    # host_float64: the host drives it in float64, through a local context, whatever the global setting
    host_float64: ClassVar[bool] = False
    # several: can take several objectives, `Evaluation.values` (see `for_objectives`)
    several: ClassVar[bool] = False

    # -- required -------------------------------------------------------------------------------------------

    @property
    def population(self) -> int:
        """Number of points a single `ask` returns."""
        raise TypeError(f"{type(self).__name__} must define 'population'")

    def init(self, space: Space, key: jax.Array) -> State:
        """The state before the first generation."""
        raise TypeError(f"{type(self).__name__} must define 'init'")

    def ask(self, state: State, key: jax.Array) -> tuple[jax.Array, State]:
        """The next generation.

        Args:
          state: as `init` or `tell` returned it; a steady strategy is asked several times in between.
          key: of this generation.

        Returns:
          ``float[population, d]`` points, and the state that remembers them.
        """
        raise TypeError(f"{type(self).__name__} must define 'ask'")

    def tell(self, state: State, units: jax.Array, result: Evaluation) -> State:
        """What is learned from a generation.

        Args:
          state: as `ask` returned it.
          units: the points last asked for. A steady strategy gets any rows, some of them padding (``result.mask``).
          result: their values, NaN or infinite where a member failed; ``grad`` if `request` wanted it.

        Returns:
          The state for the next `ask`.
        """
        raise TypeError(f"{type(self).__name__} must define 'tell'")

    # -- results of others ----------------------------------------------------------------------------------

    def absorb(self, state: State, units: jax.Array, result: Evaluation) -> State:
        """The state after results it did not ask for: earlier trials, enqueued points, late results.

        Steady strategies learn from them as from their own; a generational strategy that can use them says so,
        the others keep their state (the study's own best still counts them).

        Args:
          state: at any time between two generations.
          units: ``float[n, d]`` for any n.
          result: their values.
        """
        return self.tell(state, units, result) if self.steady else state

    # -- what is measured -----------------------------------------------------------------------------------

    def request(self, state: State) -> Request:
        """Host question: what the coming generation's evaluation should deliver.

        Args:
          state: as `ask` returned it; only its structure may matter, so that programs stay the same within a phase.
        """
        return Request(self.needs_grad, 1.0)

    def evaluation_ids(self, state: State, ids: Ids) -> Ids:
        """The ids from which the members' evaluation keys are made: equal ids are trained with equal randomness.

        Args:
          state: as `ask` returned it.
          ids: ``uint32[n]``, the members' own: fresh ones in every generation.

        Returns:
          ``uint32[n]``; by default ``ids``.
        """
        return ids

    def for_objectives(self, count: int) -> Strategy:
        """Host question: the strategy for so many objectives; itself where their number does not shape its state.

        Asked for several only where `several` says that it can take them.
        """
        return self

    # -- how long a search is -------------------------------------------------------------------------------

    def max_evaluations(self, space: Space) -> int | None:
        """Host question: how many evaluations make sense at all, or None if there is no end (a grid has one)."""
        return None

    def segments(self, generations: int) -> tuple[int, ...]:
        """Host question: lengths of the phases of a run; `advance` is called between two of them.

        Args:
          generations: of the whole run; the lengths sum to it.
        """
        return (generations,)

    def advance(self, state: State) -> State:
        """The state at the start of the next phase; its structure may be another one."""
        return state

    # -- histories that grow --------------------------------------------------------------------------------

    def expect(self, state: Any, units: jax.Array, mask: jax.Array) -> Any:
        """The state once points are under way that it did not ask for (enqueued ones): their results come by `absorb`.

        A steady strategy that would ask for the same points says so; the others keep their state. ``mask`` bool[n] is
        False where a row is padding.
        """
        return state

    def prepare(self, evaluations: int) -> Any:
        """The strategy with its buffers sized for so many evaluations; itself if it keeps no history."""
        return self

    def full(self, state: State) -> bool:
        """Host question: the state's buffers have no room for another generation, so `grow` has to be called."""
        return False

    def nearly_full(self, state: State) -> bool:
        """Host question: it is time to compile the program for the grown state in the background."""
        return False

    def grow(self, state: State) -> State:
        """Host step: the same state with buffers of the next size."""
        return state

    # -- programs -------------------------------------------------------------------------------------------

    def bind(self, space: Space) -> Bound:
        """What the host's programs are made of: by default this strategy and the space itself.

        A strategy that holds what it has to know of a space as arrays shares its programs among many spaces.
        """
        return Bound(self, space, space.dim)


def default_dtype() -> jnp.dtype[Any]:
    """float32, or float64 where x64 is on: the dtype of every state's floats."""
    return jnp.result_type(float)


def feasible_value(result: Evaluation, xp: ModuleType = jnp) -> tuple[Floats, Floats]:
    """``float[n]`` value and violation for Deb's rules (2000): compare violations first, then values.

    Failed members have both at +inf; feasible ones violate by 0; infeasible ones by the sum of what they lack. On the
    host ``xp`` is NumPy, so that nothing is compiled.
    """
    lost = ~xp.isfinite(result.value)
    if result.mask is not None:
        lost = lost | ~result.mask
    value = xp.where(lost, xp.inf, result.value)
    if result.constraint is None or result.constraint.shape[-1] == 0:
        return value, xp.where(lost, xp.inf, xp.zeros_like(value))
    lacking = xp.where(xp.isnan(result.constraint), xp.inf, xp.maximum(-result.constraint, 0.0))
    return value, xp.where(lost, xp.inf, lacking.sum(axis=-1).astype(value.dtype))


def objective_values(result: Evaluation) -> Floats:
    """``float[n, m]``: all objectives, a single one as a column."""
    return result.value[:, None] if result.values is None else result.values


def lowest_feasible(result: Evaluation) -> tuple[jax.Array, jax.Array]:
    """``int32[]`` and ``float[]``: the feasible row of the lowest value, to be minimised, and that value.

    Infinite where no row is feasible; the row is then the first.
    """
    value, violation = feasible_value(result)
    value = jnp.where(violation > 0, jnp.inf, value)
    return jnp.argmin(value), value.min()
