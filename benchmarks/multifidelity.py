"""What stopping early saves: 512 digits networks trained to the end, stopped without compaction, and compacted.

    python benchmarks/multifidelity.py                   512 MLPs of 64-32-10, three seeds
    python benchmarks/multifidelity.py --members 128 --seeds 1

Contestants, in turn for each seed, all through the public API:
- `SuccessiveHalving`, whose survivors are compacted;
- its members all trained to the end, as one population;
- the same with the lengths that successive halving gave them: finished members run on masked, as a `vmap` of a loop
  does, which is stopping without compaction;
- `Hyperband` with as many members, others. Compilation is
left out of the times and said beside them. Seconds of the processor's time are printed beside those of the clock: on a
machine that others use they are the steadier of the two.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from typing import Any, NamedTuple

import jax
import numpy as np
from population import SPACE, TRAIN, X, Y, adam, apply, init

import jhpo

STEPS, MIN_STEPS, ETA = 405, 15, 3  # rungs at 15, 45, 135 and 405 steps


def supervised(masked: bool = False) -> Any:
    """The digits network; with the number of steps as a hyperparameter if `masked`."""
    length: dict[str, Any] = {"steps": STEPS}
    if masked:
        length = {"steps": lambda hp: hp["steps"], "max_steps": STEPS}
    return jhpo.supervised(
        (init, apply), adam, "classification", train=(X[:TRAIN], Y[:TRAIN]), valid=(X[TRAIN:], Y[TRAIN:]),
        batch_size=64, **length,
    )  # fmt: skip


class Timed(NamedTuple):
    """One contestant on one seed."""

    wall: float  # seconds, without compilation
    processor: float  # seconds, with compilation
    compiling: float
    steps: float  # of training of all members
    best: float  # lowest loss of a whole training
    occupancy: float  # share of the trained places that held a member


def search(trainable: Any, strategy: Any, members: int, seed: int) -> tuple[Timed, Any]:
    """A search of so many members."""
    begin = time.process_time()
    result = jhpo.minimize(trainable, SPACE, strategy, budget=members, seed=seed)
    spent = time.process_time() - begin
    steps = members * STEPS if result.steps is None else result.steps
    wall = result.seconds - result.compile_seconds
    occupancy = 1.0 if result.occupancy is None else result.occupancy
    return Timed(wall, spent, result.compile_seconds, steps, result.value, occupancy), result


def everybody(trainable: Any, members: Any, seed: int) -> Timed:
    """The same members, all trained to the end."""
    lengths = np.full(len(members.ids), STEPS)
    return timed(jhpo.Population(trainable, SPACE), members.units, members.ids, lengths, seed)


def masked(trainable: Any, members: Any, lengths: np.ndarray, seed: int) -> Timed:
    """The same members stopped where they were, without compaction."""
    space = jhpo.Space({**dict(zip(SPACE.names, SPACE.parameters)), "steps": jhpo.Int(1, STEPS)})
    rows = [space.encode({**SPACE.decode(u), "steps": int(n)}) for u, n in zip(members.units, lengths)]
    return timed(jhpo.Population(trainable, space), np.stack(rows), members.ids, lengths, seed)


def timed(population: jhpo.Population, units: np.ndarray, ids: np.ndarray, lengths: np.ndarray, seed: int) -> Timed:
    """A population trained in one piece, and the best of its whole trainings."""
    begin, clock = time.process_time(), time.perf_counter()
    value = population.evaluate(units, ids, jax.random.key(seed)).value
    wall, spent = time.perf_counter() - clock - population.compile_seconds, time.process_time() - begin
    whole = value[lengths == STEPS]
    return Timed(wall, spent, population.compile_seconds, float(lengths.sum()), float(np.nanmin(whole)), 1.0)


def main() -> None:
    """Print a table and a line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=512)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    plain, lengthy = supervised(), supervised(masked=True)
    halving = jhpo.SuccessiveHalving(options.members, eta=ETA, min_steps=MIN_STEPS)
    band = jhpo.Hyperband(options.members // 2, eta=ETA, min_steps=MIN_STEPS)
    found: dict[str, list[Timed]] = {name: [] for name in ("all", "masked", "halving", "hyperband")}
    for seed in range(-1, options.seeds):  # the first round compiles
        made, result = search(plain, halving, options.members, max(seed, 0))
        lengths = np.rint(result.history.horizon * STEPS).astype(int)
        row = {
            "halving": made,
            "masked": masked(lengthy, result.history, lengths, max(seed, 0)),
            "all": everybody(plain, result.history, max(seed, 0)),
            "hyperband": search(plain, band, options.members, max(seed, 0))[0],
        }
        if seed < 0:
            print("compiling:", {name: f"{t.compiling:.1f} s" for name, t in row.items()}, flush=True)
            continue
        for name, timed in row.items():
            found[name].append(timed)
    whole = np.mean([t.wall for t in found["all"]]), np.mean([t.processor for t in found["all"]])
    print(
        f"{options.members} members, {STEPS} steps, {options.seeds} seeds; jax {jax.__version__}, {platform.machine()}"
    )
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
