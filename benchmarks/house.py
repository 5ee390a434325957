"""How large and how tangled the source is: modules, floors, circles, sizes, types.

    python benchmarks/house.py              # of this checkout
    python benchmarks/house.py FOLDER ...   # of others beside it, such as worktrees of earlier commits

It reads the sources alone, so old ones need no installation. Floors and chains are those of the units that the imports
are drawn between: the modules and packages on the top level of ``jhpo``, and of modules.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

LONG, MANY = 60, 6
ANY = re.compile(r": Any\b")
Graph = dict[str, set[str]]


def sources(root: Path) -> dict[str, Path]:
    """The modules of jhpo and of its kernels, by dotted name."""
    found = {}
    for folder, package in ((root / "jhpo", "jhpo"), (root / "kernels", "jhpo.kernels")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


def imports(modules: dict[str, Path]) -> Graph:
    """What each module imports of the others, within functions as well."""
    graph: Graph = {}
    for name, path in modules.items():
        found: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {a.name for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                inner = {f"{node.module}.{a.name}" for a in node.names} & set(modules)
                found |= inner or {node.module}
        graph[name] = (found & set(modules)) - {name}
    return graph


def joined(graph: Graph) -> Graph:
    """The graph of the units on the top level; what merely names everything (``jhpo`` itself) is left out."""

    def unit(name: str) -> str:
        return ".".join(name.split(".")[:2])

    out: Graph = {unit(name): set() for name in graph if name != "jhpo"}
    for name, others in graph.items():
        if name != "jhpo":
            out[unit(name)] |= {unit(o) for o in others if o != "jhpo"} - {unit(name)}
    return out


def circles(graph: Graph) -> list[list[str]]:
    """The strongly connected parts with more than one member (Tarjan)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in sorted(graph.get(name, set())):
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            part = stack[stack.index(name) :]
            del stack[stack.index(name) :]
            if len(part) > 1:
                found.append(sorted(part))

    for name in sorted(graph):
        if name not in index:
            visit(name)
    return found


def floors(graph: Graph) -> int:
    """Length of the longest chain of imports, each circle counted as one member."""
    of = {name: min(part) for part in circles(graph) for name in part}
    flat: Graph = {}
    for name, others in graph.items():
        here = of.get(name, name)
        flat.setdefault(here, set()).update(of.get(o, o) for o in others)
    heights: dict[str, int] = {}

    def height(name: str) -> int:
        if name not in heights:
            heights[name] = 1 + max((height(o) for o in flat.get(name, set()) - {name}), default=0)
        return heights[name]

    return max(map(height, flat))


def functions(path: Path) -> Iterator[tuple[str, int, int, int]]:
    """Name, lines, lines without the docstring, positional arguments (``self`` aside) of every function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            said = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            text = (first.end_lineno or first.lineno) - first.lineno + 1 if said else 0
            names = [a.arg for a in (*node.args.posonlyargs, *node.args.args)]
            yield node.name, lines, lines - text, len(names) - (names[:1] in (["self"], ["cls"]))


def figures(root: Path) -> dict[str, object]:
    """The figures of one checkout."""
    modules = sources(root)
    graph = imports(modules)
    units = joined(graph)
    sizes = {path: len(path.read_text().splitlines()) for path in modules.values()}
    all_functions = [f for path in modules.values() for f in functions(path)]
    largest = max(sizes, key=lambda p: sizes[p])
    return {
        "modules": len(modules),
        "modules on the top level of jhpo/": len(list((root / "jhpo").glob("*.py"))),
        "rooms (modules and packages there)": len(units),
        "floors of rooms": floors(units),
        "circles of rooms": len(circles(units)),
        "circles of modules": len(circles({n: o - {"jhpo"} for n, o in graph.items() if n != "jhpo"})),
        "longest chain of imports, modules": floors({n: o - {"jhpo"} for n, o in graph.items() if n != "jhpo"}),
        "lines a file, median": int(statistics.median(sizes.values())),
        "lines a file, largest": f"{sizes[largest]} ({largest.relative_to(root)})",
        "files over 300 lines": sum(n > 300 for n in sizes.values()),
        f"functions over {LONG} lines, docstring included": sum(f[1] > LONG for f in all_functions),
        f"functions over {LONG} lines of code": sum(f[2] > LONG for f in all_functions),
        f"functions of over {MANY} positional arguments": sum(f[3] > MANY for f in all_functions),
        "': Any'": sum(len(ANY.findall(path.read_text())) for path in modules.values()),
    }


def import_seconds() -> float:
    """Processor seconds that ``import jhpo`` takes beside ``import jax``, with bytecode, the least of six processes."""
    code = "import time, jax; begin = time.process_time(); import jhpo; jhpo.Study; print(time.process_time() - begin)"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # as an installed package
    command = [sys.executable, "-c", code]
    runs = [subprocess.run(command, env=environment, capture_output=True, text=True, check=True) for _ in range(6)]
    return min(float(run.stdout) for run in runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path, help="other checkouts, left of this one in the table")
    here = Path(__file__).resolve().parents[1]
    roots = [*parser.parse_args().folders, here]
    columns = [figures(root) for root in roots]
    columns[-1]["processor seconds of `import jhpo; jhpo.Study` after jax"] = f"{import_seconds():.2f}"
    print("| | " + " | ".join(root.resolve().name for root in roots) + " |")
    print("|---|" + "---|" * len(roots))
    for name in columns[-1]:
        print(f"| {name} | " + " | ".join(str(column.get(name, "")) for column in columns) + " |")


if __name__ == "__main__":
    main()
