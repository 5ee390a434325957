"""Host objectives on a Ray cluster of this machine: results, failures, actors that are killed in the middle."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument
from tests.evaluation.actor_campaign import cluster, of_functions, of_populations
from tests.study.studies import GREEDY, SPACE, assert_same, on_host

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow  # a cluster takes seconds to start; `test_crew.py` has the short forms


@pytest.fixture(scope="module", autouse=True)
def its_cluster():
    with cluster():
        yield


def tokens(folder: Path, count: int) -> None:
    """Allow so many processes to end in the middle of an evaluation."""
    folder.mkdir()
    for number in range(count):
        (folder / str(number)).touch()


def perhaps_die(folder: Path) -> None:
    """End this process as a lost machine would, if there is a token left for it."""
    for token in sorted(folder.glob("*")):
        with contextlib.suppress(FileNotFoundError):  # another process was faster
            token.unlink()
            os.kill(os.getpid(), signal.SIGKILL)


def test_a_study_on_ray_equals_one_in_threads_and_failures_cost_their_own_trial(tmp_path):
    there = jhpo.Study(SPACE, GREEDY, tmp_path / "a.db", seed=2)  # two of six workers find no place
    there.optimize(jhpo.host(on_host, workers=6, kind="ray"), budget=40)
    here = jhpo.Study(SPACE, GREEDY, seed=2)
    here.optimize(jhpo.host(on_host), budget=40)
    assert_same(there, here)

    def ill(params, seed):  # a closure, which Ray can send
        if params["k"] == "a":
            raise RuntimeError(f"seed {seed}")
        time.sleep(60.0 if params["x"] > 0 else 0.0)
        return params["x"]

    study = jhpo.Study(SPACE, jhpo.RandomSearch(8), seed=1)
    study.optimize(jhpo.host(ill, workers=2, kind="ray", timeout=2.0), budget=8)
    for trial in (study[i] for i in range(8)):
        if trial.params["k"] == "a":
            assert trial.reason.startswith(f"RuntimeError: seed {trial.seed}")
        else:
            assert trial.reason.startswith("timeout") == (trial.params["x"] > 0)


class Counts:
    """Counts the begun and finished evaluations of every point."""

    def __init__(self):
        self.begun, self.ended = {}, {}

    def begin(self, key, pid):
        self.begun[key] = self.begun.get(key, 0) + 1
        return pid

    def end(self, key):
        self.ended[key] = self.ended.get(key, 0) + 1

    def read(self):
        return self.begun, self.ended


Book: Any = ray.remote(num_cpus=0)(Counts)


def test_actors_killed_in_the_middle_lose_and_double_nothing(tmp_path):
    book = Book.remote()

    def slow(params, seed):
        ray.get(book.begin.remote(seed, os.getpid()))
        time.sleep(0.1)
        if np.random.default_rng().random() < 0.25:
            os.kill(os.getpid(), signal.SIGKILL)  # its machine goes away
        ray.get(book.end.remote(seed))
        return on_host(params)

    study = jhpo.Study(SPACE, GREEDY, tmp_path / "a.db", seed=2)
    study.optimize(jhpo.host(slow, workers=4, kind="ray"), budget=32)
    begun, ended = ray.get(book.read.remote())
    done = [study[i] for i in range(len(study))]
    assert len(done) == 32 and sum(begun.values()) > 32  # some were begun again
    lost = [t for t in done if t.reason]
    assert all(t.reason.startswith("given up: its worker was lost 4 times") for t in lost) and len(lost) <= 2
    assert {t.seed for t in done} - {t.seed for t in lost} == set(ended) and set(ended.values()) == {1}


class Bowl:
    """Descends into a bowl; an actor that evaluates it may be lost."""

    steps = 5

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def init(self, hp, key):
        return jnp.stack([hp["x"], hp["y"]]) + 0.1 * jax.random.normal(key, (2,))

    def step(self, hp, state, t):
        return 0.9 * state

    def evaluate(self, hp, state):
        folder = Path(self.folder)
        jax.debug.callback(lambda _: perhaps_die(folder), state)
        return jnp.sum(state**2) + jnp.where(hp["k"] == 0, 1.0, 0.0)


def test_a_population_on_actors_equals_one_on_a_device_though_actors_are_lost(tmp_path):
    tokens(tmp_path / "tokens", 3)
    bowl, strategy = Bowl(tmp_path / "tokens"), jhpo.PSO(12)
    with jhpo.Study(SPACE, strategy, tmp_path / "a.db", seed=2) as study:
        study.optimize(bowl, budget=12, devices=jhpo.RayActors(3))
    with jhpo.Study.load(tmp_path / "a.db") as there:  # by another number of actors
        there.optimize(bowl, budget=36, devices=jhpo.RayActors(2))
        assert not list((tmp_path / "tokens").glob("*"))  # all were lost
        chunk = there.history.layouts["population"]["chunk"]
        here = jhpo.Study(SPACE, strategy, seed=2)
        here.optimize(bowl, budget=36, chunk=chunk)
        assert_same(there, here)
        np.testing.assert_array_equal(*(s.states(bowl, s.top(2))[1] for s in (there, here)))
    found = jhpo.minimize(bowl, SPACE, strategy, budget=24, seed=2, devices=jhpo.RayActors(2), chunk=chunk)
    assert found.history.value.tolist() == here.history.table.value.array[:24].tolist()
    assert found.top(1)[0].state.shape == (2,)


def test_an_objective_that_cannot_be_traced_raises_what_it_raises_here():
    with pytest.raises(InvalidArgument, match="objective: expected a real scalar"):
        jhpo.minimize(lambda hp: jnp.zeros(3) + hp["x"], SPACE, "random", budget=4, devices=jhpo.RayActors(1))


def test_functions_report_and_are_stopped_early_though_their_actor_is_lost(tmp_path):
    def learns(params, trial):
        for step in range(6):
            if step == 3:
                perhaps_die(tmp_path / "tokens")
            trial.report(step, abs(params["x"]) + 1.0 / (step + 1), speed=step)
            if trial.should_stop():
                break
        return abs(params["x"])

    rule = jhpo.MedianStopping(min_trials=4)
    tokens(tmp_path / "tokens", 2)
    there = jhpo.Study(SPACE, "random", tmp_path / "a.db", seed=3)
    there.optimize(jhpo.host(learns, kind="ray"), budget=16, early_stop=rule)
    assert not list((tmp_path / "tokens").glob("*"))
    here = jhpo.Study(SPACE, "random", seed=3)
    here.optimize(jhpo.host(learns), budget=16, early_stop=rule)
    assert_same(there, here)
    assert [there[i].curve for i in range(16)] == [here[i].curve for i in range(16)]
    assert [there[i].curves for i in range(16)] == [here[i].curves for i in range(16)]
    assert {t.status.name for t in (here[i] for i in range(16))} == {"COMPLETE", "PRUNED"}


def test_a_short_campaign_of_kills_at_random_moments(tmp_path):
    for kind in (of_functions, of_populations):
        (tmp_path / kind.__name__).mkdir()
        assert kind(tmp_path / kind.__name__, 1)["kills"] >= 1


def test_bad_input(monkeypatch):
    with pytest.raises(InvalidArgument, match="resources: expected None but with kind='ray'"):
        jhpo.host(on_host, resources={"num_gpus": 1})
    for module in ("actors", "clusters"):
        monkeypatch.setattr(f"jhpo.evaluation.executors.{module}.START_SECONDS", 3.0)
        monkeypatch.setattr(f"jhpo.evaluation.executors.{module}.QUIET_SECONDS", 1.0)
    study, room = jhpo.Study(SPACE, "random"), "resources: expected what the cluster has room for"
    with pytest.raises(InvalidArgument, match=room), pytest.warns(UserWarning, match=f"no worker .*; {room}") as told:
        study.optimize(jhpo.host(on_host, workers=2, kind="ray", resources={"num_cpus": 64}), budget=1)
    assert len(told) == 1
    for resources in ({"num_gpuss": 1}, {"num_cpus": "two"}, {"num_cpus": -1}):  # waited for ever
        with pytest.raises(InvalidArgument, match="resources: expected options of a Ray actor"):
            study.optimize(jhpo.host(on_host, kind="ray", resources=resources), budget=1)
    with pytest.raises(InvalidArgument, match="resources: expected options of a Ray actor"):
        jhpo.minimize(lambda hp: hp["x"], SPACE, "random", budget=2, devices=jhpo.RayActors(1, {"num_gpuss": 1}))
    lock = __import__("threading").Lock()
    with pytest.raises(InvalidArgument, match="fn: expected one that Ray can send"):
        study.optimize(jhpo.host(lambda params: lock.locked(), kind="ray"), budget=1)
