"""How large the program of a Bayesian search is, and that a machine compiles it once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

import jhpo
from jhpo.search import turns
from jhpo.search.driver import Driver
from jhpo.strategies.base import Evaluation
from tests.strategies.test_bayes_studies import WIDE


def equations(jaxpr: Any, seen: set[int]) -> Iterator[Any]:
    """Equations of a program and of those within it; what is called several times counts once, as it is traced once."""
    inner = getattr(jaxpr, "jaxpr", jaxpr)
    if id(inner) in seen:
        return
    seen.add(id(inner))
    for eqn in inner.eqns:
        yield eqn
        for leaf in jax.tree.leaves(list(eqn.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(leaf, "eqns"):
                yield from equations(leaf, seen)


def test_the_program_of_a_turn_stays_small() -> None:
    """Tracing and compiling take longer with every equation; some are for accelerators."""
    driver = Driver(jhpo.BayesOpt(), jhpo.Space(WIDE), jax.random.key(0))
    with driver.precision():
        state = turns.blank_state(driver.strategy, driver.space, driver.root)
        told = np.zeros((1, 4)), Evaluation(value=np.zeros(1))
        arguments = (driver.strategy, driver.space, state, *told, None, driver.root, driver.root)
        program = jax.make_jaxpr(turns.turn)(*arguments)
    names = [eqn.primitive.name for eqn in equations(program, set())]
    assert 1_000 < len(names) < (4_000 if jax.__version_info__ < (0, 12) else 4_150), len(names)
    # each draw of JAX's generator is a loop of its own: the first state needs one, which an opening has made
    assert "random_bits" not in names


FRESH = """
    import sys, jax, jhpo
    folder, high = sys.argv[1:]
    jhpo.use_compilation_cache(folder)
    made = []
    jax.monitoring.register_event_duration_secs_listener(lambda *event, **more: made.append((event[0], more)))
    kind = jhpo.Choice(["a", "b"]) if high == "1" else jhpo.Choice(list("abcdef"))
    space = jhpo.Space({"x": jhpo.Float(0.0, float(high)), "kind": kind})
    study = jhpo.Study(space, jhpo.BayesOpt(initial=2, candidates=64, starts=2), seed=int(high))
    for _ in range(4):
        (trial,) = study.ask()
        study.tell(trial, trial.params["x"])
        print(trial.params["x"].hex(), trial.params["kind"])
    print(sum(name == "/jax/core/compile/jaxpr_trace_duration" for name, _ in made))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="names of files in the cache")
def test_a_fresh_process_finds_every_program_for_a_space_never_seen(tmp_path: Path) -> None:
    """Compiled and traced; its points are those of a process that keeps nothing."""
    kept, said = [], []
    for high in ("1", "7"):
        command = [sys.executable, "-c", textwrap.dedent(FRESH), str(tmp_path), high]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        kept.append({path.name for path in tmp_path.iterdir() if path.name.endswith(("-cache", ".traced"))})
        said.append(done.stdout.splitlines())
    assert {name.split("-")[0] for name in kept[0] if "turn" in name} == {"jit_turn", "jhpo"} and kept[1] == kept[0]
    assert int(said[0][-1]) > 50 and int(said[1][-1]) <= 6, "jitted functions that were traced"
    space = jhpo.Space({"x": jhpo.Float(0.0, 7.0), "kind": jhpo.Choice(list("abcdef"))})
    study = jhpo.Study(space, jhpo.BayesOpt(initial=2, candidates=64, starts=2), seed=7)
    for line in said[1][:-1]:
        (trial,) = study.ask()
        study.tell(trial, trial.params["x"])
        assert line == f"{trial.params['x'].hex()} {trial.params['kind']}"


@pytest.mark.slow
def test_no_tracer_outlives_its_trace():
    """A closure of the strategy with its space was kept in a rule of vmap; JAX's check refused the search."""
    with jax.check_tracer_leaks():
        result = jhpo.minimize(lambda hp: hp["x"], jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), "bayes", budget=7)
    assert len(result.history.value) == 7
