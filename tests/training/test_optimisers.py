"""Every public optimiser of optax trains in `supervised` with traced hyperparameters."""

from __future__ import annotations

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from optax import contrib

import jhpo
from jhpo.training.optimisers import evaluation_params
from tests.selection import slow_except

X = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32)
LINE = (
    lambda key, x: {"w": jnp.full((3, 2), 0.1), "b": jnp.zeros((2,))},
    lambda p, x: (x @ p["w"] + p["b"][None]).sum(-1),
)
HP = {"lr": jnp.array([0.01, 0.02]), "b": jnp.array([0.8, 0.9])}
KEY = jax.random.key(0)

# optimisers whose first argument is no learning rate, or that need more than one
MADE = {
    "noisy_sgd": lambda hp: optax.noisy_sgd(hp["lr"], key=0),
    "rprop": lambda hp: optax.rprop(hp["lr"]),
    "optimistic_adam": lambda hp: optax.optimistic_adam(hp["lr"], hp["b"]),
    "polyak_sgd": lambda hp: optax.polyak_sgd(hp["lr"]),
    "lookahead": lambda hp: jhpo.optimisers.lookahead(optax.sgd(hp["lr"]), 3, hp["b"]),
    "chain": lambda hp: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(hp["lr"], b1=hp["b"])),
    "sgd with momentum": lambda hp: optax.sgd(hp["lr"], momentum=hp["b"], nesterov=True),
    "mechanize": lambda hp: contrib.mechanize(optax.sgd(hp["lr"])),
    "reduce_on_plateau": lambda hp: optax.chain(optax.sgd(hp["lr"]), contrib.reduce_on_plateau(patience=1)),
    "sam": lambda hp: contrib.sam(optax.sgd(hp["lr"]), optax.chain(contrib.normalize(), optax.sgd(0.01))),
    "sam opaque": lambda hp: contrib.sam(
        optax.sgd(hp["lr"]), optax.chain(contrib.normalize(), optax.sgd(0.01)), opaque_mode=True
    ),
    "schedule_free": lambda hp: contrib.schedule_free(optax.sgd(hp["lr"]), hp["lr"], b1=hp["b"]),
    "schedule_free_sgd": lambda hp: contrib.schedule_free_sgd(hp["lr"]),
    "schedule_free_adamw": lambda hp: contrib.schedule_free_adamw(hp["lr"]),
    "schedule": lambda hp: optax.adamw(jhpo.schedules.warmup_cosine_decay_schedule(0.0, hp["lr"], 2, 6)),
    "inject_hyperparams": lambda hp: optax.inject_hyperparams(optax.adam)(learning_rate=hp["lr"]),
    "averaged": lambda hp: jhpo.optimisers.averaged(optax.adam(hp["lr"]), hp["b"]),
    "multi_transform": lambda hp: optax.multi_transform(
        {"a": optax.sgd(hp["lr"]), "b": optax.adam(hp["lr"])}, {"w": "a", "b": "b"}
    ),
    "apply_if_finite": lambda hp: optax.apply_if_finite(optax.adam(hp["lr"]), 3),
    "galore": lambda hp: contrib.galore(hp["lr"], rank=1),
}
# with the reason and the drop-in in docs/optimisers.md
NOT = {"dpsgd": "gradients of single examples"}


def optimisers() -> list[str]:
    found = set(MADE)
    for module in (optax, contrib):
        for name in dir(module):
            function = getattr(module, name)
            if name.startswith("_") or not inspect.isfunction(function):
                continue
            parameters = list(inspect.signature(function).parameters)
            if parameters and parameters[0] in ("learning_rate", "max_learning_rate") and not name.startswith("scale_"):
                found.add(name)
    return sorted(found - set(NOT))


def task(tx, **options):
    options = {"train": (X, Y), "valid": (X, Y), "batch_size": 16, "steps": 6} | options
    return jhpo.supervised(LINE, tx, "regression", **options)


def make(name: str):
    if name in MADE:
        return MADE[name]
    factory = getattr(optax, name, None) or getattr(contrib, name)
    return lambda hp: factory(hp["lr"])


def train(task, hp):
    state = task.init(hp, KEY)
    return jax.lax.fori_loop(0, task.steps, lambda t, s: task.step(hp, s, t), state)


# those that need something of their own from `supervised`, and the usual ones
SHORT = {
    *(
        "adam",
        "sgd with momentum",
        "lion",
        "lbfgs",
        "adafactor",
        "muon",
        "polyak_sgd",
        "lookahead",
        "sam",
        "sam opaque",
    ),
    *("mechanize", "reduce_on_plateau", "schedule_free", "schedule", "inject_hyperparams", "multi_transform"),
}


@pytest.mark.parametrize("name", slow_except(SHORT, optimisers()))
def test_an_optimiser_trains_a_population(name: str) -> None:
    trainable = task(make(name))

    def member(hp):
        state = train(trainable, hp)
        return trainable.evaluate(hp, state)["loss"], state.params["w"]

    losses, weights = jax.jit(jax.vmap(member))(HP)
    assert losses.shape == (2,) and np.isfinite(losses).all()
    assert not (weights == np.float32(0.1)).all(), "the weights moved"


def test_there_are_many() -> None:
    assert len(optimisers()) >= 45


def test_line_search_finds_the_minimum_of_a_full_batch() -> None:
    whole = task(lambda hp: optax.lbfgs(), batch_size=None, steps=15)
    state = train(whole, {"lr": jnp.float32(0.1)})
    assert float(whole.evaluate({"lr": jnp.float32(0.1)}, state)["loss"]) < 1e-6


def test_schedule_free_is_evaluated_at_its_mean() -> None:
    hp = {"lr": jnp.float32(0.05), "b": jnp.float32(0.9)}
    free = task(lambda hp: contrib.schedule_free_sgd(hp["lr"]), steps=20)
    state = train(free, hp)
    with jax.numpy_dtype_promotion("standard"):
        mean = contrib.schedule_free_eval_params(state.opt_state, state.params)
    outputs = LINE[1](mean, X)
    np.testing.assert_allclose(free.evaluate(hp, state)["loss"], np.mean((outputs - Y) ** 2), rtol=1e-5)
    np.testing.assert_allclose(free.predict(hp, state, X), outputs, rtol=1e-5)
    assert not np.allclose(mean["w"], state.params["w"], atol=1e-4)


def test_averages_and_lookahead_are_those_of_a_plain_loop() -> None:
    hp = {"lr": jnp.float32(0.05), "b": jnp.float32(0.7)}
    plain, mean, ahead = (
        task(lambda hp: optax.sgd(hp["lr"])),
        task(lambda hp: jhpo.optimisers.averaged(optax.sgd(hp["lr"]), hp["b"])),
        task(lambda hp: jhpo.optimisers.lookahead(optax.sgd(hp["lr"]), 2, 0.5)),
    )
    states = [t.init(hp, KEY) for t in (plain, mean, ahead)]
    weights, total = 0.0, 0.0
    for step in range(6):
        states = [t.step(hp, s, jnp.int32(step)) for t, s in zip((plain, mean, ahead), states)]
        weights, total = 0.7 * weights + states[0].params["w"], 0.7 * total + 1.0
        np.testing.assert_allclose(evaluation_params(states[1].opt_state, None)["w"], weights / total, rtol=1e-5)
    # fast weights from the slow ones, two steps, half way back
    by_hand = plain.init(hp, KEY)
    slow = by_hand.params
    for step in range(6):
        by_hand = plain.step(hp, by_hand, jnp.int32(step))
        if step % 2 == 1:
            slow = jax.tree.map(lambda s, fast: s + 0.5 * (fast - s), slow, by_hand.params)
            by_hand = by_hand._replace(params=slow)
    np.testing.assert_allclose(states[2].params["w"], slow["w"], rtol=1e-5)
    np.testing.assert_allclose(evaluation_params(states[2].opt_state, None)["w"], slow["w"], rtol=1e-5)


def test_a_switch_evaluates_what_the_chosen_optimiser_means() -> None:
    options = {"sgd": lambda lr: optax.sgd(lr), "free": lambda lr: contrib.schedule_free_sgd(lr)}
    mixed = task(lambda hp: jhpo.switch(hp["opt"], {n: f(hp["lr"]) for n, f in options.items()}))
    for index, (_, factory) in enumerate(options.items()):
        alone = task(lambda hp, f=factory: f(hp["lr"]))
        hp = {"lr": jnp.float32(0.05), "opt": jnp.int32(index)}
        values = [t.evaluate(hp, train(t, hp))["loss"] for t in (mixed, alone)]
        np.testing.assert_allclose(*values, rtol=1e-5)


def test_weights_to_evaluate_by_hand() -> None:
    hp = {"lr": jnp.float32(0.05)}
    zero = task(lambda hp: optax.sgd(hp["lr"]), eval_params=lambda opt_state, p: jax.tree.map(jnp.zeros_like, p))
    np.testing.assert_allclose(zero.evaluate(hp, train(zero, hp))["loss"], np.mean(Y**2), rtol=1e-5)


def test_what_cannot_be_traced_names_the_drop_in() -> None:
    space = jhpo.Space({"lr": jhpo.Float(1e-3, 0.1), "n": jhpo.Float(0.1, 0.9)})

    def search(tx):
        return jhpo.minimize(task(tx), space, jhpo.RandomSearch(2), budget=2)

    cases = {
        "warmup_cosine_decay_schedule": lambda hp: optax.warmup_cosine_decay_schedule(0.0, hp["lr"], 2, 6),
        "exponential_decay": lambda hp: optax.exponential_decay(hp["lr"], 10, hp["n"]),
    }
    for name, schedule in cases.items():
        with pytest.raises(jhpo.InvalidArgument, match=rf"jhpo\.schedules\.{name} takes traced ones"):
            search(lambda hp, s=schedule: optax.adamw(s(hp)))
    with pytest.raises(jhpo.InvalidArgument, match=r"wants the gradient of every example.*write a trainable"):
        search(lambda hp: contrib.dpsgd(hp["lr"], 1.0, 0.1, 0))
    with pytest.raises(jhpo.InvalidArgument, match=r"jhpo\.optimisers\.lookahead"):
        search(lambda hp: optax.lookahead(optax.sgd(hp["lr"]), 3, 0.5))


@pytest.mark.parametrize("decay", [-0.1, 1.0, 1.5, float("nan")])
def test_an_average_without_an_end_is_refused(decay: float) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=r"decay: expected a number in \[0\.0, 1\.0\)"):
        jhpo.optimisers.averaged(optax.sgd(0.1), decay)
