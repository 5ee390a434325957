"""Chunks: the number of members per call, chosen by memory or measurement, and halved when memory runs out."""

from __future__ import annotations

import itertools
import logging
import os
import threading
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jhpo.errors import OutOfMemory, check_integer, invalid
from jhpo.process.forks import check_process
from jhpo.process.lifetimes import Executable
from jhpo.process.switches import as_in_this_thread, in_own_program, of_programs
from jhpo.programs.compilation import options_on
from jhpo.programs.devices import fetched, least_memory
from jhpo.values.pytrees import Tree

logger = logging.getLogger("jhpo.population")

# Bytes of member states per call on a CPU core: about the size of its L2 cache, the power of two with the highest
# throughput (benchmarks/population.py measures the sizes around it).
CPU_WORKING_SET = 2**20
# An accelerator needs many small members to be busy; memory analysis may reduce the chunk further.
ACCELERATOR_WORKING_SET = 2 * 2**30
SMALLEST, LARGEST = 16, 4096
# Bytes of member states below which a training step on an accelerator is bound by kernel launches.
LAUNCH_BOUND = 2**24
# An accelerator counts as idle if it could train this many times the members in the same time.
IDLE = 16
# Calls dispatched at once on an accelerator: enough to hide the host's work.
IN_FLIGHT = 2


def joined(parts: Sequence[Any], rows: Sequence[np.ndarray]) -> Any:
    """Joins the results of parts of a generation, trees of NumPy arrays ``[n_k, ...]``, in the order of its rows.

    Args:
      parts: their results.
      rows: ``int[n_k]`` each, the rows of the generation that they hold.

    >>> joined([np.array([5.0, 7.0]), np.array([6.0])], [np.array([0, 2]), np.array([1])]).tolist()
    [5.0, 6.0, 7.0]
    """
    order = np.argsort(np.concatenate(rows), kind="stable")
    return jax.tree.map(lambda *xs: np.concatenate(xs)[order], *parts)


def next_power(n: int) -> int:
    """The smallest power of two that is at least ``n``.

    >>> [next_power(n) for n in (1, 3, 64, 65)]
    [1, 4, 64, 128]
    """
    return 1 << max(n - 1, 0).bit_length()


def preferred_chunk(member_bytes: int, platform: str) -> int:
    """The preferred number of members per call and device for a given size of a member's state: a power of two.

    >>> preferred_chunk(2410 * 3 * 4, "cpu"), preferred_chunk(8, "cpu"), preferred_chunk(10**9, "cpu")
    (32, 4096, 16)
    """
    room = CPU_WORKING_SET if platform == "cpu" else ACCELERATOR_WORKING_SET
    fitting = max(room // max(member_bytes, 1), 1)
    return min(max(1 << (int(fitting).bit_length() - 1), SMALLEST), LARGEST)


def concurrent_calls(mesh: Mesh) -> int:
    """Calls to run concurrently on a mesh: the number of cores if it is a single CPU device, otherwise 1.

    The matrix products of small models are too small to be split over cores, so XLA runs a chunk on one core. One
    thread per core with its own chunk keeps all cores busy.
    """
    if mesh.size > 1 or mesh.devices.flat[0].platform != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error means that memory ran out, on a CPU or an accelerator."""
    text = str(error)
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()


class Program(NamedTuple):
    """A program over rows: its name, its arguments, and how to compile it."""

    name: Hashable  # distinguishes it from the population's other programs
    place: Callable[[np.ndarray, np.ndarray], tuple[Any, ...]]  # (units, ids) -> arguments
    compile: Callable[..., Executable]  # (arguments, compiler options) -> compiled program


class _Smaller(Exception):
    """The chunk size was reduced before the program ran: retry."""


class Chunks:
    """Runs rows through a program of fixed size, padding the last call.

    Attributes:
      size: members per call and device; None before the first generation.
      widths: sizes of the programs that were run, each once, in order of first use.
      notices: reductions for lack of memory, a sentence each.
      programs: compiled programs by name and shapes.
      timings: measured seconds per member, by size.
      compile_seconds: time spent tracing and compiling.
    """

    def __init__(self, chunk: int | str | None, mesh: Mesh, replicates: int, memory: int | None) -> None:
        if isinstance(chunk, str) and chunk != "measure":
            raise invalid("chunk", "an integer >= 1, None or 'measure'", chunk)
        self.fixed = chunk is not None and not isinstance(chunk, str)
        self.size: int | None = check_integer("chunk", chunk) if self.fixed else None
        self.memory = None if memory is None else check_integer("memory", memory, of="bytes")
        self.measure = chunk == "measure"
        self.mesh, self.replicates = mesh, replicates
        self.threads = concurrent_calls(mesh)
        self.widths: list[int] = []
        self.notices: list[str] = []
        self.timings: dict[int, float] = {}
        self.compile_seconds = 0.0
        self.limited = self.fixed or self.measure or self.memory is not None  # the caller limits the size
        self._preferred: int | None = None
        self._lock = threading.Lock()
        self.programs: dict[tuple[Any, ...], Executable] = {}

    def settle(self, n: int, groups: int, member_bytes: Callable[[], int]) -> None:
        """Choose the size for generations of ``n`` rows in ``groups`` static groups; later calls keep it.

        After a first call with few rows the size may grow for larger calls.
        """
        if self.fixed:
            return
        if self._preferred is None:
            platform = self.mesh.devices.flat[0].platform
            self._preferred = max(preferred_chunk(member_bytes(), platform) // self.replicates, 1)
        share = -(-n // self.mesh.size)
        if groups > 1:  # group sizes vary between generations: one power of two for all of them
            wanted = min(next_power(-(-share // groups)), self._preferred)
        else:
            calls = -(-share // self._preferred)
            # the same number of calls for every core, unless that makes them tiny
            even = -(-calls // self.threads) * self.threads
            calls = even if share >= even * SMALLEST else max(calls, min(self.threads, share // SMALLEST))
            wanted = -(-share // calls)
            wanted = wanted if wanted < 8 else -(-wanted // 8) * 8
        if self.size is None or (wanted > self.size and not self.notices):
            self.size = wanted

    @in_own_program
    def run(self, program: Program, units: np.ndarray, ids: np.ndarray) -> Tree:
        """The program's results for all rows, as NumPy arrays.

        Raises:
          OutOfMemory: a single member does not fit.
        """
        if self.measure:
            self.measure = False
            self._measure(program, units, ids)
        return self.within_memory(lambda: self.all_rows(program, units, ids))

    def within_memory(self, call: Callable[[], Tree]) -> Tree:
        """What a call gives that runs programs of the present size, smaller ones where memory runs out.

        Raises:
          OutOfMemory: a single member does not fit.
        """
        while True:
            try:
                return call()
            except _Smaller:
                continue
            except (jax.errors.JaxRuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                if self.size == 1:
                    raise OutOfMemory("a single member does not fit into the device's memory") from error
                self._shrink((self.size or 2) // 2, "the device ran out of memory")

    def _shrink(self, size: int, why: str) -> None:
        notice = f"chunk reduced from {self.size} to {size} members a device: {why}"
        logger.warning(notice)
        self.notices.append(notice)
        self.size = size

    def all_rows(self, program: Program, units: np.ndarray, ids: np.ndarray) -> Tree:
        """The program's results for all rows with the current chunk size."""
        assert self.size is not None
        check_process()
        if self.size not in self.widths:
            self.widths.append(self.size)
        rows = self.size * self.mesh.size
        takes = [np.minimum(np.arange(s, s + rows), len(units) - 1) for s in range(0, len(units), rows)]
        placed = (program.place(units[take], ids[take]) for take in takes)
        first = next(placed)
        compiled = self.compiled(program, first, check=True)
        arguments = itertools.chain([first], placed)

        @in_own_program
        def finished(arguments: tuple[Any, ...]) -> Tree:
            return jax.block_until_ready(compiled(*arguments))

        if self.threads > 1 and len(takes) > 1:
            with ThreadPoolExecutor(min(self.threads, len(takes))) as pool:
                outputs = list(pool.map(as_in_this_thread(finished), arguments))
        else:
            outputs = []
            for each in arguments:
                outputs.append(compiled(*each))
                if len(outputs) > IN_FLIGHT:
                    jax.block_until_ready(outputs[-1 - IN_FLIGHT])
        return jax.tree.map(lambda *xs: np.concatenate([fetched(x) for x in xs])[: len(units)], *outputs)

    @in_own_program
    def compiled(self, program: Program, arguments: tuple[Any, ...], check: bool = False) -> Executable:
        """The program compiled for arguments of these shapes; `check` makes sure that it fits into memory."""
        name = (program.name, of_programs(), *((a.shape, a.dtype) for a in arguments if hasattr(a, "shape")))
        with self._lock:  # threads that need the same program wait for the first
            if name not in self.programs:
                begin = time.perf_counter()
                options = options_on(self.mesh.devices.flat[0])
                compiled = program.compile(arguments, options)
                self.compile_seconds += time.perf_counter() - begin
                if check:
                    self._check_memory(compiled)
                self.programs[name] = compiled
            return self.programs[name]

    def _measure(self, program: Program, units: np.ndarray, ids: np.ndarray) -> None:
        """Time the current size, then smaller and larger ones as long as they are faster; keep the fastest."""
        assert self.size is not None
        first, most = self.size, -(-len(units) // self.mesh.size)
        best = self._time(program, units, ids, first)
        for factor in (0.5, 2.0):
            size = int(first * factor)
            while 1 <= size <= most and (seconds := self._time(program, units, ids, size)) < 0.97 * best:
                best, self.size = seconds, size
                size = int(size * factor)
            if self.size != first:
                break
        chosen = min(self.timings, key=lambda s: self.timings[s])
        self.size = min(self.size or chosen, chosen) if self.notices else chosen
        logger.info("chunk of %d members a device, measured in seconds a member: %s", self.size, self.timings)

    def _time(self, program: Program, units: np.ndarray, ids: np.ndarray, size: int) -> float:
        before, self.size = self.size, size
        rows = min(len(units), size * self.mesh.size)
        try:
            self.all_rows(program, units[:rows], ids[:rows])  # compiles
            seconds = []
            for _ in range(2):
                begin = time.perf_counter()
                self.all_rows(program, units[:rows], ids[:rows])
                seconds.append((time.perf_counter() - begin) / rows)
        except (_Smaller, jax.errors.JaxRuntimeError) as error:
            if not isinstance(error, _Smaller) and not is_out_of_memory(error):
                raise
            self.size = before
            return float("inf")
        self.size = before
        self.timings[size] = min(seconds)
        return self.timings[size]

    def _check_memory(self, compiled: Executable) -> None:
        """Reduce the size if the compiled program needs more memory than there is.

        Raises:
          OutOfMemory: the size is 1 already.
        """
        analysis = compiled.memory_analysis()
        if analysis is None:
            return
        assert self.size is not None
        # concurrent calls share the data, which are on the device already: they count only towards a user's limit
        need = self.threads * (analysis.temp_size_in_bytes + analysis.output_size_in_bytes)
        if self.memory:
            need, room = need + analysis.argument_size_in_bytes, self.memory
        else:
            room = least_memory(self.mesh)
        if need <= room:
            return
        why = f"the program needs {need / 2**20:.1f} MiB of the {room / 2**20:.1f} MiB there are"
        if self.size == 1:
            raise OutOfMemory(f"a single member does not fit into the device's memory: {why}")
        # the largest power of two that should fit, and at most half
        fitting = max(int(self.size * room / need), 1)
        self._shrink(min(self.size // 2, 1 << (fitting.bit_length() - 1)), why)
        raise _Smaller
