"""A real problem in ten lines: a Trainable from a model, an optax factory, a loss and two sets of data."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import check_integer, invalid
from jhpo.kernels.mixed import mixed_value_and_grad
from jhpo.kernels.shuffle import batch_rows
from jhpo.lifetimes import Structured, structured
from jhpo.training.arguments import batch_sizes, checked_data, lengths
from jhpo.training.measures import error_rate as error_rate
from jhpo.training.measures import squared_error as squared_error
from jhpo.training.metrics import Metric, as_tuples, check_whole, named, named_direction, of_whole
from jhpo.training.networks import Model, as_model
from jhpo.training.optimisers import evaluation_params, update
from jhpo.training.targets import Labels, check_labels, fit_labels, live_rows, mean_of_live

HP = Any
Data = tuple[jax.Array, jax.Array]


class SupervisedState(NamedTuple):
    """What is carried from one training step to the next."""

    params: Any  # trained parameters, a pytree
    extra: Any  # other collections of the model: batch statistics; empty for most models
    opt_state: Any  # state of tx(hp)
    key: jax.Array  # key[], the member's own stream: dropout, and its batches if they are independent


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """``float[...]`` from logits ``float[..., classes]`` and labels ``int[...]``."""
    # the label's logit by selection: a gather's gradient is a scatter, which no processor likes
    classes = jax.lax.broadcasted_iota(targets.dtype, outputs.shape, outputs.ndim - 1)
    chosen = jnp.where(classes == targets[..., None], outputs, jnp.zeros((), outputs.dtype)).sum(axis=-1)
    return jax.nn.logsumexp(outputs, axis=-1) - chosen


_LOSSES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "classification": (cross_entropy, ("error",)),
    "regression": (squared_error, ()),
}
_DATA = ("train", "valid", "order", "model")
_META = (
    *("tx", "task", "labels", "loss", "loss_takes_hp", "penalty", "metrics", "metric"),
    *("batch_size", "max_batch_size", "length", "epochs", "max_steps", "independent_batches", "eval_batch"),
    "eval_params",
)


@functools.partial(structured, data=_DATA, meta=_META)
@dataclasses.dataclass(frozen=True, eq=False)
class Supervised(Structured):
    """The Trainable that `supervised` makes. Its leaves are the data; the rest is structure, compared by value."""

    train: Data  # inputs [n, ...], targets [n, ...]
    valid: Data
    order: jax.Array  # uint32[2], data of the key of the common order of the batches
    model: Model
    tx: Callable[[HP], Any]
    task: str | None  # "classification", "regression", or None with a loss of the user's own
    labels: Labels
    loss: Callable[..., jax.Array]
    loss_takes_hp: bool
    penalty: Callable[[HP, Any], jax.Array] | None
    metrics: tuple[tuple[str, tuple[Any, ...]], ...]  # by name, the fields of a `Metric`: plain tuples refer weakly
    metric: str
    batch_size: Any  # an integer, or a function of the hyperparameters
    max_batch_size: int
    length: Any  # optimiser steps, an integer or a function; None with epochs
    epochs: Any  # a number or a function; None with steps
    max_steps: int
    independent_batches: bool
    eval_batch: int
    eval_params: Callable[[Any, Any], Any] | None

    @property
    def steps(self) -> Any:
        """Optimiser steps, or a function of the hyperparameters."""
        if self.epochs is None:
            return self.length
        return self._steps_of_epochs if callable(self.epochs) or callable(self.batch_size) else self.max_steps

    def _steps_of_epochs(self, hp: HP) -> jax.Array:
        epochs = self.epochs(hp) if callable(self.epochs) else self.epochs
        per_epoch = (jnp.int32(len(self.train[0])) // self._batch_size(hp)).astype(jnp.float32)
        return jnp.ceil(jnp.asarray(epochs).astype(jnp.float32) * per_epoch)

    def _batch_size(self, hp: HP) -> jax.Array:
        """``int32[]``."""
        if not callable(self.batch_size):
            return jnp.int32(self.batch_size)
        size = jnp.asarray(self.batch_size(hp))
        if size.shape != () or not jnp.issubdtype(size.dtype, jnp.integer):
            raise invalid("batch_size", "a function that returns an integer", f"{size.dtype}{list(size.shape)}")
        return jnp.clip(size, 1, self.max_batch_size).astype(jnp.int32)

    def init(self, hp: HP, key: jax.Array) -> SupervisedState:
        """Fresh parameters and optimiser state of one member."""
        init_key, own = jax.random.split(key)
        params, extra = self.model.init(hp, init_key, self.train[0][:1])
        return SupervisedState(params, extra, self._optimiser(hp, params).init(params), own)

    def step(self, hp: HP, state: SupervisedState, t: jax.Array) -> SupervisedState:
        """One step of the optimiser on batch ``t``."""
        x, y = self.batch(state.key, t, hp)
        live = jnp.arange(len(x), dtype=jnp.int32) < self._batch_size(hp) if callable(self.batch_size) else None
        key = jax.random.fold_in(state.key, t)

        def loss(params: Any) -> tuple[jax.Array, Any]:
            return self._loss(hp, params, state.extra, x, y, key, True, live)

        # with nothing carried along, no second output of the differentiated function has to be kept
        if state.extra:
            (value, extra), grads = mixed_value_and_grad(loss, has_aux=True)(state.params)
        else:
            extra = state.extra
            value, grads = mixed_value_and_grad(lambda p: loss(p)[0])(state.params)
        tx = self._optimiser(hp, state.params)
        updates, opt_state = update(tx, grads, state.opt_state, state.params, value, lambda p: loss(p)[0])
        return SupervisedState(jax.tree.map(jnp.add, state.params, updates), extra, opt_state, state.key)

    def evaluate(self, hp: HP, state: SupervisedState) -> dict[str, jax.Array]:
        """On the validation data: "loss", for classification "error", and the metrics added by the user."""
        n = len(self.valid[0])
        block = min(self.eval_batch, n)
        params = self._evaluated(state)
        measures = [(name, Metric(*fields)) for name, fields in self.metrics]
        wholes = [(name, m) for name, m in measures if m.whole]

        def sums(data: Data) -> tuple[dict[str, tuple[jax.Array, jax.Array]], jax.Array | None]:
            outputs, _ = self.model.apply(hp, params, state.extra, data[0], state.key, False)
            targets, live = self._fit(outputs, data[1])
            means = {"loss": mean_of_live("loss", self._call_loss(hp, outputs, targets), outputs, live)}
            for name, m in measures:
                if not m.whole:
                    means[name] = mean_of_live(f"metrics: {name}", m.function(outputs, targets), outputs, live)
            # what needs all rows at once needs all outputs
            kept = outputs if wholes else None
            return {name: (mean * count, count) for name, (mean, count) in means.items()}, kept

        whole = n // block
        if whole == 1:
            total, outputs = sums(_rows(self.valid, 0, block))
        else:
            blocks = jax.tree.map(lambda a: a[: whole * block].reshape(whole, block, *a.shape[1:]), self.valid)
            total, outputs = jax.lax.map(sums, blocks)
            total = jax.tree.map(lambda s: s.sum(axis=0), total)
            outputs = None if outputs is None else outputs.reshape(whole * block, *outputs.shape[2:])
        if n > whole * block:
            rest, others = sums(_rows(self.valid, whole * block, n))
            total = jax.tree.map(jnp.add, total, rest)
            outputs = None if outputs is None or others is None else jnp.concatenate([outputs, others])
        found = {name: value / count for name, (value, count) in total.items()}
        if outputs is not None:
            targets, live = self._fit(outputs, self.valid[1])
            found |= {name: of_whole(name, m, outputs, targets, live) for name, m in wholes}
        return found

    def direction_of(self, metric: str | None = None) -> str | None:
        """The direction of a metric (the one tuned for if None), "minimize" or "maximize"; None if it is not known."""
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
            check_whole(added, self.valid[1], self.labels.ignore)
            known |= as_tuples(added)
        return dataclasses.replace(self, metrics=tuple(known.items()), metric=metric)

    def batch(self, key: jax.Array, t: jax.Array, hp: HP = None) -> Data:
        """Minibatch ``t``: the same for all members, or from the member's own ``key``.

        Where the size is a hyperparameter, ``max_batch_size`` rows: those of the batch, and some of them once more.
        """
        n = len(self.train[0])
        if self.batch_size == n:
            return self.train
        order = key if self.independent_batches else jax.random.wrap_key_data(self.order)
        if callable(self.batch_size):
            rows = batch_rows(order, t, n, self._batch_size(hp), self.max_batch_size)
        else:
            rows = batch_rows(order, t, n, self.batch_size)
        return self.train[0][rows], self.train[1][rows]

    def params(self, state: SupervisedState) -> Any:
        """The trained parameters."""
        return state.params

    def with_params(self, state: SupervisedState, params: Any) -> SupervisedState:
        """The state with other parameters."""
        return state._replace(params=params)

    def train_loss(self, hp: HP, params: Any) -> jax.Array:
        """Loss on all training data, penalty included: the function whose minimum implicit gradients assume."""
        key = jax.random.key(0)
        _, extra = self.model.init(hp, key, self.train[0][:1])
        return self._loss(hp, params, extra, *self.train, key, True)[0]

    def predict(self, hp: HP, state: SupervisedState, x: jax.Array) -> jax.Array:
        """Outputs of a trained member; vmap over hp and stacked states for an ensemble."""
        return self.model.apply(hp, self._evaluated(state), state.extra, x, state.key, False)[0]

    def trained_model(self, hp: HP, state: SupervisedState) -> Any:
        """The model with its trained parameters, to be used or saved without jhpo, in evaluation mode.

        A linen module bound to its variables (``flax.linen.Module.unbind`` gives both), an nnx module, an equinox
        module (of one example; a pair with its state if it has one), or ``apply`` with the parameters.
        """
        make = getattr(self.model, "trained", None)
        if make is None:
            return functools.partial(self.predict, hp, state)
        return make(hp, self._evaluated(state), state.extra)

    def _evaluated(self, state: SupervisedState) -> Any:
        """The weights that are evaluated and handed out."""
        if self.eval_params is not None:
            return self.eval_params(state.opt_state, state.params)
        return evaluation_params(state.opt_state, state.params)

    def _call_loss(self, hp: HP, outputs: jax.Array, targets: jax.Array) -> Any:
        return self.loss(outputs, targets, hp) if self.loss_takes_hp else self.loss(outputs, targets)

    def _fit(self, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array | None]:
        """Targets in the shape that fits the outputs, and which of them count (None: all)."""
        if self.task == "classification":
            targets = fit_labels(outputs, targets, self.labels)
        live = live_rows(targets, self.labels)
        if live is not None and self.task == "classification":
            # an ignored label is outside the outputs, and what is computed from it has to stay finite
            targets = jnp.where(live, targets, jnp.zeros((), targets.dtype))
        return targets, live

    def _loss(
        self, hp: HP, params: Any, extra: Any, x: Any, y: Any, key: jax.Array, train: bool, rows: Any = None
    ) -> tuple[jax.Array, Any]:
        """Loss and carried collections; ``rows``, bool[n], are those that belong to the batch, None for all."""
        outputs, extra = self.model.apply(hp, params, extra, x, key, train)
        targets, live = self._fit(outputs, y)
        values = jnp.asarray(self._call_loss(hp, outputs, targets))
        if rows is not None:
            if not values.ndim:
                raise invalid("loss", "a value for each example, as batch_size is a hyperparameter", "a scalar")
            live = rows if live is None else live & rows.reshape(-1, *(1,) * (live.ndim - 1))
        value, _ = mean_of_live("loss", values, outputs, live)
        if self.penalty is not None:
            value = value + self.penalty(_like(hp, params), params).astype(value.dtype)
        return value, extra

    def _optimiser(self, hp: HP, params: Any) -> Any:
        return self.tx(_like(hp, params))


def _like(hp: HP, params: Any) -> HP:
    """Hyperparameters in the precision of the parameters, so that a state never changes its type."""
    floats = [p.dtype for p in jax.tree.leaves(params) if jnp.issubdtype(p.dtype, jnp.floating)]
    if not floats:
        return hp

    def cast(x: Any) -> Any:
        # a static value (a string, a function, a Python number) stays what it is
        array = isinstance(x, (jax.Array, np.ndarray, np.generic))
        return jnp.asarray(x, floats[0]) if array and jnp.issubdtype(x.dtype, jnp.floating) else x

    return jax.tree.map(cast, hp)


def _rows(data: Data, start: int, stop: int) -> Data:
    return data[0][start:stop], data[1][start:stop]


def supervised(
    model: Any,
    tx: Callable[[HP], Any],
    loss: str | Callable[..., Any] = "classification",
    *,
    train: tuple[Any, Any],
    valid: tuple[Any, Any],
    batch_size: int | Callable[[HP], Any] | None = 64,
    max_batch_size: int | None = None,
    steps: int | Callable[[HP], Any] | None = None,
    epochs: float | Callable[[HP], Any] | None = None,
    max_steps: int | None = None,
    independent_batches: bool = False,
    seed: int = 0,
    penalty: Callable[[HP, Any], Any] | None = None,
    metrics: str | Sequence[str] | Mapping[str, str | Callable[..., Any] | Metric] | None = None,
    metric: str = "loss",
    ignore: int | None = None,
    eval_batch: int = 1024,
    eval_params: Callable[[Any, Any], Any] | None = None,
) -> Supervised:
    """A Trainable for supervised learning.

    Args:
      model: a flax linen module; a function of the hyperparameters that returns one; a function or class of ``rngs``
        (or of ``hp`` and ``rngs``) that returns an nnx module; an equinox module of one example (every member begins
        with its weights) or a function of ``key`` (or of ``hp`` and ``key``) that returns one, with
        ``equinox.nn.make_with_state`` a pair of module and state; a pair ``(init(key, x) -> params,
        apply(params, x) -> outputs)``; or a `jhpo.masked_mlp`. Dropout and batch normalisation are switched by the
        module's ``train``, ``deterministic`` or ``use_running_average`` argument (linen) or its modes (nnx).
      tx: ``tx(hp)`` returns an optax transformation. Those with extra arguments get ``value``, ``grad``, ``value_fn``,
        ``obj_fn`` and ``grad_fn`` of the batch.
      loss: "classification" (softmax cross-entropy of labels 0, 1, ..., metrics "loss" and "error"), "regression"
        (squared error), or a function ``loss(outputs, targets)`` or ``loss(outputs, targets, hp)`` that returns a
        scalar or a value per example.
      train: inputs ``[n, ...]`` and targets ``[n, ...]``; float64 arrays become JAX's default float.
      valid: the same for the data on which members are compared.
      batch_size: rows of a minibatch, all of them if None. Batch ``t`` is recomputed from a key and ``t``. A function
        of the hyperparameters that is at most ``max_batch_size``: every member then computes with so many rows, and
        those beyond its own size do not count (batch normalisation sees them: they repeat its own).
      max_batch_size: needed if ``batch_size`` is a function.
      steps: optimiser steps (200), or a function of the hyperparameters that is at most ``max_steps``.
      epochs: runs through the training data, in place of steps: a number or a function of the hyperparameters. A run
        has as many steps as there are whole batches in the data.
      max_steps: needed if the number of steps is a function: if ``steps`` or ``epochs`` is one, or ``epochs`` is
        given and ``batch_size`` is one.
      independent_batches: every member has batches of its own. By default members share them: comparisons are
        fairer, and the first layer of all members is one large product.
      seed: of the common order of the batches.
      penalty: ``penalty(hp, params)``, a scalar that is added to the training loss.
      metrics: further metrics: names (``jhpo.metrics.NAMES``: "accuracy", "f1", "auc", "r2", ...), or a dict of names
        and functions of (outputs, targets) whose mean over the rows is taken; `jhpo.metrics.whole` makes a function of
        all rows at once.
      metric: the one to tune for; a known name need not be listed. Scores are maximised: `jhpo.maximize`, or a study's
        ``direction="maximize"``.
      ignore: label of rows that do not count, in training and in validation, such as -100 or 255.
      eval_batch: most validation rows evaluated at once.
      eval_params: ``eval_params(opt_state, params)``, the weights to evaluate and to hand out. By default those that
        the optimiser means (`optax.contrib.schedule_free`, `jhpo.optimisers.averaged`, `jhpo.optimisers.lookahead`),
        else the trained ones.

    Raises:
      InvalidArgument: an argument that cannot work; it is named.

    >>> import jhpo, numpy as np, optax
    >>> x = np.linspace(-1.0, 1.0, 64)[:, None].astype(np.float32)
    >>> line = (lambda key, x: {"w": jnp.zeros((1,))}, lambda p, x: x @ p["w"])
    >>> task = supervised(line, lambda hp: optax.sgd(hp["lr"]), "regression",
    ...                   train=(x, 3.0 * x[:, 0]), valid=(x, 3.0 * x[:, 0]), batch_size=16, steps=20)
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})
    >>> result = jhpo.minimize(task, space, jhpo.RandomSearch(16), budget=16)
    >>> bool(result.value < 0.01)
    True
    """
    data = tuple(checked_data(name, pair) for name, pair in (("train", train), ("valid", valid)))
    n = len(data[0][0])
    if not callable(tx):
        raise invalid("tx", "a function of the hyperparameters that returns an optax transformation", tx)
    if isinstance(loss, str) and loss not in _LOSSES:
        raise invalid("loss", f"one of {sorted(_LOSSES)} or a function", loss)
    if not isinstance(loss, str) and not callable(loss):
        raise invalid("loss", f"one of {sorted(_LOSSES)} or a function", loss)
    function, measured = _LOSSES[loss] if isinstance(loss, str) else (loss, ())
    labels = Labels(None, None)
    if ignore is not None and loss == "regression":
        raise invalid("ignore", "None for regression, whose targets are no labels", ignore)
    if loss == "classification" or ignore is not None:
        labels = check_labels({"train": data[0][1], "valid": data[1][1]}, ignore)
    if loss == "classification":
        # narrow integers cannot count the outputs, wide ones need not be kept
        data = tuple((x, y.astype(jnp.int32)) for x, y in data)
    arrays = [(jnp.asarray(x), jnp.asarray(y)) for x, y in data]
    task = loss if isinstance(loss, str) else None
    chosen = {**named(measured, "loss", task), **named(metrics, metric, task)}
    check_whole(chosen, data[1][1], labels.ignore)
    known = ["loss", *chosen]
    if metric not in known:
        raise invalid("metric", f"one of {known}, or a name of jhpo.metrics.NAMES", metric)
    size, most = batch_sizes(batch_size, max_batch_size, n)
    length, longest = lengths(steps, epochs, max_steps, None if callable(size) else n // size)
    return Supervised(
        train=arrays[0],
        valid=arrays[1],
        order=jax.random.key_data(jax.random.key(check_integer("seed", seed, low=0))),
        model=as_model(model),
        tx=tx,
        task=task,
        labels=labels,
        loss=function,
        loss_takes_hp=len(inspect.signature(function).parameters) > 2,
        penalty=penalty,
        metrics=tuple(as_tuples(chosen).items()),
        metric=metric,
        batch_size=size,
        max_batch_size=most,
        length=length,
        epochs=epochs,
        max_steps=longest,
        independent_batches=bool(independent_batches),
        eval_batch=check_integer("eval_batch", eval_batch),
        eval_params=eval_params,
    )
