"""How a derivative grew on its way through a training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from jhpo.errors import JhpoError, invalid
from jhpo.kernels.lyapunov import TRUSTED
from jhpo.report.figures.axes import value_axis
from jhpo.report.figures.drawing import Drawing
from jhpo.report.figures.marks import Axis, Line, Mark, Panel, stacked


class Diagnosed(Protocol):
    """What `jhpo.hypergrad` returns, as far as a figure of it is concerned."""

    diagnostics: Any


def norms(found: Diagnosed | Mapping[str, Diagnosed]) -> Drawing:
    """Length of a hypergradient's derivative along the training, with the estimate of chaos.

    In reverse mode it is |dE/dw_t|: above the line it has grown by more than the exponent that is trusted. In forward
    mode it is |dw_t/dhp|, which grows linearly in a stable training.

    Args:
      found: what `jhpo.hypergrad` returned, or a dict of several by name.

    Raises:
      InvalidArgument: something else.
      JhpoError: the method has no norms over time.

    >>> import jax, jhpo
    >>> class Decay:
    ...     steps = 8
    ...     def init(self, hp, key):
    ...         return hp["rate"] * 0.0 + 1.0
    ...     def step(self, hp, w, t):
    ...         return w * (1.0 - hp["rate"])
    ...     def evaluate(self, hp, w):
    ...         return w**2
    >>> found = jhpo.hypergrad(Decay(), {"rate": 0.1}, jax.random.key(0), "reverse")
    >>> norms(found).to_frame()["step"].tolist()
    [1, 2, 3, 4, 5, 6, 7, 8]
    """
    named = {str(n): each for n, each in found.items()} if isinstance(found, Mapping) else {"": found}
    panels, parts, words = [], [], []
    for name, each in named.items():
        about = getattr(each, "diagnostics", None)
        if about is None:
            raise invalid("found", "what jhpo.hypergrad returns, or a dict of it by name", each)
        if about.norms is None:
            raise JhpoError(f"norms: the method {about.method!r} has none over time; see 'reverse' and 'forward'")
        length = np.asarray(about.norms, np.float64)
        length = length if length.ndim == 1 else length.max(axis=tuple(range(length.ndim - 1)))
        steps = np.arange(about.steps - len(length), about.steps) + 1
        backwards = about.method != "forward"
        title = "|dE/dw|" if backwards else "|dw/dhp|"
        marks: list[Mark] = [Line(steps, np.where(length > 0, length, np.nan), title)]
        if backwards and length[-1] > 0:
            limit = np.full(2, length[-1] * np.exp(TRUSTED))
            marks.append(Line(steps[[0, -1]], limit, "as much as is trusted", 5))
        exponent = float("nan") if about.exponent is None else float(np.max(about.exponent))
        panels.append(Panel(Axis("step"), value_axis(title, length), tuple(marks), name))
        word = "sound" if exponent <= TRUSTED else "chaotic" if np.isfinite(exponent) else "not measured"
        words.append(f"{name and f'{name}: '}chaos exponent {exponent:.3g} ({word})")
        count = len(steps)
        part = {"study": [name] * count, "step": steps, "norm": length, "exponent": np.full(count, exponent)}
        parts.append(part)
    return Drawing("Norms along the training", tuple(panels), f"{'; '.join(words)}.", stacked(parts))
