"""Time and size of a study's page: ``python benchmarks/report_size.py`` prints trials, bytes, seconds, CPU seconds."""

from __future__ import annotations

import time

import numpy as np

import jhpo
from jhpo.report.page import render
from jhpo.report.trials import Trials
from jhpo.trial import TrialState, TrialTable

SPACE = jhpo.Space({
    "lr": jhpo.Float(1e-5, 1e-1, log=True), "momentum": jhpo.Float(0.5, 0.999, scale="reverse_log"),
    "dropout": jhpo.Float(0.01, 0.9, scale="logit"), "width": jhpo.Int(8, 256, log=True),
    "opt": jhpo.Choice(["sgd", "adam"]), "b2": jhpo.Float(0.9, 0.999, when={"opt": "adam"}),
    "mix": jhpo.Float(0.0, 1.0, shape=(2,)),
})  # fmt: skip


def trials(count: int) -> Trials:
    """Finished trials without a log behind them."""
    table = TrialTable(SPACE.dim)
    table.add(count)
    table.unit.array[:] = np.random.default_rng(0).random((count, SPACE.dim))
    table.value.array[:] = np.arange(count) + 1.0
    table.state.array[:] = TrialState.COMPLETE
    table.asked.array[:] = np.arange(count)
    table.told.array[:] = np.arange(count) + 5.0
    return jhpo.Study(SPACE, "random").trials._replace(table=table)


def main() -> None:
    render(trials(100), [])
    for count in (100, 1_000, 10_000, 100_000):
        columns, wall, own = trials(count), time.perf_counter(), time.process_time()
        size = len(render(columns, []).encode())
        print(count, size, round(time.perf_counter() - wall, 2), round(time.process_time() - own, 2))


if __name__ == "__main__":
    main()
