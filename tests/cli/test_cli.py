"""The command line: what it prints, its exit codes, Ctrl-C and SIGTERM."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pytest

import jhpo
import jhpo.cli.commands as cli
import jhpo.compilation
from jhpo.cli.arguments import KINDS
from jhpo.cli.stored import escaped

JAX_FILE = """
    import jax.numpy as jnp
    import jhpo

    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0), "opt": jhpo.Choice(["sgd", "adam"])})

    def objective(hp):
        return (hp["x"] - 0.25) ** 2 + jnp.where(hp["opt"] == 0, 0.5, 0.0)

    def other(hp):
        return jnp.where(hp["x"] > 0, jnp.nan, hp["x"] ** 2)

    def lost(hp):
        return hp["x"] * jnp.nan

    number = 3
"""
HOST_FILE = """
    import time
    import jhpo

    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})

    def slow(params):
        time.sleep(0.05)
        return params["x"] ** 2

    objective = jhpo.host(slow, workers=2)
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(textwrap.dedent(JAX_FILE))
    return path


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run a command in this process: ``(exit code, output, errors)``."""
    monkeypatch.setattr(jhpo.compilation, "use_compilation_cache", lambda: None)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["jhpo", *map(str, arguments)])
        code: str | int = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


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


def test_a_host_objective_in_processes(command, tmp_path):
    text = textwrap.dedent(HOST_FILE).replace("workers=2", 'workers=2, kind="process"')
    (tmp_path / "host.py").write_text(text)
    code, out, errors = command("tune", "host.py", "--strategy", "random", "--budget", 6, "--live")
    assert code == 0 and "6 evaluations in" in out and "failed" not in out, errors
    assert "stdout is no terminal, so progress comes in lines" in out


def test_names_and_failures(command, file):
    code, out, _ = command("tune", f"{file}:other", "--strategy", "sobol", "--budget", 64)
    assert code == 0 and "32 failed" in out and "32 x the objective returned nan" in out
    code, out, _ = command("tune", file, "--strategy", "random", "--budget", 512, "--target", "0.1")
    assert code == 0 and "stopped: target" in out
    code, out, _ = command("tune", f"{file}:other", "--budget", 8, "--direction", "maximize", "--strategy", "random")
    assert code == 0 and "stopped: evaluations" in out
    code, out, _ = command("tune", f"{file}:lost", "--budget", 4, "--strategy", "random")
    assert code == cli.FAILED and "no successful trial" in out, "a script must notice"


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
        (["tune", "model.py:absent"], cli.USAGE, "has no 'absent'"),
        (["tune", "model.py:number"], cli.USAGE, "got int"),
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
        (["show", "other.db", "--plot", "pie"], cli.USAGE, "kind: expected one of"),
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


def start(*arguments, cwd, cache):
    env = {name: value for name, value in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}
    env |= {"XDG_CACHE_HOME": str(cache), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    return subprocess.Popen(
        [sys.executable, "-m", "jhpo", *map(str, arguments)],
        cwd=cwd, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # children of a job in the background would ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_saves_and_says_how_to_resume(tmp_path, command, number):
    (tmp_path / "slow.py").write_text(textwrap.dedent(HOST_FILE))
    arguments = ("tune", "slow.py", "--strategy", "random", "--budget", "60", "--storage", "s.db", "--seed", "2")
    process = start(*arguments, cwd=tmp_path, cache=tmp_path / "cache")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.1)
        if (tmp_path / "s.db").exists() and stored(tmp_path / "s.db") >= 4:
            break
    process.send_signal(number)
    sent = time.monotonic()
    out, errors = process.communicate(timeout=30)
    assert time.monotonic() - sent < 5, "the checkpoint took too long"
    assert process.returncode == cli.INTERRUPTED, errors
    assert "Continue with:" in out and "--resume" in out and "Traceback" not in errors
    done = stored(tmp_path / "s.db")
    assert 4 <= done < 60
    (again,) = [line.split()[1:] for line in out.splitlines() if line.strip().endswith("--resume")]
    code, out, errors = command(*again)
    assert code == 0, errors
    assert f"continuing after {done} evaluations" in out
    whole = jhpo.Study(jhpo.Study.load("s.db", read_only=True).space, "random", seed=2)
    whole.optimize(jhpo.host(lambda params: params["x"] ** 2), budget=60)
    with jhpo.Study.load("s.db", read_only=True) as study:
        np.testing.assert_array_equal(study.history.table.value.array, whole.history.table.value.array)


def stored(path):
    try:
        with jhpo.Study.load(path, read_only=True) as study:
            return study.evaluations
    except jhpo.StorageError:
        return 0


@pytest.mark.slow
def test_a_program_that_does_not_return_is_not_waited_for(tmp_path):
    (tmp_path / "stuck.py").write_text(
        textwrap.dedent(
            """
            import jax, jhpo
            space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})

            def objective(hp):
                y = jax.lax.fori_loop(0, 2_000_000_000, lambda i, y: y * 0.999 + 1e-6, hp["x"])
                return y * y
            """
        )
    )
    arguments = ("tune", "stuck.py", "--strategy", "random", "--budget", "64", "--storage", "s.db")
    process = start(*arguments, cwd=tmp_path, cache=tmp_path / "cache")
    deadline = time.monotonic() + 60
    while not (tmp_path / "s.db").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(3.0)
    process.send_signal(signal.SIGINT)
    sent = time.monotonic()
    out, _ = process.communicate(timeout=30)
    assert time.monotonic() - sent < 8 and process.returncode == cli.INTERRUPTED
    assert "Continue with:" in out
    assert stored(tmp_path / "s.db") == 0
    jhpo.Study.load(tmp_path / "s.db").close()


@pytest.mark.slow
def test_the_second_start_compiles_nothing(tmp_path, file):
    cache = tmp_path / "cache"
    figures = []
    for seed in (0, 1):
        process = start(
            "tune", "model.py", "--strategy", "greedy", "--budget", 64, "--seed", seed, cwd=tmp_path, cache=cache
        )
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        figures.append(sum(1 for p in (cache / "jhpo" / "xla").iterdir() if p.name.endswith("-cache")))
    assert figures[0] > 0 and figures[0] == figures[1]


def test_help_and_version_need_no_jax(tmp_path):
    """They answer at once: neither JAX nor what is built on it is imported."""
    program = "import sys, jhpo.cli\ntry: jhpo.cli.main()\nfinally: assert 'jax' not in sys.modules"
    for option, words in (("--help", "tune"), ("--version", jhpo.__version__)):
        done = subprocess.run([sys.executable, "-c", program, option], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0 and words in done.stdout, done.stderr


def test_names_of_hyperparameters_are_printed_whole(command, tmp_path, monkeypatch):
    """A table that is too wide lies on its side."""
    names = ["batch_size", "label_smoothing", "learning_rate", "momentum", "warmup_steps", "weight_decay_of_the_norms"]
    lines = ["import jhpo", f"space = jhpo.Space({{name: jhpo.Float(0.0, 1.0) for name in {names}}})"]
    (tmp_path / "many.py").write_text("\n".join([*lines, "objective = lambda hp: hp['momentum'] * 1.0", ""]))
    monkeypatch.setenv("COLUMNS", "80")
    code, out, _ = command("tune", "many.py", "--strategy", "random", "--budget", 8)
    assert code == 0 and "…" not in out
    best, top = re.split(r"top \d", out)
    assert all(name in best and name in top for name in names) and "a wider terminal shows all" in top
    assert max(map(len, out.splitlines())) <= 80


@pytest.fixture
def two(tmp_path):
    """Two stored studies of one space, and one of another."""
    space = jhpo.Space({"=x": jhpo.Float(0.0, 1.0), "opt": jhpo.Choice(["=SUM(A1)", "adam"])})
    other = jhpo.Space({"y": jhpo.Float(0.0, 1.0)})
    for name, where, seed in (("a.db", space, 0), ("b.db", space, 1), ("c.db", other, 0)):
        with jhpo.Study(where, "random", tmp_path / name, seed) as study:
            for trial in study.ask(12):
                study.tell(trial, float(trial.unit[0]))
    return tmp_path


def test_compare_lays_studies_side_by_side(command, two):
    code, out, _ = command("compare", "a.db", "b.db", "--plot", "history")
    assert code == 0 and "random()" in out and (two / "compare.html").stat().st_size > 1000
    best = [jhpo.Study.load(n, read_only=True).best.value for n in ("a.db", "b.db")]
    assert all(f"{value:.6g}" in out for value in best)
    code, out, _ = command("compare", "a.db", "c.db")
    assert code == 0 and "another space" in out
    code, _, errors = command("compare", "a.db")
    assert code == cli.USAGE and "two studies" in errors


def test_export_writes_tables_that_no_spreadsheet_runs(command, two):
    import pandas as pd

    code, out, _ = command("export", "a.db", "--csv", "a.csv", "--json", "a.json")
    assert code == 0 and "12 trials written to a.csv" in out
    found, whole = pd.read_csv("a.csv"), jhpo.Study.load("a.db", read_only=True).to_frame()
    np.testing.assert_allclose(found["param_=x"], whole["param_=x"])
    assert set(found["param_opt"]) <= {"'=SUM(A1)", "adam"}
    rows = json.loads(Path("a.json").read_text())
    assert [row["param_opt"] for row in rows] == whole["param_opt"].tolist()
    assert [row["param_=x"] for row in rows] == whole["param_=x"].tolist(), "every digit"
    assert [escaped(t) for t in ("+1", "-1", "@x", "\tx", "\rx", "x", 1.0)] == [
        "'+1",
        "'-1",
        "'@x",
        "'\tx",
        "'\rx",
        "x",
        1.0,
    ]
    code, out, _ = command("export", "a.db", "--json", "-")  # nothing but the table
    assert code == 0 and json.loads(out) == rows
    assert command("export", "a.db", "--csv", "-")[1] == Path("a.csv").read_text() and not Path("-").exists()
    code, _, errors = command("export", "a.db")
    assert code == cli.USAGE and "--csv FILE" in errors
    code, _, errors = command("export", "a.db", "--csv", "away/a.csv")
    assert code == cli.STORAGE and "cannot write" in errors


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


def test_the_help_names_every_figure():
    from jhpo.report import figures

    named = set(re.findall(r"\w+", KINDS)) - {"of", "several", "objectives"}
    assert named == {*figures.SINGLE, *figures.SEVERAL, *figures.ANY}


def test_the_help_says_what_holds_by_default(command):
    out = " ".join(command("tune", "--help")[1].split())
    for default in ("pso; nsga2 for several objectives", "1024", "minimize", "that of the file, or 1", "0"):
        assert re.search(rf"default:\s+\(?{re.escape(default)}\)?\]", out.replace(" │ │ ", " ")), default
