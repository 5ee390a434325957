"""What a release promised stays: names, and the order and names of arguments. New ones may come."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import jhpo
from tests.packaging.api import read, surface

ROOT = Path(__file__).parents[2]


def broken(before: dict[str, list[str]], now: dict[str, list[str]]) -> list[str]:
    """What a program written for `before` would miss.

    >>> broken({"f": ["a", "b"], "g": []}, {"f": ["a", "*", "c", "b"]})
    ['f: b is no longer positional argument 2', 'g is gone']
    """
    found = []
    for name, arguments in before.items():
        if name not in now:
            found.append(f"{name} is gone")
            continue
        plain = arguments[: arguments.index("*")] if "*" in arguments else arguments
        positional = now[name][: now[name].index("*")] if "*" in now[name] else now[name]
        for place, argument in enumerate(plain):
            if positional[place : place + 1] != [argument]:
                found.append(f"{name}: {argument} is no longer positional argument {place + 1}")
        found += [f"{name}: {a} is gone" for a in arguments[len(plain) + 1 :] if a not in now[name]]
    return found


def test_nothing_that_was_listed_is_gone():
    listed, now = read(), surface()
    assert len(listed) > 300 and broken(listed, now) == []
    assert broken({"f": ["a", "b"], "g": []}, {"f": ["a", "*", "c", "b"]}) == [
        "f: b is no longer positional argument 2", "g is gone",
    ]  # fmt: skip
    assert broken({"f": ["*", "x", "y"]}, {"f": ["x"]}) == ["f: y is gone"]


def test_the_citation_names_this_version():
    text = (ROOT / "CITATION.cff").read_text()
    assert re.search(r"^version: (.+)$", text, re.MULTILINE).group(1) == jhpo.__version__
    assert all(f"{key}:" in text for key in ("cff-version", "message", "title", "authors", "license"))


PUBLIC_MODULES = [name for name in dir(jhpo) if isinstance(getattr(jhpo, name), ModuleType)]


@pytest.mark.parametrize("name", PUBLIC_MODULES)
def test_a_module_that_is_an_attribute_can_be_imported(name: str):
    """In a process of its own: elsewhere the attribute has been made before."""
    code = f"import jhpo.{name} as m\nfrom jhpo import {name}\nimport jhpo\nassert m is {name} is jhpo.{name}"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_dotted_name_of_the_docs_is_there():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    named = {n for p in pages for n in re.findall(r"(?<![\w/.-])jhpo(?:\.[a-zA-Z_]\w*){2,}", p.read_text())}
    assert "jhpo.linen.Dense" in named and len(named) > 20
    for name in sorted(named):
        pkgutil.resolve_name(name)
