"""The first event of a study: what is searched and how; and the check that a resumed study is the same one."""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import time
from importlib.metadata import version
from typing import Any

import jax

from jhpo.errors import ChangedSpace, InvalidArgument, InvalidSpace, StorageError, check_integer, invalid
from jhpo.keys import SEEDS
from jhpo.objectives import DIRECTIONS, Objectives
from jhpo.process.switches import settings_here
from jhpo.space.given import check_space
from jhpo.space.space import Space
from jhpo.space.stored import earlier_json
from jhpo.storage.codec import Entry
from jhpo.storage.spec import StrategyElsewhere, make_from_spec, readable_strategy, spec_diff, strategy_spec
from jhpo.strategies import as_strategy, for_objectives
from jhpo.strategies.base import Strategy
from jhpo.strategies.early_stop import check_fold_by_fold
from jhpo.strategies.usual import usual
from jhpo.study.bodies import read_event
from jhpo.study.events import Begin
from jhpo.training.crossvalidation import check_folds
from jhpo.version import __version__

_GO_ON = "to go on with another, begin a study in another file and give it these results: new.absorb(old)"
SEVERAL = "several"  # stored direction of a study of several objectives, which earlier versions refuse


def check_arguments(
    space: Space,
    strategy: Strategy | str | None,
    seed: object,
    direction: object,
    replicates: object,
    folds: object = 1,
    objectives: Objectives | None = None,
    fold_by_fold: bool = False,
) -> Strategy:
    """The strategy as an instance, `usual` if None.

    Raises:
        InvalidArgument: an invalid argument of `jhpo.Study`.
    """
    check_space(space)
    strategy = usual(space, several=objectives is not None) if strategy is None else as_strategy(strategy)
    check_integer("seed", seed, 0, SEEDS - 1)
    check_integer("replicates", replicates)
    check_folds(folds, fold_by_fold)
    check_fold_by_fold(strategy, fold_by_fold)
    if direction not in DIRECTIONS:
        raise invalid("direction", f"one of {DIRECTIONS}", direction)
    return for_objectives(strategy, objectives)


def float64() -> bool:
    """Whether this process computes in float64 now."""
    return bool(jax.numpy.result_type(float) == jax.numpy.float64)


def settings() -> dict[str, str]:
    """JAX's settings, beside its precision, on which the results of its programs depend, as text."""
    found = settings_here(("jax_threefry_partitionable", "jax_default_matmul_precision"))
    return {name: str(value) for name, value in found.items()}


def make(
    space: Space,
    strategy: Strategy,
    seed: int,
    direction: str,
    replicates: int,
    folds: int = 1,
    objectives: Objectives | None = None,
    fold_by_fold: bool = False,
) -> Begin:
    """The first event of a new study."""
    return Begin(
        space=space.to_json(),
        strategy=strategy_spec(strategy),
        seed=int(seed),
        direction=direction if objectives is None else SEVERAL,
        replicates=int(replicates),
        x64=float64(),  # the strategy goes on in the precision it began in
        created=time.time(),
        versions=_versions(),
        directions=None if objectives is None else list(objectives.directions),
        names=None if objectives is None or objectives.names is None else list(objectives.names),
        folds=int(folds),
        fold_by_fold=fold_by_fold,
        settings=settings(),
    )


def _versions() -> dict[str, str]:
    """What the study is made with and on; the machine without its name."""
    made = {"jhpo": __version__, "jax": version("jax"), "jaxlib": version("jaxlib")}
    kind = f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores"
    return made | {"python": platform.python_version(), "machine": kind}


def objectives_of(begin: Begin) -> Objectives | None:
    """The objectives of a study, or None if there is only one."""
    if begin.directions is None:
        return None
    return Objectives(tuple(begin.directions), None if begin.names is None else tuple(begin.names))


def read_begin(entry: Entry) -> Begin:
    """The first event of a log.

    Raises:
        StorageError: the entry is of another kind, or damaged.
    """
    if entry.kind != Begin.kind or not _well_formed(entry.body):
        raise StorageError("the storage does not begin with the description of a study; try `jhpo repair`")
    begin = read_event(entry)
    assert isinstance(begin, Begin)
    return begin


def _well_formed(body: dict[str, Any]) -> bool:
    kinds = {"space": str, "strategy": dict, "seed": int, "direction": str, "replicates": int, "x64": bool}
    return (
        all(type(body.get(name)) is kind for name, kind in kinds.items())
        and (body["direction"] in DIRECTIONS or (body["direction"] == SEVERAL and _directions(body.get("directions"))))
        and 0 <= body["seed"] < SEEDS
        and body["replicates"] >= 1
        and type(body.get("folds", 1)) is int
        and body.get("folds", 1) >= 1
        and type(body.get("fold_by_fold", False)) is bool
    )


def _directions(found: object) -> bool:
    return isinstance(found, list) and len(found) > 1 and all(d in DIRECTIONS for d in found)


def check_same(stored: Begin, wanted: Begin, space: Space) -> None:
    """Refuse to continue a study with another space, strategy, seed or direction.

    Raises:
        ChangedSpace: the space differs; the message lists how.
        InvalidArgument: something else differs.
    """
    if stored.space not in (wanted.space, earlier_json(wanted.space)):
        try:
            differences = _stored_space(stored, space).diff(space)
        except InvalidSpace as error:
            differences = [str(error)]
        raise ChangedSpace(
            "the stored study searches another space:\n  "
            + "\n  ".join(differences or ["the constraints were other functions, or the tree was nested otherwise"])
            + f"\n{_GO_ON}, or new.absorb([trial for trial in old if ...]) of those that lie in the new space"
        )
    _check_strategy(stored.strategy, wanted.strategy)
    for name in ("seed", "direction", "directions", "names", "replicates", "folds", "fold_by_fold"):
        if getattr(stored, name) != getattr(wanted, name):
            raise invalid(name, f"that of the stored study, {getattr(stored, name)!r}", getattr(wanted, name))


def _check_strategy(stored: dict[str, Any], given: dict[str, Any]) -> None:
    changes = spec_diff(stored, given)
    if changes:
        text = "; ".join(change.removeprefix("strategy: ") for change in changes)
        raise InvalidArgument(f"strategy: expected that of the stored study, got another ({text}); {_GO_ON}")


def _stored_space(stored: Begin, given: Space | None) -> Space:
    """The space as it was stored: constraints of `given` where their number fits, other choices by name."""
    try:
        return Space.from_json(stored.space, given.constraints if given is not None else (), named=True)
    except InvalidSpace:
        bare = json.loads(stored.space)
        bare["constraints"] = []
        return Space.from_json(json.dumps(bare), named=True)


def restore(
    stored: Begin, space: Space | None, strategy: Strategy | str | None, read_only: bool
) -> tuple[Space, Strategy]:
    """Space and strategy of a stored study.

    Raises:
        StorageError: a part that cannot be stored was not given.
        ChangedSpace: `space` is another one.
        InvalidArgument: `strategy` is another one.
    """
    strategy = None if strategy is None else as_strategy(strategy)
    if strategy is None:
        # a reader needs no strategy either
        strategy = readable_strategy(stored.strategy) if read_only else make_from_spec(stored.strategy)
    elif not read_only:
        strategy = for_objectives(strategy, objectives_of(stored))
        _check_strategy(stored.strategy, strategy_spec(strategy))
    if space is None:
        try:
            # a reader needs no constraints: they matter to those who propose and measure
            space = _stored_space(stored, None) if read_only else Space.from_json(stored.space)
        except (InvalidSpace, RecursionError, KeyError, TypeError, ValueError, AttributeError) as error:
            message = f"the stored space needs its Python definition, Study.load(..., space=): {error}"
            raise StorageError(message) from error
    elif not read_only or stored.space != space.to_json():
        wanted = make(
            space, strategy, stored.seed, stored.direction, stored.replicates, stored.folds, objectives_of(stored),
            stored.fold_by_fold,
        )  # fmt: skip
        if isinstance(strategy, StrategyElsewhere):
            wanted = dataclasses.replace(wanted, strategy=stored.strategy)
        check_same(stored, wanted, space)
    return space, strategy
