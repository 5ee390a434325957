"""The registry of search strategies."""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Any

from jhpo.errors import UnknownStrategy, check_integer, invalid, made_with, read_call

if TYPE_CHECKING:  # listing the names does not import JAX
    from collections.abc import Mapping

    from jhpo.objectives import Objectives
    from jhpo.strategies.base import Strategy

# name: (module, class, description in one line)
REGISTRY: dict[str, tuple[str, str, str]] = {
    "random": ("jhpo.strategies.random", "RandomSearch", "independent random points"),
    "sobol": ("jhpo.strategies.sobol", "SobolSearch", "scrambled Sobol sequence"),
    "grid": ("jhpo.strategies.grid", "GridSearch", "every combination of a few values"),
    "greedy": ("jhpo.strategies.greedy", "Greedy", "pattern search around the best point"),
    "pso": ("jhpo.strategies.pso", "PSO", "particle swarms: spso2006 and its kin by variant="),
    "de": ("jhpo.strategies.differential", "DifferentialEvolution", "differential evolution, L-SHADE"),
    "hypergradient": (
        "jhpo.strategies.hypergradient.strategy",
        "HyperGradient",
        "descent along hypergradients, with any optax optimiser",
    ),
    "chain": ("jhpo.strategies.chain", "Chain", "a search, then a polish from its best points: search=, polish="),
    "nsga2": ("jhpo.strategies.nsga2", "NSGA2", "several objectives: a population that spreads over their front"),
    "nsga3": ("jhpo.strategies.nsga3", "NSGA3", "many objectives: a population along reference directions"),
    "cmaes": ("jhpo.strategies.cmaes", "CMAES", "covariance matrix adaptation with restarts"),
    "successive-halving": (
        "jhpo.strategies.halving",
        "SuccessiveHalving",
        "short trainings of many, the best of them trained on: eta=, min_steps=, proposer=",
    ),
    "hyperband": ("jhpo.strategies.halving", "Hyperband", "successive halving in brackets of different boldness"),
    "asha": (
        "jhpo.strategies.asha",
        "ASHA",
        "members paused at rungs, places refilled: batch=; functions that report: eta=, min_steps=, proposer=",
    ),
    "freeze-thaw": (
        "jhpo.strategies.freeze_thaw",
        "FreezeThaw",
        "trains on, a little at a time, what promises most by its learning curve: batch=, interval=, effort=",
    ),
    "pbt": (
        "jhpo.strategies.pbt",
        "PopulationBasedTraining",
        "one population trained once, losers go on from winners: exchange=, fraction=, scale=",
    ),
    "bayes": ("jhpo.strategies.bayes.strategy", "BayesOpt", "Bayesian optimisation with Gaussian processes"),
}


def strategy_from_text(text: str) -> Strategy:
    """An instance from text: a name, optionally with keyword options as in a Python call.

    Raises:
      UnknownStrategy: no such name.
      InvalidArgument: the text is not of this form, an unknown option, or an invalid value.

    >>> strategy_from_text("random(population=8)").population
    8
    """
    return make_strategy(*read_call("strategy", text, "pso(population=16)"))


def as_strategy(given: Strategy | str, argument: str = "strategy") -> Strategy:
    """The strategy that an argument stands for: an instance, or text as for `strategy_from_text`.

    Raises:
      UnknownStrategy: no such name.
      InvalidArgument: neither, or text with an unknown option or an invalid value.

    >>> as_strategy("pso(population=16)").population
    16
    """
    from jhpo.strategies.base import Strategy

    if isinstance(given, str):
        return strategy_from_text(given)
    if not isinstance(given, Strategy):
        note = f"write {given.__name__}()" if isinstance(given, type) and issubclass(given, Strategy) else ""
        if isinstance(given, int):
            note = "numbers of evaluations are named: budget=..."
        raise invalid(argument, "an instance of a jhpo strategy, or a registered name", given, note=note)
    _check_whole(argument, given)
    return given


def _check_whole(argument: str, given: Strategy) -> None:
    """Raises InvalidArgument if a strategy of the user's lacks a method, or the decorator that makes it a pytree."""
    import jax

    from jhpo.strategies.base import Strategy

    required = ("population", "init", "ask", "tell")
    missing = [name for name in required if getattr(type(given), name, None) is getattr(Strategy, name)]
    if missing:
        raise invalid(argument, f"one with {', '.join(required)}", type(given).__name__, note=f"it lacks {missing}")
    if any(leaf is given for leaf in jax.tree.leaves(given)):
        raise invalid(argument, "an instance of a class with the decorator @jhpo.strategy", type(given).__name__)
    if not given.phased:
        name = f"{type(given).__name__}.population"
        check_integer(name, given.population)
        if _follows_leaves(given):
            raise invalid(argument, f"{name} from a jhpo.static_field, which determines the program", "a coefficient")


def _follows_leaves(given: Strategy) -> bool:
    """Whether the population depends on fields that are traced."""
    import jax

    try:
        return bool(jax.tree.map(lambda _: 0.5, given).population != given.population)
    except (AttributeError, LookupError, TypeError, ValueError):  # as one that takes the length of a field does
        return True


def read_inner(argument: str, given: Any, *, optional: bool = False) -> Any:
    """The strategy that an option of another strategy stands for: an instance, or text as for `strategy_from_text`.

    None stays None where it is optional.

    Raises:
      UnknownStrategy: no such name.
      InvalidArgument: something else (a class, a list), or text that is not of this form.

    >>> read_inner("proposer", "random(population=8)").population
    8
    """
    return None if given is None and optional else as_strategy(given, argument)


def strategy_class(name: str) -> type[Strategy]:
    """The class registered under a name, or of this name; "freeze_thaw" and "FreezeThaw" are "freeze-thaw".

    Raises:
      UnknownStrategy: no such name; the message lists the names.

    >>> strategy_class("random").__name__, strategy_class("BayesOpt").__name__
    ('RandomSearch', 'BayesOpt')
    """
    if (found := REGISTRY.get(name) or _spellings().get(_bare(name))) is None:
        raise UnknownStrategy(f"strategy: expected one of {sorted(REGISTRY)}, got {name!r}")
    return getattr(importlib.import_module(found[0]), found[1])


def _bare(name: str) -> str:
    return name.lower().replace("-", "").replace("_", "")


@functools.cache
def _spellings() -> dict[str, tuple[str, str, str]]:
    """The registry by names and by names of classes, without case and dashes."""
    return {_bare(name): found for word, found in REGISTRY.items() for name in (word, found[1])}


def for_objectives(strategy: Strategy, objectives: Objectives | None) -> Strategy:
    """The strategy for these objectives; None for a single one.

    Raises:
      InvalidArgument: there are several, and it can only take one; the message lists those that can take them.

    >>> from jhpo.objectives import Objectives
    >>> for_objectives(make_strategy("nsga2"), Objectives(("minimize", "maximize"))).objectives
    2
    """
    from jhpo.objectives import Objectives

    if objectives is not None and not strategy.several:
        able = [name for name in REGISTRY if strategy_class(name).several]
        raise invalid("strategy", f"one for several objectives: {able}", type(strategy).__name__)
    return strategy.for_objectives(Objectives(("minimize",)) if objectives is None else objectives)


def make_strategy(name: str, options: Mapping[str, Any] | None = None) -> Strategy:
    """An instance by registered name and options.

    Raises:
      UnknownStrategy: no such name.
      InvalidArgument: an unknown option, or an invalid value.

    >>> make_strategy("random", {"population": 8}).population
    8
    """
    return made_with(strategy_class(name), name, options or {})
