"""A traced choice as what it stands for."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo

OPTIMISERS = {"sgd": optax.sgd(0.1), "adam": optax.adam(0.1)}
X = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
Y = X @ np.array([1.0, -2.0, 0.5], np.float32)
LINE = (lambda key, x: {"w": jnp.zeros((3,))}, lambda p, x: x @ p["w"])
DATA = {"train": (X, Y), "valid": (X, Y), "batch_size": 16, "steps": 12}


def task(tx, loss="regression", **options):
    return jhpo.supervised(LINE, tx, loss, **DATA, **options)


def names(result, key="opt"):
    return {trial.params[key]: trial.value for trial in result.top(100)}


@pytest.mark.parametrize("static", [False, True])
def test_each_optimiser_trains_as_it_does_alone(static: bool) -> None:
    space = jhpo.Space({"opt": jhpo.Choice(list(OPTIMISERS), static=static)})
    chosen = task(lambda hp: jhpo.switch(hp["opt"], OPTIMISERS))
    found = names(jhpo.minimize(chosen, space, jhpo.GridSearch(), budget=3))
    assert sorted(found) == sorted(OPTIMISERS)
    empty = jhpo.Space({"unused": jhpo.Float(0.0, 1.0)})
    for name, value in found.items():
        alone = jhpo.minimize(task(lambda hp, n=name: OPTIMISERS[n]), empty, jhpo.RandomSearch(1), budget=1)
        assert value == pytest.approx(alone.value, rel=1e-5)


def test_rates_schedules_and_extra_arguments_inside_the_options() -> None:
    def tx(hp):
        options = {
            "plain": optax.sgd(hp["lr"]),
            "clipped": optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(hp["lr"])),
        }
        return jhpo.switch(hp["opt"], options)

    space = jhpo.Space({"opt": jhpo.Choice(["plain", "clipped"]), "lr": jhpo.Float(1e-3, 0.3, log=True)})
    result = jhpo.minimize(task(tx), space, jhpo.RandomSearch(16), budget=16)
    assert np.isfinite(result.value) and len(names(result)) == 2


def test_losses_activations_and_numbers() -> None:
    losses = {"squared": optax.squared_error, "huber": optax.huber_loss}
    penalties = {"l1": lambda p: jnp.abs(p["w"]).sum(), "l2": lambda p: (p["w"] ** 2).sum()}
    space = jhpo.Space(
        {"loss": jhpo.Choice(list(losses)), "penalty": jhpo.Choice(list(penalties)), "n": jhpo.Choice([8, 2, 4])}
    )
    seen = task(
        lambda hp: optax.sgd(jhpo.switch(hp["n"], {2: 0.2, 4: 0.4, 8: 0.8})),
        lambda o, t, hp: jhpo.switch(hp["loss"], losses)(o, t),
        penalty=lambda hp, p: 0.01 * jhpo.switch(hp["penalty"], penalties)(p),
    )
    result = jhpo.minimize(seen, space, jhpo.GridSearch(), budget=12)
    assert len({trial.value for trial in result.top(12)}) == 12
    rate = jhpo.minimize(
        lambda hp: jhpo.switch(hp["n"], {2: 0.2, 4: 0.4, 8: 0.8}),
        jhpo.Space({"n": jhpo.Choice([8, 2, 4])}),
        jhpo.GridSearch(),
        budget=3,
    )
    assert rate.best == {"n": 2} and rate.value == np.float32(0.2)


@pytest.mark.parametrize("choices", [[True, False], [False, True], [0.5, 0.25], [3, 1]])
def test_numbers_are_found_by_value(choices: list) -> None:
    space = jhpo.Space({"c": jhpo.Choice(choices)})
    table = {c: 10.0 + float(c) for c in reversed(choices)}
    result = jhpo.minimize(lambda hp: jhpo.switch(hp["c"], table), space, jhpo.GridSearch(), budget=2)
    assert {t.params["c"]: t.value for t in result.top(2)} == table


def test_hypergradient_of_the_chosen_optimiser() -> None:
    def tx(hp):
        return jhpo.switch(hp["opt"], {"sgd": optax.sgd(hp["lr"]), "adam": optax.adam(hp["lr"])})

    key = jax.random.key(0)
    for place, alone in enumerate((optax.sgd, optax.adam)):
        expected = jhpo.hypergrad(task(lambda hp, a=alone: a(hp["lr"])), {"lr": 0.05}, key).grad["lr"]
        found = jhpo.hypergrad(task(tx), {"lr": 0.05, "opt": jnp.int32(place)}, key, "reverse", wrt=["lr"])
        np.testing.assert_allclose(found.grad["lr"], expected, rtol=1e-4)


def test_wrong_options_are_named() -> None:
    space = jhpo.Space({"opt": jhpo.Choice(["sgd", "adam"])})

    def search(options):
        return jhpo.minimize(lambda hp: jhpo.switch(hp["opt"], options), space, jhpo.RandomSearch(2), budget=2)

    with pytest.raises(jhpo.InvalidArgument, match=r"options: expected the 2 choices \['sgd', 'adam'\], in this order"):
        search({"adam": 1.0, "sgd": 2.0})
    with pytest.raises(jhpo.InvalidArgument, match="options: expected the 2 choices"):
        search({"sgd": 1.0})
    with pytest.raises(jhpo.InvalidArgument, match="all of one kind"):
        search({"sgd": 1.0, "adam": jnp.sin})
    with pytest.raises(jhpo.InvalidArgument, match="one structure and shape"):
        search({"sgd": jnp.zeros(2), "adam": jnp.zeros(3)})
    with pytest.raises(jhpo.InvalidArgument, match=r"category: expected one of \['sgd', 'adam'\], got 'lion'"):
        jhpo.switch("lion", {"sgd": 1.0, "adam": 2.0})
    with pytest.raises(jhpo.InvalidArgument, match="options: expected at least one"):
        jhpo.switch("lion", {})


@pytest.mark.parametrize(
    ("parameter", "options", "words"),
    [
        (jhpo.Choice([32, 64]), [1.0, 2.0], r"one for each value, \[32, 64\], got \[0, 1\]; a list"),
        (jhpo.Choice([0.5, 1.0]), [1.0, 2.0], r"one for each value, \[0.5, 1.0\]"),
        (jhpo.Int(1, 3), [1.0, 2.0, 3.0], "one for each value, 1 to 3, got .*; a list"),
        (jhpo.Int(1, 3), {1: 1.0, 2: 2.0}, r"one for each value, 1 to 3, got \[1, 2\]"),
        (jhpo.Int(0, 4, step=2), {0: 1.0, 1: 2.0, 2: 3.0}, "one for each value, 0 to 4"),
        (jhpo.Int(0, 10**5), {0: 1.0, 1: 2.0}, "one for each value, 0 to 100000"),
        (jhpo.Choice(["a", "b"]), {"a": "relu", "b": "tanh"}, "optax .* trees of numbers and arrays.*static=True"),
    ],
)
def test_a_value_without_an_option_is_refused_not_replaced(parameter, options, words: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=f"options: expected {words}"):
        jhpo.minimize(
            lambda hp: jhpo.switch(hp["n"], options), jhpo.Space({"n": parameter}), jhpo.RandomSearch(2), budget=2
        )


def test_an_integer_chooses_by_its_value_or_as_an_index() -> None:
    for parameter, options in (
        (jhpo.Int(1, 3), {3: 30.0, 2: 20.0, 1: 10.0}),
        (jhpo.Int(0, 2), [0.0, 10.0, 20.0]),
        (jhpo.Choice([0, 1, 2]), [0.0, 10.0, 20.0]),
        (jhpo.Int(0, 1), {"sgd": 0.0, "adam": 10.0}),
    ):
        space = jhpo.Space({"n": parameter})
        found = jhpo.minimize(lambda hp, o=options: jhpo.switch(hp["n"], o), space, jhpo.GridSearch(), budget=3)
        assert all(value == 10.0 * n for n, value in names(found, "n").items())


def test_a_known_number_has_to_be_among_the_options() -> None:
    assert jhpo.switch(jnp.int32(1), [1.0, 2.0]) == 2.0 and jhpo.switch(jnp.int32(8), {8: 1.0, 4: 2.0}) == 1.0
    with pytest.raises(jhpo.InvalidArgument, match=r"category: expected one of \[0, 1\], got 2"):
        jhpo.switch(jnp.int32(2), [1.0, 2.0])
    with pytest.raises(jhpo.InvalidArgument, match=r"category: expected one of \[4, 8\], got 5"):
        jhpo.switch(jnp.int32(5), {4: 1.0, 8: 2.0})


@pytest.mark.parametrize("lookup", [lambda c: {"sgd": 1.0, "adam": 2.0}[c], lambda c: [1.0, 2.0][c]])
def test_python_look_ups_are_told_of_it(lookup) -> None:
    space = jhpo.Space({"opt": jhpo.Choice(["sgd", "adam"])})
    with pytest.raises(jhpo.InvalidArgument, match=r"jhpo\.switch\(hp"):
        jhpo.minimize(lambda hp: lookup(hp["opt"]), space, jhpo.RandomSearch(2), budget=2)
