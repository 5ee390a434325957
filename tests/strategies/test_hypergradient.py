"""HyperGradient: closed-form optima through training, bounds, chaos, failures, mixed spaces, options, resumption."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo import Choice, Float, HyperGradient, Int, InvalidArgument, Space
from jhpo.gradients.units import value_and_unit_grad
from jhpo.strategies.base import Evaluation
from tests.selection import slow_except

RATES = Space({"eta": Float(0.01, 1.0, shape=(4,))})
CURVATURE = np.array([1.0, 1.6, 2.4, 4.0], np.float32)
BOX = Space({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)})


class Quadratic:
    """T = d steps of gradient descent on sum h w^2 / 2, a rate for each step: the best ones are {1/h}, loss 0."""

    steps = 4

    def init(self, hp, key):
        return jnp.ones((4,), hp["eta"].dtype)

    def step(self, hp, w, t):
        return w - hp["eta"][t] * jnp.asarray(CURVATURE, w.dtype) * w

    def evaluate(self, hp, w):
        return 0.5 * (w * w * jnp.asarray(CURVATURE, w.dtype)).sum()


QUADRATIC = Quadratic()


def drive(strategy, space, function, generations, seed=0):
    """Units and values of a search on ``function(unit row)``, generations first; NaN gradients where the value is."""

    def evaluate(u):
        value, grad = jax.value_and_grad(function)(u)
        return value, jnp.where(jnp.isfinite(value), grad, jnp.nan)

    def body(state, g):
        units, state = strategy.ask(state, jax.random.fold_in(jax.random.key(seed), g))
        seeds = strategy.evaluation_ids(state, None)
        value, grad = jax.vmap(evaluate)(units)
        return strategy.tell(state, units, Evaluation(value, grad)), (units, value, seeds)

    @jax.jit
    def loop():
        state = strategy.init(space, jax.random.key(seed))
        return jax.lax.scan(body, state, jnp.arange(generations, dtype=jnp.uint32))

    state, out = loop()
    return state, tuple(np.asarray(x) for x in out)


def test_a_rate_for_each_step_reaches_the_closed_form() -> None:
    result = jhpo.minimize(QUADRATIC, RATES, HyperGradient(2), budget=240)
    start = float(
        QUADRATIC.evaluate({}, jnp.prod(1 - 0.505 * jnp.asarray(CURVATURE)[None, :] * jnp.ones((4, 1)), axis=0))
    )
    assert result.value < 1e-3 * start
    best = 1.0 - np.asarray(result.best["eta"])[:, None] * CURVATURE
    np.testing.assert_allclose(result.value, 0.5 * (np.prod(best, axis=0) ** 2 * CURVATURE).sum(), rtol=1e-3, atol=1e-7)


def test_searches_side_by_side_equal_searches_alone() -> None:
    keys = jax.vmap(jax.random.key)(jnp.arange(2, dtype=jnp.uint32))
    strategy = HyperGradient(2, starts=1)
    together = jax.vmap(lambda k: jhpo.run(strategy, QUADRATIC, RATES, 6, k)[1].value)(keys)
    alone = jhpo.run(strategy, QUADRATIC, RATES, 6, jax.random.key(1))[1].value
    np.testing.assert_allclose(together[1], alone, rtol=1e-4, atol=1e-6)


def test_an_optimum_on_a_bound_is_reached_exactly() -> None:
    _, (units, value, _) = drive(HyperGradient(1), BOX, lambda u: u[0] + (u[1] - 0.7) ** 2, 30)
    best = units.reshape(-1, 2)[np.argmin(value)]
    assert best[0] == 0.0
    np.testing.assert_allclose(best[1], 0.7, atol=5e-3)
    _, (units, value, _) = drive(HyperGradient(1, coordinates="logit", learning_rate=0.5, max_step=1.0), BOX,
                                 lambda u: u[0] + (u[1] - 0.7) ** 2, 30)  # fmt: skip
    assert 0.0 < units.reshape(-1, 2)[np.argmin(value), 0] < 0.05


def test_failed_points_send_members_back() -> None:
    def walled(u):
        return jnp.where(u[0] > 0.6, jnp.nan, (u[0] - 0.62) ** 2 + (u[1] - 0.2) ** 2)

    state, (units, value, _) = drive(HyperGradient(1, starts=1), BOX, walled, 40)
    failed = np.flatnonzero(np.isnan(value[:-1, 0]))
    assert len(failed) > 3, "the wall was hardly met"
    # back towards the best point, a tenth to half of the way that failed
    best = units[np.nanargmin(np.where(np.arange(len(value)) < failed[0], value[:, 0], np.nan)), 0]
    ratio = (units[failed[0] + 1, 0] - best) / (units[failed[0], 0] - best)
    np.testing.assert_allclose(ratio, 0.1, atol=1e-3)
    assert np.nanmin(value) < 0.05 * value[0, 0] + 0.03
    assert np.isfinite(units).all() and not np.isnan(np.asarray(state.value)).any()


def test_values_that_are_lucky_in_chaos_are_no_ground_to_stand_on() -> None:
    def rough(u):
        # smooth bowl with its minimum at .4; left of .2 waves of enormous slope reach far below it
        return (u[0] - 0.4) ** 2 + (u[1] - 0.4) ** 2 + jnp.where(u[0] < 0.2, jnp.sin(-3e4 * u[0]), 0.0)

    def found(chaos):
        strategy = HyperGradient(1, starts=1, learning_rate=0.4, max_step=0.4, chaos=chaos)
        _, (units, value, seeds) = drive(strategy, BOX, rough, 25)
        first, calm = seeds[:, 0] == 0, units[:, 0, 0] >= 0.2
        assert value[first & ~calm].min() < 0, "the waves were never met"
        return value[first & calm].min()

    assert found(10.0) < 1e-3 < found(1e30)


def test_no_coordinate_moves_further_than_the_cap() -> None:
    strategy = HyperGradient(1, starts=1, optimizer="sgd", learning_rate=100.0, max_step=0.1)
    _, (units, _, _) = drive(strategy, BOX, lambda u: ((u - 0.9) ** 2).sum(), 4)
    assert np.abs(np.diff(units[:, 0], axis=0)).max() <= 0.1 + 1e-6


def test_discrete_coordinates_stay_within_a_polish_and_change_between_starts() -> None:
    space = Space({"x": Float(0.0, 1.0), "n": Int(1, 8), "c": Choice(["a", "b", "c"]),
                   "y": Float(0.0, 1.0, when={"c": "b"})})  # fmt: skip

    def value(u):
        hp = space.from_unit(u)
        return (hp["x"] - 0.3) ** 2 + (hp["n"] - 5).astype(u.dtype) ** 2 + jnp.where(hp["c"] == 1, hp["y"] ** 2, 1.0)

    _, (units, values, seeds) = drive(HyperGradient(4, starts=1), space, value, 40)
    discrete = np.asarray(space.index(jnp.asarray(units)))[..., np.asarray(space.cells) > 0]
    for seed in np.unique(seeds):
        assert len(np.unique(discrete[seeds == seed], axis=0)) == 1
    assert len(np.unique(discrete.reshape(-1, 2), axis=0)) > 4
    assert values.min() < 4.0


def test_a_seed_is_fixed_within_a_polish_and_fresh_when_its_point_is_accepted() -> None:
    strategy = HyperGradient(1, starts=1, polishes=2)
    _, (units, _, seeds) = drive(strategy, BOX, lambda u: ((u - 0.4) ** 2).sum(), 60)
    seeds, units = seeds[:, 0], units[:, 0]
    changes = np.flatnonzero(np.diff(seeds)) + 1
    assert len(changes) >= 2 and len(np.unique(seeds)) == len(changes) + 1
    first, second = changes[:2]
    # the accepted point is one of the first polish; the start after the second polish is a fresh one
    assert np.abs(units[:first] - units[first]).max(axis=1).min() == 0.0
    assert np.abs(units[:second] - units[second]).max(axis=1).min() > 1e-3


def test_starts_compete_and_the_best_goes_on() -> None:
    def two_basins(u):
        return jnp.minimum((u[0] - 0.5) ** 2 + 1.0, 3.0 * (u[0] - 0.9) ** 2) + 0.01 * (u[1] - 0.5) ** 2

    _, (_, value, seeds) = drive(HyperGradient(1, starts=4, trial=3), BOX, two_basins, 30)
    trial = seeds[:12, 0]
    assert sorted(trial.tolist()) == sorted([0, 1, 2, 3] * 3) and len(set(trial[:4])) == 4
    assert value.min() < 1e-2


@pytest.mark.parametrize("name", slow_except({"adam", "lbfgs"}, ["adam", "sgd", "rmsprop", "lion", "lbfgs"]))
def test_any_optax_optimiser_descends(name: str) -> None:
    options = {"linesearch": None} if name == "lbfgs" else None
    rate = {"sgd": 0.3, "lbfgs": 1.0}.get(name, 0.1)
    strategy = HyperGradient(1, starts=1, optimizer=name, options=options, learning_rate=rate)
    _, (_, value, _) = drive(strategy, BOX, lambda u: ((u - jnp.array([0.31, 0.77])) ** 2).sum(), 25)
    assert value.min() < 0.03 * value[0, 0]


def test_optimisers_as_functions_and_transformations() -> None:
    def chained(rate):
        return optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(rate, momentum=0.5))

    bowl = lambda u: ((u - 0.3) ** 2).sum()  # noqa: E731
    for strategy in (
        HyperGradient(1, optimizer=chained, learning_rate=0.3),
        HyperGradient(1, optimizer=optax.adam(0.1), learning_rate=None),
    ):
        assert drive(strategy, BOX, bowl, 20)[1][1].min() < 1e-2


def test_an_equal_instance_compiles_nothing(count_compilations) -> None:
    options = dict(optimizer="adam", options={"b2": 0.95, "b1": 0.4})
    jhpo.run(HyperGradient(2, **options), QUADRATIC, RATES, 3, jax.random.key(0))
    key = jax.random.key(1)
    again = HyperGradient(2, learning_rate=0.05, optimizer="adam", options={"b1": 0.4, "b2": 0.95})
    with count_compilations() as seen:
        jhpo.run(again, QUADRATIC, RATES, 3, key)
    assert seen.names == []


def test_a_resumed_study_equals_the_uninterrupted_one(tmp_path) -> None:
    def noisy(hp, key):
        return ((hp["x"] - 0.3) ** 2 + hp["y"] ** 2) * (1.0 + 0.1 * jax.random.normal(key, dtype=hp["x"].dtype))

    strategy = HyperGradient(2, optimizer="adam", options={"b1": 0.6})
    whole = jhpo.Study(BOX, strategy, seed=3)
    whole.optimize(noisy, budget=41, chunk=2)
    for budget in (7, 20, 41):  # in the middle of a generation, and between two; by snapshot and by the log alone
        with jhpo.Study(BOX, strategy, tmp_path / "s.db", seed=3, resume=budget > 7) as study:
            study.optimize(noisy, budget=budget, chunk=2)
    with jhpo.Study.load(tmp_path / "s.db") as loaded:
        assert loaded.strategy == strategy
        for name in ("value", "unit", "stream"):
            ours, theirs = getattr(whole.history.table, name).array, getattr(loaded.history.table, name).array
            np.testing.assert_array_equal(ours, theirs)
        assert (loaded.history.table.stream.array >= 0).any()
        trial = loaded.best
        np.testing.assert_array_equal(
            jax.random.key_data(loaded.key(trial)),
            jax.random.key_data(
                jax.random.fold_in(jax.random.key(3), int(loaded.history.table.streams([trial.id])[0]))
            ),
        )


def test_gradients_can_be_told_by_hand() -> None:
    study = jhpo.Study(BOX, HyperGradient(2, starts=1), seed=0)
    for _ in range(15):
        for trial in study.ask(2):
            x = trial.unit - np.array([0.3, 0.6])
            study.tell(trial, float((x**2).sum()), grad=2 * x)
    assert study.best.value < 1e-2


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"population": 0}, "population"),
        ({"optimizer": "gradient_magic"}, "name of an optax optimiser"),
        ({"optimizer": "scale_by_adam"}, "name of an optax optimiser"),
        ({"options": {"b3": 0.1}}, "b3"),
        ({"options": 3}, "options"),
        ({"optimizer": "lbfgs"}, "gradients alone"),
        ({"optimizer": optax.adam(0.1), "options": {"b1": 0.5}}, "nothing beside a transformation"),
        ({"optimizer": 3}, "a function of the learning rate"),
        ({"coordinates": "polar"}, "coordinates"),
        ({"chaos": 0.0}, "chaos"),
        ({"max_step": -1.0}, "max_step"),
        ({"shrink": 1.5}, "shrink"),
        ({"starts": 0}, "starts"),
    ],
)
def test_bad_options_are_named(options, words) -> None:
    with pytest.raises(InvalidArgument, match=words):
        HyperGradient(**options)


def test_points_given_in_between_become_starts() -> None:
    study = jhpo.Study(BOX, HyperGradient(1, starts=1), seed=0)
    (trial,) = study.ask(1)
    study.absorb([{"x": 0.5, "y": 0.25}], [-1.0])
    study.tell(trial, 3.0, grad=np.ones(2))
    (trial,) = study.ask(1)
    assert trial.params == {"x": 0.5, "y": 0.25}


def test_a_polish_that_is_to_be_repeated_is_whatever_points_are_given_in_between() -> None:
    strategy, key = HyperGradient(1, starts=1, max_misses=2, polishes=3), jax.random.key(0)
    value_and_grad = jax.vmap(jax.value_and_grad(lambda unit: jnp.square(unit - 0.3).sum()))
    state = strategy.init(BOX, key)
    while not state.given.any():
        units, state = strategy.ask(state, key)
        state = strategy.tell(state, units, Evaluation(*value_and_grad(units)))
    worse = strategy.absorb(state, jnp.full((1, 2), 0.9), Evaluation(jnp.full((1,), jnp.nan)))
    np.testing.assert_array_equal(strategy.ask(worse, key)[0], strategy.ask(state, key)[0])


def test_points_given_before_the_first_generation_become_starts() -> None:
    study = jhpo.Study(BOX, HyperGradient(1, starts=1), seed=0)
    study.absorb([{"x": 0.5, "y": 0.25}], [-1.0])
    assert study.ask(1)[0].params == {"x": 0.5, "y": 0.25}


@pytest.mark.parametrize("population", [1, 2])
def test_given_points_are_trained_once(population) -> None:
    def bowl(hp):
        return (hp["x"] - 0.25) ** 2 + (hp["y"] + 0.5) ** 2

    start = [{"x": 1.0 - 0.25 * i, "y": 0.5} for i in range(4)]
    study = jhpo.Study(BOX, HyperGradient(population, polishes=1), seed=0)
    for points, budget in ((start, 8), ([{"x": 0.25, "y": -0.375}], 16)):  # before the first generation, and later
        for point in points:
            study.enqueue(point)
        study.optimize(bowl, budget=budget)
    units = study.history.table.unit.array
    assert len(np.unique(units, axis=0)) == len(units) == 16


class Chosen(Quadratic):
    """The same, if the static parameters are what the space says: a depth, a name, a rate, a tuple."""

    def step(self, hp, w, t):
        for _ in range(hp["depth"]):
            w = super().step(hp, w, t)
        return w * {"half": 0.5, "whole": 1.0}[hp["scale"]] * hp["rate"] * len(hp["layers"])


def test_static_parameters_beside_many_continuous_ones() -> None:
    static = {"depth": [1, 2], "scale": ["half", "whole"], "rate": [0.5, 1.0], "layers": [(8,), (8, 8)]}
    choices = {name: Choice(values, static=True) for name, values in static.items()}
    space = Space({"eta": Float(0.01, 1.0, shape=(4,)), **choices})
    start = {"eta": np.full(4, 0.2), "depth": 1, "scale": "whole", "rate": 1.0, "layers": (8,)}
    found = jhpo.minimize(Chosen(), space, HyperGradient(2), budget=4, start=[start])
    assert np.isfinite(found.history.value).all()
    units = jnp.asarray(space.encode(start), jnp.float32)
    plain = jhpo.Space({"eta": Float(0.01, 1.0, shape=(4,))})
    value, grad = value_and_unit_grad(Chosen(), space, units, jax.random.key(0), static=start)
    want = value_and_unit_grad(
        QUADRATIC, plain, jnp.asarray(plain.encode({"eta": start["eta"]}), jnp.float32), jax.random.key(0)
    )
    where = space.slices[space.names.index("eta")]
    np.testing.assert_allclose(value, want[0], rtol=1e-6)
    np.testing.assert_allclose(grad[where], want[1], rtol=1e-5)


def test_a_space_without_continuous_parameters_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="continuous"):
        jhpo.run(HyperGradient(2), lambda hp: hp["n"] * 1.0, Space({"n": Int(1, 5)}), 2, jax.random.key(0))


def test_a_host_objective_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="without gradients"):
        jhpo.minimize(jhpo.host(lambda params: params["x"]), BOX, HyperGradient(2), budget=10)


def test_a_training_with_a_reverse_rule_alone_is_not_asked_for_tangents() -> None:
    """Forward mode, which one or two coordinates get, knows nothing of `jax.custom_vjp`."""

    @jax.custom_vjp
    def square(x: jax.Array) -> jax.Array:
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))

    class Decay:
        steps = 5

        def init(self, hp, key):
            return jnp.float32(1.0)

        def step(self, hp, w, t):
            return w - hp["lr"] * square(w)

        def evaluate(self, hp, w):
            return w**2

    space = jhpo.Space({"lr": jhpo.Float(0.01, 0.5)})
    value, grad = value_and_unit_grad(Decay(), space, jnp.array([0.5]), jax.random.key(0))
    other = value_and_unit_grad(Decay(), space, jnp.array([0.5]), jax.random.key(0), method="reverse")
    np.testing.assert_array_equal(np.append(value, grad), np.append(*other))
    assert jnp.isfinite(grad).all() and grad[0] < 0
