"""Every example in a docstring and every Python block of README and docs runs."""

from __future__ import annotations

import contextlib
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest

from jhpo.errors import MissingExtra
from tests.test_layers import modules

ROOT = Path(__file__).parents[1]


@contextlib.contextmanager
def users_settings() -> Iterator[None]:
    """JAX's own settings, which a reader's session has, instead of the strict ones of the tests."""
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        yield


@pytest.mark.parametrize("name", sorted(modules()))
def test_docstring_examples(name: str) -> None:
    if "import " not in modules()[name].read_text():
        return
    try:
        module = importlib.import_module(name)
    except MissingExtra as error:
        pytest.skip(str(error))
    with users_settings():
        failures, _ = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert failures == 0


# the other pages take minutes; the examples of docstrings and the tests of strategies make their calls too
SHORT = {"README.md", "tour.md", "sklearn.md", "optuna.md", "clusters.md"}


def blocks() -> list:
    found = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        # the blocks of one page share their names, as they do in a reader's session
        page = re.findall(r"```python\n(.*?)```", path.read_text(), re.DOTALL) if path.exists() else []
        if page:
            name = str(path.relative_to(ROOT)).removeprefix("docs/")
            found.append(pytest.param(page, id=name, marks=[pytest.mark.slow] * (name not in SHORT)))
    return found


@pytest.mark.parametrize("page", blocks())
def test_markdown_blocks(page: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with users_settings():
        names: dict = {"__name__": "page"}
        for block in page:
            exec(compile(block, "block", "exec", dont_inherit=True), names)
