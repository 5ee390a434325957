"""How two spaces differ, in words."""

from __future__ import annotations

from jhpo import Choice, Float, Int, Space


def test_differences_are_written_as_declarations_are() -> None:
    """They were as in the file: ``choices was {'tuple': ['sgd', 'adam']}``."""
    names = ["sgd", "adam", (3, 4)]
    x = Float(0.0, 1.0, when={"m": "adam"}, prior=(0.5, 0.1))
    old = Space({"m": Choice(names[:2]), "x": x, "f": Choice([max])})
    x = Float(0.0, 1.0, when={"m": names[1:]}, shape=2, default=0.3)
    new = Space({"m": Choice(names), "x": x, "f": Choice([max, min])})
    assert old.diff(new) == [
        "f: choices was [builtins.max], now [builtins.max, builtins.min]",
        "m: choices was ['sgd', 'adam'], now ['sgd', 'adam', (3, 4)]",
        "x: default was not given, now 0.3",
        "x: prior was (0.5, 0.1), now not given",
        "x: shape was not given, now (2,)",
        "x: when was {'m': 'adam'}, now {'m': ['adam', (3, 4)]}",
    ]
    assert "y: type was Int, now Float" in Space({"y": Int(1, 2)}).diff(Space({"y": Float(1.0, 2.0)}))
