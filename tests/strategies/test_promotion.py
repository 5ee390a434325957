"""Promotion of paused members: the rule in plain Python, the points of new members, and members that fail."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import ASHA, Float, FreezeThaw, InvalidArgument, Space
from jhpo.evaluation.thawing import rows_program
from jhpo.strategies.base import Evaluation
from jhpo.strategies.promotion import Promotion
from tests.study.paused import Descent

SPACE = Space({"x": Float(0.0, 1.0), "bad": Float(0.0, 1.0)})


class Reference:
    """Asynchronous successive halving as Li et al. (2020) have it, one free place after the other, in plain Python."""

    def __init__(self, eta: int, rungs: list[int]) -> None:
        self.eta, self.rungs = eta, rungs
        self.started = 0
        self.done: dict[int, int] = {}  # parts, by member
        self.rung: dict[int, int] = {}
        self.value: dict[tuple[int, int], float] = {}  # by member and rung; infinite where it failed on its way there

    def job(self) -> int:
        """The member that a free place takes."""
        for k in reversed(range(len(self.rungs) - 1)):
            been = sorted((v, m) for (m, at), v in self.value.items() if at == k)
            best = [m for v, m in been[: len(been) // self.eta] if np.isfinite(v)]
            promotable = [m for m in best if self.rung[m] == k]
            if promotable:
                self.rung[promotable[0]] = k + 1
                return promotable[0]
        member = self.started
        self.started, self.done[member], self.rung[member] = member + 1, 0, 0
        return member

    def tell(self, member: int, value: float) -> bool:
        """A part was trained; whether the place is free."""
        self.done[member] += 1
        ends = self.done[member] == self.rungs[self.rung[member]] or not np.isfinite(value)
        if ends:
            self.value[member, self.rung[member]] = value if np.isfinite(value) else np.inf
        return ends


def simulated(strategy: Promotion, generations: int, seed: int) -> list[tuple[list[int], list[int]]]:
    """Members and parts before each generation, of values that cross, are equal at times, and fail."""
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    state = strategy.init(SPACE, jax.random.key(seed))
    out = []
    for g in range(generations):
        units, state = ask(state, jax.random.fold_in(jax.random.key(seed), g))
        members, parts = np.asarray(state.member), np.asarray(strategy.trained(state))
        out.append((members.tolist(), parts.tolist()))
        state = tell(state, units, Evaluation(jnp.asarray([value(m, p + 1) for m, p in zip(members, parts)])))
    return out


def value(member: int, part: int) -> float:
    """Rounded, so that some are equal; one in seven fails at some part."""
    draw = np.random.default_rng([member, part]).uniform()
    return np.nan if draw < 0.04 else round(np.sin(member) + draw, 1)


@pytest.mark.parametrize(("batch", "eta", "steps"), [(5, 3, 27), (1, 2, 9), (16, 4, 20)])
def test_the_rule_is_that_of_a_plain_loop(batch: int, eta: int, steps: int) -> None:
    strategy = Promotion(batch, eta, 1, None, 1000, steps)
    reference = Reference(eta, strategy.rungs_at.tolist())
    rows: list[int | None] = [None] * batch
    found = simulated(strategy, 60, 0)
    for members, parts in found:
        rows = [reference.job() if row is None else row for row in rows]
        assert members == rows and parts == [reference.done[m] for m in rows]  # always full
        rows = [None if reference.tell(m, value(m, reference.done[m] + 1)) else m for m in rows]
    reached = [reference.rung[m] for m in reference.rung]
    assert max(reached) == len(strategy.rungs_at) - 1 and any(v == np.inf for v in reference.value.values())


def test_room_that_grows_changes_nothing() -> None:
    small, large = Promotion(4, 2, 1, None, None, 6), Promotion(4, 2, 1, None, 128, 6)
    key = jax.random.key(1)
    a, b = small.init(SPACE, key), large.init(SPACE, key)
    assert len(a.done) == 64
    for g in range(40):
        while small.full(a):
            a = small.grow(a)
        (units, a), (others, b) = (s.ask(x, jax.random.fold_in(key, g)) for s, x in ((small, a), (large, b)))
        np.testing.assert_array_equal(units, others)
        np.testing.assert_array_equal(a.member, b.member)
        told = Evaluation(units[:, 0])
        a, b = small.tell(a, units, told), large.tell(b, others, told)
    assert int(a.started) == int(b.started) > 64 and len(a.done) == 128


def test_new_members_take_the_points_of_the_proposer_in_turn() -> None:
    """A proposer of three points for four rows: the fourth is random at first, and later none is lost."""
    sobol = jhpo.SobolSearch(3)
    strategy = Promotion(4, 3, 1, sobol, 64, 2)
    key = jax.random.key(2)
    state, began, asked = strategy.init(SPACE, key), [], []
    chooses = type(strategy).proposed
    for g in range(5):
        each = jax.random.fold_in(key, g)
        if int(state.queue.waiting) < 4:
            asked += np.asarray(chooses(strategy, state, jax.random.split(each)[1])[0]).tolist()
        units, state = strategy.ask(state, each)
        state = strategy.tell(state, units, Evaluation(jnp.full((4,), jnp.nan)))  # all places are free again
        began += np.asarray(units).tolist()
    taken = [row for row in began if row in asked]
    assert len(began) == 20 and taken == asked[: len(taken)] and len(taken) == 15


def test_the_proposer_hears_of_all_members_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[str, np.ndarray] = {}

    def absorb(self, state, units, result):
        heard.update(value=result.value, mask=result.mask, variance=result.variance)
        return state

    def expect(self, state, units, mask):
        heard.update(pending=mask)
        return state

    monkeypatch.setattr(jhpo.SobolSearch, "absorb", absorb)
    monkeypatch.setattr(jhpo.SobolSearch, "expect", expect)
    strategy = Promotion(2, 2, 1, jhpo.SobolSearch(2), 8, 2)
    state = strategy.init(SPACE, jax.random.key(0))
    curve = jnp.full((8, 2), jnp.inf).at[:4].set(jnp.array([[4.0, 3.0], [5.0, jnp.inf], [6.0, jnp.inf], [7.0, 5.0]]))
    state = state._replace(value=curve, started=jnp.int32(5), lost=state.lost.at[2].set(True))
    strategy.proposed(state, jax.random.key(1))
    np.testing.assert_array_equal(heard["mask"], [True] * 4 + [False] * 4)
    np.testing.assert_array_equal(heard["pending"], [False] * 4 + [True] + [False] * 3)
    # what was gained: -1 and -2, in the median -1.5; a member that failed has no value
    np.testing.assert_allclose(heard["value"][:4], [3.0, 3.5, np.nan, 5.0])
    assert float(heard["variance"][0]) == 0.0 and float(heard["variance"][1]) > 0.0


@pytest.mark.parametrize("make", [lambda p: ASHA(batch=4, proposer=p), lambda p: FreezeThaw(4, interval=1, proposer=p)])
def test_a_proposer_that_does_not_look_at_values_goes_on(make) -> None:
    """A grid asked anew gives its first points again and again."""

    class Still(Descent):
        def step(self, hp, state, t):
            return state

    study = jhpo.Study(SPACE, make(jhpo.GridSearch(resolution=16, population=4)), seed=0)
    study.optimize(Still(2.0), budget=64)
    points = np.array([[trial.params["x"], trial.params["bad"]] for trial in study.trials])
    assert len(points) > 16 and len(np.unique(points.round(6), axis=0)) == len(points)


def test_bayesopt_proposes() -> None:
    """Members that a Gaussian process chooses end lower than random ones, on a training whose value is no secret."""

    class Known(Descent):
        def evaluate(self, hp, state):
            return (hp["x"] - 0.3) ** 2 + 0.0 * jnp.sum(state["w"])

        def step(self, hp, state, t):
            return state

    bayes = jhpo.BayesOpt(batch=2, candidates=64, starts=2, fit_iterations=8, search_iterations=8)
    asha = ASHA(eta=2, min_steps=2, batch=2, proposer=bayes)
    found = jhpo.minimize(Known(2.0), SPACE, asha, budget=24)
    random = jhpo.minimize(Known(2.0), SPACE, ASHA(eta=2, min_steps=2, batch=2), budget=24)
    assert found.value < random.value and len(found.history.value) == 24


@pytest.mark.parametrize("batch", [1, 4])
def test_one_program_whatever_happens(batch: int) -> None:
    before = len(rows_program)
    asha = ASHA(eta=2, min_steps=1, batch=batch)
    space = Space({"lr": Float(1e-3, 3.0, log=True), "bad": Float(0.0, 1.0)})
    result = jhpo.minimize(Descent(0.7), space, asha, budget=40, seed=batch)
    assert len(rows_program) == before + 1 and result.stopped == "evaluations: 40 of 40 done"
    assert len(result.history.value) == 40 and result.occupancy > 0.8
    assert batch > 1 or result.occupancy == 1.0
    # members that failed were left at once, and none of them was trained on
    failed = np.isnan(result.history.value)
    ends = np.rint(result.history.horizon * 8)
    assert failed.any() and (ends[failed] == 4).all() and np.isfinite(result.value)
    assert result.curves.steps.tolist() == list(range(1, 9))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ASHA(batch=0), "batch: expected an integer >= 1"),
        (lambda: ASHA(batch=8, capacity=4), "capacity: expected at least the batch of 8"),
        (lambda: ASHA(capacity=4), "capacity: expected at least the batch of None"),
        (lambda: ASHA(batch=2, proposer="greedy"), "proposer: expected a strategy that can be asked"),
        (lambda: jhpo.minimize(Descent(1.0), SPACE, ASHA(batch=2, min_steps=8)), "min_steps: expected less than the 8"),
        (lambda: jhpo.minimize(lambda hp: hp["x"], SPACE, ASHA(batch=2)), "objective: expected a trainable"),
        (
            lambda: jhpo.minimize(Descent(1.0), SPACE, ASHA(batch=2), early_stop="median"),
            "early_stop: expected None beside ASHA",
        ),
    ],
)
def test_bad_input_says_what_to_change(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()
