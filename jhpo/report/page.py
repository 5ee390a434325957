"""A study as one HTML page that needs no network: words, tables, and figures for screens, phones and paper."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import os
import time
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jhpo.errors import JhpoError, StorageError, check_flag, encodable
from jhpo.objectives import knee
from jhpo.report import figures, html
from jhpo.report.figures.drawing import Drawing
from jhpo.report.figures.light import light
from jhpo.report.figures.marks import Parallel
from jhpo.report.figures.running import reasons
from jhpo.report.figures.svg import NARROW
from jhpo.report.summary import sentences
from jhpo.report.trials import Trials
from jhpo.space import described
from jhpo.trial import Trial, TrialState
from jhpo.values.pytrees import HP
from jhpo.version import __version__
from jhpo.words.markup import cell, cut

_MOST_FRONT = 200  # rows of the table of a front
_SINGLE = (
    "history", "importance", "slice", "parallel", "contour", "curves", "schedules", "population", "gradients", "edf"
)  # fmt: skip
_OF_VALUES = ("history", "slice", "parallel", "contour", "edf")  # empty without a successful trial
_SEVERAL = ("pareto", "hypervolume")
_ANY = ("timeline", "failures", "times")
_LONGEST_NOTE = 200  # characters of a note
_NARROW = 5  # parallel axes in half of a page


class About(NamedTuple):
    """What the columns of a study do not tell."""

    name: str = "Study"  # of the file
    strategy: str = ""  # in words
    command: str = ""  # that shows it again
    home: str = ""  # address of the list of all studies, if there is one


def write_report(
    trials: Trials,
    best: Sequence[Trial],
    path: str | os.PathLike[str],
    about: About | None = None,
    interactive: bool = False,
) -> Path:
    """Writes the page, which needs no network and no other file; returns its path.

    Args:
      trials: all trials of the study.
      best: the trials to show in a table, best first; with several objectives the front.
      path: of the page.
      about: what else it says.
      interactive: include plotly, so that each figure can be made interactive by a button; adds two megabytes.

    Raises:
      InvalidArgument: ``interactive`` is no flag.
      MissingExtra: jinja2, or plotly for an interactive page, is not installed.
      StorageError: the page cannot be written.
    """
    page = render(trials, best, about, check_flag("interactive", interactive))
    target = Path(path)
    try:
        target.write_text(encodable(page), encoding="utf-8")
    except OSError as error:
        raise StorageError(f"cannot write {target}: {error.strerror}") from error
    return target


def render(
    trials: Trials, best: Sequence[Trial], about: About | None = None, interactive: bool = False, live: bool = False
) -> str:
    """The page as text; `live` pages ask their server for news."""
    trials = trials.still()
    about, (drawings, missing) = about or About(), _drawings(trials)
    return html.render(
        "page.html.j2",
        about=about,
        facts=_facts(trials, about),
        sentences=sentences(trials),
        best=_best(trials, best),
        space_head=described.HEAD,
        space=described.rows(trials.space),
        failures=[[str(n), r] for r, n in reasons(trials).items()],
        drawings=[_shown(d, interactive) for d in drawings],
        missing=missing,
        bundle=_bundle() if interactive else "",
        live=live,
    )


def _drawings(trials: Trials) -> tuple[list[Drawing], list[str]]:
    """Every figure for which there is something to draw, and why others are missing."""
    found, missing = [], []
    kinds: tuple[str, ...] = _SEVERAL
    if trials.objectives is None:
        # a model takes a second to fit and more to compile, so only of searches that have one
        modelled = trials.header["strategy"].get("strategy") == "bayes"
        kinds = (*_SINGLE, "model") if modelled else _SINGLE
    if trials.objectives is None and not len(trials.table.in_state(TrialState.COMPLETE)):
        missing.append(f"{', '.join(_OF_VALUES)}: no successful trial yet")
        kinds = tuple(kind for kind in kinds if kind not in _OF_VALUES)
    for kind in (*kinds, *_ANY):
        try:
            found.append(figures.draw(trials, kind))
        except JhpoError as error:
            if isinstance(error, ImportError):
                raise
            missing.append(str(error))  # too few trials, or nothing of the kind in this study
    return found, missing


def _shown(drawing: Drawing, interactive: bool) -> dict[str, Any]:
    first = drawing.panels[0]
    wide = isinstance(first, Parallel) and len(first.axes) > NARROW
    data = _json(drawing) if interactive else ""
    return {"title": drawing.title, "words": drawing.words, "svg": drawing.to_svg(), "wide": wide, "data": data,
            "shades": drawing.shades}  # fmt: skip


def _json(drawing: Drawing) -> str:
    """The plotly figure with as many points as the static one, as JSON that may stand inside a script element."""
    panels = tuple(light(p) for p in drawing.panels)
    text = dataclasses.replace(drawing, panels=panels).to_plotly().to_json()
    return str(text).replace("</", "<\\/")


def _bundle() -> str:
    """plotly.js, compressed, as base64; the page unpacks it when a figure is first made interactive."""
    from plotly.offline import get_plotlyjs

    return base64.b64encode(gzip.compress(get_plotlyjs().encode(), 9, mtime=0)).decode()


def _facts(trials: Trials, about: About) -> list[tuple[str, str]]:
    table, header = trials.table, trials.header
    versions = header.get("versions", {})
    counts = ", ".join(f"{len(table.in_state(s)):,} {s.name.lower()}" for s in TrialState if len(table.in_state(s)))
    when = partial(time.strftime, "%Y-%m-%d %H:%M UTC")
    ways = (
        [trials.direction]
        if trials.objectives is None
        else [f"{d} {n}" for d, n in zip(trials.directions, trials.labels)]
    )
    facts = {
        "strategy": about.strategy,
        "direction": ", ".join(ways),
        "trials": f"{table.size:,}: {counts or 'none yet'}",
        "seed": str(header["seed"]),
        "begun": when(time.gmtime(header["created"])),
        "last result": when(time.gmtime(np.nanmax(table.told.array))) if np.isfinite(table.told.array).any() else "",
        "last stop": trials.stops[-1] if trials.stops else "",
        **{f"note {name}": cut(cell(value), _LONGEST_NOTE) for name, value in trials.notes.items()},
        "made with": ", ".join(f"{k} {v}" for k, v in versions.items() if k != "machine"),
        "made on": versions.get("machine", ""),
        "page written": f"{when(time.gmtime())} by jhpo {__version__}, numpy {version('numpy')}",
    }
    return [(k, v) for k, v in facts.items() if v]


def _best(trials: Trials, best: Sequence[Trial]) -> dict[str, Any]:
    """The table of the best trials, and the best or the knee of the front as Python that can be copied."""
    names = trials.space.names
    shown = best[:_MOST_FRONT]
    rows, noted = [], list(dict.fromkeys(name for t in shown for name in t.notes))
    for t in shown:
        flat = trials.space.flat(t.params)
        values = [f"{v:.6g}" for v in t.values]
        settings = [cell(flat[n]) if n in flat else "" for n in names]
        rows.append([str(t.id), *values, *settings, *(_note(t.notes, name) for name in noted)])
    head = ["trial", *trials.labels, *names, *(f"note {name}" for name in noted)]
    several, chosen = trials.objectives is not None, next(iter(best), None)
    if several and best:
        chosen = best[knee(trials.minimised(np.asarray([t.id for t in best])))]
    snippet = "params = " + _python(chosen.params) if chosen else ""
    return {"head": head, "rows": rows, "snippet": snippet, "several": several,
            "id": chosen.id if chosen else None, "left": len(best) - len(shown)}  # fmt: skip


def _note(notes: dict[str, Any], name: str) -> str:
    return cut(cell(notes[name]), _LONGEST_NOTE) if name in notes else ""


def _python(params: HP, indent: int = 0) -> str:
    """Hyperparameters as Python source, floats with all digits."""
    if isinstance(params, dict):
        pad = "    " * (indent + 1)
        lines = [f"{pad}{k!r}: {_python(v, indent + 1)}," for k, v in params.items()]
        return "\n".join(["{", *lines, "    " * indent + "}"])
    if hasattr(params, "tolist"):
        params = params.tolist()
    return getattr(params, "__qualname__", repr(params)) if callable(params) else repr(params)
