"""What strategies are given and return has the form that it should, or is an error that names it."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import serialization

import jhpo
from jhpo import testing
from jhpo.errors import InvalidArgument

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0), "n": jhpo.Int(1, 9)})


def bowl(hp):
    return (hp["x"] - 0.3) ** 2


@jhpo.strategy
class Walk(jhpo.Strategy):
    """A random walk whose state a test may spoil."""

    population: int = jhpo.static_field(default=4)
    ask_more: Any = jhpo.static_field(default=None)
    tell_more: Any = jhpo.static_field(default=None)

    def init(self, space, key):
        return {"x": space.sample_unit(key, 4), "n": jnp.zeros((), jnp.int32)}

    def ask(self, state, key):
        return state["x"], state if self.ask_more is None else self.ask_more(state)

    def tell(self, state, units, result):
        return state if self.tell_more is None else self.tell_more(state)


@pytest.mark.parametrize("strategy", [jhpo.PSO(4), jhpo.RandomSearch(4), Walk()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize(
    ("result", "message"),
    [
        (
            jhpo.Evaluation(jnp.zeros((4, 2))),
            r"got float32\[4, 2\]; several objectives are Evaluation\(values\[:, 0\], ",
        ),
        (jhpo.Evaluation(jnp.zeros((4, 1))), r"result.value: expected an array of shape \(4,\), got float32\[4, 1\]"),
        (jhpo.Evaluation(jnp.zeros(3)), r"result.value: .* got float32\[3\]"),
        (jhpo.Evaluation(1.0), r"result.value: .* got 1.0"),
        (jhpo.Evaluation([0, 1, 2, 3]), r"result.value: .* got \[0, 1, 2, 3\]"),
        (jhpo.Evaluation(jnp.zeros(4), constraint=jnp.zeros(4)), r"result.constraint: .* \(4, ...\), of 2 dimensions"),
        (jhpo.Evaluation(jnp.zeros(4), mask=np.ones((1, 4), bool)), r"result.mask: .* got bool\[1, 4\]"),
        (jnp.zeros(4), r"result: expected jhpo.Evaluation\(value\)"),
    ],
)
def test_results_have_a_row_for_each_point(strategy, result, message):
    state = strategy.init(SPACE, jax.random.key(0))
    units, state = strategy.ask(state, jax.random.key(1))
    with pytest.raises(InvalidArgument, match=message):
        strategy.tell(state, units, result)
    with pytest.raises(InvalidArgument, match=r"units: expected points as rows|result"):
        strategy.tell(units, state, result)


def test_keys_and_spaces_are_not_exchanged():
    for use in (
        lambda: jhpo.PSO(4).init(jax.random.key(0), SPACE),
        lambda: jhpo.PSO(4).init(SPACE, 0),
        lambda: Walk().ask(Walk().init(SPACE, jax.random.key(0)), 3),
    ):
        with pytest.raises(InvalidArgument, match=r"key: expected a key as jax.random.key\(0\) makes it"):
            use()


@pytest.mark.parametrize("where", ["ask", "tell"])
@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda state: None, "the structure .* got 'NoneType'"),
        (lambda state: {"x": state["x"]}, "the structure"),
        (
            lambda state: {**state, "x": jnp.concatenate([state["x"], state["x"]])},
            r"the shapes and dtypes .* got another \['x'\]: float32\[8, 2\] instead of float32\[4, 2\]",
        ),
        (
            lambda state: {**state, "n": jnp.zeros(())},
            r"the shapes .* another \['n'\]: float32\[\] instead of int32\[\]",
        ),
    ],
)
def test_a_state_keeps_its_form(where, how, message):
    strategy = Walk(4, **{f"{where}_more": how})
    for use in (
        lambda: jhpo.minimize(bowl, SPACE, strategy, budget=8),
        lambda: jhpo.run(strategy, bowl, SPACE, 2, jax.random.key(0)),
        lambda: jhpo.minimize(jhpo.host(lambda p: p["x"]), SPACE, strategy, budget=8),
    ):
        with pytest.raises(InvalidArgument, match=rf"strategy: expected a state from Walk.{where} with {message}"):
            use()


@jhpo.strategy
class Counted(jhpo.Strategy):
    """Its population is a coefficient, or a fraction."""

    count: Any = 4
    sure: Any = jhpo.static_field(default=None)

    @property
    def population(self):
        return self.count if self.sure is None else self.sure

    def init(self, space, key):
        return space

    def ask(self, state, key):
        return state.sample_unit(key, self.population), state

    def tell(self, state, units, result):
        return state


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (Counted(count=4), "strategy: expected Counted.population from a jhpo.static_field"),
        (Counted(sure=4.0), "Counted.population: expected an integer >= 1, got 4.0"),
        (Counted(sure=0), "Counted.population: expected an integer >= 1, got 0"),
    ],
)
def test_a_population_is_a_static_integer(strategy, message):
    for use in (
        lambda: jhpo.minimize(bowl, SPACE, strategy, budget=8),
        lambda: jhpo.run(strategy, bowl, SPACE, 2, jax.random.key(0)),
        lambda: jhpo.Study(SPACE, strategy),
        lambda: testing.check_strategy(strategy),
    ):
        with pytest.raises(InvalidArgument, match=message):
            use()


def test_failed_checks_say_what_was_found():
    with pytest.raises(AssertionError, match="different keys gave equal searches"):
        testing.check_seeds(Fixed(4))
    with pytest.raises(AssertionError, match=r"points: expected all in \[0, 1\], got 2 to 2; see jnp.clip"):
        testing.check_points(Fixed(4, at=2.0))
    with pytest.raises(AssertionError, match=r"points: expected all in \[0, 1\], got nan"):
        testing.check_points(Fixed(4, at=np.nan))
    with pytest.raises(AssertionError, match=r"weak type at .* of the state: a Python number"):
        testing.check_state(Fixed(4, weak=True))


@jhpo.strategy
class Fixed(Walk):
    """Asks for one point."""

    at: Any = jhpo.static_field(default=0.5)
    weak: bool = jhpo.static_field(default=False)

    def init(self, space, key):
        return {"x": jnp.full((4, space.dim), self.at), "n": 0.5 if self.weak else jnp.zeros(())}


def test_a_polish_has_to_absorb():
    with pytest.raises(InvalidArgument, match="learns from given points, got 'Walk'; one that overrides `absorb` does"):
        jhpo.Chain(jhpo.PSO(4), Walk(4))


def test_another_strategy_begins_another_study(tmp_path):
    with jhpo.Study(SPACE, "random", tmp_path / "a.db") as study:
        study.optimize(jhpo.host(lambda p: p["x"]), budget=2)
    message = r"got another \(was random, now bayes\); to go on with another, begin a study .*new.absorb\(old"
    with pytest.raises(InvalidArgument, match=message):
        jhpo.Study.load(tmp_path / "a.db", strategy="bayes")
    with pytest.raises(InvalidArgument, match=message):
        jhpo.Study(SPACE, "bayes", tmp_path / "a.db", resume=True)
    old, new = jhpo.Study.load(tmp_path / "a.db", read_only=True), jhpo.Study(SPACE, "bayes")
    assert len(new.absorb(old, [t.value for t in old])) == 2


@jhpo.strategy
class Loose(Walk):
    """Its methods take other arguments, and are not all defined by `def`."""

    def init(self, *args):
        return super().init(*args)

    def ask(self, state, key, sharper=False):
        return super().ask(state, key)

    tell = lambda self, *args: Walk.tell(self, *args)  # noqa: E731
    absorb = tell


def test_methods_may_be_written_otherwise():
    assert jhpo.minimize(bowl, SPACE, Loose(4), budget=8).value >= 0.0
    assert jhpo.run(Loose(4), bowl, SPACE, 2, jax.random.key(0))[1].value.shape == (2, 4)


@pytest.mark.parametrize(
    "strategy",
    [jhpo.PSO(4), jhpo.CMAES(4), jhpo.Greedy(4), jhpo.NSGA2(4), jhpo.GridSearch(4)],
    ids=lambda s: type(s).__name__,
)
def test_a_state_and_results_of_numpy_are_as_those_of_jax(strategy):
    """As flax.serialization, pickle and functions on the host return them, outside of jit."""

    def further(make):
        state = make(strategy.init(SPACE, jax.random.key(0)))
        for k in range(2):
            units, state = strategy.ask(state, jax.random.key(k))
            value = jax.vmap(bowl)(SPACE.from_unit(units))
            state = make(strategy.tell(make(state), make(units), jhpo.Evaluation(make(value))))
        return state

    def from_bytes(tree):
        return serialization.from_bytes(tree, serialization.to_bytes(tree))

    for one, other in zip(
        jax.tree.leaves(further(lambda tree: tree)), jax.tree.leaves(further(from_bytes)), strict=True
    ):
        np.testing.assert_array_equal(one, other)
