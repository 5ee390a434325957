"""How a population was laid out when its study began: stored, so that a resumed study uses the same programs."""

from __future__ import annotations

from typing import Any

from jhpo.errors import warn_caller
from jhpo.evaluation.evaluators import Evaluator
from jhpo.evaluation.population import Population
from jhpo.evaluation.spread import RayPopulation
from jhpo.evaluation.stopping import StoppingPopulation
from jhpo.programs.devices import Devices, default_devices
from jhpo.study import events
from jhpo.study.book import Book
from jhpo.study.events import Append
from jhpo.study.header import float64
from jhpo.study.results import keep_names


def keep_layout(study: Book, evaluator: Evaluator, append: Append) -> None:
    """Store the evaluator's layout (chunk and devices), so that a resumed study uses the same."""
    if isinstance(evaluator, StoppingPopulation):
        evaluator = evaluator.population
    if not isinstance(evaluator, (Population, RayPopulation)):
        return
    if study.objectives is not None and study.objectives.names is None:
        keep_names(evaluator.described.names, append)
    layout: dict[str, Any] = dict(evaluator.layout)
    if float64() != study.history.header["x64"]:
        layout["x64"] = float64()  # results from here on are in another precision than the first ones
    if isinstance(evaluator.metric, str):
        layout["metric"] = evaluator.metric
    if layout != study.history.layouts.get("population"):
        append(events.Layout("population", layout))


def stored_layout(study: Book, chunk: int | str | None, devices: Devices | None) -> dict[str, Any]:
    """``chunk`` and ``devices`` as given, or else as they were when the study began."""
    stored = study.history.layouts.get("population")
    if stored is not None:
        chunk = stored["chunk"] if chunk is None else chunk
        there = default_devices()
        if devices is None and len(there) >= stored["devices"]:
            devices = there[: stored["devices"]]
        elif devices is None:
            warn_caller(
                f"the study began on {stored['devices']} devices and goes on with {len(there)}: "
                "results can differ in the last digits"
            )
    return {"chunk": chunk, "devices": devices}
