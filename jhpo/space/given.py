"""Whether what is given as a space is one."""

from __future__ import annotations

from jhpo.errors import invalid
from jhpo.space.space import Parameter, Space


def check_space(space: object) -> None:
    """Raises unless it is a `Space`.

    Raises:
        InvalidArgument: something else; a dict of parameters is told how to become one.

    >>> check_space({"x": 0.5})
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: space: expected a jhpo.Space, got {'x': 0.5}; write jhpo.Space({...})
    """
    if not isinstance(space, Space):
        note = "write jhpo.Space({...})" if isinstance(space, dict) else ""
        note = "write jhpo.Space(...)" if isinstance(space, (list, tuple, Parameter)) else note
        note = "it comes after the objective" if callable(space) and not isinstance(space, type) else note
        raise invalid("space", "a jhpo.Space", space, note=note)
