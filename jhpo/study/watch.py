"""Progress of one call of `Study.optimize`, with other workers on the same study."""

from __future__ import annotations

import time
from collections.abc import Collection

import numpy as np

from jhpo.errors import warn_caller
from jhpo.search.cuts import Cut
from jhpo.search.meter import Callback, Meter
from jhpo.search.stopping import StopRules
from jhpo.study.book import Book
from jhpo.words.markup import counted

POLL_SECONDS = 0.05
_PATIENT_SECONDS = 60.0  # of waiting for other workers before a warning


class Watch(Meter):
    """A `Meter` that reads its progress from a study.

    Args:
        study: the study.
        rules: stop rules, for minimised values.
        callback: called after every generation.
    """

    def __init__(self, study: Book, rules: StopRules, callback: Callback | None) -> None:
        done, bests = study.evaluations, _bests(study)
        super().__init__(rules, callback, study.sign, evaluations=done, bests=bests)
        self._study = study
        self._waiting_since: float | None = None
        self._said = False

    def best(self) -> float:
        """Lowest feasible minimised value at full horizon, NaN if there is none."""
        with self._study.ledger.lock:
            return self._study.history.lowest(self.sign)

    def check(self, ended: bool = True, paused: bool = False) -> str | None:
        """Report a batch of results (`ended`: it completed a generation); returns why to stop, or None."""
        history, whole = self._study.history, ended and self._study.history.horizon == 1.0
        return self.report(self._study.evaluations, history.opened, self.best(), whole, paused)

    def check_cut(self, cut: Cut) -> str | None:
        """Report generations that were stored together; returns why to stop, or None."""
        self.hear(cut.progress, cut.horizon == 1.0)
        if cut.stopped is None and self.evaluations != self._study.evaluations:
            return self.check(False)  # others told results meanwhile, which the rules have not seen
        return cut.stopped

    def check_time(self) -> str | None:
        """Check the rules while no result arrives; only the time limit can hold."""
        return self.report_time(self._study.history.opened)

    def first_check(self, paused: bool = False) -> str | None:
        """Check the rules before anything runs: a resumed study may have nothing left to do, unless members wait."""
        return self.report_start(self._study.history.opened, paused)

    def left(self, mine: Collection[int] = ()) -> int | None:
        """Evaluations left in the budget, without those in flight elsewhere; `mine` are in flight here."""
        if self.rules.evaluations is None:
            return None
        return self.rules.evaluations - self._study.evaluations - self._study.ledger.others(mine)

    def waits(self) -> bool:
        """Whether the rest of the budget is in flight with other workers."""
        left = self.left()
        return left is not None and left < 1

    def wait(self) -> str | None:
        """Wait for results of other workers; returns why to stop, or None."""
        now = time.monotonic()
        if self._waiting_since is None or self._study.evaluations != self.evaluations:
            self._waiting_since = now
        if not self._said and now - self._waiting_since > _PATIENT_SECONDS:
            self._said = True
            warn_caller(
                f"waiting for {counted(self._study.ledger.others(), 'trial')} that other workers hold; "
                "study.requeue() gives back what nobody will tell any more"
            )
        time.sleep(POLL_SECONDS)
        self._study.refresh()
        return self.check(False) if self._study.evaluations != self.evaluations else self.check_time()


def _bests(study: Book) -> list[float]:
    """Lowest feasible minimised value after each generation at full horizon, foreign trials included."""
    table = study.history.table
    if study.strategy.thaws:
        lowest = study.history.lowest(study.sign)
        return [lowest] * study.history.opened if np.isfinite(lowest) else []
    if study.strategy.pauses:
        return _rung_bests(study)
    ids = table.successes()
    best = np.full(study.history.opened + 1, np.inf)
    np.minimum.at(best, table.generation.array[ids], study.sign * table.value.array[ids])  # foreign ones (-1): last
    best = np.minimum(np.minimum.accumulate(best[:-1]), best[-1])
    short = table.generation.array[table.horizon.array < 1.0]
    whole = best[1 + short.max() :] if len(short) else best
    return [float(b) if np.isfinite(b) else np.nan for b in whole]


def _rung_bests(study: Book) -> list[float]:
    """The same where members are paused: after each last rung of a bracket that ends with the training."""
    history = study.history
    steps = history.layouts.get("training", {}).get("steps")
    if steps is None:
        return []
    rungs, ids = study.strategy.lasting(steps).rungs(steps), history.table.successes()
    ids = ids[history.table.horizon.array[ids] == 1.0]
    value, begun = study.sign * history.table.value.array[ids], history.table.generation.array[ids]
    best, bests, first = value[begun < 0].min(initial=np.inf), [], 0
    for generation in range(history.opened):
        rung = rungs[generation % len(rungs)]
        first = first if rung.start else generation
        if rung.stop == steps:
            best = min(best, value[begun == first].min(initial=np.inf))
            bests.append(float(best) if np.isfinite(best) else np.nan)
    return bests
