"""Figures of studies: `history(study)`, `slices([a, b])`, `pareto({"nsga2": study})`, ...

Each takes one study, a list of studies, or a dict of them by name, and returns a `Drawing`: ``to_frame()`` gives its
numbers, ``to_plotly()`` an interactive figure, ``to_svg()`` static ones. Public as `jhpo.figures`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jhpo.errors import invalid
from jhpo.report.figures.drawing import Drawing as Drawing
from jhpo.report.figures.groups import Studies, groups_of
from jhpo.report.figures.importances import importances as importances
from jhpo.report.figures.models import model as model
from jhpo.report.figures.norms import norms as norms
from jhpo.report.figures.objectives import hypervolume as hypervolume
from jhpo.report.figures.objectives import pareto as pareto
from jhpo.report.figures.parameters import contour as contour
from jhpo.report.figures.parameters import parallel as parallel
from jhpo.report.figures.parameters import rank as rank
from jhpo.report.figures.parameters import slices as slices
from jhpo.report.figures.populations import gradients as gradients
from jhpo.report.figures.populations import population as population
from jhpo.report.figures.populations import schedules as schedules
from jhpo.report.figures.progress import curves as curves
from jhpo.report.figures.progress import edf as edf
from jhpo.report.figures.progress import history as history
from jhpo.report.figures.running import failures as failures
from jhpo.report.figures.running import timeline as timeline
from jhpo.report.figures.running import times as times

ANY: dict[str, Callable[..., Drawing]] = {"timeline": timeline, "failures": failures, "times": times}
SINGLE: dict[str, Callable[..., Drawing]] = {
    "history": history, "importance": importances, "parallel": parallel, "slice": slices, "contour": contour,
    "rank": rank, "edf": edf, "curves": curves, "schedules": schedules, "population": population,
    "gradients": gradients, "model": model,
}  # fmt: skip
SEVERAL: dict[str, Callable[..., Drawing]] = {"pareto": pareto, "hypervolume": hypervolume}


def draw(studies: Studies, kind: str, **options: Any) -> Drawing:
    """A figure by its name.

    Args:
      studies: a study, a list of studies, or a dict by name.
      kind: one of `SINGLE` and `ANY`; with several objectives of `SEVERAL` and `ANY`.
      options: of the function of that name.

    Raises:
      InvalidArgument: an unknown kind.
    """
    return figure_of(studies, kind)(studies, **options)


def figure_of(studies: Studies, kind: str, argument: str = "kind") -> Callable[..., Drawing]:
    """The function that draws a kind; an error of an unknown one is about `argument`."""
    several = groups_of(studies)[0].trials.objectives is not None
    kinds = (SEVERAL if several else SINGLE) | ANY
    if kind not in kinds:
        wanted = f"one of {sorted(kinds)}{' for several objectives' if several else ''}"
        # "optimization_history", "param_importances" and "parallel_coordinate" of Optuna have ours within them
        within = [each for each in kinds if isinstance(kind, str) and each in kind]
        raise invalid(argument, wanted, kind, note=f"did you mean {within[0]!r}?" if within else "")
    return kinds[kind]
