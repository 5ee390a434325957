"""Draws docs/overview.svg, the figure of the README, from the tables of benchmarks/RESULTS.md.

python benchmarks/figure.py
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
WIDTH, LEFT, BAR, ROW, TOP = 860, 300, 430, 26, 46
INK, OURS, THEIRS = "#1f2328", "#1a7f64", "#b6bec9"


class Panel(NamedTuple):
    """A table's column as bars: the shorter, the better."""

    title: str
    heading: str  # of the section of RESULTS.md
    column: str
    rows: dict[str, str]  # first cells of the table, and what to call them


PANELS = (
    Panel(
        "Training one of many small networks, milliseconds",
        "### A population beside the loops a user would write",
        "ms a model",
        {
            "MLPClassifier under Optuna": "scikit-learn in an Optuna loop",
            "jitted JAX, one model after another": "jitted JAX, one after another",
            "1,024 members, shared minibatches": "jhpo, 1,024 at once",
        },
    ),
    Panel(
        "Bayesian optimisation on sixty problems, mean rank after 50 evaluations",
        "### Quality on the development set",
        "mean rank",
        {
            "random": "random search",
            "Optuna GP": "Optuna GP",
            "**jhpo BayesOpt**": "jhpo BayesOpt",
        },
    ),
)


def column(text: str, heading: str, name: str) -> dict[str, float]:
    """The numbers of one column of the first table below a heading that has it, by the rows' first cells.

    Of several rows with the same first cell it is the last.

    >>> column("## A\\n\\n| | s | t |\\n|---|---|---|\\n| x | **1.5** | 2 |\\n", "## A", "s")
    {'x': 1.5}
    """
    at = text.index(heading)
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in text[at:].splitlines() if line.startswith("|")]
    start = next(i for i, row in enumerate(cells) if name in row)
    place, found = cells[start].index(name), {}
    for row in cells[start + 2 :]:
        number = re.match(r"\**([\d,.]+)", row[place]) if len(row) > place else None
        if number is None:
            break
        found[row[0]] = float(number.group(1).replace(",", ""))
    return found


def drawn(panels: list[tuple[str, dict[str, float]]]) -> str:
    """Panels of horizontal bars below each other, as SVG; the last bar of each is ours."""
    parts, y = [], 20
    for title, values in panels:
        parts.append(f'<text x="20" y="{y + 8}" font-weight="600">{escape(title)}</text>')
        y += TOP - 24
        most = max(values.values())
        for i, (name, value) in enumerate(values.items()):
            colour = OURS if i == len(values) - 1 else THEIRS
            length = max(BAR * value / most, 2)
            parts.append(f'<text x="{LEFT - 10}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
            parts.append(f'<rect x="{LEFT}" y="{y}" width="{length:.1f}" height="18" rx="2" fill="{colour}"/>')
            parts.append(f'<text x="{LEFT + length + 8:.1f}" y="{y + 14}">{value:g}</text>')
            y += ROW
        y += 18
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" '
    style = f'font-family="system-ui, sans-serif" font-size="14" fill="{INK}">'
    return "\n".join([head + style, f'<rect width="{WIDTH}" height="{y}" fill="#ffffff"/>', *parts, "</svg>", ""])


def overview(text: str) -> str:
    """The figure of a text like RESULTS.md."""
    panels = []
    for panel in PANELS:
        measured = column(text, panel.heading, panel.column)
        panels.append((panel.title, {said: measured[row] for row, said in panel.rows.items()}))
    return drawn(panels)


def main() -> None:
    text = (ROOT / "benchmarks" / "RESULTS.md").read_text()
    (ROOT / "docs" / "overview.svg").write_text(overview(text))


if __name__ == "__main__":
    main()
