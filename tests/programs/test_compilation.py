"""The persistent compilation cache: only on request, at any time, and never instead of what the user configured."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap

import pytest

import jhpo
from jhpo.programs import compilation

PROGRAM = """
    import jax, jax.numpy as jnp, pathlib, sys
    import jhpo
    jax.jit(lambda x: jnp.sin(x) + 1)(1.0)  # JAX has decided about its cache by now
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    before = jax.config.jax_compilation_cache_dir
    jhpo.minimize(lambda hp: hp["x"], space, jhpo.RandomSearch(4), budget=4)
    assert jax.config.jax_compilation_cache_dir == before, "nobody asked for that"
    folder = jhpo.use_compilation_cache()
    jax.jit(lambda x: jnp.cos(x) * 3)(1.0)
    print(folder, sum(p.name.endswith("-cache") for p in pathlib.Path(folder).iterdir()))
"""


@pytest.mark.parametrize("configured", [False, True])
def test_programs_are_kept_from_the_call_on(tmp_path, configured):
    env = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION") and k != "XDG_CACHE_HOME"}
    env["XDG_CACHE_HOME"] = str(tmp_path)
    if configured:
        env |= {"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "mine"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(PROGRAM)], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    folder, kept = done.stdout.split()
    assert folder == str(tmp_path / "mine" if configured else tmp_path / "jhpo" / "xla") and int(kept) > 0


def test_options_of_other_compilers_are_left_out(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    here = compilation.cpu_options(quickly=True)
    assert here["xla_backend_optimization_level"] == 1
    monkeypatch.setitem(compilation.QUICKLY, "xla_option_of_another_version", True)
    assert compilation.cpu_options(quickly=True) == here


def test_what_the_user_tells_the_compiler_stands(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "")
    assert "xla_backend_optimization_level" in compilation.cpu_options()
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=somewhere --xla_backend_optimization_level=0")
    for quickly in (False, True):
        assert "xla_backend_optimization_level" not in compilation.cpu_options(quickly)
    assert "xla_disable_hlo_passes" in compilation.cpu_options(quickly=True)


def test_a_folder_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setattr(compilation, "keep_from_now_on", lambda: begun.append(True))
    (tmp_path / "file").touch()
    with pytest.raises(jhpo.InvalidArgument, match="folder: expected one that can be made"):
        jhpo.use_compilation_cache(tmp_path / "file" / "inside")
    assert not begun  # nothing is kept where a folder was asked for that is not there


# packages and modules that take a tenth or more of the time that `jhpo.Study` takes to import without them
LATE = (
    *("jax.extend", "optax", "flax", "sqlalchemy", "pandas", "rich", "optuna", "multiprocessing"),
    *("jhpo.gradients", "jhpo.report.figures", "jhpo.report.page", "jhpo.search.minimize", "jhpo.search.run"),
    *("jhpo.training.networks", "jhpo.training.supervised", "jhpo.training.augment", "jhpo.training.folds"),
    *("jhpo.strategies.bayes", "jhpo.strategies.cmaes", "jhpo.storage.sql"),
)


def loaded_by(program: str) -> set[str]:
    """Modules that a fresh process has imported at the end of a program, without those that JAX imports."""
    program = f"import sys, jax; before = set(sys.modules)\n{program}\nprint(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


def test_a_study_imports_no_more_than_it_needs():
    loaded = loaded_by("import jhpo; jhpo.Study, jhpo.PSO")
    assert "jhpo.study.study" in loaded
    assert not loaded & set(LATE)


def test_a_snapshot_does_not_import_flax(tmp_path):
    """It takes most of a second, and a study needs no part of it."""
    program = f"""
import jhpo
space = jhpo.Space({{"x": jhpo.Float(0.0, 1.0)}})
study = jhpo.Study(space, jhpo.RandomSearch(2), storage="sqlite:///{tmp_path}/s.db")
for _ in range(3):
    for trial in study.ask(2):
        study.tell(trial, trial.params["x"])
study.close()  # takes a snapshot
study = jhpo.Study.load("sqlite:///{tmp_path}/s.db")
study.ask(1)  # reads it
"""
    loaded = loaded_by(program)
    assert "jhpo.values.packing" in loaded and "flax" not in loaded
    (count,) = sqlite3.connect(tmp_path / "s.db").execute("select count(*) from jhpo_snapshot").fetchone()
    assert count > 0
