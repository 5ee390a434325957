"""How much each parameter mattered."""

from __future__ import annotations

import numpy as np

from jhpo.errors import invalid
from jhpo.report.fanova import fanova
from jhpo.report.figures.drawing import Drawing
from jhpo.report.figures.groups import Studies, groups_of, runs_of
from jhpo.report.figures.marks import Axis, Bars, Panel, stacked
from jhpo.report.figures.progress import check_one
from jhpo.report.importance import importance_with_errors

METHODS = ("ped-anova", "fanova")


def importances(studies: Studies, *, method: str = "ped-anova", quantile: float = 0.1) -> Drawing:
    """Shares of the parameters in what made values good, with standard errors.

    Args:
      studies: a study, a list of studies, or a dict by name.
      method: "ped-anova" (what sets the best apart, from resampled trials) or "fanova" (how much of the variance of
        all values each parameter explains by itself; needs scikit-learn).
      quantile: of the trials that count as good, for "ped-anova".

    Raises:
      InvalidArgument: an unknown method, studies of several objectives.
      JhpoError: fewer than eight successful trials.
      MissingExtra: "fanova" without scikit-learn.
    """
    if method not in METHODS:
        raise invalid("method", f"one of {METHODS}", method)
    check_one("importance", groups_of(studies), "pareto")
    parts, marks = [], []
    order: list[str] = []
    for slot, (name, trials) in enumerate(runs_of(studies)):
        found = fanova(trials) if method == "fanova" else importance_with_errors(trials, quantile)
        order = order or sorted(found, key=lambda p: found[p].share)
        names = [p for p in order if p in found] + [p for p in found if p not in order]
        share, error = (np.asarray([getattr(found[p], kind) for p in names]) for kind in ("share", "error"))
        marks.append(Bars(names, share, error, name, slot))
        parts.append({"study": [name] * len(names), "parameter": names, "share": share, "error": error})
    title = "Importance (fANOVA)" if method == "fanova" else "Importance (PED-ANOVA)"
    best = marks[0].labels[-1]
    panel = Panel(Axis("share", ends=None), Axis(), tuple(marks))
    return Drawing(title, (panel,), f"{best} mattered most ({marks[0].length[-1]:.0%}).", stacked(parts))
