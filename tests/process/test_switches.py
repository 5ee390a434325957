"""JAX's debugging switches: searches, trainings and gradients run, and say once what a switch means to them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.strategies.base import Evaluation

SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True), "x": jhpo.Float(0.0, 1.0)})
SWITCHES = ("jax_disable_jit", "jax_debug_nans", "jax_debug_infs")
STRATEGIES = {
    "random": jhpo.RandomSearch(4),
    "sobol": jhpo.SobolSearch(4),
    "grid": jhpo.GridSearch(3),
    "greedy": jhpo.Greedy(),
    "pso": jhpo.PSO(4),
    "de": jhpo.DifferentialEvolution(8),
    "cmaes": jhpo.CMAES(4),
    "bayes": jhpo.BayesOpt(initial=3, candidates=64, starts=2, fit_iterations=2, search_iterations=2),
    "hypergradient": jhpo.HyperGradient(4),
    "chain": jhpo.Chain(jhpo.PSO(4), jhpo.HyperGradient(2)),
    "nsga2": jhpo.NSGA2(4),
    "nsga3": jhpo.NSGA3(4),
    "successive-halving": jhpo.SuccessiveHalving(8),
    "hyperband": jhpo.Hyperband(8),
    "pbt": jhpo.PopulationBasedTraining(8),
    "asha": jhpo.ASHA(min_steps=1, max_steps=8, proposer="random(population=4)"),
    "asha, pausing": jhpo.ASHA(min_steps=2, batch=4),
    "freeze-thaw": jhpo.FreezeThaw(4, interval=2, capacity=8, candidates=16, proposer=None),
}
X = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int32)


@pytest.fixture(params=SWITCHES)
def switch(request: pytest.FixtureRequest) -> Iterator[str]:
    """One switch after the other, on for the test."""
    jax.config.update(request.param, True)
    try:
        yield request.param
    finally:
        jax.config.update(request.param, False)


def sometimes_failing(hp: dict) -> jax.Array:
    """Like the fate of a training: NaN, infinity or a number."""
    value = (jnp.log10(hp["lr"]) + 1) ** 2 + hp["x"]
    return jnp.where(hp["x"] > 0.7, jnp.nan, jnp.where(hp["x"] < 0.1, jnp.inf, value))


class Pausable:
    """A training of the same fate, for strategies that pause one."""

    steps = 8

    def init(self, hp: dict, key: jax.Array) -> jax.Array:
        return jnp.zeros_like(hp["x"])

    def step(self, hp: dict, w: jax.Array, t: jax.Array) -> jax.Array:
        return 0.5 * (w + sometimes_failing(hp))

    def evaluate(self, hp: dict, w: jax.Array) -> jax.Array:
        return w


def test_every_registered_strategy_is_here() -> None:
    assert {name.split(",")[0] for name in STRATEGIES} == set(jhpo.strategies.REGISTRY)


def under_switches(names: Iterable[str], slow: Iterable[tuple[str, str]]) -> pytest.MarkDecorator:
    """These strategies under every switch, some of the pairs among the slow tests."""
    pairs = [(name, switch) for name in names for switch in SWITCHES]
    cases = [pytest.param(*pair, marks=pytest.mark.slow) if pair in slow else pair for pair in pairs]
    return pytest.mark.parametrize(("name", "switch"), cases, indirect=["switch"])


# a kind each; a model is fitted for minutes operation by operation
SHORT = ("random", "pso", "cmaes", "bayes", "hypergradient", "hyperband")
OTHERS = [(name, s) for name in STRATEGIES if name not in SHORT for s in SWITCHES]


@under_switches(STRATEGIES, [("bayes", "jax_disable_jit"), *OTHERS])
def test_minimize_and_study_run_as_without(name: str, switch: str) -> None:
    strategy = STRATEGIES[name]
    objective = (
        Pausable()
        if name in ("successive-halving", "hyperband", "pbt", "asha", "asha, pausing", "freeze-thaw")
        else sometimes_failing
    )
    budget = 12 if name in ("hypergradient", "chain") else 2 * max(strategy.population, 3)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = jhpo.minimize(objective, SPACE, strategy, budget=budget, seed=2)
        study = jhpo.Study(SPACE, strategy, seed=2)
        study.optimize(objective, budget=budget)
    assert all("call" in str(w.message) and "yourself" in str(w.message) for w in said if w.category is UserWarning)
    jax.config.update(switch, False)
    plain = jhpo.minimize(objective, SPACE, strategy, budget=budget, seed=2)
    assert found.value == plain.value and found.best == plain.best
    assert study.best is not None and np.isfinite(study.best.value)


# operation by operation `minimize` runs them all; NaN and infinity are looked for by the same code
@under_switches(
    ["pso", "cmaes", "de", "bayes"],
    [(name, s) for name in ("cmaes", "de", "bayes") for s in SWITCHES],
)
def test_ask_tell_and_run(name: str, switch: str) -> None:
    strategy = STRATEGIES[name]
    state = strategy.init(SPACE, jax.random.key(0))
    units, state = strategy.ask(state, jax.random.key(1))
    value = np.full(len(units), np.nan)
    value[1:] = 0.5
    state = strategy.tell(state, units, Evaluation(value=value.astype(units.dtype)))
    units, state = strategy.ask(state, jax.random.key(2))
    assert np.isfinite(units).all()
    _, trace = jhpo.run(strategy, sometimes_failing, SPACE, 2, jax.random.key(0))
    assert np.isfinite(trace.units).all()


def model() -> Any:
    return jhpo.supervised(
        (lambda key, x: {"w": jnp.zeros((3, 2))}, lambda params, x: x @ params["w"]),
        lambda hp: optax.adam(hp["lr"]),
        "classification",
        train=(X[:16], Y[:16]),
        valid=(X[16:], Y[16:]),
        steps=3,
        batch_size=8,
    )


def test_training_states_and_gradients(switch: str) -> None:
    trainable = model()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        result = jhpo.minimize(trainable, SPACE, jhpo.RandomSearch(4), budget=4)
    assert np.isfinite(result.value)
    assert result.top(1)[0].state is not None
    value, gradient, _ = jhpo.hypergrad(trainable, {"lr": 0.1, "x": 0.5}, jax.random.key(0), wrt=["lr"])
    assert np.isfinite(value) and np.isfinite(gradient["lr"])
    assert np.isfinite(jhpo.online_tune(trainable, {"lr": 0.1, "x": 0.5}, jax.random.key(0), space=SPACE).value)


def test_what_a_search_moves_is_no_concern_of_the_transfer_guard() -> None:
    key, pso, row = jax.random.key(0), jhpo.PSO(4), np.full(2, 0.5, np.float32)
    low = {"lr": jhpo.Float(0.1, 1.0), "x": jhpo.Float(0.0, 1.0)}
    bounded = jhpo.Space(low, constraints=[lambda hp: hp["x"] - hp["lr"]])
    with jax.transfer_guard("disallow"):
        task = model()
        found = jhpo.minimize(task, SPACE, "random(population=4)", budget=8, early_stop="forecast(min_trials=2)")
        study = jhpo.Study(bounded, pso)
        study.enqueue({"lr": 0.2})
        study.optimize(lambda hp: hp["x"], budget=8)
        bounded.validate(study.best.params)
        paused = jhpo.minimize(Pausable(), SPACE, STRATEGIES["asha, pausing"], budget=8)
        _, trace = jhpo.run(pso, lambda hp: hp["x"], SPACE, 2, key)
        state = pso.init(SPACE, key)
        units, state = pso.ask(state, key)
        state = pso.tell(state, units, Evaluation(value=np.ones(4, np.float32)))
        SPACE.decode(SPACE.to_unit(SPACE.from_unit(row)))
        numbers = (
            found.value, found.ensemble(2).selected().predict(X[:2]), study.best.value, paused.value, trace.lowest(),
            jhpo.hypergrad(task, {"lr": 0.1, "x": 0.5}, key, wrt=["lr"]).value, SPACE.sample(key, 2),
            bounded.sample_unit(key, 2), bounded.unit_constraint(row), jhpo.k_folds(8, 2).train,
            jhpo.metrics.measure("auc", [0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]),
        )  # fmt: skip
    with jax.transfer_guard("disallow_explicit"):
        assert jhpo.minimize(lambda hp: hp["x"], SPACE, pso, budget=8).value < 1.0
    assert all(np.isfinite(number).all() for number in jax.tree.leaves(numbers))
    assert len(study) == 8


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_the_default_generator_changes_no_search(impl: str) -> None:
    rows = jhpo.k_folds(8, 2).train

    def order() -> np.ndarray:
        return task.batch(jax.random.key(0), jnp.uint32(1))[0]

    task = model()
    batch = order()
    with jax.default_prng_impl(impl):
        np.testing.assert_array_equal(order(), batch)  # of a task made before
        task = model()
        np.testing.assert_array_equal(order(), batch)
        np.testing.assert_array_equal(jhpo.k_folds(8, 2).train, rows)
        values = [
            jhpo.minimize(lambda hp, key: jax.random.uniform(key), SPACE, jhpo.PSO(4), budget=8, key=root).value
            for root in (jax.random.key(2), jax.random.PRNGKey(2))
        ]
        assert values[0] == values[1]


def test_contexts_of_the_caller_hold_in_threads_of_a_search() -> None:
    seen: set[tuple[str, str]] = set()
    config: Any = jax.config  # its stubs lack the flags

    def fit(params: dict) -> float:
        value = jnp.asarray(params["lr"]) + 0.0
        seen.add((value.dtype.name, config.jax_default_matmul_precision))
        return float(value)

    with jax.enable_x64(True), jax.default_matmul_precision("highest"):
        jhpo.minimize(jhpo.host(fit, workers=2), SPACE, "random", budget=4)
        assert seen == {("float64", "highest")}
        # the first members train in chunks side by side, the survivors of a rung in one
        again = jhpo.minimize(Pausable(), SPACE, jhpo.SuccessiveHalving(9), budget=9, chunk=2)
        assert again.history.value.dtype == np.float64
        sums = jhpo.minimize(lambda hp: hp["x"] * 1e-12 + 1.0, SPACE, "random(population=32)", budget=32, chunk=4)
        assert sums.value > 1.0


def test_what_a_switch_means_is_said_once_and_names_a_member() -> None:
    with jax.debug_nans(True), pytest.warns(UserWarning, match=r"of 16 members.*call your objective.*'x': ") as said:
        result = jhpo.minimize(sometimes_failing, SPACE, jhpo.RandomSearch(16), budget=64)
    assert len(said) == 1 and result.value is not None
    with jax.disable_jit(), pytest.warns(UserWarning, match="jax_disable_jit is on.*call it yourself"):
        jhpo.minimize(sometimes_failing, SPACE, jhpo.RandomSearch(4), budget=4)
    with jax.debug_infs(True), pytest.warns(UserWarning, match="run: .*turn the switch off"):
        jax.jit(lambda key: jhpo.run(jhpo.PSO(4), lambda hp: hp["x"], SPACE, 2, key)[1].value)(jax.random.key(0))


@pytest.mark.parametrize("wrap", [lambda f: f, jhpo.host], ids=["traced", "host"])
def test_a_hyperparameter_where_the_key_goes_is_refused(wrap) -> None:
    role = "seed" if wrap is jhpo.host else "key"
    said = rf"random {role} would be taken for the hyperparameter 'x'; write lambda hp: "
    objective = wrap(lambda lr, x: lr)
    with pytest.raises(jhpo.InvalidArgument, match=said):
        jhpo.minimize(objective, SPACE, jhpo.RandomSearch(4), budget=4)
    with pytest.raises(jhpo.InvalidArgument, match=said):
        jhpo.Study(SPACE, jhpo.RandomSearch(4)).optimize(objective, budget=4)
    with pytest.raises(jhpo.InvalidArgument, match=r"random key .* 'x'"):
        jhpo.run(jhpo.RandomSearch(4), lambda lr, x: lr, SPACE, 2, jax.random.key(0))
    # the names do not matter where nothing can be mistaken
    assert jhpo.minimize(wrap(lambda x, other: x["x"]), SPACE, jhpo.RandomSearch(4), budget=4).value < 1.0


@pytest.mark.parametrize("objective", [lambda x: x, lambda hp, key: hp, lambda x: x**2, lambda lr: 2.0 * lr])
def test_the_dictionary_taken_for_a_number_is_explained(objective) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=r'the dict of all of them: hp\["name"\]'):
        jhpo.minimize(objective, SPACE, jhpo.RandomSearch(4), budget=4)


def test_a_strategy_begins_with_infinities_that_are_copied() -> None:
    """Copies are a program of their own, and one that is there already is checked by JAX."""
    jnp.array(jnp.full((4,), jnp.inf))
    with jax.debug_infs(True):
        state = jhpo.PSO(4).init(SPACE, jax.random.key(0))
    assert np.isinf(state.value).all()
