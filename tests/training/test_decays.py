"""Every schedule of optax, with traced numbers, equals optax's own; and has a derivative."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo import schedules
from tests.selection import slow_except

COUNTS = jnp.arange(0, 45, dtype=jnp.int32)
# numbers that are traced together, and the names they go by; the first set is ordinary, the others are edges
CASES = {
    "constant_schedule": [{"value": 0.3}],
    "polynomial_schedule": [
        {"init_value": 1.0, "end_value": 0.1, "power": 2.0, "transition_steps": 20, "transition_begin": 5},
        {"init_value": 1.0, "end_value": 0.1, "power": 2.0, "transition_steps": 0, "transition_begin": -3},
    ],
    "linear_schedule": [{"init_value": 0.0, "end_value": 0.7, "transition_steps": 20, "transition_begin": -2}],
    "exponential_decay": [
        {"init_value": 1.0, "transition_steps": 7, "decay_rate": 0.6, "transition_begin": 4, "end_value": 0.2},
        {"init_value": 1.0, "transition_steps": 7, "decay_rate": 1.2, "transition_begin": -4, "end_value": 2.0},
        {"init_value": 1.0, "transition_steps": 7, "decay_rate": 0.0},
        {"init_value": 1.0, "transition_steps": 0, "decay_rate": 0.5},
    ],
    "cosine_decay_schedule": [{"init_value": 0.5, "decay_steps": 30, "alpha": 0.1, "exponent": 1.5}],
    "linear_onecycle_schedule": [{"transition_steps": 33, "peak_value": 0.8, "pct_start": 0.25, "pct_final": 0.7}],
    "cosine_onecycle_schedule": [{"transition_steps": 33, "peak_value": 0.8, "pct_start": 0.25, "div_factor": 9.0}],
    "warmup_constant_schedule": [{"init_value": 0.1, "peak_value": 0.8, "warmup_steps": 9}],
    "warmup_cosine_decay_schedule": [
        {"init_value": 0.1, "peak_value": 0.8, "warmup_steps": 9, "decay_steps": 31, "end_value": 0.05},
        {"init_value": 0.1, "peak_value": 0.0, "warmup_steps": 0, "decay_steps": 31, "end_value": 0.05},
    ],
    "warmup_exponential_decay_schedule": [
        {"init_value": 0.1, "peak_value": 0.8, "warmup_steps": 9, "transition_steps": 5, "decay_rate": 0.7}
    ],
}
SETS = [(name, i) for name, sets in CASES.items() for i in range(len(sets))]


def values(module, name, arguments):
    schedule = getattr(module, name)(**arguments)
    return jnp.stack([jnp.asarray(schedule(t), jnp.result_type(float)) for t in COUNTS])


def equal(traced, arguments, expected):
    found = jax.jit(lambda a: jnp.stack([jnp.asarray(traced(a)(t), jnp.result_type(float)) for t in COUNTS]))(arguments)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


SHORT = {"linear_schedule-0", "exponential_decay-1", "warmup_cosine_decay_schedule-0", "cosine_onecycle_schedule-0"}


@pytest.mark.parametrize(("name", "which"), slow_except(SHORT, SETS, lambda s: f"{s[0]}-{s[1]}"))
def test_traced_numbers_give_the_values_of_optax(name, which):
    arguments = CASES[name][which]
    with jax.numpy_dtype_promotion("standard"):
        expected = values(optax, name, arguments)
    equal(lambda a: getattr(schedules, name)(**a), arguments, expected)
    np.testing.assert_allclose(values(schedules, name, arguments), expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine"])
def test_traced_boundaries(kind):
    pairs = [(20, 0.5), (8, 0.3), (31, 2.0)]
    mine, theirs = (
        getattr(m, f"piecewise_{'constant' if kind == 'constant' else 'interpolate'}_schedule")
        for m in (schedules, optax)
    )
    first = () if kind == "constant" else (kind,)
    with jax.numpy_dtype_promotion("standard"):
        expected = jnp.stack([theirs(*first, 0.9, dict(pairs))(t) for t in COUNTS])
    equal(lambda a: mine(*first, *a), (0.9, pairs), expected)
    equal(lambda a: mine(*first, a, dict(pairs)), 0.9, expected)


def test_joined_and_restarted():
    cycles = [
        {"init_value": 0.0, "peak_value": p, "warmup_steps": 3, "decay_steps": 13, "end_value": 0.01}
        for p in (1.0, 0.5, 0.2)
    ]
    with jax.numpy_dtype_promotion("standard"):
        expected = jnp.stack([optax.sgdr_schedule([dict(c) for c in cycles])(t) for t in COUNTS])
    equal(schedules.sgdr_schedule, cycles, expected)
    parts = [lambda t: 1.0 * t, lambda t: -1.0 * t]
    with jax.numpy_dtype_promotion("standard"):
        expected = jnp.stack([optax.join_schedules(parts, [7])(t) for t in COUNTS])
    equal(lambda at: schedules.join_schedules(parts, [at]), 7, expected)


def test_no_schedule_of_optax_is_missing():
    public = [n for n in dir(optax.schedules) if n.endswith(("_schedule", "_decay", "_schedules")) and n[0] != "_"]
    assert len(public) >= 14
    for name in public:
        mine, theirs = (inspect.signature(getattr(m, name)).parameters for m in (schedules, optax))
        assert [(p.name, p.default) for p in mine.values()] == [(p.name, p.default) for p in theirs.values()]


def test_peak_and_warm_up_have_finite_gradients():
    def total(a):
        return jnp.sum(jnp.stack([schedules.warmup_cosine_decay_schedule(0.0, a[0], a[1], 40.0)(t) for t in COUNTS]))

    grad = jax.grad(total)(jnp.array([0.5, 10.0]))
    slope = total(jnp.array([0.51, 10.0])) - total(jnp.array([0.49, 10.0]))
    assert np.all(np.isfinite(grad)) and abs(grad[0] - slope / 0.02) < 1e-3 * abs(grad[0])


@pytest.mark.parametrize("passed", [-1000, -3, 0, 2])
def test_a_decay_that_has_not_begun_has_a_gradient(passed):
    """The power of a negative share overflows, and its gradient was NaN though the power was not taken."""

    def rate(peak, decay):
        return schedules.exponential_decay(peak, 1, decay, transition_begin=1000)(1000 + passed)

    grad = jax.grad(rate, (0, 1))(jnp.float32(0.5), jnp.float32(0.1))
    share = max(passed, 0)
    np.testing.assert_allclose(grad, (0.1**share, 0.5 * share * 0.1 ** max(share - 1, 0)), rtol=1e-5)


def test_bad_arguments_are_named():
    with pytest.raises(jhpo.InvalidArgument, match="decay_steps: expected a number above 0, got 0"):
        schedules.cosine_decay_schedule(1.0, 0)
    with pytest.raises(jhpo.InvalidArgument, match="interpolate_type"):
        schedules.piecewise_interpolate_schedule("cubic", 1.0)


def test_a_population_tunes_peak_and_warm_up():
    x = np.linspace(-1, 1, 16, dtype=np.float32)[:, None]
    line = (lambda key, x: {"w": jnp.zeros((1,))}, lambda p, x: x @ p["w"])
    task = jhpo.supervised(
        line,
        lambda hp: optax.adamw(schedules.warmup_cosine_decay_schedule(0.0, hp["peak"], hp["warm"], 20)),
        "regression",
        train=(x, 3 * x[:, 0]),
        valid=(x, 3 * x[:, 0]),
        batch_size=8,
        steps=20,
    )
    space = jhpo.Space({"peak": jhpo.Float(1e-2, 1.0, log=True), "warm": jhpo.Int(1, 15)})
    result = jhpo.minimize(task, space, jhpo.RandomSearch(8), budget=8)
    assert result.value < 3.0
