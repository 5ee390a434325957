"""An `ask` of BayesOpt: points of the design or of the model, in the whole space or in a trust region."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import counter_random
from jhpo.kernels.covariance import PROFILES
from jhpo.space.space import Space
from jhpo.strategies.bayes import fitting, thompson
from jhpo.strategies.bayes import history as past
from jhpo.strategies.bayes import model as modelling
from jhpo.strategies.bayes import search as searching
from jhpo.strategies.bayes.candidates import Box, Even, Search, design
from jhpo.strategies.bayes.front import Front, front_rows
from jhpo.strategies.bayes.ground import Ground
from jhpo.strategies.bayes.history import EMPTY, History, Region, Rules
from jhpo.strategies.bayes.model import Surrogate
from jhpo.strategies.bayes.options import BayesOptions
from jhpo.strategies.bayes.randomness import Randomness, randomness

# The model is conditioned on at most so many rows, and its parameters are fitted to at most so many.
MODEL_ROWS, FIT_ROWS = 1024, 256
# Rows of values in the model with gradients.
SLOPE_MODEL_ROWS = 256
# Most points of a design: with gradients, of one value, and of several or with measured constraints. A model of five
# values asks for better points than a design has, and is no worse later.
_SLOPE_INITIAL, _INITIAL, _SEVERAL_INITIAL = 4, 5, 8
# Beyond these the search keeps to a trust region, unless an option says otherwise.
_REGION_DIM, _REGION_ROWS = 20, 1000
# Share of space-filling points while the model predicts nothing, and while its predictions are worse than the mean.
_BLIND, _MISLED = 0.25, 0.75
# With so many objectives or more one ask in so many keeps to a box around a point of the front, so far to each side, as
# long as left-out results are predicted with an error of more than this share of their variance: a model that knows
# the whole space needs no box.
_MANY, _LOCAL, _NEAR, _UNSURE = 3, 2, 0.2, 0.03
# One ask in so many, a multiple of _LOCAL, doubts what the others take for granted. It looks for the front's ends: its
# reference point lies beyond all results, as one between the front and what was seen has no room for ends that nobody
# has seen. Where the user has given the reference point, it supposes shorter lengthscales, see `fitting`.
_DOUBTS = 6


class BayesState(NamedTuple):
    """The history in padded buffers, the parameters of the last fit, and the trust region."""

    space: Space | None  # static; None where the strategy knows the ground
    history: History  # N rows, N a power of two
    used: jax.Array  # int32[], rows in use: the first ones
    asked: jax.Array  # int32[], points asked for or absorbed so far
    seed: jax.Array  # uint32[d], d columns of the ground, scramble of the initial design
    theta: jax.Array  # float[m + c, d + 3 (4 with gradients)], of the last fit: objectives, then measured constraints
    fitted: jax.Array  # int32[], ``asked`` at the last fit
    region: Region


def initial(options: BayesOptions, ground: Ground) -> jax.Array:
    """int32[]: points of the design."""
    return jnp.asarray(_designed(options, jnp.asarray(ground.count), jnp.minimum, jnp.maximum), jnp.int32)


def _designed(options: BayesOptions, count: Any, low: Callable[..., Any], high: Callable[..., Any]) -> Any:
    several = options.objectives > 1 or options.constraints > 0
    most = _SLOPE_INITIAL if options.gradients else _SEVERAL_INITIAL if several else _INITIAL
    return options.initial or high(low(count + 1, most), options.batch)


def needs_no_model(options: BayesOptions, ground: Ground, state: BayesState) -> bool:
    """On the host: whether the next points are those of the design."""
    return _global(options, state) and int(state.asked) < _designed(options, int(ground.count), min, max)


def rules(options: BayesOptions, ground: Ground) -> Rules:
    """When the trust region changes."""
    if options.gradients:
        # with gradients the model is soon accurate and soon at a local optimum; then the region opens, and the model
        # keeps all results
        return Rules(successes=2, failures=max(3, options.batch), shortest=0.2, anew=False)
    failures = jnp.maximum(jnp.asarray(ground.count), max(4, options.batch))
    return Rules(successes=3, failures=failures, shortest=0.5**7, anew=True)


def _global(options: BayesOptions, state: BayesState) -> bool:
    """Whether the search covers the whole space as long as its buffers have this size."""
    if options.objectives > 1:
        return True  # a front has no one best point to centre a region on
    small = state.history.units.shape[1] <= _REGION_DIM and state.history.status.shape[0] <= _REGION_ROWS
    return options.region == "never" or (options.region == "auto" and small and not options.gradients)


def local_search(options: BayesOptions, state: BayesState) -> jax.Array:
    """bool[]: whether the search keeps to the trust region."""
    if _global(options, state):
        return jnp.zeros((), bool)
    if options.region == "auto" and not options.gradients:
        return (state.history.units.shape[1] > _REGION_DIM) | (state.asked > _REGION_ROWS)
    return jnp.ones((), bool)


def _begins(options: BayesOptions, ground: Ground, state: BayesState) -> jax.Array:
    """bool[]: whether the design is unfinished, at the start of the search or of a region."""
    if _global(options, state):
        # this count is equal in all studies under vmap, so only one branch runs
        return state.asked < initial(options, ground)
    return here(state) < initial(options, ground)


def here(state: BayesState) -> jax.Array:
    """int32[]: points asked for in the current trust region."""
    inside = (state.history.status != EMPTY) & (state.history.epoch == state.region.epoch)
    return jnp.sum(inside, dtype=jnp.int32)


def suggest(
    options: BayesOptions, ground: Ground, state: BayesState, rows: jax.Array, key: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The new points, the model's parameters, and the number of points asked for when they were fitted."""
    random = randomness(key)
    # also a model's points are now and then those of the even design
    units = design(ground, state.history, state.asked, state.seed, options.batch, random)
    if options.opens:
        return units, state.theta, state.fitted
    return jax.lax.cond(
        _begins(options, ground, state),
        lambda units, ground, state, rows, random: (units, state.theta, state.fitted),
        functools.partial(_model, options),
        units,
        ground,
        state,
        rows,
        random,
    )


def _model(
    options: BayesOptions,
    units: jax.Array,
    ground: Ground,
    state: BayesState,
    rows: jax.Array,
    random: Randomness,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    history, profile = state.history, PROFILES[options.kernel]
    local = local_search(options, state)
    # a region uses only the points that were asked for in it
    foreign = local & (history.epoch != state.region.epoch)
    inside = history._replace(status=jnp.where(foreign, EMPTY, history.status))
    weights = jnp.exp(-2.0 * state.theta[0, : ground.dim])
    most = SLOPE_MODEL_ROWS if options.gradients else MODEL_ROWS
    chosen, slots = modelling.select(inside, rows, most, weights, ground)
    # refit when the history has grown by 1/32
    since = state.asked - state.fitted
    refit = since * 32 >= state.asked
    # gradients go through the warp too, so it has to be smooth
    kind = "half_log" if options.gradients and options.warp == "half_rank" else options.warp
    aim = None if options.reference is None else np.asarray(options.reference) * np.asarray(options.signs or 1.0)
    turn = state.asked // options.batch
    doubts: dict[str, jax.Array] = {}
    if options.objectives > 1:
        doubts = {"ends" if aim is None else "shorter": turn % _DOUBTS == _LOCAL}
    surrogate = Surrogate(ground, profile, kind, options.fit_iterations, FIT_ROWS, options.fantasies, aim, **doubts)
    model, theta = fitting.build(surrogate, chosen, state.theta, refit, random)
    search = Search(ground, profile, options.candidates, options.starts, options.search_iterations)
    lot = counter_random.uniform(random.lot, (options.batch + 1,), units.dtype)
    blind = blindness(model.unexplained)
    even = Even(lot[:-1] < jnp.maximum(past.flatness(inside), blind), units)
    box = _box(ground, state, model, theta, local)
    if isinstance(model.best, Front) and options.objectives >= _MANY and options.region == "auto":
        near = (turn % _LOCAL == _LOCAL - 1) & (model.unexplained > _UNSURE)
        box = around(ground, model.posterior.points.x[0], model.best, lot[-1], near)
    where: dict[str, Any] = {"box": box, "even": even, "random": random}
    if options.picks == "thompson":
        units = thompson.batch(search, model, history, options.batch, kernel=options.kernel, **where)
    else:
        units = searching.batch(search, surrogate, model, history, searching.Room(rows, slots), **where)
    return units, theta, jnp.where(refit, state.asked, state.fitted)


def blindness(unexplained: jax.Array) -> jax.Array:
    """float[]: the share of space-filling points beside a model that leaves so much of the variance unexplained.

    A model that predicts no better than the mean gives no direction. One that predicts worse, as on white noise, takes
    chance for a direction, and without such points would look for the optimum in one corner.
    """
    nothing = jnp.clip(2.0 * unexplained - 1.0, 0.0, 1.0)
    worse = jnp.clip(4.0 * unexplained - 4.0, 0.0, 1.0)
    return _BLIND * nothing + (_MISLED - _BLIND) * worse


def around(ground: Ground, units: jax.Array, front: Front, lot: jax.Array, near: jax.Array) -> Box:
    """A box around a random point of the front, or the whole cube.

    The uncertainty of a model is largest at the corners of a cube. From a front that they are far from dominating the
    search would go there again and again, where the model learns nothing about the inside.

    Args:
        units: float[N, d], the rows. lot: float[] in [0, 1), selects the point. near: bool[], False for the whole cube.
    """
    among = front_rows(front)
    at = np.arange(among.shape[0])  # a sum for each row: a cumulative one takes ten times as long to compile
    number = jnp.sum((at[None, :] <= at[:, None]) & among[None, :], axis=1, dtype=jnp.int32)
    row = jnp.argmax(number > (lot * number[-1].astype(lot.dtype)).astype(jnp.int32))
    whole = jnp.broadcast_to(~near | (number[-1] == 0), units.shape[1:])
    if ground.categorical is not None:
        whole = whole | jnp.asarray(ground.categorical)
    low, high = (jnp.clip(units[row] + side, 0.0, 1.0) for side in (-_NEAR, _NEAR))
    return Box(jnp.where(whole, 0.0, low), jnp.where(whole, 1.0, high))


def _box(ground: Ground, state: BayesState, model: modelling.Model, theta: jax.Array, local: jax.Array) -> Box:
    """The trust region, or the whole cube: sides in proportion to the lengthscales, within a factor e of length."""
    d = ground.dim
    zero, one = jnp.zeros((d,), theta.dtype), jnp.ones((d,), theta.dtype)
    lengths = theta[0, :d]
    mean = jnp.sum(jnp.where(ground.outline.live, lengths, 0.0)) / jnp.asarray(ground.count).astype(theta.dtype)
    # clipped, because the huge lengthscale of an irrelevant coordinate would shrink the box in the others
    half = 0.5 * state.region.length * jnp.exp(jnp.clip(lengths - mean, -1.0, 1.0))
    whole = ~local if ground.categorical is None else ~local | jnp.asarray(ground.categorical)
    low = jnp.where(whole, zero, jnp.clip(model.incumbent - half, 0.0, 1.0))
    high = jnp.where(whole, one, jnp.clip(model.incumbent + half, 0.0, 1.0))
    return Box(low, high)
