"""The pages of the documentation: every link leads somewhere, every name is in the reference, every notebook runs."""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

import pytest

import jhpo
from jhpo.strategies import REGISTRY
from tests.test_docs import users_settings

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / n for n in ("README.md", "CONTRIBUTING.md", "benchmarks/RESULTS.md", "benchmarks/HISTORY.md")] + sorted(
    ROOT.glob("docs/**/*.md")
)
NOTEBOOKS = sorted(ROOT.glob("docs/notebooks/*.ipynb"))
LINK = re.compile(r"\]\((?!https?:|mailto:)([^)#\s]*)(?:#([^)\s]*))?\)")


def prose(path: Path) -> str:
    """The text of a page or a notebook without its code."""
    text = path.read_text()
    if path.suffix == ".ipynb":
        cells = json.loads(text)["cells"]
        text = "\n\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "markdown")
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(path: Path) -> set[str]:
    """The places that a link can name: functions of a source file, headings of a page."""
    text = path.read_text()
    if path.suffix == ".py":
        return set(re.findall(r"^(?:def|class) (\w+)", text, re.MULTILINE))
    heads = re.findall(r"^#+ (.+)$", prose(path), re.MULTILINE)
    named = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))  # names of the reference
    return named | {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head.lower())).strip("-") for head in heads}


@pytest.mark.parametrize("path", [*PAGES, *NOTEBOOKS], ids=lambda p: str(p.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    for target, place in LINK.findall(prose(path)):
        found = ROOT / posixpath.normpath(posixpath.join(path.relative_to(ROOT).parent.as_posix(), target))
        found = found if target else path
        assert found.exists(), target
        assert not place or place in anchors(found), f"{target}#{place}"


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": ([\w/]+\.(?:md|ipynb))$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE))
    made = {"index.md", "results.md", "history.md", "contributing.md", "changelog.md"}
    docs = {str(p.relative_to(ROOT / "docs")) for p in [*PAGES, *NOTEBOOKS] if (ROOT / "docs") in p.parents}
    assert listed - made == docs and made <= listed


def test_every_yes_of_the_comparison_names_a_test() -> None:
    rows = [line.split("|") for line in (ROOT / "docs/comparison.md").read_text().splitlines() if "yes" in line]
    cells = [row[2] for row in rows if len(row) > 3 and not row[1].strip().startswith("-")]
    links = [link for cell in cells for link in LINK.findall(cell)]
    assert len(cells) >= 20 and all("](" in cell for cell in cells)
    assert all(target.startswith("../tests/") and place.startswith("test_") for target, place in links)


def test_every_concept_has_a_picture_with_words() -> None:
    text = (ROOT / "docs/concepts.md").read_text()
    for name in ("space", "objective", "strategy", "population", "study", "budget"):
        part = re.search(rf"^## {name.title()}\n(.*?)^## ", text, re.DOTALL | re.MULTILINE)
        assert part and re.search(rf"!\[.{{30,}}\]\(images/concepts/{name}\.svg\)", part[1]), name


PAGES_OF = {
    "random": "random_search",
    "successive-halving": "successive_halving",
    "freeze-thaw": "freeze_thaw",
}  # of the others the name is that of the registry


@pytest.mark.parametrize("name", [*REGISTRY, "early-stop"])
def test_every_strategy_has_a_page_with_a_program_figures_and_when_not_to_use_it(name: str) -> None:
    path = ROOT / "docs/strategies" / f"{PAGES_OF.get(name, name.replace('-', '_'))}.md"
    text = path.read_text()
    parts = dict(re.findall(r"^## ([^\n]+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))
    assert list(parts)[:4] == ["How it works", "Options that matter", "Measured", "When not to use it"]
    first = re.search(r"```python\n(.*?)```", text, re.DOTALL)
    assert first and first.start() < text.index("## How it works")
    if name in REGISTRY:
        assert f"jhpo.{REGISTRY[name][1]}(" in first[1] or f'"{name}"' in first[1]
        assert f"../reference/strategies.md#jhpo.{REGISTRY[name][1]})" in text
    figures = re.findall(r"\d\.\d|\.\d\d|\d times", parts["Measured"])
    assert len(figures) >= 4 and "../../benchmarks/RESULTS.md#" in parts["Measured"]
    assert len(re.findall(r"\]\((?:\.\./)?\w+\.md[)#]", parts["When not to use it"])) >= 2
    assert f"({path.name})" in (ROOT / "docs/strategies/index.md").read_text()


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(path.read_text() for path in ROOT.glob("docs/reference/*.md"))
    documented = set(re.findall(r"^::: jhpo\.(?:\w+\.)*(\w+)$", text, re.MULTILINE))
    modules = {"figures", "metrics", "schedules", "optimisers", "linen", "nnx", "sklearn", "__version__"}
    errors = {name for name in dir(jhpo) if name in vars(__import__("jhpo.errors").errors)}
    assert set(dir(jhpo)) - modules - errors - documented == set()
    # a reader of sources takes the short name of a function in a module of its name for the module
    named = set(re.findall(r"^::: jhpo\.(\w+)$", text, re.MULTILINE)) & set(dir(jhpo))
    short = [getattr(jhpo, name) for name in named]
    assert not [each for each in short if each.__module__.endswith(f".{each.__name__}")]


def test_notebooks_show_what_they_gave() -> None:
    for path in NOTEBOOKS:
        cells = [c for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code"]
        assert any(c["outputs"] for c in cells) and all(c["execution_count"] for c in cells), path.name
        assert not [o for c in cells for o in c["outputs"] if o["output_type"] == "error"]


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict = {"__name__": "notebook"}
    with users_settings():
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                exec(compile("".join(cell["source"]), path.name, "exec", dont_inherit=True), names)
