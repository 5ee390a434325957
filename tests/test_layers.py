"""Lower packages do not import higher ones, and no circle exists: read from the sources, function bodies included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

pytestmark = pytest.mark.quick

ROOT = Path(__file__).parents[1]
# lowest first: a package imports only its own floor's modules of the same package and what stands on floors below
FLOORS: list[tuple[str, ...]] = [
    ("jhpo.words", "jhpo.version"),
    ("jhpo.errors",),
    ("jhpo.values",),
    ("jhpo.process",),
    ("jhpo.kernels",),
    ("jhpo.keys", "jhpo.objectives", "jhpo.programs"),
    ("jhpo.curves",),
    ("jhpo.trial",),
    ("jhpo.space",),
    ("jhpo.training", "jhpo.strategies", "jhpo.report"),
    ("jhpo.gradients", "jhpo.storage", "jhpo.testing"),
    ("jhpo.evaluation",),
    ("jhpo.search",),
    ("jhpo.study",),
    ("jhpo.interop", "jhpo.cli"),
    # modules that are public as jhpo.NAME
    ("jhpo.sklearn", "jhpo.figures", "jhpo.linen", "jhpo.metrics", "jhpo.nnx", "jhpo.optimisers", "jhpo.schedules"),
    ("jhpo", "jhpo.__main__"),
]


def package(module: str) -> str:
    """The entry of FLOORS to which a module belongs.

    >>> package("jhpo.study.ledger")
    'jhpo.study'
    """
    named = [p for floor in FLOORS for p in floor if module == p or (p != "jhpo" and module.startswith(p + "."))]
    assert named, f"{module} has no floor: put it into a package, or give it one in FLOORS"
    return named[0]


def floor_of(module: str) -> int:
    return next(level for level, floor in enumerate(FLOORS) if package(module) in floor)


def modules() -> dict[str, Path]:
    found = {}
    for folder, root in ((ROOT / "jhpo", "jhpo"), (ROOT / "kernels", "jhpo.kernels")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((root, *(p for p in parts if p != "__init__")))
            found[name] = path
    return found


MODULES = modules()


def imports(path: Path) -> set[str]:
    """Every module that a file imports, at whatever depth, for type checkers as well."""
    out: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            module = node.module or ""
            inner = {f"{module}.{a.name}" for a in node.names} & set(MODULES)
            out |= inner or {module}
    return out


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """The strongly connected parts with more than one member.

    >>> circles({"a": {"b"}, "b": {"a"}, "c": {"a"}}) == [{"a", "b"}]
    True
    """

    def reach(start: str) -> set[str]:
        seen: set[str] = set()
        queue = [start]
        while queue:
            for other in graph.get(queue.pop(), set()) - seen:
                seen.add(other)
                queue.append(other)
        return seen

    reached = {name: reach(name) for name in graph}
    found: list[set[str]] = []
    for name in graph:
        if name in reached[name]:
            circle = {name} | {o for o in reached[name] if name in reached.get(o, set())}
            if circle not in found:
                found.append(circle)
    return found


@pytest.mark.parametrize("name", sorted(MODULES))
def test_imports_point_downwards(name: str) -> None:
    if name in ("jhpo", "jhpo.testing"):  # the facade, and the suite that names a baseline
        return
    for other in imports(MODULES[name]) & set(MODULES):
        if package(other) != package(name):
            assert floor_of(other) < floor_of(name), f"{name} imports {other}, which does not lie below it"


def test_no_circle() -> None:
    graph = {name: (imports(path) & set(MODULES)) - {name} for name, path in MODULES.items() if name != "jhpo"}
    assert circles(graph) == []


NAMED_TUPLES = ("_replace", "_asdict", "_fields", "_make", "_repr_html_")  # public in spite of the underscore


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_tests_reach_no_private_names(path: Path) -> None:
    """What a test needs of a module is public there; of an object of the test's own it may be anything."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [a.name for a in node.names] if isinstance(node, ast.ImportFrom) else []
        names += (node.module or "").split(".") if isinstance(node, ast.ImportFrom) else []
        if isinstance(node, ast.Attribute) and not (isinstance(node.value, ast.Name) and node.value.id in OWN):
            names.append(node.attr)
        private = [n for n in names if n.startswith("_") and not n.startswith("__") and n not in NAMED_TUPLES]
        assert not private, f"{path.name}:{getattr(node, 'lineno', 0)} reaches {private}"


OWN = ("self", "cls", "os", "sys")


@pytest.mark.parametrize("name", [m for m in sorted(MODULES) if m.startswith("jhpo.kernels")])
def test_kernels_import_jax_alone(name: str) -> None:
    allowed = (
        "jax",
        "numpy",
        "math",
        "functools",
        "sys",
        "threading",
        "typing",
        "collections",
        "contextlib",
        "dataclasses",
        "__future__",
        "jhpo.kernels",
        *(("sys", "threading") if name == "jhpo.kernels.internals" else ()),  # it changes how JAX's tracers compare
    )
    for other in imports(MODULES[name]):
        assert other.split(".")[0] in allowed or other.startswith("jhpo.kernels"), f"{name} imports {other}"
