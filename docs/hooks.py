"""Pages of the site that are made from other files of the repository, and links between them (see mkdocs.yml).

README.md is the home page; CONTRIBUTING.md, CHANGELOG.md and the results are pages; every source file that a page links
to becomes a page as well, with a heading for each function, so that a link names a test: ``tests/x.py#test_name``.
"""

from __future__ import annotations

import ast
import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "benchmarks/RESULTS.md": "results.md",
    "benchmarks/HISTORY.md": "history.md",
    "examples": "howto.md",
}
LINK = re.compile(r"(?<=\]\()(?!https?:|#|mailto:)([^)#\s]+)(#[^)\s]*)?(?=\))")


def place(target: str) -> str:
    """Where a file of the repository is in the site.

    >>> place("docs/space.md"), place("README.md"), place("examples/digits_mlp.py")
    ('space.md', 'index.md', 'source/examples/digits_mlp.md')
    """
    if target in PAGES:
        return PAGES[target]
    if target.endswith(".py"):
        return f"source/{target.removesuffix('.py')}.md"
    return target.removeprefix("docs/")


def turned(text: str, source: str) -> str:
    """The text of a file of the repository with links that hold in the site.

    >>> turned("[a](../examples/x.py#f) [b](#c)", "docs/howto.md")
    '[a](source/examples/x.md#f) [b](#c)'
    """
    folder, here = posixpath.dirname(source), posixpath.dirname(place(source))

    def link(found: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, found[1]))
        return posixpath.relpath(place(target), here or ".") + (found[2] or "")

    return LINK.sub(link, text).replace('src="docs/', 'src="')


def code(path: str) -> str:
    """A source file as a page: a heading and a block of code for each function and class of its first level."""
    text = (ROOT / path).read_text()
    lines, out, begun = text.splitlines(), [f"# {path}\n"], 0

    def block(stop: int) -> None:
        part = "\n".join(lines[begun:stop]).strip("\n")
        if part:
            out.append(f"````python\n{part}\n````\n")

    for node in ast.parse(text).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)]) - 1
            block(first)
            out.append(f"## {node.name} {{ #{node.name} }}\n")
            begun = first
    block(len(lines))
    return "\n".join(out)


def linked() -> set[str]:
    """Source files that pages link to."""
    found = set()
    for path in [ROOT / name for name in PAGES if name.endswith(".md")] + sorted((ROOT / "docs").rglob("*.md")):
        folder = posixpath.dirname(str(path.relative_to(ROOT)))
        targets = (posixpath.normpath(posixpath.join(folder, m[1])) for m in LINK.finditer(path.read_text()))
        found |= {target for target in targets if target.endswith(".py")}
    return found


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the pages that are made."""
    from mkdocs.structure.files import File

    for source, target in PAGES.items():
        if source.endswith(".md"):
            files.append(File.generated(config, target, content=turned((ROOT / source).read_text(), source)))
    for source in sorted(linked()):
        files.append(File.generated(config, place(source), content=code(source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turns the links of pages that are files of docs/."""
    if page.file.generated_by or not page.file.src_uri.endswith(".md"):
        return markdown
    return turned(markdown, f"docs/{page.file.src_uri}")
