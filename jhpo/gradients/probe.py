"""The chaos exponent of a training, from a training that carries a tangent."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jhpo.gradients.spec import HP, Spec
from jhpo.kernels import trees
from jhpo.kernels.lyapunov import hyper_direction, tangent_growth
from jhpo.programs.compilation import programs
from jhpo.training.binding import Partly, bind, differentiable, relaxed
from jhpo.training.trainable import State, Trainable


class Probe(NamedTuple):
    """Result of one training with a tangent."""

    value: jax.Array  # float[]
    exponent: jax.Array  # float[], Lambda
    growth: jax.Array  # float[T]
    sound: jax.Array  # bool[], whether the trained state is finite


@relaxed
def probe(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Probe:
    """Value and chaos exponent of a training; takes about two trainings of time and two states of memory."""
    if spec.wrt is not None:
        part = Partly(trainable, hp, spec.wrt)
        return probe(part, part.start, key, spec._replace(wrt=None))
    run = differentiable(bind(trainable, key, spec.horizon, spec.metric), forward=True)
    direction = hyper_direction(jax.random.fold_in(key, jnp.uint32(0xC4A05)), hp)
    floats, rebuild = trees.split_floats(hp)

    def start(floats: list[jax.Array]) -> tuple[list[jax.Array], State]:
        state = run.init(rebuild(floats))
        return trees.split_floats(state)[0], state

    _, tangent, state = jax.jvp(start, (floats,), (direction,), has_aux=True)
    out = tangent_growth(run.step, hp, direction, state, tangent, run.steps)
    sound = [jnp.isfinite(x).all() for x in trees.split_floats(out.state)[0]]
    return Probe(run.evaluate(hp, out.state), out.exponent, out.growth, jnp.all(jnp.asarray(sound, bool)))


@programs("spec")
def probe_program(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Probe:
    """`probe`, compiled once per spec and structure of its arguments."""
    return probe(trainable, hp, key, spec)
