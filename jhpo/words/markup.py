"""Values, objects and durations as short texts; small HTML tables for notebooks, where text of users is escaped."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np

# beside tabs and line breaks; the last two are no characters
_HIDDEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


def table(head: Sequence[str], rows: Iterable[Sequence[object]], title: str = "") -> str:
    """An HTML table.

    >>> table(["a"], [[0.5], ["<"]])
    '<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>0.5</td></tr><tr><td>&lt;</td></tr></tbody></table>'
    """
    caption = f'<caption style="text-align: left"><b>{escape(line(title))}</b></caption>' if title else ""
    top = "".join(f"<th>{escape(line(h))}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell(c))}</td>" for c in row) + "</tr>" for row in rows)
    return f"<table>{caption}<thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def named(params: object, prefix: str = "") -> list[tuple[str, object]]:
    """Hyperparameters by dotted name.

    >>> named({"lr": 0.1, "net": {"width": 8}})
    [('lr', 0.1), ('net.width', 8)]
    """
    if not isinstance(params, dict):
        return [(prefix or "value", params)]
    return [pair for k, v in params.items() for pair in named(v, f"{prefix}.{k}" if prefix else str(k))]


def cut(text: str, most: int) -> str:
    """The text, or its beginning and an ellipsis, of at most so many characters.

    >>> cut("learning", 8), cut("learning", 6)
    ('learning', 'learn…')
    """
    return text if len(text) <= most else text[: most - 1] + "…"


def visible(text: str) -> str:
    r"""Text or markup with its control characters and single surrogates, which neither XML nor HTML may hold, escaped.

    >>> print(visible("<b>x\x1b[31m</b>"))
    <b>x\x1b[31m</b>
    """
    return _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], text)


def line(text: str) -> str:
    r"""The text on one line, and nothing in it that a terminal would obey.

    >>> print(line("first\n  second\tthird\x1b[31m"))
    first second third\x1b[31m
    """
    joined = " ".join(filter(None, map(str.strip, text.replace("\t", " ").splitlines())))
    return visible(joined)


def cell(value: object) -> str:
    r"""A value as short text on one line: six digits of floats, functions and classes by name.

    >>> cell(0.12345678), cell([1, 2.5]), cell(float), cell(float("nan")), cell(None), cell("a\nb")
    ('0.123457', '[1, 2.5]', 'float', '-', 'None', 'a b')
    """
    if isinstance(value, np.generic | np.ndarray) or type(value).__module__.startswith("jax"):
        value = np.asarray(value).tolist()
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(cell, value)) + "]"
    if isinstance(value, float):
        return "-" if math.isnan(value) else f"{value:.6g}"
    return line(str(getattr(value, "__name__", value) if callable(value) else value))


def brief(value: object) -> str:
    """An object as short text: arrays by dtype and shape, functions by name.

    >>> brief((np.zeros((64, 4), np.float32), {"lr": 0.1, "tx": brief}))
    "(float32[64, 4], {'lr': 0.1, 'tx': brief})"
    """
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {brief(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        inner = ", ".join(f"{k}={v}" if k else v for k, v in zip(_fields(value), map(brief, value)))
        if isinstance(value, list):
            return f"[{inner}]"
        return f"{type(value).__name__ if hasattr(value, '_fields') else ''}({inner})"
    if inspect.isroutine(value) or isinstance(value, type):
        return str(getattr(value, "__name__", value))
    return cut(" ".join(repr(value).split()), 60)


def _fields(value: Sequence[object]) -> Sequence[str]:
    return getattr(value, "_fields", ("",) * len(value))


def number(value: float) -> str:
    """A value as short text.

    >>> number(0.12345678), number(float("nan"))
    ('0.123457', '-')
    """
    return "-" if math.isnan(value) else f"{value:.6g}"


def counted(count: int, noun: str) -> str:
    """So many of something, which is regular in the plural.

    >>> counted(1, "trial"), counted(2048, "evaluation")
    ('1 trial', '2,048 evaluations')
    """
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """Seconds as short text.

    >>> duration(75), duration(0.25)
    ('1 min 15 s', '0.2 s')
    """
    if not math.isfinite(seconds) or seconds > 1e9:
        return "?"
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(int(seconds + 0.5), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
