"""Host objectives on a Ray cluster of this machine: results, failures, actors that are killed in the middle."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument
from tests.study.studies import GREEDY, SPACE, assert_same, on_host

ray = pytest.importorskip("ray")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def cluster():
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default, which starves on a busy machine
    ray.init(num_cpus=4, log_to_driver=False, include_dashboard=False, object_store_memory=100 * 2**20)
    yield
    ray.shutdown()


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


def test_bad_input(monkeypatch):
    with pytest.raises(InvalidArgument, match="resources: expected options of a Ray actor"):
        jhpo.host(on_host, resources={"num_gpus": 1})
    with pytest.raises(InvalidArgument, match="kind: expected 'thread' or 'process' for a function that reports"):
        jhpo.host(lambda params, trial: 0.0, kind="ray")
    monkeypatch.setattr("jhpo.evaluation.executors.clusters._START_SECONDS", 3.0)
    study = jhpo.Study(SPACE, "random")
    with pytest.raises(InvalidArgument, match="resources: expected what the cluster has room for"):
        study.optimize(jhpo.host(on_host, kind="ray", resources={"num_cpus": 64}), budget=1)
    lock = __import__("threading").Lock()
    with pytest.raises(InvalidArgument, match="fn: expected a function that Ray can send"):
        study.optimize(jhpo.host(lambda params: lock.locked(), kind="ray"), budget=1)
