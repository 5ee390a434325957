"""What stopping early saves: 512 networks trained to the end, stopped without compaction, and compacted.

    python benchmarks/multifidelity.py                   512 digits MLPs of 64-32-10, 405 steps, three seeds
    python benchmarks/multifidelity.py --task cnn        512 digits CNNs, likewise
    python benchmarks/multifidelity.py --task char-lm --steps 81 --min-steps 3 --seeds 1
    python benchmarks/multifidelity.py --members 128 --seeds 1 --only halving all

With 405 steps rungs lie at 15, 45, 135 and 405.

Contestants, in turn for each seed, all through the public API:
- `SuccessiveHalving`, whose survivors are compacted;
- `ASHA` with as many members, which refills the places of those it pauses: ``--batch`` of them in one program;
- its members all trained to the end, as one population;
- the same with the lengths that successive halving gave them: finished members run on masked, as a `vmap` of a loop
  does, which is stopping without compaction;
- `Hyperband` with as many members, others.

Compilation is left out of the times and said beside them. Seconds of the processor's time are printed beside those of
the clock: on a machine that others use they are the steadier of the two.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from multifidelity_tasks import TASKS

import jhpo

ETA = 3
CONTESTANTS = ("halving", "asha", "masked", "all", "hyperband")


class Timed(NamedTuple):
    """One contestant on one seed."""

    wall: float  # seconds, without compilation
    processor: float  # seconds, with compilation
    compiling: float
    steps: float  # of training of all members
    best: float  # lowest loss of a whole training
    occupancy: float  # share of the trained places that held a member


class Task(NamedTuple):
    """What is trained, and where its hyperparameters lie."""

    space: jhpo.Space
    trainable: jhpo.Trainable


def search(task: Task, strategy: Any, members: int, seed: int) -> tuple[Timed, Any]:
    """A search of so many members."""
    begin = time.process_time()
    result = jhpo.minimize(task.trainable, task.space, strategy, budget=members, seed=seed)
    spent = time.process_time() - begin
    wall = result.seconds - result.compile_seconds
    return Timed(wall, spent, result.compile_seconds, result.steps, result.value, result.occupancy), result


def everybody(task: Task, members: Any, steps: int, seed: int) -> Timed:
    """The same members, all trained to the end."""
    return timed(task, members.units, members.ids, np.full(len(members.ids), steps), seed)


def masked(task: Task, plain: jhpo.Space, members: Any, lengths: np.ndarray, seed: int) -> Timed:
    """The same members stopped where they were, without compaction: their length is a hyperparameter."""
    rows = [task.space.encode({**plain.decode(u), "steps": int(n)}) for u, n in zip(members.units, lengths)]
    return timed(task, np.stack(rows), members.ids, lengths, seed)


def timed(task: Task, units: np.ndarray, ids: np.ndarray, lengths: np.ndarray, seed: int) -> Timed:
    """A population trained in one piece, and the best of its whole trainings."""
    population = jhpo.Population(task.trainable, task.space)
    begin, clock = time.process_time(), time.perf_counter()
    value = population.evaluate(units, ids, jax.random.key(seed)).value
    wall, spent = time.perf_counter() - clock - population.compile_seconds, time.process_time() - begin
    whole = value[lengths == lengths.max()]
    return Timed(wall, spent, population.compile_seconds, float(lengths.sum()), float(np.nanmin(whole)), 1.0)


def main() -> None:
    """Print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--task", choices=list(TASKS), default="mlp")
    parser.add_argument("--steps", type=int, default=405)
    parser.add_argument("--min-steps", type=int, default=15)
    parser.add_argument("--batch", type=int, default=8, help="places of ASHA")
    parser.add_argument("--cold", action="store_true", help="no first round: seconds of the processor with compilation")
    parser.add_argument("--only", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    options = parser.parse_args()
    (space, build), steps = TASKS[options.task](), options.steps
    plain = Task(space, build(steps=steps))
    lengthy = Task(
        jhpo.Space({**dict(zip(space.names, space.parameters)), "steps": jhpo.Int(1, steps)}),
        build(steps=lambda hp: hp["steps"], max_steps=steps),
    )
    rungs = {"eta": ETA, "min_steps": options.min_steps}
    halving = jhpo.SuccessiveHalving(options.members, **rungs)
    asha = jhpo.ASHA(**rungs, batch=options.batch)
    band = jhpo.Hyperband(options.members // 2, **rungs)
    found: dict[str, list[Timed]] = {name: [] for name in options.only}
    for seed in range(0 if options.cold else -1, options.seeds):  # the first round compiles
        number = max(seed, 0)
        made, result = search(plain, halving, options.members, number)
        lengths = np.rint(result.history.horizon * steps).astype(int)
        contestants = {
            "halving": lambda made=made: made,
            "asha": lambda number=number: search(plain, asha, options.members, number)[0],
            "masked": lambda at=(result.history, lengths, number): masked(lengthy, space, *at),
            "all": lambda at=(result.history, steps, number): everybody(plain, *at),
            "hyperband": lambda number=number: search(plain, band, options.members, number)[0],
        }
        row = {name: contestants[name]() for name in options.only}
        if seed < 0:
            print("compiling:", {name: f"{t.compiling:.1f} s" for name, t in row.items()}, flush=True)
            continue
        for name, timed in row.items():
            found[name].append(timed)
    whole = np.mean([t.wall for t in found["all"]]), np.mean([t.processor for t in found["all"]])
    what = f"{options.members} {options.task}, {options.steps} steps, {options.seeds} seeds"
    print(f"{what}; jax {jax.__version__}, {platform.machine()}")
    print(f"{'':10} {'wall s':>7} {'cpu s':>7} {'less wall':>9} {'less cpu':>9} {'steps':>9} {'live':>5}  best loss")
    for name, rows in found.items():
        wall, processor, _, steps, _, occupancy = np.mean(rows, axis=0)
        bests = np.array([t.best for t in rows])
        error = bests.std(ddof=1) / len(bests) ** 0.5 if len(bests) > 1 else np.nan
        print(
            f"{name:10} {wall:7.2f} {processor:7.2f} {whole[0] / wall:8.1f}x {whole[1] / processor:8.1f}x "
            f"{steps:9.0f} {occupancy:5.0%}  {bests.mean():.4f} +- {error:.4f}"
        )
    print(json.dumps({name: [t._asdict() for t in rows] for name, rows in found.items()}))


if __name__ == "__main__":
    main()
