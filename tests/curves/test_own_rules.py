"""Rules of the user's own, of which nothing is lost without a word."""

from __future__ import annotations

import jax.numpy as jnp
import pytest

import jhpo

SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 0.5)})


class Descent:
    steps = 20

    def init(self, hp, key):
        return jnp.float32(4.0)

    def step(self, hp, w, t):
        return w - hp["lr"] * w

    def evaluate(self, hp, w):
        return w**2


class Never(jhpo.EarlyStop):
    def __init__(self, checks, answers=None) -> None:
        self.at, self.answers = checks, answers

    def checks(self, steps):
        return self.at

    def stopped(self, curves, running, since):
        return [False] * len(running) if self.answers is None else self.answers


def search(rule):
    return jhpo.minimize(Descent(), SPACE, jhpo.RandomSearch(4), budget=4, early_stop=rule)


@pytest.mark.parametrize("checks", [[5], [5, 3, 20], [0, 20], [], [5, 40], [5, 5, 20], [5.0, 20], None])
def test_checks_have_to_lead_to_the_end(checks) -> None:
    with pytest.raises(
        jhpo.InvalidArgument, match=r"early_stop: expected a rule whose checks\(20\) are steps .* to 20"
    ):
        search(Never(checks))


def test_members_are_trained_to_the_end_of_the_last_check() -> None:
    whole = jhpo.minimize(Descent(), SPACE, jhpo.RandomSearch(4), budget=4)
    for checks in (range(5, 21, 5), (7, 20), [20]):
        assert search(Never(checks)).value == pytest.approx(whole.value, rel=1e-5)


def test_there_is_an_answer_for_each_trial() -> None:
    with pytest.raises(jhpo.InvalidArgument, match=r"stopped\(\) has 4 answers, one for each trial, got \[True\]"):
        search(Never([10, 20], [True]))
