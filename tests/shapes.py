"""Shapes and dtypes that kernels declare, checked at every call while tests run; see `jhpo.kernels.shapes`."""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import inspect
import sys
import types
import typing
from collections.abc import Callable, Sequence
from types import FunctionType, ModuleType
from typing import Any

import jax
import jaxtyping
import numpy as np

WORDS = {name: getattr(jaxtyping, name) for name in ("Bool", "Float", "Int", "Key", "UInt")}
ARRAYS = jax.Array | np.ndarray  # kernels take either


class WrongShape(TypeError):
    """An argument or a result of a kernel is not what its signature says."""


def checked(function: FunctionType) -> FunctionType:
    """The function, whose arguments and results are compared with its annotations; itself if these name no shape."""
    scope = {**function.__globals__, **WORDS, "Array": ARRAYS}
    hints = {n: eval(str(text), scope) for n, text in function.__annotations__.items() if "[Array," in str(text)}
    if not hints:
        return function
    result = hints.pop("return", None)
    signature, where = inspect.signature(function), f"{function.__module__}.{function.__qualname__}"

    def call(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        with jaxtyping.jaxtyped("context"):
            for name, hint in hints.items():
                if name in bound.arguments:
                    check(f"{where}: {name}", bound.arguments[name], hint)
            out = function(*args, **kwargs)
            if result is not None:
                check(f"{where}: result", out, result)
        return out

    # a function of the kernel's own module: doctest looks for examples in these alone
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return call(*args, **kwargs)

    assert isinstance(wrapper, FunctionType)
    own = FunctionType(wrapper.__code__, function.__globals__, function.__name__, None, wrapper.__closure__)
    functools.update_wrapper(own, function)
    return own


def check(what: str, value: object, hint: Any) -> None:
    """Raises WrongShape where a value is not of the annotated kind."""
    if typing.get_origin(hint) is tuple:
        parts = typing.get_args(hint)
        if not isinstance(value, tuple) or len(value) != len(parts):
            raise WrongShape(f"{what}: expected {len(parts)} values, got {value!r}")
        for i, (part, kind) in enumerate(zip(value, parts)):
            check(f"{what}[{i}]", part, kind)
    elif not fits(value, hint):
        got = f"{value.dtype}{list(value.shape)}" if hasattr(value, "shape") else repr(value)  # type: ignore[attr-defined]
        raise WrongShape(f"{what}: expected {shown(hint)}, got {got}")


def fits(value: object, hint: Any) -> bool:
    """The value is of the annotated kind, or of one of them."""
    return any(kind is Any or isinstance(value, kind) for kind in kinds_of(hint))


def shown(hint: Any) -> str:
    """An annotation as it is written."""
    return " or ".join(kind.__name__ for kind in kinds_of(hint))


def kinds_of(hint: Any) -> tuple[Any, ...]:
    """The members of a union, or the hint alone."""
    return typing.get_args(hint) if typing.get_origin(hint) in (types.UnionType, typing.Union) else (hint,)


class Loader(importlib.machinery.SourceFileLoader):
    """Loads a kernel and puts checked functions in the place of its own."""

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for name, value in list(vars(module).items()):
            if isinstance(value, FunctionType) and value.__module__ == module.__name__:
                setattr(module, name, checked(value))


class Finder(importlib.abc.MetaPathFinder):
    """Finds the kernels before Python does."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith("jhpo.kernels."):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = Loader(fullname, spec.origin)
        return spec


def install() -> Callable[[], None]:
    """Check the kernels that are imported from now on, until the returned function is called."""
    early = [name for name in sys.modules if name.startswith("jhpo.kernels.")]
    assert not early, f"imported before their shapes could be checked: {early}"
    finder = Finder()
    sys.meta_path.insert(0, finder)
    return lambda: sys.meta_path.remove(finder)
