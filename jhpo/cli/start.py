"""`jhpo init`: a commented file to start from, which runs as it is."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from jhpo.errors import StorageError

STARTING_FILE = '''"""What to tune. Run it with:   jhpo tune {name} --storage study.db

Then look at it with:            jhpo report study.db
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jhpo

# 1. Where to search. Learning rates and decays belong on a logarithmic scale.
space = jhpo.Space({{
    "lr": jhpo.Float(1e-4, 1.0, log=True),
    "optimizer": jhpo.Choice(["momentum", "sign"]),
    "momentum": jhpo.Float(0.5, 0.99, scale="reverse_log", when={{"optimizer": "momentum"}}),
    "l2": jhpo.Float(1e-6, 1e-1, log=True),
}})

# 2. The data: replace it by yours. Keep a validation set that the training does not see.
rng = np.random.default_rng(0)
x = rng.normal(size=(512, 8)).astype(np.float32)
y = (x[:, 0] * x[:, 1] + 0.3 * rng.normal(size=512) > 0).astype(np.float32)
train, valid = (x[:384], y[:384]), (x[384:], y[384:])


# 3. The model: a network with one hidden layer. All of this runs inside jit and vmap, a whole population at once.
def predict(params, x):
    return (jax.nn.relu(x @ params["w"] + params["b"][None]) @ params["v"])[:, 0]


def loss(params, x, y):
    return optax.sigmoid_binary_cross_entropy(predict(params, x), y).mean()


def updates(hp, grads, velocity):
    """Heavy ball or signs: a choice is its index here. `jhpo.supervised` takes optax optimisers."""
    velocity = jax.tree.map(lambda v, g: hp["momentum"] * v + g, velocity, grads)
    return jax.tree.map(lambda v, g: jnp.where(hp["optimizer"] == 0, v, 0.1 * jnp.sign(g)), velocity, grads), velocity


# 4. The training: `init`, `step`, `evaluate`. Return what is to be minimised.
class Network:
    steps = 200

    def init(self, hp, key):
        a, b = jax.random.split(key)
        params = {{"w": jax.random.normal(a, (8, 16)) / 3, "b": jnp.zeros(16), "v": jax.random.normal(b, (16, 1)) / 4}}
        return params, jax.tree.map(jnp.zeros_like, params)

    def step(self, hp, state, t):
        params, velocity = state
        grads = jax.grad(lambda p: loss(p, *train) + hp["l2"] * optax.tree.norm(p, squared=True))(params)
        change, velocity = updates(hp, grads, velocity)
        return jax.tree.map(lambda p, c: p - hp["lr"] * c, params, change), velocity

    def evaluate(self, hp, state):
        return loss(state[0], *valid)


# 5. How to search. `jhpo strategies` lists the others: bayes for expensive trainings, pbt for schedules, ...
tuning = jhpo.Tuning(Network(), space, strategy=jhpo.PSO(64), budget=512)
'''


def init(
    path: Annotated[Path, typer.Argument(metavar="FILE.py", help="the file to write")] = Path("tuning.py"),
) -> None:
    """Write a commented file to start from; it runs as it is."""
    text = STARTING_FILE.format(name=path)
    try:
        with path.open("x", encoding="utf-8") as file:  # never over an existing file
            file.write(text)
    except FileExistsError as error:
        raise StorageError(f"give another name: {path} exists already") from error
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
    typer.echo(f"wrote {path}; now run: jhpo tune {shlex.quote(str(path))} --storage study.db")
