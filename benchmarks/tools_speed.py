"""What a trial costs beside Optuna and Ray Tune: in each storage, by each kind of worker, and of doing nothing.

    python benchmarks/tools_speed.py storage --trials 200     # a PostgreSQL server of its own, if there is one
    python benchmarks/tools_speed.py workers --trials 200     # needs Ray, joblib; starting workers is not measured
    python benchmarks/tools_speed.py nothing --trials 1000    # with Ray Tune in its place: pip install "ray[tune]"

Every row is random search over five parameters. The rows of "storage" and "nothing" take turns in one process, so that
the ratios hold on a busy machine too; an objective of "workers" sleeps 10 ms, of which four at once leave 2.5 ms a
trial. Ray Tune has a tenth of the trials, as each takes long.
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import joblib
import optuna

import jhpo
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
    """Ray Tune, four trials at once by actors that are used again; its start included."""
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
    """Print milliseconds a trial of each row: the median of its parts."""
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(ROUNDS):
        for name, some in rows.items():
            begin = time.perf_counter()
            some(max(trials // ROUNDS, 1))
            seconds[name].append((time.perf_counter() - begin) / max(trials // ROUNDS, 1))
    for name, parts in seconds.items():
        print(f"{name:32} {1000 * sorted(parts)[len(parts) // 2]:8.2f} ms a trial", flush=True)


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
        for kind in ("thread", "process", "ray"):
            print(f"jhpo, {kind:26} {by_workers(kind, options.trials):8.2f} ms a trial", flush=True)
        print(f"{'Optuna, n_jobs=4':32} {optuna_threads(options.trials):8.2f} ms a trial", flush=True)
        print(f"{'Optuna, joblib':32} {optuna_processes(options.trials):8.2f} ms a trial", flush=True)
        tuned = ray_tune(max(options.trials // 10, 8), sleeps)
        print(f"{'Ray Tune':32} {tuned:8.2f} ms a trial")
        return
    if options.what == "nothing":
        rows = {"jhpo, JAX objective": whole(nothing), "jhpo, host function": whole(jhpo.host(nothing))}
        take_turns(rows | {"Optuna": optuna_whole}, options.trials * ROUNDS)
        tuned = ray_tune(max(options.trials // 10, 8), nothing)
        print(f"{'Ray Tune':32} {tuned:8.2f} ms a trial")
        return
    with servers() as server, tempfile.TemporaryDirectory() as folder:
        rows = {"jhpo, memory": ours(None), "Optuna, memory": theirs(None)}
        rows["jhpo, SQLite file"] = ours(Path(folder) / "jhpo.db")
        rows["Optuna RDB, SQLite file"] = theirs(f"sqlite:///{folder}/optuna.db")
        if server is not None:
            rows["jhpo, PostgreSQL"] = ours(server.database())
            rows["Optuna RDB, PostgreSQL"] = theirs(server.database().replace("postgresql://", "postgresql+psycopg://"))
        take_turns(rows, options.trials)


if __name__ == "__main__":
    main()
