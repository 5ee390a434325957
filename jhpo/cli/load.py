"""Loading the objective and the space from a user's file."""

from __future__ import annotations

import importlib.util
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from jhpo.errors import LIBRARIES, InvalidArgument, JhpoError, UnknownStrategy, line_of, made_with, read_call
from jhpo.evaluation.evaluators import Objective
from jhpo.evaluation.executors import HostObjective
from jhpo.space.space import Space
from jhpo.strategies import as_strategy, make_strategy
from jhpo.strategies.base import Strategy
from jhpo.strategies.usual import AT_ONCE, usual


class Target(NamedTuple):
    """An objective and a space to tune."""

    objective: Objective
    space: Space
    options: dict[str, Any]  # defaults set by the file: "direction", "metric", "replicates", ...
    name: str
    strategies: dict[str, type[Strategy]] = {}  # classes of strategies that the file defines, by name


class BadFile(InvalidArgument):
    """The file, or the name in it, cannot be tuned."""


def load_target(text: str) -> Target:
    """The target of ``FILE.py`` or ``FILE.py:NAME``.

    A file defines a `jhpo.Tuning` (by default named ``tuning``), or a `space` and an `objective`.

    Raises:
        BadFile: no such file or name, or it cannot be tuned.
    """
    path, name = _split(text)
    module = import_file(path)
    if not name and not hasattr(module, "tuning"):
        if hasattr(module, "space") and hasattr(module, "objective"):
            return _checked(Target(module.objective, module.space, {}, "objective"), path, module)
        raise BadFile(f"{path} offers nothing to tune: expected 'tuning', or 'space' and 'objective'{_offers(module)}")
    name = name or "tuning"
    if not hasattr(module, name):
        raise BadFile(f"{path} has no {name!r}{_offers(module)}")
    return _checked(_from_value(getattr(module, name), name, module, path), path, module)


def _split(text: str) -> tuple[Path, str]:
    file, colon, name = text.rpartition(":")
    if not colon or "/" in name or "\\" in name or name.endswith(".py"):
        file, name = text, ""
    path = Path(file)
    if path.is_dir():
        raise BadFile(f"expected a Python file, got the folder {path}")
    if not path.is_file():
        raise BadFile(f"there is no file {path}")
    if path.suffix != ".py":
        raise BadFile(f"expected a Python file (.py), got {path}")
    if name and not name.isidentifier():
        raise BadFile(f"expected FILE.py:NAME with a Python name, got {name!r}")
    return path, name


def import_file(path: Path) -> ModuleType:
    """Imports a file as a module, with its folder in `sys.path` as for a script.

    Raises:
        BadFile: the file cannot be read as Python, raises while it is imported, or asks to exit.
    """
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    # not the bare stem: a file called random.py must not shadow a library's module
    name = f"jhpo_file_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path.resolve())
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (SyntaxError, UnicodeDecodeError) as error:
        raise BadFile(f"{path} is not Python: {error}") from error
    except SystemExit as error:
        raise BadFile(f"{path} ended with sys.exit({error.code!r}) while it was imported") from error
    except JhpoError as error:  # it names what is wrong, a bound for example, but not of which parameter
        error.args = (f"{error}{line_of(error, (*LIBRARIES, 'importlib'))}",)
        raise
    except Exception as error:
        trace = error.__traceback__
        while trace is not None and trace.tb_frame.f_code.co_filename != spec.origin:
            trace = trace.tb_next  # lines of the command line itself help nobody
        lines = traceback.format_exception(type(error), error, trace)
        raise BadFile(f"{path} failed while it was imported\n{''.join(lines).rstrip()}") from error
    return module


def _from_value(value: Any, name: str, module: ModuleType, path: Path) -> Target:
    if hasattr(value, "space") and isinstance(value.space, Space):
        objective: Any = getattr(value, "objective", None)
        objective = getattr(value, "trainable", None) if objective is None else objective
        names = ["direction", "directions", "metric", "replicates", "folds", "strategy", "budget", "target"]
        names += ["early_stop", "fold_by_fold"]
        options = {n: getattr(value, n) for n in names if getattr(value, n, None) is not None}
        return Target(objective, value.space, options, name)
    if _objective(value):
        if not hasattr(module, "space"):
            how = f"write space = jhpo.Space({{...}}), or a jhpo.Tuning({name}, space)"
            raise BadFile(f"{path}: {name!r} is an objective, but the file defines no 'space' to search; {how}")
        return Target(value, module.space, {}, name)
    expected = f"{path}: expected {name!r} to be a jhpo.Tuning or an objective"
    got = f"a class: write objective = {name}()" if isinstance(value, type) else type(value).__name__ + _offers(module)
    raise BadFile(f"{expected}, got {got}")


def _checked(target: Target, path: Path, module: ModuleType) -> Target:
    if not isinstance(target.space, Space):
        raise BadFile(f"{path}: expected 'space' to be a jhpo.Space, got {type(target.space).__name__}")
    if not _objective(target.objective):
        raise BadFile(f"{path}: {target.name!r} has no objective that can be evaluated")
    kinds = {name: kind for name, kind in vars(module).items() if isinstance(kind, type) and issubclass(kind, Strategy)}
    return target._replace(strategies={n: kind for n, kind in kinds.items() if not kind.__module__.startswith("jhpo.")})


def named_strategy(found: Target, text: str, options: dict[str, Any]) -> Strategy | str:
    """The strategy that ``--strategy`` names: one of the file's classes, ``Mine(population=8)``, or one of jhpo's.

    Raises:
        UnknownStrategy: neither has one of this name.
        InvalidArgument: an unknown option, or an invalid value.
    """
    if text.partition("(")[0].strip() in found.strategies:
        name, own = read_call("strategy", text, "pso(population=16)")
        return made_with(found.strategies[name], name, own | options)
    try:
        return make_strategy(text, options) if options else as_strategy(text)
    except UnknownStrategy as error:
        more = f"; the file has {sorted(found.strategies)}" if found.strategies else ""
        raise UnknownStrategy(f"{error}{more}") from error


def chosen_strategy(
    found: Target, text: str | None, options: dict[str, Any], budget: int, *, several: bool, stored: bool
) -> Strategy | str | None:
    """The strategy of a search: that of the command line, of the file, the stored one (None), or the usual one.

    Args:
        found: what the file has. text: of ``--strategy``. options: of ``--set``. budget: evaluations of the study.
        several: whether there are several objectives. stored: whether a stored study is continued.

    Raises:
        UnknownStrategy, InvalidArgument: see `named_strategy`; options of no strategy.
    """
    chosen = text or found.options.get("strategy")
    if isinstance(chosen, str):
        return named_strategy(found, chosen, options)
    if options:
        brings = "" if chosen is None else " (the file brings a strategy that is made already)"
        raise InvalidArgument(f"--set: expected --strategy beside it, whose options these are{brings}")
    if chosen is not None or stored:
        return chosen
    at_once = 1 if isinstance(found.objective, HostObjective) else AT_ONCE
    return usual(found.space, budget, several=several, at_once=at_once)


def _offers(module: ModuleType) -> str:
    """The names in a file that can be tuned, or how to write one, as a part of an error."""
    tunings, functions = [], []
    for name, value in vars(module).items():
        own = getattr(value, "__module__", None) == module.__name__  # not what it imports
        if isinstance(getattr(value, "space", None), Space):
            tunings.append(name)
        elif not name.startswith("_") and _objective(value) and (own or _task(value)):
            functions.append(name)
    searched = isinstance(getattr(module, "space", None), Space)
    found = tunings + (functions if searched else [])
    if found:
        return f"; it offers {', '.join(map(repr, found))}"
    if functions:
        like = f"tuning = jhpo.Tuning({functions[0]}, space), or space = jhpo.Space({{...}}) beside it"
        return f"; to tune {' or '.join(map(repr, functions))}, write {like}"
    return "; write tuning = jhpo.Tuning(objective, space), as `jhpo init` does"


def _objective(value: Any) -> bool:
    """Whether it may be an objective."""
    return not isinstance(value, type) and (callable(value) or _task(value))


def _task(value: Any) -> bool:
    """Whether it is a trainable, or an objective of `jhpo.host`."""
    return not isinstance(value, type) and (hasattr(value, "evaluate") or hasattr(value, "evaluator"))
