"""Console output: progress while a study runs, and tables of results."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from jhpo.errors import StorageError
from jhpo.objectives import reference_point
from jhpo.report.figures.groups import groups_of
from jhpo.report.figures.running import reasons
from jhpo.report.summary import time_spent
from jhpo.search.meter import Summary, Update
from jhpo.search.progress import PLAIN_SECONDS, line_of, pace_of, per_second
from jhpo.storage import without_password
from jhpo.storage.spec import described
from jhpo.study.study import Study
from jhpo.trial import Trial, TrialState
from jhpo.words.markup import cell, counted, duration, line, number

_POINTS = 6  # of a learning curve shown
_COMPARED = ("best", "median", "best found at trial")


class Bar:
    """Progress bar with evaluations, best value, models per second, time left; plain lines without a terminal."""

    def __init__(self, console: Console, budget: int | None, done: int) -> None:
        self._console = console
        self._live = console.is_terminal
        self._printed = time.monotonic()
        self._progress = Progress(
            TextColumn("[bold]tuning"), BarColumn(), MofNCompleteColumn(),
            TextColumn("best {task.fields[best]}"), TextColumn("{task.fields[rate]} models/s"),
            TimeElapsedColumn(), TextColumn("eta {task.fields[eta]}"),
            console=console,
        )  # fmt: skip
        fields: dict[str, Any] = {"best": "-", "rate": "-", "eta": "compiling"}
        self._task = self._progress.add_task("tuning", total=budget, completed=done, **fields)

    def __enter__(self) -> Bar:
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live:
            self._progress.stop()

    def update(self, update: Update) -> None:
        """Show the progress; compilation does not count towards the rate."""
        pace = pace_of(update)
        shown: dict[str, Any] = {"best": number(update.best), "rate": pace.rate, "eta": pace.eta}
        self._progress.update(self._task, completed=update.evaluations, refresh=False, **shown)
        if not self._live and time.monotonic() - self._printed > PLAIN_SECONDS:
            self._printed = time.monotonic()
            with contextlib.suppress(StorageError):  # a search does not end for a line of its progress
                self._console.print(line_of(update), highlight=False)


def print_results(console: Console, study: Study, summary: Summary | None = None, k: int = 5) -> None:
    """Prints the best hyperparameters and value, the best `k` trials, failures, times."""
    if study.objectives is not None:
        _print_front(console, study, k)
        print_failures(console, study)
        _print_summary(console, summary)
        return
    top = study.top(k)
    if top:
        short = "" if top[0].horizon == 1.0 else f", after {top[0].horizon:g} of the training"
        console.print(f"[bold]best: {number(top[0].value)}[/bold] (trial {top[0].id}{short})", highlight=False)
        best = Table()
        best.add_column("parameter", overflow="fold")
        best.add_column("value", overflow="fold")
        for name, value in study.space.flat(top[0].params).items():
            best.add_row(escape(line(name)), escape(cell(value)))
        console.print(best)
        table, shown = _best_table(study, top, console.width)
        title = f"top {shown}" + (f" of {len(top)} (a wider terminal shows all)" if shown < len(top) else "")
        console.print(f"[bold]{title}[/bold]", highlight=False)
        console.print(table)
    else:
        _print_nothing(console, study)
    _print_curves(console, study, top)
    print_failures(console, study)
    _print_summary(console, summary)


def _print_nothing(console: Console, study: Study) -> None:
    """That there is no success, and why; failures are printed by themselves."""
    why = escape(study.trials.why_beside_failures())
    console.print(f"[bold]no successful trial yet[/bold]{why}", highlight=False)


def _print_curves(console: Console, study: Study, top: Sequence[Trial]) -> None:
    """How many trials were stopped early and when, and the learning curve of the best."""
    table = study.history.table
    stopped = table.in_state(TrialState.PRUNED).tolist()
    if stopped:
        steps = [max(table.curve_of(i), default=0) for i in stopped]
        by = f"after {np.median(steps):g} of {table.folds} folds" if table.folds else f"by step {np.median(steps):g}"
        console.print(f"[bold]{len(stopped)} stopped early[/bold], half of them {by}")
    if top:
        _print_curve(console, f"curve of trial {top[0].id}", top[0].curve)


def _print_curve(console: Console, title: str, curve: Mapping[int, float]) -> None:
    if not curve:
        return
    points = list(curve.items())
    places = sorted({round(i) for i in np.linspace(0, len(points) - 1, _POINTS)})
    shown = ", ".join(f"{points[i][0]}: {number(points[i][1])}" for i in places)
    more = "" if len(places) == len(points) else f" ({len(places)} of its {len(points)} values)"
    console.print(f"{line(title)}{more}: {shown}", highlight=False, markup=False)


def print_trial(console: Console, study: Study, trial_id: int) -> None:
    """Prints everything about one trial: values, parameters, notes, times, learning curves."""
    trial, table = study[trial_id], study.history.table
    rows = [["status", trial.status.name.lower()]]
    rows += [["" if k else "reason", text] for k, text in enumerate(trial.reason.splitlines())]
    rows += [[name, number(value)] for name, value in zip(study.trials.labels, trial.values)]
    rows += [[name, cell(value)] for name, value in study.space.flat(trial.params).items()]
    rows += [[f"note {name}", cell(value)] for name, value in trial.notes.items()]
    for name, moments in (("asked", table.asked), ("told", table.told)):
        if np.isfinite(moments.array[trial_id]):
            rows.append([name, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moments.array[trial_id]))])
    console.print(_table([[f"trial {trial_id}", *(row[0] for row in rows)], ["", *(row[1] for row in rows)]]))
    _print_curve(console, "curve", trial.curve)
    for name, curve in trial.curves.items():
        _print_curve(console, name, curve)


def _print_front(console: Console, study: Study, k: int) -> None:
    """The front, evenly thinned where it is long, and its knee."""
    points, objectives = study.pareto(), study.objectives
    assert objectives is not None
    if not points:
        _print_nothing(console, study)
        return
    middle = study.knee()
    size = study.hypervolume()
    reference = ", ".join(map(number, size.reference))
    places = sorted({round(i) for i in np.linspace(0, len(points) - 1, max(k, 2))})
    shown = [points[i] for i in places]
    if middle.id not in [t.id for t in shown]:
        shown = [t for t in points if t in shown or t.id == middle.id]
    ways = ", ".join(f"{d} {line(name)}" for d, name in zip(objectives.directions, objectives.labels))
    table, count = _best_table(study, shown, console.width)
    of = "" if count == len(points) else f", {count} of them shown"
    console.print(f"[bold]front: {counted(len(points), 'trial')}{of}[/bold] ({escape(ways)})", highlight=False)
    console.print(table)
    values = ", ".join(f"{line(name)} {number(v)}" for name, v in zip(objectives.labels, middle.values))
    console.print(f"knee: trial {middle.id} ({escape(values)})", highlight=False)
    console.print(f"hypervolume {number(size.value)} up to ({reference})", highlight=False)


def _print_summary(console: Console, summary: Summary | None) -> None:
    if summary is not None:
        running = max(summary.seconds - summary.compile_seconds, 0.0)
        rate = f" ({per_second(summary.evaluations / running)} models/s)" if summary.evaluations and running > 0 else ""
        console.print(
            f"{counted(summary.evaluations, 'evaluation')} in {duration(summary.seconds)}: compiling "
            f"{duration(summary.compile_seconds)}, running {duration(running)}{rate}\nstopped: {line(summary.stopped)}",
            highlight=False,
            markup=False,
        )


def _best_table(study: Study, top: Sequence[Trial], room: int) -> tuple[Table, int]:
    """A table of trials: a row for each, or on its side where that is too wide; and how many trials it shows."""
    labels = study.trials.labels
    columns = [["trial", *(str(t.id) for t in top)]]
    columns += [[name, *(number(t.values[place]) for t in top)] for place, name in enumerate(labels)]
    values = [study.space.flat(t.params) for t in top]
    columns += [[name, *(cell(v[name]) if name in v else "-" for v in values)] for name in study.space.names]
    if 1 + sum(3 + max(map(len, column)) for column in columns) <= room:
        return _table(columns), len(top)
    rows = list(zip(*columns))
    widths = [3 + max(map(len, row)) for row in rows]
    fitting = sum(1 + total <= room for total in itertools.accumulate(widths)) - 1
    return _table(rows[: 1 + max(fitting, 1)]), min(max(fitting, 1), len(top))


def _table(columns: Sequence[Sequence[str]]) -> Table:
    """A table of columns whose first entries are headings."""
    table = Table()
    for heading, *_ in columns:
        table.add_column(escape(line(heading)), overflow="fold")
    for cells in zip(*(column[1:] for column in columns)):
        table.add_row(*(escape(line(text)) for text in cells))
    return table


def print_comparison(console: Console, studies: Mapping[str, Study]) -> None:
    """Prints what studies found, a column each, and how their spaces differ."""
    columns = [["", "strategy", "seed", "trials", "failed", *_COMPARED, "seconds"]]
    several = next(iter(studies.values())).objectives is not None
    columns[0][5 : 5 + len(_COMPARED)] = ["front", "hypervolume"] if several else list(_COMPARED)
    groups_of(dict(studies))  # refuses studies with different directions
    reference = None
    if several:
        points = np.concatenate([s.trials.minimised(s.trials.front()) for s in studies.values()])
        signs = next(iter(studies.values())).signs
        reference = np.asarray(signs) * reference_point(points) if len(points) else None
    for name, study in studies.items():
        table, calls = study.history.table, study.trials.calls
        found = _of_several(study, reference) if several else _of_one(study)
        head = [name, described(study.history.header["strategy"]), str(study.seed), f"{table.size:,}"]
        seconds = f"{sum(c.seconds for c in calls):.4g}" if calls else "-"
        columns.append([*head, f"{len(table.in_state(TrialState.FAILED)):,}", *found, seconds])
    console.print(_table(columns))
    first, *others = studies.values()
    for name, other in zip(list(studies)[1:], others):
        for change in first.space.diff(other.space):
            console.print(f"{name} searches another space: {line(change)}", highlight=False, markup=False)


def _of_one(study: Study) -> list[str]:
    """Best and median value, and the trial that found the best."""
    ids = study.history.table.ranked(study.sign)
    if not len(ids):
        return ["-"] * len(_COMPARED)
    value = study.history.table.value.array[ids]
    return [number(float(value[0])), number(float(np.median(value))), str(ids[0])]


def _of_several(study: Study, reference: np.ndarray | None) -> list[str]:
    """The size of the front, and its volume up to a point that all studies share; none if all are without success."""
    volume = "-" if reference is None else number(study.hypervolume(reference.tolist()).value)
    return [counted(len(study.trials.front()), "trial"), volume]


def print_failures(console: Console, study: Study) -> None:
    """Prints how many trials failed, and the most frequent reasons."""
    tally = reasons(study.trials)
    if not tally:
        return
    console.print(f"[bold]{sum(tally.values())} failed[/bold]")
    for reason, count in list(tally.items())[:5]:
        console.print(f"  {count} x {reason}", highlight=False, markup=False)


def print_study(console: Console, study: Study, storage: str, k: int) -> None:
    """Prints a summary of a stored study and its results."""
    header, table = study.history.header, study.history.table
    counts = ", ".join(f"{len(table.in_state(s))} {s.name.lower()}" for s in TrialState if len(table.in_state(s)))
    made = time.strftime("%Y-%m-%d %H:%M", time.localtime(header["created"]))
    trials, generations = counted(len(study), "trial"), counted(study.history.opened, "generation")
    console.print(
        f"{without_password(storage)}: {', '.join(study.directions)}, strategy {described(header['strategy'])}, "
        f"seed {study.seed}, made {made}\n{trials}: {counts or 'none'}; {generations}",
        highlight=False, markup=False,
    )  # fmt: skip
    for name, value in study.notes.items():
        console.print(f"{line(name)}: {cell(value)}", highlight=False, markup=False)
    print_results(console, study, k=k)
    for sentence in time_spent(study.trials):
        console.print(sentence, highlight=False)
    if study.history.stops:
        console.print(f"last stop: {line(study.history.stops[-1])}", highlight=False, markup=False)
