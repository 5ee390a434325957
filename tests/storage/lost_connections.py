"""Connections to a PostgreSQL server that are cut: `benchmarks/reliability.py --only postgresql`, in short a test."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
from sqlalchemy import event

import jhpo
from jhpo.errors import JhpoError
from jhpo.storage import open_log
from tests.storage.postgres import Server
from tests.study.studies import GREEDY, SPACE, columns, database, on_host

BUDGET = 40
STRATEGIES = (GREEDY, jhpo.RandomSearch(16))  # one that learns, one whose trials are stored in groups


def cuts_at_any_moment(server: Server, cuts: int) -> dict[str, int]:
    """Cut at any moment of `optimize`, which is called again until it is done, as a user's loop would.

    Half of the cuts come in the middle of a transaction: an event is written, and not committed yet.

    Returns:
        Numbers of cuts, of those within a transaction, of errors that reached the caller, of studies, and of trials
        that were lost or told twice, and studies that differ from one that nothing disturbed: these three are to be 0.
    """
    found = dict.fromkeys(("cuts", "inside", "errors", "studies", "lost", "doubled", "different"), 0)
    while found["cuts"] < cuts or not found["inside"]:
        seed = found["studies"]
        strategy = STRATEGIES[seed % len(STRATEGIES)]
        good = jhpo.Study(SPACE, strategy, seed=seed)
        good.optimize(jhpo.host(on_host), budget=BUDGET)
        url = server.database()
        with jhpo.Study(SPACE, strategy, url, seed=seed) as study, _cutting(server, url, study) as made:
            while study.evaluations < BUDGET:
                acknowledged = study.evaluations
                try:
                    study.optimize(jhpo.host(on_host), budget=BUDGET)
                except JhpoError as error:
                    if "acknowledged before is safe" not in str(error) and "cannot open" not in str(error):
                        raise
                    found["errors"] += 1
                found["lost"] += max(acknowledged - study.evaluations, 0)
        found["cuts"] += made["outside"] + made["inside"]
        found["inside"] += made["inside"]
        found["studies"] += 1
        with jhpo.Study.load(url) as again, contextlib.closing(open_log(url, create=False)) as log:
            told = np.concatenate([e.body["ids"] for e in log.read() if e.kind == "tell"])
            found["lost"] += BUDGET - len(np.unique(told))
            found["doubled"] += len(told) - len(np.unique(told))
            pairs = zip(columns(again).values(), columns(good).values())
            found["different"] += not all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)
    return found


@contextlib.contextmanager
def _cutting(server: Server, url: str, study: jhpo.Study) -> Iterator[dict[str, int]]:
    """Cut the connections now and then, as soon as there are new results: the search gets on however slow it is."""
    end, random = threading.Event(), np.random.default_rng(study.seed)
    made: dict[str, Any] = {"inside": 0, "outside": 0}

    def cut() -> None:
        seen = -1
        while not end.is_set():
            if study.history.finished == seen:
                time.sleep(0.001)
                continue
            seen = study.history.finished
            time.sleep(random.uniform(0.0, 0.01))
            made["outside"] += server.hang_up(url)

    written = 0

    def inside(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        nonlocal written
        if statement.startswith("INSERT INTO jhpo_log"):
            written += 1
            if written % 7 == 3:
                made["inside"] += server.hang_up(url)

    event.listen(database(study).engine, "after_cursor_execute", inside)
    thread = threading.Thread(target=cut)
    thread.start()
    try:
        yield made
    finally:
        end.set()
        thread.join()
        event.remove(database(study).engine, "after_cursor_execute", inside)
