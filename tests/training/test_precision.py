"""`precision="bf16"`: bfloat16 products in models of every kind, all else as it was, and trainings that end alike."""

from __future__ import annotations

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx

import jhpo
from jhpo.gradients import Spec, estimate
from jhpo.kernels.internals import shape_of
from jhpo.kernels.narrow import bf16_products
from jhpo.kernels.programs import equations
from jhpo.training.augment import augmented

RNG = np.random.default_rng(0)
X = RNG.normal(size=(192, 4, 4, 1)).astype(np.float32)
Y = (X[:, :2].sum((1, 2, 3)) > X[:, 2:].sum((1, 2, 3))).astype(np.int32)
REVERSE, FORWARD = Spec("reverse", levels=1), Spec("forward")
KEY, HP = jax.random.key(0), {"lr": jnp.float32(0.05)}


class Linen(nn.Module):
    precision: jax.lax.Precision | None = None

    @nn.compact
    def __call__(self, x, train: bool):
        x = nn.relu(nn.Conv(3, (3, 3))(x)).reshape(len(x), -1)
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return nn.Dense(2, precision=self.precision)(x)


class Nnx(nnx.Module):
    def __init__(self, rngs: nnx.Rngs):
        self.first, self.last = nnx.Linear(16, 8, rngs=rngs), nnx.Linear(8, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(nnx.relu(self.first(x.reshape(len(x), -1))))


class Eqx(eqx.Module):
    first: eqx.nn.Conv2d
    last: eqx.nn.Linear

    def __init__(self, *, key):
        a, b = jax.random.split(key)
        self.first, self.last = eqx.nn.Conv2d(1, 3, 3, key=a), eqx.nn.Linear(12, 2, key=b)

    def __call__(self, x):
        return self.last(jax.nn.relu(self.first(x.transpose(2, 0, 1))).reshape(-1))


def looped(params, x):
    """Products within a scan, and one that is made by a function with a name of its own."""
    x = jax.lax.scan(lambda x, w: (jnp.tanh(jax.jit(jnp.matmul)(x, w)), None), x.reshape(len(x), -1), params["w"])[0]
    return x @ params["out"]


def fresh(key, x):
    a, b = jax.random.split(key)
    return {"w": 0.3 * jax.random.normal(a, (2, 16, 16)), "out": 0.3 * jax.random.normal(b, (16, 2))}


MODELS = {
    "linen": Linen(), "nnx": Nnx, "equinox": lambda key: Eqx(key=key), "functions": (fresh, looped),
    "augmented": augmented((fresh, looped), lambda hp, key, x: x),
}  # fmt: skip


def task(model, precision="bf16", x=X, **options):
    options = {"batch_size": 16, "steps": 3} | options
    tx = lambda hp: optax.adam(hp["lr"])  # noqa: E731
    train, valid = (x[:128], Y[:128]), (x[128:], Y[128:])
    return jhpo.supervised(model, tx, train=train, valid=valid, precision=precision, **options)


def products(f, *args):
    """Dtypes of every product in a program: factors and result."""
    program = jax.make_jaxpr(f)(*args)
    found = [e for e in equations(program.jaxpr) if e.primitive.name in ("dot_general", "conv_general_dilated")]
    return [tuple(shape_of(v).dtype.name for v in (*e.invars, *e.outvars)) for e in found]


@pytest.mark.parametrize("name", MODELS)
def test_products_are_narrow_and_states_are_not(name) -> None:
    narrow, plain = task(MODELS[name]), task(MODELS[name], None)
    state = jax.eval_shape(narrow.init, HP, KEY)
    assert state == jax.eval_shape(plain.init, HP, KEY)
    after = jax.eval_shape(narrow.step, HP, state, jnp.int32(0))
    assert jax.tree.map(lambda x: (x.shape, x.dtype), after) == jax.tree.map(lambda x: (x.shape, x.dtype), state)
    assert all(x.dtype == jnp.float32 for x in jax.tree.leaves(after.params))
    for f, args in ((narrow.step, (HP, state, jnp.int32(0))), (narrow.evaluate, (HP, state))):
        made = products(f, *args)
        assert made and set(made) == {("bfloat16",) * 3}
        assert len(made) == len(products(getattr(plain, f.__name__), *args))


def test_trainings_end_alike() -> None:
    """The losses of members that train well, in bfloat16 and in float32: the same to a hundredth, and not the same."""
    space = jhpo.Space({"lr": jhpo.Float(1e-2, 5e-2, log=True)})
    units, ids = np.linspace(0.0, 1.0, 8, dtype=np.float32)[:, None], np.arange(8)
    wide, narrow = (
        jhpo.Population(task(Nnx, p, steps=60), space).evaluate(units, ids, KEY).value for p in (None, "bf16")
    )
    assert wide.max() < 0.5  # log 2 before the training
    np.testing.assert_allclose(narrow, wide, rtol=0.02, atol=2e-3)
    assert (narrow != wide).all()


@pytest.mark.slow
def test_hypergradients_pass_through_narrow_products() -> None:
    def grad(precision, spec):
        trainable = task((fresh, lambda p, x: x.reshape(len(x), -1) @ p["out"]), precision)
        return jax.jit(lambda hp: estimate(trainable, hp, KEY, spec)[1]["lr"])(HP)

    reverse, forward = grad("bf16", REVERSE), grad("bf16", FORWARD)
    wide = grad(None, FORWARD)
    assert forward != wide and abs(forward / wide - 1) < 0.02 and abs(reverse / forward - 1) < 0.02


def test_a_precision_of_its_own_is_kept_and_that_of_the_program_is_not() -> None:
    exact = task(Linen(jax.lax.Precision.HIGHEST))
    state = jax.eval_shape(exact.init, HP, KEY)
    with jax.default_matmul_precision("highest"):
        made = products(exact.evaluate, HP, state)
    assert sorted(made) == [("bfloat16",) * 3] * 2 + [("float32",) * 3]


@pytest.mark.parametrize("precision", ["float16", "bfloat16", 16, True, jnp.bfloat16])
def test_other_precisions_are_refused(precision) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=r"precision: expected None, .* or 'bf16', got"):
        task(Nnx, precision)


def test_predictions_are_narrow_and_a_model_handed_over_is_not() -> None:
    narrow = task((fresh, looped))
    state = narrow.init(HP, KEY)
    x = jnp.asarray(X[:4])
    predicted, own = narrow.predict(HP, state, x), narrow.trained_model(HP, state)(x)
    np.testing.assert_array_equal(own, looped(state.params, x))
    np.testing.assert_allclose(predicted, own, atol=0.03)
    assert (predicted != own).any()


def test_narrow_products_round_their_factors_and_results() -> None:
    a, b = (jax.random.normal(k, (7, 7)) for k in jax.random.split(KEY))
    found = bf16_products(jnp.matmul)(a, b)
    rounded = [np.asarray(x.astype(jnp.bfloat16), np.float64) for x in (a, b)]
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(found, rounded[0] @ rounded[1], rtol=2**-8, atol=1e-5)  # rounded once more, or not
    assert (np.abs(found - np.asarray(a, np.float64) @ np.asarray(b, np.float64)) > 1e-4).any()
    integers, narrow = jnp.ones((2, 2), jnp.int32), jnp.ones((2, 2), jnp.float16)
    assert bf16_products(jnp.matmul)(integers, integers).dtype == jnp.int32
    assert products(bf16_products(jnp.matmul), narrow, narrow) == [("float16",) * 3]


def test_float64_parameters_stay_float64(x64) -> None:
    narrow = task((fresh, looped), x=X.astype(np.float64))
    state = jax.eval_shape(narrow.init, HP, KEY)
    after = jax.eval_shape(narrow.step, HP, state, jnp.int32(0))
    assert {x.dtype.name for x in jax.tree.leaves(after.params)} == {"float64"}
    assert set(products(narrow.step, HP, state, jnp.int32(0))) == {("bfloat16",) * 3}
