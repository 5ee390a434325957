"""A process that searches often: what a thousand studies, each on a space of its own, leave behind.

python benchmarks/many_searches.py --studies 1000 --objectives 2000 --mixed 3000

Prints seconds, memory maps (a process may have 65,530; Linux alone), resident memory, open files and threads as it
goes. The spaces are drawn at random: one to eight parameters of every kind, bounds, numbers of values, conditions.
``--mixed`` is a service: studies of many strategies, in memory and in files, by ask and tell and by `optimize` with
worker threads, some of them never closed. A short version runs in tests/benchmarks/test_many_searches.py.
"""

from __future__ import annotations

import argparse
import gc
import random
import tempfile
import threading
import time
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

import jhpo


class Usage(NamedTuple):
    """What the process holds at some moment."""

    seconds: float  # of the last study
    maps: int
    resident: int  # MiB
    files: int  # open descriptors
    threads: int


def usage(seconds: float) -> Usage:
    """Of this process."""
    status = Path("/proc/self/status").read_text()
    resident = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    maps, files = Path("/proc/self/maps").read_text().count("\n"), len(list(Path("/proc/self/fd").iterdir()))
    return Usage(seconds, maps, resident // 1024, files, threading.active_count())


def some_space(draw: random.Random) -> jhpo.Space:
    """One to eight parameters; a quarter of them depend on a choice, where there is one."""
    kinds = [
        lambda **on: jhpo.Float(0.0, draw.uniform(0.5, 100.0), **on),
        lambda **on: jhpo.Float(10 ** draw.uniform(-6, -2), draw.uniform(0.1, 1.0), log=True, **on),
        lambda **on: jhpo.Int(1, draw.randint(2, 1000), **on),
        lambda **on: jhpo.Int(draw.randint(1, 16), draw.randint(17, 10**5), log=True, **on),
        lambda **on: jhpo.Choice([f"v{i}" for i in range(draw.randint(2, 12))], **on),
        lambda **on: jhpo.Ordinal(list(range(draw.randint(2, 12))), **on),
    ]
    parameters: dict[str, Any] = {}
    parent = None
    for i in range(draw.randint(1, 8)):
        on = {"when": {parent: ["v0"]}} if parent and draw.random() < 0.25 else {}
        parameter = draw.choice(kinds)(**on)
        parameters[f"p{i}"] = parameter
        if isinstance(parameter, jhpo.Choice) and parent is None:
            parent = f"p{i}"
    return jhpo.Space(parameters)


def evaluate(params: dict[str, Any]) -> float:
    """Some value of any point."""
    return float(sum(np.log1p(v) if isinstance(v, (int, float)) else int(v[1:]) % 3 for v in params.values()))


def one_study(space: jhpo.Space, seed: int, trials: int) -> int:
    """Ask and tell with BayesOpt's defaults; the number of trials, fewer where a finite space ends."""
    study = jhpo.Study(space, jhpo.BayesOpt(), seed=seed)
    for done in range(trials):
        try:
            (trial,) = study.ask()
        except jhpo.SpaceExhausted:
            return done
        study.tell(trial, evaluate(trial.params))
    return trials


def studies(count: int, trials: int, seed: int = 0) -> list[Usage]:
    """BayesOpt on ``count`` random spaces: the usage after each."""
    draw, seen = random.Random(seed), []
    for i in range(count):
        space = some_space(draw)
        begin = time.perf_counter()
        one_study(space, i, trials)
        seen.append(usage(time.perf_counter() - begin))
    return seen


def objectives(count: int, megabytes: float) -> tuple[list[Usage], int]:
    """`minimize` of as many closures over arrays: the usage after each, and how many closures are alive at the end."""
    space, seen, made = jhpo.Space({"x": jhpo.Float(0.0, 1.0)}), [], []
    for i in range(count):
        data = np.full(int(megabytes * 2**18), i, np.float32)

        def objective(hp: dict[str, Any], data: np.ndarray = data) -> Any:
            return (hp["x"] - data.mean() / count) ** 2

        made.append(weakref.ref(objective))
        begin = time.perf_counter()
        jhpo.minimize(objective, space, jhpo.RandomSearch(4), budget=4)
        seen.append(usage(time.perf_counter() - begin))
        del objective, data
    gc.collect()
    return seen, sum(ref() is not None for ref in made)


STRATEGIES = ("random", "sobol", "pso(population=8)", "greedy(population=8)", "de(population=8)", "cmaes(population=8)")
OTHERS = 50  # one study of so many has a space of its own


def mixed(count: int, trials: int, folder: Path, seed: int = 0) -> Iterator[Usage]:
    """A service that opens study after study: the usage after each."""
    draw = random.Random(seed)
    spaces = [some_space(draw) for _ in range(2)]
    for i in range(count):
        space = some_space(draw) if i % OTHERS == OTHERS - 1 else spaces[i % 2]
        path = None if i % 3 == 0 else folder / f"{i}.db"
        begin = time.perf_counter()
        study = jhpo.Study(space, STRATEGIES[i // 2 % len(STRATEGIES)], path, seed=i, lease=30.0)
        if i % 2:
            study.optimize(jhpo.host(evaluate, workers=2), budget=trials)
        else:
            for trial in study.ask(trials):
                study.tell(trial, evaluate(trial.params))
        if i % 4 < 2:  # the others are forgotten
            study.close()
        del study
        yield usage(time.perf_counter() - begin)
        for file in [] if path is None else folder.glob(f"{i}.db*"):
            file.unlink()


def table(name: str, seen: Iterable[Usage]) -> None:
    """Lines of a table, at ever larger counts, as the searches end."""
    head = ("seconds, median", "slowest", "memory maps", "resident, MiB", "open files", "threads")
    print(f"\n| {name} | {' | '.join(head)} |\n|---|{'---|' * len(head)}")
    part: list[Usage] = []
    at, number = 10, 0
    for number, found in enumerate(seen, 1):
        part.append(found)
        if number == at:
            _row(number, part)
            at, part = 2 * at if at >= 100 else 100, []
    if part:
        _row(number, part)


def _row(last: int, part: list[Usage]) -> None:
    seconds = sorted(u.seconds for u in part)
    most = " | ".join(str(max(getattr(u, name) for u in part)) for name in Usage._fields[1:])
    median, slowest = seconds[len(seconds) // 2], seconds[-1]
    print(f"| {last - len(part) + 1}-{last} | {median:.3f} | {slowest:.1f} | {most} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--trials", type=int, default=16)
    parser.add_argument("--objectives", type=int, default=2000)
    parser.add_argument("--megabytes", type=float, default=4.0, help="that each objective closes over")
    parser.add_argument("--mixed", type=int, default=0, help="studies of a service; its table alone")
    options = parser.parse_args()
    if options.mixed:
        with tempfile.TemporaryDirectory() as folder:
            table("studies of a service", mixed(options.mixed, options.trials, Path(folder)))
        return
    table(f"studies of {options.trials} trials", studies(options.studies, options.trials))
    seen, alive = objectives(options.objectives, options.megabytes)
    table(f"objectives over {options.megabytes:g} MiB", seen)
    print(f"\n{alive} of {options.objectives} objectives are alive")


if __name__ == "__main__":
    main()
