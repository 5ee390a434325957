"""Points that are given to a search: values that are missing are chosen by the strategy."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import invalid
from jhpo.kernels.cells import SAME
from jhpo.keys import strategy_keys
from jhpo.search.driver import Driver
from jhpo.space.points import each, read_point, read_points
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, State, Strategy
from jhpo.strategies.blind import learns

_APART = 2**31  # no search has so many generations: what is proposed for given points has keys of its own


class Starts(NamedTuple):
    """Starting points as unit rows."""

    units: np.ndarray  # float64[k, d], NaN where nothing is given
    exact: list[dict[str, Any]]  # the given values of `Float` parameters by dotted name

    @property
    def whole(self) -> bool:
        """Whether all values are given."""
        return not np.isnan(self.units).any()

    @property
    def gaps(self) -> tuple[int, ...]:
        """The points of which something is missing."""
        return tuple(np.flatnonzero(np.isnan(self.units).any(axis=1)).tolist())

    def completed(self, rows: np.ndarray) -> np.ndarray:
        """``float[k, d]``: the points with missing coordinates taken from `rows`."""
        return np.where(np.isnan(self.units), rows, self.units)


def read_starts(space: Space, start: Any, most: int | None = None) -> Starts | None:
    """The argument ``start`` of a search; None if there are no points.

    Args:
      space: of the points.
      start: a list of points, a table, or a single point as a dict; each with all values or some, see `read_points`.
      most: largest number of points.

    Raises:
      InvalidArgument: not a sequence, or too many points.
      InvalidParameters: an unknown name, or a value outside its parameter.
    """
    one = read_point(space, start)
    points = [one] if isinstance(one, dict) else start
    if points is None or (isinstance(points, (list, tuple)) and not points):
        return None
    if not isinstance(points, Collection) or isinstance(points, str):
        raise invalid("start", "a list of points, each a dict of some or all values", start)
    points = read_points(space, points)
    if most is not None and len(points) > most:
        raise invalid("start", f"at most as many points as the budget allows ({most})", len(points))
    return Starts(np.stack(each("start", points, space.encode_some)), [space.exact(p) for p in points])


@contextlib.contextmanager
def _aside(driver: Driver) -> Iterator[None]:
    """Context after which the strategy is where it was before, whatever ends it."""
    place = driver.place
    try:
        yield
    finally:
        driver.place = place


def proposals(driver: Driver, like: Evaluation, n: int, number: int = 0) -> np.ndarray:
    """``float[n, d]``: points that the strategy might ask for next, other ones than it will; the driver stays as it is.

    The proposals of a generational strategy are one generation, repeated if `n` is larger. A strategy that draws its
    next points without a key proposes these.

    Args:
      driver: of the strategy.
      like: results of a generation, of which the structure matters, see `Driver.ask`.
      n: how many.
      number: of the proposals, for others.
    """
    with _aside(driver):
        driver.place = driver.place._replace(generation=_APART + number)
        rows = [driver.ask(like)]
        while driver.strategy.steady and sum(map(len, rows)) < n:
            rows.append(driver.ask(like))
    found = np.concatenate(rows)
    return found[np.arange(n) % len(found)]


def completions(
    driver: Driver, like: Evaluation, given: np.ndarray, pending: np.ndarray, samples: np.ndarray, number: int
) -> np.ndarray:
    """``float[m, d]``: points with the given coordinates, the first ones best; the driver stays as it is.

    What is missing comes from proposals of a steady strategy, mixtures of the generation that comes next, and random
    points, in this order; those go last whose missing coordinates all are those of a point that is evaluated anyway.

    Args:
      driver: of the strategy.
      like: as in `proposals`.
      given: ``float[d]``, NaN where nothing is.
      pending: ``float[n, d]``, points of the generation that is open.
      samples: ``float[k, d]``, random points.
      number: of the trial.
    """
    rows, found = samples, np.isnan(given)
    if learns(driver.strategy):
        with _aside(driver):
            asked = driver.ask(like)
        pending = np.concatenate([pending, asked])
        mixed = asked[(samples * len(asked)).astype(np.int64) % len(asked), np.arange(len(given))]
        own = proposals(driver, like, 1, number) if driver.strategy.steady else asked[:0]
        rows = np.concatenate([own, mixed, samples])
    repeats = [(np.abs(row[found] - pending[:, found]) < SAME).all(axis=1).any() for row in rows]
    return np.where(found, rows[np.argsort(repeats, kind="stable")], given)


def parts(units: np.ndarray, result: Evaluation, n: int) -> Iterator[tuple[np.ndarray, Evaluation]]:
    """Splits results into blocks of `n` rows for `Strategy.absorb`; the last block is padded."""
    units, result = _blocks(units, result, n, np)
    for k in range(len(units)):
        yield units[k], jax.tree.map(lambda x, k=k: x[k], result)


def absorbed(strategy: Strategy, state: State, units: jax.Array, result: Evaluation) -> State:
    """The state after results that it did not ask for, traceable; however many, they are one step in the program."""
    blocks = _blocks(units, result, strategy.population, jnp)
    return jax.lax.scan(lambda state, block: (strategy.absorb(state, *block), None), state, blocks)[0]


def _blocks(units: Any, result: Evaluation, n: int, xp: ModuleType) -> tuple[Any, Evaluation]:
    """Results in blocks of `n` rows, ``[m, n, ...]``; the mask of the last block is False where it is padded."""
    count = len(units)
    m = -(-count // n)

    def blocked(x: Any, blank: float | bool = np.nan) -> Any:
        rows = xp.pad(x, [(0, m * n - count)] + [(0, 0)] * (x.ndim - 1), constant_values=blank)
        return rows.reshape(m, n, *x.shape[1:])

    told = {f: None if x is None else blocked(xp.asarray(x)) for f, x in result._asdict().items()}
    return blocked(units, 0.5), Evaluation(**told | {"mask": blocked(xp.ones(count, bool), False)})


def completed(strategy: Strategy, state: State, given: jax.Array, key: jax.Array, gaps: tuple[int, ...]) -> jax.Array:
    """``float[k, d]``, traceable: `given` with NaN, which rows `gaps` have, replaced by coordinates of `proposals`."""
    whole = given.astype(jnp.result_type(float))
    if not gaps:  # a proposal for each point would be a program of minutes
        return whole
    keys = strategy_keys(key, jnp.uint32(_APART) + jnp.arange(len(gaps), dtype=jnp.uint32))
    rows, later = strategy.ask(state, keys[0])
    more = [rows]
    asks = -(-len(gaps) // rows.shape[0])
    if strategy.steady and asks > 1:  # one more ask in the program, not one for each point

        def ask(state: State, own: jax.Array) -> tuple[State, jax.Array]:
            rows, state = strategy.ask(state, own)
            return state, rows

        more.append(jax.lax.scan(ask, later, keys[1:asks])[1].reshape(-1, rows.shape[1]))
    found = jnp.concatenate(more)
    chosen, at = found[np.arange(len(gaps)) % found.shape[0]], np.asarray(gaps)
    return whole.at[at].set(jnp.where(jnp.isnan(whole[at]), chosen.astype(whole.dtype), whole[at]))


def with_given(units: jax.Array, given: jax.Array, first: jax.Array) -> jax.Array:
    """``float[n, d]``: in the ``first`` generation, the first rows with what is given of them; inside a program.

    Args:
      units: ``float[n, d]``.
      given: ``float[k, d]``, NaN where nothing is.
      first: ``bool[]``.
    """
    k = given.shape[0]
    return units.at[:k].set(jnp.where(first & ~jnp.isnan(given), given.astype(units.dtype), units[:k]))
