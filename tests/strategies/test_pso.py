"""The PSO strategy: options and errors, restarts that grow, constraints, noise, failed generations, absorbed points."""

from __future__ import annotations

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo import Study, testing
from jhpo.errors import InvalidArgument
from jhpo.keys import init_key, strategy_key
from jhpo.space.space import Float, Space
from jhpo.strategies.base import Evaluation
from jhpo.strategies.pso import PRESETS, PSO
from jhpo.strategies.swarms import merit_of, owners
from tests.selection import slow_except

ask, tell, absorb = jax.jit(PSO.ask), jax.jit(PSO.tell), jax.jit(PSO.absorb)
BOX = Space({"x": Float(-1.0, 1.0), "y": Float(-1.0, 1.0)})


@functools.partial(jax.jit, static_argnames=("f", "generations"))
def search(strategy, f, generations, space, key):
    def generation(state, g):
        units, state = strategy.ask(state, strategy_key(key, g))
        result = f(units, g, key)
        state = strategy.tell(state, units, result)
        return state, (units, strategy.best(state)[1], state.active, state.restarts)

    return jax.lax.scan(generation, strategy.init(space, init_key(key)), jnp.arange(generations, dtype=jnp.uint32))


def drive(strategy, f, generations, space=BOX, seed=0):
    """The last state, and of every generation: points, best value, active particles, restarts."""
    return search(strategy, f, generations, space, jax.random.key(seed))


def bowl(units, g, key):
    return Evaluation(((units - 0.3) ** 2).sum(axis=-1))


# one of each motion; the default is in the conformance suite
@pytest.mark.parametrize("variant", slow_except((), ["spso2011", "fips", "clpso", "cso"]))
def test_every_motion_keeps_the_promises_of_a_strategy(variant):
    strategy = PSO(12, variant=variant)
    testing.check_points(strategy)
    testing.check_state(strategy)
    testing.check_failures(strategy)


@pytest.mark.parametrize("variant", slow_except({"gbest", "fips"}, PRESETS))
def test_every_variant_finds_the_bottom_of_a_bowl(variant):
    _, (_, best, _, _) = drive(PSO(16, variant=variant, horizon=60.0, restart="none"), bowl, 100)
    assert best[-1] < 1e-6
    assert (np.diff(np.asarray(best)) <= 0).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"variant": "bees"}, "variant: expected one of"),
        ({"topology": "star"}, "topology: expected one of"),
        ({"bounds": "open"}, "bounds: expected one of"),
        ({"schedule": "cosine"}, "schedule: expected one of"),
        ({"restart": "always"}, "restart: expected one of"),
        ({"population": 0}, "population: expected an integer >= 1, got 0"),
        ({"population": 2}, "population: expected at least 3 particles"),
        ({"population": 4, "variant": "vonneumann"}, "population: expected at least 5 particles"),
        ({"inertia": 1.0}, "spectral radius"),
        ({"inertia": 0.6, "cognitive": 3.0, "social": 3.0}, "spectral radius"),
        ({"inertia": float("nan")}, "inertia: expected a number, got nan"),
        ({"particles": 30}, r"particles: expected a multiple of the population \(40\)"),
        ({"population": 4, "particles": 4, "variant": "cso"}, "particles: expected at least 8 particles"),
        ({"clamp": 0.0}, "clamp: expected a number"),
        ({"max_growth": 3}, "max_growth: expected a power of two, got 3"),
        ({"variant": "cso", "noisy": True}, "noisy: expected a variant with personal bests"),
        ({"variant": "fips", "topology": "global"}, "topology: expected a graph with few informants"),
        ({"reevaluate": 1.5}, "reevaluate: expected a number"),
    ],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(InvalidArgument, match=message):
        PSO(**options)


def test_seeds_tasks_and_coefficients_in_one_program():
    def best(seed, task, inertia, social):
        strategy = PSO(12, inertia=inertia, social=social, restart="none")
        state = strategy.init(BOX, jax.random.key(seed))
        for g in range(3):
            units, state = strategy.ask(state, jax.random.key(g))
            state = strategy.tell(state, units, Evaluation(jnp.abs(units - task).max(axis=-1)))
        return strategy.best(state)[1]

    seeds, tasks = jnp.arange(2, dtype=jnp.uint32), jnp.array([0.2, 0.7])
    inertia, social = jnp.array([0.2, 0.5, 0.72]), jnp.array([1.2, 1.3, 1.19])
    over_coefficients = jax.vmap(best, (None, None, 0, 0))
    many = jax.jit(jax.vmap(jax.vmap(over_coefficients, (None, 0, None, None)), (0, None, None, None)))
    together = np.asarray(many(seeds, tasks, inertia, social))
    assert together.shape == (2, 2, 3) and len(np.unique(together)) >= 8
    alone = jax.jit(best)
    for i, j, k in itertools.product(range(2), range(2), range(3)):
        assert together[i, j, k] == pytest.approx(float(alone(seeds[i], tasks[j], inertia[k], social[k])), rel=1e-5)


def test_restarts_double_the_swarm_up_to_the_cap_and_lose_nothing(count_compilations):
    def steps(units, g, key):  # a staircase: nothing to gain once the lowest stair is found
        return Evaluation(jnp.floor(4 * jnp.abs(units - 0.3)).sum(axis=-1))

    strategy = PSO(8, max_growth=4, patience=0.2)
    _, (units, best, active, restarts) = drive(strategy, steps, 500)
    active, restarts = np.asarray(active), np.asarray(restarts)
    assert restarts[-1] >= 3
    assert sorted(set(active.tolist())) == [8, 16, 32]
    assert set(active[:200].tolist()) == {8} and set(active[:400].tolist()) == {8, 16}  # 100 evaluations a particle
    assert (np.diff(np.asarray(best)) <= 0).all()
    first = np.flatnonzero(np.diff(active))[0] + 1  # the first generation of a swarm of 16, then its second block
    assert len(np.unique(np.asarray(units[first : first + 2]).reshape(16, 2), axis=0)) == 16


@pytest.mark.parametrize(("restart", "restarted"), [("same", True), ("none", False)])
def test_restart_policies(restart, restarted):
    flat = lambda units, g, key: Evaluation(jnp.ones(units.shape[0]))  # noqa: E731
    _, (_, _, active, restarts) = drive(PSO(8, restart=restart, patience=0.2), flat, 40)
    assert (int(restarts[-1]) > 0) == restarted
    assert set(np.asarray(active).tolist()) == {8}


def test_a_feasible_member_beats_better_infeasible_ones():
    def ring(units, g, key):
        x = units - 0.5
        inside = 0.04 - ((x - 0.2) ** 2).sum(axis=-1)  # a small disk off the unconstrained optimum
        return Evaluation((x**2).sum(axis=-1), constraint=inside[:, None])

    strategy = PSO(20)
    state, _ = drive(strategy, ring, 80)
    unit, value = strategy.best(state)
    lacking = float(((unit - 0.7) ** 2).sum() - 0.04)
    assert lacking <= 1e-6
    assert float(value) == pytest.approx((0.2 * np.sqrt(2) - 0.2) ** 2, abs=2e-3)


@pytest.mark.slow
def test_noise_is_averaged_out():
    def noisy(units, g, key):
        noise = jax.random.normal(jax.random.fold_in(key, g), (units.shape[0],), units.dtype)
        return Evaluation(((units - 0.3) ** 2).sum(axis=-1) + 0.1 * noise)

    def error(**options):
        run = jax.vmap(lambda k: search(PSO(20, restart="none", **options), noisy, 60, BOX, k)[0])
        state = run(jax.random.split(jax.random.key(0), 32))
        unit, value = jax.vmap(PSO(20, restart="none", **options).best)(state)
        truth = ((np.asarray(unit) - 0.3) ** 2).sum(axis=-1)
        return truth.mean(), (np.asarray(value) - truth).mean()

    plain, plain_bias = error()
    averaged, averaged_bias = error(noisy=True)
    assert plain_bias < -0.15  # the luckiest draw is believed
    assert abs(averaged_bias) < 0.08
    assert averaged < 1.5 * plain


def test_a_repeated_best_gets_the_mean_of_its_values():
    strategy = PSO(8, noisy=True, reevaluate=0.5)
    state = strategy.init(BOX, jax.random.key(0))
    units, state = ask(strategy, state, jax.random.key(1))
    state = tell(strategy, state, units, Evaluation(jnp.arange(8.0)))
    units, state = ask(strategy, state, jax.random.key(2))
    assert np.asarray(state.again).sum() == 4
    np.testing.assert_array_equal(np.asarray(units)[:4], np.asarray(state.swarm.best)[:4])
    state = tell(strategy, state, units, Evaluation(jnp.full(8, 10.0)))
    np.testing.assert_allclose(state.value[:4], (np.arange(4) + 10) / 2)
    np.testing.assert_allclose(state.seen[:4], 2)


def test_generations_that_all_failed_are_thrown_anew():
    def late(units, g, key):
        value = ((units - 0.3) ** 2).sum(axis=-1)
        return Evaluation(jnp.where(g < 5, jnp.nan, value))

    strategy = PSO(12)
    _, (units, best, _, _) = drive(strategy, late, 60)
    assert not np.isfinite(np.asarray(best[:5])).any()
    assert np.asarray(best)[-1] < 1e-3
    moved = np.abs(np.diff(np.asarray(units[:5]), axis=0)).min(axis=(1, 2))
    assert (moved > 0).all()


def test_absorbed_points_are_used():
    strategy = PSO(12)
    state = strategy.init(BOX, jax.random.key(0))
    given = jnp.full((12, 2), 0.3).at[1:].add(jnp.linspace(0.1, 0.5, 11)[:, None])
    value = ((given - 0.3) ** 2).sum(axis=-1).at[11].set(jnp.nan)
    state = absorb(strategy, state, given, Evaluation(value, mask=jnp.arange(12) != 5))
    unit, best = strategy.best(state)
    assert float(best) == 0.0
    np.testing.assert_allclose(unit, 0.3, atol=1e-7)
    assert int(np.isfinite(np.asarray(state.value)).sum()) == 10


def test_a_small_block_repeats_its_best_now_and_then():
    strategy = PSO(1, particles=8, noisy=True, reevaluate=0.25)
    _, (units, _, _, _) = drive(strategy, bowl, 48)
    repeated = 48 - len(np.unique(np.asarray(units)[:, 0], axis=0))
    assert 6 <= repeated <= 10


def test_owners_are_found_by_their_place():
    x = jax.random.uniform(jax.random.key(0), (1000, 3))
    units = jnp.concatenate([x[:40:2], x[:5] + 1e-6])
    expected = [*range(0, 40, 2), *[1000] * 5]
    np.testing.assert_array_equal(owners(x, units), expected)


def test_owners_that_float32_does_not_tell_apart_are_told_apart_in_float64(x64: None) -> None:
    x = 0.5 + 1e-12 * jnp.arange(6.0).reshape(3, 2)
    assert owners(x, x[::-1]).tolist() == [2, 1, 0]


@pytest.mark.parametrize("variant", ["spso2006", "cso"])
def test_a_late_result_goes_to_its_particle(variant):
    strategy = PSO(2, variant=variant, particles=8)
    state = strategy.init(BOX, jax.random.key(0))
    late, state = ask(strategy, state, jax.random.key(1))
    nothing = Evaluation(jnp.full(2, jnp.nan), mask=jnp.zeros(2, bool))
    state = tell(strategy, state, late, nothing)
    assert int(state.stale) == 0 and not np.isfinite(np.asarray(state.violation)).any()
    units, state = ask(strategy, state, jax.random.key(2))
    state = tell(strategy, state, units, Evaluation(jnp.array([3.0, 4.0]), mask=jnp.ones(2, bool)))
    state = absorb(strategy, state, late, Evaluation(jnp.array([9.0, 1.0]), mask=jnp.ones(2, bool)))
    np.testing.assert_array_equal(state.value[:4], [9.0, 1.0, 3.0, 4.0])
    np.testing.assert_array_equal(state.swarm.best[:2], late)
    assert float(strategy.best(state)[1]) == 1.0


def test_tells_out_of_order_through_a_study_follow_the_log(tmp_path):
    def run(folder, reopen):
        url = f"sqlite:///{folder}/study.db"
        study, pending, asked = Study(BOX, PSO(2, particles=6), url, seed=3), [], []
        for turn in range(18):
            pending += study.ask(1)
            asked.append(pending[-1].params["x"])
            if turn % 3 == 2:  # the youngest comes back first; the oldest now, or three asks later
                late, *rest = pending
                for trial in reversed(rest):
                    study.tell(trial.id, (trial.params["x"] - 0.4) ** 2 + trial.params["y"] ** 2)
                if turn % 2:
                    study.tell(late.id, 7.0)
                pending = [] if turn % 2 else [late]
            if turn == reopen:
                study.close()
                study = Study.load(url)
        best = study.best.value
        study.close()
        return asked, best

    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole, best = run(tmp_path / "a", None)
    again, best_again = run(tmp_path / "b", 11)
    assert whole == again and best == best_again
    assert len(set(whole)) == 18 and best < 0.2


def test_same_key_same_search_and_other_key_another():
    runs = [np.asarray(drive(PSO(10), bowl, 6, seed=s)[1][0]) for s in (3, 3, 4)]
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


@pytest.mark.slow
def test_derivatives_pass_through_a_search_in_both_modes():
    def mean(inertia):
        strategy = PSO(5, variant="gbest", inertia=inertia, patience=0.01)
        state = strategy.init(BOX, jax.random.key(0))

        def generation(state, g):
            units, state = strategy.ask(state, jax.random.key(g))
            value = ((units - 0.3) ** 2).sum(axis=-1)
            return strategy.tell(state, units, Evaluation(value)), value

        state, value = jax.lax.scan(generation, state, jnp.arange(12, dtype=jnp.uint32))
        return value.mean(), state.restarts

    (_, restarts), slope = jax.jit(jax.value_and_grad(mean, has_aux=True))(0.6)
    forward = jax.jit(lambda x: jax.jvp(lambda i: mean(i)[0], (x,), (1.0,))[1])(0.6)
    assert restarts >= 1 and slope != 0
    np.testing.assert_allclose(slope, forward, rtol=1e-4)


def test_a_number_that_orders_by_the_rules_of_constraints():
    rng = np.random.default_rng(0)
    value = np.concatenate([rng.normal(size=40), [0.0, 1e30, -1e30, 1e-30, -1e-30]]).astype(np.float32)
    violation = np.where(np.arange(45) % 3 == 0, rng.exponential(size=45), 0.0).astype(np.float32)
    violation[5] = np.inf
    merit = np.asarray(merit_of(jnp.asarray(value), jnp.asarray(violation), jnp.zeros((45, 1))))
    np.testing.assert_array_equal(np.argsort(merit, kind="stable"), np.lexsort((value, violation)))
    assert np.isinf(merit[5]) and np.isfinite(np.delete(merit, 5)).all()
