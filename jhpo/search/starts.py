"""Starting points of a search: values that are not given are chosen by the strategy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import invalid
from jhpo.keys import strategy_key
from jhpo.search.driver import Driver
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Floats, State, Strategy


class Starts(NamedTuple):
    """Starting points as unit rows."""

    units: np.ndarray  # float64[k, d], NaN where nothing is given
    exact: list[dict[str, Any]]  # the given values of `Float` parameters by dotted name

    @property
    def whole(self) -> bool:
        """Whether all values are given."""
        return not np.isnan(self.units).any()

    def completed(self, rows: np.ndarray) -> np.ndarray:
        """``float[k, d]``: the points with missing coordinates taken from `rows`."""
        return np.where(np.isnan(self.units), rows, self.units)


def read_starts(space: Space, start: Any, most: int | None = None) -> Starts | None:
    """The argument ``start`` of a search; None if there are no points.

    Args:
      space: of the points.
      start: a list of points, or a single point as a dict; each with all values or some.
      most: largest number of points.

    Raises:
      InvalidArgument: not a sequence, or too many points.
      InvalidParameters: an unknown name, or a value outside its parameter.
    """
    points = [start] if isinstance(start, dict) else start
    if points is None or (isinstance(points, (list, tuple)) and not points):
        return None
    if not isinstance(points, Sequence) or isinstance(points, str):
        raise invalid("start", "a list of points, each a dict of some or all values", start)
    if most is not None and len(points) > most:
        raise invalid("start", f"at most as many points as the budget allows ({most})", len(points))
    return Starts(np.stack([space.encode_some(p) for p in points]), [space.exact(p) for p in points])


def proposals(driver: Driver, n: int) -> np.ndarray:
    """``float[n, d]``: the points that the strategy would ask for next; the driver's state is restored.

    The proposals of a generational strategy are one generation, repeated if `n` is larger.
    """
    place = driver.place
    rows = [driver.ask()]
    while driver.strategy.steady and sum(map(len, rows)) < n:
        rows.append(driver.ask())
    driver.place = place
    found = np.concatenate(rows)
    return found[np.arange(n) % len(found)]


def parts(units: Floats, result: Evaluation, n: int, xp: ModuleType = np) -> Iterator[tuple[Any, Evaluation]]:
    """Splits results into blocks of `n` rows for `Strategy.absorb`; the last block is padded."""
    for at in range(0, len(units), n):
        end = min(at + n, len(units))
        missing = at + n - end

        def padded(x: Any, blank: float, at: int = at, end: int = end, missing: int = missing) -> Any:
            return xp.pad(x[at:end], [(0, missing)] + [(0, 0)] * (x.ndim - 1), constant_values=blank)

        told = {f: None if x is None else padded(xp.asarray(x), xp.nan) for f, x in result._asdict().items()}
        yield padded(units, 0.5), Evaluation(**told | {"mask": xp.arange(n) < end - at})


def completed(strategy: Strategy, state: State, given: jax.Array, key: jax.Array) -> jax.Array:
    """``float[k, d]``, traceable: `given` with NaN replaced by coordinates of the strategy's first proposals."""
    rows, later = strategy.ask(state, strategy_key(key, jnp.uint32(0)))
    more = [rows]
    while strategy.steady and sum(x.shape[0] for x in more) < given.shape[0]:
        rows, later = strategy.ask(later, strategy_key(key, jnp.uint32(len(more))))
        more.append(rows)
    found = jnp.concatenate(more)
    chosen = found[np.arange(given.shape[0]) % found.shape[0]]
    return jnp.where(jnp.isnan(given), chosen, given.astype(chosen.dtype))


def with_given(units: jax.Array, given: jax.Array, first: jax.Array) -> jax.Array:
    """``float[n, d]``: in the ``first`` generation, the first rows with what is given of them; inside a program.

    Args:
      units: ``float[n, d]``.
      given: ``float[k, d]``, NaN where nothing is.
      first: ``bool[]``.
    """
    k = given.shape[0]
    return units.at[:k].set(jnp.where(first & ~jnp.isnan(given), given.astype(units.dtype), units[:k]))
