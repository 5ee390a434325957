"""Every example runs, shortened, as a script and through the command line."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.selection import slow_except

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("[!_]*.py"))
# a few seconds each alone; many times that on a machine whose cores other tests share
TIME_LIMIT = 300


def names(path: Path) -> set[str]:
    """Names assigned or defined at the top level of a file."""
    found: set[str] = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign):
            found |= {t.id for t in node.targets if isinstance(t, ast.Name)}
        elif isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
    return found


def tunable(path: Path) -> bool:
    """`jhpo tune FILE.py` has something to work on."""
    return "tuning" in names(path) or {"space", "objective"} <= names(path)


def run(tmp_path_factory: pytest.TempPathFactory, *arguments: str) -> str:
    """Output of a Python process in a fresh folder; its programs are compiled once for script and command."""
    shared = tmp_path_factory.getbasetemp() / "example_cache"
    env = os.environ | {"JHPO_EXAMPLE_FAST": "1", "XDG_CACHE_HOME": str(shared), "COLUMNS": "160"}
    env |= {"JAX_COMPILATION_CACHE_DIR": str(shared / "xla"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path_factory.mktemp("example"), env=env, timeout=TIME_LIMIT,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_there_are_examples_of_every_kind_of_objective() -> None:
    assert {"digits_mlp", "digits_cnn", "char_lm", "host_sklearn"} <= {p.stem for p in EXAMPLES}


# a process each, which compiles for ten to forty seconds; these are a trainable and a function on the host
SHORT = {"digits_mlp", "host_sklearn"}


@pytest.mark.parametrize("path", slow_except(SHORT, EXAMPLES, lambda p: p.stem))
def test_an_example_runs(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert "main" in names(path), "an example has a main()"
    assert run(tmp_path_factory, str(path)).strip(), "an example prints what it found"


# one of each kind of objective; the networks compile for a while, and as scripts they run above
COMMANDS = [
    pytest.param(p, id=p.stem, marks=[] if p.stem in ("digits_mlp", "host_sklearn") else pytest.mark.slow)
    for p in EXAMPLES
    if tunable(p)
]


@pytest.mark.parametrize("path", COMMANDS)
def test_an_example_can_be_tuned_from_the_command_line(path: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    budget = "8"  # at least the members that a strategy holds
    out = run(tmp_path_factory, "-m", "jhpo", "tune", str(path), "--budget", budget)
    # of several objectives the knee of the front; a strategy that continues members may begin fewer
    assert ("best: " in out or "knee: " in out) and "stopped: " in out, out
