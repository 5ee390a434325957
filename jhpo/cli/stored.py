"""The commands about stored studies: `report`, `compare`, `serve`, `export`."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jhpo.cli.arguments import KINDS
from jhpo.errors import InvalidArgument, MissingExtra, StorageError, check_integer, encodable

if TYPE_CHECKING:
    import pandas as pd


Stored = Annotated[str, typer.Argument(metavar="STUDY.db", help="file or database URL of a study")]


def report(
    storage: Stored,
    output: Annotated[Path, typer.Option("--output", "-o", help="where the page goes")] = Path("study.html"),
    interactive: Annotated[
        bool, typer.Option("--interactive", help="include plotly: figures to zoom into, two megabytes more")
    ] = False,
) -> None:
    """Write one HTML page about a study. It has words, tables and figures, and needs no network."""
    from jhpo.study.study import Study

    with Study.load(storage, read_only=True) as study:
        written = study.report(output, interactive=interactive)
    typer.echo(f"report written to {written} ({written.stat().st_size / 1e6:.2g} MB)")


def compare(
    storages: Annotated[list[str], typer.Argument(metavar="A.db B.db ...", help="studies to compare")],
    plot: Annotated[str | None, typer.Option(help=f"also write a figure: {KINDS}")] = None,
    out: Annotated[Path, typer.Option(help="where the figure goes")] = Path("compare.html"),
) -> None:
    """Compare stored studies, side by side."""
    import contextlib

    from rich.console import Console

    from jhpo.cli.console import print_comparison
    from jhpo.report import figures
    from jhpo.study.study import Study

    if len(storages) < 2:
        raise InvalidArgument(f"compare: expected two studies or more, got {storages}")
    names = storages if len(set(storages)) == len(storages) else [f"{s} ({k + 1})" for k, s in enumerate(storages)]
    console = Console()
    with contextlib.ExitStack() as stack:
        studies = {n: stack.enter_context(Study.load(s, read_only=True)) for n, s in zip(names, storages)}
        if plot is not None:
            figures.figure_of(studies, plot, "--plot")
        print_comparison(console, studies)
        if plot is not None:
            try:
                figures.draw(studies, plot).to_plotly().write_html(out)
            except OSError as error:
                raise StorageError(f"cannot write {out}: {error.strerror}") from error
            console.print(f"figure written to {out}", highlight=False, markup=False)


def serve(
    storage: Annotated[str, typer.Argument(metavar="STUDY.db", help="file, folder with studies, or database URL")],
    port: Annotated[int, typer.Option(help="of the address; 0 for any that is free")] = 8080,
    host: Annotated[str, typer.Option(help="who else can look: this machine alone by default")] = "127.0.0.1",
    browser: Annotated[bool, typer.Option("--open", help="open the page in a browser")] = False,
) -> None:
    """Show the page of a study, or of all in a folder. It is kept up to date while they run."""
    import contextlib
    import webbrowser

    from jhpo.cli.serve import Server
    from jhpo.cli.shelf import Shelf

    check_integer("--port", port, 0, 65535)
    with contextlib.closing(Shelf(storage)) as shelf, contextlib.closing(Server(shelf, host, port)) as server:
        typer.echo(f"{shelf.title} is shown at {server.address} (Ctrl-C ends it; nothing is written)")
        if not server.private:
            typer.echo(f"everyone who reaches {host} can read it: there is no password")
        if browser:
            webbrowser.open(server.address)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


def export(
    storage: Stored,
    csv: Annotated[Path | None, typer.Option(help="for spreadsheets; text that starts a formula is escaped")] = None,
    as_json: Annotated[Path | None, typer.Option("--json", help="a list of objects, one a trial")] = None,
    parquet: Annotated[Path | None, typer.Option(help="needs pyarrow")] = None,
) -> None:
    """Write all trials of a study as a table. FILE may be -, the standard output."""
    from jhpo.study.study import Study
    from jhpo.words.markup import counted

    targets = {name: path for name, path in (("csv", csv), ("json", as_json), ("parquet", parquet)) if path is not None}
    if not targets:
        raise InvalidArgument("export: expected --csv FILE, --json FILE or --parquet FILE, got none of them")
    with Study.load(storage, read_only=True) as study:
        frame = study.to_frame()
        for kind, path in targets.items():
            try:
                content = _content(frame, kind)
                if str(path) == "-":
                    typer.echo(content, nl=False)
                    continue
                path.write_bytes(content)
            except ImportError as error:
                raise MissingExtra("--parquet needs pyarrow: pip install pyarrow") from error
            except OSError as error:
                raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
            typer.echo(f"{counted(len(frame), 'trial')} written to {path}")


def _content(frame: pd.DataFrame, kind: str) -> bytes:
    """What a file of the table holds."""
    match kind:
        case "csv":
            return frame.map(_csv_cell).rename(columns=escaped).to_csv(index=False).encode()
        case "json":
            rows = [{k: _plain(v) for k, v in row.items()} for row in frame.to_dict("records")]
            return (json.dumps(rows, indent=1, allow_nan=False) + "\n").encode()
        case _:
            return for_parquet(frame).to_parquet(index=False)


def for_parquet(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with arrays as lists; columns whose cells are of several types, or have parts of their own, as text."""
    listed = {c: frame[c].map(_listed) for c in frame.columns if frame[c].dtype == object}
    mixed = {c for c, cells in listed.items() if cells.dropna().map(_kind).nunique() > 1 or cells.map(_nested).any()}
    return frame.assign(**{c: cells.map(_parquet_text) if c in mixed else cells for c, cells in listed.items()})


def _listed(value: Any) -> Any:
    return encodable(value) if isinstance(value, str) else value.tolist() if hasattr(value, "tolist") else value


def _kind(value: Any) -> Any:
    """What a column of parquet holds one of: the type of a cell, and those of its items."""
    return (list, frozenset(map(type, value))) if isinstance(value, list) else type(value)


def _nested(value: Any) -> bool:
    """Whether a cell has parts of several items, which need not be alike."""
    return isinstance(value, dict) or (isinstance(value, list) and any(isinstance(v, (list, dict)) for v in value))


def _parquet_text(value: Any) -> str | None:
    return None if value is None else json.dumps(_plain(value)) if isinstance(value, list | dict) else str(value)


def _csv_cell(value: Any) -> Any:
    """A cell of a CSV file: what has parts as JSON, since NumPy's text leaves out digits and numbers.

    >>> _csv_cell([0.1 + 0.2, None]), _csv_cell("=1+1"), _csv_cell(0.5)
    ('[0.30000000000000004, null]', "'=1+1", 0.5)
    """
    parts = isinstance(value, list | tuple | dict) or getattr(value, "shape", None)
    return json.dumps(_plain(value), ensure_ascii=False) if parts else escaped(value)


def _plain(value: Any) -> Any:
    """A cell as JSON has it: floats with all digits, null for what is missing or not finite, times in ISO 8601.

    >>> _plain(0.1 + 0.2), _plain(float("nan")), _plain([1, float("inf")])
    (0.30000000000000004, None, [1, None])
    """
    if hasattr(value, "tolist"):
        value = value.tolist()  # of numpy
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if value is None or value != value or value in (math.inf, -math.inf):
        return None
    return value if isinstance(value, str | int | float) else getattr(value, "isoformat", value.__str__)()


def escaped(value: Any) -> Any:
    r"""Text that a spreadsheet would take for a formula, with an apostrophe before it; anything else as it is.

    A carriage return becomes a line break: Python before 3.13 writes it without quotes, and the row ends there.

    >>> escaped("=1+1"), escaped("-x"), escaped("adam"), escaped(-1.0), escaped("a\rb")
    ("'=1+1", "'-x", 'adam', -1.0, 'a\nb')
    """
    if not isinstance(value, str):
        return value
    value = value.replace("\r\n", "\n").replace("\r", "\n")
    return encodable(f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\n")) else value)
