"""Bayesian optimisation: a Gaussian process of the history and a search for the most promising next points."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, invalid
from jhpo.kernels import gp, gp_slopes
from jhpo.kernels.covariance import JETS, PROFILES
from jhpo.kernels.loops import in_turn
from jhpo.kernels.numerics import exact_products
from jhpo.space.space import Space
from jhpo.strategies.base import Bound, Evaluation, Strategy, default_dtype, static_field, strategy
from jhpo.strategies.bayes import fitting, thompson
from jhpo.strategies.bayes import history as past
from jhpo.strategies.bayes import model as modelling
from jhpo.strategies.bayes import search as searching
from jhpo.strategies.bayes.candidates import Box, Even, Search, design
from jhpo.strategies.bayes.ground import Ground, columns_for, padded_ground
from jhpo.strategies.bayes.history import EMPTY, History, Region, Rules, bucket
from jhpo.strategies.bayes.model import Surrogate

# The model is conditioned on at most so many rows, and its parameters are fitted to at most so many.
MODEL_ROWS, FIT_ROWS = 1024, 256
# With gradients: rows of values in the model, and points of the design.
_SLOPE_MODEL_ROWS, _SLOPE_INITIAL = 256, 4
# Beyond these the search keeps to a trust region, unless an option says otherwise.
_REGION_DIM, _REGION_ROWS = 20, 1000
# Share of points of the even design while the model predicts nothing.
_BLIND = 0.25
REGIONS = ("auto", "always", "never")
PICKS = ("greedy", "thompson")
WARPS = ("half_rank", "none")


class BayesState(NamedTuple):
    """The history in padded buffers, the parameters of the last fit, and the trust region."""

    space: Space | None  # static; None where the strategy knows the ground
    history: History  # N rows, N a power of two
    used: jax.Array  # int32[], rows in use: the first ones
    asked: jax.Array  # int32[], points asked for or absorbed so far
    seed: jax.Array  # uint32[d], d columns of the ground, scramble of the initial design
    theta: jax.Array  # float[1 + c, d + 3 (4 with gradients)], of the last fit: objective, then measured constraints
    fitted: jax.Array  # int32[], ``asked`` at the last fit
    region: Region


@strategy
class BayesOpt(Strategy):
    """Bayesian optimisation for expensive objectives: a Gaussian process, expected improvement, batches.

    An even design of a few points comes first. Then every `ask` fits a Matern-5/2 process with a lengthscale for each
    coordinate to all results (maximum a posteriori, priors that scale with the dimension: Hvarfner et al. 2024) and
    proposes the maximum of the logarithm of expected improvement (Ament et al. 2023), searched by scrambled Sobol
    points, perturbations of the best points, projected L-BFGS and the neighbours of discrete values. A batch is filled
    one point after the other; what those before it and pending trials will be worth is imagined in several ways, each
    as the posterior thinks possible, and the expected improvement averaged over them (Snoek et al. 2012).

    Integers are snapped before they enter the kernel, categories compare by equality, inactive parameters count as
    what they are: absent. Failed trials count as bad as the worst; values may be of any size and skew; variances from
    replicates are used as they are. Points that violate the space's constraints are never proposed. Above 20
    coordinates or 1,000 trials the search keeps to a trust region (Eriksson et al. 2019, "Scalable global
    optimization via local Bayesian optimization"), and above 1,024 the model is made of the best and nearest trials.

    With ``gradients=True`` evaluations come with their gradients (those of a training are hypergradients), and the
    process is conditioned on both: in d coordinates one evaluation says as much as 1 + d values (Wu et al. 2017,
    "Bayesian optimization with gradients"). Noise of the gradients is learned beside that of the values; gradients ten
    times longer than the median one count for nothing; derivatives by integers and categories are not used, their
    values are. The search keeps to a trust region from the start, which opens to the whole space at a local optimum.

    Everything is traceable: inside `jhpo.run` a whole study is one program, and studies run side by side under
    ``vmap``. On the host (`minimize`, `Study`) it runs in float64 and its buffers grow: 32, 64, 128, ... trials, one
    compilation each, the next one ahead of time in the background. Inside `run` they are sized once; where a full
    buffer cannot grow, the oldest trials give way.

    Args:
      batch: points of an `ask`, at most 512.
      initial: points of the design, 0 for the default: one more than there are coordinates, at most 8 (4 with
        gradients), or one batch.
      kernel: "matern52", "matern32", "matern12" or "rbf".
      warp: "half_rank" replaces the values worse than the median by normal scores (with gradients: compresses them by
        a smooth logarithm), "none" only standardises.
      picks: "greedy" fills a batch as described, "thompson" by functions drawn from the posterior.
      region: the trust region: "auto" (above 20 coordinates or 1,000 trials, or with gradients), "always" or "never".
      constraints: number of constraints that the objective measures (feasible where >= 0) beside those of the space;
        each gets a process of its own, and expected improvement is weighted by the probability that all are met.
      gradients: learn from gradients too. The model then holds 256 values at most, and as many gradients of the best
        and nearest points as make 512 rows with them (a gradient makes d). For at most 256 coordinates, kernels
        "matern52" and "rbf", and picks="greedy".
      candidates: points scored before the best are polished.
      starts: points polished, the incumbent among them.
      fantasies: ways in which the values of pending points are imagined; 1 for none but the predicted mean.
      fit_iterations: steps of L-BFGS in a fit.
      search_iterations: steps of L-BFGS in a polish.
      capacity: trials the first buffer holds; `run` sets it.

    Raises:
      InvalidArgument: an option lies outside its range, or gradients do not fit the kernel, the picks or the space.

    >>> import jhpo
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True), "kind": jhpo.Choice(["a", "b"])})
    >>> objective = lambda hp: jnp.log(hp["lr"] / 0.03) ** 2 + (hp["kind"] == 0)
    >>> result = jhpo.minimize(objective, space, jhpo.BayesOpt(), budget=20)
    >>> result.best["kind"], bool(result.value < 0.05)
    ('b', True)
    """

    batch: int = static_field(default=1)
    initial: int = static_field(default=0)
    kernel: str = static_field(default="matern52")
    warp: str = static_field(default="half_rank")
    picks: str = static_field(default="greedy")
    region: str = static_field(default="auto")
    constraints: int = static_field(default=0)
    gradients: bool = static_field(default=False)
    candidates: int = static_field(default=1024)
    starts: int = static_field(default=8)
    fantasies: int = static_field(default=16)
    fit_iterations: int = static_field(default=30)
    search_iterations: int = static_field(default=40)
    capacity: int = static_field(default=0)

    steady = True
    host_float64 = True

    def __post_init__(self) -> None:
        check_integer("batch", self.batch, 1, 512)
        check_integer("initial", self.initial, 0)
        check_integer("constraints", self.constraints, 0)
        check_integer("candidates", self.candidates, 64)
        check_integer("starts", self.starts, 2)
        check_integer("fantasies", self.fantasies, 1)
        check_integer("fit_iterations", self.fit_iterations)
        check_integer("search_iterations", self.search_iterations)
        check_integer("capacity", self.capacity, 0)
        if not isinstance(self.gradients, bool):
            raise invalid("gradients", "True or False", self.gradients)
        for name, allowed in (("kernel", tuple(PROFILES)), ("warp", WARPS), ("region", REGIONS), ("picks", PICKS)):
            if getattr(self, name) not in allowed:
                raise invalid(name, f"one of {allowed}", getattr(self, name))
        if self.gradients and PROFILES[self.kernel] not in JETS:
            raise invalid("kernel", "one that is smooth enough for gradients, matern52 or rbf", self.kernel)
        if self.gradients and self.picks != "greedy":
            raise invalid("picks", "'greedy' with gradients", self.picks)

    @property
    def needs_grad(self) -> bool:  # type: ignore[override]
        """Evaluations come with gradients."""
        return self.gradients

    @property
    def population(self) -> int:
        """Points a single `ask` returns."""
        return self.batch

    def max_evaluations(self, space: Space) -> int | None:
        """A finite space has an end: no point is proposed twice."""
        return None if (space.cells == 0).any() else int(space.cardinality)

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
        # every column would take rows for derivatives away from others
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
        return rows - int(state.used) < 2 * self.batch + rows // 4

    def grow(self, state: BayesState) -> BayesState:
        return state._replace(history=past.grow(state.history))

    # -- protocol -------------------------------------------------------------------------------------------

    def init(self, space: Space, key: jax.Array) -> BayesState:
        return self._begin(space, self._ground_of(space), key)

    def _begin(self, space: Space | None, ground: Ground, key: jax.Array) -> BayesState:
        dtype, d, c = default_dtype(), ground.dim, self.constraints
        prior = (gp_slopes if self.gradients else gp).default_prior(d, dtype, ground.count)
        zero = jnp.zeros((), jnp.int32)
        return BayesState(
            space=space,
            history=past.blank(bucket(max(self.capacity, 4 * self.batch)), d, c, dtype, self._slopes(ground)),
            used=zero,
            asked=zero,
            seed=jax.random.bits(key, (d,), jnp.uint32),
            theta=jnp.broadcast_to(prior.mean, (1 + c, len(prior.mean))),
            fitted=zero,
            region=past.first_region(dtype),
        )

    @exact_products
    def ask(self, state: BayesState, key: jax.Array) -> tuple[jax.Array, BayesState]:
        ground = self._ground(state)
        history, rows = past.reserve(state.history, self.batch)
        state = state._replace(history=history)
        # studies under vmap take turns: each fit and each polish ends at a step of its own
        units, theta, fitted = in_turn(self._suggest)(ground, state, rows, key)
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
        units = ground.widened(jnp.asarray(units))
        rows = past.told(ground, units, result, self.constraints, dtype, self._slopes(ground))
        history, used = past.record(state.history, state.used, rows, state.region.epoch, state.asked)
        moving = self._local(state) & (self._here(state) > self._initial(ground))
        region = past.update_region(state.region, rows, self._rules(ground), moving)
        return state._replace(history=history, used=used, region=region)

    def absorb(self, state: BayesState, units: jax.Array, result: Evaluation) -> BayesState:
        told = self.tell(state, units, result)
        return told._replace(asked=state.asked + (told.used - state.used))

    # -- gradients ------------------------------------------------------------------------------------------

    def _slopes(self, ground: Ground) -> int:
        """Width of the gradients in the history."""
        return ground.dim if self.gradients else 0

    def _check_slopes(self, space: Space) -> None:
        if (space.cells > 0).all():
            raise invalid("space", "a continuous parameter, for a search with gradients", space.names)
        most = modelling.SLOPE_ROWS - _SLOPE_MODEL_ROWS
        if space.dim > most:
            raise invalid(
                "space", f"at most {most} coordinates with gradients=True (HyperGradient takes more)", space.dim
            )

    # -- what ask chooses between ---------------------------------------------------------------------------

    def _initial(self, ground: Ground) -> jax.Array:
        """int32[]: points of the design."""
        most = _SLOPE_INITIAL if self.gradients else 8
        usual = jnp.maximum(jnp.minimum(jnp.asarray(ground.count) + 1, most), self.batch)
        return jnp.asarray(self.initial, jnp.int32) if self.initial else usual

    def _rules(self, ground: Ground) -> Rules:
        if self.gradients:
            # a model that knows the slopes is soon right, or soon known to be wrong; at a local optimum, which it
            # finds within few points, it looks elsewhere with all it knows
            return Rules(successes=2, failures=max(3, self.batch), shortest=0.2, anew=False)
        failures = jnp.maximum(jnp.asarray(ground.count), max(4, self.batch))
        return Rules(successes=3, failures=failures, shortest=0.5**7, anew=True)

    def _global(self, state: BayesState) -> bool:
        """The search never keeps to a trust region while its buffers have this size."""
        small = state.history.units.shape[1] <= _REGION_DIM and state.history.status.shape[0] <= _REGION_ROWS
        return self.region == "never" or (self.region == "auto" and small and not self.gradients)

    def _local(self, state: BayesState) -> jax.Array:
        """bool[]: the search keeps to the trust region."""
        if self._global(state):
            return jnp.zeros((), bool)
        if self.region == "auto" and not self.gradients:
            return (state.history.units.shape[1] > _REGION_DIM) | (state.asked > _REGION_ROWS)
        return jnp.ones((), bool)

    def _begins(self, ground: Ground, state: BayesState) -> jax.Array:
        """bool[]: points of the design are still to come, at the start of the search or of a region."""
        if self._global(state):
            # a count that studies side by side have in common: of the two branches only one runs
            return state.asked < self._initial(ground)
        return self._here(state) < self._initial(ground)

    def _here(self, state: BayesState) -> jax.Array:
        """int32[]: points asked for in the present trust region."""
        inside = (state.history.status != EMPTY) & (state.history.epoch == state.region.epoch)
        return jnp.sum(inside, dtype=jnp.int32)

    def _suggest(
        self, ground: Ground, state: BayesState, rows: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Points, and the parameters of the model and when they were fitted."""
        return jax.lax.cond(self._begins(ground, state), self._design, self._model, ground, state, rows, key)

    def _design(
        self, ground: Ground, state: BayesState, rows: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        units = design(ground, state.history, state.asked, state.seed, self.batch, key)
        return units, state.theta, state.fitted

    def _model(
        self, ground: Ground, state: BayesState, rows: jax.Array, key: jax.Array
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        history, profile = state.history, PROFILES[self.kernel]
        fit_key, search_key, even_key = jax.random.split(key, 3)
        local = self._local(state)
        # a region begins anew with what was asked for in it
        foreign = local & (history.epoch != state.region.epoch)
        inside = history._replace(status=jnp.where(foreign, EMPTY, history.status))
        weights = jnp.exp(-2.0 * state.theta[0, : ground.dim])
        most = _SLOPE_MODEL_ROWS if self.gradients else MODEL_ROWS
        chosen, slots = modelling.select(inside, rows, most, weights, ground)
        # the more there is, the less a few results more change the parameters
        since = state.asked - state.fitted
        refit = since * 32 >= state.asked
        # a value's gradient goes through the warp too, which has to be smooth for that
        kind = "half_log" if self.gradients and self.warp == "half_rank" else self.warp
        surrogate = Surrogate(ground, profile, kind, self.fit_iterations, FIT_ROWS, self.fantasies)
        model, theta = fitting.build(surrogate, chosen, state.theta, refit, fit_key)
        search = Search(ground, profile, self.candidates, self.starts, self.search_iterations)
        units = design(ground, history, state.asked, state.seed, self.batch, even_key)
        lot = jax.random.uniform(jax.random.fold_in(even_key, 1), (self.batch,), units.dtype)
        # where the model predicts no better than the mean it is no guide either
        blind = _BLIND * jnp.clip(2.0 * model.unexplained - 1.0, 0.0, 1.0)
        even = Even(lot < jnp.maximum(past.flatness(inside), blind), units)
        where: dict[str, Any] = {"box": self._box(ground, state, model, theta, local), "even": even, "key": search_key}
        if self.picks == "thompson":
            units = thompson.batch(search, model, history, self.batch, kernel=self.kernel, **where)
        else:
            units = searching.batch(search, surrogate, model, history, searching.Room(rows, slots), **where)
        return units, theta, jnp.where(refit, state.asked, state.fitted)

    def _box(
        self, ground: Ground, state: BayesState, model: modelling.Model, theta: jax.Array, local: jax.Array
    ) -> Box:
        """The trust region, or the whole cube: sides in proportion to the lengthscales, within a factor e of length."""
        d = ground.dim
        zero, one = jnp.zeros((d,), theta.dtype), jnp.ones((d,), theta.dtype)
        lengths = theta[0, :d]
        mean = jnp.sum(jnp.where(ground.outline.live, lengths, 0.0)) / jnp.asarray(ground.count).astype(theta.dtype)
        # a coordinate without influence has an endless lengthscale, and must not squeeze the box in all others
        half = 0.5 * state.region.length * jnp.exp(jnp.clip(lengths - mean, -1.0, 1.0))
        whole = ~local if ground.categorical is None else ~local | jnp.asarray(ground.categorical)
        low = jnp.where(whole, zero, jnp.clip(model.incumbent - half, 0.0, 1.0))
        high = jnp.where(whole, one, jnp.clip(model.incumbent + half, 0.0, 1.0))
        return Box(low, high)


@strategy
class GroundedBayesOpt(BayesOpt):
    """`BayesOpt` as the host drives it: what it knows of the space are arrays, its rows have the ground's columns."""

    ground: Any = None  # a Ground

    def bind(self, space: Space) -> Bound:
        return Bound(self, None, self.ground.dim)

    def init(self, space: Space | None, key: jax.Array) -> BayesState:
        return self._begin(None, self.ground, key)

    def _ground(self, state: BayesState) -> Ground:
        ground: Ground = self.ground
        return ground
