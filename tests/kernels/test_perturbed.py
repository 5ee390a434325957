"""Evolution-strategy gradients: unbiased where they claim to be, and the biased one misses."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo.kernels.perturbed import Smoothing, particles, perturbed_gradient, perturbed_window

A, THETA, TARGET, STEPS = 0.9, 0.3, 5.0, 20


def leak(hp, s, t):
    """s' = a s + theta."""
    return A * s + hp


def loss(hp, s, t):
    return (s - TARGET) ** 2


def exact(window):
    """d/d theta of the sum over windows of (s_t - target)^2, in closed form."""
    t = np.arange(window, STEPS + 1, window)
    slope = (1 - A**t) / (1 - A)
    return float(np.sum(2 * (THETA * slope - TARGET) * slope))


def estimate(kind, window, pairs=20_000, weights=None, key=0):
    run = functools.partial(
        perturbed_gradient, leak, loss, lambda hp: jnp.zeros((), hp.dtype), window=window, pairs=pairs, steps=STEPS
    )
    return jax.jit(lambda hp, key: run(hp=hp, key=key, smoothing=Smoothing(0.1, kind=kind), weights=weights))(
        jnp.float64(THETA), jax.random.key(key)
    )


@pytest.mark.parametrize("kind", ["pes", "es_single"])
def test_unbiased_estimators_hit_the_true_gradient(x64, kind):
    value, grad, error = estimate(kind, window=2)
    assert 0 < float(error) < 0.05 * abs(exact(2))
    assert abs(float(grad) - exact(2)) < 4 * float(error)
    s = THETA * (1 - A ** np.arange(2, STEPS + 1, 2)) / (1 - A)
    assert abs(float(value) / np.sum((s - TARGET) ** 2) - 1) < 0.05


def test_truncated_estimator_misses_it(x64):
    _, grad, error = estimate("truncated", window=2)
    assert abs(float(grad) - exact(2)) > 20 * float(error)


def test_weights_pick_the_loss_at_the_end(x64):
    slope = (1 - A**STEPS) / (1 - A)
    expected = 2 * (THETA * slope - TARGET) * slope
    weights = jnp.zeros((STEPS // 4,)).at[-1].set(1.0)
    _, grad, error = estimate("es_single", window=4, weights=weights)
    assert abs(float(grad) - expected) < 4 * float(error) < abs(expected)


def test_scale_is_the_unit_of_the_noise(x64):
    """Two parameters of very different size get the same relative noise, and the gradient is in their own units."""
    hp = {"big": jnp.float64(1000.0), "small": jnp.float64(0.001)}
    step = lambda hp, s, t: s * 0.5 + hp["big"] / 1000 + hp["small"] * 1000  # noqa: E731
    init = lambda hp: jnp.float64(0.0)  # noqa: E731
    scale = jnp.array([1000.0, 0.001])
    _, grad, error = perturbed_gradient(
        step,
        lambda hp, s, t: s,
        init,
        hp,
        jax.random.key(0),
        steps=4,
        window=4,
        pairs=5000,
        smoothing=Smoothing(0.1, scale, "es_single"),
    )
    slope = (1 - 0.5**4) / 0.5
    for name, unit in (("big", 1 / 1000), ("small", 1000)):
        assert abs(float(grad[name]) - slope * unit) < 4 * float(error[name]) < slope * unit


def test_failed_pairs_are_left_out(x64):
    def step(hp, s, t):
        return jnp.where(hp > 1.25, jnp.nan, s + hp)

    _, grad, _ = perturbed_gradient(
        step,
        lambda hp, s, t: s,
        lambda hp: jnp.float64(0.0),
        jnp.float64(1.0),
        jax.random.key(0),
        steps=3,
        window=3,
        pairs=4000,
        smoothing=Smoothing(0.1),
    )
    assert np.isfinite(float(grad))


def test_windows_go_on_from_the_states_they_left():
    start = particles(jnp.zeros((), jnp.float32), 6, 1, jnp.float32)
    hp = jnp.float32(0.3)
    keys = jax.random.split(jax.random.key(0))
    _, _, one = perturbed_window(leak, loss, hp, start, keys[0], window=3, smoothing=Smoothing(0.1))
    values, estimates, two = perturbed_window(leak, loss, hp, one, keys[1], window=3, smoothing=Smoothing(0.1))
    assert int(two.t) == 6 and values.shape == (2, 6) and estimates.shape == (6, 1)
    first, second = one.noise[:, 0], two.noise[:, 0] - one.noise[:, 0]
    by_hand = jnp.zeros((6,), jnp.float32)
    for t in range(6):
        by_hand = jnp.float32(A) * by_hand + (hp + 0.1 * (first if t < 3 else second))
    np.testing.assert_allclose(two.states[0], by_hand, rtol=1e-5)
