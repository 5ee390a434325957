"""`jhpo.host`: a Python function as an objective, evaluated by a pool of threads or processes."""

from __future__ import annotations

import dataclasses
import functools
import math
import numbers
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any

from jhpo.curves.rules import EarlyStop
from jhpo.errors import NOT_ASYNC, InvalidArgument, check_integer, check_number, invalid, is_async
from jhpo.evaluation.executors.clusters import check_resources, import_ray
from jhpo.evaluation.executors.generations import HostEvaluator
from jhpo.evaluation.executors.limits import resident_bytes
from jhpo.evaluation.executors.reported import Reported
from jhpo.evaluation.executors.tasks import Call, Pool, Roles, roles_of
from jhpo.objectives import Objectives
from jhpo.space.space import Space
from jhpo.training.metrics import NAMES
from jhpo.training.objective import check_second_argument
from jhpo.words.advice import advised

KINDS = ("thread", "process", "ray")


@dataclasses.dataclass(frozen=True)
class HostObjective:
    """A host function and how to run it; made by `host`."""

    fn: Callable[..., Any]
    workers: int
    kind: str
    timeout: float | None
    roles: Roles
    metric: str | None = None
    objectives: Objectives | None = None
    resources: tuple[tuple[str, Any], ...] = ()  # of each worker, for Ray
    memory: int | None = None
    retries: int = 0

    def pool(self, space: Space | None = None) -> Pool:
        """A running pool; close it after use. The function is checked against the space, if one is given.

        Raises:
            InvalidArgument: the second argument, which gets the seed, has the name of a hyperparameter.
        """
        if space is not None and self.roles.seed:
            check_second_argument(self.fn, space, "seed")
        how = Call(self.roles, self.metric, self.objectives, self.retries, self.memory)
        # pools are imported when one is made: multiprocessing is a tenth of what a Study imports
        if self.kind == "ray":
            from jhpo.evaluation.executors.actors import RayPool

            return RayPool(self.fn, how, self.workers, self.timeout, dict(self.resources))
        if self.kind == "process":
            from jhpo.evaluation.executors.processes import ProcessPool

            return ProcessPool(self.fn, how, self.workers, self.timeout)
        from jhpo.evaluation.executors.threads import ThreadPool

        return ThreadPool(self.fn, how, self.workers, self.timeout)

    def direction_of(self, metric: str | None = None) -> str | None:
        """The direction of a metric (its own if None), "minimize" or "maximize"; None if it is unknown."""
        name = metric or self.metric
        return NAMES[name] if name in NAMES else None

    def with_metric(self, metric: str) -> HostObjective:
        """The same function with another metric of its (outputs, targets).

        Raises:
            InvalidArgument: no metric has that name.
        """
        if not isinstance(metric, str) or metric not in NAMES:
            raise invalid("metric", f"one of {list(NAMES)}", metric)
        return dataclasses.replace(self, metric=metric)

    def for_objectives(self, objectives: Objectives) -> HostObjective:
        """The same function, which returns several values.

        Raises:
            InvalidArgument: a measure of it is taken, which is one value.
        """
        if self.metric is not None:
            raise invalid("metric", "None beside directions, whose names choose the values", self.metric)
        return dataclasses.replace(self, objectives=objectives)

    def evaluator(self, space: Space, replicates: int = 1) -> HostEvaluator:
        """The evaluator of whole generations."""
        return HostEvaluator(self, space, replicates, Reported(None, 1.0))

    def stopping_evaluator(self, space: Space, replicates: int, early_stop: EarlyStop, sign: float) -> HostEvaluator:
        """The same with a rule that stops trials early.

        Raises:
            InvalidArgument: the function reports nothing, or there are replicates.
        """
        check_reports(self, type(early_stop).__name__)
        if replicates != 1:
            raise invalid("replicates", "1 where trials are stopped early", replicates)
        return HostEvaluator(self, space, replicates, Reported(early_stop, sign))


@advised
def host(
    fn: Callable[..., Any],
    workers: int = 1,
    kind: str = "thread",
    timeout: float | None = None,
    metric: str | None = None,
    *,
    resources: Mapping[str, Any] | None = None,
    memory: int | None = None,
    retries: int = 0,
) -> HostObjective:
    """An objective from a Python function that is not written in JAX.

    The function is called as ``fn(params)`` or ``fn(params, seed)``: `params` are host values in the space's tree,
    `seed` is an integer below 2^64 for the trial. One with an argument called ``trial``, as in ``fn(params, trial)``,
    also gets the `jhpo.Trial`: ``trial.report(step, value)`` keeps intermediate values, ``trial.note(weights="w.npz")``
    plain values by name, and ``trial.should_stop()`` says whether to end early (``early_stop=`` of the search).

    It returns a number, or a dict with ``"value"`` and optionally ``"constraint"`` (numbers, feasible where >= 0) and
    ``"cost"``; in a search with ``directions`` one number per objective, as a tuple or a dict by name. After an
    exception, `sys.exit`, a time-out or any result but finite numbers, the trial fails with a reason and the search
    goes on.

    Args:
        fn: the objective; for processes a function at the top level of a module, in a file (not in a notebook).
        workers: number of evaluations that run at once.
        kind: "thread", "process" (to run pure Python code in parallel, and to survive calls that hang or crash
            the interpreter), or "ray": actors on the machines of a Ray cluster (extra ``ray``). Evaluations of an actor
            that is lost are begun again by another; what such a one reported already counts once.
        timeout: seconds for one evaluation. A thread cannot be killed: it is abandoned and replaced.
        metric: a name of ``jhpo.metrics.NAMES``; the function may then return ``(outputs, targets)``, predictions
            first, the arguments of `jhpo.metrics.measure`. Maximise scores with `jhpo.maximize`, or with
            ``direction="maximize"`` in a study.
        resources: of each worker, with ``kind="ray"``: options of a Ray actor, such as ``{"num_cpus": 4}`` or
            ``{"num_gpus": 0.5}``; one CPU by default.
        memory: bytes that a worker may occupy, with ``kind="process"`` (on Linux): one that takes more is killed, and
            its trial fails with this reason. Leave room for Python and what the function imports.
        retries: how often an evaluation that fails is repeated, with the same seed, before its trial fails.

    Returns:
        A `HostObjective`, accepted wherever an objective is.

    Raises:
        InvalidArgument: an invalid argument.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})
    >>> study = jhpo.Study(space, "random")
    >>> study.optimize(jhpo.host(lambda params: params["x"] ** 2), budget=20).evaluations
    20
    """
    if not callable(fn) or is_async(fn):
        raise invalid("fn", f"a function of the hyperparameters{NOT_ASYNC * callable(fn)}", fn)
    check_integer("workers", workers)
    if kind not in KINDS:
        raise invalid("kind", f"one of {KINDS}", kind)
    if timeout is not None:
        if isinstance(timeout, bool) or not isinstance(timeout, numbers.Real):
            raise invalid("timeout", "seconds > 0 or None", timeout)
        check_number("timeout", timeout, 0.0, math.inf, open_low=True)
    name = getattr(fn, "__qualname__", "")
    if kind == "process" and ("<lambda>" in name or "<locals>" in name):
        raise invalid("fn", "a function at the top level of a module (processes import it by name)", name)
    if kind == "process" and _typed_in(fn):
        wanted = "one of a module: processes cannot import what was typed in (a notebook, an interpreter, python -c)"
        raise invalid("fn", wanted, fn, note="put it into a file and import it from there")
    if resources is not None:
        if kind != "ray":
            raise invalid("resources", "None but with kind='ray'", resources)
        check_resources(resources)
    roles = roles_of(fn)
    if kind == "ray":
        import_ray()
    if memory is not None:
        check_integer("memory", memory, of="bytes")
        if kind != "process" or resident_bytes(os.getpid()) is None:
            raise invalid("memory", "None but with kind='process' on Linux", memory)
    if check_integer("retries", retries, 0) and roles.trial:
        raise invalid("retries", "0 for a function that reports, whose steps only go on", retries)
    options = tuple((resources or {}).items())
    made = HostObjective(fn, workers, kind, timeout, roles, resources=options, memory=memory, retries=retries)
    return made if metric is None else made.with_metric(metric)


def _typed_in(fn: Callable[..., Any]) -> bool:
    """Whether a new process looks for the function in a program that has no file, and ends with a traceback."""
    while isinstance(fn, functools.partial):
        fn = fn.func
    program = sys.modules["__main__"]
    path = getattr(program, "__file__", None)
    if getattr(program, "__spec__", None) is not None:  # python -m
        return False
    # of a program that was piped into Python, "<stdin>", each process would read the file first
    return getattr(fn, "__module__", "") == "__main__" if path is None else not os.path.isfile(path)


def check_reports(objective: HostObjective, asker: str) -> None:
    """Raises if a host objective reports nothing, so that no rule can stop it early.

    Raises:
        InvalidArgument: it does not take a trial.
    """
    if not objective.roles.trial:
        wanted = "a function that reports, jhpo.host(fn) with fn(params, trial) and trial.report(step, value)"
        raise InvalidArgument(f"objective: expected for {asker} {wanted}; got {objective!r}")
