"""Cost estimate of an evaluation from its jaxpr, to decide whether many generations run in one program."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jhpo.evaluation.members import evaluate_units
from jhpo.evaluation.population import Population
from jhpo.kernels.programs import numbers_computed
from jhpo.keys import trial_keys
from jhpo.process.lifetimes import Remembered
from jhpo.programs.devices import default_devices
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request
from jhpo.training.objective import Objective
from jhpo.training.tracing import objective_errors
from jhpo.training.values import Value

# A generation below this cost takes at most a few dozen milliseconds on one core.
CHEAP_GENERATION = 5e7
# A member below this cost is no more expensive than the strategy's own work for it.
CHEAP_MEMBER = 2e3


@Remembered
def _work(
    trainable: Objective, space: Space, root: jax.Array, request: Request, replicates: int, metric: Value
) -> float:
    """Cost of one member, see `numbers_computed`."""
    wanted: Any = metric.value

    def member(unit: jax.Array, root: jax.Array) -> Evaluation:
        keys = trial_keys(root, jnp.zeros(1, jnp.uint32))
        return evaluate_units(trainable, space, unit, keys, request, replicates, metric=wanted)

    with objective_errors():
        program = jax.make_jaxpr(member)(jax.ShapeDtypeStruct((1, space.dim), jnp.result_type(float)), root)
    return numbers_computed(program.jaxpr)


def is_cheap(evaluator: object, n: int, root: jax.Array, request: Request) -> bool:
    """Whether generations of ``n`` members are cheap enough to run many of them in one program.

    They have to be evaluations of a plain function without while loops and callbacks, on one device. The decision
    depends on the jaxpr only, not on timings, so that a search is reproducible.

    >>> import jhpo
    >>> space = jhpo.Space({"x": jhpo.Float(0.0, 1.0)})
    >>> population = Population(lambda hp: hp["x"] ** 2, space)
    >>> is_cheap(population, 64, jax.random.key(0), Request())
    True
    """
    if not isinstance(evaluator, Population) or not isinstance(evaluator.trainable, Objective):
        return False
    if evaluator.space.has_static or isinstance(evaluator.metric, str) or evaluator.chunks.limited:
        return False
    devices = evaluator.mesh.devices.flat
    if evaluator.mesh.size > 1 or devices[0] != default_devices()[0]:
        return False
    work = _work(evaluator.trainable, evaluator.space, root, request, evaluator.replicates, Value(evaluator.metric))
    return work <= CHEAP_MEMBER or n * work <= CHEAP_GENERATION
