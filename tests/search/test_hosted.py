"""Host functions in `minimize`: rules hold between evaluations, callbacks hear of each, and workers are kept busy."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import jhpo
from jhpo.search.hosted import HostSearch
from jhpo.search.stopping import Progress


def slowly(seconds: float) -> Callable[[dict[str, Any]], float]:
    """A function that takes a while."""

    def fit(params: dict[str, Any]) -> float:
        time.sleep(seconds)
        return float(params["x"])

    return fit


SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})


class Busy:
    """A function that counts how many of its calls run at once."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.now, self.most, self._lock = seconds, 0, 0, threading.Lock()

    def __call__(self, params: dict[str, Any]) -> float:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        time.sleep(self.seconds)
        with self._lock:
            self.now -= 1
        return float(params["x"])


@pytest.mark.parametrize("workers", [1, 3])
def test_a_time_limit_does_not_wait_for_the_generation(workers: int) -> None:
    slow = jhpo.host(slowly(0.1), workers=workers)
    began = time.monotonic()
    result = jhpo.minimize(slow, SPACE, jhpo.RandomSearch(64), budget=64, seconds=0.5)
    assert time.monotonic() - began < 4.0  # all 64 take 6.4 s, or 2.1 s and more
    assert result.stopped.startswith("seconds:") and 1 <= len(result.history.value) < 64
    assert result.value == result.history.value.min() and result.best == {"x": result.value}
    assert result.history.number.tolist() == list(range(len(result.history.value)))


def test_there_is_one_result_at_least() -> None:
    slow = jhpo.host(slowly(0.1))
    result = jhpo.minimize(slow, SPACE, "random", budget=8, seconds=0.001)
    assert len(result.history.value) == 1 and result.best is not None


@pytest.mark.parametrize("strategy", [jhpo.RandomSearch(16), jhpo.CMAES(16)])
def test_a_target_ends_the_search_with_the_result_that_reaches_it(strategy: jhpo.Strategy) -> None:
    seen: list[float] = []

    def record(params: dict[str, Any]) -> float:
        seen.append(params["x"])
        time.sleep(0.02)
        return -params["x"]

    result = jhpo.maximize(jhpo.host(lambda params: -record(params)), SPACE, strategy, budget=64, target=0.6)
    first = next(k for k, x in enumerate(seen) if x >= 0.6)
    assert result.history.value.tolist() == seen[: first + 1] and result.value == seen[first]
    assert result.stopped.startswith("target:")


def test_callbacks_and_own_rules_hear_of_each_result() -> None:
    heard: list[int] = []
    slow = jhpo.host(slowly(0.05))

    def enough(progress: Progress) -> str | None:
        return "enough" if progress.evaluations == 5 else None

    result = jhpo.minimize(
        slow, SPACE, "random", budget=64, callback=lambda update: heard.append(update.evaluations), stop=enough
    )
    assert heard == [1, 2, 3, 4, 5] and result.stopped == "enough"


def test_infeasible_results_reach_no_target() -> None:
    def limited(params: dict[str, Any]) -> dict[str, Any]:
        time.sleep(0.005)
        return {"value": params["x"], "constraint": [params["x"] - 0.5]}

    result = jhpo.minimize(jhpo.host(limited), SPACE, jhpo.RandomSearch(32), budget=32, target=0.6)
    assert 0.5 <= result.value <= 0.6
    space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)}, constraints=[lambda hp: hp["x"] - 0.5])
    result = jhpo.minimize(jhpo.host(lambda params: params["x"]), space, jhpo.CMAES(8), budget=32, target=0.6)
    assert 0.5 <= result.value <= 0.6


def test_workers_beyond_the_batch_are_busy() -> None:
    busy = Busy(0.1)
    result = jhpo.minimize(jhpo.host(busy, workers=4), SPACE, jhpo.PSO(1, particles=8), budget=12)
    assert busy.most == 4 and len(result.history.value) == 12
    assert len(set(result.history.ids.tolist())) == 12
    assert result.state is not None


def test_workers_beyond_the_batch_with_failures_constraints_replicates_and_notes() -> None:
    def noted(params: dict[str, Any], seed: int, trial: jhpo.Trial) -> dict[str, Any]:
        trial.note(x=params["x"])
        time.sleep(0.02 * params["x"])
        if params["x"] > 0.7:
            raise RuntimeError("too much")
        return {"value": params["x"], "constraint": [params["x"] - 0.2]}

    host = jhpo.host(noted, workers=5)
    result = jhpo.minimize(host, SPACE, jhpo.RandomSearch(2), budget=21, replicates=2)
    xs = [SPACE.decode(row)["x"] for row in result.history.units]
    assert [result.notes[k]["x"] for k in range(21)] == xs
    assert np.isnan(result.history.value).tolist() == [x > 0.7 for x in xs]
    assert result.value == min(x for x in xs if 0.2 <= x <= 0.7)


@pytest.mark.parametrize("workers", [1, 8])
def test_the_best_of_each_generation_is_kept_however_many_workers(workers: int) -> None:
    def fit(params: dict[str, Any]) -> float:
        time.sleep(0.01 * params["x"])
        return float("nan") if params["x"] > 0.6 else params["x"]

    values: dict[int, list[float]] = {}
    every = jhpo.minimize(jhpo.host(fit, workers=1), SPACE, jhpo.RandomSearch(4), budget=46)
    for generation, value in zip(every.history.generation.tolist(), every.history.value.tolist()):
        values.setdefault(generation, []).append(value)
    result = jhpo.minimize(jhpo.host(fit, workers=workers), SPACE, jhpo.RandomSearch(4), budget=46, keep="best")
    kept = dict(zip(result.history.generation.tolist(), result.history.value.tolist()))
    assert len(result.history.value) == len(kept) == 12 and result.value == every.value
    for generation, found in values.items():
        np.testing.assert_equal(kept[generation], np.fmin.reduce(found))


def test_a_worker_of_its_own_for_each_batch_gives_the_search_of_one_worker() -> None:
    found = [jhpo.minimize(jhpo.host(Busy(0.0), workers=n), SPACE, jhpo.PSO(4), budget=24).history for n in (1, 4)]
    np.testing.assert_array_equal(found[0].value, found[1].value)
    study = jhpo.Study(SPACE, jhpo.PSO(4))
    study.optimize(jhpo.host(Busy(0.0)), budget=24)
    assert [trial.value for trial in study] == found[0].value.tolist()


@pytest.mark.parametrize("keep", ["all", "values", "best"])
def test_a_rule_may_hold_before_anything_of_a_generation_has_ended(keep: Any) -> None:
    begun = threading.Event()
    calls: list[float] = []

    def fit(params: dict[str, Any]) -> float:
        calls.append(params["x"])
        if len(calls) > 2:
            begun.set()
            time.sleep(1.0)
        return float(params["x"])

    late = jhpo.host(fit, workers=2)

    def ends(_: Progress) -> str | None:
        return "a call of the second" if begun.is_set() else None

    result = jhpo.minimize(late, SPACE, jhpo.RandomSearch(2), budget=8, stop=ends, keep=keep)
    assert result.stopped == "a call of the second" and result.value == min(calls[:2])
    assert len(result.history.value) == (1 if keep == "best" else 2)


def test_a_member_whose_end_is_heard_of_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def twice(self: Any, handed: Any, row: int, _: Any) -> None:
        if all(task.done() for task in handed.runs[row]):
            self._ended.put((handed, row))
            threading.Timer(0.05, self._ended.put, [(handed, row)]).start()  # as another replicate's thread may

    monkeypatch.setattr(HostSearch, "_hear", twice)
    for strategy in (jhpo.BayesOpt(initial=32), jhpo.RandomSearch(4)):  # asked one by one, and by generations
        result = jhpo.minimize(jhpo.host(slowly(0.1), workers=3), SPACE, strategy, budget=12, replicates=2)
        assert result.history.number.tolist() == list(range(12))
        assert len(set(result.history.ids.tolist())) == 12


def test_own_rules_know_the_best_while_nothing_comes() -> None:
    seen: list[tuple[int, float]] = []

    def rule(progress: Progress) -> str | None:
        seen.append((progress.evaluations, progress.best))
        return None

    uneven = iter([0.05, 0.6, 0.05, 0.6])
    lock = threading.Lock()

    def unevenly(params: dict[str, Any]) -> float:
        with lock:
            seconds = next(uneven)
        time.sleep(seconds)
        return 0.5

    jhpo.minimize(jhpo.host(unevenly, workers=2), SPACE, jhpo.RandomSearch(2), budget=4, stop=rule)
    assert all(best == 0.5 for done, best in seen if done), seen  # not NaN, as if nothing had been found
