"""Large batches by Thompson sampling: every point is the best candidate under a function drawn from the posterior."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.kernels import pathwise, threefry
from jhpo.kernels.cells import distinct
from jhpo.strategies.bayes import candidates as pools
from jhpo.strategies.bayes.history import History
from jhpo.strategies.bayes.model import Model
from jhpo.strategies.bayes.randomness import Randomness
from jhpo.strategies.bayes.search import chance

# Penalty, in units of the targets, per unit of log probability of feasibility below one half.
_PENALTY = 10.0


def batch(
    search: pools.Search,
    model: Model,
    history: History,
    q: int,
    *,
    kernel: str,
    box: pools.Box,
    even: pools.Even,
    random: Randomness,
) -> jax.Array:
    """``q`` different points, each the lowest candidate of one posterior function (Eriksson et al. 2019). float[q, d]

    Args:
        search: the space and options of the search.
        model: the fitted model.
        history: the whole history, which holds the known points.
        q: number of points.
        kernel: name of the profile.
        box: bounds of the points.
        even: space-filling points that may replace the model's.
        random: the random choices.
    """
    ground = search.ground
    dtype = model.incumbent.dtype
    drawn = pools.draws(search, random.search, pools.number_of_candidates(search, model), dtype)
    pool_key, path_key = threefry.split(random.key)
    candidates = pools.pool(search, model, drawn, pool_key, box)
    points = ground.points_of(candidates)
    noise = jnp.broadcast_to(model.posterior.parameters.noise, model.posterior.mask.shape)
    paths = pathwise.draw(model.posterior, noise, path_key, q, ground.choices, kernel=kernel)
    values = pathwise.evaluate(paths, model.posterior, points, ground.choices, kernel=kernel)  # [q, m]
    feasible = jax.vmap(lambda p: chance(search, model, p))(points)
    if feasible is not None:
        values = values + _PENALTY * jnp.maximum(float(np.log(0.5)) - feasible, 0.0)[None, :]
    barred = ~ground.admissible(candidates) | pools.known(candidates, history)
    even = even._replace(wanted=even.wanted & ~pools.known(even.units, history))

    def same(unit: jax.Array) -> jax.Array:
        return ~distinct(candidates - unit[None, :]).any(axis=1)

    def one(taken: jax.Array, at: tuple[jax.Array, pools.Even]) -> tuple[jax.Array, jax.Array]:
        value, even = at
        # taken points only when nothing else is left, infeasible ones last of all
        rank = jnp.where(barred, jnp.inf, jnp.where(taken, 1e20, value))
        unit = jnp.where(even.wanted, even.units, candidates[jnp.argmin(rank)])
        return taken | same(unit), unit

    taken = jnp.any(jax.vmap(same)(even.units) & even.wanted[:, None], axis=0)
    return jax.lax.scan(one, taken, (values, even))[1]
