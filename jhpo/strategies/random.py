"""Random search: independent draws from the space's priors (Bergstra and Bengio 2012)."""

from __future__ import annotations

from typing import NamedTuple

import jax

from jhpo.errors import check_integer
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy, static_field, strategy
from jhpo.strategies.blind import ignores_values


class RandomState(NamedTuple):
    """The space; random search has no other state."""

    space: Space  # static


@strategy
class RandomSearch(Strategy):
    """Independent random points from the space's priors, the baseline for other strategies.

    Args:
      population: points of a generation.

    Raises:
      InvalidArgument: ``population`` is not a positive integer.

    >>> import jax, jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})
    >>> result = jhpo.minimize(lambda hp: hp["x"] ** 2, space, jhpo.RandomSearch(32), budget=128)
    >>> bool(result.value < 0.01)
    True
    """

    population: int = static_field(default=64)
    steady = True
    several = True

    def __post_init__(self) -> None:
        check_integer("population", self.population)

    def init(self, space: Space, key: jax.Array) -> RandomState:
        return RandomState(space)

    def ask(self, state: RandomState, key: jax.Array) -> tuple[jax.Array, RandomState]:
        return state.space.sample_unit(key, self.population), state

    @ignores_values
    def tell(self, state: RandomState, units: jax.Array, result: Evaluation) -> RandomState:
        return state
