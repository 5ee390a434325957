"""Population-based training: who takes over from whom, what is tried, and what is refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo import Choice, Evaluation, Float, Int, InvalidArgument, Ordinal, PopulationBasedTraining, Space
from jhpo.strategies import strategy_from_text
from jhpo.strategies.exploring import perturbed, truncation

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


def test_a_name_with_options() -> None:
    assert strategy_from_text("pbt(population=8, exchange=5)") == PopulationBasedTraining(8, exchange=5)
