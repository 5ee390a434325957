"""The wheel, made from the sdist, holds the package and nothing else, and the kernels only under their own name."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.package


def names(wheel: Path) -> list[str]:
    """The files in it."""
    return zipfile.ZipFile(wheel).namelist()


def test_every_module_is_in_the_wheel(wheel: Path) -> None:
    ours = {f"jhpo/{p.relative_to(ROOT / 'jhpo')}" for p in (ROOT / "jhpo").rglob("*.py")}
    kernels = {f"jhpo/kernels/{p.relative_to(ROOT / 'kernels')}" for p in (ROOT / "kernels").rglob("*.py")}
    assert ours | kernels | {"jhpo/py.typed"} <= set(names(wheel))


def test_nothing_else_is_in_the_wheel(wheel: Path) -> None:
    assert {name.split("/")[0] for name in names(wheel) if ".dist-info" not in name} == {"jhpo"}
    assert any(name.endswith("licenses/LICENSE") for name in names(wheel))


def test_the_kernels_refuse_another_name() -> None:
    code = "import sys; sys.path.insert(0, sys.argv[1]); import kernels"
    done = subprocess.run([sys.executable, "-I", "-c", code, str(ROOT)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "jhpo.kernels" in done.stderr


def test_a_folder_that_is_not_installed_says_what_to_do(tmp_path: Path) -> None:
    """As `python` started in the repository sees it."""
    shutil.copytree(ROOT / "jhpo", tmp_path / "jhpo", ignore=shutil.ignore_patterns("__pycache__"))
    alone = "sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in repr(f)]"
    code = f"import sys; sys.path.insert(0, sys.argv[1]); {alone}; import jhpo"
    done = subprocess.run([sys.executable, "-I", "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode != 0
    assert "jhpo is not installed" in done.stderr and "make install" in done.stderr
