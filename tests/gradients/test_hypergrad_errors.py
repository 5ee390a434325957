"""jhpo.hypergrad and bad input: options, hyperparameters, evaluations, optimisers without a derivative."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jhpo
from jhpo.kernels.mixed import mixed_grad
from tests.gradients.hyper_tasks import KEY, Descent, Ridge

pytestmark = pytest.mark.quick

BAD = {
    "method": ({"method": "magic"}, "method: expected one of"),
    "levels": ({"method": "forward", "levels": 2}, "levels: expected no value"),
    "window": ({"method": "truncated"}, "window: expected the number of last steps"),
    "divisor": ({"method": "pes", "window": 3}, "window: expected a divisor of the 10 steps, got 3"),
    "horizon": ({"horizon": 0}, "horizon: expected a number in"),
    "solver": ({"method": "implicit", "solver": "lu"}, "solver: expected one of"),
    "sigma": ({"method": "pes", "sigma": 0.0}, "sigma: expected"),
    "pairs": ({"method": "pes", "pairs": 1}, "pairs: expected an integer >= 2"),
    "memory": ({"memory": "1GB"}, "memory: expected an integer >= 1 of bytes, got '1GB'"),
    "wrt": ({"wrt": ["momentum"]}, r"wrt: expected some of \['lr'\]"),
    "no names": ({"wrt": 5}, r"wrt: expected some of \['lr'\], got 5"),
    "metric": ({"metric": "loss"}, "metric: expected None"),
    "metrics": ({"metric": ["loss"]}, "metric: expected the name of one metric"),
    "implicit": ({"method": "implicit"}, "method: expected a trainable with train_loss"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_options_are_named_before_anything_compiles(name, count_compilations):
    options, message = BAD[name]
    jax.block_until_ready(KEY)
    with count_compilations() as seen, pytest.raises(jhpo.InvalidArgument, match=message):
        jhpo.hypergrad(Descent(), {"lr": jnp.float32(0.3)}, KEY, **options)
    assert not [n for n in seen.names if "program" in n]


def test_bad_hyperparameters_and_keys():
    with pytest.raises(jhpo.InvalidArgument, match=r"hp: lr: expected a floating-point number .*wrt=\[\].*int32"):
        jhpo.hypergrad(Descent(), {"lr": 1}, KEY)
    with pytest.raises(jhpo.InvalidArgument, match=r"hp: depth: .*wrt=\['lr'\]"):
        jhpo.hypergrad(Descent(), {"lr": 0.1, "depth": 3}, KEY)
    with pytest.raises(jhpo.InvalidArgument, match="hp: expected a tree with at least one number"):
        jhpo.hypergrad(Descent(), {"opt": "adam"}, KEY)
    with pytest.raises(jhpo.InvalidArgument, match="hp: opt: expected numbers in an array"):
        jhpo.hypergrad(Descent(), {"lr": 0.1, "opt": jax.random.key(0)}, KEY)
    with pytest.raises(jhpo.InvalidArgument, match="hp: lr: expected finite numbers"):
        jhpo.hypergrad(Descent(), {"lr": float("nan")}, KEY)
    with pytest.raises(jhpo.InvalidArgument, match="hp: expected a tree with at least one number"):
        jhpo.hypergrad(Descent(), {}, KEY)
    with pytest.raises(jhpo.InvalidArgument, match="key: expected a key"):
        jhpo.hypergrad(Descent(), {"lr": 0.1}, 0)


def test_bad_evaluations():
    vector = type("Vector", (Descent,), {"evaluate": lambda self, hp, s: jnp.ones((3,))})()
    with pytest.raises(jhpo.InvalidArgument, match=r"objective: expected a real scalar, got float32\[3\]"):
        jhpo.hypergrad(vector, {"lr": 0.1}, KEY)
    counted = type("Counted", (Descent,), {"evaluate": lambda self, hp, s: jnp.sum(s[0] > 0.1)})()
    with pytest.raises(jhpo.InvalidArgument, match=r"metric: expected an evaluation with a derivative.*'lr'"):
        jhpo.hypergrad(counted, {"lr": 0.1}, KEY)
    broken = type("Broken", (Descent,), {"step": lambda self, hp, s, t: 1 / 0})()
    with pytest.raises(jhpo.InvalidArgument, match="ZeroDivisionError"):
        jhpo.hypergrad(broken, {"lr": 0.1}, KEY)


@dataclasses.dataclass(frozen=True)
class Optax:
    """An optax transformation on a least-squares problem whose second input is always zero, like a dark pixel."""

    tx: object
    steps: int = 6

    def init(self, hp, key):
        w = jnp.array([1.0, 1.0], jnp.float32)
        return w, self.tx(hp).init(w)

    def step(self, hp, state, t):
        w, memory = state
        with jax.numpy_dtype_promotion("standard"):
            updates, memory = self.tx(hp).update(mixed_grad(lambda w: (w @ jnp.array([1.0, 0.0])) ** 2)(w), memory, w)
        return w + updates, memory

    def evaluate(self, hp, state):
        return jnp.sum(state[0] ** 2)


def lion(hp):
    return optax.lion(hp["lr"], b1=hp["b1"])


def test_a_sign_optimiser_says_what_has_no_derivative():
    hp = {"lr": 0.01, "b1": 0.9}
    with pytest.raises(jhpo.InvalidArgument, match=r"got \['b1'\].*wrt=\['lr'\].*es_single"):
        jhpo.hypergrad(Optax(lion), hp, KEY)
    assert float(jhpo.hypergrad(Optax(lion), hp, KEY, wrt=["lr"]).grad["lr"]) != 0.0
    assert np.isfinite(float(jhpo.hypergrad(Optax(lion), hp, KEY, method="es_single", pairs=4).grad["b1"]))


class Rooted(Descent):
    """The square root of a hyperparameter in every step: no derivative where it is zero."""

    def step(self, hp, state, t):
        return state[0] * (1 - hp["lr"]) + jnp.sqrt(hp["shift"]), state[1]


@pytest.mark.parametrize("options", [{}, {"method": "reverse"}, {"method": "forward"}], ids=str)
@pytest.mark.parametrize("check", [True, False])
def test_a_square_root_of_zero_that_moves_is_explained(options, check):
    with pytest.raises(jhpo.UnusableGradient, match=r"a square root or a division at exactly zero.*eps_root=1e-8"):
        jhpo.hypergrad(Rooted(steps=3), {"lr": 0.1, "shift": 0.0}, KEY, check=check, **options)
    assert jhpo.hypergrad(Rooted(steps=3), {"lr": 0.1, "shift": 0.0}, KEY, wrt=["lr"], check=check, **options).grad[
        "lr"
    ]


def test_training_that_becomes_nan_says_when():
    class Breaks(Descent):
        def step(self, hp, state, t):
            return jnp.log(state[0] - hp["lr"]), state[1]

    with pytest.raises(jhpo.UnusableGradient, match="got nan: the state is not finite from about step 3 on"):
        jhpo.hypergrad(Breaks(), {"lr": 0.3}, KEY)
    with pytest.raises(jhpo.UnusableGradient, match="expected a finite value"):
        jhpo.hypergrad(Breaks(), {"lr": 0.3}, KEY, method="reverse", check=False)


def test_an_evaluation_that_is_nan_is_not_blamed_on_the_training():
    class Holes(Descent):
        def evaluate(self, hp, state):
            return super().evaluate(hp, state) + jnp.mean(jnp.array([1.0, jnp.nan]))

    with pytest.raises(jhpo.UnusableGradient, match="evaluate: expected a finite value, got nan, of a state that is f"):
        jhpo.hypergrad(Holes(), {"lr": 0.3}, KEY)
    with pytest.raises(jhpo.UnusableGradient, match=r"training: .* and look for NaN in the data"):
        jhpo.hypergrad(Holes(), {"lr": 0.3}, KEY, method="reverse", check=False)


def test_a_loop_of_unknown_length_has_gradients_in_forward_mode():
    class Halving(Descent):
        def evaluate(self, hp, state):
            return jax.lax.while_loop(lambda w: w > 1.0, lambda w: w / 2, 8.0 * hp["lr"]) + super().evaluate(hp, state)

    hp = {"lr": jnp.float32(0.3)}
    added = (
        jhpo.hypergrad(Halving(), hp, KEY, method="forward").grad["lr"] - jhpo.hypergrad(Descent(), hp, KEY).grad["lr"]
    )
    np.testing.assert_allclose(added, 8.0 / 4, rtol=1e-5)
    with pytest.raises(jhpo.InvalidArgument, match=r"method='forward'.* differentiates through such loops"):
        jhpo.hypergrad(Halving(), hp, KEY, method="reverse")
    space = jhpo.Space({"lr": jhpo.Float(0.1, 1.0), "unused": jhpo.Float(0.0, 1.0, shape=(2,))})
    with pytest.raises(jhpo.InvalidArgument, match="strategies that follow gradients need loops of a fixed length"):
        jhpo.minimize(Halving(), space, jhpo.HyperGradient(1), budget=2)


def test_implicit_names_what_does_not_move_the_optimum():
    hp = {"log_l2": 0.5, "rate": 0.03}
    with pytest.raises(jhpo.InvalidArgument, match=r"got \['rate'\], which act only through the optimiser"):
        jhpo.hypergrad(Ridge(steps=3), hp, KEY, method="implicit")
    with pytest.warns(UserWarning, match="has not converged"):
        jhpo.hypergrad(Ridge(steps=3), hp, KEY, method="implicit", wrt=["log_l2"])
    assert jhpo.hypergrad(Ridge(), hp, KEY).diagnostics.method == "forward"  # converged, but the rate is asked for


def test_a_polish_by_gradients_says_that_there_are_none():
    space = jhpo.Space({"x": jhpo.Float(-1.0, 1.0)})
    chain = jhpo.Chain(jhpo.PSO(4), jhpo.HyperGradient(2, starts=1), evaluations=4)
    search = lambda key: jhpo.run(chain, lambda hp: jnp.round(4.0 * hp["x"]), space, 3, key)  # noqa: E731
    with pytest.warns(UserWarning, match="the evaluation has no derivative .*choose a smooth metric"):
        jax.eval_shape(search, KEY)
