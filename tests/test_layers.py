"""Lower layers do not import higher ones: read from the sources, function bodies included."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# lowest first; a module is placed by the first prefix that fits
LAYERS: list[tuple[str, ...]] = [
    ("jhpo.errors",),
    ("jhpo.kernels",),
    (
        "jhpo._declared",
        "jhpo.parameters",
        "jhpo._codec",
        "jhpo._host_codec",
        "jhpo.space",
        "jhpo.keys",
        "jhpo.schedules",
    ),
    ("jhpo.trainable", "jhpo.objective", "jhpo.supervised", "jhpo._nn", "jhpo.models", "jhpo.augment", "jhpo.devices"),
    ("jhpo.dependence", "jhpo.binding", "jhpo.gradients"),
    ("jhpo._hypergrad_report", "jhpo._hypergrad_plan", "jhpo._hypergrad_checks", "jhpo.hypergrad", "jhpo.online"),
    ("jhpo.strategies",),
    ("jhpo.population", "jhpo.chunks", "jhpo._population"),
    ("jhpo.run", "jhpo.testing"),
    ("jhpo.stopping", "jhpo.driver", "jhpo.executors", "jhpo.evaluators", "jhpo.outcome", "jhpo.measures"),
    (
        "jhpo.tuning",
        "jhpo.minimize",
        "jhpo.storage",
        "jhpo.trial",
        "jhpo.history",
        "jhpo.searcher",
        "jhpo.ledger",
        "jhpo.study",
        "jhpo.study_header",
        "jhpo.study_results",
        "jhpo.study_views",
        "jhpo.study_report",
        "jhpo.importance",
        "jhpo.study_loop",
        "jhpo.study_batch",
        "jhpo.interop",
    ),
    ("jhpo.report",),
    ("jhpo.cli",),
    ("jhpo",),
]


def layer(module: str) -> int:
    for level, prefixes in enumerate(LAYERS):
        if any(module == p or module.startswith(p + ".") for p in prefixes if p != "jhpo"):
            return level
    return len(LAYERS) - 1 if module == "jhpo" else -1


def modules() -> dict[str, Path]:
    found = {}
    for folder, package in ((ROOT / "jhpo", "jhpo"), (ROOT / "kernels", "jhpo.kernels")):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            name = ".".join((package, *(p for p in parts if p != "__init__")))
            found[name] = path
    return found


def imports(path: Path) -> set[str]:
    out: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            out |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            module = node.module or ""
            out.add(module)
            if module in ("jhpo", "jhpo.kernels", "jhpo.strategies"):
                known = modules()
                out |= {f"{module}.{a.name}" for a in node.names if f"{module}.{a.name}" in known}
    return out


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_downwards(name: str) -> None:
    level = layer(name)
    assert level >= 0, f"{name} has no layer: give it one in LAYERS"
    if name in ("jhpo", "jhpo.testing"):  # the facade, and the suite that names a baseline
        return
    for other in imports(modules()[name]):
        if other.startswith("jhpo.") and other in modules():
            assert layer(other) <= level, f"{name} imports {other}, which lies above it"


@pytest.mark.parametrize("name", [m for m in sorted(modules()) if m.startswith("jhpo.kernels")])
def test_kernels_import_jax_alone(name: str) -> None:
    allowed = (
        "jax",
        "numpy",
        "math",
        "functools",
        "typing",
        "collections",
        "dataclasses",
        "__future__",
        "jhpo.kernels",
    )
    for other in imports(modules()[name]):
        assert other.split(".")[0] in allowed or other.startswith("jhpo.kernels"), f"{name} imports {other}"
