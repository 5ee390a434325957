"""The chaos exponent against closed forms, and on trainings that are known to be sound or chaotic."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jhpo.kernels.lyapunov import TRUSTED, USABLE, hyper_direction, tangent_growth
from jhpo.kernels.unroll_grad import reverse_value_and_grad
from tests.kernels.hyper_problems import descent, digits_training


def test_a_divergent_rate_has_the_exponent_and_the_gradient_it_should(x64):
    eta, steps = jnp.float64(2.2), 50
    run = tangent_growth(descent(1.0), eta, [jnp.ones(())], jnp.float64(1.0), [jnp.ones(())], steps)
    np.testing.assert_allclose(run.exponent / steps, np.log(1.2), rtol=1e-12)
    np.testing.assert_allclose(run.growth, np.log(1.2), rtol=1e-12)
    loss = lambda hp, w: w**2 / 2  # noqa: E731
    grad = reverse_value_and_grad(descent(1.0), loss, lambda hp: jnp.float64(1.0), eta, steps, 2)[1]
    np.testing.assert_allclose(grad, -steps * (1 - 2.2) ** (2 * steps - 1), rtol=1e-9)
    np.testing.assert_allclose(grad, 3.4507e9, rtol=1e-4)
    assert float(run.exponent) > TRUSTED


def test_without_a_tangent_at_the_start_the_first_forcing_step_makes_one(x64):
    """The rate of the third step alone is perturbed: nothing grows before it, log|1 - eta h| each step after it."""
    rates = jnp.full((6,), 0.3)
    direction = [jnp.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0])]
    run = tangent_growth(descent(0.5), rates, direction, jnp.float64(1.0), [jnp.zeros(())], 6)
    np.testing.assert_allclose(run.growth, [0, 0, 0] + [np.log(0.85)] * 3, rtol=1e-12)


def test_no_dependence_at_all_is_no_growth(x64):
    run = tangent_growth(
        lambda hp, w, t: w * 0.5, jnp.float64(1.0), [jnp.ones(())], jnp.float64(1.0), [jnp.zeros(())], 5
    )
    assert float(run.exponent) == 0.0


def test_a_training_that_breaks_has_infinite_exponent():
    step = lambda hp, w, t: jnp.log(w - hp)  # noqa: E731
    one = jnp.float32(1.0)
    run = tangent_growth(step, jnp.float32(0.5), [one], one, [one], 10)
    assert float(run.exponent) == np.inf and bool(jnp.isnan(run.state))


def digits_exponent(tx, hp, steps):
    init, step, evaluate = digits_training(tx)

    def exponent(hp):
        direction = hyper_direction(jax.random.key(0), hp)
        floats = [x for x in jax.tree.leaves(init(hp)) if jnp.issubdtype(x.dtype, jnp.inexact)]
        return tangent_growth(step, hp, direction, init(hp), [jnp.zeros_like(x) for x in floats], steps)

    run = jax.jit(exponent)(hp)
    return float(run.exponent), float(evaluate(hp, run.state))


@pytest.mark.parametrize(("rate", "sound"), [(0.01, True), (0.3, False)])
def test_adam_on_digits_is_sound_or_chaotic_while_the_loss_looks_fine(rate, sound):
    with jax.numpy_dtype_promotion("standard"):
        exponent, loss = digits_exponent(lambda hp: optax.adam(hp, eps_root=1e-8), jnp.float32(rate), 250)
    assert np.isfinite(loss)
    assert exponent < TRUSTED if sound else exponent > USABLE
