"""Counts the kernels that a program executes, without the accelerator: see `launches.py` for what the counts mean."""

from __future__ import annotations

import collections
import contextlib
import functools
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jhpo.kernels.internals import JaxprEqn, runnable
from jhpo.kernels.programs import replaced

Function = Callable[..., Any]
# Instructions of HLO that start nothing.
_FREE = {
    "parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all", "opt-barrier", "partition-id",
    "replica-id", "iota",
}  # fmt: skip
# Operations of StableHLO that are a kernel at least.
_KERNELS = {
    "dot_general", "convolution", "reduce", "reduce_window", "select_and_scatter", "sort", "scatter", "custom_call",
    "cholesky", "triangular_solve", "fft", "top_k",
}  # fmt: skip
_SCOPE = "counted_loop_"
_INLINED = {"custom_vmap_call": "call", "custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr"}


class Counts(NamedTuple):
    """What one step executes."""

    cpu: float  # kernels of the CPU's program
    cuda: float  # kernels of the program for CUDA, at least
    decisions: float  # of the program for CUDA


# -- loops with names, and their trips ---------------------------------------------------------------------------


class Loops:
    """Names every loop of a program and counts the trips while it runs."""

    def __init__(self) -> None:
        self.trips: collections.Counter[int] = collections.Counter()
        self.runs: collections.Counter[int] = collections.Counter()
        self.open: set[int] = set()  # those that end when a condition says so
        self._number = 0

    def named(self, f: Function, counting: bool) -> Function:
        """``f`` whose loops have scopes of their own; if ``counting``, they tell of their trips."""

        def wrapper(*args: Any) -> Any:
            self._number = 0
            program, shape = jax.make_jaxpr(f, return_shape=True)(*args)
            rule = functools.partial(self._rule, counting)
            out = runnable(replaced(program, rule))(*jax.tree.leaves(args))
            return jax.tree.unflatten(jax.tree.structure(shape), out)

        return wrapper

    def _rule(self, counting: bool, equation: JaxprEqn) -> Function | None:
        name, params = equation.primitive.name, equation.params
        rule = functools.partial(self._rule, counting)
        if name in _INLINED:
            return runnable(replaced(params[_INLINED[name]], rule))
        if name not in ("while", "scan"):
            return None
        number, self._number = self._number, self._number + 1
        if name == "scan":
            changed = params | {"jaxpr": replaced(params["jaxpr"], rule)}

            def scanned(*args: Any) -> Any:
                with jax.named_scope(f"{_SCOPE}{number}_"):
                    out = equation.primitive.bind(*args, **changed)
                if counting:
                    jax.debug.callback(functools.partial(self._add, number), jnp.int32(params["length"]))
                return out

            return scanned
        if not _is_counted(params["cond_jaxpr"].jaxpr):
            self.open.add(number)
        changed = params | {part: replaced(params[part], rule) for part in ("cond_jaxpr", "body_jaxpr")}
        count = _counting_loop(changed)

        def looped(*args: Any) -> Any:
            with jax.named_scope(f"{_SCOPE}{number}_"):
                if not counting:
                    return equation.primitive.bind(*args, **changed)
                trips, out = count(*args)
            jax.debug.callback(functools.partial(self._add, number), trips)
            return out

        return looped

    def _add(self, number: int, trips: jax.Array) -> None:
        self.trips[number] += int(trips)
        self.runs[number] += 1


def _counting_loop(params: dict[str, Any]) -> Function:
    """The loop of a while equation, beside the number of its trips."""
    test, turn = (runnable(params[part]) for part in ("cond_jaxpr", "body_jaxpr"))
    first, second = params["cond_nconsts"], params["cond_nconsts"] + params["body_nconsts"]

    def loop(*args: Any) -> tuple[jax.Array, list[Any]]:
        own, others = args[:first], args[first:second]

        def body(carry: tuple[jax.Array, list[Any]]) -> tuple[jax.Array, list[Any]]:
            before = carry[1]
            after = turn(*others, *before)
            (going,) = test(*own, *before)
            if going.ndim:  # of members side by side, those that have ended stay as they are
                wide = [jax.lax.broadcast_in_dim(going, x.shape, range(going.ndim)) for x in before]
                after = [jax.lax.select(w, new, old) for w, new, old in zip(wide, after, before)]
            return carry[0] + 1, after

        return jax.lax.while_loop(lambda c: test(*own, *c[1])[0].any(), body, (jnp.int32(0), list(args[second:])))

    return loop


def _is_counted(condition: Any) -> bool:
    """The condition of a loop compares a counter with a number that is known."""
    if len(condition.eqns) != 1 or condition.eqns[0].primitive.name != "lt":
        return False
    return hasattr(condition.eqns[0].invars[1], "val")


@contextlib.contextmanager
def as_on(platform: str) -> Iterator[None]:
    """What is traced takes the branches of another platform, wherever it runs."""
    real = jax.lax.platform_dependent

    def chosen(*args: Any, default: Function | None = None, **branches: Function) -> Any:
        return branches.get(platform, default)(*args)  # type: ignore[misc]

    jax.clear_caches()
    jax.lax.platform_dependent = chosen
    try:
        yield
    finally:
        jax.lax.platform_dependent = real
        jax.clear_caches()


def _measured(f: Function, args: tuple[Any, ...]) -> Loops:
    loops = Loops()
    jax.block_until_ready(jax.jit(loops.named(f, counting=True))(*args))
    jax.effects_barrier()
    return loops


# -- the CPU's program -------------------------------------------------------------------------------------------


class Instruction(NamedTuple):
    """A line of HLO."""

    opcode: str
    line: str

    def called(self, *names: str) -> list[str]:
        """Computations that an attribute names."""
        found = re.findall(rf"\b(?:{'|'.join(names)})=\{{?((?:%[\w.\-]+(?:, )?)+)\}}?", self.line)
        return [name.strip().lstrip("%") for group in found for name in group.split(",") if name.strip()]


def computations(text: str) -> tuple[dict[str, list[Instruction]], str]:
    """The computations of a module of HLO by name, and the name of its entry."""
    found: dict[str, list[Instruction]] = {}
    entry = current = ""
    for line in text.splitlines():
        if (head := re.match(r"(ENTRY )?%([\w.\-]+) \(.*\{$", line)) is not None:
            current = head[2]
            entry = current if head[1] else entry
            found[current] = []
        elif (instruction := re.match(r"\s+(?:ROOT )?%[\w.\-]+ = .*? ([a-z][a-z\-]*)\(", line)) is not None:
            found[current].append(Instruction(instruction[1], line))
    return found, entry


def hlo_kernels(text: str, trips: dict[int, int]) -> float:
    """Kernels that a compiled module executes, with the trips of its named loops."""
    parts, entry = computations(text)
    sites: collections.Counter[int] = collections.Counter()

    def walk(name: str, times: float, total: bool) -> float:
        return sum(cost(instruction, times, total) for instruction in parts[name])

    def cost(i: Instruction, times: float, total: bool) -> float:
        if i.opcode in _FREE:
            return 0.0
        if i.opcode == "while":
            number, known = _loop_number(i.line), re.search(r'known_trip_count":\{"n":"(\d+)"', i.line)
            if number is not None and not total:
                sites[number] += 1
            inner = times * (int(known[1]) if known else 1)
            if number is not None and total:
                inner = trips.get(number, 0) / sites[number]
            return sum(walk(name, inner, total) for name in i.called("body", "condition"))
        if i.opcode == "call":
            return sum(walk(name, times, total) for name in i.called("to_apply"))
        if i.opcode == "conditional":
            names = i.called("branch_computations", "true_computation", "false_computation")
            return max(walk(name, times, total) for name in names)
        return times

    walk(entry, 1.0, False)
    return walk(entry, 1.0, True)


def _loop_number(text: str) -> int | None:
    """The innermost named loop in a name of an instruction."""
    found = re.findall(rf"{_SCOPE}(\d+)_", text)
    return int(found[-1]) if found else None


# -- the program for CUDA ----------------------------------------------------------------------------------------


def stablehlo_kernels(module: Any, loops: Loops) -> tuple[float, float]:
    """Kernels at least, and decisions, of a lowered module with the trips of its named loops."""
    functions = {f.attributes["sym_name"].value: f for f in module.body.operations}
    sites: collections.Counter[int] = collections.Counter()

    def region(block: Any, times: float, total: bool) -> tuple[float, float]:
        kernels = decisions = 0.0
        for op in block.operations:
            more = cost(op.operation, times, total)
            kernels, decisions = kernels + more[0], decisions + more[1]
        return kernels, decisions

    def cost(op: Any, times: float, total: bool) -> tuple[float, float]:
        name = op.name.split(".")[-1]
        if name == "call" and op.name.startswith("func"):
            return region(functions[op.attributes["callee"].value].regions[0].blocks[0], times, total)
        if name == "while":
            number = _loop_number(str(op.location))
            if number is None:
                inner = times
            elif not total:
                sites[number] += 1
                inner = times
            else:
                inner = loops.trips[number] / sites[number]
            test, body = (region(r.blocks[0], inner, total) for r in op.regions)
            asked = 0.0
            if total and number in loops.open:  # once more in each run, to learn that it has ended
                asked = (loops.trips[number] + loops.runs[number]) / sites[number]
            return max(body[0] + test[0], inner), body[1] + test[1] + asked
        if name in ("case", "if"):
            if (known := _known(op.operands[0])) is not None:  # a platform's branch, no question to the device
                return region(op.regions[min(known, len(op.regions) - 1)].blocks[0], times, total)
            each = [region(r.blocks[0], times, total) for r in op.regions]
            return max(e[0] for e in each), max(e[1] for e in each) + times
        return (times, 0.0) if name in _KERNELS else (0.0, 0.0)

    main = functions["main"].regions[0].blocks[0]
    region(main, 1.0, False)
    return region(main, 1.0, True)


def _known(value: Any) -> int | None:
    """The number that a scalar of the module is, if it is a constant or what a branch known beforehand returns."""
    op = value.owner
    name = getattr(op, "name", "")  # the argument of a block has none
    if name == "stablehlo.constant":
        return int(op.attributes["value"].get_splat_value().value)
    if name != "stablehlo.case" or (chosen := _known(op.operands[0])) is None:
        return None
    *_, last = op.regions[min(chosen, len(op.regions) - 1)].blocks[0].operations
    return _known(last.operands[0])


def count(make: Callable[[], tuple[Function, tuple[Any, ...]]], steps: int = 1) -> Counts:
    """Counts of a program, each divided by the steps in it.

    Args:
        make: returns a function and its arguments; called once for each platform, as it is traced for that alone.
        steps: that the function makes.
    """
    f, args = make()
    loops = _measured(f, args)
    text = jax.jit(loops.named(f, counting=False)).lower(*args).compile().as_text()
    cpu = hlo_kernels(text, loops.trips)
    with as_on("cuda"):
        f, args = make()
        loops = _measured(f, args)
        traced = jax.jit(loops.named(f, counting=False)).trace(*args)
        module = traced.lower(lowering_platforms=("cuda",)).compiler_ir("stablehlo")
        cuda, decisions = stablehlo_kernels(module, loops)
    return Counts(cpu / steps, cuda / steps, decisions / steps)
