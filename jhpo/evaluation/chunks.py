"""How many members a call evaluates: chosen from memory and measurement, kept, and halved when memory runs out."""

from __future__ import annotations

import itertools
import logging
import os
import time
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from jhpo.devices import free_memory
from jhpo.errors import OutOfMemory, check_integer, invalid
from jhpo.lifetimes import Executable
from jhpo.pytrees import Tree
from jhpo.switches import without_switches

logger = logging.getLogger("jhpo.population")

# Bytes of member states a CPU core works on at once: about what stays in its second-level cache, a power of two
# below and above which members train more slowly (benchmarks/population.py prints the sizes around it).
CPU_WORKING_SET = 2**20
# An accelerator needs many small members to be busy; memory analysis has the last word.
ACCELERATOR_WORKING_SET = 2 * 2**30
SMALLEST, LARGEST = 16, 4096
# LLVM's third level compiles a training loop for twice as long as its second, and the program is no faster.
CPU_COMPILER_OPTIONS = {"xla_backend_optimization_level": "2"}
# Calls under way at once on an accelerator: enough to hide the host's part.
IN_FLIGHT = 2


def next_power(n: int) -> int:
    """The smallest power of two that is at least ``n``.

    >>> [next_power(n) for n in (1, 3, 64, 65)]
    [1, 4, 64, 128]
    """
    return 1 << max(n - 1, 0).bit_length()


def preferred_chunk(member_bytes: int, platform: str) -> int:
    """Members a device should evaluate at once, from the size of a member's state: a power of two.

    >>> preferred_chunk(2410 * 3 * 4, "cpu"), preferred_chunk(8, "cpu"), preferred_chunk(10**9, "cpu")
    (32, 4096, 16)
    """
    room = CPU_WORKING_SET if platform == "cpu" else ACCELERATOR_WORKING_SET
    fitting = max(room // max(member_bytes, 1), 1)
    return min(max(1 << (int(fitting).bit_length() - 1), SMALLEST), LARGEST)


def concurrent_calls(mesh: Mesh) -> int:
    """Calls a mesh runs side by side: as many as the process has cores if it is a single CPU device.

    The products of small models are too small to be split over cores, so XLA trains a chunk on one of them; a
    chunk for each core, from as many threads, is what keeps the others busy.
    """
    if mesh.size > 1 or mesh.devices.flat[0].platform != "cpu":
        return 1
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def is_out_of_memory(error: BaseException) -> bool:
    """The runtime had no memory left (CPU and accelerators say it in these ways)."""
    text = str(error)
    return isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in text or "out of memory" in text.lower()


class Program(NamedTuple):
    """A program over rows: its name, how its arguments are made, and how it is traced."""

    name: Hashable  # what distinguishes it from the population's other programs
    place: Callable[[np.ndarray, np.ndarray], tuple[Any, ...]]  # (units, ids) to arguments
    compile: Callable[..., Executable]  # (arguments, compiler options) to the program


class _Smaller(Exception):
    """The size was reduced before the program ran: start again."""


class Chunks:
    """Runs rows through a program of fixed size, padding the last call.

    Attributes:
      size: members a device evaluates at once; None until the first generation is known.
      widths: sizes of the programs that evaluated something, each once, in that order.
      notices: every change for lack of memory, a sentence each.
      programs: compiled, by name and shapes.
      timings: seconds a member by size, where they were measured.
      compile_seconds: time spent tracing and compiling.
    """

    def __init__(self, chunk: int | str | None, mesh: Mesh, replicates: int, memory: int | None) -> None:
        if isinstance(chunk, str) and chunk != "measure":
            raise invalid("chunk", "an integer >= 1, None or 'measure'", chunk)
        self.fixed = chunk is not None and not isinstance(chunk, str)
        self.size: int | None = check_integer("chunk", chunk) if self.fixed else None
        self.memory = None if memory is None else check_integer("memory", memory)
        self.measure = chunk == "measure"
        self.mesh, self.replicates = mesh, replicates
        self.threads = concurrent_calls(mesh)
        self.widths: list[int] = []
        self.notices: list[str] = []
        self.timings: dict[int, float] = {}
        self.compile_seconds = 0.0
        self.limited = self.fixed or self.measure or self.memory is not None  # the caller said how many at once
        self._preferred: int | None = None
        self.programs: dict[tuple[Any, ...], Executable] = {}

    def settle(self, n: int, groups: int, member_bytes: Callable[[], int]) -> None:
        """Choose the size for generations of ``n`` rows in ``groups`` static groups; later calls keep it.

        A first call of few rows does not bind larger ones: the size then grows once.
        """
        if self.fixed:
            return
        if self._preferred is None:
            platform = self.mesh.devices.flat[0].platform
            self._preferred = max(preferred_chunk(member_bytes(), platform) // self.replicates, 1)
        share = -(-n // self.mesh.size)
        if groups > 1:  # the groups differ from one generation to the next, a common power of two serves them all
            wanted = min(next_power(-(-share // groups)), self._preferred)
        else:
            calls = -(-share // self._preferred)
            # as many calls for one core as for another, unless that makes them tiny
            even = -(-calls // self.threads) * self.threads
            calls = even if share >= even * SMALLEST else max(calls, min(self.threads, share // SMALLEST))
            wanted = -(-share // calls)
            wanted = wanted if wanted < 8 else -(-wanted // 8) * 8
        if self.size is None or (wanted > self.size and not self.notices):
            self.size = wanted

    @without_switches
    def run(self, program: Program, units: np.ndarray, ids: np.ndarray) -> Tree:
        """All rows through the program, as NumPy arrays.

        Raises:
          OutOfMemory: a single member does not fit.
        """
        if self.measure:
            self.measure = False
            self._measure(program, units, ids)
        while True:
            try:
                return self.all_rows(program, units, ids)
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
        """All rows through the program at the present size, whatever memory that takes."""
        assert self.size is not None
        if self.size not in self.widths:
            self.widths.append(self.size)
        rows = self.size * self.mesh.size
        takes = [np.minimum(np.arange(s, s + rows), len(units) - 1) for s in range(0, len(units), rows)]
        placed = (program.place(units[take], ids[take]) for take in takes)
        first = next(placed)
        compiled = self.compiled(program, first, check=True)
        arguments = itertools.chain([first], placed)

        @without_switches
        def finished(arguments: tuple[Any, ...]) -> Tree:
            return jax.block_until_ready(compiled(*arguments))

        if self.threads > 1 and len(takes) > 1:
            with ThreadPoolExecutor(min(self.threads, len(takes))) as pool:
                outputs = list(pool.map(finished, arguments))
        else:
            outputs = []
            for each in arguments:
                outputs.append(compiled(*each))
                if len(outputs) > IN_FLIGHT:
                    jax.block_until_ready(outputs[-1 - IN_FLIGHT])
        return jax.tree.map(lambda *xs: np.concatenate([np.asarray(x) for x in xs])[: len(units)], *outputs)

    @without_switches
    def compiled(self, program: Program, arguments: tuple[Any, ...], check: bool = False) -> Executable:
        """The program for arguments of these shapes, compiled if it is new; `check` that it fits into memory."""
        name = (program.name, *((a.shape, a.dtype) for a in arguments if hasattr(a, "shape")))
        if name not in self.programs:
            begin = time.perf_counter()
            options = CPU_COMPILER_OPTIONS if self.mesh.devices.flat[0].platform == "cpu" else None
            compiled = program.compile(arguments, options)
            self.compile_seconds += time.perf_counter() - begin
            if check:
                self._check_memory(compiled)
            self.programs[name] = compiled
        return self.programs[name]

    def _measure(self, program: Program, units: np.ndarray, ids: np.ndarray) -> None:
        """Time the chosen size, then smaller and larger ones for as long as they are faster."""
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
        """Shrink if the compiled program needs more memory than there is.

        Raises:
          OutOfMemory: it evaluates a single member already.
        """
        analysis = compiled.memory_analysis()
        if analysis is None:
            return
        assert self.size is not None
        # calls side by side share the data, which are on the device already: not free, but within a given limit
        need = self.threads * (analysis.temp_size_in_bytes + analysis.output_size_in_bytes)
        if self.memory:
            need, room = need + analysis.argument_size_in_bytes, self.memory
        else:
            room = min(free_memory(d) for d in self.mesh.devices.flat)
        if need <= room:
            return
        why = f"the program needs {need / 2**20:.1f} MiB of the {room / 2**20:.1f} MiB there are"
        if self.size == 1:
            raise OutOfMemory(f"a single member does not fit into the device's memory: {why}")
        # the largest power of two that should fit, and at most half
        fitting = max(int(self.size * room / need), 1)
        self._shrink(min(self.size // 2, 1 << (fitting.bit_length() - 1)), why)
        raise _Smaller
