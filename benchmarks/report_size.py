"""Time and size of a study's page: ``python benchmarks/report_size.py`` prints trials, bytes, seconds, CPU seconds."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from jhpo.report.page import render
from tests.report.studies import big


def main() -> None:
    render(big(100), [])
    for count in (100, 1_000, 10_000, 100_000):
        columns, wall, own = big(count), time.perf_counter(), time.process_time()
        size = len(render(columns, []).encode())
        print(count, size, round(time.perf_counter() - wall, 2), round(time.process_time() - own, 2))


if __name__ == "__main__":
    main()
