"""What an evaluation costs, read off the traced objective: whether the host is worth coming back to after each one."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jhpo.evaluation.members import evaluate_units
from jhpo.evaluation.population import Population
from jhpo.kernels.programs import numbers_computed
from jhpo.keys import trial_keys
from jhpo.lifetimes import Remembered
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request
from jhpo.switches import config
from jhpo.training.objective import Objective
from jhpo.training.tracing import objective_errors

# A generation that computes fewer numbers takes less time than a few dozen milliseconds on one core.
CHEAP_GENERATION = 5e7
# A member that computes fewer costs no more than what a strategy does about it.
CHEAP_MEMBER = 2e3


@Remembered
def _work(trainable: Objective, space: Space, root: jax.Array, request: Request, replicates: int) -> float:
    """Numbers computed for one member."""

    def member(unit: jax.Array, root: jax.Array) -> Evaluation:
        keys = trial_keys(root, jnp.zeros(1, jnp.uint32))
        return evaluate_units(trainable, space, unit, keys, request, replicates)

    with objective_errors():
        program = jax.make_jaxpr(member)(jax.ShapeDtypeStruct((1, space.dim), jnp.result_type(float)), root)
    return numbers_computed(program.jaxpr)


def is_cheap(evaluator: object, n: int, root: jax.Array, request: Request) -> bool:
    """Generations of ``n`` members take so little that many of them may run in one program.

    Those are generations of plain functions without loops of unknown length and without callbacks, on one device: it
    follows from the traced function alone, so that a search does the same every time.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    >>> population = Population(lambda hp: hp["x"] ** 2, space)
    >>> is_cheap(population, 64, jax.random.key(0), Request())
    True
    """
    if not isinstance(evaluator, Population) or not isinstance(evaluator.trainable, Objective):
        return False
    if evaluator.space.has_static or evaluator.metric is not None or evaluator.chunks.limited:
        return False
    devices = evaluator.mesh.devices.flat
    if evaluator.mesh.size > 1 or devices[0] != (config.jax_default_device or jax.local_devices()[0]):
        return False
    work = _work(evaluator.trainable, evaluator.space, root, request, evaluator.replicates)
    return work <= CHEAP_MEMBER or n * work <= CHEAP_GENERATION
