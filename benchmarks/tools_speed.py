"""What a trial costs beside Optuna and Ray Tune: in each storage, by each kind of worker, and of doing nothing.

    python benchmarks/tools_speed.py storage --trials 200     # a PostgreSQL server of its own, if there is one
    python benchmarks/tools_speed.py workers --trials 200     # needs Ray, joblib; starting workers is not measured
    python benchmarks/tools_speed.py nothing --trials 1000    # with Ray Tune in its place: pip install "ray[tune]"

Every row is random search over five parameters. The rows of "storage" and "nothing" take turns in one process, so that
the ratios hold on a busy machine too, those of processor time most of all; an objective of "workers" sleeps 10 ms,
of which four at once leave 2.5 ms a trial. Ray Tune has a tenth of the trials, as each takes long.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import optuna

import jhpo

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.evaluation.actor_campaign import cluster
from tests.storage import postgres

SPACE = jhpo.Space({f"x{k}": jhpo.Float(0.0, 1.0) for k in range(5)})
ROUNDS = 5  # parts of a table, in turn
WORKERS = 4


def sleeps(params: dict[str, float]) -> float:
    """An objective of 10 ms that holds no lock."""
    time.sleep(0.01)
    return sum(params.values())


def suggested(trial: optuna.Trial) -> float:
    """The same for Optuna."""
    return sleeps({f"x{k}": trial.suggest_float(f"x{k}", 0.0, 1.0) for k in range(5)})


def ours(storage: Any) -> Callable[[int], None]:
    """Ask and tell, one trial at a time."""
    study = jhpo.Study(SPACE, jhpo.RandomSearch(64), storage)
    study.tell(study.ask()[0], 0.0)

    def some(count: int) -> None:
        for _ in range(count):
            study.tell(study.ask()[0], 0.0)

    return some


def theirs(storage: str | None) -> Callable[[int], None]:
    """Ask, suggest and tell, one trial at a time."""
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=0))

    def some(count: int) -> None:
        for _ in range(count):
            trial = study.ask()
            for k in range(5):
                trial.suggest_float(f"x{k}", 0.0, 1.0)
            study.tell(trial, 0.0)

    return some


def rate(ended: Sequence[float]) -> float:
    """Milliseconds a trial from the moments at which they ended, without the first, which wait for the workers."""
    times = sorted(ended)[2 * WORKERS :]
    return 1000 * (times[-1] - times[0]) / (len(times) - 1)


def by_workers(kind: str, trials: int) -> float:
    """`optimize` with four workers of a kind."""
    study = jhpo.Study(SPACE, jhpo.RandomSearch(64))
    resources = {"num_cpus": 0.5} if kind == "ray" else None  # four find room on two cores
    study.optimize(jhpo.host(sleeps, workers=WORKERS, kind=kind, resources=resources), budget=trials)
    return rate(study.history.table.told.array.tolist())


def optuna_threads(trials: int) -> float:
    """Optuna's own way to run four at once."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(suggested, n_trials=trials, n_jobs=WORKERS)
    return rate([t.datetime_complete.timestamp() for t in study.trials if t.datetime_complete is not None])


def _share(path: str, trials: int) -> None:
    """A part of the trials, in a process of joblib."""
    study = optuna.load_study(study_name="shared", storage=_journal(path))
    study.optimize(suggested, n_trials=trials)


def _journal(path: str) -> Any:
    """The storage that Optuna recommends for processes."""
    return optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(path))


def optuna_processes(trials: int) -> float:
    """Optuna in four processes by joblib, which share a journal."""
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/journal.log"
        study = optuna.create_study(
            study_name="shared", storage=_journal(path), sampler=optuna.samplers.RandomSampler(seed=0)
        )
        joblib.Parallel(WORKERS)(joblib.delayed(_share)(path, trials // WORKERS) for _ in range(WORKERS))
        return rate([t.datetime_complete.timestamp() for t in study.trials if t.datetime_complete is not None])


def ray_tune(trials: int, objective: Callable[[dict[str, float]], float]) -> float:
    """Ray Tune, four trials at once by actors that are used again; on a cluster that has started."""
    from ray import tune

    def run(config: dict[str, float]) -> None:
        tune.report({"loss": objective(config)})

    with tempfile.TemporaryDirectory() as folder:
        tuner = tune.Tuner(
            tune.with_resources(run, {"cpu": 0.5}),
            param_space={f"x{k}": tune.uniform(0.0, 1.0) for k in range(5)},
            tune_config=tune.TuneConfig(num_samples=trials, max_concurrent_trials=WORKERS, reuse_actors=True),
            run_config=tune.RunConfig(storage_path=folder, verbose=0),
        )
        begin = time.perf_counter()
        assert tuner.fit().num_terminated == trials
        return 1000 * (time.perf_counter() - begin) / trials


def nothing(hp: dict[str, Any]) -> Any:
    """An objective that costs nothing, for JAX and for the host."""
    return 0.0 * hp["x0"]


def whole(objective: Any) -> Callable[[int], None]:
    """Whole studies in memory by `optimize`."""

    def some(count: int) -> None:
        jhpo.Study(SPACE, jhpo.RandomSearch(64)).optimize(objective, budget=count)

    some(2 * 64)  # compiles, as a user's first study does
    return some


def optuna_whole(count: int) -> None:
    """A whole study in memory by `optimize`."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda trial: nothing({f"x{k}": trial.suggest_float(f"x{k}", 0.0, 1.0) for k in range(5)}), count)


def take_turns(rows: dict[str, Callable[[int], None]], trials: int) -> None:
    """Print milliseconds a trial of each row, by the clock and of the processor: the medians of its parts."""
    count = max(trials // ROUNDS, 1)
    clocks = (time.perf_counter, time.process_time)
    spent: dict[str, list[list[float]]] = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, some in rows.items():
            begin = [clock() for clock in clocks]
            some(count)
            spent[name].append([1000 * (clock() - since) / count for clock, since in zip(clocks, begin)])
    for name, parts in spent.items():
        wall, processor = (sorted(each)[len(parts) // 2] for each in zip(*parts))
        print(f"{name:32} {wall:8.3f} ms a trial, {processor:8.3f} of the processor", flush=True)


@contextlib.contextmanager
def servers() -> Iterator[postgres.Server | None]:
    """A PostgreSQL server, or None with the reason."""
    why = postgres.missing()
    if why is not None:
        print(f"without PostgreSQL: {why}")
        yield None
    else:
        with postgres.running() as server:
            yield server


def main() -> None:
    """The table that was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["storage", "workers", "nothing"])
    parser.add_argument("--trials", type=int, default=200)
    options = parser.parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if options.what == "workers":
        few = max(options.trials // 10, 8)
        rows: dict[str, Callable[[], float]] = {
            f"jhpo, {kind}": functools.partial(by_workers, kind, options.trials) for kind in ("thread", "process")
        }
        rows |= {
            "Optuna, n_jobs=4": lambda: optuna_threads(options.trials),
            "Optuna, joblib": lambda: optuna_processes(options.trials),
        }
        on_ray: dict[str, Callable[[], float]] = {
            "jhpo, ray": lambda: by_workers("ray", options.trials),
            "Ray Tune": lambda: ray_tune(few, sleeps),
        }
        for name, measured in rows.items():
            print(f"{name:32} {measured():8.2f} ms a trial", flush=True)
        with cluster():
            for name, measured in on_ray.items():
                print(f"{name:32} {measured():8.2f} ms a trial", flush=True)
        return
    if options.what == "nothing":
        turns = {"jhpo, JAX objective": whole(nothing), "jhpo, host function": whole(jhpo.host(nothing))}
        take_turns(turns | {"Optuna": optuna_whole}, options.trials * ROUNDS)
        with cluster():
            tuned = ray_tune(max(options.trials // 10, 8), nothing)
        print(f"{'Ray Tune':32} {tuned:8.2f} ms a trial")
        return
    with servers() as server, tempfile.TemporaryDirectory() as folder:
        stored = {"jhpo, memory": ours(None), "Optuna, memory": theirs(None)}
        stored["jhpo, SQLite file"] = ours(Path(folder) / "jhpo.db")
        stored["Optuna RDB, SQLite file"] = theirs(f"sqlite:///{folder}/optuna.db")
        if server is not None:
            stored["jhpo, PostgreSQL"] = ours(server.database())
            stored["Optuna RDB, PostgreSQL"] = theirs(
                server.database().replace("postgresql://", "postgresql+psycopg://")
            )
        take_turns(stored, options.trials)


if __name__ == "__main__":
    main()
