"""Reinforcement learning by a population: 256 agents learn to balance a pole at once, environment and all in JAX.

    python examples/rl_population.py
    jhpo tune examples/rl_population.py --strategy pbt --set population=32 --budget 32

An agent is a small policy that REINFORCE trains with a baseline. Every step of the trainable plays a few episodes of a
cart with a pole (the equations of Barto, Sutton and Anderson, 1983) and updates the policy, so that members of a
population, each with its own learning rate, exploration bonus and discount, run side by side. Population-based training
replaces agents that fall behind, and its schedule is printed.
"""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

import jhpo

FAST = os.environ.get("JHPO_EXAMPLE_FAST") == "1"
AGENTS, LENGTH, EPISODES, UPDATES = (8, 10, 2, 4) if FAST else (256, 200, 8, 120)


def cart_pole(state: jax.Array, push: jax.Array) -> tuple[jax.Array, jax.Array]:
    """The state ``float[4]`` (position, angle, and their speeds) 20 ms later, and whether the pole still stands."""
    x, angle, speed, turn = state
    force = jnp.where(push, 10.0, -10.0)
    sin, cos = jnp.sin(angle), jnp.cos(angle)
    inertia = (force + 0.05 * turn**2 * sin) / 1.1
    bend = (9.8 * sin - cos * inertia) / (0.5 * (4.0 / 3.0 - 0.1 * cos**2 / 1.1))
    pull = inertia - 0.05 * bend * cos / 1.1
    state = jnp.stack([x, angle, speed, turn]) + 0.02 * jnp.stack([speed, turn, pull, bend])
    return state, (jnp.abs(state[0]) < 2.4) & (jnp.abs(state[1]) < 0.21)


def logit(params: Any, state: jax.Array) -> jax.Array:
    """How much the policy would push to the right."""
    return jnp.tanh(state @ params["in"]) @ params["out"]


class Play(NamedTuple):
    """An episode, one row a step."""

    state: jax.Array  # float[length, 4]
    push: jax.Array  # bool[length]
    alive: jax.Array  # bool[length], the pole stood before the step


def play(params: Any, key: jax.Array) -> Play:
    """One episode of the policy."""
    start, moves = jax.random.split(key)

    def step(carry: tuple[jax.Array, jax.Array], key: jax.Array) -> tuple[tuple[jax.Array, jax.Array], Play]:
        state, alive = carry
        push = jax.random.bernoulli(key, jax.nn.sigmoid(logit(params, state)))
        after, stands = cart_pole(state, push)
        return (jnp.where(alive, after, state), alive & stands), Play(state, push, alive)

    first = (jax.random.uniform(start, (4,), minval=-0.05, maxval=0.05), jnp.bool_(True))
    return jax.lax.scan(step, first, jax.random.split(moves, LENGTH))[1]


class Agents(NamedTuple):
    """The state of one member."""

    params: Any
    moments: Any  # of Adam
    key: jax.Array


class Reinforce:
    """Policy gradients on the cart and pole; the value is the share of the time in which the pole has fallen."""

    steps = UPDATES

    def init(self, hp: Any, key: jax.Array) -> Agents:
        """A policy that pushes at random."""
        first, last, own = jax.random.split(key, 3)
        params = {"in": jax.random.normal(first, (4, 16)), "out": 0.01 * jax.random.normal(last, (16,))}
        return Agents(params, optax.adam(1.0).init(params), own)

    def step(self, hp: Any, state: Agents, t: jax.Array) -> Agents:
        """Plays some episodes and follows the gradient of the return, discounted and less its mean."""
        keys = jax.random.split(jax.random.fold_in(state.key, t), EPISODES)
        played = jax.lax.stop_gradient(jax.vmap(lambda key: play(state.params, key))(keys))

        def later(total: jax.Array, alive: jax.Array) -> tuple[jax.Array, jax.Array]:
            total = alive + hp["discount"] * total
            return total, total

        alive = played.alive.astype(jnp.float32)
        returns = jax.vmap(lambda row: jax.lax.scan(later, jnp.float32(0.0), row, reverse=True)[1])(alive)
        mean = (returns * alive).sum() / alive.sum()
        spread = jnp.sqrt((jnp.square(returns - mean) * alive).sum() / alive.sum()) + 1e-3

        def loss(params: Any) -> jax.Array:
            odds = logit(params, played.state)
            chosen = jax.nn.log_sigmoid(jnp.where(played.push, odds, -odds))
            p = jax.nn.sigmoid(odds)
            entropy = -p * jax.nn.log_sigmoid(odds) - (1.0 - p) * jax.nn.log_sigmoid(-odds)
            gain = chosen * (returns - mean) / spread + hp["entropy"] * entropy
            return -(gain * alive).sum() / alive.sum()

        moved, moments = optax.adam(hp["rate"]).update(jax.grad(loss)(state.params), state.moments)
        return Agents(optax.apply_updates(state.params, moved), moments, state.key)

    def evaluate(self, hp: Any, state: Agents) -> jax.Array:
        """Over 16 new episodes."""
        keys = jax.random.split(jax.random.fold_in(state.key, UPDATES), 16)
        return 1.0 - jax.vmap(lambda key: play(state.params, key))(keys).alive.mean(dtype=jnp.float32)


space = jhpo.Space(
    {
        "rate": jhpo.Float(1e-4, 3e-1, log=True),
        "entropy": jhpo.Float(1e-4, 1e-1, log=True),
        "discount": jhpo.Float(0.8, 0.999, scale="reverse_log"),
    }
)
exchange = 1 if FAST else 6
strategy = jhpo.PopulationBasedTraining(AGENTS, exchange=exchange, intervals=(1, 2) if FAST else (1, 4))
tuning = jhpo.Tuning(Reinforce(), space, strategy, budget=AGENTS)


def main() -> None:
    """Train the agents, and print what the best one went through."""
    result = tuning.run(seed=0)
    curve = result.curves.value
    stood = [f"{100 * (1 - jnp.nanmin(jnp.asarray(curve[:, k]))):.0f}%" for k in range(0, curve.shape[1], 4)]
    print(f"{AGENTS} agents, {result.steps} updates of {EPISODES} episodes each in {result.seconds:.1f} s")
    print("the best stands for", ", ".join(stood), "of the time")
    for name in space.names:
        print(f"{name}: " + ", ".join(f"{value:.2g}" for value in result.schedule().of(name)))


if __name__ == "__main__":
    main()
