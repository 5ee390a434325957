"""What a type checker knows of the public names, read from an installed copy as a user has it."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import jhpo
from jhpo.search.options import Options, SearchOptions

ROOT = Path(__file__).parents[2]
USE = """
import jax, jhpo
from typing import assert_type

space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
study = jhpo.Study(space, jhpo.PSO(8))
data = ([0.0], [0.0])
assert_type(space, jhpo.Space)
assert_type(study, jhpo.Study)
assert_type(jhpo.PSO(population=8), jhpo.PSO)
assert_type(jhpo.BayesOpt(), jhpo.BayesOpt)
assert_type(jhpo.minimize(lambda hp: 0.0, space), jhpo.Result)
assert_type(jhpo.maximize(lambda hp: 0.0, space, seed=1), jhpo.Result)
assert_type(jhpo.Tuning(lambda hp: 0.0, space).run(seed=1, budget=8), jhpo.Result)
assert_type(study.space.dim, int)
assert_type(study.best.value, float)
assert_type(jhpo.switch(1, {"a": 1.0, "b": 2.0}), float)
assert_type(jhpo.hypergrad(lambda hp: 0.0, {"x": 1.0}, jax.random.key(0)).value, jax.Array)
"""
WRONG = {
    "jhpo.PSO(populatoin=3)": 'Unexpected keyword argument "populatoin" for "PSO"',
    "jhpo.minimise": 'Module has no attribute "minimise"',
    'jhpo.Float("0", 1.0)': 'Argument 1 to "Float" has incompatible type',
    "jhpo.minimize(3, space)": 'Argument 1 to "minimize" has incompatible type',
    "jhpo.maximize(lambda hp: 0.0, space, seeed=1)": 'Unexpected keyword argument "seeed" for "maximize"',
    "study.optimize(lambda hp: 0.0, bugdet=3)": 'Unexpected keyword argument "bugdet"',
    "jhpo.Tuning(lambda hp: 0.0, space).run(sede=1)": 'Unexpected keyword argument "sede" for "run"',
    'jhpo.supervised("linear", lambda hp: None, train=3, valid=data)': 'Argument "train" to "supervised"',
    "jhpo.Study(3)": 'Argument 1 to "Study" has incompatible type',
}


def test_every_public_name_is_declared_for_type_checkers() -> None:
    tree = ast.parse((ROOT / "jhpo" / "__init__.py").read_text())
    blocks = [node for node in tree.body if isinstance(node, ast.If)]
    (block,) = [b for b in blocks if isinstance(b.test, ast.Name) and b.test.id == "TYPE_CHECKING"]
    declared = {name.asname for line in block.body if isinstance(line, ast.ImportFrom) for name in line.names}
    assert declared == set(dir(jhpo)) - {"__version__"}
    for line in block.body:
        assert isinstance(line, ast.ImportFrom)
        for name in line.names:
            found = getattr(jhpo, str(name.asname))
            whole = f"{line.module}.{name.name}"
            assert found.__name__ in (name.name, whole) or found is sys.modules[whole]


def test_options_that_are_handed_on_are_those_of_a_search() -> None:
    """One list for `Tuning.run`, one as a record, one as arguments: they name and mean the same."""
    record = {field.name: field.type for field in dataclasses.fields(Options)}
    # directions say which way each objective goes: `maximize` has none, and a `Tuning` has a field for them
    one = {name: kind for name, kind in record.items() if name != "directions"}
    assert one == {name: text.__forward_arg__ for name, text in SearchOptions.__annotations__.items()}
    for search, options in ((jhpo.minimize, record), (jhpo.maximize, one)):
        arguments = dict(list(inspect.signature(search).parameters.items())[3:])
        assert {name: argument.annotation for name, argument in arguments.items()} == options


@pytest.mark.package
def test_a_checker_sees_types_and_finds_mistakes(tmp_path: Path, wheel: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    program = tmp_path / "program.py"
    program.write_text(USE + "\n".join(WRONG) + "\n")
    done = subprocess.run(
        # with the options of `make types`, which skip large packages that none of these types come from
        [sys.executable, "-m", "mypy", "--config-file", str(ROOT / "pyproject.toml"), "program.py"],
        cwd=tmp_path,
        env={"MYPYPATH": str(tmp_path / "site"), "PATH": ""},
        capture_output=True,
        text=True,
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("program.py")]
    errors = [line for line in lines if ": error:" in line]
    assert len(errors) == len(WRONG), done.stdout + done.stderr
    for mistake, message in zip(WRONG, WRONG.values()):
        assert any(message in error for error in errors), (mistake, errors)
