"""Freeze-thaw: when new members begin, where they come from, and who is trained on."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Float, FreezeThaw, InvalidArgument, Space
from jhpo.strategies.base import Evaluation
from jhpo.strategies.queue import Queue, taken

SPACE = Space({"x": Float(0.0, 1.0), "bad": Float(0.0, 1.0)})
PARTS = 5


def curve(units: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Power laws that end at the distance from 0.3; where the second coordinate is beyond 0.9 it fails at once."""
    end = np.abs(units[:, 0] - 0.3) + (PARTS / part - 1.0) / 4
    return np.where(units[:, 1] > 0.9, np.nan, end)


def simulated(strategy: FreezeThaw, generations: int, seed: int = 0):
    """For each generation the members, the parts that they were trained before, and the state before the results."""
    ask, tell = jax.jit(strategy.ask), jax.jit(strategy.tell)
    state = strategy.init(SPACE, jax.random.key(seed))
    for g in range(generations):
        units, state = ask(state, jax.random.fold_in(jax.random.key(seed), g))
        member, part = np.asarray(state.member), np.asarray(strategy.trained(state))
        yield member, part, state
        result = Evaluation(jnp.asarray(curve(np.asarray(units), part + 1)), mask=jnp.asarray(member >= 0))
        state = tell(state, units, result)


@pytest.mark.parametrize("proposer", [None, "sobol(population=3)"])
def test_members_begin_while_they_can_be_trained_to_the_end(proposer) -> None:
    strategy = FreezeThaw(2, interval=1, capacity=40, effort=0.5, candidates=8, max_steps=PARTS, proposer=proposer)
    assert strategy.most == 100
    started, spent = [], []
    for member, part, state in simulated(strategy, 50):
        there = member[member >= 0]
        assert len(set(there.tolist())) == len(there) and (part < PARTS).all()
        assert not np.asarray(state.lost)[there].any()
        started.append(int(state.started))
        spent.append(int(state.done.sum()))
    # eight at first, then one in two rows, but no more than the root of what was spent of the 90 parts that are there
    # before the last five generations
    begun = 8
    for found, before in list(zip(started, spent))[4:]:
        begun += min(8 + int(32 * np.sqrt(min(before / 90, 1.0))) - begun, 1)
        assert found == begun
    assert started[-1] == 40 and spent[started.index(40)] <= 92
    assert (np.asarray(state.done) == PARTS).sum() >= 8 and np.asarray(state.lost).any()


@pytest.mark.parametrize("capacity", [6, 20])
def test_however_small_the_budget_members_are_trained_to_the_end(capacity: int) -> None:
    """There is room for fewer than the first members, or steps for few of many."""
    strategy = FreezeThaw(
        4, interval=1, capacity=capacity, effort=0.1, candidates=8, max_steps=PARTS, proposer=None
    )  # fmt: skip
    *_, (member, part, state) = simulated(strategy, strategy.most // strategy.batch, seed=1)
    ends = (np.asarray(state.done) == PARTS).sum() + (part[member >= 0] == PARTS - 1).sum()
    assert int(state.started) == min(capacity, 9) and ends >= 3
    assert FreezeThaw(capacity=40, max_steps=20, interval=1).most == 8 * (2 + 20)


def test_rows_for_which_nobody_waits_begin_members_before_their_time() -> None:
    """All fail: no row is idle while there is room, and all are afterwards."""
    strategy = FreezeThaw(4, interval=1, capacity=18, effort=1.0, candidates=8, max_steps=PARTS, proposer=None)
    state, found = strategy.init(SPACE, jax.random.key(0)), []
    for g in range(6):
        units, state = strategy.ask(state, jax.random.key(g))
        found.append(np.asarray(state.member).tolist())
        state = strategy.tell(state, units, Evaluation(jnp.full((4,), jnp.nan), mask=state.member >= 0))
    assert [sorted(m for m in row if m >= 0) for row in found] == [
        [0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11], [12, 13, 14, 15], [16, 17], [],
    ]  # fmt: skip


def test_the_proposer_hears_what_curves_foresee(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: dict[str, np.ndarray] = {}

    def absorb(self, state, units, result):
        told = {"value": result.value, "mask": result.mask, "variance": result.variance}
        jax.debug.callback(lambda **told: heard.update(told), **told)
        return state

    monkeypatch.setattr(jhpo.SobolSearch, "absorb", absorb)
    strategy = FreezeThaw(
        1, interval=1, capacity=6, effort=0.5, initial=2, max_steps=PARTS, proposer=jhpo.SobolSearch(2)
    )
    state = strategy.init(SPACE, jax.random.key(0))
    units = jnp.asarray(np.random.default_rng(0).uniform(size=(6, 2)), state.units.dtype)
    done = jnp.array([5, 3, 1, 2, 0, 0], jnp.int32)
    seen = np.arange(PARTS)[None, :] < np.asarray(done)[:, None]
    values = np.where(seen, 1.0 / np.arange(1, 6) + np.arange(6)[:, None] / 4, np.inf)
    values[3, 1] = np.inf
    state = state._replace(
        units=units, curve=jnp.asarray(values, units.dtype), done=done, started=jnp.int32(4),
        lost=state.lost.at[3].set(True),
    )  # fmt: skip
    _, after = strategy.ask(state, jax.random.key(1))
    jax.effects_barrier()
    assert after.member.tolist() == [4]  # one is due, so the proposer was asked
    np.testing.assert_array_equal(heard["mask"], [True] * 4 + [False] * 2)
    value, variance = np.asarray(heard["value"]), np.asarray(heard["variance"])
    assert np.isnan(value[3]) and value[0] < value[1] < value[2] and variance[0] == 0 < variance[1] < variance[2]


def test_points_are_taken_in_turn() -> None:
    """A list in plain Python: none is lost, and random ones fill up only where the proposer's do not suffice."""
    draw, queue = np.random.default_rng(0), Queue(jnp.zeros((3, 1)), jnp.int32(0))
    waiting: list[float] = []
    for call in range(40):
        count, proposed = int(draw.integers(0, 5)), 10.0 * call + np.arange(3.0)
        new = jnp.asarray(proposed[:, None], jnp.float32), None
        points, queue = taken(queue, jnp.int32(count), jnp.full((4, 1), -1.0), functools.partial(tuple, new))
        if len(waiting) < count:
            waiting += proposed.tolist()
        expected, waiting = (waiting + [-1.0] * 4)[:count], waiting[count:]
        assert np.asarray(points)[:count, 0].tolist() == expected
        assert np.asarray(queue.units)[: int(queue.waiting), 0].tolist() == waiting


@pytest.mark.slow
def test_bayesopt_proposes_what_is_better_and_nothing_twice() -> None:
    bayes = jhpo.BayesOpt(batch=4, candidates=64, starts=2, fit_iterations=8, search_iterations=8)
    begun = {}
    for name, proposer in (("model", bayes), ("random", "random(population=4)")):
        strategy = FreezeThaw(4, interval=1, capacity=48, effort=0.5, max_steps=PARTS, proposer=proposer)
        *_, (_, _, state) = simulated(strategy, 30)
        begun[name] = np.asarray(state.units)[8 : int(state.started)]
    far = {name: np.abs(units[:, 0] - 0.3) for name, units in begun.items()}
    assert np.median(far["model"]) < 0.5 * np.median(far["random"])
    apart = np.abs(begun["model"][:, None] - begun["model"][None]).max(axis=-1)[np.triu_indices(len(begun["model"]), 1)]
    assert apart.min() > 1e-4


@pytest.mark.parametrize("proposer", ["greedy", "hypergradient", 3])
def test_proposers_that_do_not_fit(proposer) -> None:
    with pytest.raises(InvalidArgument, match="proposer: expected"):
        FreezeThaw(proposer=proposer)


def test_the_default_proposer_follows_the_batch() -> None:
    assert [FreezeThaw(n).proposer.population for n in (1, 8, 64)] == [4, 4, 32]
    assert FreezeThaw(proposer=None).proposer is None and FreezeThaw(64) == FreezeThaw(64)
