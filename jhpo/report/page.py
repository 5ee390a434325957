"""A study as one HTML page: settings, the best trials, failures, and all figures."""

from __future__ import annotations

import html
import os
from collections.abc import Sequence
from pathlib import Path

from jhpo.errors import JhpoError, StorageError
from jhpo.report.frame import plot
from jhpo.report.trials import Trials
from jhpo.trial import Trial, TrialState

_FIGURES = ("history", "importance", "parallel", "slice", "edf")
_OF_SEVERAL = ("pareto", "hypervolume")  # figures for several objectives
BEST = 20  # rows of the table of the best trials
_STYLE = """body { font: 15px/1.5 sans-serif; margin: 2em auto; max-width: 70em; padding: 0 1em }
table { border-collapse: collapse } td, th { padding: .2em .8em; text-align: left; border-bottom: 1px solid #ddd }"""


def write_report(trials: Trials, best: Sequence[Trial], path: str | os.PathLike[str]) -> Path:
    """Writes the page, which needs no network and no other file; returns its path.

    Args:
      trials: all trials of the study.
      best: the trials to show in a table, best first; with several objectives the front.
      path: of the page.

    Raises:
      MissingExtra: plotly is not installed.
      StorageError: the page cannot be written.
    """
    figures: list[str] = []
    left_out: list[str] = []
    for kind in _FIGURES if trials.objectives is None else _OF_SEVERAL:
        try:
            figure = plot(trials, kind)
        except JhpoError as error:
            if isinstance(error, ImportError):
                raise
            left_out.append(str(error))  # too few trials
            continue
        # the first figure includes plotly.js
        figures.append(figure.to_html(full_html=False, include_plotlyjs=not figures))
    parts = [
        f"<!doctype html><meta charset='utf-8'><title>jhpo study</title><style>{_STYLE}</style>",
        *_summary(trials, best),
    ]
    page = "\n".join([*parts, *figures, *(f"<p>{html.escape(text)}</p>" for text in left_out)])
    target = Path(path)
    try:
        target.write_text(page, encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    return target


def _summary(trials: Trials, best: Sequence[Trial]) -> list[str]:
    table = trials.table
    spec = trials.header["strategy"]
    counts = ", ".join(f"{len(table.in_state(s))} {s.name.lower()}" for s in TrialState if len(table.in_state(s)))
    facts = {
        "strategy": f"{spec['strategy']}({', '.join(f'{k}={v}' for k, v in spec['options'].items())})",
        "direction": _directions(trials),
        "seed": trials.header["seed"],
        "trials": f"{trials.table.size}: {counts or 'none yet'}",
    }
    facts |= {"stopped": trials.stops[-1]} if trials.stops else {}
    parts = ["<h1>Study</h1>", _table(["", ""], [[k, v] for k, v in facts.items()])]
    if best:
        names = trials.space.names
        labels = ["value"] if trials.objectives is None else list(trials.objectives.labels)
        rows = [[t.id, *t.values, *(trials.space.flat(t.params).get(n, "") for n in names)] for t in best]
        title = "Best trials" if trials.objectives is None else "Front"
        parts += [f"<h2>{title}</h2>", _table(["trial", *labels, *names], rows)]
    reasons = [table.reason.get(int(i), "?") for i in table.in_state(TrialState.FAILED)]
    if reasons:
        tally = sorted({r: reasons.count(r) for r in set(reasons)}.items(), key=lambda item: -item[1])
        parts += ["<h2>Failures</h2>", _table(["trials", "reason"], [[count, reason] for reason, count in tally])]
    return parts


def _directions(trials: Trials) -> str:
    if trials.objectives is None:
        return trials.direction
    return ", ".join(f"{d} {name}" for d, name in zip(trials.objectives.directions, trials.objectives.labels))


def _table(headings: list[str], rows: list[list[object]]) -> str:
    def cell(value: object) -> str:
        return html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))

    head = "".join(f"<th>{html.escape(h)}</th>" for h in headings)
    body = "".join("<tr>" + "".join(f"<td>{cell(v)}</td>" for v in row) + "</tr>" for row in rows)
    return f"<table><tr>{head}</tr>{body}</table>"
