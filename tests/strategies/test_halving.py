"""Successive halving and Hyperband: the rungs, who survives, what a proposer learns, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Evaluation, Float, Hyperband, InvalidArgument, Space, SuccessiveHalving
from jhpo.strategies import strategy_from_text
from jhpo.strategies.brackets import hyperband, rung_steps
from jhpo.strategies.halving import finals

SPACE = Space({"x": Float(0.0, 1.0)})
KEY = jax.random.key(0)


def told(values, mask=None) -> Evaluation:
    mask = np.ones(len(values), bool) if mask is None else np.asarray(mask)
    return Evaluation(jnp.asarray(values, jnp.float32), mask=jnp.asarray(mask))


@pytest.mark.quick
def test_rungs_are_those_of_the_papers() -> None:
    assert rung_steps(81, 3, 1, 81) == (1, 3, 9, 27, 81)
    # table 1 of Li et al. (2018): R = 81, eta = 3; its counts are rounded down, ours up, where they do not divide
    sizes = [[(rung.size, rung.stop) for rung in one] for one in hyperband(81, (1, 3, 9, 27, 81), 3)]
    assert sizes[0] == [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]
    assert sizes[1] == [(34, 3), (11, 9), (3, 27), (1, 81)]
    assert sizes[2:] == [[(15, 9), (5, 27), (1, 81)], [(8, 27), (2, 81)], [(5, 81)]]
    assert rung_steps(200, 2, 60, 16) == (100, 200) and rung_steps(10, 3, None, 4) == (4, 10)


@pytest.mark.quick
def test_the_best_are_continued_and_empty_rows_come_last() -> None:
    strategy = SuccessiveHalving(6, eta=2, min_steps=1, max_steps=4)
    _, state = strategy.ask(strategy.init(SPACE, KEY), KEY)
    units = jnp.linspace(0.0, 1.0, 6)[:, None]
    state = strategy.tell(state, units, told([3.0, np.nan, 1.0, 2.0, 0.5, np.inf]))
    asked, state = strategy.ask(state, KEY)
    assert strategy.parents(state).tolist() == [4, 2, 3, -1, -1, -1]
    np.testing.assert_array_equal(asked[:3], units[jnp.array([4, 2, 3])])
    state = strategy.tell(state, asked, told([9.0, 9.5, 7.0, 0.0, 0.0, 0.0], [True] * 3 + [False] * 3))
    asked, state = strategy.ask(state, KEY)
    assert strategy.parents(state).tolist() == [2, -1, -1, -1, -1, -1]
    np.testing.assert_array_equal(asked[0], units[3])
    state = strategy.tell(state, asked, told([5.0] * 6, [True] + [False] * 5))
    other, state = strategy.ask(state, jax.random.key(1))  # the next bracket
    assert (strategy.parents(state) == -1).all() and len(np.unique(other)) == 6


def test_failures_leave_their_places_to_the_next_best_or_to_nobody() -> None:
    strategy = SuccessiveHalving(6, eta=2, min_steps=1, max_steps=4)
    _, state = strategy.ask(strategy.init(SPACE, KEY), KEY)
    units = jnp.linspace(0.0, 1.0, 6)[:, None]
    state = strategy.tell(state, units, told([np.nan] * 4 + [2.0, 1.0]))
    _, state = strategy.ask(state, KEY)
    assert strategy.parents(state).tolist() == [5, 4, -1, -1, -1, -1]
    state = strategy.tell(state, units, told([np.nan] * 6, [True] * 2 + [False] * 4))
    _, state = strategy.ask(state, KEY)
    assert (strategy.parents(state) == -1).all()


def test_a_bracket_that_the_budget_cut_short_halves_what_there_is() -> None:
    strategy = SuccessiveHalving(8, eta=2, min_steps=1, max_steps=4)
    units, state = strategy.ask(strategy.init(SPACE, KEY), KEY)
    state = strategy.tell(state, units, told([4.0, 3.0, 2.0, 1.0] + [np.nan] * 4, [True] * 4 + [False] * 4))
    _, state = strategy.ask(state, KEY)
    assert strategy.parents(state).tolist() == [3, 2, -1, -1, -1, -1, -1, -1]


@pytest.mark.quick
@pytest.mark.parametrize("population", [90_000, 200_000])
def test_a_population_whose_square_no_int32_holds_is_halved_like_any_other(population: int) -> None:
    strategy = SuccessiveHalving(population, min_steps=3, max_steps=9)
    units, state = strategy.ask(strategy.init(SPACE, KEY), KEY)
    _, state = strategy.ask(strategy.tell(state, units, told(units[:, 0])), KEY)
    assert int((strategy.parents(state) >= 0).sum()) == population // 3


def test_infeasible_members_come_after_feasible_ones() -> None:
    strategy = SuccessiveHalving(4, eta=2, min_steps=1, max_steps=2)
    units, state = strategy.ask(strategy.init(SPACE, KEY), KEY)
    result = told([1.0, 2.0, 3.0, 4.0])._replace(constraint=jnp.array([[-1.0], [0.0], [-2.0], [1.0]]))
    asked, state = strategy.ask(strategy.tell(state, units, result), KEY)
    assert strategy.parents(state).tolist() == [1, 3, -1, -1]
    # a proposer hears of them as of failures, and of one that comes to be feasible by its value
    np.testing.assert_array_equal(finals(state.curve, jnp.int32(0))[0], [np.nan, 2.0, np.nan, 4.0])
    result = told([1.5, 2.5, 0.0, 0.0], [True, True, False, False])
    state = strategy.tell(state, asked, result._replace(constraint=jnp.array([[-1.0], [0.0], [0.0], [0.0]])))
    np.testing.assert_array_equal(finals(state.curve, jnp.int32(1))[0], [np.nan, np.nan, np.nan, 2.5])


def test_a_proposer_is_told_of_what_its_points_would_have_reached() -> None:
    seen = []

    @jhpo.strategy
    class Listening(jhpo.RandomSearch):
        steady = True

        def tell(self, state, units, result):
            jax.debug.callback(lambda *x: seen.append([np.asarray(y) for y in x]), units, result.value, result.mask)
            return state

    strategy = SuccessiveHalving(4, eta=2, min_steps=1, max_steps=2, proposer=Listening(3))
    units, state = strategy.ask(strategy.init(SPACE, KEY), KEY)
    state = strategy.tell(state, units, told([4.0, np.nan, 1.0, 2.0]))
    assert seen == []
    asked, state = strategy.ask(state, KEY)
    strategy.tell(state, asked, told([0.5, 1.0, 0.0, 0.0], [True, True, False, False]))
    jax.effects_barrier()
    ((points, values, mask),) = seen
    np.testing.assert_array_equal(points, units[:3])
    # member 2 went from 1 to .5, member 3 from 2 to 1: the median gain of .75 is what member 0 is granted
    np.testing.assert_array_equal(values, [3.25, np.nan, 0.5])
    assert mask.all()


def test_a_member_that_fails_late_has_failed() -> None:
    curve = jnp.array([[5.0, 4.0], [jnp.inf, jnp.inf], [6.0, jnp.inf]])
    value, variance = finals(curve, jnp.int32(1))
    np.testing.assert_array_equal(value, [4.0, np.nan, 5.0])
    np.testing.assert_array_equal(variance[jnp.array([0, 2])], [0.0, 1.0])  # one gain of 1 is as likely none


def test_what_a_proposer_is_told_is_as_uncertain_as_gains_differ() -> None:
    curve = jnp.array([[9.0, 5.0], [8.0, 6.0], [7.0, 6.5], [6.0, jnp.inf]])
    value, variance = finals(curve, jnp.int32(1))
    assert value[3] == 4.0  # gains of 4, 2 and .5, and none
    np.testing.assert_allclose(variance, [0.0, 0.0, 0.0, (2.0**2 + 0.0 + 1.5**2 + 2.0**2) / 3], rtol=1e-6)


@pytest.mark.slow
def test_points_that_a_bracket_has_no_room_for_are_not_awaited() -> None:
    strategy = Hyperband(4, eta=2, min_steps=1, max_steps=2, proposer=jhpo.BayesOpt(batch=4)).prepare(64)
    state = strategy.init(SPACE, KEY)  # brackets of 4 and 4 members; the budget leaves 2 of them
    for mask in ([True, True, False, False], [True, False, False, False]):
        units, state = strategy.ask(state, jax.random.fold_in(KEY, state.turn))
        assert (state.proposer.history.status == 1).sum() == 4
        state = strategy.tell(state, units, told(units[:, 0], mask))
    assert np.bincount(state.proposer.history.status, minlength=4)[1:].tolist() == [0, 2, 0]
    assert int(state.proposer.used) == 2


@pytest.mark.quick
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SuccessiveHalving(0), "population: expected an integer >= 1, got 0"),
        (lambda: SuccessiveHalving(9, eta=1), "eta: expected an integer >= 2, got 1"),
        (lambda: SuccessiveHalving(9, eta=2.5), "eta: expected an integer >= 2, got 2.5"),
        (lambda: SuccessiveHalving(9, min_steps=0), "min_steps: expected an integer >= 1"),
        (lambda: SuccessiveHalving(9, min_steps=50).lasting(20), "min_steps: expected at most the 20 steps"),
        (lambda: SuccessiveHalving(9, min_steps=10).lasting(20), "min_steps: expected at most 7, a rung before"),
        (lambda: SuccessiveHalving(9, max_steps=30).lasting(20), "max_steps: expected at most the 20 steps"),
        (lambda: SuccessiveHalving(8, min_steps=1).lasting(27), "population: expected at least 27 .* none would be"),
        (lambda: SuccessiveHalving(9).init(SPACE, KEY), "max_steps: expected the length of the training"),
        (lambda: SuccessiveHalving(9, proposer=3), "proposer: expected an instance of a jhpo strategy"),
        (lambda: SuccessiveHalving(9, proposer=jhpo.PSO(16)), "proposer: expected one of at most 9 points"),
        (lambda: SuccessiveHalving(9, proposer=Hyperband(9)), "proposer: expected .* pauses no members"),
        (lambda: SuccessiveHalving(9, proposer=jhpo.HyperGradient(2)), "proposer: .* needs no gradients"),
        (lambda: Hyperband(1, min_steps=1).lasting(9), "population: expected at least 9 members"),
    ],
)
def test_bad_input_says_what_to_change(make, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()


def test_names_with_options() -> None:
    made = strategy_from_text("successive-halving(population=9, eta=2, proposer='random(population=9)')")
    assert made == SuccessiveHalving(9, eta=2, proposer=jhpo.RandomSearch(9))
    with pytest.raises(jhpo.UnknownStrategy):
        strategy_from_text("successive-thirding(population=9)")


@pytest.mark.quick
def test_a_proposer_of_reports_is_told_how_many_constraints_there_are() -> None:
    asha = jhpo.ASHA(min_steps=1, proposer=jhpo.BayesOpt())
    assert asha.measuring(2).proposer.constraints == 2 and asha.measuring(0) is asha
    paused = jhpo.ASHA(min_steps=1, proposer=jhpo.BayesOpt(), batch=2)
    assert paused.measuring(2) is paused
