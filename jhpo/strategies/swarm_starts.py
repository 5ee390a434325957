"""Initial positions of particles, and restarts of swarms."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jhpo.kernels import counter_random, swarm, threefry
from jhpo.space.space import Space
from jhpo.strategies.swarm_memory import PSOState, best_of
from jhpo.strategies.swarms import places

SPREAD = 1e-12  # largest extent of a collapsed swarm in unit coordinates
_LOOKED_AT = 4  # particles checked first for a collapse
_PLACES, _RESTART = 1, 2  # folded into a generation's key


def started(
    rule: swarm.Rule,
    moved: tuple[jax.Array, jax.Array],
    space: Space,
    new: jax.Array,
    fresh: jax.Array,
    key: jax.Array,
    stay: tuple[jax.Array, jax.Array, jax.Array] | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Positions and velocities of n particles, where those without a success get initial ones.

    Args:
      rule: of the swarm; static.
      moved: positions and velocities float[n, d] of the particles with a success.
      space: where they search.
      new: bool[n], which of them get new positions.
      fresh: bool[], whether this is the first round of a swarm; later, velocities of new positions are zero.
      key: of the generation.
      stay: bool[n], which of the new ones stay where they are, and positions and velocities float[n, d] before the
        generation.
    """
    x, velocity = moved
    k_place, k_velocity = threefry.split(threefry.fold_in(key, _PLACES))
    place = places(space, k_place, x.shape[0], x.dtype, even=False)
    begin = swarm.launch(rule, counter_random.seeds(k_velocity, 1)[0], place, 0.0, 1.0)
    begin = jnp.where(fresh, begin, 0)
    if stay is not None:
        place, begin = (jnp.where(stay[0][:, None], old, now) for old, now in zip(stay[1:], (place, begin)))
    return jnp.where(new[:, None], place, x), jnp.where(new[:, None], begin, velocity)


def restarted(state: PSOState, sure: jax.Array, grows: jax.Array, key: jax.Array) -> PSOState:
    """The state after a restart if ``sure`` or if the swarm has collapsed, otherwise the state itself.

    The new swarm has twice the particles if it ``grows`` and there are rows for them; the overall best is kept.
    """
    violations = state.violations
    m = violations.shape[0]
    over = sure | swarm.collapsed(
        swarm.everywhere(state.swarm.position, state.swarm.far_position), state.active, SPREAD
    )
    unit, value = best_of(state)
    other = state._replace(
        swarm=swarm.forgotten(state.swarm, threefry.fold_in(key, _RESTART)),
        value=jnp.full_like(state.value, jnp.inf),
        violation=jnp.full_like(state.violation, jnp.inf),
        far_value=jnp.full_like(state.far_value, jnp.inf),
        far_violation=jnp.full_like(state.far_violation, jnp.inf),
        seen=jnp.zeros_like(state.seen),
        active=jnp.where(grows, jnp.minimum(2 * state.active, m), state.active).astype(jnp.int32),
        turn=jnp.zeros_like(state.turn),
        before=state.before + state.turn,
        stale=jnp.zeros_like(state.stale),
        best_unit=unit,
        best_value=value,
        best_violation=jnp.minimum(state.best_violation, violations.min()),
        restarts=state.restarts + 1,
    )
    return jax.tree.map(lambda new, old: new if new is old else jnp.where(over, new, old), other, state)


def alike(state: PSOState) -> jax.Array:
    """``bool[]``: whether the first particles are so close that the swarm may have collapsed."""
    few = state.swarm.position[:_LOOKED_AT]
    return (jnp.abs(few - few[:1]) <= SPREAD).all()
