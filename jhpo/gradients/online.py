"""Online tuning: hyperparameters that are updated during a single training."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import InvalidArgument, check_integer, check_number, invalid
from jhpo.gradients.checks import checked_hp
from jhpo.gradients.dependence import names_of
from jhpo.kernels import trees
from jhpo.kernels.online import online
from jhpo.keys import typed_key
from jhpo.process.switches import without_switches
from jhpo.programs.compilation import programs
from jhpo.space.space import Space
from jhpo.training.binding import bind, differentiable, relaxed
from jhpo.training.metrics import check_metric
from jhpo.training.objective import as_trainable
from jhpo.training.tracing import objective_errors
from jhpo.training.trainable import HP, State, Trainable
from jhpo.training.values import Releasing, hold, is_integer, is_number, release
from jhpo.words.advice import advised

if TYPE_CHECKING:
    import optax


class OnlineTuning(NamedTuple):
    """Result of `online_tune`; W = steps // window."""

    value: jax.Array  # float[], the evaluation at the end
    hp: HP  # the hyperparameters at the end
    state: State  # the trained state
    values: jax.Array  # float[W], the loss after each window
    path: HP  # like hp with a leading axis W: the hyperparameters of each window


@without_switches
@advised
def online_tune(
    trainable: Trainable | Callable[..., Any],
    hp: HP,
    key: jax.Array,
    outer: optax.GradientTransformation | None = None,
    *,
    space: Space | None = None,
    window: int = 1,
    loss: Callable[[HP, State, jax.Array], jax.Array] | None = None,
    horizon: float = 1.0,
    metric: str | None = None,
) -> OnlineTuning:
    """Train once, and update the hyperparameters after every ``window`` steps with the gradient through these steps.

    Costs one training and, for each window, a gradient of the loss; no search. The gradient is greedy: it looks
    ``window`` steps ahead, so learning rates recover from a bad start but end up below the best constant ones. Tune
    what matters at the end of training (a schedule, weight decay) with `hypergrad` instead.

    Args:
      trainable: a trainable with at least one step.
      hp: initial hyperparameters, such as ``result.best``; leaves that are not floats stay fixed.
      key: ``key[]`` of the training.
      outer: the optax transformation that updates them; ``optax.adam(0.02)`` if None and there is a space.
      space: update in its unit coordinates, on its scales and within its bounds; in the values of hp if None.
      window: steps between two updates; divides the steps.
      loss: ``loss(hp, state, t) -> float[]`` to minimise; the evaluation if None (a cheaper one saves time).
      horizon, metric: see `hypergrad`.

    Returns:
      An `OnlineTuning` with the final value, hyperparameters and state, and their path.

    Raises:
      InvalidArgument: an invalid argument; it is named before anything is compiled.

    Source: Baydin, Cornish, Rubio, Schmidt, Wood, "Online learning rate adaptation with hypergradient descent" (2018).

    >>> class Descent:
    ...     steps = 40
    ...     def init(self, hp, key): return jnp.ones(())
    ...     def step(self, hp, w, t): return w - hp["lr"] * w
    ...     def evaluate(self, hp, w): return w**2
    >>> space = Space({"lr": __import__("jhpo").Float(1e-4, 1.0, log=True)})
    >>> run = online_tune(Descent(), {"lr": 1e-4}, jax.random.key(0), space=space)
    >>> bool(run.value < 0.2), run.path["lr"].shape     # without tuning, 0.99
    (True, (40,))
    """
    trainable = Releasing(as_trainable(trainable))
    hp, key = checked_hp(hp), typed_key(key)
    if space is not None and not isinstance(space, Space):
        raise invalid("space", "a jhpo.Space or None", space)
    if outer is None:
        if space is None:
            raise invalid(
                "outer", "an optax transformation, as without a space there is no scale to choose one by", None
            )
        outer = _default()
    if not hasattr(outer, "init") or not hasattr(outer, "update"):
        raise invalid("outer", "an optax transformation", outer)
    if loss is not None and not callable(loss):
        raise invalid("loss", "a function loss(hp, state, t), or None", loss)
    check_metric(metric)
    check_number("horizon", horizon, 0.0, 1.0, open_low=True)
    steps = bind(trainable, key, horizon, metric).steps
    window = check_integer("window", window)
    if steps == 0 or steps % window:
        raise invalid("window", f"a divisor of the training's {steps} steps (at least 1)", window)
    if space is None:
        hp = hold(hp, is_integer)
        if not any(trees.is_float(x) for x in jax.tree.leaves(hp)):
            raise invalid("hp", "at least one floating-point number", names_of(hp))
        static = None
    else:
        hp, static = _of_space(space, hp)
    with objective_errors():
        found = _program(
            trainable, space, hp, static, key, outer=outer, loss=loss, window=window, horizon=horizon, metric=metric
        )
    return found._replace(hp=release(found.hp), path=release(found.path), state=release(found.state))


def _of_space(space: Space, hp: HP) -> tuple[jax.Array, dict[str, Any]]:
    """Unit coordinates of the hyperparameters, and the values of the static ones.

    Raises:
      InvalidArgument: they are not a point of the space.
    """
    plain = release(hp)
    try:
        leaves = space.treedef.flatten_up_to(plain)
        static = {n: leaf for n, p, leaf in zip(space.names, space.parameters, leaves) if p.static}
        unit = space.to_unit(plain)
        inside = space.from_unit(unit, static)
    except (KeyError, TypeError, ValueError) as error:
        expected = f"hyperparameters of the space, with the names {list(space.names)} and values of its own"
        raise invalid("hp", expected, plain, note=str(error) if isinstance(error, InvalidArgument) else "") from error
    for name, x, y in zip(names_of(plain), jax.tree.leaves(plain), jax.tree.leaves(inside)):
        if is_number(x) and not np.allclose(x, y, rtol=1e-3):
            raise invalid(f"hp: {name}", "a value within the space", np.asarray(x).tolist())
    return unit, hold(static, _no_array)


def _no_array(x: object) -> bool:
    return not isinstance(x, (jax.Array, np.ndarray))


def _released(loss: Callable[..., Any]) -> Callable[..., Any]:
    return lambda hp, state, t: loss(release(hp), state, t)


@functools.cache
def _default() -> optax.GradientTransformation:
    """The same object in every call, so that equal calls share a program."""
    import optax  # late: it takes longer to import than all of jhpo

    return optax.adam(0.02)


@programs("outer", "loss", "window", "horizon", "metric")
@relaxed
def _program(
    trainable: Trainable,
    space: Space | None,
    hp: HP,
    static: dict[str, Any] | None,
    key: jax.Array,
    *,
    outer: optax.GradientTransformation,
    loss: Callable[..., Any] | None,
    window: int,
    horizon: float,
    metric: str | None,
) -> OnlineTuning:
    run = differentiable(bind(trainable, key, horizon, metric))
    if space is None:
        start, rebuild = trees.split_floats(hp)
        limit = lambda x: x  # noqa: E731
    else:
        start, rebuild = [hp], lambda x: hold(space.from_unit(x[0], release(static)), _no_array)
        limit = lambda x: [jnp.clip(x[0], 0, 1)]  # noqa: E731
    judge = (lambda hp, state, t: run.evaluate(hp, state)) if loss is None else _released(loss)

    def update(
        grad: list[jax.Array], memory: optax.OptState, x: list[jax.Array]
    ) -> tuple[list[jax.Array], optax.OptState]:
        moves, memory = outer.update(grad, memory, x)
        return limit([a + b.astype(a.dtype) for a, b in zip(x, moves)]), memory

    found = online(
        lambda x, state, t: run.step(rebuild(x), state, t),
        lambda x, state, t: judge(rebuild(x), state, t),
        update,
        start,
        run.init(rebuild(start)),
        outer.init(start),
        steps=run.steps,
        window=window,
    )
    hp, path = rebuild(found.hp), jax.vmap(rebuild)(found.path)
    return OnlineTuning(run.evaluate(hp, found.state), hp, found.state, found.values, path)
