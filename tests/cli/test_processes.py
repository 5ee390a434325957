"""The command line in processes of its own: Ctrl-C and SIGTERM, workers, second starts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

import jhpo
import jhpo.cli.commands as cli
import jhpo.programs.compilation
from jhpo.cli.signals import held, signals

HOST_FILE = """
    import time
    import jhpo

    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})

    def slow(params):
        time.sleep(0.05)
        return params["x"] ** 2

    objective = jhpo.host(slow, workers=2)
"""


def test_a_host_objective_in_processes(command, tmp_path):
    text = textwrap.dedent(HOST_FILE).replace("workers=2", 'workers=2, kind="process"')
    (tmp_path / "host.py").write_text(text)
    code, out, errors = command("tune", "host.py", "--strategy", "random", "--budget", 6, "--live")
    assert code == 0 and "6 evaluations in" in out and "failed" not in out, errors
    assert "stdout is no terminal, so progress comes in lines" in out


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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["ctrl-c", "sigterm"])
def test_a_signal_before_the_search_says_how_to_begin(command, tmp_path, number):
    (tmp_path / "data.py").write_text(f"import os, time\nos.kill(os.getpid(), {int(number)})\ntime.sleep(30)\n")
    rules = ("--target", 0.5, "--patience", 3, "--seconds", 60.0)
    code, out, _ = command("tune", "data.py", *rules, "--storage", "s.db")
    assert code == cli.INTERRUPTED
    assert all(f"{name} {value}" in out for name, value in zip(rules[::2], rules[1::2], strict=True)), out
    assert out.rstrip().endswith("--resume")


def test_ctrl_c_waits_until_jax_is_imported():
    done = False
    with pytest.raises(KeyboardInterrupt), held():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)
        done = True
    assert done and signal.getsignal(signal.SIGINT) is not signal.SIG_IGN


def test_ctrl_c_after_the_last_line_does_not_change_the_exit_code():
    program = "import os, signal, jhpo.cli\ntry: jhpo.cli.main()\nfinally: os.kill(os.getpid(), signal.SIGINT)"
    ended = subprocess.run([sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (0, "")


def test_ctrl_c_before_a_command_begins_is_one_word():
    """Importing the command line is half of the time until then; it was a traceback."""
    program = """
import os, signal, sys, jhpo.cli

class Pressed:
    def find_spec(self, name, *_):
        if name == "typer":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Pressed())
jhpo.cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", program, "--version"], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (cli.INTERRUPTED, "", "stopped\n")


def stored(path):
    try:
        with jhpo.Study.load(path, read_only=True) as study:
            return study.evaluations
    except jhpo.StorageError:
        return 0


def test_signals_that_the_file_handles_end_no_search(monkeypatch):
    ended: list[int] = []
    heard: list[int] = []
    monkeypatch.setattr("jhpo.cli.signals.PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(os, "_exit", ended.append)
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        with signals("jhpo tune file.py", "s.db"):
            os.kill(os.getpid(), signal.SIGUSR1)
            time.sleep(0.3)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1] and not ended


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
    """They answer at once: neither JAX, what is built on it nor a server is imported."""
    program = (
        "import sys, jhpo.cli\ntry: jhpo.cli.main()\nfinally: assert not {'jax', 'http.server'} & set(sys.modules)"
    )
    for option, words in (("--help", "tune"), ("--version", jhpo.__version__)):
        done = subprocess.run([sys.executable, "-c", program, option], capture_output=True, text=True, cwd=tmp_path)
        assert done.returncode == 0 and words in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("words", "place"),
    [
        (["--install-completion", "zsh"], ".zfunc/_jhpo"),
        (["--install-completion=fish"], ".config/fish/completions/jhpo.fish"),
        (["--install-completion", "bash"], ".bash_completions/jhpo.sh"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else None,
)
def test_completion_is_for_the_shell_that_was_named(words, place, tmp_path):
    environment = {**os.environ, "HOME": str(tmp_path), "USERPROFILE": str(tmp_path), "SHELL": "/bin/sh"}
    ended = subprocess.run(
        [sys.executable, "-m", "jhpo", *words], capture_output=True, text=True, check=False, env=environment
    )
    assert ended.returncode == 0, ended.stderr
    assert "_JHPO_COMPLETE" in (tmp_path / place).read_text()


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_text_that_the_terminal_cannot_show_is_escaped(tmp_path, encoding):
    """A traceback of `show`, and of `tune` after its search, in a locale that is not UTF-8."""
    label, path = "naïve \u03b1 \udcff", tmp_path / "grün.db"
    with jhpo.Study(jhpo.Space({"how": jhpo.Choice([label.replace("\udcff", ""), "b"])}), "grid", path) as study:
        study.note(file=label)
        for trial in study.ask(2):
            study.tell(trial, 0.0 if trial.params["how"] != "b" else 1.0)
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "COLUMNS": "160"}
    show = [sys.executable, "-m", "jhpo", "show", path]
    done = subprocess.run(show, capture_output=True, timeout=120, env=environment)
    assert done.returncode == 0 and not done.stderr, done.stderr.decode(errors="replace")[-2000:]
    told = done.stdout.decode(encoding)
    assert label.encode(encoding, "backslashreplace").decode(encoding) in told
