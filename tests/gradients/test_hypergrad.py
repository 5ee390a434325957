"""jhpo.hypergrad: values against closed forms, the choice of a method, diagnostics, number of compilations."""

from __future__ import annotations

import dataclasses
import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.gradients import Spec, attempt, estimate
from jhpo.gradients.dependence import derivative, names_of, reaches
from jhpo.gradients.facts import facts_of
from jhpo.gradients.plan import Findings, choose
from jhpo.kernels.mixed import mixed_grad
from tests.gradients.hyper_tasks import KEY, Descent, Ridge, closed_form, ridge_gradient

# ---- values ----


@pytest.mark.parametrize(
    "options",
    [
        {"method": "forward"},
        {"method": "reverse"},
        {"method": "reverse", "levels": 2},
        {"method": "truncated", "window": 10},
        {"method": "reverse", "seeds": 2},
    ],
    ids=str,
)
def test_exact_methods_give_the_closed_form(x64, options):
    value, grad, diagnostics = jhpo.hypergrad(Descent(), {"lr": 0.3}, KEY, **options)
    np.testing.assert_allclose(grad["lr"], closed_form(0.3), rtol=1e-12)
    np.testing.assert_allclose(value, 0.7**20 / 2, rtol=1e-12)
    assert diagnostics.method == options["method"] and not diagnostics.notes and diagnostics.trusted
    assert diagnostics.exponent == 0.0 and diagnostics.growth is None  # nothing grows, and the norms say so


def test_the_last_steps_are_those_of_the_member(x64):
    class Fixed:
        steps = 5

        def init(self, hp, key):
            return jnp.ones(())

        def step(self, hp, w, t):
            return w - hp["lr"] * (1.0 + 0.1 * t) * w

        def evaluate(self, hp, w):
            return w**2

    class Own(Fixed):
        max_steps = 8

        def steps(self, hp):  # type: ignore[override]
            return hp["n"]

    hp = {"lr": jnp.asarray(0.1), "n": jnp.int32(5)}
    for window, horizon in ((1, 1.0), (2, 1.0), (5, 1.0), (8, 1.0), (2, 0.6)):
        own = jhpo.hypergrad(Own(), hp, KEY, "truncated", window=window, wrt=["lr"], horizon=horizon)
        fixed = jhpo.hypergrad(
            Fixed(), {"lr": 0.1}, KEY, "truncated", window=min(window, 5), horizon=horizon, check=False
        )
        np.testing.assert_allclose((own.value, own.grad["lr"]), (fixed.value, fixed.grad["lr"]), rtol=1e-12)


@pytest.mark.parametrize("options", [{"method": "pes"}, {"method": "es_single", "window": 5}], ids=str)
def test_perturbed_methods_agree_within_their_error(x64, options):
    value, grad, diagnostics = jhpo.hypergrad(Descent(), {"lr": 0.3}, KEY, pairs=400, **options)
    assert abs(float(grad["lr"]) - closed_form(0.3)) < 4 * float(diagnostics.error["lr"])
    assert float(diagnostics.error["lr"]) < 0.2 * abs(closed_form(0.3))
    np.testing.assert_allclose(value, 0.7**20 / 2, rtol=1e-12)  # of the training itself, not of its perturbations


def test_perturbed_methods_see_the_initialisation(x64):
    class FromHp(Descent):
        def init(self, hp, key):
            return hp["w0"], key

    _, grad, diagnostics = jhpo.hypergrad(
        FromHp(), {"lr": 0.1, "w0": 2.0}, KEY, method="es_single", wrt=["w0"], pairs=50
    )
    expected = 2.0 * 0.9**20  # the loss is w0^2 c / 2; odd in the noise, so that only the noise's variance spreads
    assert abs(float(grad["w0"]) - expected) < 4 * float(diagnostics.error["w0"])
    assert float(grad["lr"]) == 0.0


@pytest.mark.parametrize("solver", ["cg", "neumann", "nystrom"])
def test_implicit_gives_the_ridge_formula(x64, solver):
    options = {"iterations": 3} if solver != "neumann" else {"iterations": 400}
    _, grad, diagnostics = jhpo.hypergrad(Ridge(), {"log_l2": 0.5}, KEY, method="implicit", solver=solver, **options)
    np.testing.assert_allclose(grad["log_l2"], ridge_gradient(0.5), rtol=1e-5)
    assert diagnostics.residual < 1e-5 and not diagnostics.notes


def test_norms_over_time_of_reverse_and_forward(x64):
    reverse = jhpo.hypergrad(Descent(), {"lr": 0.3}, KEY, method="reverse", levels=1).diagnostics.norms
    np.testing.assert_allclose(reverse, 0.7 ** (10 + np.arange(9, -1, -1)), rtol=1e-12)  # w_T (1 - eta)^(T - t)
    forward = jhpo.hypergrad(Descent(), {"lr": 0.3}, KEY, method="forward").diagnostics.norms
    t = np.arange(1, 11)
    np.testing.assert_allclose(forward, t * 0.7 ** (t - 1), rtol=1e-12)


def test_trees_arrays_and_fixed_leaves():
    class Nested(Descent):
        def step(self, hp, state, t):
            scale = jnp.where(hp["kind"] == 1, 1.0, 2.0)
            return state[0] - hp["rates"]["lr"][t] * scale * state[0], state[1]

    hp = {"rates": {"lr": np.full(10, 0.3)}, "kind": 1, "flag": True}
    value, grad, diagnostics = jhpo.hypergrad(Nested(), hp, KEY, wrt=["rates"])
    np.testing.assert_allclose(grad["rates"]["lr"], np.full(10, closed_form(0.3) / 10), rtol=1e-5)
    assert diagnostics.method == "reverse" and diagnostics.names == ("rates.lr",) and diagnostics.size == 10
    assert float(grad["kind"]) == float(grad["flag"]) == 0.0
    assert grad["rates"]["lr"].dtype == value.dtype == jnp.float32
    one = jhpo.hypergrad(Nested(), hp, KEY, wrt="rates.lr")
    np.testing.assert_array_equal(one.grad["rates"]["lr"], grad["rates"]["lr"])


def test_plain_objectives_and_horizons(x64):
    value, grad, diagnostics = jhpo.hypergrad(lambda hp, key: jnp.sum(hp**3), np.array([1.0, 2.0]), KEY)
    assert float(value) == 9.0 and grad.tolist() == [3.0, 12.0]
    assert diagnostics.steps == 0 and "no steps" in diagnostics.why and diagnostics.names == ("value",)
    half = jhpo.hypergrad(Descent(), {"lr": 0.3}, KEY, horizon=0.5)
    np.testing.assert_allclose(half.grad["lr"], closed_form(0.3, 5), rtol=1e-12)
    assert half.diagnostics.steps == 5


def test_steps_that_depend_on_the_hyperparameters(x64):
    class Variable:
        max_steps = 10
        init, step, evaluate = (getattr(Descent(), name) for name in ("init", "step", "evaluate"))

        def steps(self, hp):
            return hp["n"]

    for n in (4, 10):
        _, grad, _ = jhpo.hypergrad(Variable(), {"lr": 0.3, "n": n}, KEY, wrt=["lr"])
        np.testing.assert_allclose(grad["lr"], closed_form(0.3, n), rtol=1e-12)


def test_estimate_inside_jit_and_vmap(x64):
    rates = jnp.array([0.1, 0.3])
    grads = jax.jit(jax.vmap(lambda lr: estimate(Descent(), {"lr": lr}, KEY, Spec("reverse", levels=1)).grad))(rates)
    np.testing.assert_allclose(grads["lr"], closed_form(rates), rtol=1e-12)


# ---- auto ----


def test_auto_takes_forward_for_two_and_reverse_for_more(x64):
    assert jhpo.hypergrad(Descent(), {"lr": 0.3}, KEY).diagnostics.method == "forward"
    rates = {"lr": jnp.full((3,), 0.1)}
    task = type("Three", (Descent,), {"step": lambda self, hp, s, t: (s[0] * (1 - jnp.sum(hp["lr"])), s[1])})()
    assert jhpo.hypergrad(task, rates, KEY).diagnostics.method == "reverse"


def test_auto_takes_implicit_where_training_has_converged(x64):
    _, grad, diagnostics = jhpo.hypergrad(Ridge(), {"log_l2": 0.5}, KEY)
    assert diagnostics.method == "implicit" and diagnostics.stationary < 1e-3
    np.testing.assert_allclose(grad["log_l2"], ridge_gradient(0.5), rtol=1e-4)
    assert jhpo.hypergrad(Ridge(steps=5), {"log_l2": 0.5}, KEY).diagnostics.method == "forward"


def test_auto_leaves_implicit_at_negative_curvature(x64):
    class Saddle(Ridge):  # at w = 0 the gradient is zero and the curvature negative
        def train_loss(self, hp, w):
            return jnp.sum(jnp.cos(w)) * jnp.exp(hp["log_l2"])

        def init(self, hp, key):
            return {"w": jnp.full((3,), 1e-9)}

        def step(self, hp, state, t):
            return {"w": state["w"] * 0.1}

    diagnostics = jhpo.hypergrad(Saddle(steps=4), {"log_l2": 0.0}, KEY, wrt=["log_l2"]).diagnostics
    assert diagnostics.method == "forward" and any("in vain" in note for note in diagnostics.notes)


def test_auto_leaves_reverse_mode_when_training_diverges(x64):
    """eta = 2.2 on h = 1 for 50 steps: exponent 50 log 1.2 = 9, gradient 3.45e9."""
    found = jhpo.hypergrad(Descent(steps=50), {"lr": 2.2}, KEY).diagnostics
    assert found.method == "pes" and "chaotic" in found.why
    np.testing.assert_allclose(found.exponent / 49, np.log(1.2), rtol=1e-9)
    with pytest.warns(UserWarning, match="chaotic.*horizon=0.5"):
        asked = jhpo.hypergrad(Descent(steps=50), {"lr": 2.2}, KEY, method="reverse")
    np.testing.assert_allclose(asked.grad["lr"], 50 * 1.2**99, rtol=1e-9)
    assert not asked.diagnostics.trusted


def test_auto_averages_seeds_where_training_is_random_and_mildly_chaotic(x64):
    task = Descent(steps=50, noise=0.1)
    _, grad, diagnostics = jhpo.hypergrad(task, {"lr": 2.2}, KEY)
    assert diagnostics.method == "forward" and diagnostics.seeds == 8 and "seeds" in diagnostics.why
    keys = [KEY, *(jax.random.fold_in(KEY, jnp.uint32(i)) for i in range(1, 8))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = functools.partial(jhpo.hypergrad, task, {"lr": 2.2}, method="forward", check=False)
        single = np.array([run(k).grad["lr"] for k in keys])
    clipped = single * np.minimum(1, np.median(np.abs(single)) / np.abs(single))
    np.testing.assert_allclose(grad["lr"], clipped.mean(), rtol=1e-9)
    np.testing.assert_allclose(diagnostics.agreement, abs(np.sign(single).mean()), rtol=1e-9)


@dataclasses.dataclass(frozen=True)
class Rising:
    """Sound, with norms that rise as a chaotic training's do: what is added to w grows with the time."""

    steps: int = 40

    def init(self, hp, key):
        return jnp.zeros(())

    def step(self, hp, w, t):
        return w + hp["lr"] * ((t + 1.0) / self.steps) ** hp["power"]

    def evaluate(self, hp, w):
        return w


def test_a_probe_settles_doubts_once_for_all_trainings_of_a_structure(monkeypatch):
    probes, program = [], attempt.probe_program

    def watched(*args):
        probes.append(args)
        return program(*args)

    monkeypatch.setattr(attempt, "probe_program", watched)
    run = lambda lr, power: jhpo.hypergrad(Rising(), {"lr": lr, "power": power}, KEY, wrt=["lr"]).diagnostics  # noqa: E731
    assert 1.0 < run(0.1, 0.5).exponent < 2.5 and not probes  # norms that rise with t^1.5
    first = run(0.1, 4.0)
    assert len(probes) == 1 and first.method == "forward" and first.exponent == 0.0 and first.growth.shape == (40,)
    again = run(0.2, 4.1)
    assert len(probes) == 1 and abs(again.exponent) < 1.0 and again.growth is None and again.trusted
    assert run(0.1, 9.0).method == "forward" and len(probes) == 2  # the norms have grown since


def test_rules_of_auto_by_themselves():
    facts = facts_of(jhpo.as_trainable(Descent()), {"lr": jnp.float32(0.1)}, KEY, Spec(wrt=(True,)))
    many = facts._replace(size=1000, steps=100)
    growth = np.full(100, 0.21)
    pick = lambda facts, exponent: choose(facts, Spec("auto"), Findings(exponent, growth)).spec  # noqa: E731
    assert pick(facts, 1.0).method == "forward" and pick(facts._replace(size=3), 1.0).method == "reverse"
    assert pick(facts._replace(random=True), 10.0).seeds == 8
    assert pick(facts, 20.0).method == "pes"
    assert pick(many, 20.0) == Spec("truncated", window=23)  # 23 steps of 0.21 are an exponent below 5
    assert pick(facts, np.inf).method == "pes"
    ended = choose(many, Spec("auto"), Findings(20.0, np.append(growth, np.zeros(50)))).spec
    assert ended == Spec("truncated", window=23)  # steps behind a member's own do not count


# ---- memory ----


class Wide(Descent):
    """A state of 40,000 numbers."""

    def init(self, hp, key):
        return jnp.ones((40_000,), jnp.float32), key

    def step(self, hp, state, t):
        return jnp.sin(state[0] * (1 - hp["lr"])), state[1]

    def evaluate(self, hp, state):
        return jnp.mean(state[0])


def test_fewest_levels_that_fit_the_memory():
    size = 160_000  # bytes of a state
    run = functools.partial(jhpo.hypergrad, Wide(steps=64), {"lr": 0.1}, KEY, method="reverse", check=False)
    plain, some, few = run(), run(memory=24 * size), run(memory=17 * size)
    assert plain.diagnostics.levels == 0 and plain.diagnostics.memory_measured > 64 * size
    assert some.diagnostics.levels == 2 and some.diagnostics.memory_measured < 24 * size
    assert few.diagnostics.levels == 3 and few.diagnostics.memory_measured < 17 * size
    for found in (plain, some, few):
        assert 0.5 < found.diagnostics.memory_expected / found.diagnostics.memory_measured < 2
        np.testing.assert_allclose(found.grad["lr"], plain.grad["lr"], rtol=1e-5)
    assert "fewest levels" in some.diagnostics.why
    with pytest.raises(jhpo.InvalidArgument, match=r"^memory: expected at least \d+ bytes .* got 1000"):
        run(memory=1000)
    with pytest.raises(jhpo.InvalidArgument, match="memory: expected at least"):
        run(memory=24 * size, levels=0)


# ---- diagnostics ----


def test_diagnostics_print_readably():
    text = str(jhpo.hypergrad(Descent(), {"lr": 0.3}, KEY, method="reverse", levels=2).diagnostics)
    first, *rest = text.splitlines()
    assert first == "reverse, 2 levels of rematerialisation: 1 number in lr, 10 steps"
    assert [line.split()[0] for line in rest] == ["why", "chaos", "norms", "memory"]
    assert "expected" in text and "measured" in text and "sound" in text
    assert all(len(line) < 140 for line in text.splitlines())


def test_unused_hyperparameters_are_noted():
    diagnostics = jhpo.hypergrad(Descent(), {"lr": 0.3, "typo": 1.0}, KEY).diagnostics
    assert any("typo" in note and "do not reach" in note for note in diagnostics.notes)


# ---- supervised trainables, dependence, compilations ----


def supervised_task(**options):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    init = lambda key, x: {"w": jax.random.normal(key, (4, 2), jnp.float32) / 2}  # noqa: E731
    model = (init, lambda p, x: jnp.tanh(x @ p["w"]))
    return jhpo.supervised(
        model,
        lambda hp: optax.adamw(hp["lr"], b1=hp["b1"], weight_decay=hp["wd"], eps_root=1e-8),
        train=(x[:48], y[:48]),
        valid=(x[48:], y[48:]),
        batch_size=16,
        steps=12,
        **options,
    )


def test_supervised_by_finite_differences(x64):
    task, hp = supervised_task(), {"lr": 0.05, "b1": 0.8, "wd": 0.1}
    found = jhpo.hypergrad(task, hp, KEY, levels=2)
    assert found.diagnostics.method == "reverse" and found.diagnostics.steps == 12
    forward = jhpo.hypergrad(task, hp, KEY, method="forward")
    for name in hp:  # the network is float32: the differences are as coarse as that
        np.testing.assert_allclose(found.grad[name], forward.grad[name], rtol=1e-4)
        e = 2e-2 * hp[name]
        up, down = (jhpo.hypergrad(task, hp | {name: hp[name] + s * e}, KEY, levels=2).value for s in (1, -1))
        np.testing.assert_allclose(found.grad[name], (float(up) - float(down)) / (2 * e), rtol=3e-2)


def test_error_rates_of_supervised_trainables_are_refused():
    with pytest.raises(jhpo.InvalidArgument, match="metric: expected an evaluation with a derivative"):
        jhpo.hypergrad(supervised_task(), {"lr": 0.05, "b1": 0.8, "wd": 0.1}, KEY, metric="error")


def test_dependence_through_scans_and_mixed_gradients():
    def train(hp):
        def turn(w, t):
            slope = mixed_grad(lambda w: hp["c"] * w**2)(w)
            return w - hp["lr"] * jnp.sign(slope), None

        return jax.lax.scan(turn, jnp.float32(1.0), jnp.arange(3))[0]

    hp = {"c": jnp.float32(1.0), "lr": jnp.float32(0.1), "n": jnp.int32(3)}
    assert names_of(hp) == ["c", "lr", "n"]
    assert reaches(train, hp) == [True, True, False]
    assert derivative(train, hp).smooth == [False, True]


def test_a_second_call_compiles_nothing(count_compilations):
    hp = {"lr": 0.3}
    jhpo.hypergrad(Descent(steps=7), hp, KEY, method="reverse")
    with count_compilations() as seen:
        jhpo.hypergrad(Descent(steps=7), {"lr": 0.25}, jax.random.fold_in(KEY, 1), method="reverse")
        jhpo.hypergrad(Descent(steps=7), {"lr": np.float32(0.2)}, KEY, method="reverse")
    assert not [n for n in seen.names if "program" in n], seen.names


def test_a_sound_training_needs_one_program(count_compilations):
    with count_compilations() as seen:
        jhpo.hypergrad(Descent(steps=9), {"lr": 0.3}, KEY)
    assert [n for n in seen.names if "program" in n] == ["jit(estimate_program)"], seen.names


def test_custom_vjp_leaves_reverse_mode():
    """Functions without forward mode: the exponent comes from the norms of dE/dw_t, and `forward` says why not."""

    @jax.custom_vjp
    def square(x):
        return x**2

    square.defvjp(lambda x: (x**2, x), lambda x, g: (2 * x * g,))
    judged = type("Judged", (Descent,), {"evaluate": lambda self, hp, s: square(s[0]) / 2})()
    _, grad, diagnostics = jhpo.hypergrad(judged, {"lr": 0.3}, KEY)
    np.testing.assert_allclose(grad["lr"], closed_form(0.3), rtol=1e-5)
    assert diagnostics.method == "reverse" and diagnostics.exponent == 0.0
    with pytest.raises(jhpo.InvalidArgument, match="custom_vjp"):
        jhpo.hypergrad(judged, {"lr": 0.3}, KEY, method="forward")

    def step(self, hp, state, t):
        return state[0] - hp["lr"] * jnp.sqrt(square(state[0])) * jnp.sign(state[0]), state[1]

    stepped = type("Stepped", (Descent,), {"step": step})(steps=50)
    assert jhpo.hypergrad(stepped, {"lr": 0.3, "unused": 1.0}, KEY, wrt=["lr"]).diagnostics.exponent == 0.0
    found = jhpo.hypergrad(stepped, {"lr": 2.2}, KEY)
    np.testing.assert_allclose(found.diagnostics.exponent, 49 * np.log(1.2), rtol=1e-4)
    assert found.diagnostics.method == "pes" and "chaotic" in found.diagnostics.why
