"""Plans of successive halving and Hyperband: how many members are trained to which step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jhpo.errors import InvalidArgument, invalid
from jhpo.strategies.base import Rung

_USUAL = 3  # rungs before the last one where nothing is said about the least training

Bracket = tuple[Rung, ...]


class Plan(NamedTuple):
    """The rungs of all brackets as constants of a program."""

    size: np.ndarray  # int32[g]
    begins: np.ndarray  # bool[g], new members are begun
    ends: np.ndarray  # bool[g], the last rung of its bracket
    rung: np.ndarray  # int32[g], number within the bracket
    among: np.ndarray  # int32[g], of so many members of its bracket one is trained there


def rung_steps(steps: int, eta: int, min_steps: int | None, population: int) -> tuple[int, ...]:
    """Steps at which members are compared: the whole training, and ``eta`` times less as often as ``min_steps`` allows.

    Raises:
      InvalidArgument: there is no rung before the end of the training.

    >>> rung_steps(100, 3, 4, 81), rung_steps(100, 3, None, 9)
    ((4, 12, 34, 100), (12, 34, 100))
    """
    last = -(-steps // eta)
    if last == steps or (min_steps is not None and min_steps > last):
        raise invalid(
            "min_steps", f"at most {last}, a rung before the end of a training of {steps} steps (eta={eta})", min_steps
        )
    stops = [steps]
    while -(-steps // eta ** len(stops)) >= (min_steps or 1) and -(-steps // eta ** len(stops)) < stops[0]:
        if min_steps is None and (len(stops) > _USUAL or population < eta ** len(stops)):
            break
        stops.insert(0, -(-steps // eta ** len(stops)))
    return tuple(stops)


def bracket(size: int, stops: tuple[int, ...], eta: int) -> Bracket:
    """One bracket: ``size`` members begin, and ``1 / eta`` of them, rounded down, go on after each rung.

    Raises:
      InvalidArgument: nobody is left at the end.

    >>> [tuple(rung) for rung in bracket(27, (4, 12, 34), 3)]
    [(27, 0, 4), (9, 4, 12), (3, 12, 34)]
    """
    sizes = [size // eta**k for k in range(len(stops))]
    if not sizes[-1]:
        least = eta ** (len(stops) - 1)
        raise InvalidArgument(
            f"population: expected at least {least} members for rungs at steps {', '.join(map(str, stops))} with "
            f"eta={eta}, got {size}: none would be trained to the end; raise population or min_steps"
        )
    return tuple(Rung(*rung) for rung in zip(sizes, (0, *stops[:-1]), stops))


def hyperband(size: int, stops: tuple[int, ...], eta: int) -> tuple[Bracket, ...]:
    """The brackets of Hyperband: from the boldest, of ``size`` members, to one that stops nobody.

    A bracket that begins at rung k, of K + 1, has ``size * (K + 1) / (K - k + 1) / eta^k`` members, rounded up, so that
    each costs about as many steps (Li et al. 2018, algorithm 1).

    >>> [[rung.size for rung in one] for one in hyperband(27, (4, 12, 34, 100), 3)]
    [[27, 9, 3, 1], [12, 4, 1], [6, 2], [4]]
    """
    last = len(stops) - 1
    return tuple(bracket(-(-size * (last + 1) // ((last - k + 1) * eta**k)), stops[k:], eta) for k in range(last + 1))


def plan_of(brackets: tuple[Bracket, ...], eta: int) -> Plan:
    """The rungs of some brackets, one after the other, as constants of a program."""
    return Plan(
        np.asarray([r.size for b in brackets for r in b], np.int32),
        np.asarray([k == 0 for b in brackets for k in range(len(b))]),
        np.asarray([k == len(b) - 1 for b in brackets for k in range(len(b))]),
        np.asarray([k for b in brackets for k in range(len(b))], np.int32),
        np.asarray([eta**k for b in brackets for k in range(len(b))], np.int32),
    )
