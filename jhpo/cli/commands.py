"""The command line: `jhpo tune`, `show`, `strategies`, `repair`; `stored` and `start` have the other commands."""

from __future__ import annotations

import contextlib
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from jhpo.cli import start, stored
from jhpo.cli.arguments import KINDS, command_again, directions_of, measured, name_shell, strategy_options
from jhpo.cli.output import forget_no_size, styled
from jhpo.cli.signals import INTERRUPTED, farewell, held, ignore_signals, leave, signals
from jhpo.errors import ChangedSpace, InvalidArgument, JhpoError, StorageError, check_integer, nothing_is_said
from jhpo.process.interrupts import interruptible
from jhpo.version import __version__

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,  # boxes around the help cost twice the time that it takes
    context_settings={"max_content_width": 100},
    pretty_exceptions_enable=False,
)

# exit codes
OK, FAILED, USAGE, STORAGE, CHANGED = 0, 1, 2, 3, 4
# typer's usage errors; older releases take the class from click, newer ones have their own
_USAGE_ERROR: Any = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jhpo {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Tune the hyperparameters of JAX models, a whole population at once."""


def _strategy_names(incomplete: str) -> list[str]:
    """For the shell's completion."""
    from jhpo.strategies import REGISTRY

    return [name for name in REGISTRY if name.startswith(incomplete)]


@app.command()
def tune(
    target: Annotated[str, typer.Argument(metavar="FILE.py[:NAME]", help="a jhpo.Tuning, or an objective and a space")],
    strategy: Annotated[
        str | None,
        typer.Option(
            help="a name from `jhpo strategies`",
            show_default="by the budget: bayes, pso",
            autocompletion=_strategy_names,
        ),
    ] = None,
    budget: Annotated[int | None, typer.Option(help="evaluations of the whole study", show_default="1024")] = None,
    storage: Annotated[str | None, typer.Option(help="file or database URL that keeps the study")] = None,
    seed: Annotated[int, typer.Option(help="root of all random numbers")] = 0,
    option: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="an option of the strategy; repeatable")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="continue the study in --storage")] = False,
    direction: Annotated[
        str | None,
        typer.Option(
            help="minimize or maximize; several objectives by commas, with names if the objective has others: "
            "error=minimize,params=minimize",
            show_default="minimize",
        ),
    ] = None,
    metric: Annotated[str | None, typer.Option(help="what to tune for: accuracy, f1, auc, r2, ...")] = None,
    seconds: Annotated[float | None, typer.Option(help="stop after so much time")] = None,
    goal: Annotated[float | None, typer.Option("--target", help="stop at a value this good")] = None,
    folds: Annotated[
        int | None,
        typer.Option(help="cross-validate on so many parts of the data", show_default="that of the file, or 1"),
    ] = None,
    fold_by_fold: Annotated[
        bool | None, typer.Option("--fold-by-fold", help="one fold after the other, for --early-stop racing or halving")
    ] = None,
    patience: Annotated[int | None, typer.Option(help="stop after so many generations without improvement")] = None,
    early_stop: Annotated[
        str | None,
        typer.Option(
            help="stop trials early by their intermediate values: median, 'patience(patience=5)', halving, racing"
        ),
    ] = None,
    live: Annotated[bool, typer.Option("--live", help="show the population, failures and times as well")] = False,
) -> None:
    """Search for the best hyperparameters of the model in FILE.py."""
    given = {
        "--strategy": strategy, "--set": option, "--budget": budget, "--direction": direction, "--metric": metric,
        "--seconds": seconds, "--target": goal, "--folds": folds, "--fold-by-fold": fold_by_fold,
        "--patience": patience, "--early-stop": early_stop, "--live": live,
    }  # fmt: skip
    again = command_again(target, storage, seed, given)
    with signals(again, storage):
        with held():
            import jax  # noqa: F401
            from rich.console import Console

            from jhpo.cli.console import print_results
            from jhpo.cli.live import progress
            from jhpo.cli.load import chosen_strategy, load_target
            from jhpo.curves.rules import check_early_stop
            from jhpo.storage import without_password
            from jhpo.study.study import Study
            from jhpo.words.markup import counted

        _keep_programs()
        found = load_target(target)
        directions = directions_of(found, direction)
        total = budget if budget is not None else found.options.get("budget", 1024)
        stored = resume and storage is not None and ("://" in storage or Path(storage).exists())
        options = strategy_options(option or [])
        chosen = chosen_strategy(found, strategy, options, total, several=directions is not None, stored=stored)
        rule = check_early_stop(found.options.get("early_stop") if early_stop is None else early_stop)
        if resume and storage is None:
            raise InvalidArgument("--resume: expected --storage beside it, the study to continue")
        console = Console()
        if directions is None:
            objective, wanted, way = measured(found, metric, direction)
        elif metric is not None:
            raise InvalidArgument(f"--metric: expected none beside several objectives, got {metric!r}: they have names")
        else:
            objective, wanted, way = found.objective, None, "minimize"
        study = Study(
            found.space, chosen, storage, seed, way,
            directions=directions, replicates=found.options.get("replicates", 1), resume=resume,
            folds=found.options.get("folds", 1) if folds is None else folds,
            fold_by_fold=found.options.get("fold_by_fold", False) if fold_by_fold is None else fold_by_fold,
        )  # fmt: skip
        with contextlib.closing(study), nothing_is_said():
            if len(study):
                with contextlib.suppress(StorageError):  # a line less does not end a search
                    console.print(f"continuing after {counted(study.evaluations, 'evaluation')}", highlight=False)
            try:
                with progress(console, study, total, live) as shown:
                    summary = study.optimize(
                        objective,
                        total,
                        seconds=seconds,
                        target=goal if goal is not None else found.options.get("target"),
                        patience=patience,
                        metric=wanted,
                        callback=shown.update,
                        early_stop=rule,
                    )
            except KeyboardInterrupt:
                ignore_signals()
                print_results(console, study)
                console.print(farewell(study.evaluations, storage, again), highlight=False, markup=False)
                sys.exit(INTERRUPTED)
            try:
                print_results(console, study, summary)
            except StorageError:
                print_results(Console(stderr=True), study, summary)  # they may be kept nowhere else
                raise
            if storage is not None:
                place = without_password(storage)
                look = f"jhpo show {shlex.quote(str(place))}"
                console.print(f"stored in {place}; look again with: {look}", highlight=False, markup=False)
            if not study.pareto():
                raise typer.Exit(FAILED)  # so that a script stops if there are no hyperparameters


def _keep_programs() -> None:
    """Where no folder can hold them, programs are compiled each time."""
    from jhpo.programs.compilation import use_compilation_cache

    try:
        use_compilation_cache()
    except InvalidArgument as error:
        typer.echo(f"jhpo: compiled programs are not kept ({error}); XDG_CACHE_HOME names another place", err=True)


@app.command()
def show(
    storage: Annotated[str, typer.Argument(metavar="STUDY.db", help="file or database URL of a study")],
    top: Annotated[int, typer.Option(help="how many of the best trials, or of the front")] = 5,
    plot: Annotated[str | None, typer.Option(help=f"also write a figure: {KINDS}")] = None,
    trial: Annotated[int | None, typer.Option(help="show this trial alone: parameters, curve, notes, times")] = None,
    report: Annotated[bool, typer.Option("--report", help="also write one page with every figure")] = False,
    out: Annotated[Path, typer.Option(help="where the figure or the page goes")] = Path("study.html"),
) -> None:
    """Show a stored study."""
    from rich.console import Console

    from jhpo.cli.console import print_study, print_trial
    from jhpo.report.figures import figure_of
    from jhpo.study.results import number_of
    from jhpo.study.study import Study

    if report and plot is not None:
        raise InvalidArgument("--report: expected alone, it holds every figure (got --plot as well)")
    console = Console()
    check_integer("--top", top, 1)
    with Study.load(storage, read_only=True) as study:
        if plot is not None:
            figure_of(study, plot, "--plot")
        if trial is None:
            print_study(console, study, storage, top)
        else:
            print_trial(console, study, number_of("--trial", trial, len(study)))
        if report:
            console.print(f"report written to {study.report(out)}", highlight=False, markup=False)
        if plot is not None:
            try:
                study.plot(plot).write_html(out)
            except OSError as error:
                raise StorageError(f"cannot write {out}: {error.strerror}") from error
            console.print(f"figure written to {out}", highlight=False, markup=False)


@app.command()
def strategies() -> None:
    """List the search strategies and their options."""
    import dataclasses

    from rich.console import Console
    from rich.table import Table

    from jhpo.strategies import REGISTRY, strategy_class

    table = Table()
    for heading in ("name", "what it does", "options (--set NAME=VALUE)"):
        table.add_column(heading, overflow="fold")
    for name, (_, _, text) in REGISTRY.items():
        fields = dataclasses.fields(strategy_class(name))  # type: ignore[arg-type]
        shown = [f.name if f.default is dataclasses.MISSING else f"{f.name}={f.default}" for f in fields]
        table.add_row(name, text, ", ".join(shown))
    Console().print(table)


@app.command()
def repair(storage: Annotated[str, typer.Argument(metavar="STUDY.db", help="a damaged study")]) -> None:
    """Keep what is whole of a damaged study. The damaged file stays beside it."""
    from jhpo.study.repair import repair as repair_file

    typer.echo(repair_file(storage))


for command in (stored.report, stored.compare, stored.export, stored.serve, start.init):
    app.command()(command)


def main() -> None:
    """Run the command line; errors become one message and an exit code."""
    name_shell(sys.argv)
    forget_no_size()
    try:
        with interruptible():  # without standalone mode, typer returns the code of a raised `typer.Exit`
            code = app(prog_name="jhpo", standalone_mode=False)
            if sys.stdout is not None:
                sys.stdout.flush()  # what a file of the user has printed
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        leave()
    except ChangedSpace as error:
        _fail(error, CHANGED)
    except StorageError as error:
        _fail(error, STORAGE)
    except InvalidArgument as error:
        _fail(error, USAGE)
    except JhpoError as error:
        _fail(error, FAILED)
    except _USAGE_ERROR as error:
        error.show()
        sys.exit(error.exit_code)
    if code == INTERRUPTED:  # of a Ctrl-C that typer caught
        leave()
    sys.exit(code if isinstance(code, int) else OK)


def _fail(error: Exception, code: int) -> None:
    from rich.console import Console

    with contextlib.suppress(OSError):  # the code says it as well
        Console(stderr=True, soft_wrap=True).print(styled(error), highlight=False)
    sys.exit(code)
