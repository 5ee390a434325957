"""Numeric parameters: their declaration, checked at once, and the maps between their scales and [0, 1]."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
from collections.abc import Mapping
from types import ModuleType
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from jhpo.errors import InvalidArgument, InvalidSpace, check_flag, invalid
from jhpo.kernels.numerics import held
from jhpo.space.declared import Uncached, conditions_of, finite, plain, prior_of, shape_of, to_plain, value_key
from jhpo.space.log_table import log_table
from jhpo.words.advice import advised

# A float32 unit coordinate has 2^24 steps: enough for up to this number of equally likely values.
MAX_CELLS = 2**20
# The float32 steps that a continuous range must span, and the smallest and largest normal numbers.
MIN_STEPS = 1024
TINY, HUGE = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
SCALES = ("linear", "log", "reverse_log", "logit")


@dataclasses.dataclass(frozen=True, eq=False)
class Parameter(Uncached):
    """Base of all parameters: a shape, conditions, a default, a prior on the unit scale."""

    shape: tuple[int, ...] = ()
    when: Any = None  # the result of `conditions_of`
    default: object = None
    prior: tuple[float, float] | None = None

    kind: ClassVar[str] = ""
    categorical: ClassVar[bool] = False
    static: ClassVar[bool] = False

    def _finish(self) -> None:
        for name, check in (("shape", shape_of), ("when", conditions_of), ("prior", prior_of)):
            object.__setattr__(self, name, check(getattr(self, name)))
        default = self.default.tolist() if hasattr(self.default, "tolist") else plain(self.default)
        object.__setattr__(self, "default", default)

    @property
    def delivers(self) -> str | None:
        """The type in which a listed value reaches the objective: "bool", "int" or "float"; None for its index."""
        return None

    def unresolved(self) -> InvalidArgument | None:
        """The error if float32 or int32 cannot resolve the values, else None; the space raises it with the name."""
        return None

    @property
    def size(self) -> int:
        """Number of unit coordinates."""
        return math.prod(self.shape)

    @property
    def cells(self) -> int:
        """Number of distinct values of one coordinate, 0 if it is continuous."""
        return 0

    def to_json(self) -> dict[str, Any]:
        """The declaration as plain JSON values."""
        out: dict[str, Any] = {"type": type(self).__name__}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            # a default of False or () is one
            if value is not None and (field.name == "default" or (value != () and value is not False)):
                out[field.name] = to_plain(value)
        return out

    @property
    def key(self) -> tuple[Any, ...]:
        """Hashable content; declarations are equal if their keys are."""
        return (type(self).__name__, *(value_key(getattr(self, f.name)) for f in dataclasses.fields(self)))


@advised
@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Float(Parameter):
    """A real number in ``[low, high]``.

    Args:
      low, high: bounds, ``low < high``.
      log: the same as ``scale="log"``; needs ``low > 0``.
      scale: ``"linear"``, ``"log"``, ``"reverse_log"`` (1 - value is logarithmic: momentum near 1; needs
        ``high < 1``) or ``"logit"`` (needs ``0 < low`` and ``high < 1``).
      shape: of an array of independent values; a scalar by default.
      when: conditions ``{"parent": value or [values]}`` under which the parameter is active.
      default: the value while inactive; the middle of the scale if not given.
      prior: ``(mean, std)`` of a normal on the unit scale, from which random points are drawn.

    Raises:
      InvalidSpace: invalid bounds, scale or condition.

    >>> Float(1e-5, 1e-1, log=True).scale
    'log'
    """

    low: float = 0.0
    high: float = 1.0
    scale: str = "linear"
    kind: ClassVar[str] = "float"

    def __init__(
        self,
        low: float,
        high: float,
        *,
        log: bool = False,
        scale: str = "linear",
        shape: int | tuple[int, ...] = (),
        when: Mapping[str, Any] | None = None,
        default: ArrayLike | None = None,
        prior: tuple[float, float] | None = None,
    ) -> None:
        low, high, log = finite("low", low), finite("high", high), check_flag("log", plain(log), InvalidSpace)
        if low >= high:
            raise invalid("low", f"a number below high = {high}", low, InvalidSpace)
        if log and scale not in ("linear", "log"):
            raise invalid("scale", "'log' or none at all when log=True", scale, InvalidSpace)
        scale = "log" if log else scale
        if scale not in SCALES:
            raise invalid("scale", f"one of {SCALES}", scale, InvalidSpace)
        if scale in ("log", "logit") and low <= 0.0:
            raise invalid("low", f"a number > 0 on the {scale} scale", low, InvalidSpace)
        if scale in ("reverse_log", "logit") and high >= 1.0:
            raise invalid("high", f"a number < 1 on the {scale} scale", high, InvalidSpace)
        values = dict(low=low, high=high, scale=scale, shape=shape, when=when, default=default, prior=prior)
        for name, value in values.items():
            object.__setattr__(self, name, value)
        self._finish()

    def unresolved(self) -> InvalidArgument | None:
        low, high = self.low, self.high
        if max(abs(low), abs(high), high - low) > HUGE:
            expected = f"numbers and a width that float32 can hold, up to {HUGE:.3g}"
            return invalid("high", expected, (low, high), InvalidSpace)
        if self.scale in ("log", "logit") and low < TINY:
            return invalid("low", f"at least {TINY:.3g}, the smallest normal float32", low, InvalidSpace)
        step = float(np.spacing(np.float32(max(abs(low), abs(high)))))
        if high - low < MIN_STEPS * step or high - low < TINY:
            expected = f"a range that float32 resolves, at least {MIN_STEPS * step:.3g} wide (tune an offset instead)"
            return invalid("low, high", expected, (low, high), InvalidSpace)
        if self.scale in ("reverse_log", "logit") and 1.0 - high < 16 * 2.0**-24:
            expected = "a number below 1 - 1e-6, as float32 has no others near 1 (tune 1 - x on the log scale)"
            return invalid("high", expected, high, InvalidSpace)
        return None

    def forward(self, value: Any, xp: ModuleType = jnp) -> Any:
        """The value on the parameter's scale (its logarithm, for example), not normalised to [0, 1]."""
        match self.scale:
            case "log":
                return xp.log(value)
            case "reverse_log":
                return -xp.log1p(-value)
            case "logit":
                return xp.log(value) - xp.log1p(-value)
            case _:
                return value

    @functools.cached_property
    def ends(self) -> tuple[float, float]:
        """The bounds on the parameter's scale."""
        return float(self.forward(self.low, np)), float(self.forward(self.high, np))

    def value(self, unit: jax.Array) -> jax.Array:
        """Values of units ``float[...]`` in [0, 1]; within the bounds despite rounding, and differentiable."""
        a, b = self.ends
        z = a + unit * (b - a)
        match self.scale:
            case "log":
                out = jnp.exp(z)
            case "reverse_log":
                out = -jnp.expm1(-z)
            case "logit":
                out = jax.nn.sigmoid(z)
            case _:
                out = z
        return out if self._exact(unit.dtype) else held(out, self.low, self.high)

    def _exact(self, dtype: DTypeLike) -> bool:
        """Whether no value of a linear scale exceeds the bounds by rounding: the largest, at 1, does not."""
        low, width, high = (np.asarray(x, dtype) for x in (self.low, self.high - self.low, self.high))
        return self.scale == "linear" and bool(low + width <= high)

    @functools.cached_property
    def rounded(self) -> tuple[float, float]:
        """The bounds as far out as rounding to float32 moves them, which are accepted."""
        low, high = (float(np.spacing(np.float32(abs(bound)))) for bound in (self.low, self.high))
        return self.low - low, self.high + high

    def unit(self, value: ArrayLike, xp: ModuleType = jnp) -> Any:
        """Units ``float[...]`` in [0, 1] of values."""
        a, b = self.ends
        return xp.clip((self.forward(value, xp) - a) / (b - a), 0.0, 1.0)


@advised
@dataclasses.dataclass(frozen=True, eq=False, init=False)
class Int(Parameter):
    """An integer ``low, low + step, ...`` up to ``high``; inside jit an int32.

    Args:
      low, high: inclusive bounds, ``low < high``; at most 2**20 values.
      step: distance between values (linear scale only); has to divide ``high - low``.
      log: logarithmic cells; needs ``low >= 1``, and float32 to tell the largest values apart.
      shape, when, default, prior: as for `Float`.

    Raises:
      InvalidSpace: invalid bounds, step or condition.

    >>> Int(16, 64, step=16).cells
    4
    """

    low: int = 0
    high: int = 1
    step: int = 1
    log: bool = False
    kind: ClassVar[str] = "int"

    def __init__(
        self,
        low: int,
        high: int,
        *,
        step: int = 1,
        log: bool = False,
        shape: int | tuple[int, ...] = (),
        when: Mapping[str, Any] | None = None,
        default: ArrayLike | None = None,
        prior: tuple[float, float] | None = None,
    ) -> None:
        low, high, step, log = plain(low), plain(high), plain(step), check_flag("log", plain(log), InvalidSpace)
        for name, bound in (("low", low), ("high", high), ("step", step)):
            if isinstance(bound, bool) or not isinstance(bound, numbers.Integral):
                raise invalid(name, "an integer", bound, InvalidSpace)
        low, high, step = int(low), int(high), int(step)
        if low >= high:
            raise invalid("low", f"an integer below high = {high}", low, InvalidSpace)
        if max(abs(low), abs(high)) >= 2**31:
            raise invalid("high", "bounds that an int32 can hold", (low, high), InvalidSpace)
        if step < 1 or (high - low) % step:
            raise invalid("step", f"a positive divisor of high - low = {high - low}", step, InvalidSpace)
        if log and (low < 1 or step != 1):
            raise invalid("low", "an integer >= 1 with step 1 on the log scale", (low, step), InvalidSpace)
        values = dict(low=low, high=high, step=step, log=log, shape=shape, when=when, default=default)
        for name, value in {**values, "prior": prior}.items():
            object.__setattr__(self, name, value)
        self._finish()

    @property
    def cells(self) -> int:
        return (self.high - self.low) // self.step + 1

    def unresolved(self) -> InvalidArgument | None:
        values = (self.low, self.high)
        if not self.log and self.cells > MAX_CELLS:
            other = "log=True, " if self.step == 1 <= self.low and self._resolved_by_log() else ""
            expected = f"at most {MAX_CELLS} values, which float32 tells apart (a larger step, {other}or a Float)"
            return invalid("low, high", expected, values, InvalidSpace)
        if self.log and not self._resolved_by_log():
            expected = "values that float32 tells apart on the log scale (a smaller high, or a Float)"
            return invalid("low, high", expected, values, InvalidSpace)
        return None

    def _resolved_by_log(self) -> bool:
        return self.cells <= 2**24 and log_table(self.low, self.high).narrowest >= 1
