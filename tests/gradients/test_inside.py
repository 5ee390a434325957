"""jhpo.hypergrad within a program of the user's own: jit, scan, vmap, an optax loop; and lowering for accelerators."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.kernels.mixed import mixed_grad
from tests.gradients.hyper_tasks import KEY, Descent, Ridge, closed_form, ridge_gradient

# ---- the same as outside ----


@pytest.mark.parametrize("method", ["auto", "forward", "reverse"])
def test_inside_jit(x64, method):
    run = functools.partial(jhpo.hypergrad, Descent(), key=KEY, method=method)
    out = jax.jit(lambda lr: run({"lr": lr}))(0.3)
    outside = run({"lr": 0.3})
    np.testing.assert_allclose(out.grad["lr"], closed_form(0.3), rtol=1e-12)
    np.testing.assert_allclose(out.value, outside.value, rtol=1e-12)
    np.testing.assert_allclose(out.diagnostics.norms, outside.diagnostics.norms, rtol=1e-12)
    assert out.diagnostics.method == outside.diagnostics.method and float(out.diagnostics.exponent) == 0.0
    assert bool(out.diagnostics.trusted) and "sound" in str(out.diagnostics)


def test_the_other_methods_inside_jit(x64):
    grads = lambda task, hp, **options: jax.jit(lambda hp: jhpo.hypergrad(task, hp, KEY, **options).grad)(hp)  # noqa: E731
    implicit = grads(Ridge(), {"log_l2": 0.5}, method="implicit")
    np.testing.assert_allclose(implicit["log_l2"], ridge_gradient(0.5), rtol=1e-5)
    for options in ({"method": "truncated", "window": 10}, {"method": "reverse", "levels": 2}, {"seeds": 2}):
        np.testing.assert_allclose(grads(Descent(), {"lr": 0.3}, **options)["lr"], closed_form(0.3), rtol=1e-12)
    outside = jhpo.hypergrad(Descent(), {"lr": 0.3}, KEY, method="pes", pairs=4).grad
    np.testing.assert_allclose(grads(Descent(), {"lr": 0.3}, method="pes", pairs=4)["lr"], outside["lr"], rtol=1e-9)


def test_a_batch_of_hyperparameters_and_keys(x64):
    rates = jnp.array([0.1, 0.2, 0.3])
    task = Descent(noise=0.1)
    batch = jax.vmap(lambda lr, key: jhpo.hypergrad(task, {"lr": lr, "unused": 1.0}, key, wrt=["lr"]))
    keys = jax.random.split(KEY, 3)
    for out in (batch(rates, keys), jax.jit(batch)(rates, keys)):
        one = [jhpo.hypergrad(task, {"lr": float(lr)}, key) for lr, key in zip(rates, keys)]
        np.testing.assert_allclose(out.grad["lr"], [g.grad["lr"] for g in one], rtol=1e-12)
        assert out.diagnostics.norms.shape == (3, 10) and "of the worst" in str(out.diagnostics)


def descended(task, steps=8, rate=0.05):
    """An optax loop over hyperparameters, as one program."""
    outer = optax.adam(rate)

    def turn(carry, key):
        log_lr, memory = carry
        value, grad, _ = jhpo.hypergrad(task, {"lr": jnp.exp(log_lr)}, key)
        updates, memory = outer.update(grad["lr"] * jnp.exp(log_lr), memory)
        return (optax.apply_updates(log_lr, updates), memory), value

    def program(log_lr, keys):
        with jax.numpy_dtype_promotion("standard"):
            return jax.lax.scan(turn, (log_lr, outer.init(log_lr)), keys)

    return jax.jit(program)(jnp.log(jnp.float32(0.05)), jax.random.split(KEY, steps))


def test_an_optax_loop_in_a_scan():
    (log_lr, _), values = descended(Descent(noise=0.01))
    assert values[-1] < 0.7 * values[0] and float(jnp.exp(log_lr)) > 0.07
    first = jhpo.hypergrad(
        Descent(noise=0.01), {"lr": jnp.exp(jnp.log(jnp.float32(0.05)))}, jax.random.split(KEY, 8)[0]
    )
    np.testing.assert_allclose(values[0], first.value, rtol=1e-6)


def test_data_that_are_traced():
    """The trainable is made within the program, of arrays that are its arguments."""

    def grad(target, lr):
        class Fit:
            steps = 5
            init = staticmethod(lambda hp, key: jnp.zeros(()))
            step = staticmethod(lambda hp, w, t: w - hp["lr"] * (w - target))
            evaluate = staticmethod(lambda hp, w: (w - target) ** 2 / 2)

        return jhpo.hypergrad(Fit(), {"lr": lr}, KEY).grad["lr"]

    # w_T - c = -c (1 - lr)^T
    for target in (1.0, 2.0):
        found = jax.jit(grad)(jnp.float32(target), jnp.float32(0.1))
        np.testing.assert_allclose(found, -5 * 0.9**9 * target**2, rtol=1e-5)


# ---- checks ----


def test_what_can_be_known_is_said_while_tracing():
    def inside(hp, *args, **options):
        return jax.jit(lambda hp: jhpo.hypergrad(Descent(), hp, KEY, *args, **options).value)(hp)

    with pytest.raises(jhpo.InvalidArgument, match=r"hp: n: expected a floating-point number"):
        inside({"lr": 0.1, "n": 3})
    with pytest.raises(jhpo.InvalidArgument, match=r"wrt: expected some of \['lr'\]"):
        inside({"lr": 0.1}, wrt=["rate"])
    with pytest.raises(jhpo.InvalidArgument, match="method: expected a trainable with train_loss"):
        inside({"lr": 0.1}, "implicit")
    with pytest.raises(jhpo.InvalidArgument, match=r"memory: expected at least \d+ bytes for method 'reverse'.*got 3"):
        inside({"lr": 0.1}, "reverse", memory=3)
    with pytest.warns(UserWarning, match=r"\['typo'\] do not reach the result"):
        inside({"lr": 0.1, "typo": 1.0}, "reverse")


def test_a_training_that_fails_gives_numbers_and_no_error():
    class Breaks(Descent):
        def step(self, hp, state, t):
            return jnp.log(state[0] - hp["lr"]), state[1]

    out = jax.jit(lambda lr: jhpo.hypergrad(Breaks(), {"lr": lr}, KEY))(0.3)
    assert np.isnan(out.value) and not bool(out.diagnostics.trusted)
    chaotic = jax.jit(lambda lr: jhpo.hypergrad(Descent(steps=50), {"lr": lr}, KEY).diagnostics)(2.2)
    assert chaotic.method == "forward" and not bool(chaotic.trusted) and "chaotic" in str(chaotic)


@pytest.mark.parametrize("method", ["forward", "reverse"])
def test_a_value_that_is_replaced_by_nan_has_no_gradient_of_zero(method):
    """Of a constant the derivative is 0: an outer loop took it for a step that succeeded."""

    def guarded(hp):
        return jnp.where(hp["lr"] > 0.5, jnp.nan, hp["lr"] ** 2 + hp["wd"])

    @jax.jit
    def run(lr):
        return jhpo.hypergrad(guarded, {"lr": lr, "wd": 0.1, "n": 3}, KEY, method, wrt=["lr"]).grad

    assert np.isnan(run(0.6)["lr"]) and run(0.6)["wd"] == 0.0 and run(0.6)["n"] == 0
    np.testing.assert_allclose(run(0.4)["lr"], 0.8, rtol=1e-6)
    many = jax.vmap(run)(jnp.array([0.6, 0.4]))["lr"]
    np.testing.assert_array_equal(np.isnan(many), [True, False])


def test_a_program_of_ones_own_is_traced_once(count_compilations):
    run = jax.jit(lambda lr: jhpo.hypergrad(Descent(steps=6), {"lr": lr}, KEY).grad)
    run(0.1)
    with count_compilations() as seen:
        run(0.2)
    assert not seen.names


# ---- accelerators ----

MODES = {
    "forward": ({"lr": 0.1}, {}),
    "forward in chunks": ({"lr": np.full(9, 0.1, np.float32)}, {"method": "forward"}),
    "reverse": ({"lr": 0.1}, {"method": "reverse", "levels": 0}),
    "one level": ({"lr": 0.1}, {"method": "reverse", "levels": 1}),
    "two levels": ({"lr": 0.1}, {"method": "reverse", "levels": 2}),
    "truncated": ({"lr": 0.1}, {"method": "truncated", "window": 3}),
    "pes": ({"lr": 0.1}, {"method": "pes", "pairs": 2}),
    "seeds": ({"lr": 0.1}, {"method": "reverse", "seeds": 2}),
}


class Matrix:
    """A matrix of 256 numbers, whose sums a CPU makes by columns."""

    steps = 9

    def init(self, hp, key):
        return jax.random.normal(key, (16, 16))

    def step(self, hp, w, t):
        rate = hp["lr"] if jnp.ndim(hp["lr"]) == 0 else hp["lr"][t]
        return w - rate * mixed_grad(lambda w: jnp.sum(jnp.cos(w)))(w)

    def evaluate(self, hp, w):
        return jnp.max(w)


@pytest.mark.parametrize("mode", MODES)
def test_hypergradients_lower_for_accelerators(mode):
    hp, options = MODES[mode]
    run = jax.jit(lambda hp: jhpo.hypergrad(Matrix(), hp, KEY, **options)[:2])
    exported = jax.export.export(run, platforms=("cuda", "tpu"))(jax.tree.map(jnp.asarray, hp))
    assert exported.platforms == ("cuda", "tpu") and "custom_call" not in exported.mlir_module()


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_implicit_gradients_lower_for_accelerators(solver):
    run = jax.jit(lambda hp: jhpo.hypergrad(Ridge(5), hp, KEY, method="implicit", solver=solver, iterations=2)[:2])
    exported = jax.export.export(run, platforms=("cuda", "tpu"))({"log_l2": jnp.float32(0.5)})
    assert exported.platforms == ("cuda", "tpu") and "custom_call" not in exported.mlir_module()
