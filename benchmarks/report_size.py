"""Time and size of a study's page: ``python benchmarks/report_size.py``.

Prints trials, megabytes, seconds and CPU seconds to write the page, and for Chromium, where playwright and it are
installed, milliseconds until the page is drawn and until it answers (at 1280 and 390 pixels).
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

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
LOADS = 3  # of a page; the median counts
# the second frame begins when the first is drawn; a task that is queued then runs once nothing else blocks the page
ANSWERS = """() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(drawn => {
  setTimeout(() => done([drawn, performance.now()]), 0);
})))"""


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


def answers(path: Path) -> list[int]:
    """Milliseconds until a page is drawn and until it answers, at both widths; none without Chromium."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        chromium = None
    if chromium is None:
        return []
    found: list[int] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for width in (1280, 390):
            times = []
            for _ in range(LOADS):
                page = browser.new_page(viewport={"width": width, "height": 900})
                page.goto(path.as_uri(), wait_until="load")
                times.append(page.evaluate(ANSWERS))
                page.close()
            found += [round(t) for t in np.median(times, axis=0)]
        browser.close()
    return found


def main() -> None:
    render(trials(100), [])
    print("trials, MB, seconds, CPU seconds, ms until drawn and until it answers at 1280, at 390 pixels")
    for count in (100, 1_000, 10_000, 100_000):
        columns, wall, own = trials(count), time.perf_counter(), time.process_time()
        page = render(columns, [])
        wall, own = time.perf_counter() - wall, time.process_time() - own
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "study.html")
            path.write_text(page, encoding="utf-8")
            shown = answers(path)
        print(count, round(len(page.encode()) / 1e6, 2), round(wall, 2), round(own, 2), *shown)


if __name__ == "__main__":
    main()
