"""Reverse (every level, mixed and plain), truncated and forward derivatives of a training against closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jhpo.kernels.mixed import mixed_grad
from jhpo.kernels.online import online, window_value_and_grad
from jhpo.kernels.programs import equations
from jhpo.kernels.shuffle import batch_rows
from jhpo.kernels.unroll import block_length, gradient_bytes, reverse_bytes, truncated, unroll
from jhpo.kernels.unroll_grad import forward_value_and_grad, reverse_value_and_grad
from tests.kernels.hyper_problems import descent, digits_training
from tests.selection import slow_except


@pytest.fixture
def loose():
    """Optax itself promotes int32 counters to floats: its own code runs under JAX's ordinary promotion."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def all_ways(step, evaluate, init, hp, steps):
    """The gradient by every reverse level and by forward mode (hp one array)."""
    yield reverse_value_and_grad(step, evaluate, init, hp, steps)[1]
    for levels in (1, 2, 3):
        yield reverse_value_and_grad(step, evaluate, init, hp, steps, levels)[1]
    yield forward_value_and_grad(lambda h: evaluate(h, unroll(step, h, init(h), steps)), hp, chunk=3)[1]


def test_one_rate_per_step_on_a_quadratic(x64):
    h, w0 = 0.7, 1.3
    rates = jnp.asarray(np.random.default_rng(0).uniform(0.1, 1.2, 7))
    factors = 1 - rates * h
    products = jnp.array([jnp.prod(jnp.delete(factors, t)) for t in range(7)])
    expected = -h * w0 * products  # d w_T / d eta_t
    for got in all_ways(descent(h), lambda hp, w: w, lambda hp: jnp.float64(w0), rates, 7):
        np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_heavy_ball_against_its_matrix(x64):
    h, steps = 0.9, 12

    def step(hp, state, t):
        w, memory = state
        tx = optax.sgd(hp[0], momentum=hp[1])
        updates, memory = tx.update(mixed_grad(lambda p: h * p**2 / 2)(w), memory, w)
        return optax.apply_updates(w, updates), memory

    def init(hp):
        return jnp.float64(1.5), optax.sgd(hp[0], momentum=hp[1]).init(jnp.float64(1.5))

    def by_matrix(hp):
        a, b = hp[0], hp[1]
        matrix = jnp.stack([jnp.stack([1 - a * h, -a * b]), jnp.stack([jnp.float64(h), b])])
        return (jnp.linalg.matrix_power(matrix, steps) @ jnp.array([1.5, 0.0]))[0]

    hp = jnp.array([0.4, 0.8])
    expected = jax.grad(by_matrix)(hp)
    for got in all_ways(step, lambda hp, s: s[0], init, hp, steps):
        np.testing.assert_allclose(got, expected, rtol=1e-10)


@pytest.mark.slow
def test_all_modes_agree_on_the_digits_network_in_float32():
    steps, hp = 47, jnp.array([-2.0, 0.5], jnp.float32)

    def tx(hp):
        return optax.sgd(jnp.exp(hp[0]), momentum=jax.nn.sigmoid(hp[1]))

    init, step, evaluate = digits_training(tx)
    plain_step = digits_training(tx, grad=jax.grad)[1]
    value, expected, _ = jax.jit(lambda hp: reverse_value_and_grad(plain_step, evaluate, init, hp, steps))(hp)
    scale = np.max(np.abs(expected))
    for levels in (1, 2):  # without and with recomputed gradients; all levels agree on small problems above
        other, got, _ = jax.jit(lambda hp, n=levels: reverse_value_and_grad(step, evaluate, init, hp, steps, n))(hp)
        np.testing.assert_allclose(got, expected, atol=1e-5 * scale, rtol=0)
        np.testing.assert_allclose(other, value, rtol=1e-6)
    run = jax.jit(lambda hp: forward_value_and_grad(lambda h: evaluate(h, unroll(step, h, init(h), steps)), hp))
    np.testing.assert_allclose(run(hp)[1], expected, atol=1e-5 * scale, rtol=0)


def test_truncation_stops_the_derivative(x64):
    """At the optimum of L = a w^2/2 - hp w, K last steps give the Neumann series of K - 1 products."""
    from jhpo.kernels.implicit import neumann

    matrix = jnp.array([[2.0, 0.5], [0.5, 1.0]])
    hp, rate, window = jnp.array([1.0, -2.0]), 0.3, 6
    best = jnp.linalg.solve(matrix, hp)

    def step(hp, w, t):
        return w - rate * (matrix @ w - hp)

    weights = jnp.array([0.3, 1.7])
    grad = jax.grad(lambda hp: weights @ truncated(step, hp, best, 20, window))(hp)
    series = neumann(lambda x: matrix @ x, weights, window - 1, rate).x
    np.testing.assert_allclose(grad, series, rtol=1e-12)
    _, by_window, _ = reverse_value_and_grad(step, lambda hp, w: weights @ w, lambda hp: best, hp, 20, window=window)
    np.testing.assert_allclose(by_window, series, rtol=1e-12)


def test_norms_over_time_are_those_of_the_adjoint(x64):
    rate, h, steps = 0.3, 0.8, 9
    run = reverse_value_and_grad(
        descent(h), lambda hp, w: w, lambda hp: jnp.float64(2.0), jnp.float64(rate), steps, 2, norms=True
    )
    np.testing.assert_allclose(run[2], np.abs((1 - rate * h) ** np.arange(steps - 1, -1, -1)), rtol=1e-12)


def test_integer_and_key_leaves_pass_through(x64):
    def step(hp, state, t):
        w, count, key = state
        key, sub = jax.random.split(key)
        return w - hp["rate"] * w + 0.01 * jax.random.normal(sub), count + 1, key

    hp = {"rate": jnp.float64(0.2), "choice": jnp.int32(1)}
    init = lambda hp: (jnp.float64(1.0), jnp.int32(0), jax.random.key(3))  # noqa: E731
    evaluate = lambda hp, s: s[0] * hp["choice"].astype(s[0].dtype)  # noqa: E731
    reverse = reverse_value_and_grad(step, evaluate, init, hp, 5, 2)[1]
    forward = forward_value_and_grad(lambda h: evaluate(h, unroll(step, h, init(h), 5)), hp)[1]
    np.testing.assert_allclose(reverse["rate"], forward["rate"], rtol=1e-12)
    assert float(reverse["choice"]) == 0.0 and float(forward["choice"]) == 0.0


@pytest.mark.parametrize(("steps", "levels"), [(1, 1), (1, 3), (2, 2), (13, 2), (17, 3), (97, 2)])
def test_lengths_without_a_good_divisor(x64, steps, levels):
    step = lambda hp, w, t: w - hp * jnp.sin(w) + 0.01 * t.astype(w.dtype)  # noqa: E731
    one = lambda n: reverse_value_and_grad(step, lambda hp, w: w, lambda hp: hp + 1.0, jnp.float64(0.3), steps, n)  # noqa: E731
    np.testing.assert_allclose(one(levels)[1], one(0)[1], rtol=1e-12)
    assert 1 <= block_length(steps, max(levels, 2)) <= steps


@pytest.mark.parametrize(("grad", "kept"), [(mixed_grad, 1.0), (jax.grad, 4.0)], ids=["mixed", "plain"])
def test_one_level_keeps_gradients_where_it_can_and_states_where_not(loose, grad, kept):
    steps, size = 400, 256
    params = jnp.linspace(-1.0, 1.0, size, dtype=jnp.float32)

    def step(hp, state, t):  # a state is four times a gradient: parameters, two moments and an average
        p, memory, average = state
        updates, memory = optax.adam(hp, eps_root=1e-8).update(grad(lambda p: jnp.sum(jnp.cos(p)))(p), memory)
        p = optax.apply_updates(p, updates)
        return p, memory, 0.9 * average + 0.1 * p * average

    start = (params, optax.adam(0.1).init(params), params)
    run = jax.jit(
        lambda hp: reverse_value_and_grad(step, lambda hp, s: jnp.sum(s[2] ** 2), lambda hp: start, hp, steps, 1)[:2]
    )
    program = run.lower(jnp.float32(0.01)).compile()
    state, one = 16 * size, 4 * size
    expected = reverse_bytes(steps, 1, state, gradient_bytes(step, jnp.float32(0.01), start))
    assert gradient_bytes(step, jnp.float32(0.01), start) == (one if grad is mixed_grad else 0)
    assert program.memory_analysis().temp_size_in_bytes == pytest.approx(expected, rel=0.1)
    assert expected == pytest.approx(steps * one * kept, rel=0.5)


@pytest.mark.parametrize(("levels", "passes"), [(1, 1), (2, 2)])
def test_a_backward_pass_does_not_find_its_batches_again(levels, passes):
    data, key = jnp.linspace(0.0, 1.0, 100), jax.random.key(0)

    def step(hp, w, t):
        batch = data[batch_rows(key, t, 100, 8)]
        return w - hp * mixed_grad(lambda p: jnp.mean((jnp.sin(p) - batch) ** 2))(w)

    def remainders(fun):
        return jax.jit(fun).lower(jnp.float32(0.1)).compile().as_text().count(" remainder(")

    training = remainders(lambda hp: unroll(step, hp, jnp.float32(1.0), 36))
    gradient = remainders(jax.grad(lambda hp: unroll(step, hp, jnp.float32(1.0), 36, levels)))
    assert 0 < training and gradient == passes * training


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="elsewhere sums are left as they are")
@pytest.mark.parametrize("norms", [False, True])
def test_the_sums_for_hyperparameters_are_wide(norms):
    def gradient(hp):
        step = lambda hp, w, t: w - hp * mixed_grad(lambda p: jnp.sum(jnp.cos(p)))(w)  # noqa: E731
        init = lambda hp: jnp.linspace(-1.0, 1.0, 200).reshape(10, 20)  # noqa: E731
        return reverse_value_and_grad(step, lambda hp, w: jnp.max(w), init, hp, 36, levels=1, norms=norms)

    names = [e.primitive.name for e in equations(jax.make_jaxpr(gradient)(jnp.float32(0.1)).jaxpr)]
    assert "optimization_barrier" in names  # see jhpo.kernels.loops.wide_sums


def test_no_steps_is_plain_autodiff(x64):
    run = reverse_value_and_grad(None, lambda hp, w: hp * w, lambda hp: hp**2, jnp.float64(3.0), 0)
    assert float(run[0]) == 27.0 and float(run[1]) == 27.0


def test_one_step_window(x64):
    """d f(w_{t+1}) / d alpha = -grad f(w_{t+1}) . grad f(w_t)."""
    f = lambda w: jnp.sum(jnp.cosh(w) * jnp.array([1.0, 2.0, 0.5]))  # noqa: E731
    w, alpha = jnp.array([0.5, -0.3, 1.1]), jnp.float64(0.17)
    step = lambda hp, w, t: w - hp * mixed_grad(f)(w)  # noqa: E731
    _, grad, after = window_value_and_grad(step, lambda hp, w, t: f(w), alpha, w, start=jnp.int32(0), window=1)
    np.testing.assert_allclose(grad, -jax.grad(f)(after) @ jax.grad(f)(w), rtol=1e-12)


def test_online_rates_recover_from_a_bad_start(x64, loose):
    scales = jnp.array([1.0, 0.3])
    f = lambda w: jnp.sum(scales * w**2) / 2  # noqa: E731
    step = lambda hp, w, t: w - jnp.exp(hp) * jax.grad(f)(w)  # noqa: E731
    tx = optax.adam(0.1)

    def update(grad, memory, hp):
        moved, memory = tx.update(grad, memory, hp)
        return hp + moved, memory

    hp, w = jnp.float64(-7.0), jnp.array([1.0, 1.0])
    run = jax.jit(lambda: online(step, lambda hp, w, t: f(w), update, hp, w, tx.init(hp), steps=200, window=2))()
    fixed = unroll(step, hp, w, 200)
    assert f(run.state) < 1e-3 * f(fixed)
    assert run.values.shape == run.path.shape == (100,)
    assert float(run.path[0]) == -7.0


def minimise(fun, hp, iterations):
    """L-BFGS on the hypergradients of ``fun``."""
    tx = optax.lbfgs()

    def turn(carry, _):
        hp, memory = carry
        value, grad = jax.value_and_grad(fun)(hp)
        moved, memory = tx.update(grad, memory, hp, value=value, grad=grad, value_fn=fun)
        return (hp + moved, memory), None

    return jax.jit(lambda hp: jax.lax.scan(turn, (hp, tx.init(hp)), None, length=iterations))(hp)[0][0]


def test_learned_schedule_of_the_noisy_quadratic(x64, loose):
    """E w^2 under noise of variance s^2: the best rates are 1 / (h (t + 1 + s^2 / a_0))."""
    h, s2, a0, steps = 0.5, 2.0, 3.0, 10
    step = lambda hp, a, t: (1 - hp[t] * h) ** 2 * a + (hp[t] * h) ** 2 * s2  # noqa: E731
    fun = lambda hp: jnp.log(unroll(step, hp, jnp.float64(a0), steps, 2))  # noqa: E731
    hp = minimise(fun, jnp.full((steps,), 0.3), 60)
    np.testing.assert_allclose(hp, 1 / (h * (np.arange(steps) + 1 + s2 / a0)), rtol=1e-3)
    np.testing.assert_allclose(unroll(step, hp, jnp.float64(a0), steps), 1 / (1 / a0 + steps / s2), rtol=1e-6)


def test_as_many_rates_as_eigenvalues_solve_the_quadratic(x64, loose):
    h = jnp.array([1.0, 2.0, 5.0])
    final = lambda hp: jnp.sum(h * unroll(descent(h), hp, jnp.ones((3,)), 3) ** 2) / 2  # noqa: E731
    hp = minimise(final, jnp.array([0.25, 0.45, 0.8]), 80)
    np.testing.assert_allclose(np.sort(hp), np.sort(1 / h), rtol=1e-4)
    assert float(final(hp)) < 1e-12


def test_learned_rates_of_the_worst_case_are_chebyshev(x64, loose):
    """T = 4, condition number 10: the smallest worst-case factor is 1 / T_4(11/9) = .1449."""
    h = jnp.linspace(1.0, 10.0, 200)
    step = descent(h)

    def worst(hp):  # the logarithm of a 40-norm over the spectrum
        return jax.nn.logsumexp(20 * jnp.log(unroll(step, hp, jnp.ones_like(h), 4, 1) ** 2 + 1e-12))

    hp = minimise(worst, jnp.array([0.12, 0.2, 0.4, 0.7]), 150)
    sup = float(jnp.max(jnp.abs(unroll(step, hp, jnp.ones_like(h), 4))))
    assert abs(sup / 0.1449 - 1) < 0.05


TRANSFORMS = {
    "sgd_momentum": lambda hp: optax.sgd(hp[0], momentum=hp[1]),
    "nesterov": lambda hp: optax.sgd(hp[0], momentum=hp[1], nesterov=True),
    "adam": lambda hp: optax.adam(hp[0], b1=hp[1], eps_root=1e-8),
    "adamw": lambda hp: optax.adamw(hp[0], b2=hp[1], weight_decay=hp[2], eps_root=1e-8),
    "nadam": lambda hp: optax.nadam(hp[0], b1=hp[1], eps_root=1e-8),
    "lion": lambda hp: optax.lion(hp[0], b1=hp[1], weight_decay=hp[2]),
    "rmsprop": lambda hp: optax.rmsprop(hp[0], decay=hp[1], eps=1e-6, momentum=hp[2]),
    "adagrad": lambda hp: optax.adagrad(hp[0]),
    "lamb": lambda hp: optax.lamb(hp[0], b1=hp[1], weight_decay=hp[2], eps_root=1e-8),
    "adafactor": lambda hp: optax.adafactor(hp[0], decay_rate=hp[1], min_dim_size_to_factor=2),
    "muon": lambda hp: optax.contrib.muon(hp[0], beta=hp[1]),
    "schedule_free": lambda hp: optax.contrib.schedule_free(optax.sgd(hp[0]), learning_rate=hp[0], b1=hp[1]),
    "prodigy": lambda hp: optax.contrib.prodigy(hp[0], estim_lr0=0.5, estim_lr_coef=1 + hp[1]),
    "clipped_chain": lambda hp: optax.chain(
        optax.clip_by_global_norm(hp[2] + 0.1), optax.trace(hp[1]), optax.scale(-hp[0])
    ),
    "schedule": lambda hp: optax.sgd(optax.cosine_decay_schedule(hp[0], 8, alpha=hp[1])),
}


@pytest.mark.parametrize("name", slow_except({"adam", "adamw", "schedule", "momentum"}, TRANSFORMS))
def test_finite_differences_through_optax(x64, loose, name):
    tx = TRANSFORMS[name]
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(12, 3))), jnp.asarray(rng.normal(size=(12, 4)))
    params = {"w": jnp.asarray(rng.normal(size=(3, 4))), "b": jnp.asarray(rng.normal(size=(4,)))}
    loss = lambda p: jnp.mean((jnp.tanh(x @ p["w"] + p["b"][None]) - y) ** 2)  # noqa: E731

    def step(hp, state, t):
        p, memory = state
        updates, memory = tx(hp).update(mixed_grad(loss)(p), memory, p)
        return optax.apply_updates(p, updates), memory

    init = lambda hp: (params, tx(hp).init(params))  # noqa: E731
    evaluate = lambda hp, state: loss(state[0])  # noqa: E731
    hp = jnp.array([0.07, 0.8, 0.05])
    _, grad, _ = jax.jit(lambda hp: reverse_value_and_grad(step, evaluate, init, hp, 5, 2))(hp)
    final = jax.jit(lambda hp: evaluate(hp, unroll(step, hp, init(hp), 5)))
    e = 1e-5
    numeric = np.array([(final(hp + e * d) - final(hp - e * d)) / (2 * e) for d in np.eye(3)])
    assert np.abs(numeric[0]) > 1e-4  # the rate matters at all
    np.testing.assert_allclose(grad, numeric, rtol=1e-5, atol=1e-7)
