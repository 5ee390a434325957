"""Shapes in one program against a program for each: 16 settings of width, batch size and optimiser of a digits network.

python benchmarks/masks.py                 # about a minute on two cores
python benchmarks/masks.py --steps 2000    # longer trainings, where arithmetic counts more than compilation

Both go through `jhpo.Population`, each in a process of its own: with masks (`live=`, `batch_size=`, `jhpo.switch`) all
16 train in one program; with `static=True` and a task for each batch size every setting is a program of its own size.
Printed are seconds in all, those spent compiling, those of a second evaluation, programs compiled, and peak memory of
the process beyond what importing takes. "processor" is the time of all threads, to which other work on the machine adds
little.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

WAYS = ("masks", "static")
WIDTHS, BATCHES, RULES = [16, 32, 64, 128], [32, 128], ["sgd", "adam"]


def measured(way: str, steps: int) -> dict[str, Any]:
    """Trains the 16 settings one way."""
    import jax
    import numpy as np
    import optax
    from flax import linen as nn
    from sklearn.datasets import load_digits

    import jhpo
    from jhpo.evaluation.members import evaluate_program

    class Net(nn.Module):
        """Two hidden layers."""

        width: Any

        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            """Logits."""
            masked = way == "masks"
            size = WIDTHS[-1] if masked else self.width
            live = {"live": self.width} if masked else {}
            more = live | ({"live_inputs": self.width} if masked else {})
            x = nn.relu(jhpo.linen.Dense(size, **live)(x))
            x = nn.relu(jhpo.linen.Dense(size, **more)(x))
            return jhpo.linen.Dense(10, **({"live_inputs": self.width} if masked else {}))(x)

    def optimiser(hp: Any) -> Any:
        return jhpo.switch(hp["rule"], {"sgd": optax.sgd(10 * hp["lr"], 0.9), "adam": optax.adam(hp["lr"])})

    static = way == "static"
    digits = load_digits()
    x, y = (digits.data / 16.0).astype(np.float32), digits.target.astype(np.int32)

    def task(batch_size: Any, most: int | None) -> Any:
        return jhpo.supervised(
            lambda hp: Net(hp["width"]), optimiser, train=(x[:1400], y[:1400]), valid=(x[1400:], y[1400:]),
            batch_size=batch_size, max_batch_size=most, steps=steps, metrics=["error"],
        )  # fmt: skip

    space = jhpo.Space(
        {
            "width": jhpo.Choice(WIDTHS, static=static),
            "rule": jhpo.Choice(RULES, static=static),
            "lr": jhpo.Float(1e-3, 2e-3, log=True),
            "batch": jhpo.Choice(BATCHES),
        }
    )
    settings = [{"width": w, "rule": r, "lr": 1.5e-3, "batch": b} for b in BATCHES for w in WIDTHS for r in RULES]
    units = np.stack([space.encode(setting) for setting in settings])
    parts = np.split(units, len(BATCHES)) if static else [units]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    sizes: list[Any] = [(b, None) for b in BATCHES] if static else [(lambda hp: hp["batch"], BATCHES[-1])]
    populations = [jhpo.Population(task(*size), space, metric="error") for size in sizes]

    def evaluated(seed: int) -> tuple[float, float, float]:
        begin, busy, root, values = time.perf_counter(), time.process_time(), jax.random.key(seed), []
        for population, rows in zip(populations, parts):
            values.append(population.evaluate(rows, np.arange(len(rows)), root).value)
        took = time.perf_counter() - begin, time.process_time() - busy
        return *took, float(np.mean(np.concatenate(values)))

    seconds, processor, error = evaluated(0)
    programs = sum(len(population.chunks.programs) for population in populations)
    assert programs == (len(units) if static else 1), programs
    assert len(evaluate_program) == programs
    again, processor_again, _ = evaluated(1)
    return {
        "way": way,
        "seconds": seconds,
        "processor": processor,
        "compiling": sum(population.compile_seconds for population in populations),
        "again": again,
        "processor again": processor_again,
        "programs": programs,
        "MiB": (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024,
        "error": error,
    }


def main() -> None:
    """Measure both ways, a process each."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--way", choices=WAYS, help="measure this way alone and print it as JSON")
    arguments = parser.parse_args()
    if arguments.way:
        print(json.dumps(measured(arguments.way, arguments.steps)))
        return
    for way in WAYS:
        command = [sys.executable, __file__, "--way", way, "--steps", str(arguments.steps)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found = json.loads(done.stdout.splitlines()[-1])
        print("  ".join(f"{k} {v:.4g}" if isinstance(v, float) else f"{k} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
