"""Pages from templates, in the colours of the figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from jhpo.errors import MissingExtra
from jhpo.report.figures.palette import variables
from jhpo.report.figures.svg import STYLE
from jhpo.words.markup import visible


def render(name: str, **values: object) -> str:
    """The page that a template makes of values; texts are escaped.

    Raises:
      MissingExtra: jinja2 is not installed.
    """
    try:
        import jinja2
    except ImportError as error:
        raise MissingExtra("a report needs jinja2: pip install 'jhpo[report]'") from error
    folder = jinja2.PackageLoader("jhpo.report", "templates")
    environment = jinja2.Environment(loader=folder, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    light, dark = variables()
    return visible(environment.get_template(name).render(light=light, dark=dark, figure_style=STYLE, **values))


class Listed(NamedTuple):
    """A study in the list of a folder."""

    name: str
    link: str
    cells: Sequence[str] = ()  # one for each heading after the name
    problem: str = ""  # why it cannot be shown


def render_list(title: str, head: Sequence[str], studies: Sequence[Listed], problem: str = "") -> str:
    """The page of several studies, or of none and the reason; it asks its server for news."""
    return render("index.html.j2", title=title, head=head, shelf=studies, problem=problem, live=True)
