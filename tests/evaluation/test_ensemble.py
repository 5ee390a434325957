"""Ensembles of trained members: means of probabilities, greedy selection against a plain loop, and checkpoints."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from scipy.special import softmax

import jhpo
from jhpo.kernels.ensemble import greedy_counts
from jhpo.training import checkpoint

RNG = np.random.default_rng(0)
X = RNG.normal(size=(48, 3)).astype(np.float32)
LABELS = (X[:, 0] > 0).astype(np.int32) + (X[:, 1] > 0.3)
SPACE = jhpo.Space({"lr": jhpo.Float(1e-2, 1.0, log=True), "width": jhpo.Choice([2, 4], static=True)})


class Net(nn.Module):
    """A width that is static."""

    width: int

    @nn.compact
    def __call__(self, x):
        return nn.Dense(3)(nn.relu(nn.Dense(self.width)(x)))


def task(**options):
    data = {"train": (X[:32], LABELS[:32]), "valid": (X[32:], LABELS[32:])} | options
    return jhpo.supervised(NET, TX, batch_size=8, steps=5, **data)


NET = lambda hp: Net(hp["width"])  # noqa: E731
TX = lambda hp: optax.sgd(hp["lr"])  # noqa: E731


def plain_selection(outputs, targets, rounds):
    """Caruana's loop, one model after another."""
    chosen: list[int] = []
    losses: list[float] = []
    counts: list[np.ndarray] = []
    for _ in range(rounds):
        found = []
        for k in range(len(outputs)):
            mean = np.mean([outputs[i] for i in [*chosen, k]], axis=0)
            found.append(-np.log(mean[np.arange(len(targets)), targets]).mean())
        chosen.append(int(np.argmin(found)))
        losses.append(min(found))
        counts.append(np.bincount(chosen, minlength=len(outputs)))
    return counts[int(np.argmin(losses))], losses


@pytest.mark.slow
def test_members_of_several_static_groups_vote_and_are_stored(tmp_path, monkeypatch) -> None:
    result = jhpo.minimize(task(), SPACE, jhpo.RandomSearch(8), budget=8, seed=1)
    ensemble, top = result.ensemble(5), result.top(5)
    assert len(ensemble) == 5 and len(ensemble.states) == 2, "both widths are among the best"
    each = [softmax(np.asarray(Net(t.params["width"]).apply({"params": t.state.params}, X)), axis=-1) for t in top]
    np.testing.assert_allclose(ensemble.outputs(X), each, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(ensemble.predict(X), np.mean(each, axis=0), rtol=1e-4, atol=1e-6)
    with pytest.raises(jhpo.InvalidArgument, match="state: expected members of one static group"):
        ensemble.state  # noqa: B018
    # greedy selection on the task's validation data and on other data
    counts, losses = plain_selection([e[32:] for e in each], LABELS[32:], 12)
    chosen = ensemble.selected(rounds=12)
    np.testing.assert_allclose(chosen.weights, counts[counts > 0] / counts.sum(), rtol=1e-6)
    assert chosen.params == [p for p, count in zip(ensemble.params, counts) if count]
    predicted = np.asarray(chosen.predict(X[32:]))
    np.testing.assert_allclose(-np.log(predicted[np.arange(16), LABELS[32:]]).mean(), min(losses), rtol=1e-4)
    assert min(losses) <= losses[0] == pytest.approx(min(plain_selection([e[32:]], LABELS[32:], 1)[1][0] for e in each))
    own = ensemble.selected((X, LABELS), rounds=3, loss=lambda p, y: (p.argmax(-1) != y).astype(jnp.float32))
    assert 1 <= len(own) <= 3
    # a study of the same search gives the same ensemble, and both kinds of checkpoint hold all of it
    study = jhpo.Study(SPACE, jhpo.RandomSearch(8), seed=1)
    study.optimize(task(), budget=8)
    np.testing.assert_array_equal(study.ensemble(task(), 5).predict(X), ensemble.predict(X))
    for format in ("orbax", "msgpack", None):
        if format is None:
            monkeypatch.setattr(checkpoint.importlib.util, "find_spec", lambda name: None)
        folder = chosen.save(tmp_path / str(format), format=format)
        np.testing.assert_array_equal(jhpo.Ensemble.load(folder, task(), SPACE).predict(X), chosen.predict(X))
    assert (tmp_path / "None" / "group-0" / "states.msgpack").exists()
    with pytest.raises(jhpo.ChangedSpace, match="another space"):
        jhpo.Ensemble.load(folder, task(), jhpo.Space({"lr": jhpo.Float(0.1, 1.0)}))
    with pytest.raises(jhpo.StorageError, match="holds no ensemble"):
        jhpo.Ensemble.load(tmp_path / "nowhere", task(), SPACE)
    (folder / "group-0" / "states.msgpack").write_bytes(b"\x81\xa1")
    with pytest.raises(jhpo.StorageError, match="is damaged"):
        jhpo.Ensemble.load(folder, task(), SPACE)


def test_folds_make_one_model_each() -> None:
    space = jhpo.Space({"lr": jhpo.Float(1e-2, 1.0, log=True)})
    line = (lambda key, x: {"w": jax.random.normal(key, (3, 1))}, lambda p, x: x @ p["w"])
    folded = jhpo.supervised(
        line, lambda hp: optax.sgd(hp["lr"]), "regression", train=(X, X[:, :1]), batch_size=8, steps=3
    )
    result = jhpo.minimize(folded, space, jhpo.RandomSearch(4), budget=4, folds=3)
    ensemble = result.ensemble(2)
    assert ensemble.state.params["w"].shape == (2, 3, 3, 1) and ensemble.hp["lr"].shape == (2,)
    expected = X @ np.asarray(ensemble.state.params["w"]).mean(axis=(0, 1))
    np.testing.assert_allclose(ensemble.predict(X), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(jhpo.InvalidArgument, match="data: expected a pair"):
        ensemble.selected()
    assert len(ensemble.selected((X, X[:, :1]))) in (1, 2)


def test_selection_never_adds_a_model_whose_loss_is_nan(x64) -> None:
    outputs = jnp.asarray([[jnp.nan, 1.0], [0.2, 0.2], [0.9, 0.9]])
    counts, losses = greedy_counts(outputs, lambda mean: jnp.square(mean - 0.55).sum(), 6)
    assert counts.tolist()[0] == 0 and counts.dtype == jnp.int32 and losses.dtype == jnp.float64
    np.testing.assert_allclose(losses.min(), 0.0, atol=1e-12)


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda path: jhpo.save_states(path, 1.0, format="zip"), jhpo.InvalidArgument, "format: expected one of"),
        (lambda path: [jhpo.save_states(path, 1.0) for _ in range(2)], jhpo.StorageError, "holds a checkpoint already"),
        (
            lambda path: jhpo.save_states(path, {"step": np.int64(2**40)}),
            jhpo.InvalidArgument,
            "states: expected integers that fit into int32",
        ),
        (lambda path: jhpo.load_states(path, 1.0), jhpo.StorageError, "holds no checkpoint"),
        (
            lambda path: jhpo.load_states(jhpo.save_states(path, jnp.ones(2), format="msgpack"), jnp.ones(3)),
            jhpo.StorageError,
            r"array 0 is float32\[2\], expected float32\[3\]",
        ),
        (
            lambda path: jhpo.load_states(jhpo.save_states(path, [1.0, 2.0], format="msgpack"), [1.0]),
            jhpo.StorageError,
            "has 2 arrays, and the state to be read 1",
        ),
    ],
)
def test_checkpoints_that_cannot_be(call, error, message, tmp_path) -> None:
    with pytest.raises(error, match=message):
        call(tmp_path / "checkpoint")


def test_an_objective_that_cannot_predict() -> None:
    space = jhpo.Space({"lr": jhpo.Float(1e-2, 1.0)})
    result = jhpo.minimize(lambda hp: hp["lr"], space, jhpo.RandomSearch(2), budget=2)
    with pytest.raises(jhpo.InvalidArgument, match="objective: expected a trainable with predict"):
        result.ensemble(2)


@pytest.mark.parametrize("ignore", [-1, -100, 255])
def test_selection_leaves_out_the_labels_that_the_task_ignores(ignore: int) -> None:
    x = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int32) + (x[:, 1] > 0)
    y[::2] = ignore
    model = (lambda key, x: {"w": 0.1 * jax.random.normal(key, (4, 3))}, lambda p, x: x @ p["w"])
    task = jhpo.supervised(model, lambda hp: optax.sgd(hp["lr"]), train=(x, y), valid=(x, y), ignore=ignore, steps=30)
    space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})
    ensemble = jhpo.minimize(task, space, jhpo.RandomSearch(8), budget=8).ensemble(8)
    live = y != ignore
    found, expected = ensemble.selected(), ensemble.selected((x[live], y[live]))
    assert len(found) == len(expected) < 8
    np.testing.assert_array_equal(found.weights, expected.weights)
    np.testing.assert_array_equal(found.units, expected.units)
    with pytest.raises(jhpo.InvalidArgument, match="data: expected as many targets as there are inputs, 60, got 10"):
        ensemble.selected((x, y[:10]))


def test_arguments_of_a_selection_and_what_cannot_be_written(tmp_path) -> None:
    x = np.ones((8, 1), np.float32)
    line = (lambda key, x: {"w": jnp.zeros((1,))}, lambda p, x: x @ p["w"])
    task = jhpo.supervised(
        line, lambda hp: optax.sgd(hp["lr"]), "regression", train=(x, x[:, 0]), valid=(x, x[:, 0]), steps=2
    )
    space = jhpo.Space({"lr": jhpo.Float(1e-3, 0.1)})
    ensemble = jhpo.minimize(task, space, jhpo.RandomSearch(2), budget=2).ensemble(2)
    for data in (x, (x, x, x)):
        with pytest.raises(jhpo.InvalidArgument, match=r"data: expected a pair \(inputs, targets\), got"):
            ensemble.selected(data)
    with pytest.raises(jhpo.InvalidArgument, match=r"loss: expected a function loss\(predictions, targets\), or None"):
        ensemble.selected(loss="squared")
    (tmp_path / "best" / "ensemble.json").mkdir(parents=True)
    with pytest.raises(jhpo.StorageError, match=r"cannot write .*ensemble.json: Is a directory"):
        ensemble.save(tmp_path / "best")
