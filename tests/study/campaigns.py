"""What must survive, as campaigns: kill -9, many processes, lost workers, a million trials.

`benchmarks/reliability.py` runs them at length, tests/study/test_reliability.py in short. This file is also the program
of the processes that a campaign starts and kills.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jhpo
import jhpo.storage.sql  # imported here, so that the first opening is not measured with SQLAlchemy's import
import jhpo.study.ledger
from jhpo.errors import TrialConflict

ROOT = Path(__file__).parents[2]
SPACE = jhpo.Space({"x": jhpo.Float(-1.0, 1.0), "y": jhpo.Float(-1.0, 1.0), "k": jhpo.Choice(["a", "b"])})
STRATEGY = jhpo.Greedy(8)
BUDGET = 2400  # evaluations of one study of a campaign; the next one begins when it is finished
PAUSE = 0.004  # seconds between two generations, so that kills find many different moments


def objective(hp: dict[str, jax.Array]) -> jax.Array:
    """Fails for a fifth of the points."""
    value = (hp["x"] - 0.3) ** 2 + hp["y"] ** 2 + jnp.where(hp["k"] == 0, 1.0, 0.0)
    return jnp.where(hp["x"] > 0.6, jnp.nan, value)


def host_objective(params: dict[str, Any]) -> float:
    """The same on the host."""
    value = (params["x"] - 0.3) ** 2 + params["y"] ** 2 + float(params["k"] == "a")
    return float("nan") if params["x"] > 0.6 else value


def child(mode: str, path: str, seed: int) -> None:
    """Work on a study until killed; every acknowledged result is announced on stdout."""
    jhpo.study.ledger.SNAPSHOT_SECONDS = 0.02
    # compile first: a kill during compilation interrupts nothing
    jhpo.Study(SPACE, STRATEGY).optimize(objective, budget=24)
    study = jhpo.Study(SPACE, STRATEGY, path, seed=seed, resume=True, max_retry=1000)
    print("ready", flush=True)

    def announce(done: int) -> None:
        os.write(1, b"%d\n" % done)
        time.sleep(PAUSE)

    if mode == "optimize":
        study.optimize(objective, budget=BUDGET, callback=lambda update: announce(update.evaluations))
    else:
        while study.evaluations < BUDGET:
            for trial in study.ask():
                study.tell(trial, host_objective(trial.params))
            announce(study.evaluations)


def start(*arguments: object) -> subprocess.Popen[bytes]:
    """This file in another process."""
    paths = os.pathsep.join([str(ROOT), *(p for p in sys.path if p)])
    env = os.environ | {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}
    command = [sys.executable, str(Path(__file__).resolve()), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=env)


def reference(mode: str, seed: int) -> jhpo.Study:
    """The run that nobody killed, in memory."""
    study = jhpo.Study(SPACE, STRATEGY, seed=seed)
    if mode == "optimize":
        study.optimize(objective, budget=BUDGET)
    while study.evaluations < BUDGET:
        for trial in study.ask():
            study.tell(trial, host_objective(trial.params))
    return study


def campaign(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    """Kill a study at random points, reopen it each time, and compare it with the run that was never killed."""
    random = np.random.default_rng(seed)
    figures: dict[str, Any] = dict.fromkeys(("kills", "finished", "lost", "duplicates", "different"), 0)
    opening: list[float] = []
    number = 0
    while figures["kills"] < kills:
        mode = ("optimize", "asktell")[number % 2]
        path, number = folder / f"{number}.db", number + 1
        good = reference(mode, number)
        for _ in range(kills):
            if figures["kills"] == kills:
                break
            acknowledged, finished = _kill_once(mode, path, number, float(random.uniform(0.0, 1.0)))
            figures["kills"] += 1
            begin = time.perf_counter()
            with jhpo.Study.load(path) as study:
                opening.append(time.perf_counter() - begin)
                done = study.history.table.done()
                figures["lost"] += max(0, acknowledged - int(done.sum()))
                figures["different"] += _different(study, good)
                ids = np.flatnonzero(done)
                figures["duplicates"] += len(ids) - len(np.unique(ids))
            if finished:
                break
        with jhpo.Study.load(path) as study:
            study.requeue()
            if mode == "optimize":
                study.optimize(objective, budget=BUDGET)
            while study.evaluations < BUDGET:
                for trial in study.ask():
                    study.tell(trial, host_objective(trial.params))
            figures["finished"] += 1
            figures["different"] += _different(study, good) + (len(study) != len(good))
    return figures | {"slowest_open_s": max(opening)}


def _kill_once(mode: str, path: Path, seed: int, after: float) -> tuple[int, bool]:
    """``(results acknowledged, the study was finished before the kill)``."""
    process = start(mode, path, seed)
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line == b"ready\n", line
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    code = process.wait()
    lines = rest.split(b"\n")[:-1]  # a last line without its end was cut off by the kill
    return int(lines[-1]) if lines else 0, code == 0


def _different(study: jhpo.Study, good: jhpo.Study) -> int:
    """1 if any finished trial differs from the uninterrupted run in any bit."""
    table, other = study.history.table, good.history.table
    done = np.flatnonzero(table.done())
    same = all(
        np.array_equal(getattr(table, c).array[done], getattr(other, c).array[done], equal_nan=c != "state")
        for c in ("unit", "value", "state", "generation", "member")
    )
    return int(not same)


def teller(path: str, tells: int) -> None:
    """One of many workers of a study."""
    study = jhpo.Study.load(path)
    for _ in range(tells):
        for trial in study.ask():
            study.tell(trial, host_objective(trial.params) if trial.params["x"] <= 0.6 else 9.0)


def tell_many(path: Path, processes: int, tells: int) -> dict[str, Any]:
    """Several processes tell one study: every id once, none missing."""
    jhpo.Study(SPACE, jhpo.RandomSearch(64), path).close()
    begin = time.perf_counter()
    workers = [start("teller", path, tells) for _ in range(processes)]
    codes = [worker.wait() for worker in workers]
    assert not any(codes), codes
    seconds = time.perf_counter() - begin
    with jhpo.Study.load(path) as study:
        table = study.history.table
        told = np.concatenate([[], *(e.body["ids"] for e in _events(path) if e.kind == "tell")]).astype(int)
        return {
            "trials": len(study),
            "unique_contiguous": bool(np.array_equal(np.sort(told), np.arange(processes * tells))),
            "complete": int(np.isfinite(table.value.array).sum()),
            "seconds": seconds,
        }


def _events(path: Path) -> list[Any]:
    from jhpo.storage import open_log

    with contextlib.closing(open_log(path, create=False)) as log:
        return log.read()


def taker(path: str, name: str) -> None:
    """A worker on another machine that takes a trial and is never heard of again."""
    study = jhpo.Study.load(path)
    study.ledger.worker = f"{name}/1/1"
    print(study.ask()[0].id, flush=True)
    time.sleep(600)


def lease_campaign(path: Path, kills: int) -> dict[str, int]:
    """Workers that are killed: their trials are handed on after the lease, their late results refused."""
    figures = {"kills": 0, "handed_on": 0, "late_refused": 0}
    study = jhpo.Study(SPACE, jhpo.RandomSearch(8), path, lease=0.2)
    for k in range(kills):
        process = start("taker", path, f"machine{k}")
        assert process.stdout is not None
        taken = int(process.stdout.readline())
        process.kill()
        process.wait()
        figures["kills"] += 1
        time.sleep(0.25)
        (trial,) = study.ask()
        figures["handed_on"] += trial.id == taken and trial.attempt == 1
        study.tell(trial, 0.5)
    with jhpo.Study.load(path, lease=0.2) as late:
        late.ledger.worker = "elsewhere/1/1"
        (mine,) = late.ask()
        time.sleep(0.25)
        (theirs,) = study.ask()
        assert theirs.id == mine.id
        try:
            late.tell(mine, 0.1)
        except TrialConflict:
            figures["late_refused"] += 1
    study.close()
    return figures


def claims(path: Path, workers: int, rounds: int) -> dict[str, Any]:
    """Every round one trial is enqueued and all workers ask at once: it must be claimed exactly once."""
    study = jhpo.Study(SPACE, jhpo.RandomSearch(64), path)
    others = [jhpo.Study.load(path) for _ in range(workers)]
    wrong = 0
    begin = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(rounds):
            wanted = study.enqueue({"x": 0.5, "y": 0.5, "k": "a"})
            asked = list(pool.map(lambda worker: worker.ask()[0].id, others))
            wrong += asked.count(wanted) != 1 or len(set(asked)) != workers
    for one in [*others, study]:
        one.close()
    return {"rounds": rounds, "workers": workers, "wrong": wrong, "seconds": time.perf_counter() - begin}


def million(folder: Path, trials: int) -> dict[str, float]:
    """A study of so many trials in generations of 1,000: time to write, to reopen, and to the next ask."""
    path = folder / "million.db"
    strategy = jhpo.Greedy(1000)
    with jhpo.Study(SPACE, strategy, path) as study:
        begin = time.perf_counter()
        study.optimize(objective, budget=trials)
        written = time.perf_counter() - begin
    begin = time.perf_counter()
    with jhpo.Study.load(path) as study:
        opened = time.perf_counter() - begin
        best = study.best
        to_best = time.perf_counter() - begin
        study.ask(1)
        to_ask = time.perf_counter() - begin
        assert len(study) == trials + 1 and np.isfinite(best.value)
    size = path.stat().st_size / 2**20
    return {"trials": trials, "write_s": written, "reopen_s": opened, "best_s": to_best, "ask_s": to_ask, "MiB": size}


def one_by_one(folder: Path, trials: int) -> dict[str, float]:
    """Ask and tell one trial at a time: trials a second, and time to reopen the log that this makes."""
    path = folder / "single.db"
    with jhpo.Study(SPACE, jhpo.RandomSearch(64), path) as study:
        study.tell(study.ask()[0], 1.0)
        begin = time.perf_counter()
        for _ in range(trials):
            study.tell(study.ask()[0], 1.0)
        rate = trials / (time.perf_counter() - begin)
    begin = time.perf_counter()
    jhpo.Study.load(path).close()
    return {"trials": trials, "trials_per_s": rate, "reopen_s": time.perf_counter() - begin}


if __name__ == "__main__":
    mode, path, value = sys.argv[1:]
    others = {"teller": lambda: teller(path, int(value)), "taker": lambda: taker(path, value)}
    others.get(mode, lambda: child(mode, path, int(value)))()
