"""How mkdocstrings reads the sources (see mkdocs.yml): examples as code, and the arguments of strategies."""

from __future__ import annotations

from typing import Any

import griffe


def fenced(text: str) -> str:
    """A docstring whose interactive examples are blocks of code."""
    out: list[str] = []
    inside = False
    for line in text.splitlines():
        if line.lstrip().startswith(">>>") and not inside:
            out.append("```pycon")
            inside = True
        elif inside and not line.strip():
            out.append("```")
            inside = False
        out.append(line)
    return "\n".join([*out, "```"] if inside else out)


class Reading(griffe.Extension):
    """Changes what griffe has read, once a package is whole."""

    def on_package(self, *, pkg: griffe.Module, **more: Any) -> None:
        """Goes through all modules and classes."""
        self._visit(pkg)

    def _visit(self, found: griffe.Object) -> None:
        if found.docstring is not None:
            found.docstring.value = fenced(found.docstring.value)
        if isinstance(found, griffe.Class) and any(str(d.value) == "strategy" for d in found.decorators):
            found.set_member("__init__", _made(found))
        for member in list(found.members.values()):
            if isinstance(member, griffe.Object):
                self._visit(member)


def _made(strategy: griffe.Class) -> griffe.Function:
    """The constructor that `jhpo.strategy` makes from the fields of a class and its bases."""
    fields: dict[str, griffe.Attribute] = {}
    for base in reversed([strategy, *strategy.mro()]):
        own = [m for m in base.members.values() if isinstance(m, griffe.Attribute) and "property" not in m.labels]
        # a ClassVar is an attribute of the class alone
        fields |= {m.name: m for m in own if m.annotation is not None and "instance-attribute" in m.labels}
    kind = griffe.ParameterKind.positional_or_keyword
    given = [griffe.Parameter(n, annotation=f.annotation, kind=kind, default=_default(f)) for n, f in fields.items()]
    named = griffe.Parameter("self", kind=kind)
    return griffe.Function("__init__", parent=strategy, parameters=griffe.Parameters(named, *given))


def _default(field: griffe.Attribute) -> str | griffe.Expr | None:
    """The default of a field, also of one that is made by `static_field`."""
    value = field.value
    if isinstance(value, griffe.ExprCall) and value.arguments:
        first = value.arguments[0]
        return first.value if isinstance(first, griffe.ExprKeyword) else first
    return value
