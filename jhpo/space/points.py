"""Points as users have them: dicts, rows of tables, trials."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from jhpo.errors import InvalidParameters
from jhpo.space.host_codec import takes_none
from jhpo.space.layout import Layout
from jhpo.values.pytrees import HP

T = TypeVar("T")


def read_point(space: Layout, given: Any) -> HP:
    """Host values: of a trial its hyperparameters, of a row of pandas the values that are there, else what is given.

    A row has the names of `read_points`.
    """
    if hasattr(given, "params") and hasattr(given, "value"):  # a `Trial`, or a `Top` of a result
        return given.params
    if hasattr(given, "to_dict") and not hasattr(given, "columns"):
        return there(space, _by_parameter(space, given.to_dict()))
    return given


def read_points(space: Layout, given: Iterable[Any]) -> list[HP]:
    """A list of points from a list, a study's trials, or a table of pandas or polars with a row for each.

    Columns are named as the parameters (dotted where nested), or as those of a study's frame (``param_lr``), whose
    other columns are left out. Values that are missing in a row are not given.
    """
    if not hasattr(given, "columns"):
        return [read_point(space, point) for point in given]
    rows: list[dict[str, Any]] = given.to_dicts() if hasattr(given, "to_dicts") else given.to_dict("records")  # type: ignore[attr-defined]
    return [there(space, _by_parameter(space, row)) for row in rows]


def _by_parameter(space: Layout, row: dict[Any, Any]) -> dict[Any, Any]:
    """A row by the names of the parameters where it has those of a study's frame."""
    names = {f"param_{name}": name for name in space.names}
    if names.keys() <= row.keys() or (names.keys() & row.keys() and not set(space.names) & row.keys()):
        return {names[column]: row[column] for column in names if column in row}
    return row


def each(argument: str, points: list[HP], read: Callable[[HP], T]) -> list[T]:
    """What `read` makes of each point; its errors say which one it was.

    >>> each("start", [1, 2], str)
    ['1', '2']
    """
    out = []
    for i, point in enumerate(points):
        try:
            out.append(read(point))
        except InvalidParameters as error:
            raise InvalidParameters(f"{argument}[{i}]: {error}") from error
    return out


def there(space: Layout, row: HP) -> HP:
    """The row without the values that a table puts where nothing is: NaN, pandas.NA, None if that is no choice.

    Of what is not a dict nothing is left out.
    """
    if not isinstance(row, dict):
        return row
    none = {name for name, value in row.items() if value is None and name in space.names and takes_none(space, name)}
    return {name: value for name, value in row.items() if name in none or not _missing(value)}


def _missing(value: Any) -> bool:
    nothing = value is None or type(value).__name__ in ("NAType", "NaTType")
    return nothing or (isinstance(value, float) and value != value)
