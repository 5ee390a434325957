"""A file to tune, a command run in this process, and two stored studies."""

from __future__ import annotations

import sys
import textwrap

import pytest

import jhpo
import jhpo.cli.commands as cli
import jhpo.programs.compilation

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

    def beyond(hp):
        return {"value": hp["x"], "constraint": -1.0}

    number = 3
"""


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.py"
    path.write_text(textwrap.dedent(JAX_FILE))
    return path


@pytest.fixture
def command(monkeypatch, capsys, tmp_path):
    """Run a command in this process: ``(exit code, output, errors)``."""
    monkeypatch.setattr(jhpo.programs.compilation, "use_compilation_cache", lambda: None)
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
