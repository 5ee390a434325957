"""Ensembles of trained members: their stacked states, the mean of their predictions, greedy selection, checkpoints."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jhpo.errors import ChangedSpace, InvalidArgument, StorageError, check_integer, invalid
from jhpo.evaluation.described import NO_STATIC, StaticValues
from jhpo.kernels.ensemble import greedy_counts
from jhpo.kernels.lapack import lapack_in_turn
from jhpo.process.switches import with_transfers
from jhpo.programs.compilation import programs
from jhpo.space.space import Space
from jhpo.training.checkpoint import load_states, save_states, write_whole
from jhpo.training.crossvalidation import CrossValidated, in_folds
from jhpo.training.data import as_arrays, count
from jhpo.training.objective import as_trainable
from jhpo.training.targets import those_that_count
from jhpo.training.trainable import HP, State
from jhpo.training.values import pack, release
from jhpo.values.structure import Structured, structured
from jhpo.words.markup import brief

_FACTS = "ensemble.json"


def _same(outputs: jax.Array) -> jax.Array:
    return outputs


def _base(trainable: Any) -> Any:
    """The trainable of one fold."""
    return trainable.base if isinstance(trainable, CrossValidated) else trainable


def _groups(space: Space, units: np.ndarray) -> list[tuple[StaticValues, np.ndarray]]:
    if not space.has_static:
        return [(NO_STATIC, np.arange(len(units)))]
    return [(StaticValues(values), rows) for values, rows in space.static_groups(units)]


@functools.partial(
    structured, data=["trainable", "space", "units", "weights", "rows", "states"], meta=["statics", "link"]
)
class Ensemble(Structured):
    """Trained members whose predictions are averaged; made by `Result.ensemble` and `Study.ensemble`. A pytree.

    Attributes:
      units: ``float[k, d]``, the hyperparameters of the members as points of the unit cube, the best first.
      weights: ``float[k]``, which sum to 1.
      states: for each combination of static values the stacked states of its members; see `state`.
      rows: which members these are, ``int32[g]`` each.

    >>> import jhpo, optax
    >>> x = np.linspace(-1.0, 1.0, 64, dtype=np.float32)[:, None]
    >>> line = (lambda key, x: {"w": jnp.zeros((1,))}, lambda p, x: x @ p["w"])
    >>> task = jhpo.supervised(line, lambda hp: optax.sgd(hp["lr"]), "regression",
    ...                        train=(x, 3.0 * x[:, 0]), valid=(x, 3.0 * x[:, 0]), steps=20)
    >>> space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})
    >>> found = jhpo.minimize(task, space, jhpo.RandomSearch(8), budget=8)
    >>> ensemble = found.ensemble(4)
    >>> ensemble.state.params["w"].shape, ensemble.predict(x).shape
    ((4, 1), (64,))
    >>> round(float(ensemble.selected((x, 3.0 * x[:, 0])).weights.sum()), 4)
    1.0
    """

    def __init__(
        self,
        trainable: Any,
        space: Space,
        units: ArrayLike,
        weights: ArrayLike,
        states: Sequence[State],
        link: Callable[[jax.Array], jax.Array] | None = None,
    ) -> None:
        base = _base(trainable)
        if not callable(getattr(base, "predict", None)):
            raise InvalidArgument(
                "objective: expected a trainable with predict(hp, state, x), such as jhpo.supervised makes, got "
                f"{type(base).__name__}"
            )
        if link is None:
            link = jax.nn.softmax if getattr(base, "task", None) == "classification" else _same
        units = np.asarray(units, jnp.result_type(float))
        groups = _groups(space, units)
        self.trainable, self.space, self.units, self.link = trainable, space, jnp.asarray(units), link
        self.weights = jnp.asarray(weights, self.units.dtype)
        self.statics = tuple(static for static, _ in groups)
        self.rows = tuple(jnp.asarray(rows, jnp.int32) for _, rows in groups)
        self.states = tuple(states)

    def __len__(self) -> int:
        return self.units.shape[0]

    def __repr__(self) -> str:
        return f"Ensemble({len(self)} members, {brief(self.trainable)})"

    @property
    def state(self) -> State:
        """The states of all members, stacked along a leading axis ``[k]`` (with folds ``[k, folds]``).

        Raises:
          InvalidArgument: members of several static groups, whose states differ in shape; see ``states``.
        """
        if len(self.states) > 1:
            raise invalid("state", "members of one static group", [s.values for s in self.statics])
        return self.states[0]

    @property
    @with_transfers
    def hp(self) -> HP:
        """The hyperparameters of all members, stacked likewise, as the trainable gets them."""
        if len(self.states) > 1:
            raise invalid("hp", "members of one static group", [s.values for s in self.statics])
        return jax.vmap(lambda unit: self.space.from_unit(unit, self.statics[0].values))(self.units)

    @property
    @with_transfers
    def params(self) -> list[Any]:
        """The decoded hyperparameters of the members."""
        return [self.space.decode(unit) for unit in np.asarray(self.units)]

    @with_transfers
    def outputs(self, x: ArrayLike) -> jax.Array:
        """What each member predicts for inputs ``[n, ...]``: ``float[k, n, ...]``, probabilities for classification.

        With folds, the mean over the models of a member's folds.
        """
        return _outputs(self, as_arrays(x))

    @with_transfers
    def predict(self, x: ArrayLike) -> jax.Array:
        """The weighted mean of what the members predict, ``float[n, ...]``; the mean of probabilities for classes."""
        return _predict(self, as_arrays(x))

    @with_transfers
    def selected(
        self,
        data: tuple[ArrayLike, ArrayLike] | None = None,
        *,
        rounds: int = 50,
        loss: Callable[[jax.Array, jax.Array], jax.Array] | None = None,
    ) -> Ensemble:
        """The members that greedy selection chooses on validation data, weighted by how often they were chosen.

        Each round adds the member, perhaps again, with which the ensemble's loss is lowest; the best round counts
        (Caruana et al. 2004).

        Args:
          data: inputs ``[n, ...]`` and targets ``[n, ...]``; the task's validation data if None. Members were compared
            on those already: a set of its own gives an honest estimate of what is gained.
          rounds: how many are added.
          loss: ``loss(predictions, targets)``, a scalar or a value for each row; by default cross-entropy of the
            probabilities, without the labels that the task ignores, or squared error.

        Raises:
          InvalidArgument: no data, inputs and targets of unlike length, or no loss where the task names none.
        """
        check_integer("rounds", rounds)
        base = _base(self.trainable)
        data = getattr(base, "valid", None) if data is None else data
        if not isinstance(data, (tuple, list)) or len(data) != 2:
            why = ", as the objective has no validation data" if data is None else ""
            raise invalid("data", f"a pair (inputs, targets){why}", data)
        outputs, targets = self.outputs(data[0]), as_arrays(data[1])
        if count(targets) != outputs.shape[1]:
            raise invalid("data", f"as many targets as there are inputs, {outputs.shape[1]}", count(targets))
        if loss is None:
            losses = {"classification": _log_loss, "regression": _squared}
            if getattr(base, "task", None) not in losses:
                raise invalid("loss", "a function loss(predictions, targets), as the objective names no task", None)
            loss = losses[base.task]
            outputs, targets = those_that_count(outputs, targets, base.labels)
        elif not callable(loss):
            raise invalid("loss", "a function loss(predictions, targets), or None", loss)
        counts, _ = _greedy(outputs, targets, loss=loss, rounds=rounds)
        kept = np.flatnonzero(np.asarray(counts))
        weights = np.asarray(counts)[kept] / np.asarray(counts).sum()
        return self._some(kept, weights)

    def _some(self, members: np.ndarray, weights: ArrayLike) -> Ensemble:
        states = []
        for rows, state in zip(self.rows, self.states):
            places = np.flatnonzero(np.isin(np.asarray(rows), members))
            if len(places):
                states.append(jax.tree.map(lambda x, places=places: x[places], state))
        return Ensemble(self.trainable, self.space, np.asarray(self.units)[members], weights, states, self.link)

    @with_transfers
    def save(self, path: str | os.PathLike[str], *, format: str | None = None) -> Path:
        """Write hyperparameters, weights and states into a folder, see `jhpo.save_states`; `load` reads them."""
        folder = Path(path).resolve()
        for number, state in enumerate(self.states):
            save_states(folder / f"group-{number}", state, format=format)
        facts: dict[str, Any] = {
            "space": self.space.to_json(),
            "units": self.units.tolist(),
            "weights": self.weights.tolist(),
        }
        facts["folds"] = self.trainable.folds if isinstance(self.trainable, CrossValidated) else 1
        write_whole(folder / _FACTS, json.dumps(facts).encode())  # last: what has it is whole
        return folder

    @classmethod
    @with_transfers
    def load(cls, path: str | os.PathLike[str], objective: Any, space: Space) -> Ensemble:
        """The ensemble in a folder that `save` wrote.

        Args:
          path: the folder.
          objective: the trainable that was tuned; nothing is trained.
          space: the one that was searched.

        Raises:
          StorageError: no ensemble, a damaged one, or one of another model.
          ChangedSpace: another space.
        """
        folder = Path(path).resolve()
        try:
            facts = json.loads((folder / _FACTS).read_text())
            units, weights = np.asarray(facts["units"], jnp.result_type(float)), facts["weights"]
            stored, folds = facts["space"], int(facts["folds"])
        except FileNotFoundError as error:
            raise StorageError(f"{folder} holds no ensemble") from error
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise StorageError(f"the ensemble in {folder} is damaged: {error!r}") from error
        if stored != space.to_json():
            raise ChangedSpace(f"the ensemble in {folder} was found in another space")
        trainable, states = as_trainable(in_folds(objective, folds)), []

        def blank(static: StaticValues, unit: jax.Array) -> State:
            return trainable.init(space.from_unit(unit, static.values), jax.random.key(0))

        for number, (static, rows) in enumerate(_groups(space, units)):
            make = jax.vmap(functools.partial(blank, static))
            states.append(load_states(folder / f"group-{number}", jax.eval_shape(make, units[rows])))
        return cls(trainable, space, units, weights, states)


@with_transfers
def ensemble_of(trainable: Any, space: Space, units: np.ndarray, states: Sequence[State]) -> Ensemble:
    """An ensemble of equal weights of members ``float[k, d]`` and their states, one by one."""
    groups = [[pack(states[row]) for row in rows] for _, rows in _groups(space, units)]
    stacked = [jax.tree.map(lambda *xs: jnp.stack(xs), *group) for group in groups]
    return Ensemble(trainable, space, units, np.full(len(units), 1.0 / len(units)), stacked)


def _all_outputs(ensemble: Ensemble, x: jax.Array) -> jax.Array:
    folds = isinstance(ensemble.trainable, CrossValidated)
    parts = []
    for static, rows, states in zip(ensemble.statics, ensemble.rows, ensemble.states):

        def one(unit: jax.Array, state: State, static: StaticValues = static) -> jax.Array:
            hp = ensemble.space.from_unit(unit, static.values)
            outputs = ensemble.link(ensemble.trainable.predict(hp, release(state), x))
            return outputs.mean(axis=0) if folds else outputs

        parts.append(jax.vmap(lapack_in_turn(one))(ensemble.units[rows], pack(states)))
    order = jnp.argsort(jnp.concatenate(ensemble.rows))
    return jnp.concatenate(parts)[order]


@programs()
def _outputs(ensemble: Ensemble, x: jax.Array) -> jax.Array:
    return _all_outputs(ensemble, x)


@programs()
def _predict(ensemble: Ensemble, x: jax.Array) -> jax.Array:
    outputs = _all_outputs(ensemble, x)
    return jnp.tensordot(ensemble.weights.astype(outputs.dtype), outputs, axes=1)


@programs("loss", "rounds")
def _greedy(
    outputs: jax.Array, targets: jax.Array, *, loss: Callable[..., jax.Array], rounds: int
) -> tuple[jax.Array, jax.Array]:
    return greedy_counts(outputs, lambda mean: jnp.mean(loss(mean, targets)), rounds)


def _log_loss(predicted: jax.Array, targets: jax.Array) -> jax.Array:
    """Negative logarithm of the probability of each label."""
    labels = targets.reshape(predicted.shape[:-1]).astype(jnp.int32)
    chosen = jnp.take_along_axis(predicted, labels[..., None], axis=-1)[..., 0]
    return -jnp.log(jnp.maximum(chosen, jnp.finfo(predicted.dtype).tiny))


def _squared(predicted: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.square(predicted - targets.reshape(predicted.shape).astype(predicted.dtype))
