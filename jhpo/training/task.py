"""The Trainable of supervised learning: minibatches, loss, optimiser step, validation."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import invalid
from jhpo.kernels.mixed import mixed_value_and_grad
from jhpo.training.arguments import takes_named
from jhpo.training.data import Arrays, Data, count, rows_at
from jhpo.training.folds import FoldRows
from jhpo.training.lengths import whole_steps
from jhpo.training.live import batch_of
from jhpo.training.metrics import Metric, as_tuples, check_whole, named, named_direction, of_whole
from jhpo.training.networks import Extra, Model, Params
from jhpo.training.optimisers import evaluation_params, update
from jhpo.training.rows import Rows
from jhpo.training.targets import Labels, check_by_row, fit_labels, live_rows, mean_of_live, warn_of_pairs
from jhpo.training.trainable import HP, State
from jhpo.training.validation import Averages, in_blocks, scalars_of
from jhpo.values.structure import structured
from jhpo.words.markup import brief

if TYPE_CHECKING:
    import optax


class SupervisedState(NamedTuple):
    """The training state of a member."""

    params: Params  # trained parameters, a pytree
    extra: Extra  # other collections of the model, such as batch statistics; empty for most models
    opt_state: State  # state of tx(hp)
    key: jax.Array  # key[] of the member, for dropout, and for its batches if they are independent


_DATA = ("train", "valid", "order", "model", "splits", "fold")
_META = (
    *("tx", "task", "labels", "loss", "loss_takes_hp", "penalty", "metrics", "metric"),
    *("batch_size", "max_batch_size", "length", "epochs", "max_steps", "independent_batches", "eval_batch"),
    *("eval_params", "ordered", "usual_batch"),
)


@functools.partial(structured, data=_DATA, meta=_META)
@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Supervised(Rows):
    """The Trainable made by `supervised`. Its leaves are the data; the rest is static and compared by value."""

    train: Data  # inputs [n, ...], targets [n, ...], each an array or a tree of arrays
    valid: Data | None  # None for a task that is cut in folds
    order: jax.Array  # uint32[2], key data for the shared order of the batches
    model: Model
    tx: Callable[[HP], optax.GradientTransformation]
    task: str | None  # "classification", "regression", or None with a user's loss function
    labels: Labels
    loss: Callable[..., jax.Array]
    loss_takes_hp: bool
    penalty: Callable[[HP, Any], jax.Array] | None
    metrics: tuple[tuple[str, tuple[Any, ...]], ...]  # name and fields of each `Metric`, see `as_tuples`
    metric: str
    batch_size: int | Callable[[HP], jax.Array]  # an integer, or a function of the hyperparameters
    max_batch_size: int
    length: int | Callable[[HP], jax.Array] | None  # optimiser steps, an integer or a function; None with epochs
    epochs: float | Callable[[HP], jax.Array] | None  # a number or a function; None with steps
    max_steps: int
    independent_batches: bool
    eval_batch: int
    eval_params: Callable[[Any, Any], Any] | None
    splits: FoldRows | None = None  # folds that the user cut
    ordered: bool = False  # whether folds are cut in the order of the data
    usual_batch: bool = False  # whether batches may be smaller where a fold has fewer rows
    fold: FoldRows | None = None  # the one that is trained and measured, None for all of `train` and `valid`

    def __repr__(self) -> str:
        """The task without the numbers of its data."""
        shown = ["model", "tx", "task", "train", "valid", "batch_size", "max_steps", "metric"]
        return f"Supervised({', '.join(f'{name}={brief(getattr(self, name))}' for name in shown)})"

    def init(self, hp: HP, key: jax.Array) -> SupervisedState:
        """Initial parameters and optimiser state of one member."""
        init_key, own = jax.random.split(key)
        params, extra = self.model.init(hp, init_key, rows_at(self.train[0], slice(1)))
        return SupervisedState(params, extra, self._optimiser(hp, params).init(params), own)

    def step(self, hp: HP, state: SupervisedState, t: jax.Array) -> SupervisedState:
        """One step of the optimiser on batch ``t``."""
        (x, y), live = self.batch_and_mask(state.key, t, hp)
        key = jax.random.fold_in(state.key, t)

        def loss(params: Params) -> tuple[jax.Array, Extra]:
            return self._loss(hp, params, state.extra, (x, y), key, train=True, rows=live)

        # has_aux costs memory in hypergradients: avoid it if there is nothing to carry
        if state.extra:
            (value, extra), grads = mixed_value_and_grad(loss, has_aux=True)(state.params)
        else:
            extra = state.extra
            value, grads = mixed_value_and_grad(lambda p: loss(p)[0])(state.params)
        tx = self._optimiser(hp, state.params)
        updates, opt_state = update(tx, grads, state.opt_state, state.params, value, lambda p: loss(p)[0])
        return SupervisedState(jax.tree.map(jnp.add, state.params, updates), extra, opt_state, state.key)

    def evaluate(self, hp: HP, state: SupervisedState) -> dict[str, jax.Array]:
        """Metrics on the validation data, ``float[]`` each: "loss", for classification "error", and further ones.

        Raises:
          InvalidArgument: a task without validation data that is not cut in folds.
        """
        valid, rows = self.validation()
        params = self._evaluated(state)
        measures = {name: Metric(*fields) for name, fields in self.metrics}

        def outputs_of(x: Arrays) -> jax.Array:
            return self.model.apply(hp, params, state.extra, x, state.key, False)[0]

        def means(outputs: Any, targets: tuple[Any, jax.Array | None], of_all: bool = False) -> Averages:
            y, live = self._fit(outputs, *targets)
            each = values(outputs, y, live)
            return {
                name.removeprefix("metrics: "): mean_of_live(name, found, outputs, live)
                for name, found in each.items() if (name in joint) is of_all
            }  # fmt: skip

        def values(outputs: Any, y: Any, live: jax.Array | None) -> dict[str, Any]:
            each = {f"metrics: {name}": m.function(outputs, y) for name, m in measures.items() if not m.whole}
            for name, found in each.items():
                self._check_scalar(name, found, live, rows)
            return {"loss": self._call_loss(hp, outputs, y, live, rows)} | each

        data = (valid[0], (valid[1], rows))
        joint = scalars_of(outputs_of, lambda o, y: values(o, *self._fit(o, *y)), data, self.eval_batch)
        wholes = {name: m for name, m in measures.items() if m.whole}
        averages, outputs = in_blocks(outputs_of, means, data, self.eval_batch, keep=bool(wholes or joint))
        found = averages | ({k: mean for k, (mean, _) in means(outputs, data[1], True).items()} if joint else {})
        if wholes:
            targets, live = self._fit(outputs, valid[1], rows)
            found |= {name: of_whole(name, m, outputs, targets, live) for name, m in wholes.items()}
        return found

    def direction_of(self, metric: str | None = None) -> str | None:
        """The direction of a metric (the tuned one if None), "minimize" or "maximize"; None if it is unknown."""
        name, known = metric or self.metric, dict(self.metrics)
        if name == "loss":
            return "minimize"
        return named_direction(Metric(*known[name]).higher) if name in known else None

    def with_metric(self, metric: str) -> Supervised:
        """The same task, tuned for another metric; one known by name is added.

        Raises:
          InvalidArgument: an unknown metric, or one that does not fit the task.
        """
        known = dict(self.metrics)
        if metric not in known and metric != "loss":
            added = named([metric], metric, self.task)
            check_whole(added, self.train[1] if self.valid is None else self.valid[1], self.labels.ignore)
            known |= as_tuples(added)
        return dataclasses.replace(self, metrics=tuple(known.items()), metric=metric)

    def on_fold(self, part: FoldRows) -> Supervised:
        """The task on one fold, a row of `fold_parts`."""
        rows, whole = part.train.shape[0], self.batch_size == count(self.train)
        size, longest = (rows, rows) if whole else (self.batch_size, self.max_batch_size)
        if self.usual_batch:
            size = longest = min(self.max_batch_size, rows)
        most = self.max_steps
        if self.epochs is not None and not callable(self.epochs) and not callable(size):
            most = whole_steps(self.epochs * (rows // size))
        return dataclasses.replace(
            self, splits=None, fold=part, batch_size=size, max_batch_size=longest, max_steps=most
        )

    def params(self, state: SupervisedState) -> Any:
        """The trained parameters."""
        return state.params

    def with_params(self, state: SupervisedState, params: Params) -> SupervisedState:
        """The state with other parameters."""
        return state._replace(params=params)

    def train_loss(self, hp: HP, params: Params) -> jax.Array:
        """Loss on all training data, penalty included; implicit gradients assume that it is minimised."""
        key = jax.random.key(0)
        _, extra = self.model.init(hp, key, rows_at(self.train[0], slice(1)))
        data, rows = self.all_rows()
        return self._loss(hp, params, extra, data, key, train=True, rows=rows)[0]

    def predict(self, hp: HP, state: SupervisedState, x: Arrays) -> jax.Array:
        """Outputs of a trained member for inputs like those of ``train``; vmap over hp and states for an ensemble."""
        return self.model.apply(hp, self._evaluated(state), state.extra, x, state.key, False)[0]

    def trained_model(self, hp: HP, state: SupervisedState) -> Any:
        """The model with its trained parameters in evaluation mode, for use and saving without jhpo.

        A linen module bound to its variables (``flax.linen.Module.unbind`` gives both), an nnx module, an equinox
        module (of one example; a pair with its state if it has one), or ``apply`` with the parameters.
        """
        make = getattr(self.model, "trained", None)
        if make is None:
            return functools.partial(self.predict, hp, state)
        return make(hp, self._evaluated(state), state.extra)

    def _evaluated(self, state: SupervisedState) -> Any:
        """The parameters that are evaluated and returned.

        Raises:
          InvalidArgument: the state is that of several folds.
        """
        if state.key.ndim:
            each = "the mean of their predictions is that of result.ensemble(1), and each by itself that of jax.vmap"
            raise invalid("state", "the state of one training", f"those of {state.key.shape[0]} folds", note=each)
        if self.eval_params is not None:
            return self.eval_params(state.opt_state, state.params)
        return evaluation_params(state.opt_state, state.params)

    def _call_loss(self, hp: HP, outputs: Any, targets: Any, live: jax.Array | None, rows: jax.Array | None) -> Any:
        """The loss; ``live`` and ``rows`` mask what counts, the labels and the rows, None for all."""
        given = (outputs, targets, hp) if self.loss_takes_hp else (outputs, targets)
        if takes_named(self.loss, "live"):
            every = jnp.ones(count(outputs), bool) if live is None else live
            return self.loss(*given, live=every)
        values = self.loss(*given)
        if isinstance(values, jax.Array) and not values.ndim:
            warn_of_pairs("loss", lambda o, t: self.loss(o, t, *given[2:]), outputs, targets)
        self._check_scalar("loss", values, live, rows)
        return values

    def _check_scalar(self, name: str, values: Any, live: jax.Array | None, rows: jax.Array | None) -> None:
        """Refuses a scalar of a function that does not know which rows count."""
        if live is not None:
            sizes = "batch_size is a hyperparameter" if callable(self.batch_size) else "folds differ in size"
            check_by_row(name, values, "ignore= leaves rows out" if rows is None else sizes)

    def _fit(
        self, outputs: jax.Array, targets: jax.Array, rows: jax.Array | None = None
    ) -> tuple[jax.Array, jax.Array | None]:
        """Targets in the shape of the outputs, and a mask of those that count (None for all); ``rows`` is bool[n]."""
        if self.task == "classification":
            targets = fit_labels(outputs, targets, self.labels)
        live = live_rows(targets, self.labels)
        if live is not None and self.task == "classification":
            # an ignored label may be out of range, and the loss there has to stay finite
            targets = jnp.where(live, targets, jnp.zeros((), targets.dtype))
        if rows is not None:
            live = rows if live is None else live & rows.reshape(-1, *(1,) * (live.ndim - 1))
        return targets, live

    def _loss(
        self,
        hp: HP,
        params: Params,
        extra: Extra,
        data: Data,
        key: jax.Array,
        *,
        train: bool,
        rows: jax.Array | None = None,
    ) -> tuple[jax.Array, Extra]:
        """Loss and new collections; ``rows``, bool[n], masks the padding of the batch, None for none."""
        with batch_of(rows):
            outputs, extra = self.model.apply(hp, params, extra, data[0], key, train)
        targets, live = self._fit(outputs, data[1], rows)
        values = jnp.asarray(self._call_loss(hp, outputs, targets, live, rows))
        value, _ = mean_of_live("loss", values, outputs, live)
        if self.penalty is not None:
            value = value + self.penalty(_like(hp, params), params).astype(value.dtype)
        return value, extra

    def _optimiser(self, hp: HP, params: Params) -> optax.GradientTransformation:
        tx = self.tx(_like(hp, params))
        if not callable(getattr(tx, "init", None)) or not callable(getattr(tx, "update", None)):
            raise invalid("tx", "a function of the hyperparameters that returns an optax transformation", tx)
        return tx


def _like(hp: HP, params: Params) -> HP:
    """Hyperparameters cast to the dtype of the parameters, so that the dtypes of a state never change."""
    floats = [p.dtype for p in jax.tree.leaves(params) if jnp.issubdtype(p.dtype, jnp.floating)]
    if not floats:
        return hp

    def cast(x: object) -> object:
        # static values (a string, a function, a Python number) are not cast
        if not isinstance(x, (jax.Array, np.ndarray, np.generic)) or not jnp.issubdtype(x.dtype, jnp.floating):
            return x
        return jnp.asarray(x, floats[0])

    return jax.tree.map(cast, hp)
