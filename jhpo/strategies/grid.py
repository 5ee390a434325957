"""Grid search: every combination of a few values of each coordinate, in an order that covers the space early."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import check_integer, invalid
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy, default_dtype, static_field, strategy
from jhpo.strategies.blind import ignores_values

MAX_POINTS = 2**31 - 1


class GridState(NamedTuple):
    """Position in the grid."""

    space: Space  # static
    position: jax.Array  # uint32[], points proposed so far


@strategy
class GridSearch(Strategy):
    """All combinations of ``resolution`` values per continuous coordinate and all values of discrete ones.

    Continuous coordinates have evenly spaced values, including both ends if there are at least two. Points come along
    diagonals, so that a search that is stopped early has seen all values of each coordinate. After the last point
    (`max_evaluations`) the grid starts again.

    Args:
      resolution: values per continuous coordinate.
      population: points of a generation.

    Raises:
      InvalidArgument: sizes that are not positive integers, or a grid with more than 2^31 - 1 points.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "c": jhpo.Choice(["a", "b"])})
    >>> jhpo.GridSearch(resolution=3).max_evaluations(space)
    6
    """

    resolution: int = static_field(default=5)
    population: int = static_field(default=64)
    steady = True
    several = True

    def __post_init__(self) -> None:
        check_integer("resolution", self.resolution)
        check_integer("population", self.population)

    def _levels(self, space: Space) -> list[int]:
        """Number of values of each coordinate."""
        return [int(c) if c else self.resolution for c in space.cells]

    def max_evaluations(self, space: Space) -> int:
        """Number of grid points."""
        return math.prod(self._levels(space))

    def init(self, space: Space, key: jax.Array) -> GridState:
        if self.max_evaluations(space) > MAX_POINTS:
            raise invalid("resolution", f"a grid of at most {MAX_POINTS} points", self.max_evaluations(space))
        return GridState(space, jnp.zeros((), jnp.uint32))

    def ask(self, state: GridState, key: jax.Array) -> tuple[jax.Array, GridState]:
        space, dtype = state.space, default_dtype()
        levels, total = self._levels(space), self.max_evaluations(space)
        count = (state.position + jnp.arange(self.population, dtype=jnp.uint32)) % np.uint32(total)
        cells = jnp.stack(along_diagonals(count, levels), axis=-1).astype(jnp.int32)
        ends = jnp.asarray([max(size - 1, 1) for size in levels], dtype)[None]
        even = cells.astype(dtype) / ends if self.resolution > 1 else jnp.full(cells.shape, 0.5, dtype)
        units = jnp.where(jnp.asarray(space.cells > 0)[None], space.from_index(cells, dtype), even)
        return units, state._replace(position=(state.position + np.uint32(self.population)) % np.uint32(total))

    @ignores_values
    def tell(self, state: GridState, units: jax.Array, result: Evaluation) -> GridState:
        return state


def along_diagonals(count: jax.Array, levels: Sequence[int]) -> list[jax.Array]:
    """The cells of the points number ``count`` (uint32[n]): a value below each of ``levels``, uint32[n] each.

    The digits of a number in the radices ``levels``, the largest first, name a point of the grid. To each digit
    multiples of the digits before it are added, which is a bijection, and for equal prime levels the construction of
    Bush (1952): the first L^2 points have every pair of values of L coordinates. The values of one coordinate follow
    each other in steps of about the golden section, so that a few of many are spread over all.
    """
    ranked = sorted(range(len(levels)), key=lambda axis: -levels[axis])
    digits: list[jax.Array] = []
    cells, rest = [count] * len(levels), count
    for rank, axis in enumerate(ranked):
        size = np.uint32(levels[axis])
        cell = rest % size
        for power, digit in enumerate(digits):  # no product overflows: size**2 is at most the number of points
            cell = (cell + digit % size * np.uint32(pow(rank, power, levels[axis])) % size) % size
        digits.append(rest % size)
        rest = rest // size
        cells[axis] = cell * np.uint32(_stride(levels[axis])) % size
    return cells


def _stride(size: int) -> int:
    """A step through all of ``range(size)``, near its golden section if multiples of it are below 2^32."""
    wanted = max(min(round(0.618 * size), 2**32 // size), 1)
    return next(k for k in range(wanted, 0, -1) if math.gcd(k, size) == 1)
