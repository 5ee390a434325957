"""What the words of the command line mean together with the file, and the command that continues a study."""

from __future__ import annotations

import ast
import shlex
from typing import TYPE_CHECKING, Any

from jhpo.errors import InvalidArgument

if TYPE_CHECKING:  # `jhpo --help` imports no JAX
    from jhpo.cli.load import Target
    from jhpo.evaluation.evaluators import Objective
    from jhpo.objectives import Directions

# of figures, in `jhpo.report.figures`, which takes long to import
KINDS = (
    "history, importance, parallel, slice, contour, rank, edf, curves, schedules, population, gradients, model, "
    "timeline, failures, times; of several objectives pareto, hypervolume"
)


def strategy_options(texts: list[str]) -> dict[str, Any]:
    """Options from ``NAME=VALUE`` texts; values are Python literals, otherwise strings."""
    options: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise InvalidArgument(f"--set: expected NAME=VALUE, got {text!r}")
        try:
            options[name.strip()] = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            options[name.strip()] = value.strip()
    return options


def measured(found: Target, metric: str | None, direction: str | None) -> tuple[Objective, str | None, str]:
    """The objective, the metric, and the direction, from the command line, the metric or the file, in this order."""
    from jhpo.training.metrics import direction_of

    objective, name = found.objective, metric or found.options.get("metric")
    if metric is not None and hasattr(objective, "with_metric"):
        objective = objective.with_metric(metric)
    own = direction_of(objective, name)
    stated = own if metric is not None and own else found.options.get("direction")
    return objective, name, direction or stated or own or "minimize"


def directions_of(found: Target, text: str | None) -> Directions | None:
    """Directions of several objectives from the command line, or else the file; None for one objective."""
    if text is None:
        return found.options.get("directions")
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1:
        return None
    pairs = [part.partition("=") for part in parts]
    if all(equals for _, equals, _ in pairs):
        return {name.strip(): way.strip() for name, _, way in pairs}
    return parts


def command_again(
    target: str, strategy: str | None, budget: int | None, storage: str | None, seed: int, option: list[str],
    direction: str | None, metric: str | None, early_stop: str | None, folds: int | None,
    fold_by_fold: bool | None = None,
) -> str:  # fmt: skip
    """The command that continues this study, with a password of a database as ``***``.

    >>> url = "postgresql://me:secret@host/studies"
    >>> command_again("net.py", None, 64, url, 0, [], None, None, None, None)
    "jhpo tune net.py --budget 64 --storage 'postgresql+psycopg://me:***@host/studies' --seed 0 --resume"
    """
    from jhpo.storage import without_password

    parts = ["jhpo", "tune", target]
    stored = None if storage is None else without_password(storage)
    given = {"--strategy": strategy, "--budget": budget, "--storage": stored}
    given |= {"--direction": direction, "--metric": metric, "--early-stop": early_stop, "--folds": folds}
    for name, value in given.items():
        parts += [] if value is None else [name, str(value)]
    parts += ["--fold-by-fold"] if fold_by_fold else []
    parts += ["--seed", str(seed)]
    for text in option:
        parts += ["--set", text]
    return shlex.join([*parts, "--resume"])
