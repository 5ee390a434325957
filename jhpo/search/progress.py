"""Progress of a search for people: in place in notebooks, in lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from html import escape
from typing import Any, NamedTuple

from jhpo.report.figures.spark import points
from jhpo.search.meter import Update
from jhpo.words.markup import counted, duration, number

PLAIN_SECONDS = 5.0  # between two lines without a terminal
_NOTEBOOK_SECONDS = 0.25  # between two displays
_MOST = 400  # values of the line of the best


class Pace(NamedTuple):
    """How fast a search goes."""

    rate: str  # evaluations a second
    left: float | None  # seconds until the budget is used up; None without one
    eta: str


def per_second(rate: float) -> str:
    """A rate as short text, with two digits where it is low.

    >>> per_second(1234.5), per_second(0.4321)
    ('1,234', '0.43')
    """
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"


def pace_of(update: Update) -> Pace:
    """The pace of a search without its compilation, which is done once.

    >>> pace_of(Update(50, 50, 0.1, 5, 7.0, 2.0, budget=100))
    Pace(rate='10', left=5.0, eta='5.0 s')
    """
    rate = update.new / max(update.seconds - update.compile_seconds, 1e-9)
    left = None if update.budget is None else max(update.budget - update.evaluations, 0) / max(rate, 1e-9)
    return Pace(per_second(rate), left, "?" if left is None else duration(left))


def line_of(update: Update) -> str:
    """The progress as one line.

    >>> line_of(Update(50, 50, 0.1, 5, 7.0, 2.0, budget=100))
    '50 of 100 evaluations, best 0.1, 10 models/s, eta 5.0 s'
    """
    pace, done = pace_of(update), counted(update.evaluations, "evaluation")
    if update.budget is not None:
        done = f"{update.evaluations} of {update.budget} evaluations"
    return f"{done}, best {number(update.best)}, {pace.rate} models/s, eta {pace.eta}"


class ProgressBar:
    """A callback that shows how a search goes: a bar that moves in a notebook, a line every five seconds elsewhere.

    In a notebook it needs nothing but IPython, which is there; no widgets have to be installed. Use a new one for each
    search.

    >>> import jhpo
    >>> bar = jhpo.ProgressBar()  # then jhpo.minimize(objective, space, callback=bar)
    """

    def __init__(self) -> None:
        self._display = _displayed()
        self._handle: Any = None
        self._shown = time.monotonic() if self._display is None else 0.0
        self._bests: list[float] = []

    def __call__(self, update: Update) -> None:
        now, every = time.monotonic(), PLAIN_SECONDS if self._display is None else _NOTEBOOK_SECONDS
        if update.best == update.best:
            self._bests.append(update.best)
        done = update.budget is not None and update.evaluations >= update.budget
        if now - self._shown < every and not (done and self._display is not None):
            return
        self._shown = now
        if self._display is None:
            with contextlib.suppress(OSError):  # a full disk, a lost terminal: a search does not end for such a line
                print(line_of(update), flush=True)
        elif self._handle is None:
            self._handle = self._display(_Shown(update, self._bests), display_id=True)
        else:
            self._handle.update(_Shown(update, self._bests))


def _displayed() -> Any:
    """IPython's `display` in a notebook; None in a terminal, or in a program."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return ipython.display.display if ipython is not None and hasattr(shell, "kernel") else None


class _Shown:
    """What a notebook displays: text for those that show no HTML."""

    def __init__(self, update: Update, bests: list[float]) -> None:
        self._update, self._bests = update, bests[:: max(len(bests) // _MOST, 1)]

    def __repr__(self) -> str:
        return line_of(self._update)

    def _repr_html_(self) -> str:
        update = self._update
        bar = (
            "" if update.budget is None else f'<progress max="{update.budget}" value="{update.evaluations}"></progress>'
        )
        line = f'<polyline points="{points(self._bests, 240, 32)}" fill="none" stroke="#0072b2" stroke-width="2"/>'
        compiling = f", compiling {duration(update.compile_seconds)}" if update.compile_seconds >= 0.1 else ""
        return (
            f'<div style="display: flex; flex-wrap: wrap; gap: 0.3em 1em; align-items: center">{bar}'
            f'<svg width="240" height="36" viewBox="0 -2 240 36" role="img"><title>best so far</title>{line}</svg>'
            f"<span>{escape(line_of(update))} ({duration(update.seconds)} so far{compiling})</span></div>"
        )
