"""What may be handed over as an objective, how it is trained, and the messages for what may not."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jhpo import Choice, Float, InvalidArgument, Space, as_trainable
from jhpo.training.objective import check_trainable
from jhpo.training.trainable import max_steps, read_metrics, train, train_and_evaluate, train_state

KEY = jax.random.key(0)
SPACE = Space({"x": Float(-1.0, 1.0)})


class Decay:
    """A trainable that is no pytree: the state shrinks by hp at every step."""

    steps = 5

    def init(self, hp, key):
        return jnp.float32(1.0), jnp.int32(0)

    def step(self, hp, state, t):
        return state[0] * hp["x"], state[1] + t

    def evaluate(self, hp, state):
        return {"value": state[0], "times": state[1]}


class Masked(Decay):
    """The same with a number of steps that depends on the hyperparameters."""

    max_steps = 5

    def steps(self, hp):  # type: ignore[override]
        return hp["n"]


def value(objective, hp, **options):
    return train_and_evaluate(as_trainable(objective), hp, KEY, **options).value


def test_functions_with_and_without_key() -> None:
    hp = {"x": jnp.float32(0.5)}
    noise = jax.random.uniform(KEY)
    assert value(lambda hp: hp["x"] * 2, hp) == 1.0
    assert value(lambda hp, key: hp["x"] + jax.random.uniform(key), hp) == 0.5 + noise
    assert value(lambda hp, *, key: hp["x"] + jax.random.uniform(key), hp) == 0.5 + noise
    assert value(lambda hp, scale=3.0: hp["x"] * scale, hp) == 1.5  # an option is no key
    assert value(lambda hp, scale=3.0, key=None: hp["x"] + jax.random.uniform(key), hp) == 0.5 + noise
    bound = functools.partial(lambda hp, scale, key: hp["x"] + jax.random.uniform(key), scale=1)
    assert value(bound, hp) == 0.5 + noise
    assert value(lambda hp, key=None: hp["x"] + jax.random.uniform(key), hp) == 0.5 + noise


def test_a_trainable_runs_its_steps_in_order() -> None:
    hp = {"x": jnp.float32(0.5)}
    metrics = train_and_evaluate(as_trainable(Decay()), hp, KEY, metric="value")
    assert metrics.value == 0.5**5 and metrics.named["times"] == 0 + 1 + 2 + 3 + 4
    assert value(Decay(), hp, metric="value", horizon=0.4) == 0.5**2


def test_training_can_be_paused_and_continued() -> None:
    trainable, hp = as_trainable(Decay()), {"x": jnp.float32(0.5)}
    half = train(trainable, hp, trainable.init(hp, KEY), 0, 2)
    np.testing.assert_array_equal(train(trainable, hp, half, jnp.int32(2), 3), train_state(trainable, hp, KEY))


def test_masked_steps() -> None:
    trainable = as_trainable(Masked())
    assert max_steps(trainable) == 5
    for n in (0, 2, 5):
        hp = {"x": jnp.float32(0.5), "n": jnp.int32(n)}
        assert value(Masked(), hp, metric="value") == 0.5**n
    assert value(Masked(), {"x": jnp.float32(0.5), "n": jnp.int32(4)}, metric="value", horizon=0.5) == 0.25


def test_arrays_bound_by_partial_are_arguments_of_the_program(count_compilations) -> None:
    def objective(data, hp):
        return (data * hp["x"]).sum()

    program = jax.jit(lambda trainable, hp: train_and_evaluate(trainable, hp, KEY).value)
    hp = {"x": jnp.float32(2.0)}
    one, two = (as_trainable(functools.partial(objective, np.full(3, v, np.float32))) for v in (1.0, 2.0))
    assert program(one, hp) == 6.0
    with count_compilations() as seen:
        assert program(two, hp) == 12.0
    assert seen.names == []
    assert as_trainable(one) is one


def test_values_become_strong_float32() -> None:
    for result in (3, 3.0, jnp.int32(3), jnp.bfloat16(3), np.float32(3)):
        got = read_metrics(result).value
        assert got.dtype == jnp.float32 and not got.weak_type and got == 3.0


class InvalidParameterError(ValueError):
    """As in scikit-learn."""


class _Forgetful:
    steps = 2

    def init(self, hp, key):
        return hp["x"]


class _Growing:
    steps = 2

    def init(self, hp, key):
        return {"w": hp["x"]}

    def step(self, hp, state, t):
        return {**state, "v": state["w"]}

    def evaluate(self, hp, state):
        return state["w"]


class _Reversed(Decay):
    def step(self, state, hp, t):  # type: ignore[override]
        return super().step(hp, state, t)


class _Misnamed(_Growing):
    def init(self, hp):  # type: ignore[override]
        return {"w": hp["x"]}


def _checks_like_scikit_learn(hp):
    raise InvalidParameterError(f"The 'C' parameter must be a float. Got {hp['x']!r} instead.")


@pytest.mark.parametrize(
    ("objective", "message"),
    [
        (3, "objective: expected a function"),
        (Decay, "objective: expected an instance"),
        (lambda: 1.0, r"objective: expected a function objective\(hp\)"),
        (lambda a, b, c: 1.0, r"objective: expected a function objective\(hp\)"),
        (lambda hp: jnp.ones(3), r"objective: expected a real scalar, got float32\[3\]"),
        (lambda hp: hp["x"][None], r"objective: expected a real scalar, got float32\[1\]"),
        (lambda hp: hp["x"] > 0, r"objective: expected a real scalar, got bool"),
        (lambda hp: jax.lax.complex(hp["x"], hp["x"]), r"objective: expected a real scalar, got complex"),
        (lambda hp: None, "objective: expected a real scalar, got None"),
        (lambda hp: "low", "objective: expected a real scalar, got 'low'"),
        (lambda hp: {}, "objective: expected a dict with at least one metric"),
        (
            lambda hp: {"a": hp["x"], "b": hp["x"]},
            r"metric: expected one of \['a', 'b'\] .*several values\), got None",
        ),
        (lambda hp: hp["y"], r"KeyError: 'y' \(line \d+ of .*test_trainable\.py\)"),
        (lambda hp: float(hp["x"]), r"trace, got ConcretizationTypeError: .*jnp takes .* math.*jhpo\.host"),
        (lambda hp: np.sin(hp["x"]), r"trace, got TracerArrayConversionError: .*jnp takes the place of np.*jhpo\.host"),
        (lambda hp: 1.0 if hp["x"] > 0 else 2.0, r"trace, got TracerBoolConversionError: .*jnp\.where.*jhpo\.host"),
        (lambda hp: jnp.arange(hp["x"].astype(int)).sum(), "a size that is tuned .*fori_loop"),
        (
            lambda hp: jnp.ones(9)[: hp["x"].astype(int)].sum(),
            "IndexError: .* static.*a size that is tuned",
        ),
        (lambda hp: hp["x"] * (hp["x"] == "adam"), r"compared with a string: == 'adam' \(line .*jhpo\.switch\(hp"),
        (lambda hp: hp["x"] * (hp["x"] != "adam"), r"compared with a string: != 'adam'.*static=True"),
        (lambda hp: hp["x"] if hp["x"] in ["sgd", "adam"] else 0.0, "compared with a string: == 'sgd'"),
        (lambda rng, hp: hp["x"], r"first argument, a random key the second: objective\(hp, key\)"),
        (lambda hp: jnp.zeros(hp["x"].astype(int)).sum(), r"Shapes must be .*; a size that is tuned .* static=True"),
        (_Forgetful(), "objective: expected a function .*; it lacks step and evaluate"),
        (_Reversed(), r"objective: expected a function step\(hp, state, t\), got '\(state, hp, t\)'"),
        (_Misnamed(), r"init\(\) takes 2 .*; the methods of a training are init\(hp, key\)"),
        (_Growing(), r"must have the same pytree structure.*key sets: \{'v'\}.*; a training's step returns a state"),
        (_checks_like_scikit_learn, r"InvalidParameterError: .*Got \w*Tracer.*; a function .* goes through jhpo\.host"),
    ],
)
def test_what_cannot_be_an_objective_is_said_before_anything_compiles(objective, message, count_compilations) -> None:
    with count_compilations() as seen, pytest.raises(InvalidArgument, match=message):
        check_trainable(objective, SPACE)
    assert seen.names == []


def test_a_string_may_be_compared_where_nothing_is_traced() -> None:
    space = Space({"kind": Choice(["near", "far"], static=True)})
    check_trainable(lambda hp: 1.0 * (hp["kind"] == "near"), space)


@pytest.mark.parametrize("steps", [-1, 2.5, True, None])
def test_steps_are_checked(steps) -> None:
    wrong = type("Wrong", (Decay,), {"steps": steps})()
    with pytest.raises(InvalidArgument, match="steps: expected an integer >= 0"):
        as_trainable(wrong)
    with pytest.raises(InvalidArgument, match="max_steps: expected an integer"):
        as_trainable(type("Wrong", (Masked,), {"max_steps": steps})())


def test_an_unhashable_object_is_refused() -> None:
    unhashable = type("Unhashable", (Decay,), {"__hash__": None})()
    with pytest.raises(InvalidArgument, match=r"hashable object or a registered pytree.*; a dataclass is hashable"):
        as_trainable(unhashable)


def test_what_a_wrapper_hands_on_counts() -> None:
    """A protocol's isinstance does not see it since Python 3.12."""

    class Handing:
        def __init__(self, inner: object) -> None:
            self.inner = inner

        def __getattr__(self, name: str):
            return getattr(object.__getattribute__(self, "inner"), name)

    whole, alone = as_trainable(Handing(Decay())), as_trainable(Decay())
    assert whole.steps == alone.steps and type(whole) is type(alone)


def test_integers_keep_their_digits_with_x64():
    with jax.enable_x64(True):
        found = read_metrics({"value": jnp.int64(2**40 + 1), "constraint": jnp.asarray([2**40 + 3])}, None, None)
        assert found.value == 2**40 + 1
        assert read_metrics(jnp.int32(2**24 + 1), None, None).value == 2**24 + 1
        assert found.constraint is not None and found.constraint[0] == 2**40 + 3
