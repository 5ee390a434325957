"""BayesOpt for several objectives: fronts of known problems, constraints, failures, studies, and bad input."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jhpo
from jhpo.errors import InvalidArgument
from jhpo.kernels import gp_fit
from jhpo.kernels.covariance import matern52
from jhpo.kernels.hypervolume import hypervolume
from jhpo.objectives import Objectives
from jhpo.strategies.base import Evaluation
from jhpo.strategies.bayes import fitting, front, history
from jhpo.strategies.bayes.ground import exact_ground
from jhpo.strategies.bayes.model import Surrogate
from jhpo.strategies.bayes.randomness import randomness
from jhpo.strategies.bayes.suggest import around
from tests.strategies.bayes_problems import MIXED, PLANE, SMALL
from tests.study.studies import assert_same

WAYS = {"loss": "minimize", "speed": "maximize"}


def trade(hp):
    """Kind "b" is better; the front is decay = 0.3 with rates between 1e-3 and 1e-1."""
    rate, decay = jnp.log10(hp["rate"]), jnp.where(hp["kind"] == 0, 1.0, hp["decay"] - 0.3)
    worse = decay**2 + 0.2 * (jnp.asarray(hp["kind"]) == 2).astype(rate.dtype)
    return {"loss": (rate + 3.0) ** 2 + worse, "speed": -((rate + 1.0) ** 2) - worse}


def volume(values: np.ndarray, worst: float = 6.0) -> float:
    """Of the two objectives, to be minimised."""
    return float(hypervolume(jnp.asarray(values, jnp.float32), jnp.full(2, worst, jnp.float32)))


def losses(result) -> np.ndarray:
    return np.asarray(result.history.values, np.float32) * np.float32([1.0, -1.0])


@pytest.fixture(scope="module")
def found():
    """A search of a mixed and conditional space, in batches; several tests look at it."""
    return jhpo.minimize(trade, MIXED, dataclasses.replace(SMALL, batch=2), budget=32, directions=WAYS)


@pytest.mark.slow
def test_a_mixed_space_is_searched_better_than_at_random(found) -> None:
    chance = jhpo.minimize(trade, MIXED, jhpo.RandomSearch(32), budget=32, directions=WAYS)
    assert volume(losses(found)) > volume(losses(chance))
    points = found.pareto()
    assert len(points) > 5 and sum(p.params["kind"] == "b" for p in points) > len(points) / 2
    rates = np.log10([p.params["rate"] for p in points])
    assert rates.min() < -2.5 and rates.max() > -1.5
    assert found.objectives is not None and found.objectives.names == ("loss", "speed")
    # no point twice, and what the strategy keeps is the front of what it was told
    assert len(np.unique(np.asarray(found.history.units), axis=0)) == 32
    rank = np.asarray(found.state.history.value)[: int(found.state.used)]
    assert (rank == 0).sum() == len(points)


@pytest.mark.slow  # the conformance suite has a short form, without constraints
def test_a_search_is_one_program_jitted_and_side_by_side() -> None:
    """In float32, under vmap, with failures and a measured constraint."""

    def limited(hp):
        values = trade(hp)
        loss = jnp.where(hp["width"] == 7, jnp.nan, values["loss"])
        return {"value": (loss, values["speed"]), "constraint": 0.02 - hp["rate"]}

    small = dataclasses.replace(SMALL, constraints=1)

    @jax.jit
    def studies(keys):
        return jax.vmap(lambda key: jhpo.run(small, limited, MIXED, 20, key, directions=["minimize", "maximize"])[1])(
            keys
        )

    trace = studies(jax.random.split(jax.random.key(0), 2))
    assert trace.values.shape == (2, 20, 1, 2) and trace.units.dtype == jnp.float32
    assert np.isfinite(trace.units).all() and (trace.units[0] != trace.units[1]).any()
    late = np.asarray(trace.constraint)[:, 10:, 0, 0]
    assert (late >= 0).mean() > 0.6
    again = studies(jax.random.split(jax.random.key(0), 2))
    np.testing.assert_array_equal(trace.units, again.units)


def test_a_stopped_study_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def told(params):
        values = {k: float(v) for k, v in trade({**params, "kind": "abc".index(params["kind"])}).items()}
        return values if params["width"] != 7 else values | {"loss": float("nan")}

    def objective(params):
        return told({"decay": 0.0} | params)

    def make(path: Path | None) -> jhpo.Study:
        return jhpo.Study(MIXED, dataclasses.replace(SMALL, batch=2), path, seed=3, directions=WAYS)

    whole = make(None)
    whole.optimize(jhpo.host(objective), budget=24)
    with make(tmp_path / "study.db") as begun:
        begun.optimize(jhpo.host(objective), budget=14)
    with jhpo.Study.load(tmp_path / "study.db") as again:
        again.optimize(jhpo.host(objective), budget=24)
        assert_same(whole, again)
        # by hand, while trials are pending, in any order
        trials = again.ask(5)
        assert len({t.unit.tobytes() for t in trials}) == 5
        for trial in reversed(trials[1:]):
            again.tell(trial, objective(trial.params))
        more = again.ask(2)[0]
        assert more.unit.tobytes() not in {t.unit.tobytes() for t in trials}
        again.tell(trials[0], objective(trials[0].params))
        assert again.hypervolume([6.0, -6.0]).value > 0


@pytest.mark.slow
def test_degenerate_searches_of_three_objectives() -> None:
    """Three that are one, nothing feasible, equal results, and a reference point that nothing dominates."""
    small = dataclasses.replace(SMALL, constraints=1, reference=(-9.0, -9.0, -9.0))

    @jax.jit
    @jax.vmap
    def studies(case):
        def objective(hp):
            x = jnp.stack([hp["x"], hp["y"]])
            parts = jnp.stack([((x - at) ** 2).sum() for at in (0.3, 0.5, 0.7)])
            values = jnp.where(case == 0, parts[0], jnp.where(case == 2, 1.0, parts))
            return {"value": values, "constraint": jnp.where(case == 1, -hp["x"] - 0.1, 1.0)}

        return jhpo.run(small, objective, PLANE, 14, jax.random.key(3), directions=["minimize"] * 3)[1]

    trace = studies(jnp.arange(4))
    units = np.asarray(trace.units)[:, :, 0]
    assert np.isfinite(units).all() and (units >= 0).all() and (units <= 1).all()
    for each in units:
        assert len(np.unique(each, axis=0)) == 14
    assert np.asarray(trace.values)[0, :, 0, 0].min() < 0.01  # of one objective it finds the minimum
    assert units[1, 8:, 0].min() < 0.1  # and where nothing is feasible what violates least


# -- the improvement -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("m", [2, 3, 4])
def test_the_improvement_is_that_of_samples(x64: None, m: int) -> None:
    """Averaged over worlds; in closed form up to three objectives, along lines for more."""
    rng = np.random.default_rng(m)
    means, reference = 0.4 + 0.6 * rng.random((2, 6, m)), jnp.ones(m)
    means[:, 4:] = np.inf
    mean, deviation = 0.2 + 0.2 * rng.random((m, 2)), 0.1 + 0.1 * rng.random(m)
    first = front.completed(front.front_of(jnp.asarray(means[0]), reference, 2))
    alike = jax.jit(front.improvement)(first, jnp.asarray(mean[:, :1].repeat(2, 1)), jnp.asarray(deviation**2))
    both = front.extended(first, jnp.int32(5), jnp.asarray(0.4 + 0.6 * rng.random((2, m))))
    value, slope = jax.jit(jax.value_and_grad(front.improvement, argnums=1))(
        both, jnp.asarray(mean), jnp.asarray(deviation**2)
    )
    normals = rng.standard_normal((4000, m))

    @jax.jit
    @jax.vmap
    def gain(points, base):
        return hypervolume(points, reference) - hypervolume(base, reference)

    def sampled(world: int, base: np.ndarray) -> float:
        new = mean[:, world] + deviation * normals
        points = np.concatenate([np.broadcast_to(base, (4000, *base.shape)), new[:, None]], axis=1)
        return float(gain(points, np.broadcast_to(base, (4000, *base.shape))).mean())

    close = 0.05
    assert float(jnp.exp(alike)) == pytest.approx(sampled(0, means[0]), rel=close)
    expected = np.mean([sampled(w, np.asarray(both.means[w])) for w in range(2)])
    assert float(jnp.exp(value)) == pytest.approx(expected, rel=close)
    step = 1e-6 * np.eye(m)[0][:, None] * np.asarray([[1.0, 0.0]])
    moved = [float(front.improvement(both, jnp.asarray(mean + s * step), jnp.asarray(deviation**2))) for s in (1, -1)]
    assert float(slope[0, 0]) == pytest.approx((moved[0] - moved[1]) / 2e-6, rel=1e-4)


def test_the_reference_point_is_that_of_the_front_or_the_users(x64: None) -> None:
    """Values up to it keep their proportions, those beyond are compressed; a failure is as bad as the worst."""
    z = jnp.asarray([[-1.0, 2.0], [1.0, -3.0], [5.0, 5.0], [-9.0, -9.0]])
    order = jnp.arange(4, dtype=jnp.int32)
    reference, best = front.natural_reference(z, jnp.asarray([True, True, True, False]), order)
    np.testing.assert_allclose(reference, [1.2 + 0.3 * 4.0, 2.5 + 0.3 * 3.0])
    np.testing.assert_allclose(best, [-1.0, -3.0])
    of_one, _ = front.natural_reference(z, jnp.ones(4, bool), order)
    np.testing.assert_allclose(of_one, [-9.0 + 0.3 * 14.0] * 2)  # a front of one point, and its way to a bad result
    diverged = z.at[2].set(1e6)
    capped, _ = front.natural_reference(diverged, jnp.asarray([True, True, True, False]), order)
    np.testing.assert_allclose(capped, [1.2 + 0.3 * 10.0 * 2.0, 2.5 + 0.3 * 10.0 * 5.0])
    late, _ = front.natural_reference(z, jnp.asarray([True, True, True, False]), order + 20)
    np.testing.assert_allclose(late, reference)
    assert np.isfinite(front.natural_reference(z, jnp.zeros(4, bool), order)[0]).all()
    there = jnp.asarray([True, True, True, False])
    beyond, _ = front.natural_reference(z, there, order, jnp.asarray(True))
    np.testing.assert_allclose(beyond, [5.0 + 6.0, 5.0 + 8.0])  # of results up to 5 and fronts from -1 and -3
    again, _ = front.natural_reference(z, there, order, jnp.asarray(False))
    np.testing.assert_allclose(again, reference)

    values = jnp.asarray([[0.0, 4.0], [1.0, 2.0], [2.0, 1.0], [4.0, 0.0], [300.0, 9.0], [0.0, 0.0]])
    blank = history.blank(6, 2, 0, jnp.float64, objectives=2)
    status = jnp.asarray([history.OBSERVED] * 5 + [history.FAILED], jnp.int32)
    some = history.ranked(blank._replace(values=values, variance=jnp.ones_like(values), status=status))
    for given in (None, np.asarray([5.0, 8.0])):
        y, variance, reference = jax.jit(lambda h, given=given: front.targets(h, "half_rank", given))(some)
        slopes = (y[:, 1:4] - y[:, :3]) / np.diff(values.T[:, :4])
        np.testing.assert_allclose(slopes, np.broadcast_to(slopes[:, :1], slopes.shape), rtol=1e-9)
        # bad results are 22, ten times further from the median than the best, and 9
        at = 4.4 + 0.3 * (np.asarray([22.0, 9.0]) - 4.0) if given is None else given
        np.testing.assert_allclose((reference - y[:, 0]) / slopes[:, 0], at - values[0], rtol=1e-9)
        assert float(y[0, 4]) < float(y[0, 3] + slopes[0, 0] * 296) and float(y[0, 4]) > float(reference[0])
        assert np.array_equal(y[:, 5], y[:, 4]) and abs(y.mean(axis=1)).max() < 1e-9
        np.testing.assert_allclose(variance[:, :4], slopes[:, :1] ** 2 * np.ones((2, 4)), rtol=1e-9)
    assert jhpo.BayesOpt(reference=[1, 2]).reference == (1.0, 2.0)
    two = jhpo.BayesOpt(reference=(1.0, 2.0)).for_objectives(Objectives(("minimize", "maximize")))
    assert two.signs == (1.0, -1.0) and two.for_objectives(Objectives(("minimize", "maximize"))) is two


def test_a_modest_reference_point_lies_twice_as_far_as_the_best_compromise() -> None:
    means = jnp.asarray([[0.0, 10.0], [1.0, 0.0], [0.2, 3.0], [2.0, 20.0], [jnp.inf, jnp.inf]])
    far = jnp.full(2, 99.0)
    # (0.2, 3.0) is at 0.2 and 0.3 of the extents, 1 and 10
    np.testing.assert_allclose(front.modest(far, means), [0.6, 6.0], rtol=1e-6)
    near = jnp.asarray([0.5, 99.0])
    np.testing.assert_allclose(front.modest(near, means), [0.5, 6.0], rtol=1e-6)
    for nothing in (means[3:], means[4:]):  # a front of one point, and none
        assert front.modest(far, nothing).tolist() == far.tolist()


def test_a_local_ask_keeps_near_a_random_point_of_the_front() -> None:
    units = jnp.asarray([[0.1, 0.5], [0.5, 0.9], [0.7, 0.7], [0.3, 0.3]])
    means = jnp.asarray([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [jnp.inf, jnp.inf]])
    some = front.front_of(means, jnp.full(2, 3.0), 1)
    assert front.front_rows(some).tolist() == [True, True, False, False]
    ground = exact_ground(PLANE)
    for lot, low, high in (
        (0.0, [0.0, 0.3], [0.3, 0.7]),
        (0.49, [0.0, 0.3], [0.3, 0.7]),
        (0.5, [0.3, 0.7], [0.7, 1.0]),
    ):
        box = around(ground, units, some, jnp.asarray(lot), jnp.asarray(True))
        np.testing.assert_allclose(box.low, low, atol=1e-6)
        np.testing.assert_allclose(box.high, high, atol=1e-6)
    nothing = front.front_of(jnp.full((4, 2), jnp.inf), jnp.full(2, 3.0), 1)
    for known, near in ((some, False), (nothing, True)):
        box = around(ground, units, known, jnp.asarray(0.3), jnp.asarray(near))
        assert box.low.tolist() == [0.0, 0.0] and box.high.tolist() == [1.0, 1.0]
    mixed = exact_ground(MIXED)
    box = around(mixed, jnp.full((4, mixed.dim), 0.5), some, jnp.asarray(0.3), jnp.asarray(True))
    assert np.array_equal(np.asarray(box.high) == 1.0, mixed.categorical)


@pytest.mark.slow
def test_an_ask_that_doubts_moves_the_reference_point_or_shortens_the_lengthscales() -> None:
    ground = exact_ground(PLANE)
    blank = history.blank(8, 2, 0, jnp.float32, objectives=2)
    units = jax.random.uniform(jax.random.key(1), (8, 2))
    status = jnp.asarray([history.OBSERVED] * 6 + [history.EMPTY] * 2, jnp.int32)
    some = history.ranked(blank._replace(units=units, values=jnp.sin(5.0 * units), status=status))
    theta = jnp.tile(gp_fit.default_prior(2, jnp.float32).mean, (2, 1))

    @functools.partial(jax.jit, static_argnames="given")
    def fitted(ends, shorter, given):
        far = None if given else ends
        surrogate = Surrogate(ground, matern52, "none", 4, 256, 1, given and np.full(2, 2.0), far, shorter)
        model, after = fitting.build(surrogate, some, theta, jnp.asarray(False), randomness(jax.random.key(0)))
        return model.posterior.parameters.weights, model.best.reference, after

    no, yes = jnp.asarray(False), jnp.asarray(True)
    for given in (None, True):
        sure, here, _ = fitted(no, no, given)
        beyond, far, _ = fitted(yes, no, given)
        assert bool((far > here + 0.1).all()) == (given is None) and bool((beyond == sure).all())
        unsure, _, after = fitted(no, yes, given)
        np.testing.assert_allclose(unsure[:, :2] / sure[:, :2], np.exp(1.4), rtol=1e-5)
        np.testing.assert_allclose(unsure[:, 2:], sure[:, 2:], rtol=1e-6)
        assert bool((after == theta).all())


def test_only_a_model_that_knows_little_is_modest() -> None:
    ground = exact_ground(PLANE)
    blank = history.blank(16, 2, 0, jnp.float32, objectives=2)
    units = jax.random.uniform(jax.random.key(1), (16, 2))
    status = jnp.full(16, history.OBSERVED, jnp.int32)
    theta = jnp.tile(gp_fit.default_prior(2, jnp.float32).mean, (2, 1))

    @jax.jit
    def references(values):
        some = history.ranked(blank._replace(units=units, values=values, status=status))
        surrogate = Surrogate(ground, matern52, "none", 30, 256, 1, None, jnp.asarray(False))
        model, _ = fitting.build(surrogate, some, theta, jnp.asarray(True), randomness(jax.random.key(0)))
        natural = front.targets(some, "none", None)[2]
        return model.unexplained, model.best.reference, natural, front.modest(natural, model.best.means[0])

    known = jnp.stack([units[:, 0] + units[:, 1] ** 2, 1.0 - units[:, 0] + units[:, 1] ** 2], axis=1)
    unexplained, reference, natural, _ = references(known)
    assert unexplained < front.MODEST_ABOVE and reference.tolist() == natural.tolist()
    noise = jnp.sin(40.0 * units @ jnp.asarray([[1.0, 2.0], [3.0, -1.0]]))
    unexplained, reference, natural, modest = references(noise)
    assert unexplained > front.MODEST_ABOVE and (modest < natural).any()
    np.testing.assert_allclose(reference, modest, rtol=1e-5)


def test_equal_results_are_flat_ground() -> None:
    blank = history.blank(8, 2, 0, jnp.float32, objectives=2)
    values = jnp.asarray(
        [[1.0, 2.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0], [3.0, 3.0], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    )
    status = jnp.asarray([history.OBSERVED] * 5 + [history.FAILED, history.PENDING, history.EMPTY], jnp.int32)
    some = history.ranked(blank._replace(values=values, status=status))
    assert some.value.tolist() == [0.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]
    assert float(history.flatness(some)) == pytest.approx(3 * 1 / 6)  # one of the front is a copy, of six results
    same = blank._replace(values=jnp.ones_like(values), status=status)
    assert float(history.flatness(history.ranked(same))) == 1.0
    assert history.grow(some).values.shape == (16, 2)


# -- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.quick
def test_bad_input_is_refused_before_anything_compiles(count_compilations) -> None:
    key = jax.random.key(0)
    with count_compilations() as seen:
        for options, message in (
            ({"picks": "thompson"}, "picks: expected 'greedy' with several objectives, got 'thompson'"),
            ({"gradients": True}, "gradients: expected False with several objectives, got True"),
            ({"region": "always"}, "region: expected 'auto' or 'never' with several objectives"),
            ({"reference": (1.0, 2.0, 3.0)}, "reference: expected 2 numbers, one for each objective"),
            ({"objectives": 3}, r"objectives: expected as many as there are directions \(2\), got 3"),
        ):
            with pytest.raises(InvalidArgument, match=message):
                jhpo.minimize(trade, MIXED, jhpo.BayesOpt(**options), budget=8, directions=WAYS)
        for strategy in (jhpo.BayesOpt(objectives=2), jhpo.NSGA2(8, objectives=2)):
            message = r"objectives: expected as many as there are directions \(1\), got 2; give directions="
            with pytest.raises(InvalidArgument, match=message):
                jhpo.minimize(trade, MIXED, strategy, budget=8)
            with pytest.raises(InvalidArgument, match=message):
                jhpo.run(strategy, lambda hp: hp["lr"], MIXED, 2, key)
        for reference in (3.0, "ab", (1.0, float("nan"))):
            with pytest.raises(InvalidArgument, match="reference: expected a tuple of finite numbers"):
                jhpo.BayesOpt(reference=reference)
    assert seen.total == 0


@pytest.mark.quick
def test_another_number_of_measured_constraints_is_refused() -> None:
    """They would not be modelled."""
    small, space = dataclasses.replace(SMALL, constraints=1, objectives=2), jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    result = Evaluation(value=jnp.zeros(1), values=jnp.zeros((1, 2)), constraint=jnp.ones((1, 2)))
    with pytest.raises(InvalidArgument, match=r"constraints: expected 2, the number of constraints .* got 1"):
        jax.eval_shape(lambda: small.tell(small.init(space, jax.random.key(0)), jnp.zeros((1, 1)), result))


@pytest.mark.quick
def test_a_reference_point_is_any_vector_of_numbers() -> None:
    for given in (np.array([1.0, 2.0]), jnp.array([1.0, 2.0]), [np.float32(1.0), 2], (1.0, 2.0)):
        strategy = jhpo.BayesOpt(objectives=2, reference=given)  # type: ignore[arg-type]
        assert strategy.reference == (1.0, 2.0) and hash(strategy) == hash(dataclasses.replace(strategy))
    for bad in (np.ones((2, 1)), (1.0, "2"), (1.0, np.nan), 1.0):
        with pytest.raises(InvalidArgument, match="reference: expected a tuple of finite numbers"):
            jhpo.BayesOpt(objectives=2, reference=bad)  # type: ignore[arg-type]
