"""How chaotic a training is, by a tangent of its own: where the norms of an estimate leave doubts."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jhpo.gradients.spec import HP, Spec
from jhpo.kernels import trees
from jhpo.kernels.lyapunov import hyper_direction, tangent_growth
from jhpo.lifetimes import programs
from jhpo.training.binding import Partly, bind, differentiable, relaxed
from jhpo.training.trainable import State, Trainable


class Probe(NamedTuple):
    """One training with a tangent."""

    value: jax.Array  # float[]
    exponent: jax.Array  # float[], Lambda
    growth: jax.Array  # float[T]


@relaxed
def probe(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Probe:
    """Chaos exponent and value; about two trainings of time, memory of two states."""
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
    return Probe(run.evaluate(hp, out.state), out.exponent, out.growth)


@programs("spec")
def probe_program(trainable: Trainable, hp: HP, key: jax.Array, spec: Spec) -> Probe:
    """`probe` as one compiled program for each spec and structure."""
    return probe(trainable, hp, key, spec)
