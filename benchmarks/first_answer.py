"""The first answers of Bayesian optimisation in a fresh process, beside Optuna's GP sampler: what a user waits for.

    python benchmarks/first_answer.py --peer-python PYTHON         # a Python with Optuna, scikit-learn and torch
    python benchmarks/first_answer.py one svc --cache FOLDER       # one study of ours, with what compiled and when
    python benchmarks/first_answer.py one forest --objectives 3 --constraints 1     # ours, with more to model
    python benchmarks/first_answer.py thousands                    # ask and tell of 4,000 trials one by one

A study of 30 evaluations through ask and tell, defaults, of a scikit-learn model with 3 to 5 hyperparameters of mixed
kinds, in a process of its own. ``cold``: the compilation cache is empty. ``warm``: a study on a space of other bounds
has filled it, so the space itself was never seen. The optimiser's time is that of its import, its asks and its tells;
its processor time is all that the process takes less what the objective takes in its own thread, so compilations in the
background count. The data and scikit-learn are loaded before. One thread for every library of linear algebra. Further
objectives are hyperparameters, to be small; constraints are errors below a half, a quarter, ...
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

THREADS = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
Params = dict[str, Any]
# name: kind, and what bounds it; kinds are those that both libraries have
SPACES: dict[str, dict[str, tuple[Any, ...]]] = {
    "svc": {"C": ("log", 1e-3, 1e3), "gamma": ("log", 1e-4, 10.0), "kernel": ("choice", "rbf", "sigmoid", "poly")},
    "trees": {
        "learning_rate": ("log", 1e-3, 1.0),
        "max_depth": ("int", 1, 8),
        "min_samples_leaf": ("logint", 1, 50),
        "subsample": ("float", 0.3, 1.0),
    },
    "forest": {
        "max_depth": ("int", 1, 16),
        "min_samples_leaf": ("logint", 1, 40),
        "max_features": ("float", 0.1, 1.0),
        "criterion": ("choice", "gini", "entropy"),
        "ccp_alpha": ("log", 1e-5, 0.1),
    },
}


def space_of(name: str, seed: int) -> dict[str, tuple[Any, ...]]:
    """The problem's space with upper bounds of its own for every seed: one that nothing was compiled for."""
    draw = random.Random(f"{name} {seed}")
    moved = {"float": lambda b: b * draw.uniform(0.8, 1.0), "log": lambda b: b * draw.uniform(0.5, 1.0)}
    shorter = {"int": lambda b: b - draw.randint(0, 1), "logint": lambda b: b - draw.randint(0, 5)}
    change = moved | shorter
    return {
        key: (kind, *bounds) if kind == "choice" else (kind, bounds[0], change[kind](bounds[1]))
        for key, (kind, *bounds) in SPACES[name].items()
    }


def objective_of(name: str) -> Callable[[Params], float]:
    """Error of the model in a holdout, the data loaded."""
    from sklearn.datasets import load_wine
    from sklearn.ensemble import GradientBoostingClassifier, RandomForestClassifier
    from sklearn.model_selection import train_test_split
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    x, y = load_wine(return_X_y=True)
    train, test, train_y, test_y = train_test_split(x, y, test_size=0.5, random_state=0)
    models: dict[str, Callable[..., Any]] = {
        "svc": SVC,
        "trees": lambda **p: GradientBoostingClassifier(n_estimators=30, random_state=0, **p),
        "forest": lambda **p: RandomForestClassifier(n_estimators=30, random_state=0, **p),
    }

    def objective(params: Params) -> float:
        model = make_pipeline(StandardScaler(), models[name](**params))
        return float(1.0 - model.fit(train, train_y).score(test, test_y))

    objective({key: bounds[1] for key, bounds in ((k, v) for k, v in SPACES[name].items())})  # loads what loads late
    return objective


def results_of(error: float, params: Params, objectives: int, constraints: int) -> Any:
    """What a trial of so many objectives and measured constraints is told."""
    sizes = [float(value) for value in params.values() if not isinstance(value, str)]
    names = ["value"] if objectives == 1 else [f"value{k}" for k in range(objectives)]
    found: dict[str, Any] = dict(zip(names, [error, *sizes]))
    return {**found, "constraint": [0.5 / 2**k - error for k in range(constraints)]} if constraints else found


def jhpo_study(
    space: dict[str, tuple[Any, ...]], seed: int, cache: str | None, objectives: int = 1, constraints: int = 0
) -> Callable[[Any], None]:
    """What does one trial of ours."""
    import jhpo

    if cache:
        jhpo.use_compilation_cache(cache)
    made = {
        "float": lambda a, b: jhpo.Float(a, b),
        "log": lambda a, b: jhpo.Float(a, b, log=True),
        "int": lambda a, b: jhpo.Int(a, b),
        "logint": lambda a, b: jhpo.Int(a, b, log=True),
        "choice": lambda *values: jhpo.Choice(list(values)),
    }
    parameters: dict[str, Any] = {key: made[kind](*bounds) for key, (kind, *bounds) in space.items()}
    several = {f"value{k}": "minimize" for k in range(objectives)} if objectives > 1 else None
    strategy = jhpo.BayesOpt(constraints=constraints)
    study = jhpo.Study(jhpo.Space(parameters), strategy, seed=seed, directions=several)

    def trial(evaluate: Callable[[Params], float]) -> None:
        (asked,) = study.ask()
        study.tell(asked, results_of(evaluate(asked.params), asked.params, objectives, constraints))

    return trial


def optuna_study(space: dict[str, tuple[Any, ...]], seed: int, cache: str | None) -> Callable[[Any], None]:
    """What does one trial of Optuna's GP sampler."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    made = {
        "float": lambda a, b: optuna.distributions.FloatDistribution(a, b),
        "log": lambda a, b: optuna.distributions.FloatDistribution(a, b, log=True),
        "int": lambda a, b: optuna.distributions.IntDistribution(a, b),
        "logint": lambda a, b: optuna.distributions.IntDistribution(a, b, log=True),
        "choice": lambda *values: optuna.distributions.CategoricalDistribution(values),
    }
    distributions = {key: made[kind](*bounds) for key, (kind, *bounds) in space.items()}
    study = optuna.create_study(sampler=optuna.samplers.GPSampler(seed=seed))

    def trial(evaluate: Callable[[Params], float]) -> None:
        asked = study.ask(distributions)
        study.tell(asked, evaluate(asked.params))

    return trial


def processor_seconds() -> float:
    """Of all threads of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def one(
    method: str, name: str, seed: int, trials: int, cache: str | None, objectives: int = 1, constraints: int = 0
) -> dict[str, Any]:
    """One study in this process."""
    objective = objective_of(name)
    begun, used = time.perf_counter(), processor_seconds()
    phases: dict[str, float] = {}
    space = space_of(name, seed)
    if method == "optuna":
        trial = optuna_study(space, seed, cache)
    else:
        trial = jhpo_study(space, seed, cache, objectives, constraints)
        import jax

        def note(event: str, seconds: float, **_: Any) -> None:
            if event.startswith("/jax/core/compile/"):
                what = event.rsplit("/", 1)[1].removesuffix("_duration")
                phases[what] = phases.get(what, 0.0) + seconds

        jax.monitoring.register_event_duration_secs_listener(note)
    imports = time.perf_counter() - begun
    elsewhere, elsewhere_used, pauses, best = 0.0, 0.0, [], float("inf")

    def evaluate(params: Params) -> float:
        nonlocal elsewhere, elsewhere_used, best
        start, thread = time.perf_counter(), time.thread_time()
        value = objective(params)
        elsewhere += time.perf_counter() - start
        elsewhere_used += time.thread_time() - thread
        best = min(best, value)
        return value

    for _ in range(trials):
        start, before = time.perf_counter(), elsewhere
        trial(evaluate)
        pauses.append(time.perf_counter() - start - (elsewhere - before))
    later = pauses[1:]
    return {
        "seconds": imports + sum(pauses),
        "cpu": processor_seconds() - used - elsewhere_used,
        "imports": imports,
        "first": pauses[0],
        "pause": max(later),
        "at": later.index(max(later)) + 2,
        "median": sorted(later)[len(later) // 2],
        "best": best,
        **phases,
    }


def child(python: str, method: str, name: str, seed: int, trials: int, cache: str | None) -> dict[str, Any]:
    """`one` in a process of its own."""
    command = [python, "-W", "ignore", __file__, "one", name, "--method", method, "--seed", str(seed)]
    command += ["--trials", str(trials), *(["--cache", cache] if cache else [])]
    environment = {**os.environ, **THREADS}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed package has its bytecode
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def line(name: str, method: str, found: dict[str, Any], peer: dict[str, Any] | None) -> str:
    """A row of the table."""
    columns = [name, method, *(f"{found[key]:.2f}" for key in ("seconds", "cpu", "imports", "first"))]
    columns.append(f"{found['pause']:.2f} ({found['at']})")
    columns.append(f"{1e3 * found['median']:.1f}")
    columns.append(
        "" if peer is None else f"{found['seconds'] / peer['seconds']:.2f} ({found['cpu'] / peer['cpu']:.2f})"
    )
    return "| " + " | ".join([*columns, f"{found['best']:.3g}"]) + " |"


def beside(peer_python: str | None, problems: Sequence[str], seed: int, trials: int) -> None:
    """The table: the peer, then jhpo with an empty cache, then with that cache and a space of other bounds."""
    print("| problem | method | s | CPU s | imports | first ask | longest pause (trial) | ms | of the peer | best |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in problems:
            peer = None
            if peer_python:
                peer = child(peer_python, "optuna", name, seed, trials, None)
                print(line(name, "Optuna GP", peer, None), flush=True)
            for temperature, own in (("cold", seed), ("warm", seed + 1)):
                found = child(sys.executable, "jhpo", name, own, trials, str(Path(folder) / name))
                print(line(name, f"jhpo, {temperature}", found, peer), flush=True)


def thousands(trials: int) -> None:
    """Ask and tell one by one, of a strategy whose own cost is constant: microseconds of processor time a trial."""
    import jhpo

    study = jhpo.Study(jhpo.Space({"x": jhpo.Float(0.0, 1.0), "y": jhpo.Float(0.0, 1.0)}), jhpo.RandomSearch(1))
    part = max(trials // 8, 1)
    for first in range(0, trials, part):
        begun = processor_seconds()
        for _ in range(part):
            (trial,) = study.ask()
            study.tell(trial, (trial.params["x"] - 0.3) ** 2 + trial.params["y"])
        print(f"trials {first} to {first + part - 1}: {1e6 * (processor_seconds() - begun) / part:.0f} us of CPU each")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=("beside", "one", "thousands"), default="beside")
    parser.add_argument("problems", nargs="*", help=f"of {', '.join(SPACES)}; all by default")
    parser.add_argument("--peer-python", help="interpreter with Optuna, scikit-learn and torch; jhpo alone without it")
    parser.add_argument("--method", choices=("jhpo", "optuna"), default="jhpo", help="of part one")
    parser.add_argument("--cache", help="compilation cache of part one; none by default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--trials", type=int, help="30, of part thousands 4,000")
    parser.add_argument("--objectives", type=int, default=1, help="of part one with jhpo")
    parser.add_argument("--constraints", type=int, default=0, help="measured ones, of part one with jhpo")
    options = parser.parse_args(arguments)
    problems = options.problems or list(SPACES)
    if unknown := set(problems) - SPACES.keys():
        parser.error(f"problems: expected some of {', '.join(SPACES)}, got {', '.join(sorted(unknown))}")
    if options.part == "thousands":
        thousands(options.trials or 4_000)
    elif options.part == "one":
        for name in problems:
            more = (options.objectives, options.constraints)
            print(json.dumps(one(options.method, name, options.seed, options.trials or 30, options.cache, *more)))
    else:
        beside(options.peer_python, problems, options.seed, options.trials or 30)


if __name__ == "__main__":
    main()
