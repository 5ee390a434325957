"""Events as bodies of log entries, and back: the fields of a class are the keys, written in their order."""

from __future__ import annotations

import dataclasses
from typing import Any

from jhpo.storage.codec import Entry
from jhpo.study.events import KINDS, Event, Results


def body_of(event: Event | Results) -> dict[str, Any]:
    """The event as it is stored.

    >>> from jhpo.study.events import Requeue
    >>> body_of(Requeue([3], lost=True, time=0.5))
    {'ids': [3], 'lost': True, 'time': 0.5}
    """
    body: dict[str, Any] = {}
    for name, left_out, default in _fields(type(event)):
        value = getattr(event, name)
        if not (left_out and _usual(value, default)):
            body[name] = body_of(value) if isinstance(value, Results) else value
    return body


_FIELDS: dict[type[Any], tuple[tuple[str, bool, Any], ...]] = {}


def _fields(cls: type[Any]) -> tuple[tuple[str, bool, Any], ...]:
    """Name of each field of a class, whether it is left out where it is as usual, and what is."""
    if cls not in _FIELDS:
        fields = dataclasses.fields(cls)
        _FIELDS[cls] = tuple((f.name, bool(f.metadata.get("left_out")), f.default) for f in fields)
    return _FIELDS[cls]


def _usual(value: object, default: object) -> bool:
    empty = isinstance(value, (list, tuple, dict)) and not value
    return empty or value is default or (isinstance(value, (int, float)) and value == default)


def read_event(entry: Entry) -> Event:
    """The event that an entry of the log describes; unknown keys are ignored.

    Raises:
        KeyError: an unknown kind.
        TypeError, ValueError, AttributeError: a malformed body.
    """
    cls = KINDS[entry.kind]
    body = _known(cls, entry.body)
    if "results" in body:
        body["results"] = Results(**_known(Results, body["results"]))
    return cls(**body)


def _known(cls: type[Any], body: dict[str, Any]) -> dict[str, Any]:
    return {name: body[name] for name, _, _ in _fields(cls) if name in body}
