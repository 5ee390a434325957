"""What a user drops is collected, with the programs that were compiled for it."""

from __future__ import annotations

import gc
import warnings
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.process.lifetimes import Programs
from jhpo.process.switches import config

SPACE = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
FEW = jhpo.RandomSearch(4)


def _study(f):
    jhpo.Study(SPACE, FEW).optimize(f, budget=4)


def _supervised(f):
    x = np.ones((8, 1), np.float32)
    line = (lambda key, x: {"w": jnp.zeros((1,))}, lambda p, x: x @ p["w"])
    data = {"train": (x, x[:, 0]), "valid": (x, x[:, 0])}
    penalty = lambda hp, params: 0.0 * f(hp)  # noqa: E731
    task = jhpo.supervised(
        line, lambda hp: optax.sgd(hp["x"]), "regression", penalty=penalty, batch_size=4, steps=2, **data
    )
    jhpo.minimize(task, SPACE, FEW, budget=4).top(1)


def _opaque(f):
    class Task:
        steps = 0

        def init(self, hp, key):
            return key

        def step(self, hp, state, t):
            return state

        def evaluate(self, hp, state):
            return f(hp)

    jhpo.minimize(Task(), SPACE, FEW, budget=4)


USES = {
    "minimize": lambda f: jhpo.minimize(f, SPACE, FEW, budget=4),
    "top": lambda f: jhpo.minimize(f, SPACE, FEW, budget=4).top(1),
    "run": lambda f: jhpo.run(FEW, f, SPACE, 1, jax.random.key(0)),
    "study": _study,
    "hypergrad": lambda f: jhpo.hypergrad(f, {"x": 0.5}, jax.random.key(0)),
    "supervised": _supervised,
    "opaque": _opaque,
    "partial": lambda f: jhpo.minimize(jax.tree_util.Partial(lambda a, hp: a * f(hp), 2.0), SPACE, FEW, budget=4),
}


@pytest.mark.parametrize("use", USES)
def test_an_objective_goes_when_it_is_dropped(use) -> None:
    gone = []
    for _ in range(2):
        data = jnp.ones((100,))

        def objective(hp, data=data):
            return jnp.sum(hp["x"] * data)

        USES[use](objective)
        gone.append(weakref.ref(objective))
        gone.append(weakref.ref(data))
        del objective, data
    gc.collect()
    assert [reference() for reference in gone] == [None] * 4


def test_the_same_function_is_compiled_once(count_compilations) -> None:
    objective = lambda hp: hp["x"] ** 2  # noqa: E731
    jhpo.minimize(objective, SPACE, FEW, budget=4)
    with count_compilations() as seen:
        jhpo.minimize(objective, SPACE, FEW, budget=4, seed=1)
    assert seen.total == 0, seen.names


def test_programs_are_bounded_in_number() -> None:
    add = Programs(lambda function, x: function.value(x), most=3)
    from jhpo.training.foreign import Constant

    functions = [lambda x, i=i: x + i for i in range(5)]
    assert [float(add(Constant(f), 1.0)) for f in functions] == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert len(add) == 3
    functions.clear()
    gc.collect()
    assert len(add) == 0


def test_a_program_that_nobody_waits_for_is_not_compiled() -> None:
    """At the end of a process, where the main thread is over: compiling cannot be ended, only left out."""
    program: Programs = Programs(lambda x: jnp.sin(x) + 1.0)
    x = jnp.ones(3)
    assert program.compile_unless(lambda: True, x) is None
    made = program.compile_unless(lambda: False, x)
    assert made is not None and made is program.compile_unless(lambda: True, x)  # what is there, is there
    np.testing.assert_allclose(made(x), jnp.sin(x) + 1.0)


@pytest.mark.parametrize("named", ["minimize", "study", "population"])
def test_a_program_is_of_the_settings_that_it_was_made_under(named: str) -> None:
    objective = lambda hp, key: 0.0 * hp["x"] + jax.random.normal(key, (7,)).sum()  # noqa: E731
    other = jax.threefry_partitionable(not config.jax_threefry_partitionable)
    study, population = jhpo.Study(SPACE, FEW), jhpo.Population(objective, SPACE)

    def found() -> list[float]:
        if named == "population":
            return population.evaluate(np.full((4, 1), 0.5), np.arange(4), jax.random.key(0)).value.tolist()
        if named == "study":
            study.optimize(objective, budget=len(study) + 4)
            return [study[i].value for i in range(len(study) - 4, len(study))]
        return jhpo.minimize(objective, SPACE, FEW, budget=4).history.value.tolist()

    def own() -> list[float]:
        first = len(study) - 4 if named == "study" else 0
        return [float(objective({"x": 0.5}, jax.random.fold_in(jax.random.key(0), first + i))) for i in range(4)]

    np.testing.assert_allclose(found(), own(), rtol=1e-5)
    with other, warnings.catch_warnings(action="ignore"):  # a study says that it goes on under other settings
        np.testing.assert_allclose(found(), own(), rtol=1e-5)
    np.testing.assert_allclose(found(), own(), rtol=1e-5)
