"""`jhpo tune --live`: the search on a terminal while it runs."""

from __future__ import annotations

import contextlib
import dataclasses
import time

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jhpo.cli.console import Bar
from jhpo.errors import StorageError
from jhpo.report.figures.running import reasons
from jhpo.report.figures.spark import ASCII, BLOCKS, histogram, spark
from jhpo.report.spent import compiled_meanwhile, where_time_went
from jhpo.report.trials import Call, best_so_far
from jhpo.search.compiling import compile_spans
from jhpo.search.meter import Update
from jhpo.search.progress import pace_of
from jhpo.storage.spec import described
from jhpo.study.study import Study
from jhpo.trial import TrialState
from jhpo.words.markup import duration, line, number

_SECONDS = 0.25  # between two looks at the study
_FEWEST = 20  # trials whose distribution is shown
_LABEL, _NUMBER = 14, 11  # columns


def progress(console: Console, study: Study, budget: int | None, live: bool) -> Bar | View:
    """What shows the progress of `tune`."""
    if live and console.is_terminal:
        return View(console, study, budget)
    if live:
        with contextlib.suppress(StorageError):
            console.print("--live: stdout is no terminal, so progress comes in lines", highlight=False)
    return Bar(console, budget, study.evaluations)


class View:
    """Best so far, the population, failures, where the time goes and how much is left; drawn anew as results come.

    Args:
        console: a terminal.
        study: that is optimised.
        budget: evaluations of the whole study, if limited.
    """

    def __init__(self, console: Console, study: Study, budget: int | None) -> None:
        self._console, self._study, self._budget = console, study, budget
        self._begun = self._looked = self._heard = time.monotonic()
        self._update: Update | None = None
        self._rows: list[tuple[str, RenderableType]] = []
        self._letters = BLOCKS if console.encoding.startswith("utf") else ASCII
        # drawn again in between for the clock alone: another thread must not read the study
        self._live = Live(get_renderable=self.render, console=console, refresh_per_second=4)

    def __enter__(self) -> View:
        self._live.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._update is not None:
            self._rows = self._look(self._update)
        self._live.stop()

    def update(self, update: Update) -> None:
        """Look at the study, but not at every generation of a fast search."""
        self._update, self._heard = update, time.monotonic()
        if not self._rows or time.monotonic() - self._looked > _SECONDS:
            self._rows, self._looked = self._look(update), time.monotonic()

    def render(self) -> RenderableType:
        """The view, as wide as the terminal."""
        table = Table.grid(padding=(0, 1), expand=True)
        table.add_column(min_width=_LABEL, no_wrap=True, style="bold")
        table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
        for label, text in [("strategy", Text(described(self._study.history.header["strategy"]))), *self._rows]:
            table.add_row(label, text)
        table.add_row("time", self._clock())
        return table

    def _clock(self) -> Text:
        spent = time.monotonic() - self._begun
        if self._update is None:
            return Text(f"{duration(spent)} so far, compiling")
        pace = pace_of(self._update)
        since = time.monotonic() - self._heard
        left = "" if pace.left is None else f", {duration(max(pace.left - since, 0.0))} to go"
        return Text(f"{duration(spent)} so far{left} at {pace.rate} models/s")

    def _look(self, update: Update) -> list[tuple[str, RenderableType]]:
        trials = self._study.trials
        table, room = trials.table, max(self._console.width - _LABEL - 2 * _NUMBER - 6, 8)
        if trials.objectives is None:
            drawn = spark(best_so_far(trials), room, self._letters)
            best = f"{number(update.best):<{_NUMBER}} {drawn}"
            rows: list[tuple[str, RenderableType]] = [("best so far", Text(best))]
        else:
            rows = [(f"best {line(trials.labels[0])}", Text(number(update.best)))]
        done = table.in_state(TrialState.COMPLETE)
        last = done[-max(self._study.strategy.population, _FEWEST) :]
        places = min(max(int(3 * len(last) ** 0.5), 8), room)
        low, bars, high = histogram(table.value.array[last], places, self._letters)
        if bars:
            rows.append((f"last {len(last)} values", Text(f"{number(low):<{_NUMBER}} {bars} {number(high)}")))
        rows += [("failures", self._failures()), ("shares", self._shares(update)), ("evaluations", self._bar(update))]
        return rows

    def _failures(self) -> Text:
        found = reasons(self._study.trials)
        if not found:
            return Text("none")
        first, count = next(iter(found)), sum(found.values())
        share = count / self._study.history.table.size
        return Text(f"{count:,} ({share:.0%}): {first}", "red")

    def _shares(self, update: Update) -> Text:
        trials, now = self._study.trials, time.time()
        meanwhile = compiled_meanwhile(trials.table, compile_spans(), now - update.seconds, now)
        call = Call(update.new, update.seconds, update.compile_seconds, now, meanwhile)
        spent = where_time_went(dataclasses.replace(trials, calls=[call]))
        total = max(sum(spent.values()), 1e-9)
        return Text(", ".join(f"{name} {seconds / total:.0%}" for name, seconds in spent.items()))

    def _bar(self, update: Update) -> RenderableType:
        if self._budget is None:
            return Text(f"{update.evaluations:,}")
        bar = Table.grid(padding=(0, 1))
        count = f"{update.evaluations:,} of {self._budget:,}"
        width = max(min(self._console.width - _LABEL - len(count) - 4, 60), 4)
        bar.add_row(ProgressBar(self._budget, update.evaluations, width=width), Text(count))
        return bar
