"""Bayesian optimisation: a Gaussian process of the history and a search for the most promising next points."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jhpo.errors import invalid
from jhpo.kernels import gp_fit, gp_slopes, threefry
from jhpo.kernels.loops import in_turn
from jhpo.kernels.numerics import exact_products
from jhpo.objectives import Objectives, check_count
from jhpo.space.space import Space
from jhpo.strategies.base import Bound, Evaluation, Strategy, default_dtype, strategy, warn_of_unlearnt
from jhpo.strategies.bayes import history as past
from jhpo.strategies.bayes import model as modelling
from jhpo.strategies.bayes import suggest as asking
from jhpo.strategies.bayes.ground import Ground, columns_for, number_of_points, padded_ground
from jhpo.strategies.bayes.history import EMPTY, PENDING, bucket
from jhpo.strategies.bayes.options import BayesOptions
from jhpo.strategies.bayes.suggest import BayesState

# Rows of the first buffer where nobody says how many there will be: half of them would save a few milliseconds and
# cost a second compilation within thirty trials.
_FIRST = 64


@strategy
class BayesOpt(BayesOptions, Strategy):
    """Bayesian optimisation for one or several expensive objectives: Gaussian processes, expected improvement, batches.

    After an initial design, every `ask` fits a Gaussian process (Matern-5/2, a lengthscale per coordinate) to the
    results and maximises log expected improvement (Ament et al. 2023), averaged over fantasy values of pending trials.
    A failed trial counts as the worst value; variances from replicates are used; points that violate the space's
    constraints are never proposed. Above 20 coordinates or 1,000 trials the search keeps to a trust region. With
    ``gradients=True`` the process is also conditioned on gradients.

    With several objectives each has its own process, and the improvement is that of the hypervolume of the front of
    predicted means (Yang et al. 2019), in logarithms: exact for two and three objectives, integrated numerically for
    more; docs/objectives.md has an example.

    Everything is traceable: inside `jhpo.run` a whole study is one program, and studies run side by side under
    ``vmap``. On the host (`minimize`, `Study`) it runs in float64 and its buffers grow: 64, 128, 256, ... trials, one
    compilation each, ahead of time in the background: the first one while the initial design is evaluated. Inside `run`
    they are sized once; where a full buffer cannot grow, the oldest trials give way.

    Args:
      batch: points of an `ask`, at most 512.
      initial: points of the initial design. 0 is the default: one more than there are coordinates, at most 5 (4 with
        gradients, 8 with several objectives or measured constraints), but at least one batch.
      kernel: "matern52", "matern32", "matern12" or "rbf".
      warp: "half_rank" replaces the values worse than the median by normal scores (with gradients: compresses them by
        a smooth logarithm; with several objectives: those beyond the reference point), "none" only standardises.
      picks: "greedy" fills a batch point by point, "thompson" with the minima of functions drawn from the posterior.
      region: the trust region: "auto" (above 20 coordinates or 1,000 trials, or with gradients), "always" or "never".
        With three objectives or more "auto" is a box around a random point of the front in every second ask.
      constraints: number of constraints that the objective measures (feasible where >= 0) beside those of the space;
        each gets its own process, and expected improvement is weighted by the probability that all are met. 0 finds it
        out where `minimize`, `run` or `Study.optimize` trace the objective before they ask, and warns elsewhere.
      gradients: learn from gradients too. The model then has at most 512 rows: up to 256 values, and d for each
        gradient of the best and nearest points. For at most 256 coordinates, kernels "matern52" and "rbf", and
        picks="greedy".
      candidates: points scored before the best are polished.
      starts: points polished, the incumbent among them.
      fantasies: number of fantasy values of a pending point; 1 uses the predicted mean.
      fit_iterations: steps of L-BFGS in a fit.
      search_iterations: steps of L-BFGS in a polish.
      capacity: trials the first buffer holds; `run` sets it.
      objectives: number of objectives; set by a search with ``directions``.
      reference: with several objectives, the point up to which hypervolume counts, a number for each in the user's
        own units and signs. None chooses it anew for every ask: a tenth of the front's extent beyond its worst values,
        and three tenths of the way from there to a bad result, but near the front's best compromise while the model
        predicts left-out results badly. One ask in six looks for the front's ends, with a point beyond all results.
      signs: 1 or -1 for each objective, for a ``reference`` of which some are maximised; set like ``objectives``.

    Raises:
      InvalidArgument: an option lies outside its range, or gradients do not fit the kernel, the picks or the space.

    >>> import jhpo
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True), "kind": jhpo.Choice(["a", "b"])})
    >>> objective = lambda hp: jnp.log(hp["lr"] / 0.03) ** 2 + (hp["kind"] == 0)
    >>> result = jhpo.minimize(objective, space, jhpo.BayesOpt(), budget=20)
    >>> result.best["kind"], bool(result.value < 0.05)
    ('b', True)
    """

    steady = True
    host_float64 = True
    several = True
    compiled_quickly = True  # and no slower for it: their time goes into matrix products and transcendental functions

    @property
    def needs_grad(self) -> bool:  # type: ignore[override]
        """Whether evaluations come with gradients."""
        return self.gradients

    @property
    def population(self) -> int:
        """Points a single `ask` returns."""
        return self.batch

    def max_evaluations(self, space: Space) -> int | None:
        """Number of points of a finite space, since none is proposed twice; None for an infinite one."""
        return None if (space.cells == 0).any() else int(number_of_points(space))

    def bind(self, space: Space) -> Bound:
        """One program serves all spaces of the same kinds of parameters, sizes of dimension and buffers."""
        if type(self) is not BayesOpt or space.has_constraints:  # constraints are functions: a program of their own
            return super().bind(space)
        ground = self._ground_of(space)
        options = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Bound(GroundedBayesOpt(**options, ground=ground), None, ground.dim)

    def _ground_of(self, space: Space) -> Ground:
        if not self.gradients:
            return padded_ground(space, columns_for(space.dim), categories=self.picks == "thompson")
        # a padding column would take rows of the model from real derivatives
        self._check_slopes(space)
        return padded_ground(space, space.dim)

    def _ground(self, state: BayesState) -> Ground:
        assert state.space is not None
        return self._ground_of(state.space)

    # -- buffers --------------------------------------------------------------------------------------------

    def prepare(self, evaluations: int) -> BayesOpt:
        return dataclasses.replace(self, capacity=max(self.capacity, evaluations))

    def full(self, state: BayesState) -> bool:
        # room for a generation to absorb and one to ask
        return len(state.history.status) - int(state.used) < 2 * self.batch

    def nearly_full(self, state: BayesState) -> bool:
        rows = len(state.history.status)
        return rows - int(state.used) < 2 * self.batch + rows // 2

    def grow(self, state: BayesState) -> BayesState:
        return state._replace(history=past.grow(state.history))

    # -- protocol -------------------------------------------------------------------------------------------

    def for_objectives(self, objectives: Objectives) -> BayesOpt:
        """The strategy for so many objectives, which knows the signs of its reference point.

        Raises:
          InvalidArgument: it was made for another number of objectives, or an option does not fit several.
        """
        check_count(self.objectives, objectives)
        signs = tuple(float(s) for s in objectives.signs) if objectives.count > 1 else ()
        same = (self.objectives, self.signs) == (objectives.count, signs)
        return self if same else dataclasses.replace(self, objectives=objectives.count, signs=signs)

    def measuring(self, constraints: int) -> BayesOpt:
        known = self.constraints or not constraints
        return self if known else dataclasses.replace(self, constraints=constraints)

    def init(self, space: Space, key: jax.Array) -> BayesState:
        return self._begin(space, self._ground_of(space), key)

    def _settings(self) -> BayesOpt:
        """The strategy without arrays, for closures that outlive a trace."""
        return self

    def _begin(self, space: Space | None, ground: Ground, key: jax.Array) -> BayesState:
        if self.reference is not None and self.objectives == 1:
            raise invalid(
                "reference", "None in a search for a single objective (several have directions=)", self.reference
            )
        dtype, d, c = default_dtype(), ground.dim, self.constraints
        prior = (gp_slopes if self.gradients else gp_fit).default_prior(d, dtype, ground.count)
        zero, rows = jnp.zeros((), jnp.int32), bucket(max(self.capacity or _FIRST, 4 * self.batch))
        return BayesState(
            space=space,
            history=past.blank(rows, d, c, dtype, self._slopes(ground), self.objectives),
            used=zero,
            asked=zero,
            seed=threefry.bits(key, (d,)),
            theta=jnp.broadcast_to(prior.mean, (self.objectives + c, len(prior.mean))),
            fitted=zero,
            region=past.first_region(dtype),
        )

    @exact_products
    def ask(self, state: BayesState, key: jax.Array) -> tuple[jax.Array, BayesState]:
        ground = self._ground(state)
        history, rows = past.reserve(state.history, self.batch)
        state = state._replace(history=history)
        # studies under vmap run one after the other: their fits and polishes differ in the number of steps
        units, theta, fitted = in_turn(functools.partial(asking.suggest, self._settings()))(ground, state, rows, key)
        size = jnp.int32(history.status.shape[0])
        state = state._replace(
            history=past.add_pending(history, rows, units, state.region.epoch, state.asked),
            used=jnp.minimum(state.used + jnp.int32(self.batch), size),
            asked=state.asked + jnp.int32(self.batch),
            theta=theta,
            fitted=fitted,
        )
        return units if state.space is None else units[:, : state.space.dim], state

    @exact_products
    def tell(self, state: BayesState, units: jax.Array, result: Evaluation) -> BayesState:
        dtype, ground = state.history.units.dtype, self._ground(state)
        if state.space is not None:  # in a program of the user's own; elsewhere the host knows and says so
            warn_of_unlearnt(self, result, state.space.num_constraints)
        units = ground.widened(jnp.asarray(units))
        rows = past.told(ground, units, result, self.constraints, dtype, self._slopes(ground), self.objectives)
        history, used = past.record(state.history, state.used, rows, state.region.epoch, state.asked)
        moving = asking.local_search(self, state) & (asking.here(state) > asking.initial(self, ground))
        region = past.update_region(state.region, rows, asking.rules(self, ground), moving)
        return state._replace(history=history, used=used, region=region)

    def absorb(self, state: BayesState, units: jax.Array, result: Evaluation) -> BayesState:
        told = self.tell(state, units, result)
        return told._replace(asked=state.asked + (told.used - state.used))

    def expect(self, state: BayesState, units: jax.Array, mask: jax.Array) -> BayesState:
        ground, dtype = self._ground(state), state.history.units.dtype
        nothing = Evaluation(value=jnp.zeros(units.shape[:1], dtype), mask=mask)
        units, c, m = ground.widened(units), self.constraints, self.objectives
        rows = past.told(ground, units, nothing, c, dtype, self._slopes(ground), m)
        rows = rows._replace(status=jnp.where(mask, PENDING, EMPTY).astype(jnp.int32))
        history, used = past.record(state.history, state.used, rows, state.region.epoch, state.asked)
        return state._replace(history=history, used=used, asked=state.asked + (used - state.used))

    def withdraw(self, state: BayesState) -> BayesState:
        history, gone = past.without_pending(state.history)
        return state._replace(history=history, used=state.used - gone)

    # -- gradients ------------------------------------------------------------------------------------------

    def _slopes(self, ground: Ground) -> int:
        """Width of the gradients in the history."""
        return ground.dim if self.gradients else 0

    def _check_slopes(self, space: Space) -> None:
        if (space.cells > 0).all():
            raise invalid("space", "a continuous parameter, for a search with gradients", space.names)
        most = modelling.SLOPE_ROWS - asking.SLOPE_MODEL_ROWS
        if space.dim > most:
            raise invalid(
                "space", f"at most {most} coordinates with gradients=True (HyperGradient takes more)", space.dim
            )


@strategy
class GroundedBayesOpt(BayesOpt):
    """`BayesOpt` bound to a space by the host: the space is an array argument, its rows are padded."""

    ground: Any = None  # a Ground

    def bind(self, space: Space) -> Bound:
        return Bound(self, None, self.ground.dim)

    def init(self, space: Space | None, key: jax.Array) -> BayesState:
        return self._begin(None, self.ground, key)

    def _ground(self, state: BayesState) -> Ground:
        ground: Ground = self.ground
        return ground

    def _settings(self) -> BayesOpt:
        return dataclasses.replace(self, ground=None)

    def opening(self, state: BayesState) -> GroundedBayesOpt:
        if self.opens or not asking.needs_no_model(self, self.ground, state):
            return self
        return OpeningBayesOpt(**{field.name: getattr(self, field.name) for field in dataclasses.fields(self)})


@strategy
class OpeningBayesOpt(GroundedBayesOpt):
    """`BayesOpt` while its design lasts: the same states and points, without a model in its program."""

    opens = True
