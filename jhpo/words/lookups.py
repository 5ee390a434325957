"""What there is where a name was looked up in vain."""

from __future__ import annotations

import ast
import linecache
from collections.abc import Container, Mapping
from types import FrameType

_MOST = 20  # names in a message


def names_there(error: BaseException, libraries: Container[str]) -> str:
    """Of a `KeyError` the keys of what was looked up, as text that follows its message.

    They are found where a line outside of some packages looks up a variable, ``hp["rate"]``, or something in one,
    ``hp["net"]["width"]``.

    >>> hp = {"lr": 0.1, "net": {"width": 8}}
    >>> try:
    ...     hp["net"]["widht"]
    ... except KeyError as error:
    ...     names_there(error, ("jax",))
    "; hp['net'] has 'width'"
    """
    trace = error.__traceback__
    if not isinstance(error, KeyError) or len(error.args) != 1 or trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    frame = trace.tb_frame
    if frame.f_globals.get("__name__", "").split(".")[0] in libraries:
        return ""
    looked = _looked_up(frame, trace.tb_lasti)
    found = None if looked is None else _value(looked, frame)
    if not isinstance(found, Mapping) or error.args[0] in found:
        return ""
    assert looked is not None
    names = sorted(map(repr, found))
    more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
    return f"; {ast.unparse(looked)} has {', '.join(names[:_MOST]) or 'nothing'}{more}"


def _looked_up(frame: FrameType, instruction: int) -> ast.expr | None:
    """What an instruction takes a key of; None if that is not seen."""
    line, end, start, stop = list(frame.f_code.co_positions())[instruction // 2]
    if line is None or line != end or start is None or stop is None:
        return None
    text = linecache.getline(frame.f_code.co_filename, line, frame.f_globals).encode()[start:stop]
    try:
        whole = ast.parse(text.decode().strip(), mode="eval").body
    except (SyntaxError, ValueError):
        return None
    if isinstance(whole, ast.Call) and isinstance(whole.func, ast.Attribute) and whole.func.attr == "pop":
        return whole.func.value
    return whole.value if isinstance(whole, ast.Subscript) else None


def _value(node: ast.expr, frame: FrameType) -> object:
    """The value of a variable, of its attribute or of an entry of it; None if it is something else. Nothing is run."""
    if isinstance(node, ast.Name):
        return frame.f_locals.get(node.id, frame.f_globals.get(node.id))
    if isinstance(node, ast.Attribute):
        return getattr(_value(node.value, frame), "__dict__", {}).get(node.attr)
    if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        holder = _value(node.value, frame)
        return holder.get(node.slice.value) if isinstance(holder, Mapping) else None
    return None
