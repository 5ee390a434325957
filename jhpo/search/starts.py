"""Points a search begins with: some of their values given, the others chosen by the strategy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import invalid
from jhpo.keys import strategy_key
from jhpo.search.driver import Driver
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Strategy


class Starts(NamedTuple):
    """Starting points as unit rows."""

    units: np.ndarray  # float64[k, d], NaN where nothing is given
    exact: list[dict[str, Any]]  # the real numbers as they were given, by dotted name

    @property
    def whole(self) -> bool:
        """Nothing is left to the strategy."""
        return not np.isnan(self.units).any()

    def completed(self, rows: np.ndarray) -> np.ndarray:
        """``float[k, d]``: what is missing taken from `rows`."""
        return np.where(np.isnan(self.units), rows, self.units)


def read_starts(space: Space, start: Any, most: int | None = None) -> Starts | None:
    """The argument ``start`` of a search; None if there are no points.

    Args:
      space: where they lie.
      start: points, or one of them as a dict; each with all values or some.
      most: how many there may be.

    Raises:
      InvalidArgument: no sequence, or too many.
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
    """``float[n, d]``: what the strategy would ask for next; it stays where it is.

    A strategy that works in generations proposes one generation, over and over where `n` is larger.
    """
    place = driver.place
    rows = [driver.ask()]
    while driver.strategy.steady and sum(map(len, rows)) < n:
        rows.append(driver.ask())
    driver.place = place
    found = np.concatenate(rows)
    return found[np.arange(n) % len(found)]


def parts(units: Any, result: Evaluation, n: int, xp: Any = np) -> Iterator[tuple[Any, Evaluation]]:
    """Results that a strategy did not ask for in the form that `Strategy.absorb` takes: `n` rows at a time, padded."""
    for at in range(0, len(units), n):
        end = min(at + n, len(units))
        missing = at + n - end

        def padded(x: Any, blank: float, at: int = at, end: int = end, missing: int = missing) -> Any:
            return xp.pad(x[at:end], [(0, missing)] + [(0, 0)] * (x.ndim - 1), constant_values=blank)

        told = {f: None if x is None else padded(xp.asarray(x), xp.nan) for f, x in result._asdict().items()}
        yield padded(units, 0.5), Evaluation(**told | {"mask": xp.arange(n) < end - at})


def completed(strategy: Strategy, state: Any, given: jax.Array, key: jax.Array) -> jax.Array:
    """``float[k, d]``, inside a program: what is NaN in `given` taken from the strategy's first proposals."""
    rows, later = strategy.ask(state, strategy_key(key, jnp.uint32(0)))
    more = [rows]
    while strategy.steady and sum(x.shape[0] for x in more) < given.shape[0]:
        rows, later = strategy.ask(later, strategy_key(key, jnp.uint32(len(more))))
        more.append(rows)
    found = jnp.concatenate(more)
    chosen = found[np.arange(given.shape[0]) % found.shape[0]]
    return jnp.where(jnp.isnan(given), chosen, given.astype(chosen.dtype))
