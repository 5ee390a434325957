"""What each factor of a factorial is worth, from runs whose label says which factors are on.

    python benchmarks/bayes_quality.py --yahpo DIR --results runs.jsonl --run none --factors LRN

Runs labelled ``jhpo:LN`` are those with factors L and N on and R off, ``jhpo:-`` those with none. Every run then serves
every factor: for the same error a comparison of variants one by one needs several times as many. Runs of one problem
with one seed begin with the same design, and are compared among themselves only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from bayes_report import Table

Families = Mapping[str, Sequence[str]]


def effects(values: np.ndarray, on: np.ndarray, blocks: Sequence[object]) -> tuple[np.ndarray, np.ndarray]:
    """Least squares of the values on the factors and the blocks; errors that allow for unequal spreads (White 1980).

    Args:
        values: float[n]. on: bool[n, k], which of k factors are on. blocks: n keys; a value of its own for each.

    Returns:
        ``(worth[k], error[k])``, value with a factor less that without, and standard error.

    Raises:
        ValueError: the runs do not tell the factors apart.

    >>> on = np.array([[0, 0], [1, 0], [0, 1], [1, 1]] * 2, bool)
    >>> values = np.array([1.0, 3.0, 0.0, 2.0, 5.0, 7.0, 4.0, 6.0])
    >>> effects(values, on, [0] * 4 + [1] * 4)[0].round(6).tolist()
    [2.0, -1.0]
    """
    names = {block: i for i, block in enumerate(dict.fromkeys(blocks))}
    index = np.array([names[block] for block in blocks])
    sizes = np.bincount(index)
    within = lambda x: x - (np.bincount(index, x) / sizes)[index]  # noqa: E731
    y, x = within(values), np.stack([within(column.astype(float)) for column in on.T], axis=1)
    if np.linalg.matrix_rank(x) < x.shape[1]:
        raise ValueError("factors: expected runs that tell them apart, got some that are only on or off together")
    inverse = np.linalg.inv(x.T @ x)
    worth = inverse @ x.T @ y
    scored = x * (y - x @ worth)[:, None]
    left = len(y) - len(sizes) - x.shape[1]
    error = np.sqrt(np.diag(inverse @ scored.T @ scored @ inverse) * len(y) / max(left, 1))
    return worth, error


def factorial(table: Table, families: Families, factors: str, budgets: Sequence[int]) -> None:
    """Print what each factor changes: regret times 1,000 with its error, over all problems and family by family."""
    letters = {*factors, "-"}
    labels = [m for m in {method for method, _ in table.runs} if m.startswith("jhpo:") and set(m[5:]) <= letters]
    here = {f: [n for n in names if any((m, n) in table.runs for m in labels)] for f, names in families.items()}
    here = {f: names for f, names in here.items() if names}
    every = [n for names in here.values() for n in names]
    for chosen in (*([b] for b in budgets), budgets):
        columns = []
        for some in (every, *here.values()):
            runs = [x for n in some for m in labels for x in table.runs.get((m, n), []) if len(x["ys"]) >= max(chosen)]
            values = np.array([np.mean([table.regret_of(x, b) for b in chosen]) for x in runs])
            on = np.array([[c in x["peer"][5:] for c in factors] for x in runs])
            columns.append((values, *effects(values, on, [(x["problem"], x["seed"]) for x in runs])))
        print(f"\n| regret x 1000 after {chosen} | all | {' | '.join(here)} |\n|---|" + "---|" * (1 + len(here)))
        print("| mean (runs) | " + " | ".join(f"{1e3 * v.mean():.0f} ({len(v)})" for v, _, _ in columns) + " |")
        for i, factor in enumerate(factors):
            cells = [f"{1e3 * worth[i]:+.1f} ± {1e3 * error[i]:.1f}" for _, worth, error in columns]
            print(f"| {factor} | " + " | ".join(cells) + " |")
