"""The first event of a study: what is searched and how; and the check that a resumed study is the same one."""

from __future__ import annotations

import time
from importlib.metadata import version
from typing import Any

import jax

from jhpo.errors import ChangedSpace, InvalidSpace, StorageError, check_integer, invalid
from jhpo.keys import SEEDS
from jhpo.space.space import Space
from jhpo.storage.codec import Event
from jhpo.storage.spec import StrategyElsewhere, make_from_spec, readable_strategy, spec_diff, strategy_spec
from jhpo.strategies import make_strategy
from jhpo.strategies.base import Strategy
from jhpo.version import __version__

DIRECTIONS = ("minimize", "maximize")


def check_arguments(space: Any, strategy: Any, seed: Any, direction: Any, replicates: Any) -> Strategy:
    """The strategy as an instance; raises `InvalidArgument` for whatever cannot make a study."""
    if not isinstance(space, Space):
        raise invalid("space", "a jhpo.Space", space)
    if isinstance(strategy, str):
        strategy = make_strategy(strategy)
    if not isinstance(strategy, Strategy):
        raise invalid("strategy", "an instance of a jhpo strategy, or a registered name", strategy)
    check_integer("seed", seed, 0, SEEDS - 1)
    check_integer("replicates", replicates)
    if direction not in DIRECTIONS:
        raise invalid("direction", f"one of {DIRECTIONS}", direction)
    return strategy


def float64() -> bool:
    """Whether this process computes in float64 now."""
    return bool(jax.numpy.result_type(float) == jax.numpy.float64)


def make(space: Space, strategy: Strategy, seed: int, direction: str, replicates: int) -> dict[str, Any]:
    """The event's body."""
    return {
        "space": space.to_json(),
        "strategy": strategy_spec(strategy),
        "seed": int(seed),
        "direction": direction,
        "replicates": int(replicates),
        "x64": float64(),  # the strategy goes on in the precision it began in
        "created": time.time(),
        "versions": {"jhpo": __version__, "jax": version("jax"), "jaxlib": version("jaxlib")},
    }


def check_same(header: dict[str, Any], wanted: dict[str, Any], space: Space) -> None:
    """Refuse to continue a study with another space, strategy, seed or direction.

    Raises:
        ChangedSpace: the space differs; the message lists how.
        InvalidArgument: something else differs.
    """
    if header["space"] != wanted["space"]:
        try:
            differences = stored_space(header, space).diff(space)
        except InvalidSpace as error:
            differences = [str(error)]
        raise ChangedSpace(
            "the stored study searches another space:\n  "
            + "\n  ".join(differences or ["the constraints were other functions, or the tree was nested otherwise"])
        )
    _check_strategy(header["strategy"], wanted["strategy"])
    for name in ("seed", "direction", "replicates"):
        if header[name] != wanted[name]:
            raise invalid(name, f"that of the stored study, {header[name]!r}", wanted[name])


def _check_strategy(stored: dict[str, Any], given: dict[str, Any]) -> None:
    changes = spec_diff(stored, given)
    if changes:
        raise invalid("strategy", "that of the stored study", "; ".join(changes))


def stored_space(header: dict[str, Any], given: Space | None) -> Space:
    """The space as it was stored: constraints of `given` where their number fits, other choices by name."""
    try:
        return Space.from_json(header["space"], given.constraints if given is not None else (), named=True)
    except InvalidSpace:
        import json

        bare = json.loads(header["space"])
        bare["constraints"] = []
        return Space.from_json(json.dumps(bare), named=True)


def restore(event: Event, space: Space | None, strategy: Strategy | None, read_only: bool) -> tuple[Space, Strategy]:
    """Space and strategy of a stored study.

    Raises:
        StorageError: the header is damaged, or something that cannot be stored was not given.
        ChangedSpace: `space` is another one.
        InvalidArgument: `strategy` is another one.
    """
    header = event.body
    if event.kind != "study" or not _well_formed(header):
        raise StorageError("the storage does not begin with the description of a study; run `jhpo repair`")
    if strategy is None:
        # a reader needs no strategy either
        strategy = readable_strategy(header["strategy"]) if read_only else make_from_spec(header["strategy"])
    elif not read_only:
        _check_strategy(header["strategy"], strategy_spec(strategy))
    if space is None:
        try:
            # a reader needs no constraints: they matter to those who propose and measure
            space = stored_space(header, None) if read_only else Space.from_json(header["space"])
        except (InvalidSpace, RecursionError, KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"the stored space needs its Python definition, Study.load(..., space=): {error}"
            raise StorageError(message) from error
    elif not read_only or header["space"] != space.to_json():
        wanted = make(space, strategy, header["seed"], header["direction"], header["replicates"])
        if isinstance(strategy, StrategyElsewhere):
            wanted["strategy"] = header["strategy"]
        check_same(header, wanted, space)
    return space, strategy


def _well_formed(header: dict[str, Any]) -> bool:
    kinds = {"space": str, "strategy": dict, "seed": int, "direction": str, "replicates": int, "x64": bool}
    return (
        all(type(header.get(name)) is kind for name, kind in kinds.items())
        and header["direction"] in DIRECTIONS
        and 0 <= header["seed"] < SEEDS
        and header["replicates"] >= 1
    )
