"""`supervised`: a Trainable from a model, an optax factory, a loss, training and validation data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

from jhpo.errors import check_flag, check_integer, invalid
from jhpo.keys import root_key
from jhpo.process.switches import without_switches
from jhpo.space.serialize import known_to_flax
from jhpo.training.arguments import batch_sizes, check_place_of_hp, lengths, takes_rate, takes_third
from jhpo.training.data import Data, check_alike, checked_data, count, is_single
from jhpo.training.folds import SPLITS, given_folds
from jhpo.training.measures import error_rate as error_rate
from jhpo.training.measures import squared_error as squared_error
from jhpo.training.metrics import Wanted, as_tuples, check_whole, named
from jhpo.training.networks import AnyModel, Params, as_model
from jhpo.training.precision import with_precision
from jhpo.training.targets import Labels, check_labels, wide
from jhpo.training.task import Supervised as Supervised
from jhpo.training.task import SupervisedState as SupervisedState
from jhpo.training.trainable import HP
from jhpo.words.advice import advised

if TYPE_CHECKING:
    import optax

Pair = tuple[Any, Any]  # inputs [n, ...] and targets [n, ...], array-likes or trees of them


def cross_entropy(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """Softmax cross-entropy ``float[...]`` of logits ``float[..., classes]`` and labels ``int[...]``."""
    outputs = wide(outputs)
    # select the label's logit: the gradient of a gather would be a scatter, which is slow
    classes = jax.lax.broadcasted_iota(targets.dtype, outputs.shape, outputs.ndim - 1)
    chosen = jnp.where(classes == targets[..., None], outputs, jnp.zeros((), outputs.dtype)).sum(axis=-1)
    return jax.nn.logsumexp(outputs, axis=-1) - chosen


_LOSSES: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "classification": (cross_entropy, ("error",)),
    "regression": (squared_error, ()),
}


_TX = "a function of the hyperparameters that returns an optax transformation"


@without_switches
@advised
def supervised(
    model: AnyModel,
    tx: Callable[[HP], optax.GradientTransformation],
    loss: str | Callable[..., Any] = "classification",
    *,
    train: Pair,
    valid: Pair | None = None,
    batch_size: int | Callable[[HP], Any] | Literal["auto"] | None = "auto",
    max_batch_size: int | None = None,
    steps: int | Callable[[HP], Any] | None = None,
    epochs: float | Callable[[HP], Any] | None = None,
    max_steps: int | None = None,
    independent_batches: bool = False,
    seed: int = 0,
    penalty: Callable[[HP, Params], Any] | None = None,
    metrics: Wanted = None,
    metric: str = "loss",
    ignore: int | None = None,
    eval_batch: int = 1024,
    eval_params: Callable[[Any, Params], Params] | None = None,
    precision: str | None = None,
    splits: Sequence[Any] | str | None = None,
) -> Supervised:
    """A Trainable for supervised learning.

    Args:
      model: a flax linen module; a function of the hyperparameters that returns one; a function or class of ``rngs``
        (or of ``hp`` and ``rngs``) that returns an nnx module; an equinox module of one example (every member starts
        from its weights) or a function of ``key`` (or of ``hp`` and ``key``) that returns one, with
        ``equinox.nn.make_with_state`` a pair of module and state; a pair ``(init(key, x) -> params,
        apply(params, x) -> outputs)``, of which ``init`` may also take ``hp``, and ``apply`` ``hp``, ``key`` and
        ``train``, by these names; or a `jhpo.masked_mlp`. Dropout and batch normalisation follow the
        module's ``train``, ``deterministic`` or ``use_running_average`` argument (linen) or its mode (nnx).
      tx: ``tx(hp)`` returns an optax transformation. Those with extra arguments get ``value``, ``grad``, ``value_fn``,
        ``obj_fn`` and ``grad_fn`` of the batch.
      loss: "classification" (softmax cross-entropy of labels 0, 1, ..., metrics "loss" and "error"), "regression"
        (squared error), or a function ``loss(outputs, targets)`` or ``loss(outputs, targets, hp)`` that returns a
        scalar or a value per example. A scalar of the validation data is computed from all its rows at once. An
        argument called ``live`` is given which rows count, ``bool[n]`` (with ``ignore``, like the targets): a loss that
        compares rows with one another needs it where ``batch_size`` is a function, folds differ in size, or rows
        are ignored.
      train: inputs ``[n, ...]`` and targets ``[n, ...]``; float64 arrays become JAX's default float. Several inputs are
        a tree of arrays with one row for each example, ``({"image": x, "age": a}, y)`` or ``((tokens, mask), y)``: the
        model gets the tree, of the rows of a batch, as its argument. Several targets likewise, with a loss function of
        your own.
      valid: the same for the validation data, on which members are compared. None for a task that is cross-validated:
        ``folds=5`` in a search cuts them from ``train``.
      batch_size: rows of a minibatch; "auto" for 64, or all where there are fewer; None for all rows; or a function
        of the hyperparameters that is at most ``max_batch_size``. With a function every member computes with
        ``max_batch_size`` rows, of which those beyond its own size count nowhere, batch normalisation included.
      max_batch_size: required if ``batch_size`` is a function.
      steps: optimiser steps (200), or a function of the hyperparameters that is at most ``max_steps``.
      epochs: passes over the training data, instead of steps: a number or a function of the hyperparameters. An epoch
        has as many steps as there are whole batches in the data.
      max_steps: required if the number of steps varies: if ``steps`` or ``epochs`` is a function, or ``epochs`` is
        given and ``batch_size`` is a function.
      independent_batches: give every member its own batches. By default members share them: comparisons are
        fairer, and the first layer of all members is one large product.
      seed: of the shared order of the batches.
      penalty: ``penalty(hp, params)``, a scalar that is added to the training loss.
      metrics: further metrics: names (``jhpo.metrics.NAMES``: "accuracy", "f1", "auc", "r2", ...), or a dict of names
        and functions of (outputs, targets) whose mean over the rows is taken; `jhpo.metrics.whole` makes a function of
        all rows at once.
      metric: the metric to tune for; a known name need not be listed. Maximise scores with `jhpo.maximize`, or with
        ``direction="maximize"`` in a study.
      ignore: label of rows to ignore in training and in validation, such as -100 or 255.
      eval_batch: largest number of validation rows evaluated at once.
      eval_params: ``eval_params(opt_state, params)``, the parameters to evaluate and to return. By default the averages
        of optimisers that have them (`optax.contrib.schedule_free`, `jhpo.optimisers.averaged`,
        `jhpo.optimisers.lookahead`), otherwise the trained parameters.
      precision: "bf16" for bfloat16 matrix products and convolutions in the model, forward and backward, for GPUs on
        which they are faster. Parameters, optimiser state, sums, normalisations and the loss keep their dtype, and
        products with their own ``precision`` keep it. None for products in the dtype of the parameters.

      splits: how folds are cut: dealt out at random, with the same share of each class in all of them (None);
        "ordered", in the order of the data, as scikit-learn's `KFold` and `StratifiedKFold` do; or pairs of index
        arrays (train, valid), such as the ``split`` of scikit-learn's splitters gives, for groups or time series.

    Returns:
      A `Supervised`, a trainable whose pytree leaves are the data.

    Raises:
      InvalidArgument: an invalid argument; it is named.

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
    if not callable(tx) or hasattr(tx, "apply"):  # a module of flax can be called
        raise invalid("tx", _TX, tx)
    if takes_rate(tx):
        raise invalid("tx", _TX, tx, note=f'write lambda hp: {getattr(tx, "__name__", "tx")}(hp["lr"])')
    for name, given in (("penalty", penalty), ("eval_params", eval_params)):
        if given is not None and not callable(given):
            raise invalid(name, "a function, or None", given)
    check_place_of_hp("penalty", penalty, "penalty(hp, params)", 0)
    check_flag("independent_batches", independent_batches)
    if not isinstance(metric, str):
        raise invalid("metric", "the name of one metric", metric)
    function, measured, task = _checked_loss(loss)
    data, labels = _checked_sets(train, valid, task, ignore)
    chosen = {**named(measured, "loss", task), **named(metrics, metric, task)}
    if not is_single(data[0][1]):
        _check_several_targets(chosen, task, ignore)
    check_whole(chosen, data[-1][1], labels.ignore)
    if metric not in ("loss", *chosen):
        raise invalid("metric", f"one of {['loss', *chosen]}, or a name of jhpo.metrics.NAMES", metric)
    arrays: list[Data] = [jax.tree.map(jnp.asarray, each) for each in data]
    n = count(arrays[0])
    if splits is not None and valid is not None:
        raise invalid("splits", "None beside validation data", type(splits).__name__)
    if isinstance(splits, str) and splits != "ordered":
        raise invalid("splits", SPLITS, splits)
    known_to_flax()  # the keys in its states
    size, most = batch_sizes(batch_size, max_batch_size, n)
    length, longest = lengths(steps, epochs, max_steps, None if callable(size) else n // size)
    return Supervised(
        train=arrays[0],
        valid=None if valid is None else arrays[1],
        order=jax.random.key_data(root_key(seed)),
        model=with_precision(as_model(model), precision),
        tx=tx,
        task=task,
        labels=labels,
        loss=function,
        loss_takes_hp=takes_third(function, "hp"),
        penalty=penalty,
        metrics=tuple(as_tuples(chosen).items()),
        metric=metric,
        batch_size=size,
        max_batch_size=most,
        usual_batch=isinstance(batch_size, str),
        length=length,
        epochs=epochs,
        max_steps=longest,
        independent_batches=bool(independent_batches),
        eval_batch=check_integer("eval_batch", eval_batch),
        eval_params=eval_params,
        splits=None if splits is None or isinstance(splits, str) else given_folds(splits, n),
        ordered=splits == "ordered" if isinstance(splits, str) else False,
    )


def _checked_loss(loss: str | Callable[..., Any]) -> tuple[Callable[..., Any], tuple[str, ...], str | None]:
    """The loss function, its metrics, and the name of the task (None for a user's function)."""
    if isinstance(loss, str) and loss in _LOSSES:
        return *_LOSSES[loss], loss
    if isinstance(loss, str) or not callable(loss):
        raise invalid("loss", f"one of {sorted(_LOSSES)} or a function", loss)
    check_place_of_hp("loss", loss, "loss(outputs, targets) or loss(outputs, targets, hp)", 2)
    return loss, (), None


def _check_several_targets(metrics: dict[str, Any], task: str | None, ignore: int | None) -> None:
    """Refuses what needs targets in one array."""
    if task is not None:
        raise invalid("loss", "a function loss(outputs, targets) for several targets", task)
    if ignore is not None:
        raise invalid("ignore", "None for several targets, whose loss function knows what counts", ignore)
    known = [name for name, metric in metrics.items() if metric.task is not None]
    if known:
        raise invalid("metrics", "functions of (outputs, targets) for several targets", known)


def _checked_sets(train: Pair, valid: Pair | None, task: str | None, ignore: int | None) -> tuple[list[Pair], Labels]:
    """Training and validation data as arrays, and the checked labels."""
    named = {"train": train} if valid is None else {"train": train, "valid": valid}
    data = [checked_data(name, pair) for name, pair in named.items()]
    check_alike(data[0], data[-1])
    if ignore is not None and task == "regression":
        raise invalid("ignore", "None for regression, whose targets are no labels", ignore)
    labels = Labels(None, None)
    if not all(is_single(y) for _, y in data):
        return data, labels  # refused by name later, where the task wants one array
    if task == "classification" or ignore is not None:
        labels = check_labels({name: y for name, (_, y) in zip(named, data)}, ignore)
    if task == "classification":
        # narrow integers may overflow in comparisons with class indices, wide ones are not needed
        data = [(x, y.astype(jnp.int32)) for x, y in data]
    return data, labels
