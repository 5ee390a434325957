"""Schedules that a population found, and trainings that follow them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo import Float, InvalidArgument, Schedule, Space, replay
from jhpo.training.crossvalidation import in_folds
from jhpo.training.trainable import train_and_evaluate

SPACE = Space({"lr": Float(0.0, 1.0), "decay": Float(0.0, 1.0)})


class Descent:
    def __init__(self, steps=6):
        self.steps = steps

    def init(self, hp, key):
        return jnp.stack([jnp.ones(()), hp["lr"]])  # the first rate is remembered

    def step(self, hp, w, t):
        return w.at[0].mul((1.0 - hp["lr"]) * (1.0 - hp["decay"]))

    def evaluate(self, hp, w):
        return {"loss": w[0], "first": w[1], "last": hp["lr"]}


def schedule(rates, steps, decay=0.0) -> Schedule:
    units = np.array([[decay, rate] for rate in rates])
    return Schedule(SPACE, np.array(steps), units, np.zeros(len(rates), np.int64), 0)


def trained(task, hp):
    return train_and_evaluate(task, hp, jax.random.key(0), metric="loss")


@pytest.mark.quick
def test_each_step_has_the_hyperparameters_of_its_part() -> None:
    task = replay(Descent(), schedule([0.5, 0.25, 0.0], [2, 5, 6]))
    found = trained(task, {})
    assert float(found.value) == pytest.approx(0.5**2 * 0.75**3)
    assert float(found.named["first"]) == 0.5 and float(found.named["last"]) == 0.0


def test_other_schedules_share_a_program_and_many_train_side_by_side() -> None:
    inner = Descent()
    traced = []

    @jax.jit
    def program(task, hp):
        traced.append(task)
        return trained(task, hp).value

    tasks = [replay(inner, schedule([a, 0.0], [n, 6])) for a, n in ((0.5, 2), (0.25, 3))]
    np.testing.assert_allclose([program(task, {}) for task in tasks], [0.5**2, 0.75**3], rtol=1e-6)
    assert len(traced) == 1
    both = jax.tree.map(lambda *xs: jnp.stack(xs), *tasks)
    np.testing.assert_allclose(jax.vmap(lambda task: trained(task, {}).value)(both), [0.5**2, 0.75**3], rtol=1e-6)


def test_the_others_are_tuned_beside_a_schedule() -> None:
    task = replay(Descent(), schedule([0.5, 0.25], [3, 6]))
    found = trained(task, {"decay": jnp.float32(0.5)}).value
    assert float(found) == pytest.approx((0.5 * 0.5) ** 3 * (0.75 * 0.5) ** 3)
    best = jhpo.minimize(task, Space({"decay": Float(0.0, 0.9)}), jhpo.RandomSearch(8), budget=8, metric="loss")
    assert set(best.best) == {"decay"} and best.value < 0.5**3 * 0.75**3


def test_fewer_steps_of_a_members_own_are_kept() -> None:
    class Short(Descent):
        max_steps = 6

        def __init__(self):
            self.steps = lambda hp: 2.0 + 2.0 * hp["decay"]

    assert float(trained(replay(Short(), schedule([0.5, 0.0], [3, 6])), {}).value) == 0.25


@pytest.mark.quick
def test_a_schedule_is_stretched() -> None:
    of = lambda steps, to: schedule([0.1] * len(steps), steps).stretched(to).steps.tolist()  # noqa: E731
    assert of([2, 5, 6], 12) == [4, 10, 12] and of([2, 5, 6], 3) == [1, 2, 3] and of([1, 99, 100], 4) == [1, 3, 4]
    assert of([98, 99, 100], 10) == [8, 9, 10]
    with pytest.raises(InvalidArgument, match="steps: expected an integer >= 3, got 2"):
        of([2, 5, 6], 2)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: replay(Descent(9), schedule([0.5], [6])),
            r"schedule: expected one of the 9 steps of the training \(schedule.stretched\(9\) makes one\), got 6",
        ),
        (lambda: replay(lambda hp: hp["lr"], schedule([0.5], [6])), "trainable: expected one with steps"),
        (lambda: replay(Descent(), [0.1]), r"schedule: expected a jhpo.Schedule, from result.schedule\(\)"),
        (lambda: schedule([0.5], [6]).of("rate"), r"name: expected one of \['decay', 'lr'\], got 'rate'"),
        (lambda: trained(replay(Descent(), schedule([0.5], [6])), [1.0]), "hp: expected nothing, or a dict"),
    ],
)
def test_bad_input_says_what_to_change(call, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        call()


class OnAFold(Descent):
    def __init__(self, scale) -> None:
        super().__init__()
        self.scale = scale

    def evaluate(self, hp, w):
        return {"loss": w[0] * self.scale}


class InFolds(Descent):
    def fold_parts(self, folds):
        return jnp.arange(1.0, folds + 1.0)

    def on_fold(self, part):
        return OnAFold(part)


def test_the_folds_of_a_training_follow_its_schedule() -> None:
    rates, key = [0.5, 0.25], jax.random.key(0)
    found = train_and_evaluate(in_folds(replay(InFolds(), schedule(rates, [3, 6])), 3), {}, key, metric="loss")
    np.testing.assert_allclose(found.folds, np.arange(1, 4) * 0.5**3 * 0.75**3, rtol=1e-6)
    x = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    model = (lambda key, x: {"w": jnp.ones((2,))}, lambda p, x, hp: (x @ p["w"]) * (1.0 + hp["decay"]))
    task = jhpo.supervised(
        model, lambda hp: optax.sgd(hp["lr"]), "regression", train=(x, x[:, 0]), steps=6,
        penalty=lambda hp, p: hp["decay"] * jnp.sum(p["w"] ** 2),
    )  # fmt: skip
    hp = {"lr": jnp.float32(0.25), "decay": jnp.float32(0.125)}
    followed = replay(task, schedule([0.25, 0.25], [3, 6], decay=0.125))
    alike = [train_and_evaluate(in_folds(t, 3), h, key).folds for t, h in ((task, hp), (followed, {}))]
    np.testing.assert_allclose(*alike, rtol=1e-5)
    state = task.init(hp, key)
    for use in (
        lambda t, h: t.predict(h, state, x),
        lambda t, h: t.trained_model(h, state)(x),
        lambda t, h: t.train_loss(h, state.params),
    ):
        np.testing.assert_allclose(use(followed, {}), use(task, hp), rtol=1e-6)
    search = jhpo.minimize(followed, Space({"unused": Float(0.0, 1.0)}), jhpo.RandomSearch(2), budget=2, folds=3)
    assert search.ensemble(2).predict(x).shape == (30,)
