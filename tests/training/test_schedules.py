"""Schedules, per-layer values, example weights, augmentation, and rates adapted while training."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen
from scipy.interpolate import CubicSpline

import jhpo
from jhpo.training.supervised import cross_entropy
from tests.gradients.test_hypergrad import Descent

KEY = jax.random.key(0)


@pytest.mark.parametrize("n", [1, 2, 3, 7])
def test_cubic_knots_are_the_natural_spline_of_scipy(x64, n):
    values = np.random.default_rng(n).normal(size=n)
    schedule = jhpo.knots(values, 40, "cubic")
    got = jax.vmap(schedule)(jnp.arange(45))
    spline = CubicSpline(np.linspace(0, 39, n), values, bc_type="natural") if n > 1 else (lambda t: values[0] + 0 * t)
    np.testing.assert_allclose(got, spline(np.minimum(np.arange(45), 39)), rtol=1e-10, atol=1e-12)


def test_linear_and_cosine_knots(x64):
    values = jnp.array([2.0, 1.0, 4.0])
    linear = jax.vmap(jhpo.knots(values, 11))(jnp.arange(11))
    np.testing.assert_allclose(linear, np.interp(np.arange(11), [0, 5, 10], values), rtol=1e-12)
    cosine = jax.vmap(jhpo.knots(values[:2], 11, "cosine"))(jnp.arange(11))
    optaxs = jax.vmap(optax.cosine_decay_schedule(1.0, 10))(jnp.arange(11.0)) + 1
    np.testing.assert_allclose(cosine, optaxs, rtol=1e-6)
    logs = jax.vmap(jhpo.knots(jnp.array([1e-3, 1e-1]), 3, log=True))(jnp.arange(3))
    np.testing.assert_allclose(logs, [1e-3, 1e-2, 1e-1], rtol=1e-12)


def test_knots_keep_float32_and_name_bad_input():
    assert jhpo.knots(np.ones(3, np.float32), 5, "cubic", log=True)(jnp.int32(1)).dtype == jnp.float32
    with pytest.raises(jhpo.InvalidArgument, match="values: expected float"):
        jhpo.knots(jnp.ones((2, 2)), 5)
    with pytest.raises(jhpo.InvalidArgument, match="kind: expected one of"):
        jhpo.knots(jnp.ones(2), 5, "quintic")
    with pytest.raises(jhpo.InvalidArgument, match="steps: expected an integer"):
        jhpo.knots(jnp.ones(2), 0)


def test_scheduled_builds_the_transformation_of_every_step(x64):
    """Momentum and weight decay by knots against the recursion written out, and its gradient by differences."""
    rate, steps = 0.1, 5

    def by_hand(hp):
        w, m = 1.0, 0.0
        for t in range(steps):
            share = t / (steps - 1)
            b = hp["b"][0] * (1 - share) + hp["b"][1] * share
            d = hp["d"][0] * (1 - share) + hp["d"][1] * share
            m = b * m + w + d * w
            w = w - rate * m
        return w**2

    def make(momentum, decay):
        return optax.chain(optax.add_decayed_weights(decay), optax.trace(momentum), optax.scale(-rate))

    class Task:
        def __init__(self):
            self.steps = steps

        def tx(self, hp):
            return jhpo.scheduled(make, momentum=jhpo.knots(hp["b"], steps), decay=jhpo.knots(hp["d"], steps))

        def init(self, hp, key):
            w = jnp.ones(())
            return w, self.tx(hp).init(w)

        def step(self, hp, state, t):
            w, memory = state
            move, memory = self.tx(hp).update(w, memory, w)
            return w + move, memory

        def evaluate(self, hp, state):
            return state[0] ** 2

    hp = {"b": jnp.array([0.9, 0.5]), "d": jnp.array([0.0, 0.2])}
    value, grad, _ = jhpo.hypergrad(Task(), hp, KEY)
    np.testing.assert_allclose(value, by_hand(hp), rtol=1e-12)
    expected = jax.grad(by_hand)(hp)
    for name in hp:
        np.testing.assert_allclose(grad[name], expected[name], rtol=1e-10)


def test_per_layer_scales_and_decays(x64):
    params = {"Dense_10": jnp.full(2, 2.0), "Dense_2": {"kernel": jnp.full(2, 3.0)}}
    updates = jax.tree.map(jnp.ones_like, params)
    new, _ = jhpo.per_layer(jnp.array([0.5, 2.0]), {"Dense_10": 0.1}).update(updates, optax.EmptyState(), params)
    np.testing.assert_allclose(new["Dense_2"]["kernel"], 0.5)
    np.testing.assert_allclose(new["Dense_10"], 2.2)
    with pytest.raises(jhpo.InvalidArgument, match=r"scale: expected float\[2\].*Dense_2.*got \(3,\)"):
        jhpo.per_layer(jnp.ones(3)).update(updates, optax.EmptyState(), params)
    with pytest.raises(jhpo.InvalidArgument, match="decay: expected layers among"):
        jhpo.per_layer(decay={"Conv": 1.0}).update(updates, optax.EmptyState(), params)
    with pytest.raises(jhpo.InvalidArgument, match="params: expected the parameters"):
        jhpo.per_layer(decay=jnp.ones(2)).update(updates, optax.EmptyState())


def flat_model():
    init = lambda key, x: {"w": jnp.zeros((x.shape[1] * (x.shape[2] if x.ndim > 2 else 1), 2))}  # noqa: E731
    return init, lambda p, x: x.reshape(x.shape[0], -1) @ p["w"]


def test_example_weights_find_the_wrong_labels():
    """Gradient of the validation loss with respect to a weight: positive exactly for the examples that mislead."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32)
    wrong = np.arange(40) % 4 == 0
    task = jhpo.supervised(
        flat_model(),
        lambda hp: optax.sgd(0.5),
        jhpo.example_weights(cross_entropy, lambda hp: jax.nn.sigmoid(hp["w"])),
        train=(x[:40], jhpo.indexed(np.where(wrong, 1 - y[:40], y[:40]))),
        valid=(x[40:], jhpo.indexed(y[40:], weighted=False)),
        batch_size=None,
        steps=20,
    )
    _, grad, diagnostics = jhpo.hypergrad(task, {"w": np.zeros(40, np.float32)}, KEY)
    assert diagnostics.method == "reverse" and diagnostics.size == 40
    found = np.asarray(grad["w"]) > 0
    assert np.mean(found[wrong]) > 0.8 and np.mean(found[~wrong]) < 0.3
    with pytest.raises(jhpo.InvalidArgument, match="targets: expected an array"):
        jhpo.indexed(np.ones((3, 2)))


def test_augmentation_only_while_training():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(32, 4, 4)).astype(np.float32)
    y = (x[:, :, :2].sum((1, 2)) > 0).astype(np.int32)

    def change(hp, key, x):
        return jhpo.shift_images(key, jhpo.add_noise(key, x, hp["noise"]), hp["shift"])

    task = jhpo.supervised(
        jhpo.augmented(flat_model(), change),
        lambda hp: optax.sgd(0.2),
        train=(x, y),
        valid=(x, y),
        batch_size=8,
        steps=9,
    )
    _, grad, _ = jhpo.hypergrad(task, {"noise": 0.1, "shift": 0.3}, KEY, "reverse", levels=0, check=False)
    assert float(grad["noise"]) != 0.0 and float(grad["shift"]) != 0.0
    state = task.init({"noise": 0.1, "shift": 0.3}, KEY)
    evaluate = jax.jit(task.evaluate)
    plain, strong = (evaluate({"noise": s, "shift": s}, state)["loss"] for s in (0.0, 5.0))
    assert float(plain) == float(strong)
    for augment in (jhpo.add_noise, jhpo.shift_images):
        with pytest.raises(jhpo.InvalidArgument, match=r"x: expected floats, got 'uint8'; .* / 255"):
            augment(KEY, jnp.zeros((2, 3, 3), jnp.uint8), 0.1)


def test_the_trained_model_is_the_one_that_is_augmented() -> None:
    class Line(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1)(x)

    x = np.ones((8, 2), np.float32)
    for precision in (None, "bf16"):
        model = jhpo.augmented(Line(), lambda hp, key, x: jhpo.add_noise(key, x, 0.1))
        task = jhpo.supervised(
            model, lambda hp: optax.sgd(0.1), "regression", train=(x, x[:, :1]), steps=1, precision=precision
        )
        bound = task.trained_model({}, task.init({}, KEY))
        assert isinstance(bound, Line) and bound(x).shape == (8, 1)


def test_shifted_images_move_by_whole_pixels_and_between(x64):
    image = np.random.default_rng(0).normal(size=(1, 5, 6, 2))
    key = jax.random.key(3)
    by = np.asarray(jax.random.normal(key, (1, 2)))[0] * 0.7
    got = jhpo.shift_images(key, jnp.asarray(image), 0.7)[0]
    from scipy.ndimage import shift

    for channel in range(2):
        expected = shift(image[0, :, :, channel], -by, order=1, mode="grid-constant")
        np.testing.assert_allclose(got[:, :, channel], expected, atol=1e-10)


def test_online_rates_of_a_trainable():
    space = jhpo.Space({"lr": jhpo.Float(1e-4, 1.0, log=True)})
    task = Descent(steps=60, noise=0.01)
    run = jhpo.online_tune(task, {"lr": 1e-3}, KEY, space=space, window=2)
    fixed = jhpo.hypergrad(task, {"lr": 1e-3}, KEY).value
    assert float(run.value) < 0.05 * float(fixed)
    assert run.values.shape == (30,) and run.path["lr"].shape == (30,)
    np.testing.assert_allclose(run.path["lr"][0], 1e-3, rtol=1e-4)
    assert np.all(np.asarray(run.path["lr"]) <= 1.0) and float(run.hp["lr"]) > 1e-2


def test_online_tuning_begins_at_the_best_of_a_search():
    class Named(Descent):
        def step(self, hp, state, t):
            return super().step({"lr": hp["lr"] * jhpo.switch(hp["by"], {"all": 1.0, "half": 0.5})}, state, t)

    space = jhpo.Space(
        {"lr": jhpo.Float(1e-4, 1.0, log=True), "by": jhpo.Choice(["all", "half"]), "n": jhpo.Choice([2, 4])}
    )
    best = jhpo.minimize(Named(), space, jhpo.GridSearch(), budget=4).best
    run = jhpo.online_tune(Named(), best, KEY, space=space)
    assert space.decode(space.to_unit(run.hp))["by"] == best["by"] and int(run.hp["n"]) == best["n"]
    np.testing.assert_allclose(space.to_unit(best), space.encode(best), atol=1e-6)
    with pytest.raises(jhpo.InvalidArgument, match=r"hp: .*by: expected one of \['all', 'half'\], got 'both'"):
        jhpo.online_tune(Named(), {**best, "by": "both"}, KEY, space=space)
    with pytest.raises(jhpo.InvalidArgument, match=r"hp: expected hyperparameters of the space, with the names \['by'"):
        jhpo.online_tune(Named(), {"lr": 0.1}, KEY, space=space)


def test_online_in_own_numbers_is_baydins_rule(x64):
    """One step ahead, sgd outside: lr_{t+1} = lr_t + b (w_t (1 - lr_t)) w_t on w^2/2."""
    run = jhpo.online_tune(Descent(steps=4), {"lr": 0.1}, KEY, optax.sgd(0.05))
    w, lr = 1.0, 0.1
    for t in range(4):
        np.testing.assert_allclose(run.path["lr"][t], lr, rtol=1e-12)
        after = w * (1 - lr)
        w, lr = after, lr + 0.05 * after * w
    np.testing.assert_allclose(run.hp["lr"], lr, rtol=1e-12)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "outer: expected an optax transformation"),
        ({"outer": 3}, "outer: expected an optax transformation"),
        ({"outer": optax.sgd(0.1), "window": 3}, "window: expected a divisor of the training's 10 steps"),
        ({"space": jhpo.Space({"lr": jhpo.Float(0.5, 1.0)})}, "hp: lr: expected a value within the space"),
        ({"space": jhpo.Space({"rate": jhpo.Float(0.5, 1.0)})}, "hp: expected hyperparameters of the space"),
    ],
)
def test_bad_input_of_online_tuning(options, message):
    with pytest.raises(jhpo.InvalidArgument, match=message):
        jhpo.online_tune(Descent(), {"lr": 0.1}, KEY, **options)
