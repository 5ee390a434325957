"""Which rule stops the trials of a search early: that of the user, or that of the strategy; and whether folds do."""

from __future__ import annotations

from jhpo.curves.rules import EarlyStop, check_early_stop
from jhpo.errors import invalid
from jhpo.objectives import Objectives, check_single
from jhpo.strategies.base import Strategy


def rule_of(strategy: Strategy, given: EarlyStop | str | None, objectives: Objectives | None) -> EarlyStop | None:
    """The rule that stops trials early: the given one, or that of the strategy.

    Args:
        strategy: of the search.
        given: the argument ``early_stop``: a rule, text as for `rule_from_text`, or None.
        objectives: of the search if there are several, otherwise None.

    Raises:
        InvalidArgument: no such rule, one beside a strategy that stops trials itself, or one for several objectives.

    >>> from jhpo import ASHA, RandomSearch
    >>> rule_of(RandomSearch(), "patience", None)
    PatienceStopping(patience=10, tolerance=0.0, min_steps=0)
    >>> rule_of(ASHA(max_steps=9), None, None)
    HalvingStopping(eta=3, min_steps=1, max_steps=9)
    """
    rule = check_early_stop(given)
    if rule is not None and (strategy.continues or strategy.early_stop is not None):
        raise invalid("early_stop", f"None beside {type(strategy).__name__}, which stops trials itself", rule)
    rule = strategy.early_stop if rule is None else rule
    if rule is not None:
        check_single("early_stop", objectives, "which of them should decide is not known")
    return rule


def check_fold_by_fold(strategy: Strategy, fold_by_fold: bool) -> None:
    """Refuses one fold after the other where a fold cannot stand for a part of a training.

    Args:
        strategy: of the search.
        fold_by_fold: the argument.

    Raises:
        InvalidArgument: a strategy that changes hyperparameters between the parts, or extrapolates over them.
    """
    if not fold_by_fold:
        return
    name = type(strategy).__name__
    if strategy.evolves:
        raise invalid("fold_by_fold", f"False with {name}, whose members change hyperparameters as they train", True)
    if strategy.thaws:
        raise invalid("fold_by_fold", f"False with {name}, which extrapolates learning curves", True)
