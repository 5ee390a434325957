"""The ways to begin a search take the same arguments: by the same names, of the same types, with the same defaults."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest

import jhpo
from jhpo.search.options import SearchOptions

pytestmark = pytest.mark.quick


def arguments(function: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    return dict(inspect.signature(function).parameters)


def test_maximize_takes_what_minimize_takes() -> None:
    ours = arguments(jhpo.minimize)
    del ours["directions"]  # they say of each value what is to be done with it
    assert list(arguments(jhpo.maximize).values()) == list(ours.values())


@pytest.mark.parametrize(
    "other", [jhpo.Study, jhpo.Study.optimize, jhpo.run, jhpo.Tuning], ids=lambda f: f.__qualname__
)
def test_arguments_of_one_name_are_the_same(other: Callable[..., Any]) -> None:
    ours, theirs = arguments(jhpo.minimize), arguments(other)
    # `run` embeds a search in a program, which says all of these; what a Tuning or a study leaves open is said later
    shared = (ours.keys() & theirs.keys()) - {"strategy", "objective", "key", "generations", "budget"}
    assert len(shared) >= 5
    for name in sorted(shared):
        assert (theirs[name].annotation, theirs[name].default) == (ours[name].annotation, ours[name].default), name


def test_options_of_a_tunings_run_are_those_of_minimize() -> None:
    ours = {name: parameter.annotation for name, parameter in arguments(jhpo.minimize).items()}
    for given_by_the_tuning in ("objective", "space", "strategy", "directions"):
        del ours[given_by_the_tuning]
    assert {name: hint.__forward_arg__ for name, hint in SearchOptions.__annotations__.items()} == ours
