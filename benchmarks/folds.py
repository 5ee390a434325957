"""What stopping members between folds saves: digits of scikit-learn, an MLP of 64-32-10, five folds or ten.

    python benchmarks/folds.py                 # 5 folds, 256 members, 3 seeds
    python benchmarks/folds.py --folds 10

All searches of a seed run in turn in one process; each was run once before with another key, so that compilation is
not counted. With random search all ways train the same members: "best" is then to be that of all folds of all members.
"processor" is the time of all threads, to which other work on the machine adds little.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import jax
import numpy as np
import optax
from sklearn.datasets import load_digits

import jhpo

SPACE = jhpo.Space(
    {"lr": jhpo.Float(1e-4, 1.0, log=True), "wd": jhpo.Float(1e-6, 1.0, log=True), "b1": jhpo.Float(0.5, 0.99)}
)
HALVING = jhpo.SuccessiveHalving
WAYS: dict[str, dict[str, Any]] = {
    "all folds, side by side": {},
    "all folds, one by one": {"fold_by_fold": True},
    "racing": {"fold_by_fold": True, "early_stop": "racing"},
    "racing(chance=0.2)": {"fold_by_fold": True, "early_stop": "racing(chance=0.2)"},
    "median": {"fold_by_fold": True, "early_stop": "median"},
}


def task(steps: int) -> Any:
    """The training, whose data a search cuts in folds."""
    digits = load_digits()
    x, y = (digits.data / 16.0).astype(np.float32), digits.target.astype(np.int32)
    return jhpo.supervised(
        jhpo.masked_mlp([32], [32], outputs=10),
        lambda hp: optax.adamw(hp["lr"], b1=hp["b1"], weight_decay=hp["wd"]),
        "classification", train=(x, y), batch_size=64, steps=steps,
    )  # fmt: skip


def main() -> None:
    """Print a line for each way and strategy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--members", type=int, default=256)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    made, half = task(options.steps), options.members // 4
    strategies: dict[str, tuple[Any, dict[str, dict[str, Any]]]] = {
        "random": (jhpo.RandomSearch(half), WAYS),
        "pso": (jhpo.PSO(32), {name: WAYS[name] for name in ("all folds, side by side", "racing")}),
        "halving": (HALVING(half, min_steps=1), {"folds as rungs": {"fold_by_fold": True}}),
    }
    for name, (strategy, ways) in strategies.items():
        found: dict[str, list[tuple[float, float, float, float]]] = {way: [] for way in ways}
        for seed in range(-1, options.seeds):
            for way, more in ways.items():
                begin, busy = time.perf_counter(), time.process_time()
                more = more | {"budget": options.members, "folds": options.folds, "key": jax.random.key(seed + 1)}
                result = jhpo.minimize(made, SPACE, strategy, **more)
                took = time.perf_counter() - begin, time.process_time() - busy
                share = (result.steps or options.members * options.folds) / (options.members * options.folds)
                if seed >= 0:
                    found[way].append((*took, share, result.value))
        first = next(iter(found.values()))
        for way, rows in found.items():
            wall, processor, share, value = np.mean(rows, axis=0)
            ratio = np.mean(first, axis=0)[1] / processor
            print(json.dumps({
                "strategy": name, "way": way, "seconds": round(wall, 2), "processor": round(processor, 2),
                "times_less": round(ratio, 2), "folds_run": round(share, 3), "best": round(value, 5),
                "each": [round(row[3], 5) for row in rows],
            }), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
