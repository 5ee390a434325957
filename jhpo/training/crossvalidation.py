"""Cross-validation as one more axis of a member: the trainings of all folds side by side in one program."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Protocol, cast

import jax
import jax.numpy as jnp

from jhpo.errors import InvalidArgument, check_flag, check_integer, invalid
from jhpo.process.switches import with_transfers
from jhpo.training.foreign import in_this_trace
from jhpo.training.metrics import direction_of
from jhpo.training.objective import Objective, as_trainable
from jhpo.training.trainable import HP, State, Trainable, max_steps, train
from jhpo.training.values import Carried
from jhpo.values.pytrees import Params, Tree
from jhpo.values.structure import Structured, structured


class Foldable(Protocol):
    """What a trainable has beside `Trainable` so that a search can cross-validate it with ``folds=``.

    `jhpo.supervised` without ``valid`` has it.
    """

    def fold_parts(self, folds: int) -> Tree:
        """What tells the folds apart: arrays with a leading axis ``[folds]``, such as those of `jhpo.k_folds`."""
        ...

    def on_fold(self, part: Tree) -> Trainable:
        """The trainable of one fold; ``part`` is one row of `fold_parts`, traced."""
        ...


@functools.partial(structured, data=["base", "parts"], meta=["folds"])
class CrossValidated(Structured):
    """A trainable that trains a member on every fold; states have a leading axis ``[folds]``.

    The evaluation is the mean over the folds. Fold k of a member with a key begins with ``fold_in(key, k)``.

    Args:
      base: a trainable with `Foldable`'s functions.
      parts: of its `fold_parts`.
      folds: how many.
    """

    def __init__(self, base: Any, parts: Tree, folds: int) -> None:
        self.base, self.parts, self.folds = base, parts, folds

    def on_fold(self, part: Tree) -> Trainable:
        """The trainable of one fold."""
        return cast(Trainable, in_this_trace(self.base.on_fold(part)))

    def over_folds(self, function: Callable[..., Any], *rows: Any) -> Any:
        """``function(trainable of the fold, *rows of the fold)``, stacked over the folds."""
        return jax.vmap(lambda part, *row: function(self.on_fold(part), *row))(self.parts, *rows)

    def keys(self, key: jax.Array) -> jax.Array:
        """The keys of a member's folds, ``key[folds]``."""
        return jax.vmap(lambda k: jax.random.fold_in(key, k))(jnp.arange(self.folds, dtype=jnp.uint32))

    @property
    @with_transfers
    def steps(self) -> int | Callable[[HP], jax.Array]:
        """As of the trainable: folds are trained for the same number of steps."""
        return self.base.on_fold(jax.tree.map(lambda x: x[0], self.parts)).steps

    @property
    @with_transfers
    def max_steps(self) -> int:
        """See `Trainable`."""
        return int(self.base.on_fold(jax.tree.map(lambda x: x[0], self.parts)).max_steps)

    @property
    def metric(self) -> str | None:
        """The metric to tune for, if the trainable names one."""
        return getattr(self.base, "metric", None)

    def direction_of(self, metric: str | None = None) -> str | None:
        """The direction of a metric, where the trainable knows it."""
        return direction_of(self.base, metric)

    def init(self, hp: HP, key: jax.Array) -> State:
        """First states of all folds."""
        return self.over_folds(lambda task, k: task.init(hp, k), self.keys(key))

    def step(self, hp: HP, state: State, t: jax.Array) -> State:
        """A step of all folds."""
        return self.over_folds(lambda task, s: task.step(hp, s, t), state)

    def evaluate_folds(self, hp: HP, state: State) -> Any:
        """What each fold evaluates to, with a leading axis ``[folds]``."""
        return self.over_folds(lambda task, s: task.evaluate(hp, s), state)

    def evaluate(self, hp: HP, state: State) -> Any:
        """The mean over the folds of whatever the trainable evaluates to."""
        return jax.tree.map(lambda x: jnp.mean(x, axis=0), self.evaluate_folds(hp, state))

    def params(self, state: State) -> Params:
        """The trained parameters of all folds."""
        return jax.vmap(self.base.params)(state)

    def with_params(self, state: State, params: Params) -> State:
        """The state with other parameters."""
        return jax.vmap(self.base.with_params)(state, params)

    def train_loss(self, hp: HP, params: Params) -> jax.Array:
        """The mean training loss, which is at its minimum where that of each fold is."""
        return jnp.mean(self.over_folds(lambda task, p: task.train_loss(hp, p), params))

    def predict(self, hp: HP, state: State, x: jax.Array) -> jax.Array:
        """Outputs ``[folds, n, ...]`` of the models of all folds for inputs ``[n, ...]``."""
        return jax.vmap(lambda s: self.base.predict(hp, s, x))(state)


@functools.partial(structured, data=["base", "parts"], meta=["folds"])
class FoldByFold(CrossValidated):
    """The same, one fold after the other: each is a step, so that a member can be stopped or paused between two folds.

    The evaluation is the mean over the folds that were run. The state of a fold that was not is the first one.
    """

    @property
    def steps(self) -> int:
        """The number of folds."""
        return self.folds

    @property
    def max_steps(self) -> int:
        """The number of folds."""
        return self.folds

    def init(self, hp: HP, key: jax.Array) -> State:
        """First states of all folds, and room for what they evaluate to."""
        models = super().init(hp, key)
        found = jax.eval_shape(lambda states: super(FoldByFold, self).evaluate_folds(hp, states), models)
        return Carried(models, (jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), found), jnp.int32(0)))

    def step(self, hp: HP, state: State, t: jax.Array) -> State:
        """The whole training on fold ``t``, and its evaluation."""
        models, (values, _) = state.state, state.more

        def of_fold(tree: Tree) -> Tree:
            return jax.tree.map(lambda x: jax.lax.dynamic_index_in_dim(x, t, keepdims=False), tree)

        def with_fold(tree: Tree, one: Tree) -> Tree:
            return jax.tree.map(lambda x, y: x.at[t].set(y), tree, one)

        task: Any = self.on_fold(of_fold(self.parts))
        length = max_steps(task)
        model = train(task, hp, of_fold(models), 0, length) if length else of_fold(models)
        found = task.evaluate(hp, model)
        return Carried(with_fold(models, model), (with_fold(values, found), jnp.asarray(t + 1, jnp.int32)))

    def evaluate_folds(self, hp: HP, state: State) -> Any:
        """What each fold evaluated to, with a leading axis ``[folds]``; zeros for those that were not run."""
        return state.more[0]

    def folds_run(self, state: State) -> jax.Array:
        """How many folds were run, ``int32[]``."""
        run: jax.Array = state.more[1]
        return run


@with_transfers
def in_folds(objective: Any, folds: int, fold_by_fold: bool = False) -> Any:
    """The objective, trained and measured on ``folds`` folds of its data, side by side or one by one; itself for one.

    Raises:
      InvalidArgument: data that cannot be cut in so many folds, or an objective without any.

    >>> import jhpo, numpy as np, optax
    >>> x = np.linspace(-1.0, 1.0, 60, dtype=np.float32)[:, None]
    >>> line = (lambda key, x: {"w": jnp.zeros((1,))}, lambda p, x: x @ p["w"])
    >>> task = jhpo.supervised(line, lambda hp: optax.sgd(hp["lr"]), "regression",
    ...                        train=(x, 3.0 * x[:, 0]), batch_size=10, steps=9)
    >>> found = in_folds(task, 3)
    >>> state = found.init({"lr": 0.1}, jax.random.key(0))
    >>> state.params["w"].shape, found.evaluate_folds({"lr": 0.1}, state)["loss"].shape
    ((3, 1), (3,))
    """
    check_folds(folds, fold_by_fold)
    if folds == 1:
        return objective
    if hasattr(objective, "evaluator"):
        raise invalid("folds", "1 with a host objective, whose function cuts its own data", folds)
    if isinstance(objective, CrossValidated):
        raise invalid("folds", f"1 for an objective that is cut in {objective.folds} folds already", folds)
    trainable: Any = as_trainable(objective)
    # since Python 3.12 isinstance does not see what a wrapper hands on
    if isinstance(trainable, Objective) or not (hasattr(trainable, "fold_parts") and hasattr(trainable, "on_fold")):
        raise InvalidArgument(
            "folds: expected a trainable with data to cut, jhpo.supervised(..., train=...) or one with fold_parts and "
            f"on_fold, got {'a function' if isinstance(trainable, Objective) else type(objective).__name__}"
        )
    parts = trainable.fold_parts(folds)
    sizes = {x.shape[:1] for x in jax.tree.leaves(parts)}
    if sizes != {(folds,)}:
        raise invalid("fold_parts", f"arrays with a leading axis [{folds}]", sorted(sizes))
    kind = FoldByFold if fold_by_fold else CrossValidated
    return kind(trainable, jax.tree.map(jnp.asarray, parts), folds)


def check_folds(folds: object, fold_by_fold: object) -> None:
    """Refuses what cannot be a number of folds, and one fold after the other where there is one.

    Raises:
      InvalidArgument: it is not valid.
    """
    check_integer("folds", folds)
    if check_flag("fold_by_fold", fold_by_fold) and folds == 1:
        raise invalid("fold_by_fold", "folds of at least 2 beside it", "folds=1")
