"""A strategy as plain data for storage, and back: registered names and numbers, never code."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from jhpo.errors import StorageError
from jhpo.strategies import REGISTRY, strategy_class
from jhpo.strategies.base import Strategy, static_field, strategy

Spec = Any  # plain data from storage, not validated


def strategy_spec(described: Strategy) -> dict[str, Any]:
    """Plain data from which an equal strategy can be made; unregistered classes are stored by name only.

    >>> from jhpo.strategies.random import RandomSearch
    >>> strategy_spec(RandomSearch(8))
    {'strategy': 'random', 'options': {'population': 8}}
    """
    cls = type(described)
    name = next((n for n, (m, c, _) in REGISTRY.items() if (m, c) == (cls.__module__, cls.__qualname__)), None)
    options = {f.name: _plain(getattr(described, f.name)) for f in dataclasses.fields(described)}  # type: ignore[arg-type]
    return {"strategy": name or f"{cls.__module__}:{cls.__qualname__}", "options": options}


def _plain(value: object) -> Spec:
    if isinstance(value, Strategy):
        return strategy_spec(value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {"dict": {str(k): _plain(v) for k, v in value.items()}}
    if callable(value) and hasattr(value, "__qualname__"):
        return {"function": f"{value.__module__}:{value.__qualname__}"}
    if hasattr(value, "__array__"):
        return np.asarray(value).tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"object": type(value).__qualname__, "fields": fields}
    return {"object": type(value).__qualname__}


def make_from_spec(spec: Spec) -> Strategy:
    """The strategy from the result of `strategy_spec`.

    Raises:
        StorageError: the strategy is not registered (pass it to `Study.load`), or the data are damaged.
    """
    try:
        name, options = spec["strategy"], spec["options"]
    except (TypeError, KeyError) as error:
        raise StorageError("the stored strategy is damaged") from error
    if name not in REGISTRY:
        how = f"give it as Study.load(..., strategy=), or to jhpo tune as --strategy {str(name).rpartition(':')[2]}"
        raise StorageError(f"the study's strategy {name!r} is not one of jhpo's: {how}")
    try:
        return strategy_class(name)(**{k: _value(v) for k, v in options.items()})
    except (TypeError, ValueError, AttributeError) as error:
        raise StorageError(f"the stored strategy {name!r} cannot be made: {error}") from error


def _value(data: Spec) -> object:
    if isinstance(data, list):
        return tuple(_value(v) for v in data)
    if isinstance(data, dict):
        if set(data) == {"strategy", "options"}:
            return make_from_spec(data)
        if set(data) == {"dict"}:
            return {k: _value(v) for k, v in data["dict"].items()}
        what = data.get("function", data.get("object"))
        raise ValueError(f"it holds {what!r}: give it as Study.load(..., strategy=)")
    return data


@strategy
class StrategyElsewhere(Strategy):
    """Placeholder for a strategy whose class is not available, for reading a study; it cannot search.

    Args:
        name: as it was stored, ``module:Class`` or a registered name.
    """

    name: str = static_field(default="")

    @property
    def population(self) -> int:
        """A nominal number of members."""
        return 1

    def init(self, space: object, key: object) -> None:
        """Not possible.

        Raises:
            StorageError: always.
        """
        raise StorageError(f"the study's strategy {self.name!r} is needed here: give it as Study.load(..., strategy=)")


def readable_strategy(spec: Spec) -> Strategy:
    """The strategy from the result of `strategy_spec`, or a placeholder if it is not available.

    >>> readable_strategy({"strategy": "mine:Hill", "options": {}}).name
    'mine:Hill'
    """
    try:
        return make_from_spec(spec)
    except StorageError:
        return StrategyElsewhere(str(spec["strategy"]) if isinstance(spec, dict) and "strategy" in spec else "?")


def _defaults(name: str) -> dict[str, Any]:
    if name not in REGISTRY:
        return {}
    fields = dataclasses.fields(strategy_class(name))  # type: ignore[arg-type]
    return {f.name: _plain(f.default) for f in fields if f.default is not dataclasses.MISSING}


def spec_diff(stored: dict[str, Any], given: dict[str, Any]) -> list[str]:
    """The differences, a sentence each; modules of classes are ignored, as a script's may be ``__main__``."""
    if stored["strategy"].rpartition(":")[2] != given["strategy"].rpartition(":")[2]:
        return [f"strategy: was {stored['strategy']}, now {given['strategy']}"]
    # options that an earlier version did not have were what they are by default
    was, now = _defaults(stored["strategy"]) | stored["options"], given["options"]
    changes = [k for k in sorted(set(was) | set(now)) if was.get(k) != now.get(k)]
    was, now = ({k: _told(v) if isinstance(v, dict) else v for k, v in options.items()} for options in (was, now))
    return [f"{k}: was {was.get(k)}, now {now.get(k)}" for k in changes]


def described(spec: Spec) -> str:
    """A stored strategy as text, without the options that are at their defaults.

    >>> from jhpo.strategies.pso import PSO
    >>> described(strategy_spec(PSO(population=32)))
    'pso(population=32)'
    """
    name, options = spec["strategy"], spec["options"]
    usual: dict[str, Any] = {}
    if name in REGISTRY:
        cls = strategy_class(name)
        needed = {f.name for f in dataclasses.fields(cls) if f.default is dataclasses.MISSING}  # type: ignore[arg-type]
        # of an instance, as classes fill in what depends on other options; the needed ones are always shown
        plain = cls(**{k: _value(v) for k, v in options.items() if k in needed})
        usual = {k: v for k, v in strategy_spec(plain)["options"].items() if k not in needed}
    shown = [f"{k}={_told(v)}" for k, v in options.items() if k not in usual or usual[k] != v]
    return f"{name}({', '.join(shown)})"


def _told(value: Spec) -> str:
    if isinstance(value, dict) and set(value) == {"strategy", "options"}:
        return described(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_told, value))}]"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
