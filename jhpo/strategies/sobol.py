"""Quasi-random search by an Owen-scrambled Sobol sequence."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jhpo.errors import check_integer, invalid
from jhpo.kernels import threefry
from jhpo.kernels.sobol import MAX_DIM, sobol
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy, default_dtype, static_field, strategy
from jhpo.strategies.blind import ignores_values


class SobolState(NamedTuple):
    """Position in the sequence."""

    space: Space  # static
    seed: jax.Array  # uint32[d], the scramble
    position: jax.Array  # uint32[], points proposed so far


@strategy
class SobolSearch(Strategy):
    """A scrambled Sobol sequence over the unit cube (Owen 1995), which is more evenly spread than random points.

    Infeasible points of a constrained space are replaced by random feasible ones. Priors are ignored.

    Args:
      population: points of a generation; powers of two keep every generation balanced.

    Raises:
      InvalidArgument: ``population`` is not a positive integer; at `init`, a space with more than 1,024 coordinates.

    >>> import jax, jhpo
    >>> strategy = jhpo.SobolSearch(4)
    >>> state = strategy.init(jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), jax.random.key(0))
    >>> units, state = strategy.ask(state, jax.random.key(1))
    >>> sorted(int(4 * u) for u in units[:, 0])
    [0, 1, 2, 3]
    """

    population: int = static_field(default=64)
    steady = True
    several = True

    def __post_init__(self) -> None:
        check_integer("population", self.population)

    def init(self, space: Space, key: jax.Array) -> SobolState:
        if space.dim > MAX_DIM:
            raise invalid("space", f"at most {MAX_DIM} coordinates for a Sobol sequence", space.dim)
        return SobolState(space, threefry.bits(key, (space.dim,)), jnp.zeros((), jnp.uint32))

    def ask(self, state: SobolState, key: jax.Array) -> tuple[jax.Array, SobolState]:
        n, space = self.population, state.space
        units = sobol(state.position, n, space.dim, state.seed, default_dtype())
        if space.has_constraints:
            feasible = (space.unit_constraint(units) >= 0).all(axis=-1)
            units = jnp.where(feasible[:, None], units, space.sample_unit(key, n))
        return units, state._replace(position=state.position + jnp.uint32(n))

    @ignores_values
    def tell(self, state: SobolState, units: jax.Array, result: Evaluation) -> SobolState:
        return state
