"""A learning-rate schedule learned by hypergradients, compared with the best constant rate and cosine decay.

    python examples/hypergrad_schedule.py [schedule.html]

A network on handwritten digits trains 200 steps of SGD with momentum. Eight knots of the logarithm of its rate are
moved by Adam along the gradient of the validation loss through training, 40 times (about 160 trainings); constant and
cosine have a grid of 20 rates on 8 seeds (160 trainings as well). All three are judged on other seeds and on a test
set. With a path, the schedules are plotted (needs ``pip install 'jhpo[plot]'``).
"""

from __future__ import annotations

import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jhpo
from jhpo.training.supervised import Supervised
from jhpo.training.trainable import train_and_evaluate

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
STEPS, KNOTS, OUTER, SEEDS = (20, 4, 2, 2) if FAST else (200, 8, 40, 8)


def init(key: jax.Array, x: jax.Array) -> dict[str, jax.Array]:
    """Parameters of a 64-32-10 network."""
    first, second = jax.random.split(key)
    a, c = jax.random.normal(first, (64, 32)) / 8, jax.random.normal(second, (32, 10)) / 6
    return {"a": a, "b": jnp.zeros((32,)), "c": c, "d": jnp.zeros((10,))}


def apply(p: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Logits of a batch of images."""
    return jnp.tanh(x @ p["a"] + p["b"][None]) @ p["c"] + p["d"][None]


def rate(hp: dict[str, jax.Array]) -> optax.Schedule:
    """A cubic spline of the logarithm through the knots, so that the rate is positive."""
    return jhpo.knots(jnp.exp(hp["log_rate"]), STEPS, "cubic", log=True)


def trainable(valid: tuple[np.ndarray, np.ndarray], train: tuple[np.ndarray, np.ndarray]) -> Supervised:
    """The network trained with a learning rate schedule."""
    return jhpo.supervised(
        (init, apply),
        lambda hp: optax.sgd(rate(hp), momentum=0.9),
        train=train,
        valid=valid,
        batch_size=64,
        steps=STEPS,
    )


def learn(task: Supervised) -> dict[str, jax.Array]:
    """Adam on the knots, with a new seed in each step; returns the mean over the second half of the steps."""
    hp, outer = {"log_rate": jnp.full((KNOTS,), jnp.log(0.05))}, optax.adam(0.1)
    memory, way = outer.init(hp), []
    for i in range(OUTER):
        value, grad, diagnostics = jhpo.hypergrad(
            task, hp, jax.random.key(i), "auto" if i == 0 else "reverse", check=i == 0
        )
        if i % 10 == 0:
            print(f"step {i}: validation loss {float(value):.4f}")
        if i == 0:
            print(diagnostics)
        moves, memory = outer.update(grad, memory)
        hp = optax.apply_updates(hp, moves)
        way.append(hp["log_rate"])
    return {"log_rate": jnp.mean(jnp.stack(way[len(way) // 2 :]), axis=0)}


def main() -> None:
    """Learn, compare on fresh seeds, plot."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    x, y = (images[order] / 16).astype(np.float32), labels[order].astype(np.int32)
    train, valid, test = (x[:900], y[:900]), (x[900:1350], y[900:1350]), (x[1350:], y[1350:])

    def score(data: tuple[np.ndarray, np.ndarray], first: int) -> jax.stages.Wrapped:
        """Mean loss on ``data`` of trainings with these knots, over seeds that were not used to learn them."""
        task = trainable(data, train)
        keys = jax.vmap(jax.random.key)(jnp.arange(first, first + SEEDS, dtype=jnp.uint32))
        loss = lambda row: jax.lax.map(lambda k: train_and_evaluate(task, {"log_rate": row}, k).value, keys).mean()  # noqa: E731
        return jax.jit(jax.vmap(loss))

    place = jnp.linspace(0, jnp.pi, KNOTS)
    grid = jnp.log(jnp.geomspace(0.01, 1.0, 4 if FAST else 20))
    shapes = {
        "constant": grid[:, None] + jnp.zeros((1, KNOTS)),
        "cosine": grid[:, None] + jnp.log((1 + jnp.cos(place)) / 2 + 1e-3)[None],
    }
    by_validation = score(valid, 1000)
    chosen = {name: rows[jnp.argmin(by_validation(rows))] for name, rows in shapes.items()}
    chosen["learned"] = learn(trainable(valid, train))["log_rate"]
    rows = jnp.stack(list(chosen.values()))
    on_valid, on_test = score(valid, 2000)(rows), score(test, 2000)(rows)
    for name, a, b in zip(chosen, on_valid, on_test):
        print(f"{name:9} validation loss {float(a):.4f}, test loss {float(b):.4f}")

    if len(sys.argv) > 1:
        import plotly.graph_objects as go

        steps = np.arange(STEPS)
        lines = {name: jax.vmap(rate({"log_rate": row}))(jnp.asarray(steps)) for name, row in chosen.items()}
        figure = go.Figure([go.Scatter(x=steps, y=np.asarray(line), name=name) for name, line in lines.items()])
        figure.update_layout(xaxis_title="step", yaxis_title="learning rate", yaxis_type="log")
        figure.write_html(sys.argv[1])
        print(f"schedules in {sys.argv[1]}")


if __name__ == "__main__":
    main()
