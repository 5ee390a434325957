"""Public exceptions, and one-line checks of arguments that raise them."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import math
import numbers
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Container, Iterator, Mapping
from typing import Any, TypeVar

from jhpo.words.advice import answer

T = TypeVar("T")


class JhpoError(Exception):
    """Base class of all errors that jhpo raises on purpose."""


class InvalidArgument(JhpoError, ValueError):
    """An invalid argument; the message names it, what was expected and what it got."""


class InvalidSpace(InvalidArgument):
    """An invalid search space; the message names the parameter."""


class InvalidParameters(InvalidArgument):
    """Hyperparameter values that do not belong to the space; the message names the parameter."""


class SpaceExhausted(JhpoError):
    """Every distinct point of a finite space has been proposed."""


class ChangedSpace(JhpoError):
    """A stored study was opened with a different search space; the message lists the differences."""


class StorageError(JhpoError):
    """The storage cannot be read or written; the message says what to do."""


class TrialConflict(JhpoError):
    """A trial was told two different results, or was told by a worker that had lost it."""


class UnknownStrategy(InvalidArgument):
    """No strategy has that name; the message lists the names."""


class OutOfMemory(JhpoError, MemoryError):
    """A single member of a population does not fit into the device's memory."""


class TrialPruned(Exception):
    """Raised in an objective of `jhpo.host` to end a trial early; its value is the last that it reported."""


class UnusableGradient(JhpoError, ArithmeticError):
    """A hypergradient is not finite; the message says why and what to do instead."""


class NothingFound(UserWarning):
    """A search ended without a single success; the message says why."""


class MissingExtra(JhpoError, ImportError):
    """An optional dependency is not installed; the message gives the command that installs it."""


def invalid(
    name: str, expected: str, got: object, kind: type[InvalidArgument] = InvalidArgument, *, note: str = ""
) -> InvalidArgument:
    """An argument error in the standard form ``name: expected ..., got ...``, perhaps with a note on what to do.

    >>> str(invalid("budget", "an integer >= 1", 0))
    'budget: expected an integer >= 1, got 0'
    """
    return kind(f"{name}: expected {expected}, got {shown(got)}{'; ' * bool(note)}{note}")


def shown(value: object) -> str:
    """A value in a message: its repr, cut where it is long (arrays, tables, modules), without colours.

    >>> shown([0.5, None]), shown("x" * 1000)[-20:]
    ('[0.5, None]', 'xxx... (of type str)')
    """
    text = _COLOUR.sub("", repr(value))
    if len(text) <= _LONGEST:
        return text
    shape = getattr(value, "shape", "")
    return f"{' '.join(text[: _LONGEST // 2].split())}... (of type {type(value).__name__}{f' {shape}' * bool(shape)})"


_LONGEST = 300
_COLOUR = re.compile("\x1b\\[[0-9;]*m")


def warn_caller(message: str, category: type[Warning] = UserWarning) -> None:
    """A warning about the line that called jhpo, however deep inside of it this is."""
    frame, level = sys._getframe(1), 2
    # contextlib: a decorator of jhpo's
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] in ("jhpo", "contextlib"):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


@contextlib.contextmanager
def nothing_is_said() -> Iterator[None]:
    """A search within does not warn that it has found nothing: the caller says so by other means."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NothingFound)
        yield


def read_call(argument: str, text: str, example: str) -> tuple[str, dict[str, Any]]:
    """A name and options from text: a name, optionally with plain options as in a Python call.

    Raises:
      InvalidArgument: the text is not of this form.

    >>> read_call("strategy", "pso(population=16)", "pso(population=8)")
    ('pso', {'population': 16})
    """
    name, bracket, rest = text.strip().partition("(")
    if not bracket:
        return name.strip(), {}
    try:
        call = ast.parse(f"call({rest}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name) or call.args:
            raise ValueError("not a call with named options")
        options = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords if k.arg is not None}
    except (SyntaxError, ValueError) as error:
        raise invalid(argument, f"a name, perhaps with plain options: {example}", text) from error
    return name.strip(), options


def made_with(cls: Callable[..., T], name: str, options: Mapping[str, Any]) -> T:
    """An instance of a dataclass that is known under a name, with some of its fields given as options.

    Raises:
      InvalidArgument: an unknown option; an invalid value if the class says so.
    """
    fields = [field.name for field in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for option, value in options.items():
        if option not in fields:
            raise invalid(option, f"one of the options of {name!r}: {fields}", value, note=answer(option, fields))
    return cls(**options)


# packages whose lines are skipped when looking for the user's line that raised
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "jhpo", "equinox", "contextlib", "functools")


def line_of(error: BaseException, libraries: Container[str]) -> str:
    """Where an error comes from, as text that follows its message: the innermost line outside of some packages.

    >>> try:
    ...     math.log(-1)
    ... except ValueError as error:
    ...     line_of(error, ("jax",)), line_of(error, ("jax", "jhpo"))
    (' (line 2 of <doctest jhpo.errors.line_of[0]>)', '')
    """
    frames = [
        (frame.f_code.co_filename, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if frame.f_globals.get("__name__", "").split(".")[0] not in libraries
    ]
    return f" (line {frames[-1][1]} of {frames[-1][0]})" if frames else ""


def of_meshes(error: BaseException) -> str:
    """Advice, as text that follows an error, if `jax.shard_map` is what JAX complains of; otherwise "".

    It tells values that differ between devices from those that do not, and a loop that begins with a constant, as those
    of every search do, mixes them.
    """
    if re.search("manual ax(is|es)", str(error)) is None:
        return ""
    return "; a search, like most loops, goes into jax.shard_map(..., check_vma=False)"


def of_searches(error: BaseException) -> str:
    """Advice, as text that follows an error of a search, if the axes of a mesh are what JAX complains of; otherwise "".

    JAX asks each write into an array to say along which explicit axes its result lies, and only the caller knows them;
    a loop within a loop does not find the axes, and none can go along them.
    """
    axes = r"Resource axis: .* is not found in mesh|0th dimension of all xs should be replicated"
    if type(error).__name__ != "ShardingTypeError" and re.search(axes, str(error)) is None:
        return of_meshes(error)
    return (
        "; keys that are divided along explicit axes, as those of jax.make_mesh are, go into "
        "jax.shard_map(..., check_vma=False), or onto axes that are not: jax.sharding.Mesh(devices, names)"
    )


def in_words(error: BaseException) -> str:
    """An exception's type and message, whatever its `str` does.

    >>> in_words(ValueError("no"))
    'ValueError: no'
    """
    try:
        message = str(error)
    except Exception as inner:  # noqa: BLE001 the exception is someone else's
        message = f"(its text cannot be made: {type(inner).__name__})"
    return f"{type(error).__name__}: {message}"


def encodable(text: str) -> str:
    r"""The text with what UTF-8 cannot hold escaped: single surrogates, as in names of files that are not UTF-8.

    >>> print(encodable("caf\u00e9 \udcff"))
    café \udcff
    """
    return text.encode("utf-8", "backslashreplace").decode()


NOT_ASYNC = ", no coroutine (call it in a plain function: asyncio.run(...))"


def is_async(function: object) -> bool:
    """Whether a call returns a coroutine in place of a result: an ``async def``, or an object whose call is one."""
    call = getattr(function, "func", function)  # of a partial
    return inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(getattr(call, "__call__", None))  # noqa: B004


def is_concrete(value: object) -> bool:
    """Whether it is a Python or NumPy number, which can be compared during tracing."""
    return isinstance(value, numbers.Number) and not isinstance(value, complex)


def check_flag(name: str, value: object, kind: type[InvalidArgument] = InvalidArgument) -> bool:
    """``value`` if it is a bool; raises ``kind`` otherwise, as "no" is true."""
    if not isinstance(value, bool):
        raise invalid(name, "True or False", value, kind)
    return value


def check_integer(name: str, value: object, low: int = 1, high: int | None = None, *, of: str = "") -> int:
    """``value`` as an int within ``[low, high]``, of a unit; raises `InvalidArgument` otherwise."""
    wanted = f"an integer >= {low}" if high is None else f"an integer in [{low}, {high}]"
    wanted += f" of {of}" if of else ""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise invalid(name, wanted, value)
    number = int(value)
    if number < low or (high is not None and number > high):
        raise invalid(name, wanted, value)
    return number


def no_float(value: Any) -> bool:
    """Whether a number is NaN, or an integer so large that no float holds it.

    >>> no_float(0.5), no_float(float("nan")), no_float(10**400)
    (False, True, True)
    """
    try:
        return math.isnan(value)
    except OverflowError:
        return True


def check_number(
    name: str,
    value: Any,
    low: float = -math.inf,
    high: float = math.inf,
    open_low: bool = False,
    *,
    open_high: bool = False,
) -> None:
    """Raises `InvalidArgument` unless it is a number in ``[low, high]``, open where said; arrays of numbers pass."""
    wanted = "a number"
    if (low, high) != (-math.inf, math.inf):
        wanted += f" in {'(' if open_low else '['}{low}, {high}{')' if open_high else ']'}"
    if isinstance(value, bool) or not is_concrete(value):
        if getattr(getattr(value, "dtype", None), "kind", "") not in _NUMBERS:
            raise invalid(name, wanted, value)
        return
    bad = no_float(value) or value < low or value > high or (open_low and value == low) or (open_high and value == high)
    if bad:
        raise invalid(name, wanted, value)


_NUMBERS = ("i", "u", "f", "V")  # kinds of dtypes; V are the small floats, such as bfloat16
