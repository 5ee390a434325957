"""A pool of processes, for pure Python code in parallel and for calls that hang or crash the process."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from jhpo.errors import InvalidArgument, in_words, invalid
from jhpo.evaluation.executors.limits import descendants, overrun, repeated
from jhpo.evaluation.executors.tasks import DONE, Call, Task, answered, call, with_reports
from jhpo.evaluation.outcome import Outcome, failure
from jhpo.process.switches import set_here, settings_here
from jhpo.trial import Trial
from jhpo.values.pytrees import HP

# Limit for the import of a user's module (JAX, a data set), which does not count as evaluation time.
_START_SECONDS = 300.0
# Limit for the time between the end of a child's pipe and its exit code.
_END_SECONDS = 10.0


class ProcessPool:
    """One manager thread per worker process; a process that hangs is killed and replaced."""

    def __init__(self, fn: Callable[..., Any], how: Call, workers: int, timeout: float | None) -> None:
        self.workers, self._timeout = workers, timeout
        self._reference, self._how = _reference(fn), how
        self._settings = settings_here()  # of the thread that searches
        self._queue: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._processes: set[Any] = set()
        self._lock = threading.Lock()
        for _ in range(workers):
            threading.Thread(target=self._manage, name="jhpo-manager", daemon=True).start()

    def submit(self, params: HP, seed: int, trial: Trial | None = None) -> Task:
        """Start an evaluation as soon as a process is free."""
        task = Task(params, seed, trial)
        self._queue.put(task)
        return task

    def _manage(self, worker: _Worker | None = None) -> None:
        while (task := self._queue.get()) is not None and not self._closed.is_set():

            def once(task: Task = task) -> Outcome:
                nonlocal worker
                worker = worker or self._spawn()
                task.started = time.monotonic()
                outcome, alive = worker.evaluate(task, self._timeout)
                if not alive:
                    self._forget(worker)
                    worker = None
                return outcome

            try:
                task.finish(repeated(once(), once, self._how.retries, self._closed.is_set))
            except Exception as error:  # noqa: BLE001 whoever waits would wait for ever
                task.finish(None, error)
                if worker is not None:
                    self._forget(worker)
                worker = None
        if worker is not None:
            self._forget(worker)

    def _make(self) -> _Worker:
        return _Worker(self._reference, self._how, self._settings)

    def _spawn(self) -> _Worker:
        worker = self._make()
        with self._lock:
            self._processes.add(worker)
        try:
            worker.ready()
        except InvalidArgument:
            self._forget(worker)
            raise
        return worker

    def _forget(self, worker: _Worker) -> None:
        with self._lock:
            self._processes.discard(worker)
        worker.kill()

    def close(self) -> None:
        """End the processes; running evaluations are abandoned."""
        self._closed.set()
        for _ in range(self.workers):
            self._queue.put(None)
        with self._lock:
            workers = list(self._processes)
        for worker in workers:
            worker.kill()


class _Worker:
    """One child process and the pipe to it."""

    def __init__(self, reference: tuple[Any, ...], how: Call, settings: dict[str, Any]) -> None:
        self._memory, self._busy = how.memory, False
        # spawn, not fork: JAX has threads, and a fork would copy their locks
        context = multiprocessing.get_context("spawn")
        self._pipe, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, reference, how, settings), daemon=True)
        try:
            self._process.start()
        except Exception as error:  # pickling may raise anything
            raise InvalidArgument(f"fn: expected a function that another process can import, got {error}") from error
        child.close()

    def ready(self) -> None:
        """Wait until the child has imported the function."""
        try:
            message = self._pipe.recv() if self._pipe.poll(_START_SECONDS) else "it did not start in time"
        except (EOFError, OSError):
            message = f"it ended with {self._end()}"
        if message:
            raise InvalidArgument(f"fn: expected a function that a worker process can import; {message}")

    def evaluate(self, task: Task, timeout: float | None) -> tuple[Outcome, bool]:
        """The outcome, and whether the process is still usable."""
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        self._busy = True
        try:
            self._send(task)
            while True:
                why = overrun(self._pipe, self._process.pid, deadline, self._memory)
                if why:
                    why = f"timeout: no result within {timeout:g} s" if why == "timeout" else why
                    return failure(f"{why} (its process was killed)"), False
                method, content = self._pipe.recv()
                if method == DONE:
                    self._busy = False
                    return content, True
                self._pipe.send(answered(task, method, content))
        except (EOFError, OSError):
            return failure(f"the worker process ended with {self._end()} (out of memory, or a crash)"), False

    def _send(self, task: Task) -> None:
        try:
            self._pipe.send((task.params, task.seed, task.trial))
        except OSError:
            raise  # the process has ended
        except Exception as error:  # pickling may raise anything
            note = f"{in_words(error)}; names can be sent, by which the function finds what a choice stands for"
            raise invalid("space", "values that a process can be sent", task.params, note=note) from error

    def _end(self) -> str:
        """How the process ended."""
        # Not `join`: a thread that starts a process reaps all ended ones (`multiprocessing.process._cleanup`), and
        # until it has recorded the exit code, `join` finds no child and returns without one.
        deadline = time.monotonic() + _END_SECONDS
        while (code := self._process.exitcode) is None and time.monotonic() < deadline:
            time.sleep(0.005)
        if code is None:
            return "an unknown exit code"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"

    def kill(self) -> None:
        """End the process at once, and what an evaluation that it has not ended has started."""
        started = descendants(self._process.pid) if self._busy and self._process.is_alive() else []
        with contextlib.suppress(ValueError, OSError):
            self._process.kill()
            self._process.join(5.0)
            self._pipe.close()
        for pid in started:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def _reference(fn: Callable[..., Any]) -> tuple[Any, ...]:
    """How a child finds the function: by import, or by the file it was loaded from."""
    name = getattr(fn, "__module__", "") or ""
    path = getattr(sys.modules.get(name), "__file__", None)
    by_name = hasattr(fn, "__qualname__")
    if name == "__main__" or path is None or "." in name or not by_name or _importable(name, path):
        return ("object", fn)
    return ("file", path, name, fn.__qualname__)


def _importable(name: str, path: str) -> bool:
    """Whether a new process would find this file under the name (`find_spec` would only look in `sys.modules`)."""
    specs = (finder.find_spec(name, None) for finder in sys.meta_path if hasattr(finder, "find_spec"))
    return next((spec.origin == path for spec in specs if spec is not None), False)


def _resolve(reference: tuple[Any, ...]) -> Callable[..., Any]:
    if reference[0] == "object":
        return reference[1]
    _, path, name, qualname = reference
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    found: Any = module
    for part in qualname.split("."):
        found = getattr(found, part)
    # the name may refer to a `HostObjective` made from the function
    return getattr(found, "fn", found)


def _serve(pipe: Connection, reference: tuple[Any, ...], how: Call, settings: dict[str, Any]) -> None:
    """The child's loop: until the parent closes the pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    # the parent ends its workers as daemons; here the word would forbid processes: a data loader's, a pool, joblib's
    multiprocessing.current_process().daemon = False

    def ask(method: str, *content: Any) -> Any:
        pipe.send((method, content))
        return pipe.recv()

    with contextlib.suppress(EOFError, OSError):  # the parent has ended, perhaps before the function was there
        try:
            fn = _resolve(reference)
            set_here(settings)  # after what the user's module sets as it is imported, as in the process that searches
        except BaseException as error:  # noqa: BLE001 the parent turns it into a clear error
            pipe.send(in_words(error))
            return
        pipe.send("")
        while True:
            params, seed, trial = pipe.recv()
            if trial is not None:
                trial = with_reports(trial, ask)
            pipe.send((DONE, call(fn, how, params, seed, trial)))
