"""What happens in the stored study of data/format1.db, and what can happen after it; the same steps in memory."""

from __future__ import annotations

import jhpo
from tests.study.studies import GREEDY, SPACE, objective, on_host

SEED = 9


def tell(study, trials):
    study.tell(trials, [on_host(t.params) for t in trials])


def first_steps(study, y: float) -> None:
    """Every kind of event but a repair: asked, told late, failed, in the queue, from elsewhere, given back, a batch.

    Args:
        study: a new one.
        y: of the point in the queue, which was left to the strategy when the file was made.
    """
    study.absorb([{"x": 0.2, "y": 0.1, "k": "b"}, {"x": -0.5, "y": 0.0, "k": "a"}], [0.01, float("nan")])
    study.enqueue({"x": 0.1, "y": y, "k": "b"})
    trials = study.ask(4)
    study.tell(trials[1], {"value": 0.25, "cost": 2.0})
    study.tell(trials[2], error="lost its data")
    study.requeue([trials[3].id])
    tell(study, [trials[0], *study.ask(6)])
    study.optimize(objective, budget=24, chunk=4)
    study.optimize(objective, budget=29)


def later_steps(study) -> None:
    """On from there, through the snapshot or the log."""
    tell(study, study.ask(3))
    study.optimize(objective, budget=56)


def in_memory() -> jhpo.Study:
    return jhpo.Study(SPACE, GREEDY, seed=SEED)
