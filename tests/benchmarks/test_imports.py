"""What the scripts in benchmarks/ import exists; most of them run too long to be run here."""

from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPTS = sorted(FOLDER.glob("*.py"))


def defined(name: str) -> set[str]:
    """Names at the top level of a script beside the others."""
    found: set[str] = set()
    for node in ast.parse((FOLDER / f"{name}.py").read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {n.id for t in targets for n in ast.walk(t) if isinstance(n, ast.Name)}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {(alias.asname or alias.name).split(".")[0] for alias in node.names}
    return found


def there(module: str, name: str) -> bool:
    found = importlib.import_module(module)
    if hasattr(found, name):
        return True
    try:  # a module of a package
        importlib.import_module(f"{module}.{name}")
    except ModuleNotFoundError:
        return False
    return True


@pytest.mark.quick
@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_what_a_script_imports_exists(path: Path) -> None:
    beside = {p.stem for p in SCRIPTS}
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "jhpo":
            assert there("jhpo", node.attr), f"jhpo has no {node.attr}"
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        for name in (alias.name for alias in node.names):
            assert not name.startswith("_"), f"{node.module}.{name} is private"
            if node.module.split(".")[0] == "jhpo":
                assert there(node.module, name), f"{node.module} has no {name}"
            elif node.module in beside:
                assert name in defined(node.module), f"{node.module} has no {name}"
