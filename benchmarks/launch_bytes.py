"""Bytes that a step moves through an accelerator's memory, counted in the program that JAX lowers for CUDA.

    python benchmarks/launch_bytes.py                       a step of Adam of 4,096 digits networks
    python benchmarks/launch_bytes.py --particles 1000      a generation of PSO in 20 dimensions

Products, sums, sorts, gathers, scatters and calls of libraries each read their operands from memory and write their
results. What is elementwise, reshaped or transposed is assumed to be computed inside the kernel that uses it: for
nothing in a sum or a gather, written once for a product, and in one kernel for all results of one shape. A compiler's
fusions differ, and caches hold some arrays: so these are
estimates. Loops and branches count nothing, as they are seldom run.
"""

from __future__ import annotations

import argparse
import collections
import functools
import itertools
import math
import sys
from pathlib import Path
from typing import Any

import jax

import jhpo

sys.path.insert(0, str(Path(__file__).resolve().parent))
import launches
from launch_counts import as_on

# Operations that read memory themselves, and of those the ones that compute their operands on the way.
_KERNELS = {"dot_general", "convolution", "reduce", "sort", "scatter", "gather", "custom_call", "cholesky", "top_k"}
_FUSING = {"reduce", "gather", "scatter", "dynamic_update_slice"}
_ORDERS = {"transpose", "reshape", "sharding_constraint"}  # change what is read in which order
_REGIONS = {"while", "case", "if"}


class Traffic:
    """Kernels of a module, each with the arrays in memory that it reads and writes."""

    def __init__(self, module: Any) -> None:
        self.functions = {f.attributes["sym_name"].value: f for f in module.body.operations}
        self._numbers = itertools.count()  # of arrays in memory
        self.stored: set[Any] = set()  # values that are in memory, in whatever order
        self.kernels: list[tuple[str, float]] = []  # what it is, bytes
        self.sources: dict[Any, frozenset[tuple[int, float]]] = {}  # arrays in memory that a value is computed from
        main = self.functions["main"]
        self._fill(main.arguments)
        returned = self._block(main.entry_block)
        by_shape: dict[tuple[int, ...], list[Any]] = collections.defaultdict(list)
        for value in returned:
            by_shape[tuple(value.type.shape)].append(value)
        for shape, values in by_shape.items():
            made = [v for v in values if v not in self.stored]
            if made:
                self._kernel(f"results {shape}", made, sum(size(v) for v in made))

    @property
    def total(self) -> float:
        """Bytes read and written."""
        return sum(count for _, count in self.kernels)

    def _fill(self, values: Any) -> None:
        for value in values:
            self.sources[value] = frozenset({(next(self._numbers), size(value))})
            self.stored.add(value)

    def _same(self, value: Any, other: Any) -> None:
        self.sources[value] = self.sources[other]
        if other in self.stored:
            self.stored.add(value)

    def _kernel(self, name: str, operands: list[Any], written: float) -> None:
        read = frozenset().union(*(self.sources[v] for v in operands))
        self.kernels.append((name, sum(count for _, count in read) + written))

    def _block(self, block: Any) -> list[Any]:
        for op in block.operations:
            name, operands, results = op.operation.name.split(".")[-1], list(op.operands), list(op.results)
            if name == "return":
                return operands
            if name == "call":
                called = self.functions[op.attributes["callee"].value]
                for inner, outer in zip(called.arguments, operands):
                    self.stored.discard(inner)
                    self._same(inner, outer)
                for outer, inner in zip(results, self._block(called.entry_block)):
                    self._same(outer, inner)
            elif name in _ORDERS:
                self._same(results[0], operands[0])
            elif name in _REGIONS:
                self._fill(results)
            elif name in _KERNELS or name == "dynamic_update_slice":
                self._run(name, operands, results)
            else:
                every = frozenset().union(*(self.sources[v] for v in operands)) if operands else frozenset()
                for result in results:
                    self.stored.discard(result)  # of a function that was looked into before
                    self.sources[result] = every
        raise ValueError("block: expected one that ends in a return")

    def _run(self, name: str, operands: list[Any], results: list[Any]) -> None:
        if name == "dynamic_update_slice":  # in place: what is written is the part
            self._kernel(name, operands[1:2], size(operands[1]))
            self._same(results[0], operands[0])
            return
        if name not in _FUSING:
            for operand in operands:
                if operand not in self.stored and self.sources[operand]:
                    self._kernel(f"operand of {name} {tuple(operand.type.shape)}", [operand], size(operand))
                    self._fill([operand])
        written = sum(size(r) for r in results)
        if name == "gather":  # reads as many numbers as it writes
            self.kernels.append((f"gather {tuple(results[0].type.shape)}", 2 * written))
        else:
            self._kernel(f"{name} {tuple(results[0].type.shape)}", operands, written)
        self._fill(results)


def size(value: Any) -> float:
    """Bytes of a value of the module."""
    kind = value.type
    return math.prod(kind.shape) * max(int(getattr(kind.element_type, "width", 32)) // 8, 1)


def traffic(f: Any, args: tuple[Any, ...]) -> Traffic:
    """Of a function, as it is lowered for CUDA."""
    with as_on("cuda"):
        return Traffic(jax.jit(f).trace(*args).lower(lowering_platforms=("cuda",)).compiler_ir("stablehlo"))


def main() -> None:
    """Print kernels and their bytes, the largest first."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--members", type=int, default=4096)
    parser.add_argument("--particles", type=int, help="a generation of PSO instead")
    options = parser.parse_args()
    number = options.particles or options.members
    made = functools.partial(launches.generation, jhpo.PSO(number), launches.box(20))
    found = traffic(*(made() if options.particles else launches.training(number)))
    print(f"{found.total / number:,.0f} bytes for each of {number:,}\n\n| kernel | bytes for each |\n|---|---|")
    for name, count in sorted(found.kernels, key=lambda kernel: -kernel[1]):
        if count >= 0.005 * found.total:
            print(f"| {name} | {count / number:,.0f} |")


if __name__ == "__main__":
    main()
