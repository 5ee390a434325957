"""BayesOpt in studies: results in any order, buffers that grow, compilations, many studies side by side."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.keys import init_key, strategy_key
from jhpo.search.driver import Driver
from jhpo.strategies.base import Evaluation
from jhpo.strategies.bayes import history as past
from jhpo.strategies.bayes import strategy as bayes
from jhpo.strategies.bayes.ground import exact_ground
from tests.strategies.bayes_problems import PLANE, SMALL, bowl

# -- a whole search ---------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_best_of_five_categories_is_found() -> None:
    """The model knows a category again, whichever program rounded the centre of its cell."""
    names = ["a", "b", "c", "d", "e"]
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0), "name": jhpo.Choice(names)})

    def objective(hp: dict[str, jax.Array]) -> jax.Array:
        return (hp["x"] - 0.7) ** 2 + (hp["y"] - 0.2) ** 2 + jnp.where(hp["name"] == 4, 0.0, 0.05)

    for seed in range(3):
        result = jhpo.minimize(objective, space, jhpo.BayesOpt(), budget=25, seed=seed)
        assert result.best["name"] == "e" and result.value < 1e-3


# -- asking and telling in any order ---------------------------------------------------------------------------


def test_results_in_any_order(rows: np.ndarray) -> None:
    """Pending rows are found by their points; padding is ignored; what nobody asked for is added."""
    history = past.blank(8, PLANE.dim, 0, jnp.float32)
    units = jnp.asarray(rows[:3], jnp.float32)
    history, free = past.reserve(history, 3)
    history = past.add_pending(history, free, units)
    order = np.array([2, 0, 1])
    result = Evaluation(value=np.array([2.0, np.nan, 1.0], np.float32), mask=np.array([True, True, False]))
    told = past.told(exact_ground(PLANE), units[order], result, 0, jnp.float32)
    history, used = past.record(history, jnp.int32(3), told, 0, 0)
    assert int(used) == 3
    assert history.status[:3].tolist() == [past.FAILED, past.PENDING, past.OBSERVED]
    assert float(history.value[2]) == 2.0
    foreign = past.told(exact_ground(PLANE), jnp.full((1, 2), 0.9), Evaluation(value=np.array([5.0])), 0, jnp.float32)
    history, used = past.record(history, used, foreign, 0, 0)
    assert int(used) == 4 and int(history.status[3]) == past.OBSERVED and float(history.value[3]) == 5.0


def test_a_full_buffer_gives_up_its_oldest(rows: np.ndarray) -> None:
    history, used = past.blank(8, PLANE.dim, 0, jnp.float32), jnp.int32(0)
    for i, value in enumerate([3.0, 1.0, 9.0, np.nan, 5.0, 6.0, 7.0, 8.0]):
        told = past.told(
            exact_ground(PLANE), jnp.asarray(rows[i : i + 1]), Evaluation(value=np.array([value])), 0, jnp.float32
        )
        history, used = past.record(history, used, told, 0, i)
    history, free = past.reserve(history, 2)
    assert int(used) == 8 and sorted(free.tolist()) == [0, 2]  # row 1 holds the best


def test_more_evaluations_than_the_buffer_holds() -> None:
    """Inside a user's own scan nothing grows: the search goes on with the better part of its history."""
    small = jhpo.BayesOpt(capacity=32, candidates=64, starts=2, fit_iterations=3, search_iterations=3)

    def step(state, key):
        units, state = small.ask(state, key)
        return small.tell(state, units, Evaluation(value=((units - 0.3) ** 2).sum(axis=1))), units

    state = small.init(PLANE, jax.random.key(0))
    state, units = jax.jit(lambda s: jax.lax.scan(step, s, jax.random.split(jax.random.key(1), 45)))(state)
    assert np.isfinite(units).all() and int(state.used) == 32 and int(state.asked) == 45
    assert bowl(np.asarray(units)[-10:, 0]).min() < 1e-2


def test_study_with_pending_trials(tmp_path) -> None:
    """Asked while trials run, told backwards, given foreign results; and the same again from the storage."""
    url = f"sqlite:///{tmp_path}/study.db"
    study = jhpo.Study(PLANE, SMALL, url, seed=3)
    study.absorb([{"x": 0.1 * i, "y": 0.5} for i in range(6)], [float(i) for i in range(6)])
    trials = [study.ask()[0] for _ in range(4)]
    points = np.stack([t.unit for t in trials])
    assert len(np.unique(points, axis=0)) == 4
    # six foreign results were learned from: no design, but points of the model, away from one another
    assert np.abs(points[:, None] - points[None]).max(axis=-1)[~np.eye(4, dtype=bool)].min() > 1e-3
    for trial in reversed(trials[1:]):
        study.tell(trial, bowl(trial.unit[None])[0])
    study.enqueue({"x": 0.25, "y": 0.25})
    queued = study.ask()[0]
    study.tell(queued, error="out of memory")
    study.ask()
    state = study.ledger.follower().driver.state
    status = np.asarray(state.history.status)
    assert [(status == s).sum() for s in (past.PENDING, past.OBSERVED, past.FAILED)] == [2, 9, 1]
    study.close()
    again = jhpo.Study.load(url)
    np.testing.assert_array_equal(again.ask()[0].unit, _next(study, url, tmp_path))


def _next(study: jhpo.Study, url: str, tmp_path) -> np.ndarray:
    """The same next point, from a copy of the log without its snapshot."""
    import sqlite3

    copy = tmp_path / "copy.db"
    with sqlite3.connect(tmp_path / "study.db") as source, sqlite3.connect(copy) as target:
        source.backup(target)
    loaded = jhpo.Study.load(f"sqlite:///{copy}")
    last = int(loaded.history.table.size) - 1
    return loaded[last].unit


@pytest.mark.parametrize("claimed", [True, False])
def test_an_enqueued_point_is_known_before_its_result(tmp_path, claimed: bool) -> None:
    """Running, or still in the queue: the default is proposed once, and a resumed study goes on alike."""
    url = f"sqlite:///{tmp_path}/study.db"
    with jhpo.Study(PLANE, SMALL, storage=url, seed=2) as study:
        study.enqueue({"x": 0.5, "y": 0.5})
        trials = [*study.ask(1), *study.ask(6)] if claimed else study.ask(7)
        points = {(t.params["x"], t.params["y"]) for t in trials}
        assert len(trials) == len(points) == 7
        for trial in reversed(trials):
            study.tell(trial, float(trial.params["x"]))
        copy = sqlite3.connect(tmp_path / "copy.db")
        with contextlib.closing(sqlite3.connect(tmp_path / "study.db")) as source, contextlib.closing(copy):
            source.backup(copy)
        (after,) = study.ask()
    with jhpo.Study(PLANE, SMALL, storage=f"sqlite:///{tmp_path}/copy.db", seed=2, resume=True) as again:
        assert again.ask()[0].params == after.params


# -- buffers and compilations ------------------------------------------------------------------------------------


NARROW = {"x": jhpo.Float(0.0, 2.0), "c": jhpo.Choice(["a", "b"]), "n": jhpo.Int(1, 9)}
WIDE = {
    "r": jhpo.Float(1e-6, 1.0, log=True),
    "n": jhpo.Int(16, 2048, log=True),
    "c": jhpo.Choice(list("abcdefg")),
    "k": jhpo.Int(-5, 500),
}


def test_a_new_space_compiles_nothing_whatever_its_bounds_kinds_and_dimension(count_compilations) -> None:
    """Of the strategy; the rows of both spaces have four columns inside."""

    def search(parameters: dict) -> jhpo.Study:
        study = jhpo.Study(jhpo.Space(parameters), SMALL, seed=1)
        study.optimize(jhpo.host(lambda hp: hp["n"] / 10.0 + (hp["c"] == "b")), budget=14)
        return study

    search(NARROW)
    with count_compilations() as seen:
        study = search(WIDE)
    assert not [name for name in seen.names if "turn" in name or "tell" in name or "ask" in name], seen.names
    assert study.best.params["n"] < 64 and study.best.params["c"] != "b"


@pytest.mark.slow
def test_columns_of_padding_change_no_study() -> None:
    """The same search whether its rows have the columns of the space or more: those of `run` and of a `Driver`."""
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "c": jhpo.Choice(["a", "b", "c"])})
    strategy, root = SMALL, jax.random.key(3)
    driver = Driver(strategy, space, root)
    assert driver.strategy is not strategy
    units, result = None, Evaluation(value=np.zeros(1, np.float32))
    with jax.enable_x64(True):
        state, ask = strategy.prepare(32).init(space, init_key(root)), jax.jit(strategy.ask)
        for g in range(6):
            units = driver.turn(units, result)
            mine, state = ask(state, strategy_key(root, jnp.uint32(g)))
            assert units.shape == mine.shape == (1, 2)
            np.testing.assert_allclose(units, mine, atol=1e-5)
            result = Evaluation(value=bowl(units))
            state = strategy.tell(state, units, Evaluation(value=jnp.asarray(result.value)))


def test_one_compilation_a_bucket(count_compilations) -> None:
    jax.clear_caches()
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    driver = Driver(SMALL, space, jax.random.key(0))
    units, result, values = None, Evaluation(value=np.zeros(1, np.float32)), []
    with count_compilations() as seen:
        for _ in range(50):
            units = driver.turn(units, result)
            result = Evaluation(value=bowl(units))
            values.append(result.value.min())
        seen.finish()
    turns = [name for name in seen.names if name == "jit(turn)"]
    assert len(turns) == 3, seen.names  # the design, 64 rows, and 128 rows ahead of time
    assert driver.state.history.value.shape == (64,) and int(driver.state.used) == 50
    assert driver.state.history.value.dtype == np.float64  # whatever the global setting
    assert min(values) < 1e-3


@pytest.mark.parametrize("q", [1, 8])
def test_sizes(q: int) -> None:
    strategy = jhpo.BayesOpt(batch=q)
    state = jax.eval_shape(strategy.init, PLANE, jax.random.key(0))
    rows = state.history.status.shape[0]
    real = strategy.init(PLANE, jax.random.key(0))
    full = [u for u in range(rows + 1) if strategy.full(real._replace(used=jnp.int32(u)))]
    assert full and full[0] + 2 * q == rows + 1  # a generation told late and a new one fit
    assert strategy.nearly_full(real._replace(used=jnp.int32(full[0] - 1)))
    grown = strategy.grow(real)
    assert grown.history.status.shape == (2 * rows,) and not strategy.full(grown._replace(used=jnp.int32(rows)))
    assert strategy.prepare(100).init(PLANE, jax.random.key(0)).history.status.shape == (128,)


# -- side by side ------------------------------------------------------------------------------------------------


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="studies take turns on a CPU only")
@pytest.mark.slow
def test_studies_that_take_turns_equal_a_study_alone() -> None:
    """Bit for bit, from the first evaluation to the last: no search lasts longer because of its neighbours."""
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(3,))})

    def study(key: jax.Array) -> jax.Array:
        return jhpo.run(SMALL, lambda hp: ((hp["x"] - 0.3) ** 2).sum(), space, 12, key)[1].value[:, 0]

    keys, alone = jax.vmap(jax.random.key)(jnp.arange(3, dtype=jnp.uint32)), jax.jit(study)
    np.testing.assert_array_equal(jax.jit(jax.vmap(study))(keys), np.stack([alone(k) for k in keys]))


HANG = """
    import jax, jhpo
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(3,)), "c": jhpo.Choice(["a", "b"])})
    f = lambda hp: ((hp["x"] - 0.3) ** 2).sum() + 0.1 * hp["c"]
    assert jhpo.minimize(f, space, jhpo.BayesOpt(), budget=12).value < 0.3
    assert jhpo.minimize(f, space, jhpo.BayesOpt(batch=8), budget=32).value < 0.3
    keys = jax.random.split(jax.random.key(0), 16)
    trace = jax.jit(jax.vmap(lambda k: jhpo.run(jhpo.BayesOpt(), f, space, 12, k)[1]))(keys)
    assert float(trace.value.min(axis=(1, 2)).max()) < 0.3
    print("done")
"""


@pytest.mark.slow
def test_no_hang_in_a_fresh_process() -> None:
    """Default settings on two cores: alone, in batches, and 16 studies under vmap (XLA's thread pool once hung)."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("XLA_", "JAX_", "OMP_", "OPENBLAS_", "NPROC"))}
    command = [sys.executable, "-c", textwrap.dedent(HANG)]
    if hasattr(os, "sched_setaffinity"):
        two = ",".join(str(c) for c in sorted(os.sched_getaffinity(0))[:2])
        command = ["taskset", "-c", two, *command]
    done = subprocess.run(command, env=clean, capture_output=True, text=True, timeout=400, check=False)
    assert done.returncode == 0 and "done" in done.stdout, done.stderr[-2000:]


def test_studies_side_by_side_share_their_branches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Design or model, fit or not: where studies go in lockstep, counts that all have in common decide, and vmap keeps
    the branches."""
    monkeypatch.setattr(bayes, "in_turn", lambda f: f)  # as on an accelerator
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0, shape=(3,))})

    def study(key: jax.Array) -> jax.Array:
        return jhpo.run(jhpo.BayesOpt(), lambda hp: (hp["x"] ** 2).sum(), space, 12, key)[1].value.min()

    keys = jax.vmap(jax.random.key)(jnp.arange(2, dtype=jnp.uint32))
    alone, together = str(jax.make_jaxpr(study)(keys[0])), str(jax.make_jaxpr(jax.vmap(study))(keys))
    assert together.count("cond[") == alone.count("cond[") >= 2
