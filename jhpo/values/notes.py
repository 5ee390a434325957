"""Notes: plain values by name that users keep with trials and studies, as JSON text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from jhpo.errors import encodable, invalid

MOST_BYTES = 2**16  # of one note; what is larger belongs into a file, and its name into a note
_MOST_LEVELS = 64
_PLAIN = f"JSON values (None, bool, number, text, list, dict by text) of at most {MOST_BYTES // 1024} KiB"
Notes = dict[str, str]  # JSON text by name


def noted(values: Mapping[str, Any] | None, more: Mapping[str, Any]) -> Notes:
    """Notes as text, checked; of a name that is given twice, the one in `more`.

    NumPy and JAX numbers and arrays become numbers and lists, tuples lists. NaN and infinities are kept.

    Raises:
        InvalidArgument: a name that is not text, a value that is not plain, or one that is too large.

    >>> noted({"sizes": np.arange(2), "a:b": None}, {"seconds": 0.5})
    {'sizes': '[0, 1]', 'a:b': 'null', 'seconds': '0.5'}
    """
    if values is not None and not isinstance(values, Mapping):
        raise invalid("values", "notes by name, a dict or named arguments", values)
    found: Notes = {}
    for name, value in {**(values or {}), **more}.items():
        if not isinstance(name, str) or not name or name != encodable(name):
            raise invalid("values", "text as the names of notes", name)
        plain = _plain(name, value, value, _MOST_LEVELS)
        try:
            text = json.dumps(plain)
        except ValueError as error:  # Python writes no integers of thousands of digits
            raise invalid(name, _PLAIN, f"{type(value).__name__} ({error})") from error
        if len(text) > MOST_BYTES:
            note = "keep it in a file, and note the file's name"
            raise invalid(name, _PLAIN, f"{type(value).__name__} of {len(text) / 1024:.0f} KiB", note=note)
        found[name] = text
    return found


def read_notes(notes: Notes) -> dict[str, Any]:
    """The values of notes, new ones at every call.

    Raises:
        ValueError, TypeError, RecursionError, AttributeError: they were not made by `noted`.

    >>> read_notes(noted({"a": (1, 2.5)}, {}))
    {'a': [1, 2.5]}
    """
    return {name: json.loads(text) for name, text in notes.items()}


def _plain(name: str, value: Any, part: Any, levels: int) -> Any:
    """A part of a note's value as JSON holds it."""
    if part is None or isinstance(part, (bool, int, float, str)):
        return part
    if not levels:
        raise invalid(name, f"values nested at most {_MOST_LEVELS} deep", type(value).__name__)
    if isinstance(part, (list, tuple)):
        return [_plain(name, value, each, levels - 1) for each in part]
    if isinstance(part, Mapping):
        wrong = [key for key in part if not isinstance(key, str)]
        if wrong:
            raise invalid(name, f"{_PLAIN}", f"a dict with the key {wrong[0]!r}")
        return {key: _plain(name, value, each, levels - 1) for key, each in part.items()}
    if isinstance(part, (np.generic, np.ndarray)) or hasattr(part, "__array__"):
        if np.ma.is_masked(part):  # the values below the mask are none
            raise invalid(name, _PLAIN, "a masked array")
        array = np.asarray(part)
        # NumPy has no kind for bfloat16 and similar dtypes
        numbers = array.dtype.kind in "biuf" or array.dtype.name.startswith(("bfloat", "float"))
        if numbers and array.nbytes <= MOST_BYTES:
            return array.astype(np.float64).tolist() if array.dtype.kind == "V" else array.tolist()
        raise invalid(name, _PLAIN, f"{type(part).__name__} {array.shape} of {array.dtype}")
    raise invalid(name, _PLAIN, part)
