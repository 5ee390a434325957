"""The methods of strategies as programs take them: without JAX's debugging flags, and with errors that name them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jhpo.errors import LIBRARIES, InvalidArgument, JhpoError, invalid, line_of
from jhpo.markup import brief
from jhpo.switches import without_switches


def checked(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of a strategy whose exceptions say that they are the strategy's; of `ask` the points are checked.

    >>> class Four:
    ...     population = 4
    ...     ask = checked(lambda self, state, key: (jnp.zeros((3, 2)), state))
    >>> Four().ask(None, None)
    Traceback (most recent call last):
    ...
    jhpo.errors.InvalidArgument: strategy: expected float[4, d] and a state from Four.ask, got float32[3, 2]
    """
    plain = without_switches(method)

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            out = plain(self, *args, **kwargs)
        except (JhpoError, jax.errors.JaxRuntimeError, MemoryError):
            raise
        except Exception as error:
            what = f"{type(self).__name__}.{method.__name__}"
            text = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:500]
            place = line_of(error, (*LIBRARIES, "jhpo"))
            raise InvalidArgument(f"strategy: expected a {what} that JAX can trace, got {text}{place}") from error
        if getattr(type(self), "ask", None) is wrapper:  # not what a subclass makes something else of
            _check_asked(self, out)
        return out

    return wrapper


def _check_asked(strategy: Any, out: Any) -> None:
    from jhpo.strategies.base import Strategy

    rows, phased = strategy.population, getattr(type(strategy), "segments", Strategy.segments) is not Strategy.segments
    wanted = f"float[{rows}, d] and a state from {type(strategy).__name__}.ask"
    if not isinstance(out, (tuple, list)) or len(out) != 2:
        raise invalid("strategy", f"{wanted}, a tuple of two", type(out).__name__)
    units = out[0]
    form = hasattr(units, "dtype") and jnp.issubdtype(units.dtype, jnp.floating) and len(units.shape) == 2
    # the phases of a chain have populations of their own
    if not form or (units.shape[0] != rows and not phased):
        raise InvalidArgument(f"strategy: expected {wanted}, got {brief(units)}")
