"""The space of a Bayesian search as arrays of few distinct shapes, so that one program serves many spaces."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from jhpo.errors import InvalidSpace
from jhpo.kernels.covariance import Points
from jhpo.kernels.pathwise import Choices
from jhpo.kernels.sobol import MAX_DIM
from jhpo.space import outline as rows
from jhpo.space.codec import batched
from jhpo.space.outline import Array, Outline
from jhpo.space.outlining import class_of, exact_outline, padded_outline
from jhpo.space.space import Space

# Discrete coordinates with more cells than this are also moved by the gradient, and take steps instead of all values.
MANY_CELLS = 8
# Changes tried at a time.
FLIPS = 8
# Choices with more cells than this take steps too.
_LISTED = 64
# Finite spaces with at most so many points are searched completely.
_ENUMERABLE = 2048
# Columns of padded rows, then multiples of the last. A search keeps to a trust region above 20 coordinates.
_COLUMNS = (4, 8, 12, 20, 32, 64, 128)


class Flips(NamedTuple):
    """Every change of one discrete coordinate that a search tries; f is a multiple of `FLIPS`."""

    coordinate: Array  # int32[f], d where it is padding
    amount: Array  # float[f], unit coordinate or step
    step: Array  # bool[f]
    number: Array  # int32[], before padding begins


class Ground(NamedTuple):
    """A space as the search sees it. Rows have ``dim`` columns; those beyond the space's are padding, at 0.5."""

    outline: Outline
    flips: Flips | None  # None where all is continuous
    points: Array | None  # float[m, d], every point of a small finite space, the first one again as padding
    number: Array  # int32[], number of distinct points among them
    levels: Array  # int32[k], k at least the number of categories of every choice, where that matters
    bounded: Space | None  # the space, if it has constraints: functions of its values

    @property
    def dim(self) -> int:
        """Columns of a row."""
        return self.outline.dim

    @property
    def count(self) -> Array:
        """int32[]: coordinates of the space."""
        return self.outline.count

    @property
    def categorical(self) -> Array | None:
        """bool[d]: unordered choices; None if there is nothing discrete."""
        return self.outline.categorical

    @property
    def continuous(self) -> jax.Array:
        """bool[d]: continuous coordinates, not padding."""
        if self.outline.cells is None:
            return jnp.asarray(self.outline.live)
        return jnp.asarray(self.outline.live) & (jnp.asarray(self.outline.cells) == 0)

    @property
    def movable(self) -> jax.Array:
        """bool[d]: coordinates that the polish moves: continuous ones, and integers with many cells."""
        if self.outline.cells is None:
            return self.continuous
        many = (jnp.asarray(self.outline.cells) > MANY_CELLS) & ~jnp.asarray(self.outline.categorical)
        return self.continuous | many

    @property
    def choices(self) -> Choices | None:
        """The discrete coordinates as `jhpo.kernels.pathwise` takes them; None if there are none."""
        if self.outline.cells is None or self.outline.categorical is None:
            return None
        return Choices(self.outline.categorical, self.outline.cells, len(self.levels))

    def canonical(self, units: jax.Array) -> jax.Array:
        """``float[..., d]``: snapped, inactive coordinates and padding at their defaults."""
        return batched(lambda u: rows.canonical(self.outline, u), units)

    def active(self, units: jax.Array) -> jax.Array | None:
        """``bool[..., d]``; None where every coordinate always matters."""
        if self.outline.conditions is None:
            return None
        return batched(lambda u: rows.active(self.outline, u), units)

    def points_of(self, units: jax.Array) -> Points:
        """Canonical rows as kernels see them."""
        return Points(units, self.active(units))

    @property
    def even(self) -> bool:
        """Whether Sobol points suit the space: no priors, and not too many coordinates."""
        return self.outline.priors is None and self.dim <= MAX_DIM

    def sample(self, key: jax.Array, n: int, dtype: DTypeLike) -> jax.Array:
        """``float[n, d]``: random points, priors and constraints respected."""
        if self.bounded is None:
            return rows.draw(self.outline, key, n, dtype)
        return self.widened(self.bounded.sample_unit(key, n, dtype))

    def admissible(self, units: jax.Array) -> jax.Array:
        """``bool[n]``: meets the space's own constraints."""
        if self.bounded is None:
            return jnp.ones(units.shape[:1], bool)
        return (self.bounded.unit_constraint(units[:, : self.bounded.dim]) >= 0).all(axis=-1)

    def widened(self, units: jax.Array) -> jax.Array:
        """``float[n, d]``: rows of the space with the padding columns added."""
        missing = self.dim - units.shape[1]
        return jnp.pad(units, [(0, 0), (0, missing)], constant_values=0.5) if missing else units


def columns_for(d: int) -> int:
    """Columns of the padded rows of a space of ``d`` coordinates.

    >>> columns_for(3), columns_for(20), columns_for(300)
    (4, 20, 384)
    """
    return next((c for c in _COLUMNS if c >= d), -(-d // _COLUMNS[-1]) * _COLUMNS[-1])


def exact_ground(space: Space) -> Ground:
    """The space as NumPy arrays without padding."""
    points = every_point(space) if is_small(space) else None
    flips = _flips(space) if space.cells.any() else None
    number = np.asarray(0 if points is None else len(points), np.int32)
    levels = np.arange(_categories(space), dtype=np.int32)
    return Ground(exact_outline(space), flips, points, number, levels, space if space.has_constraints else None)


def padded_ground(space: Space, columns: int, categories: bool = False) -> Ground:
    """The space as NumPy arrays padded to one of few shapes.

    Args:
        space: the search space. columns: width of the padded rows.
        categories: whether the number of categories gives ``levels`` its shape; otherwise ``levels`` is empty.
    """
    exact = exact_ground(space)
    flips, points = exact.flips, exact.points
    if flips is not None:
        flips = _long(flips, class_of(len(flips.amount), FLIPS * class_of(columns, 8), 8), columns)
    if points is not None:
        more = class_of(len(points), _ENUMERABLE // 8, 8) - len(points)
        points = np.pad(points, [(0, 0), (0, columns - space.dim)], constant_values=0.5)
        points = np.concatenate([points, np.repeat(points[:1], more, axis=0)])
    levels = np.arange(class_of(len(exact.levels), 4) if categories else 0, dtype=np.int32)
    return exact._replace(outline=padded_outline(space, columns), flips=flips, points=points, levels=levels)


def _long(flips: Flips, size: int, blank: int) -> Flips:
    def long(values: np.ndarray, blank: Any) -> np.ndarray:
        return np.concatenate([values, np.full(size - len(values), blank, values.dtype)])

    return Flips(long(flips.coordinate, blank), long(flips.amount, 0.0), long(flips.step, False), flips.number)


def _categories(space: Space) -> int:
    return int(space.cells[space.categorical].max(initial=1))


def _flips(space: Space) -> Flips:
    coordinate, amount, step = [], [], []
    for j, cells in enumerate(space.cells):
        if cells < 2:
            continue
        listed = cells <= MANY_CELLS or (space.categorical[j] and cells <= _LISTED)
        if listed:
            values = (np.arange(cells) + 0.5) / cells
        else:
            sizes = np.unique(np.round(np.geomspace(1, max(cells // 4, 1), 4))) / cells
            values = np.concatenate([-sizes, sizes])
        coordinate += [j] * len(values)
        amount += list(values)
        step += [not listed] * len(values)
    columns = (np.asarray(coordinate, np.int32), np.asarray(amount, np.float64), np.asarray(step, bool))
    flips = Flips(*columns, np.asarray(len(amount), np.int32))
    return _long(flips, -(-len(amount) // FLIPS) * FLIPS, space.dim)


@functools.lru_cache(maxsize=16)
def every_point(space: Space) -> np.ndarray:
    """float64[n, d]: all points of a small finite space."""
    return np.asarray(space.enumerate(), np.float64)


def is_small(space: Space) -> bool:
    """Whether the space is finite and small enough to be searched completely."""
    return number_of_points(space) <= _ENUMERABLE


def number_of_points(space: Space) -> float:
    """The cardinality of a space.

    Raises:
        InvalidSpace: no point meets the constraints.
    """
    if not space.cardinality:
        raise InvalidSpace("constraints: expected functions that some point of the space meets, got none that does")
    return space.cardinality
