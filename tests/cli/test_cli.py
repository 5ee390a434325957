"""The command line: what it prints, and its exit codes."""

from __future__ import annotations

import contextlib
import os
import re
import textwrap
import warnings

import numpy as np
import pytest

import jhpo
import jhpo.cli.commands as cli
import jhpo.programs.compilation
from jhpo.cli.arguments import KINDS


def test_tune_finds_and_shows_the_best(command, file):
    code, out, _ = command("tune", file, "--strategy", "greedy", "--set", "population=16", "--budget", 320)
    assert code == 0
    for words in (
        "best:",
        "top 5",
        "adam",
        "320 evaluations in",
        "compiling",
        "models/s",
        "evaluations: 320 of 320 done",
    ):
        assert words in out, out
    assert re.search(r"│ x\s+│ 0\.2(4|5)", out), out


FOLDS_FILE = """
    import jax.numpy as jnp, numpy as np, optax
    import jhpo

    space = jhpo.Space({"lr": jhpo.Float(1e-3, 1e-1, log=True)})
    x = np.linspace(-1.0, 1.0, 12, dtype=np.float32)[:, None]
    line = (lambda key, x: {"w": jnp.zeros((1,))}, lambda p, x: x @ p["w"])
    objective = jhpo.supervised(
        line, lambda hp: optax.sgd(hp["lr"]), "regression", train=(x, x[:, 0]), batch_size=4, steps=2
    )
    tuning = jhpo.Tuning(objective, space, "random", budget=4, folds=2)
"""


def test_folds_from_the_file_and_from_the_command(command, tmp_path):
    path = tmp_path / "folded.py"
    path.write_text(textwrap.dedent(FOLDS_FILE))
    assert command("tune", path, "--storage", "two.db")[0] == 0
    assert command("tune", path, "--storage", "three.db", "--folds", 3)[0] == 0
    found = [jhpo.Study.load(name, read_only=True) for name in ("two.db", "three.db")]
    assert [study.folds for study in found] == [2, 3]
    values = [study.history.table.value.array[:4] for study in found]
    assert np.isfinite(values).all() and (values[0] != values[1]).all()
    code, _, errors = command("tune", path, "--storage", "two.db", "--folds", 3, "--resume", "--budget", 8)
    assert code == cli.USAGE and "folds: expected that of the stored study, 2, got 3" in errors
    by_one = ("--folds", 3, "--fold-by-fold", "--early-stop", "racing(chance=0.4)", "--budget", 12)
    code, out, _ = command("tune", path, "--storage", "race.db", *by_one)
    assert code == 0 and jhpo.Study.load("race.db", read_only=True).fold_by_fold
    assert re.search(r"stopped early, half of them after [123](\.5)? of 3 folds", out), out


MINE = """
    import jax, jhpo
    from jhpo import PSO

    @jhpo.strategy
    class Mine(jhpo.Strategy):
        population: int = jhpo.static_field(default=4)
        shift: float = 0.0

        def init(self, space, key):
            return space

        def ask(self, state, key):
            return 0.5 * state.sample_unit(key, self.population) + self.shift, state

        def tell(self, state, units, result):
            return state

    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    objective = lambda hp: hp["x"]
"""


def test_strategies_of_the_file_by_name(command, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(textwrap.dedent(MINE))
    for options in (("--strategy", "Mine", "--set", "shift=0.5"), ("--strategy", "Mine(shift=0.5)")):
        name = f"{len(options)}.db"
        assert command("tune", path, *options, "--storage", name, "--budget", 8)[0] == 0
        assert command("tune", path, *options, "--storage", name, "--budget", 12, "--resume")[0] == 0
        with jhpo.Study.load(name, read_only=True) as study:
            assert len(study) == 12 and all(trial.params["x"] >= 0.5 for trial in study)
    code, _, errors = command("tune", path, "--storage", "2.db", "--budget", 16, "--resume")
    assert code == cli.STORAGE and "or to jhpo tune as --strategy Mine" in errors
    code, _, errors = command("tune", path, "--strategy", "Mine", "--set", "shit=0.5")
    assert code == cli.USAGE and "shit: expected one of the options of 'Mine': ['population', 'shift']" in errors
    code, _, errors = command("tune", path, "--strategy", "mime", "--budget", 4)
    assert code == cli.USAGE and "'successive-halving'], got 'mime'; the file has ['Mine']" in errors


def test_store_resume_and_show(command, file):
    arguments = ("tune", file, "--strategy", "greedy", "--set", "population=16", "--seed", 3, "--storage", "s.db")
    assert command(*arguments, "--budget", 40)[0] == 0
    code, _, errors = command(*arguments, "--budget", 80)
    assert code == cli.STORAGE and "--resume" in errors
    code, out, _ = command(*arguments, "--budget", 80, "--resume")
    assert code == 0 and "continuing after 40 evaluations" in out and "40 evaluations in" in out
    code, out, _ = command("show", "s.db", "--top", 3, "--plot", "history", "--out", "figure.html")
    assert code == 0
    for words in ("greedy(", "seed 3", "80 trials: 80 complete", "top 3", "figure written"):
        assert words in out, out
    code, out, _ = command("show", "s.db", "--report", "--out", "page.html")
    assert code == 0 and "report written to page.html" in out
    assert "Importance" in (file.parent / "page.html").read_text()
    assert os.path.getsize("figure.html") > 1000
    whole = jhpo.Study(jhpo.Study.load("s.db", read_only=True).space, jhpo.Greedy(16), seed=3)
    import importlib.util

    spec = importlib.util.spec_from_file_location("model_again", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    whole.optimize(module.objective, budget=80)
    with jhpo.Study.load("s.db", read_only=True) as stored:
        np.testing.assert_array_equal(stored.history.table.value.array, whole.history.table.value.array)


def test_names_and_failures(command, file):
    code, out, _ = command("tune", f"{file}:other", "--strategy", "sobol", "--budget", 64)
    assert code == 0 and "32 failed" in out and "32 x the objective returned nan" in out
    code, out, _ = command("tune", file, "--strategy", "random", "--budget", 512, "--target", "0.1")
    assert code == 0 and "stopped: target" in out
    code, out, _ = command("tune", f"{file}:other", "--budget", 8, "--direction", "maximize", "--strategy", "random")
    assert code == 0 and "stopped: evaluations" in out
    code, out, _ = command("tune", f"{file}:lost", "--budget", 4, "--strategy", "random")
    assert code == cli.FAILED and "no successful trial" in out, "a script must notice"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is printed
        code, out, _ = command("tune", f"{file}:beyond", "--budget", 4, "--strategy", "random")
    assert code == cli.FAILED and "yet: none of 4 evaluations meets the constraints" in out


SCORED_FILE = """
    import numpy as np, jhpo

    space = jhpo.Space({"cut": jhpo.Float(-2.0, 2.0)})
    x = np.random.default_rng(0).normal(size=200)
    plain = jhpo.host(lambda params: ((x > params["cut"]).astype(int), (x > 0.3).astype(int)))
    tuning = jhpo.Tuning(plain.with_metric("f1"), space, "random")
"""


def test_metrics_by_name_bring_their_direction(command, tmp_path):
    (tmp_path / "scored.py").write_text(textwrap.dedent(SCORED_FILE))
    for target, metric in (("scored.py", None), ("scored.py", "error"), ("scored.py:plain", "auc")):
        name = f"{metric}.db"
        options = [] if metric is None else ["--metric", metric]
        code, out, errors = command("tune", target, "--budget", 6, "--strategy", "random", "--storage", name, *options)
        assert code == 0, errors + out
        with contextlib.closing(jhpo.Study.load(str(tmp_path / name))) as study:
            assert study.direction == ("minimize" if metric == "error" else "maximize")
            values = study.trials.table.value.array
            assert study.best.value == (values.min() if metric == "error" else values.max())
    code, _, errors = command("tune", "scored.py", "--metric", "error", "--direction", "maximize", "--budget", 2)
    assert code == cli.USAGE and "'error' is an error" in errors


def test_strategies_are_listed_with_their_options(command):
    code, out, _ = command("strategies")
    assert code == 0
    for name in jhpo.strategies.REGISTRY:
        assert name in out
    assert "population=" in out


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["tune", "none.py"], cli.USAGE, "there is no file none.py"),
        (["tune", "."], cli.USAGE, "got the folder"),
        (["tune", "notes.txt"], cli.USAGE, "expected a Python file"),
        (["tune", "broken.py"], cli.USAGE, "is not Python"),
        (["tune", "nothing.py"], cli.USAGE, "offers nothing to tune"),
        (["tune", "exits.py"], cli.USAGE, "sys.exit"),
        (["tune", "model.py:absent"], cli.USAGE, "has no 'absent'; it offers 'objective', 'other', 'lost', 'beyond'"),
        (
            ["tune", "spaceless.py:f"],
            cli.USAGE,
            "write tuning = jhpo.Tuning(task, space), or space = jhpo.Space({...})",
        ),
        (["tune", "spaceless.py:task"], cli.USAGE, "write space = jhpo.Space({...}), or a jhpo.Tuning(task, space)"),
        (["tune", "spaceless.py"], cli.USAGE, "to tune 'task' or 'hosted', write tuning = jhpo.Tuning(task, space)"),
        (["tune", "model.py:number"], cli.USAGE, "got int; it offers 'objective', 'other', 'lost', 'beyond'"),
        (["tune", "spaceless.py:Task"], cli.USAGE, "got a class: write objective = Task()"),
        (["tune", "model.py:1x"], cli.USAGE, "Python name"),
        (["tune", "model.py", "--strategy", "magic"], cli.USAGE, "expected one of"),
        (["tune", "model.py", "--strategy", "random", "--set", "colour=red"], cli.USAGE, "colour"),
        (["tune", "model.py", "--strategy", "random", "--set", "population"], cli.USAGE, "NAME=VALUE"),
        (["tune", "model.py", "--strategy", "random", "--set", "population=many"], cli.USAGE, "population"),
        (["tune", "model.py", "--strategy", "random", "--budget", "0"], cli.USAGE, "budget"),
        (["tune", "model.py", "--strategy", "random", "--budget", "ten"], cli.USAGE, "--budget"),
        (["tune", "model.py", "--strategy", "random", "--seed", "-1"], cli.USAGE, "seed"),
        (["tune", "model.py", "--strategy", "random", "--direction", "up"], cli.USAGE, "direction"),
        (["tune", "model.py", "--strategy", "random", "--resume"], cli.USAGE, "--storage"),
        (["tune", "model.py", "--nonsense"], cli.USAGE, "--nonsense"),
        (["tune", "model.py", "--strategy", "random", "--storage", "away/s.db"], cli.STORAGE, "does not exist"),
        (["tune", "model.py", "--strategy", "random", "--storage", "/proc/s.db"], cli.STORAGE, "cannot open"),
        (["tune", "model.py", "--strategy", "random", "--storage", "notes.txt"], cli.STORAGE, "not a database"),
        (["tune", "model.py", "--strategy", "random", "--storage", "other.db", "--resume"], cli.CHANGED, "x: high"),
        (["show", "none.db"], cli.STORAGE, "there is no study"),
        (["show", "other.db", "--plot", "pie"], cli.USAGE, "--plot: expected one of"),
        (["show", "other.db", "--top", "0"], cli.USAGE, "--top: expected an integer >= 1, got 0"),
        (["compare", "other.db", "other.db", "--plot", "pie"], cli.USAGE, "--plot: expected one of"),
        (["show", "other.db", "--report", "--plot", "edf"], cli.USAGE, "--report"),
        (["show", "other.db", "--plot", "edf", "--out", "away/figure.html"], cli.STORAGE, "cannot write"),
        (["show", "notes.txt"], cli.STORAGE, "not a database"),
        (["repair", "none.db"], cli.STORAGE, "there is no study"),
        (["repair", "notes.txt"], cli.STORAGE, "beyond repair"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_wrong_calls_are_one_clear_message_and_a_code(command, file, arguments, code, words):
    folder = file.parent
    (folder / "notes.txt").write_text("these are notes, long enough for a header")
    (folder / "broken.py").write_text("def f(:\n")
    (folder / "nothing.py").write_text("x = 1\n")
    (folder / "spaceless.py").write_text(
        "import jhpo\nfrom math import sin\ndef task(hp): return sin(hp['x'])\n"
        "hosted = jhpo.host(task)\nclass Task: ...\n"
    )
    (folder / "exits.py").write_text("import sys\nsys.exit(5)\n")
    if "other.db" in arguments:
        space = jhpo.Space({"x": jhpo.Float(-1.0, 2.0), "opt": jhpo.Choice(["sgd", "adam"])})
        jhpo.Study(space, "random", folder / "other.db").close()
    got, _, errors = command(*arguments)
    assert (got, words in errors) == (code, True), errors
    assert "Traceback" not in errors


def test_an_error_of_the_file_itself_is_shown_from_its_own_lines_on(command, file):
    (file.parent / "raises.py").write_text("import no_such_package\n")
    code, _, errors = command("tune", "raises.py")
    assert code == cli.USAGE and "raises.py failed while it was imported" in errors
    assert "No module named 'no_such_package'" in errors and "line 1" in errors
    assert "typer" not in errors and "load.py" not in errors


def test_commands_to_copy_are_quoted(command, file):
    code, out, _ = command("tune", "model.py", "--strategy", "random", "--budget", "4", "--storage", "my [red]study.db")
    assert code == cli.OK and "look again with: jhpo show 'my [red]study.db'" in out
    code, out, _ = command("init", "my model.py")
    assert code == cli.OK and "jhpo tune 'my model.py' --storage" in out


def test_repair_reports_a_whole_study(command, file):
    command("tune", file, "--strategy", "random", "--budget", 8, "--storage", "s.db")
    code, out, _ = command("repair", "s.db")
    assert code == 0 and "nothing to repair" in out


def test_init_writes_a_file_that_runs(command, tmp_path):
    code, out, _ = command("init")
    assert code == 0 and "jhpo tune tuning.py" in out
    code, out, errors = command("tune", "tuning.py", "--budget", 8, "--strategy", "random", "--storage", "s.db")
    assert code == 0 and "best:" in out, errors
    code, out, _ = command("report", "s.db", "-o", "page.html")
    assert code == 0 and "report written to page.html" in out and (tmp_path / "page.html").exists()
    code, _, errors = command("init")
    assert code == cli.STORAGE and "give another name" in errors


def test_errors_say_first_what_to_do():
    from jhpo.errors import InvalidArgument, MissingExtra

    assert cli.styled(MissingExtra("plots need plotly: pip install 'jhpo[plot]'")).plain == (
        "jhpo: pip install 'jhpo[plot]'  (plots need plotly)"
    )
    shown = cli.styled(InvalidArgument("budget: expected an integer >= 1, got 0"))
    assert shown.plain == "jhpo: budget: expected an integer >= 1, got 0"
    assert {shown.plain[s.start : s.end]: s.style for s in shown.spans}["an integer >= 1"] == "bold green"
    typo = InvalidArgument("strategy: expected one of ['bayes', 'pso'], got 'psoo'")
    assert cli.styled(typo).plain.startswith("jhpo: did you mean pso? strategy: expected one of")
    other = InvalidArgument("f.py: expected 'space' to be a jhpo.Tuning or an objective, got Space")
    assert cli.styled(other).plain == f"jhpo: {other}"


def test_the_help_names_every_figure():
    from jhpo.report import figures

    named = set(re.findall(r"\w+", KINDS)) - {"of", "several", "objectives"}
    assert named == {*figures.SINGLE, *figures.SEVERAL, *figures.ANY}


def test_the_help_says_what_holds_by_default(command):
    out = " ".join(command("tune", "--help")[1].split())
    for default in ("by the budget: bayes, pso", "1024", "minimize", "that of the file, or 1", "0"):
        assert re.search(rf"default:\s+\(?{re.escape(default)}\)?\]", out.replace(" │ │ ", " ")), default
