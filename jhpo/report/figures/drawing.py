"""A figure, and the forms in which it comes."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING

from jhpo.errors import MissingExtra
from jhpo.report.figures import plotly, svg
from jhpo.report.figures.marks import Description
from jhpo.report.figures.palette import variables
from jhpo.words.markup import line

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go


@dataclass(frozen=True, eq=False)
class Drawing(Description):
    """A figure: `to_frame` gives its numbers, `to_plotly` an interactive figure, `to_svg` the static ones of a page."""

    def to_frame(self) -> pd.DataFrame:
        """The numbers of the figure as a pandas frame.

        Raises:
          MissingExtra: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise MissingExtra("to_frame needs pandas: pip install 'jhpo[pandas]'") from error
        return pd.DataFrame(self.data)

    def to_plotly(self) -> go.Figure:
        """The figure in plotly.

        Raises:
          MissingExtra: plotly is not installed.
        """
        return plotly.figure(self)

    def to_svg(self) -> list[str]:
        """The panels as SVG elements. Their colours are CSS variables, see `jhpo.report.figures.svg.STYLE`."""
        return svg.elements(self)

    def __repr__(self) -> str:
        return f"<{self.title}: {self.words}>"

    def _repr_html_(self) -> str:
        """The static figure, in notebooks: on white, whatever the theme."""
        light, _ = variables()
        ink = "--ink: #1d2127; --soft: #5a626d; --rule: #d4d8de; --card: #fff; background: #fff; padding: 8px"
        grid = "display: grid; grid-template-columns: repeat(auto-fit, minmax(min(24rem, 100%), 1fr)); gap: 8px"
        panels = "".join(f"<div>{panel}</div>" for panel in self.to_svg())
        head = f'<div style="color: var(--ink)"><b>{escape(line(self.title))}</b>. {escape(line(self.words))}</div>'
        return f'<style>{svg.STYLE}</style><div style="{light}; {ink}">{head}<div style="{grid}">{panels}</div></div>'
