"""What the runs on the development problems say: mean rank and regret by family, stuck runs, the worst problems.

Regret is the gap to the lowest value known or met by anyone, over the gap of a median random point. A noisy search is
judged by the value without noise at the point that it found best.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from comparison import mean_ranks

Line = dict[str, Any]
Families = Mapping[str, Sequence[str]]
# Without a gain over so many evaluations a run that a peer's median beats by more than this regret is stuck.
_PATIENCE, _BEATEN = 20, 1e-3


def found(line: Line, budget: int) -> float:
    """What the search has after ``budget`` evaluations; failed ones do not count."""
    ys = np.asarray(line["ys"][:budget], float)
    return float(np.asarray(line.get("truth", line["ys"]), float)[np.nanargmin(ys)])


class Table:
    """Regrets by method and problem.

    Args:
        lines: all runs, of "random" too. problems: those that count. lowest: the lowest value, where it is known.
    """

    def __init__(self, lines: Sequence[Line], problems: Sequence[str], lowest: Mapping[str, float | None]) -> None:
        self.runs: dict[tuple[str, str], list[Line]] = {}
        for line in lines:
            self.runs.setdefault((line["peer"], line["problem"]), []).append(line)
        self.problems = [name for name in problems if ("random", name) in self.runs]
        self.scale = {}
        for name in self.problems:
            values = np.concatenate([x.get("truth", x["ys"]) for x in lines if x["problem"] == name])
            middle = np.median(np.concatenate([x.get("truth", x["ys"]) for x in self.runs["random", name]]))
            known = lowest[name]
            best = float(np.nanmin(values)) if known is None else known
            self.scale[name] = best, float(middle) - best

    def regret(self, method: str, problem: str, budget: int) -> np.ndarray:
        """float[seeds]."""
        runs = [x for x in self.runs.get((method, problem), []) if len(x["ys"]) >= budget]
        return np.array([self.regret_of(x, budget) for x in runs])

    def regret_of(self, line: Line, budget: int) -> float:
        """Of one run."""
        best, size = self.scale[line["problem"]]
        return (found(line, budget) - best) / size

    def methods(self, problems: Sequence[str], budget: int) -> list[str]:
        """Those with a run on every problem."""
        names = sorted({method for method, _ in self.runs})
        return [m for m in names if all(len(self.regret(m, p, budget)) for p in problems)]

    def stuck(self, method: str, problems: Sequence[str], budget: int) -> float:
        """Share of runs without a gain over the last 20 evaluations while the median of another method is better."""
        share = []
        for name in problems:
            others = [m for m in self.methods([name], budget) if m.split(":")[0] != method.split(":")[0]]
            best = min((float(np.median(self.regret(m, name, budget))) for m in others), default=np.inf)
            now, before = self.regret(method, name, budget), self.regret(method, name, budget - _PATIENCE)
            share.append(float(np.mean((now >= before) & (now > best + _BEATEN))))
        return float(np.mean(share))


def report(table: Table, families: Families, budgets: Sequence[int]) -> None:
    """Print everything."""
    last = max(budgets)
    here = {f: [n for n in names if n in table.problems] for f, names in families.items()}
    here = {f: names for f, names in here.items() if names}
    methods = table.methods(table.problems, last)
    print(f"{len(table.problems)} problems; methods with a run of {last} on each: {', '.join(methods)}")
    for budget in budgets:
        cells = [[table.regret(m, name, budget) for m in methods] for name in table.problems]
        rank, error = mean_ranks(cells)
        regret = np.array([[np.mean(s) for s in cell] for cell in cells])
        spread = regret.std(axis=0) / np.sqrt(len(cells))
        print(f"\nafter {budget} | mean rank | mean regret (error over problems) | stuck | " + " | ".join(here))
        for i in np.argsort(rank):
            by_family = (regret[[table.problems.index(n) for n in names], i].mean() for names in here.values())
            stuck = f"{table.stuck(methods[i], table.problems, budget):.3f}" if budget > _PATIENCE else "-"
            numbers = " | ".join(f"{r:.4f}" for r in by_family)
            print(
                f"| {methods[i]} | {rank[i]:.2f} ± {error[i]:.2f} | {regret[:, i].mean():.4f} ± {spread[i]:.4f} "
                f"| {stuck} | {numbers} |"
            )
    mine = [m for m in methods if m.startswith("jhpo")]
    for method in mine:
        _against(table, method, [m for m in methods if not m.startswith("jhpo") and m != "random"], budgets)


def _against(table: Table, method: str, others: Sequence[str], budgets: Sequence[int]) -> None:
    """Won and lost against each peer, seed by seed, and where most is lost."""
    for other in others:
        parts = []
        for budget in budgets:
            won = lost = 0.0
            for name in table.problems:
                mine, its = table.regret(method, name, budget), table.regret(other, name, budget)
                won += float((mine[:, None] < its[None, :]).mean())
                lost += float((mine[:, None] > its[None, :]).mean())
            parts.append(f"{won:.1f}-{lost:.1f} after {budget}")
        print(f"\n{method} against {other}, problems won and lost: {', '.join(parts)}")
    if others:
        last = max(budgets)
        gap = {
            name: float(np.mean(table.regret(method, name, last)))
            - min(float(np.mean(table.regret(m, name, last))) for m in others)
            for name in table.problems
        }
        worst = sorted(gap, key=lambda name: -gap[name])[:5]
        print("worst, by regret above the best peer's: " + ", ".join(f"{n} {gap[n]:+.4f}" for n in worst))


def leave_one_out(table: Table, families: Families, labels: Sequence[str], budgets: Sequence[int]) -> None:
    """Choose among the labels on all families but one, and see what the choice is worth on that one.

    A label's score on a family is its mean regret over problems and budgets, as a share of the first label's.
    """
    here = [f for f, names in families.items() if any(n in table.problems for n in names)]
    score = np.empty((len(labels), len(here)))
    for i, label in enumerate(labels):
        for j, family in enumerate(here):
            names = [n for n in families[family] if n in table.problems]
            score[i, j] = np.mean([np.mean(table.regret(label, n, b)) for n in names for b in budgets])
    score /= score[:1]
    print("\n| regret as a share of the first's | mean | " + " | ".join(here) + " |\n|---|---|" + "---|" * len(here))
    for label, row in zip(labels, score):
        print(f"| {label} | {row.mean():.3f} | " + " | ".join(f"{v:.3f}" for v in row) + " |")
    chosen = [int(np.argmin(np.delete(score, j, axis=1).mean(axis=1))) for j in range(len(here))]
    print("chosen without the family: " + ", ".join(f"{f} {labels[i]}" for f, i in zip(here, chosen)))
    print(f"worth on the families left out: {np.mean([score[i, j] for j, i in enumerate(chosen)]):.3f}")


def paired(table: Table, families: Families, labels: Sequence[str], budgets: Sequence[int]) -> None:
    """Print what each label changes against the first: regret seed by seed with its error, family by family.

    The last column counts pairs of runs, with the standard score of a sign test.
    """
    here = {f: [n for n in names if n in table.problems] for f, names in families.items()}
    here = {f: names for f, names in here.items() if names}
    every = [n for names in here.values() for n in names]
    for chosen in (*([b] for b in budgets), budgets):
        print(f"\n| regret less {labels[0]}'s after {chosen}, x 1000 | all | {' | '.join(here)} | pairs won-lost |")
        print("|---|" + "---|" * (2 + len(here)))
        for label in labels[1:]:
            moved = {n: _differences(table, label, labels[0], n, chosen) for n in every}
            pairs = [mean_and_error([moved[n] for n in names]) for names in (every, *here.values())]
            cells = [f"{1e3 * mean:+.1f} ± {1e3 * error:.1f}" for mean, error in pairs]
            all_pairs = np.concatenate(list(moved.values()))
            won, lost = int((all_pairs < 0).sum()), int((all_pairs > 0).sum())
            cells.append(f"{won}-{lost} ({(won - lost) / max(won + lost, 1) ** 0.5:+.1f})")
            print(f"| {label} ({len(all_pairs) / len(every):.1f} seeds) | " + " | ".join(cells) + " |")


def _differences(table: Table, label: str, base: str, problem: str, budgets: Sequence[int]) -> np.ndarray:
    """float[seeds]: regret of a label minus that of another, mean over the budgets, over the seeds that both have.

    Runs with one seed begin with the same design: what that is worth cancels.
    """
    mine, its = ({x["seed"]: x for x in table.runs.get((m, problem), [])} for m in (label, base))
    long = [s for s in sorted(mine.keys() & its.keys()) if min(len(r[s]["ys"]) for r in (mine, its)) >= max(budgets)]
    size = table.scale[problem][1]
    return np.array([np.mean([found(mine[s], b) - found(its[s], b) for b in budgets]) / size for s in long])


def mean_and_error(samples: Sequence[np.ndarray]) -> tuple[float, float]:
    """Mean over problems of the means over seeds, and its standard error for other seeds on the same problems.

    Problems with fewer than two seeds do not count; NaN if there are no others.

    >>> mean_and_error([np.array([1.0, 3.0]), np.array([4.0, 4.0]), np.array([9.0])])
    (3.0, 0.5)
    """
    some = [s for s in samples if len(s) > 1]
    if not some:
        return float("nan"), float("nan")
    errors = [float(s.var(ddof=1)) / len(s) for s in some]
    return float(np.mean([s.mean() for s in some])), float(np.sqrt(sum(errors)) / len(some))
