"""Population-based training: who takes over from whom, what is tried, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Choice, Evaluation, Float, Int, InvalidArgument, Ordinal, PopulationBasedTraining, Space
from jhpo.strategies import bandit, strategy_from_text
from jhpo.strategies.exploring import perturbed, truncation
from jhpo.strategies.migrating import migration

SPACE = Space({"x": Float(0.0, 1.0)})
KEY = jax.random.key(0)


def by_hand(value, violation, there, fraction):
    """Sets of parents that each row may have: the definition of truncation selection, in a loop."""
    n, members = len(value), np.flatnonzero(there)
    alive = [i for i in members if np.isfinite(value[i])]
    if not alive:
        return [{-1}] * n
    ranked = sorted(alive, key=lambda i: (violation[i], value[i]))
    share = min(max(int(fraction * len(members) + 1e-6), 1), len(members) // 2)
    best = set(ranked[: max(share, 1)])
    failed = [i for i in members if i not in alive]
    worst = (ranked + failed)[len(members) - share :]
    out = []
    for i in range(n):
        out.append({-1} if not there[i] else best if i in worst or i in failed else {i})
    return out


@pytest.mark.quick
def test_truncation_selection_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(0)
    select = jax.jit(jax.vmap(truncation, in_axes=(0, None, None, None, None)))
    keys, seen = jax.random.split(KEY, 40), set()
    for case in range(24):
        value = rng.normal(size=10).round(2)
        value[rng.random(10) < [0.0, 0.3, 0.8, 1.0][case % 4]] = rng.choice([np.nan, np.inf])
        violation = np.where(rng.random(10) < 0.3, 1.0, 0.0) if case % 3 else np.zeros(10)
        there = np.arange(10) < (10 if case % 5 else 7)
        fraction = [0.1, 0.3, 0.5][case % 3]
        arrays = (jnp.asarray(value, jnp.float32), jnp.asarray(violation, jnp.float32), jnp.asarray(there))
        found = np.asarray(select(keys, *arrays, fraction))
        for row, allowed in enumerate(by_hand(value, violation, there, fraction)):
            assert set(found[:, row].tolist()) == allowed, (case, row)  # of 40 draws each parent is one, surely
            seen |= {len(allowed)}
    assert seen >= {1, 3, 5}


def migrated_by_hand(value, there, fraction, intervals, number):
    """MF-PBT's exchange in a loop: sets of parents and of givers that each row may have, and who explores."""
    groups, n = len(intervals), len(value)
    alive = [i for i in range(n) if there[i] and np.isfinite(value[i])]
    ranked = sorted(alive, key=lambda i: value[i])
    parents, givers, explores = [{i} if t else {-1} for i, t in enumerate(there)], [{i} for i in range(n)], set()
    for g in range(groups):
        members = [i for i in range(g, n, groups) if there[i]]
        good = [i for i in ranked if i in members]
        failed = [i for i in members if i not in good]
        share = min(max(int(fraction * len(members) + 1e-6), 1), len(members) // 3)
        line = good + failed
        active = number % intervals[g] == 0
        worst = set(failed) | (set(line[len(line) - share :]) if active else set())
        for i in worst:
            parents[i] = givers[i] = set(good[: max(share, 1)]) if good else {ranked[0]}
            explores.add(i)
        if not active:
            continue
        elsewhere = [i for i in ranked if i not in members]
        for i in line[len(line) - 2 * share : len(line) - share]:
            if i in worst or not elsewhere or value[elsewhere[0]] >= value[i]:
                continue
            migrant = elsewhere.pop(0)
            parents[i] = {migrant}
            givers[i] = {migrant} if intervals[migrant % groups] > intervals[g] else {good[0]}
    return parents, givers, explores


@pytest.mark.quick
def test_migration_between_sub_populations_is_that_of_a_loop() -> None:
    rng = np.random.default_rng(1)
    select = jax.jit(
        jax.vmap(lambda key, value, there, number: migration(
            key, value, jnp.zeros(24), there, 0.25, (1, 2, 5), number), in_axes=(0, None, None, None))
    )  # fmt: skip
    keys, kinds = jax.random.split(KEY, 40), set()
    for case, number in enumerate([1, 2, 5, 10, 10, 4, 10, 3]):
        value = rng.permutation(24).astype(np.float32)
        value += np.where(np.arange(24) % 3 == case % 3, 8, 0)  # sub-populations of unlike quality
        value[rng.random(24) < [0.0, 0.0, 0.0, 0.0, 0.3][case % 5]] = np.nan
        there = np.arange(24) < (24 if case != 3 else 20)
        found = [np.asarray(x) for x in select(keys, jnp.asarray(value), jnp.asarray(there), jnp.int32(number))]
        parents, givers, explores = migrated_by_hand(value, there, 0.25, (1, 2, 5), number)
        for row in range(24):
            assert set(found[0][:, row].tolist()) == parents[row], (case, row)
            if there[row]:
                assert set(found[1][:, row].tolist()) == givers[row], (case, row)
                assert (found[2][:, row] == (row in explores)).all()
                kinds.add((len(parents[row]), parents[row] == givers[row], row in explores))
    assert kinds >= {(1, True, False), (1, False, False), (2, True, True)}, "own, migrants of both kinds, copies"
    select_all = migration(KEY, jnp.full(6, jnp.nan), jnp.zeros(6), jnp.ones(6, bool), 0.3, (1, 2), jnp.int32(1))
    assert (select_all.parent == -1).all() and not select_all.explores.any()


MIXED = Space(
    {
        "lr": Float(1e-4, 1.0, log=True),
        "depth": Int(1, 4),
        "batch": Ordinal([8, 16, 32]),
        "opt": Choice(["sgd", "adam"]),
        "b2": Float(0.9, 0.999, when={"opt": "adam"}),
        "width": Choice([8, 64], static=True),
    },
    constraints=[lambda hp: 0.9 - hp["lr"]],
)
COLUMN = {name: where.start for name, where in zip(MIXED.names, MIXED.slices)}


@pytest.fixture(scope="module")
def moved():
    units = MIXED.sample_unit(KEY, 256)
    move = jax.jit(lambda resample: perturbed(MIXED, jax.random.key(1), units, 0.05, resample))
    return np.asarray(units), {share: np.asarray(move(share)) for share in (0.0, 1.0)}


def test_numbers_move_a_little_and_integers_by_a_value(moved) -> None:
    before, after = moved[0], moved[1][0.0]
    change = np.abs(after - before)
    assert 0.03 < change[:, COLUMN["lr"]].std() + change[:, COLUMN["lr"]].mean() < 0.12
    cells = np.asarray(MIXED.index(after)) - np.asarray(MIXED.index(before))
    for name in ("depth", "batch"):
        assert set(np.abs(cells[:, COLUMN[name]])) <= {0, 1}
        assert (cells[:, COLUMN[name]] == 0).mean() < 0.1  # those whose row would be infeasible stay
    assert (cells[:, COLUMN["opt"]] == 0).all()
    assert (after >= 0).all() and (after <= 1).all()


def test_categories_are_drawn_anew_and_static_values_stay(moved) -> None:
    before, after = moved[0], moved[1][1.0]
    opt = np.asarray(MIXED.index(after))[:, COLUMN["opt"]]
    assert 0.3 < (opt != np.asarray(MIXED.index(before))[:, COLUMN["opt"]]).mean() < 0.7
    for each in moved[1].values():
        np.testing.assert_array_equal(each[:, COLUMN["width"]], before[:, COLUMN["width"]])
        assert (np.asarray(MIXED.unit_constraint(each)) >= 0).all()


def test_what_becomes_active_is_drawn_anew() -> None:
    space = Space({"opt": Choice(["sgd", "adam"]), "b2": Float(0.0, 1.0, when={"opt": "adam"})})
    units = jnp.broadcast_to(jnp.asarray(space.encode({"opt": "sgd"}, space.default_unit()), jnp.float32), (128, 2))
    after = jax.jit(lambda units: perturbed(space, KEY, units, 0.0, 0.5))(units)
    active = np.asarray(space.active(after))[:, 0]
    values = np.asarray(after)[active, 0]
    assert active.any() and not active.all() and (values != 0.5).all() and values.std() > 0.2


def test_a_static_parameter_with_a_condition_keeps_its_value() -> None:
    space = Space({"opt": Choice(["a", "b"]), "n": Choice([1, 2], static=True, default=1, when={"opt": "b"})})
    units = space.sample_unit(KEY, 64)
    after = jax.jit(lambda units: perturbed(space, jax.random.key(3), units, 0.1, 1.0))(units)
    column = space.slices[space.names.index("n")].start
    same = space.index(space.canonical(after)) == space.index(space.canonical(units))
    assert same[:, column].all() and (after != units).any()


@pytest.mark.quick
def test_copies_take_over_and_the_others_stay() -> None:
    strategy = PopulationBasedTraining(4, exchange=1, max_steps=3, scale=0.01, resample=0.0)
    first, state = strategy.ask(strategy.init(SPACE, KEY), KEY)
    assert (strategy.parents(state) == -1).all() and len(np.unique(first)) == 4
    value = jnp.array([3.0, jnp.nan, 1.0, 9.0])
    state = strategy.tell(state, first, Evaluation(value))
    second, state = strategy.ask(state, KEY)
    assert strategy.parents(state).tolist() == [0, 2, 2, 3]  # the one that failed is the worst
    stay = np.array([0, 2, 3])
    np.testing.assert_array_equal(np.asarray(second)[stay], np.asarray(first)[stay])
    assert 0 < abs(float(second[1, 0] - first[2, 0])) < 0.06
    state = strategy.tell(state, second, Evaluation(jnp.full(4, jnp.nan)))
    _, state = strategy.ask(state, KEY)
    assert (strategy.parents(state) == -1).all()  # nobody is left to go on from
    state = strategy.tell(state, second, Evaluation(jnp.full(4, jnp.nan)))
    again, state = strategy.ask(state, jax.random.key(5))  # the next population
    assert (strategy.parents(state) == -1).all() and not np.isin(again, first).any()


def test_a_migrant_has_the_static_value_of_its_giver_whatever_its_rounding() -> None:
    space = Space({"x": Float(0.0, 1.0), "width": Choice([8, 16, 32], static=True)})
    strategy = PopulationBasedTraining(6, exchange=1, max_steps=4, intervals=(1, 2), fraction=1 / 3)
    _, state = strategy.ask(strategy.init(space, KEY), KEY)
    width, x = (space.slices[space.names.index(name)].start for name in ("width", "x"))
    units = jnp.tile(jnp.asarray(space.encode({"x": 0.5, "width": 16}), state.units.dtype), (6, 1))
    units = units.at[:, x].set(jnp.linspace(0.1, 0.9, 6))
    units = units.at[1, width].set(jnp.nextafter(units[1, width], jnp.ones((), units.dtype)))
    result = Evaluation(jnp.array([1.0, 5.0, 2.0, 6.0, 3.0, 7.0]))
    state = strategy.tell(state._replace(turn=jnp.int32(2)), units, result)
    after, state = strategy.ask(state, KEY)
    assert strategy.parents(state).tolist()[3] == 0  # which goes on with the hyperparameters of row 1
    np.testing.assert_array_equal(after[3], units[1])


@pytest.mark.quick
def test_rungs_are_exchanges() -> None:
    stops = lambda strategy, steps: [r.stop for r in strategy.rungs(steps)]  # noqa: E731
    assert stops(PopulationBasedTraining(8, exchange=30), 100) == [30, 60, 90, 100]
    assert stops(PopulationBasedTraining(8), 100) == list(range(5, 101, 5))
    assert stops(PopulationBasedTraining(8), 3) == [1, 2, 3]
    assert stops(PopulationBasedTraining(8, exchange=30, max_steps=60), 100) == [30, 60]
    assert all(rung.size == 8 for rung in PopulationBasedTraining(8).rungs(50))


@pytest.mark.quick
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PopulationBasedTraining(1), "population: expected an integer >= 2, got 1"),
        (lambda: PopulationBasedTraining(3), r"population: expected at least 4 members, as fraction=0.25 .* got 3"),
        (lambda: PopulationBasedTraining(9, fraction=0.1), "population: expected at least 10 members"),
        (lambda: PopulationBasedTraining(8, fraction=0.6), "fraction: expected a number in"),
        (lambda: PopulationBasedTraining(8, fraction=0.0), "fraction: expected a number in"),
        (lambda: PopulationBasedTraining(8, scale=-1.0), "scale: expected a number in"),
        (lambda: PopulationBasedTraining(8, resample=2.0), "resample: expected a number in"),
        (lambda: PopulationBasedTraining(8, explore="gp"), "explore: expected None or 'bandit', got 'gp'"),
        (lambda: PopulationBasedTraining(8, intervals=(1,)), "intervals: expected two or more ascending integers"),
        (lambda: PopulationBasedTraining(8, intervals=(4, 1)), "intervals: expected ascending integers"),
        (lambda: PopulationBasedTraining(9, intervals=(1, 2)), "population: expected a multiple of the 2 sub-pop"),
        (lambda: PopulationBasedTraining(4, intervals=(1, 2)), "with at least 4 members in each, got 4"),
        (lambda: PopulationBasedTraining(8, fraction=0.5, intervals=(1, 2)), "fraction: expected a number in"),
        (
            lambda: PopulationBasedTraining(8, exchange=10, intervals=(1, 4)).lasting(40),
            "intervals: expected at most 3, the exchanges",
        ),
        (lambda: PopulationBasedTraining(8, exchange=0), "exchange: expected an integer >= 1"),
        (lambda: PopulationBasedTraining(8, exchange=20).lasting(20), "exchange: expected less than the 20 steps"),
        (lambda: PopulationBasedTraining(8).lasting(1), "steps: expected at least two steps"),
        (lambda: PopulationBasedTraining(8, max_steps=30).lasting(20), "max_steps: expected at most the 20 steps"),
        (
            lambda: PopulationBasedTraining(8).ask(PopulationBasedTraining(8).init(SPACE, KEY), KEY),
            "max_steps: expected the length of the training",
        ),
        (lambda: jhpo.SuccessiveHalving(9, proposer=PopulationBasedTraining(8)), "pauses no members"),
    ],
)
def test_bad_input_says_what_to_change(make, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        make()


@pytest.mark.slow
def test_a_bandit_tries_what_gains_now_and_not_all_the_same() -> None:
    """The best x moves with time from 0.2 to 0.8, and the model has seen the first two thirds of it."""
    space = Space({"x": Float(0.0, 1.0), "z": Choice(["sgd", "adam"])})  # columns in this order
    rng = np.random.default_rng(0)
    seen = bandit.nothing(bandit.WINDOW, 2, jnp.dtype("float32"))
    for time in np.linspace(0.0, 0.65, 8):
        rows = rng.random((12, 2)).astype(np.float32)
        change = (rows[:, 0] - 0.2 - 0.6 * time) ** 2 + 0.01 * rng.normal(size=12)
        change[0] = np.inf  # failed
        seen = bandit.remember(seen, jnp.asarray(rows), jnp.float32(time), jnp.asarray(change, jnp.float32))
    assert int(seen.known.sum()) == 88 and np.isfinite(seen.change).all()
    units, explores = jnp.asarray(rng.random((6, 2)), jnp.float32), jnp.arange(6) >= 2
    choose = jax.jit(lambda seen: bandit.chosen(space, KEY, seen, units, explores, jnp.float32(0.7), jnp.int32(3)))
    found = np.asarray(choose(seen))
    np.testing.assert_array_equal(found[:2], units[:2])
    np.testing.assert_array_equal(found[:, 1], units[:, 1])  # categories are not the model's
    assert abs(np.median(found[2:, 0]) - 0.62) < 0.15 and len(np.unique(found[2:, 0])) > 1
    np.testing.assert_array_equal(choose(seen._replace(known=jnp.zeros_like(seen.known))), units)


def test_a_name_with_options() -> None:
    assert strategy_from_text("pbt(population=8, exchange=5)") == PopulationBasedTraining(8, exchange=5)
