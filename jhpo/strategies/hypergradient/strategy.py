"""Descent along hypergradients: a population of starts, each with an outer optimiser, safeguards and restarts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, check_number, invalid
from jhpo.kernels import threefry
from jhpo.kernels.cells import distinct
from jhpo.kernels.sobol import MAX_DIM, sobol
from jhpo.kernels.trees import Number
from jhpo.space.space import Space
from jhpo.strategies.base import (
    Evaluation,
    Ids,
    Strategy,
    default_dtype,
    feasible_value,
    static_field,
    strategy,
)
from jhpo.strategies.hypergradient.coordinates import COORDINATES, moved, slope
from jhpo.strategies.hypergradient.outer import Optimizer, Outer, check_outer, recipe
from jhpo.strategies.hypergradient.state import (
    SHARED,
    HyperGradientState,
    count,
    members_at,
    put_members,
    rank,
    where,
)

if TYPE_CHECKING:
    import optax

FORGET = 3  # consecutive rejections after which the optimiser's state is reset
# bounds of the factor by which a rejected step is shortened
SHORTEST, LONGEST = 0.1, 0.5


@strategy
class HyperGradient(Strategy):
    """Gradient descent in the space of hyperparameters, on gradients of the evaluation through the training.

    Each member descends on its own from a start: the space's defaults, a Sobol point, or a point from a `Chain`. Its
    steps are those of an optax optimiser, with safeguards for rough objectives
    (``docs/strategies/hypergradient.md``): a point is accepted only if it improves and its gradient is not suspiciously
    long, otherwise the member returns and takes a shorter step. A polish, the descent with one fixed seed, ends when it
    has converged or after ``max_misses`` rejections; it is repeated with a new seed from its best point, up to
    ``polishes`` times, and then the member starts elsewhere. Members compete: after ``trial`` points each, the best go
    on and the others wait.

    Integers, ordinals and categories keep the values of the start. Infeasible points are accepted by Deb's rules.

    Args:
      population: points of a generation, each evaluated with its gradient; 1 makes the most of few evaluations.
      starts: members per point of a generation.
      trial: points per start before the members compete.
      optimizer: name of an optax optimiser with a learning rate (``"adam"``, ``"sgd"``, ``"rmsprop"``, ...), a
        function of the learning rate that returns one, or a `GradientTransformation`. Equal names share a compiled
        program and can be stored; functions and transformations are compared by identity, and have to be passed to
        `Study.load` again.
      learning_rate: of the optimiser; with Adam, the fraction of a coordinate's range that a step covers. None for a
        transformation, which has its own.
      options: a dict of further arguments of the optimiser; None for optax's defaults, except b1=0.3 and b2=0.9 for
        Adam.
      coordinates: "unit", clipped at the bounds, or "logit", which never reaches them.
      max_step: longest step per coordinate.
      chaos: a point is rejected if its gradient is longer than this many times the longest accepted one.
      shrink: factor of the step length when the optimiser is reset, after three consecutive rejections.
      tolerance: step in unit coordinates below which a polish has converged.
      max_misses: consecutive rejections that end a polish.
      polishes: per start.

    Raises:
      InvalidArgument: an option outside its range, an optimiser that does not work on gradients alone, or a space
        without a continuous parameter.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-5.0, 5.0), "y": jhpo.Float(-5.0, 5.0)})
    >>> f = lambda hp: (hp["x"] - 1.0) ** 2 + 3.0 * (hp["y"] + 2.0) ** 2
    >>> bool(jhpo.minimize(f, space, jhpo.HyperGradient(2), budget=100).value < 1e-3)
    True
    """

    population: int = static_field(default=4)
    starts: int = static_field(default=2)
    trial: int = static_field(default=5)
    optimizer: Optimizer = static_field(default="adam")
    learning_rate: Number | None = 0.2
    options: Any = static_field(default=None)
    coordinates: str = static_field(default="unit")
    max_step: Number = 0.25
    chaos: Number = 10.0
    shrink: Number = 0.3
    tolerance: Number = 1e-3
    max_misses: int = static_field(default=5)
    polishes: int = static_field(default=2)
    needs_grad = True

    def __post_init__(self) -> None:
        for name in ("population", "starts", "trial", "max_misses", "polishes"):
            check_integer(name, getattr(self, name))
        optimizer, options = recipe(self.optimizer, self.options)
        object.__setattr__(self, "optimizer", optimizer)
        object.__setattr__(self, "options", options)
        if self.learning_rate is None and isinstance(optimizer, str):
            raise invalid("learning_rate", f"a number for {optimizer}", None)
        if self.learning_rate is not None:
            check_number("learning_rate", self.learning_rate, 0.0, open_low=True)
        wrong = check_outer(optimizer, options)
        if wrong is not None:
            raise invalid("optimizer", "an optimiser that works on gradients alone", wrong)
        if self.coordinates not in COORDINATES:
            raise invalid("coordinates", f"one of {COORDINATES}", self.coordinates)
        for name in ("max_step", "chaos"):
            check_number(name, getattr(self, name), 0.0, open_low=True)
        check_number("shrink", self.shrink, 0.0, 1.0, open_low=True)
        check_number("tolerance", self.tolerance, 0.0)

    @property
    def _outer(self) -> Outer:
        return Outer(self.optimizer, self.options, self.learning_rate)

    # -- protocol -------------------------------------------------------------------------------------------

    def init(self, space: Space, key: jax.Array) -> HyperGradientState:
        if (space.cells > 0).all():
            raise invalid("space", "a continuous parameter, for a strategy of gradients", space.names)
        dtype, m, d = default_dtype(), self.population * self.starts, space.dim
        middle = jnp.broadcast_to(jnp.asarray(space.default_unit(), dtype), (m, d))
        zeros, infinite = jnp.zeros((m, d), dtype), jnp.full((m,), jnp.asarray(jnp.inf, dtype))
        none = jnp.zeros((m,), jnp.int32)
        return HyperGradientState(
            space=space,
            scramble=threefry.bits(key, (d,)),
            drawn=jnp.zeros((), jnp.uint32),
            streams=jnp.asarray(m, jnp.uint32),
            rows=jnp.arange(self.population, dtype=jnp.int32),
            turns=none,
            seed=jnp.arange(m, dtype=jnp.uint32),
            unit=middle,
            given=jnp.zeros((m,), bool),
            best=middle,
            value=infinite,
            violation=infinite,
            grad=zeros,
            longest=jnp.zeros((m,), dtype),
            move=zeros,
            opt=jax.vmap(self._outer.init)(zeros),
            scale=jnp.ones((m,), dtype),
            misses=none,
            polish=none,
        )

    def ask(self, state: HyperGradientState, key: jax.Array) -> tuple[jax.Array, HyperGradientState]:
        # members on trial take turns; after them the best ones move
        tried = state.turns >= self.trial
        order = jnp.lexsort((state.value, state.violation, jnp.where(tried, 0, state.turns), tried))
        rows = order[: self.population].astype(jnp.int32)
        here = members_at(state, rows)
        fresh = jnp.isinf(here.violation) & ~here.given
        drawn = self._starts(state, state.drawn + rank(fresh), key)
        next_one = moved(self.coordinates, here.best, here.move)
        unit = jnp.where(here.given[:, None], here.unit, jnp.where(fresh[:, None], drawn, next_one))
        return unit, state._replace(
            rows=rows,
            turns=state.turns.at[rows].add(1),
            unit=state.unit.at[rows].set(unit),
            drawn=state.drawn + count(fresh),
        )

    def tell(self, state: HyperGradientState, units: jax.Array, result: Evaluation) -> HyperGradientState:
        here = members_at(state, state.rows)
        # skip members that got another start in the meantime
        stale = here.given & distinct(units - here.unit).any(axis=1)
        return self._put_told(state, state.rows, units, result, ~stale)

    def _put_told(
        self, state: HyperGradientState, rows: jax.Array, units: jax.Array, result: Evaluation, mask: jax.Array
    ) -> HyperGradientState:
        """The state after the members in ``rows`` were told ``result``, where ``mask`` says so."""
        here = members_at(state, rows)
        told = self._told(here, units, result)
        kept = {k: where(mask, getattr(told, k), v) for k, v in here._asdict().items() if k not in SHARED}
        return put_members(state, rows, told._replace(**kept))

    def _told(self, state: HyperGradientState, units: jax.Array, result: Evaluation) -> HyperGradientState:
        """The state of the members that were told, before they are put back."""
        space, dtype = state.space, state.value.dtype
        value, violation = (x.astype(dtype) for x in feasible_value(result))
        raw = jnp.full(units.shape, jnp.nan, dtype) if result.grad is None else result.grad.astype(dtype)
        descent = slope(self.coordinates, space, units, raw)
        length = jnp.sqrt(jnp.square(descent).sum(axis=1))
        fresh = jnp.isinf(state.violation)
        lower = (violation < state.violation) | ((violation == state.violation) & (value < state.value))
        calm = fresh | (length <= self.chaos * state.longest)
        taken = lower & calm & ~jnp.isinf(violation) & jnp.isfinite(raw).all(axis=1) & jnp.isfinite(length)
        shorter = self._shorter(state, value)
        misses = jnp.where(taken, 0, state.misses + 1)
        state = state._replace(
            best=jnp.where(taken[:, None], units, state.best),
            value=jnp.where(taken, value, state.value),
            violation=jnp.where(taken, violation, state.violation),
            grad=jnp.where(taken[:, None], descent, state.grad),
            longest=jnp.where(taken, jnp.maximum(length, jnp.where(fresh, 0.0, state.longest)), state.longest),
            misses=misses,
        )
        forget = ~taken & (misses == FORGET)
        scale = jnp.where(forget, state.scale * self.shrink, jnp.where(fresh, 1.0, state.scale)).astype(dtype)
        step, opt = self._step(state, fresh | forget, taken | forget, scale)
        move = jnp.where((taken | forget)[:, None], step, state.move * shorter[:, None])
        reach = jnp.abs(moved(self.coordinates, state.best, move) - state.best).max(axis=1)
        failed = fresh & ~taken
        done = ~failed & ((reach < self.tolerance) | (misses >= self.max_misses))
        again = done & (state.polish + 1 < self.polishes)
        state = state._replace(move=move, opt=opt, scale=scale)
        return self._restarted(state, units, again, failed | (done & ~again))

    def absorb(self, state: HyperGradientState, units: jax.Array, result: Evaluation) -> HyperGradientState:
        """The best points replace the worst members that they beat; before the first generation the others wait.

        Points without a gradient are evaluated in the next generation.
        """
        value, violation = (x.astype(state.value.dtype) for x in feasible_value(result))
        m = state.value.shape[0]
        k = min(units.shape[0], m)
        good = jnp.lexsort((value, violation))[:k]
        bad = jnp.lexsort((-state.value, -state.violation))[:k]
        wins = (violation[good] < state.violation[bad]) | (
            (violation[good] == state.violation[bad]) & (value[good] < state.value[bad])
        )
        untouched = (state.drawn == 0) & jnp.isinf(state.violation).all() & ~state.given.any()
        waits = untouched & (jnp.arange(m, dtype=jnp.int32) >= k)
        anew = jnp.zeros((m,), bool).at[bad].set(wins)
        best = units[good].astype(state.unit.dtype)
        rows = state.unit.at[bad].set(jnp.where(wins[:, None], best, state.unit[bad]))
        given = state.given | anew  # others go on with what they were to ask for next
        state = self._restarted(state, rows, jnp.zeros_like(anew), anew)
        state = state._replace(given=given, turns=jnp.where(waits, self.trial, state.turns))
        if result.grad is None:
            return state
        known = wins & jnp.isfinite(result.grad[good]).all(axis=1)
        told = Evaluation(value[good], result.grad[good], constraint=-violation[good][:, None])
        return self._put_told(state, bad.astype(jnp.int32), best, told, known)

    def evaluation_ids(self, state: HyperGradientState, ids: Ids) -> Ids:
        """One seed for all points of a polish."""
        return state.seed[state.rows]

    # -- parts ----------------------------------------------------------------------------------------------

    def _starts(self, state: HyperGradientState, number: jax.Array, key: jax.Array) -> jax.Array:
        """The starts ``float[n, d]`` with these numbers; number 0 is the space's defaults."""
        space, dtype = state.space, state.unit.dtype
        drawn = space.sample_unit(key, self.population, dtype)
        if space.dim <= MAX_DIM and not space.has_constraints and all(p.prior is None for p in space.parameters):
            drawn = jax.vmap(lambda i: sobol(i, 1, space.dim, state.scramble, dtype)[0])(number)
        return jnp.where((number == 0)[:, None], jnp.asarray(space.default_unit(), dtype)[None, :], drawn)

    def _shorter(self, state: HyperGradientState, value: jax.Array) -> jax.Array:
        """Factor for a rejected step: to the minimum of the parabola through value and slope at the best point."""
        slope = (state.grad * state.move).sum(axis=1)
        bend = value - state.value - slope
        factor = jnp.where((bend > 0) & jnp.isfinite(bend), -slope / (2.0 * bend), SHORTEST)
        return jnp.clip(jnp.where(jnp.isfinite(factor), factor, SHORTEST), SHORTEST, LONGEST)

    def _step(
        self, state: HyperGradientState, blank: jax.Array, moving: jax.Array, scale: jax.Array
    ) -> tuple[jax.Array, optax.OptState]:
        """The optimisers' next steps, ``float[n, d]``, and their states, initial ones where ``blank``."""
        outer = self._outer
        opt = where(blank, jax.vmap(outer.init)(state.best), state.opt)
        step, new = jax.vmap(outer.update)(state.grad, opt, state.best, state.value)
        step = jnp.clip(step * scale[:, None], -self.max_step, self.max_step)
        usable = jnp.asarray(state.space.cells == 0)[None, :] & jnp.isfinite(step)
        return jnp.where(usable, step, 0.0), where(moving, new, opt)

    def _restarted(
        self, state: HyperGradientState, units: jax.Array, again: jax.Array, anew: jax.Array
    ) -> HyperGradientState:
        """Restarts members with new seeds: ``again`` from their best point, ``anew`` from a new start."""
        over = again | anew
        return state._replace(
            streams=state.streams + count(over),
            seed=jnp.where(over, state.streams + rank(over), state.seed),
            unit=jnp.where(again[:, None], state.best, units),
            given=again,
            value=jnp.where(over, jnp.inf, state.value),
            violation=jnp.where(over, jnp.inf, state.violation),
            misses=jnp.where(over, 0, state.misses),
            # the best point is evaluated next; a new start is on trial
            turns=jnp.where(again, self.trial - 1, jnp.where(anew, 0, state.turns)),
            polish=jnp.where(again, state.polish + 1, jnp.where(anew, 0, state.polish)),
        )
