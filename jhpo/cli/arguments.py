"""What the words of the command line mean together with the file, and the command that continues a study."""

from __future__ import annotations

import ast
import itertools
import os
import shlex
from collections.abc import Mapping
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


def command_again(target: str, storage: str | None, seed: int, options: Mapping[str, object]) -> str:
    """The command that continues this study, with a password of a database as ``***``.

    Args:
        target: the file.
        storage: file or URL of the study.
        seed: that of the study.
        options: the others by name; None, False and empty lists were not given.

    >>> command_again("net.py", "postgresql://me:secret@host/studies", 0, {})
    "jhpo tune net.py --storage 'postgresql+psycopg://me:***@host/studies' --seed 0 --resume"
    >>> command_again("net.py", "s.db", 0, {"--budget": 64, "--target": None, "--set": ["width=2"], "--live": True})
    'jhpo tune net.py --storage s.db --budget 64 --set width=2 --live --seed 0 --resume'
    """
    from jhpo.storage import without_password

    parts = ["jhpo", "tune", target]
    parts += [] if storage is None else ["--storage", without_password(storage)]
    for name, value in options.items():
        for each in value if isinstance(value, list) else [value]:
            parts += [] if each is None or each is False else [name] if each is True else [name, str(each)]
    return shlex.join([*parts, "--seed", str(seed), "--resume"])


def name_shell(words: list[str]) -> None:
    """`--install-completion zsh` is for zsh: unless told so, typer takes the shell that it runs in, and no name."""
    options = ("--install-completion", "--show-completion")
    named = any(word in options and not after.startswith("-") for word, after in itertools.pairwise(words))
    if named or any(word.startswith(tuple(f"{option}=" for option in options)) for word in words):
        os.environ["_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION"] = "1"
