"""The public API as lines of text: `python -m tests.packaging.api` writes api.txt anew, before a release."""

from __future__ import annotations

import enum
import inspect
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jhpo

LIST = Path(__file__).with_name("api.txt")


def surface() -> dict[str, list[str]]:
    """Arguments of everything public by its name; positional ones first, then ``*`` and those by keyword."""
    found: dict[str, list[str]] = {}
    for name in dir(jhpo):
        value = getattr(jhpo, name)
        if isinstance(value, types.ModuleType):
            for inner, each in vars(value).items():
                if not inner.startswith("_") and _ours(each) and each.__module__ == value.__name__:
                    found |= _described(f"jhpo.{name}.{inner}", each)
        else:
            found |= _described(f"jhpo.{name}", value)
    return dict(sorted(found.items()))


def _ours(value: object) -> bool:
    return callable(value) and getattr(value, "__module__", "").startswith("jhpo")


def _described(name: str, value: Any) -> dict[str, list[str]]:
    if not inspect.isclass(value):
        return {name: _arguments(value)}
    if issubclass(value, (enum.Enum, Exception)):
        return {name: []}
    out = {name: _arguments(value)}
    for member, each in _members(value):
        out[f"{name}.{member}"] = _arguments(each)[1:] if inspect.isfunction(each) else []
    return out


def _members(cls: type) -> Iterator[tuple[str, object]]:
    """Methods, properties and fields of a class that come from jhpo."""
    seen: set[str] = set()
    for base in cls.__mro__:
        if base.__module__.startswith("jhpo"):
            for name in {**vars(base), **vars(base).get("__annotations__", {})}:
                if not name.startswith("_") and name not in seen:
                    seen.add(name)
                    yield name, inspect.getattr_static(cls, name, None)


def _arguments(value: Any) -> list[str]:
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return []
    plain = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    return plain + (["*", *named] if named else [])


def read() -> dict[str, list[str]]:
    """The list as it was released."""
    lines = [line.rstrip(")").partition("(") for line in LIST.read_text().splitlines()]
    return {name: arguments.split(", ") if arguments else [] for name, _, arguments in lines}


if __name__ == "__main__":
    LIST.write_text("".join(f"{name}({', '.join(arguments)})\n" for name, arguments in surface().items()))
