"""Folds as an axis: what a plain loop over the splits of scikit-learn gives, in every kind of search, and resumed."""

from __future__ import annotations

import dataclasses
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, StratifiedKFold, cross_val_score

import jhpo
from jhpo.evaluation.members import evaluate_units
from jhpo.keys import trial_keys
from jhpo.strategies.base import Request
from jhpo.training.crossvalidation import in_folds
from jhpo.training.trainable import train_and_evaluate
from tests.selection import slow_except

RNG = np.random.default_rng(0)
X = RNG.normal(size=(41, 3)).astype(np.float32)
Y = (X @ np.array([1.0, -2.0, 0.5], np.float32)).astype(np.float32)
LABELS = np.array([0, 2, 1, 1, 0] * 8 + [2], np.int32)
LINE = (lambda key, x: {"w": 0.1 * jax.random.normal(key, (3,))}, lambda p, x: x @ p["w"])
THREE = (lambda key, x: {"w": 0.1 * jax.random.normal(key, (3, 3))}, lambda p, x: x @ p["w"])
SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 0.3, log=True)})
ROOT, ROOT_3 = jax.random.key(0), jax.random.key(3)


def sgd(hp):
    return optax.sgd(hp["lr"], momentum=0.5)


def regression(**options):
    return jhpo.supervised(LINE, sgd, "regression", train=(X, Y), **{"batch_size": 8, "steps": 6} | options)


def classification(**options):
    return jhpo.supervised(THREE, sgd, train=(X, LABELS), **{"batch_size": 8, "steps": 6} | options)


def rows_of(folds: jhpo.training.folds.FoldRows) -> list[tuple[list[int], list[int]]]:
    count = len(folds.train)
    sides = []
    for rows, number in ((folds.train, folds.train_count), (folds.valid, folds.valid_count)):
        sizes = np.full(count, rows.shape[1]) if number is None else np.asarray(number)
        sides.append([rows[k, :size].tolist() for k, size in enumerate(sizes.tolist())])
    return list(zip(*sides))


def test_folds_are_those_of_scikit_learn_and_dealt_out_alike() -> None:
    for count in (2, 5):
        pairs = [(a.tolist(), b.tolist()) for a, b in KFold(count).split(X)]
        assert rows_of(jhpo.k_folds(41, count, ordered=True)) == pairs
        pairs = [(a.tolist(), b.tolist()) for a, b in StratifiedKFold(count).split(X, LABELS)]
        assert rows_of(jhpo.k_folds(41, count, labels=LABELS, ordered=True)) == pairs
        dealt = rows_of(jhpo.k_folds(41, count, labels=LABELS, seed=3))
        assert sorted(row for _, valid in dealt for row in valid) == list(range(41))
        assert all(sorted(train + valid) == list(range(41)) for train, valid in dealt)
        shares = np.array([np.bincount(LABELS[valid], minlength=3) for _, valid in dealt])
        assert (np.ptp(shares, axis=0) <= 1).all() and (np.ptp(shares.sum(axis=1)) <= 1)
    assert dealt != rows_of(jhpo.k_folds(41, 5, labels=LABELS, seed=4))
    assert dealt == rows_of(jhpo.k_folds(41, 5, labels=LABELS, seed=3))


def plain_loop(make, pairs, data, lr, ids):
    """Values ``[member, fold]`` of trainings one by one, each on arrays of its own."""
    x, y = data
    columns = []
    for k, (train, valid) in enumerate(pairs):
        one = make(train=(x[train], y[train]), valid=(x[valid], y[valid]))
        keys = jax.vmap(lambda key, k=k: jax.random.fold_in(key, k))(trial_keys(ROOT, ids))
        each = jax.vmap(lambda rate, key, one=one: train_and_evaluate(one, {"lr": rate}, key).value)
        columns.append(np.asarray(jax.jit(each)(jnp.asarray(lr, jnp.float32), keys)))
    return np.stack(columns, axis=1)


@pytest.mark.parametrize(
    "kind",
    ["whole batches", "metric of the whole", *(pytest.param(k, marks=pytest.mark.slow) for k in ("classes", "sizes"))],
)
def test_a_search_is_a_plain_loop_over_the_folds(kind, count_compilations) -> None:
    model, loss, data = (
        (LINE, "regression", (X, Y)) if kind == "whole batches" else (THREE, "classification", (X, LABELS))
    )
    options = {
        "classes": {"batch_size": 8, "epochs": 2, "independent_batches": True},
        "whole batches": {"batch_size": None, "steps": 5},
        "metric of the whole": {"batch_size": 8, "steps": 5, "metric": "f1", "ignore": 7, "eval_batch": 6},
        "sizes": {"batch_size": lambda hp: jnp.where(hp["lr"] > 0.02, 4, 7), "max_batch_size": 8, "steps": 5},
    }[kind]

    def make(**more):
        return jhpo.supervised(model, sgd, loss, **options, **more)

    splitter = KFold(2) if kind == "whole batches" else StratifiedKFold(2)
    pairs = list(splitter.split(*data))
    search = jhpo.maximize if kind == "metric of the whole" else jhpo.minimize
    task = make(train=data, splits="ordered")
    with count_compilations() as seen:
        result = search(task, SPACE, jhpo.RandomSearch(6), budget=6, folds=2)
    assert sum(name.endswith("evaluate_program)") for name in seen.names) <= 1
    lr = [SPACE.decode(unit)["lr"] for unit in result.history.units]
    each = plain_loop(make, pairs, data, lr, result.history.ids)
    np.testing.assert_allclose(result.history.value, each.mean(axis=1), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(result.history.variance, each.var(axis=1, ddof=1) / 2, rtol=2e-3, atol=1e-9)
    assert len(np.unique(each)) > 2, "folds and members differ"
    if kind == "metric of the whole":
        # the splits themselves, as they come from scikit-learn; states of both folds, from which outputs follow
        jax.tree.map(
            np.testing.assert_array_equal,
            in_folds(make(train=data, splits=pairs), 2).parts,
            in_folds(task, 2).parts,
        )
        (best,) = result.top(1)
        assert best.state.params["w"].shape == (2, 3, 3)
        outputs = in_folds(task, 2).predict(best.params, best.state, jnp.asarray(X))
        np.testing.assert_allclose(outputs[1], X @ np.asarray(best.state.params["w"][1]), rtol=1e-5, atol=1e-6)


@dataclasses.dataclass(frozen=True, eq=False)
class RidgeRegression:
    """A trainable of one's own, that is no pytree."""

    train: object = None
    valid: object = None
    steps = 0

    def fold_parts(self, folds: int):
        return jhpo.k_folds(40, folds, ordered=True)

    def on_fold(self, part):
        return RidgeRegression(part.train, part.valid)

    def init(self, hp, key):
        x, y = jnp.asarray(X)[self.train], jnp.asarray(Y + X[:, 0] ** 2)[self.train]
        return {"w": jnp.linalg.solve(x.T @ x + hp["l2"] * jnp.eye(3), x.T @ y), "name": "ridge"}

    def step(self, hp, state, t):
        return state

    def evaluate(self, hp, state):
        return jnp.mean((jnp.asarray(X)[self.valid] @ state["w"] - jnp.asarray(Y + X[:, 0] ** 2)[self.valid]) ** 2)


L2 = jhpo.Space({"l2": jhpo.Float(1e-2, 1e2, log=True)})


class Noisy(RidgeRegression):
    """Another value for every key."""

    def on_fold(self, part):
        return Noisy(part.train, part.valid)

    def init(self, hp, key):
        return super().init(hp, key) | {"noise": 0.1 * jax.random.normal(key)}

    def evaluate(self, hp, state):
        return super().evaluate(hp, state) + state["noise"]


def test_replicates_folds_gradients_and_pure_runs() -> None:
    task = in_folds(Noisy(), 4)
    units, keys = jnp.asarray([[0.3], [0.7]], jnp.float32), trial_keys(ROOT, jnp.arange(2))

    @jax.jit
    def several(units):
        twice = evaluate_units(task, L2, units, keys, replicates=2)
        again = jax.vmap(lambda r: jax.vmap(lambda k: jax.random.fold_in(k, r))(keys))(jnp.arange(2, dtype=jnp.uint32))
        apart = jax.vmap(lambda keys: evaluate_units(task, L2, units, keys).value)(again)
        return twice, apart, evaluate_units(task, L2, units, keys, Request(grad=True))

    twice, apart, graded = several(units)
    np.testing.assert_allclose(twice.value, apart.mean(axis=0), rtol=1e-5)
    # eight values of one member, whose noise alone differs between the two trainings of a fold
    assert twice.variance.shape == (2,) and (np.asarray(twice.variance) > 0.1**2 / 8 / 10).all()
    step = 1e-2
    ahead, behind = (several(units + s)[2] for s in (step, -step))
    np.testing.assert_allclose(graded.grad[:, 0], (ahead.value - behind.value) / (2 * step), rtol=2e-2, atol=1e-3)
    assert graded.variance.shape == (2,)
    _, trace = jhpo.run(jhpo.RandomSearch(4), Noisy(), L2, 1, ROOT, folds=4)
    same = jhpo.minimize(Noisy(), L2, jhpo.RandomSearch(4), budget=4, folds=4)
    np.testing.assert_allclose(trace.value[0], same.history.value, rtol=1e-5)


def test_a_state_of_folds_is_not_that_of_one_training() -> None:
    task = regression()
    (best,) = (result := jhpo.minimize(task, SPACE, jhpo.RandomSearch(2), budget=2, folds=3)).top(1)
    for use in (
        lambda state: task.predict(best.params, state, X),
        lambda state: task.trained_model(best.params, state),
    ):
        with pytest.raises(jhpo.InvalidArgument, match=r"^state: .*, got .*those of 3 folds.*result\.ensemble\(1\)"):
            use(best.state)
    each = jax.vmap(lambda state: task.predict(best.params, state, X))(best.state)
    np.testing.assert_allclose(result.ensemble(1).predict(X), each.mean(axis=0), rtol=1e-5)


def test_a_trainable_of_ones_own_is_cross_validated() -> None:
    result = jhpo.minimize(RidgeRegression(), L2, jhpo.SobolSearch(4), budget=4, folds=4)
    for unit, value in zip(result.history.units, result.history.value):
        model = Ridge(L2.decode(unit)["l2"], fit_intercept=False)
        target = Y + X[:, 0] ** 2
        scores = cross_val_score(model, X[:40], target[:40], scoring="neg_mean_squared_error", cv=KFold(4))
        np.testing.assert_allclose(value, -scores.mean(), rtol=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the solution of the equations may differ in the last digit
        assert result.top(1)[0].state["w"].shape == (4, 3)


@pytest.mark.parametrize("kind", slow_except({"pso"}, ["pso", "halving"]))
def test_a_study_of_folds_is_resumed(kind, tmp_path) -> None:
    strategy: jhpo.Strategy
    if kind == "pso":
        strategy, task, space, budget = jhpo.PSO(4), Noisy(), L2, 8
    else:
        strategy, task, space, budget = jhpo.SuccessiveHalving(4, eta=2, min_steps=3), regression(), SPACE, 4
    whole = jhpo.Study(space, strategy, folds=2, seed=1)
    whole.optimize(task, budget)
    path = tmp_path / "study.db"
    with jhpo.Study(space, strategy, path, folds=2, seed=1) as study:
        study.optimize(task, generations=1)
    with pytest.raises(jhpo.InvalidArgument, match="folds: expected that of the stored study, 2, got 3"):
        jhpo.Study(space, strategy, path, folds=3, seed=1, resume=True)
    with jhpo.Study.load(path) as study:
        assert study.folds == 2
        study.optimize(task, budget)
        values = [one.history.table.value.array[:budget].tolist() for one in (study, whole)]
        assert values[0] == values[1] and len(values[0]) == budget
        if kind == "halving":
            (state,) = study.states(task, [study.best])
            assert state.params["w"].shape == (2, 3)
        else:
            alone = jhpo.minimize(task, space, strategy, budget=budget, folds=2, seed=1)
            np.testing.assert_array_equal(alone.history.value, values[1])


LACKING = [(np.flatnonzero(LABELS < 2), np.flatnonzero(LABELS == 2)), (np.arange(20), np.arange(20, 41))]


@pytest.mark.parametrize(
    "make, folds, message",
    [
        (lambda: lambda hp: hp["lr"], 3, "folds: expected a trainable with data to cut.*got a function"),
        (lambda: jhpo.host(lambda p: p["lr"]), 3, "folds: expected 1 with a host objective"),
        (lambda: regression(valid=(X, Y)), 3, "folds: expected 1 beside validation data"),
        (lambda: regression(), 0, "folds: expected an integer >= 1, got 0"),
        (lambda: regression(), 42, "folds: expected at most 41, the number of rows, got 42"),
        (lambda: classification(), 10, "folds: expected at most 9, the rows of class 2, which would be missing"),
        (lambda: classification(splits=LACKING), 2, "folds: expected every class.*none of class 2 in fold 0"),
        (lambda: classification(splits=LACKING), 3, "folds: expected 2, as many as there are splits, got 3"),
        (lambda: regression(batch_size=30), 2, "batch_size: expected at most 20, the training rows of the smallest"),
        (lambda: regression(splits=[([0, 1], [1, 2])]), 2, "no row in both parts.*row 1"),
        (lambda: regression(splits=[([0, 41], [2])]), 2, r"splits\[0\]: expected distinct row numbers below 41"),
        (lambda: regression(splits=5), 2, "splits: expected None, 'ordered', or pairs.*, got 5"),
        (lambda: regression(splits="sorted"), 2, "splits: expected None, 'ordered', or pairs"),
        (lambda: regression(valid=(X, Y), splits="ordered"), 2, "splits: expected None beside validation data"),
        (lambda: regression(), 1, "valid: expected validation data, or folds="),
        (
            lambda: jhpo.supervised(LINE, sgd, lambda o, y: jnp.mean((o - y) ** 2), train=(X, Y), batch_size=8),
            2, "loss: expected a value for each example, as folds differ in size",
        ),
        (
            lambda: classification(metrics={"m": jhpo.metrics.whole(lambda o, y: jnp.float32(1.0))}),
            2, "metrics: m: expected a function .outputs, targets, live., as folds differ in size",
        ),
    ],
)  # fmt: skip
def test_folds_that_cannot_be(make, folds, message, count_compilations) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=message):
        jhpo.minimize(make(), SPACE, jhpo.RandomSearch(2), budget=2, folds=folds)


def test_data_inside_a_program_cannot_be_cut() -> None:
    with pytest.raises(jhpo.InvalidArgument, match="folds: expected data that are known outside of jit"):
        jax.jit(lambda x: in_folds(jhpo.supervised(LINE, sgd, "regression", train=(x, Y), batch_size=8), 2).steps)(X)


def test_convolutions_are_trained_in_folds() -> None:
    """The gradient of a convolution is batched twice, over members and folds."""
    x = np.random.default_rng(0).normal(size=(24, 4, 4, 1)).astype(np.float32)

    def init(key, x):
        return {"w": 0.1 * jax.random.normal(key, (2, 2, 1, 3))}

    def apply(params, x):
        numbers = ("NHWC", "HWIO", "NHWC")
        out = jax.lax.conv_general_dilated(x, params["w"], (1, 1), "VALID", dimension_numbers=numbers)
        return jnp.tanh(out).mean(axis=(1, 2, 3))

    task = jhpo.supervised(
        (init, apply), lambda hp: optax.sgd(hp["lr"]), "regression", train=(x, x[:, 0, 0, 0]), batch_size=4, steps=2
    )
    space = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})
    result = jhpo.minimize(task, space, jhpo.RandomSearch(2), budget=2, folds=3)
    assert np.isfinite(result.history.value).all()


def test_arguments_of_k_folds_are_named() -> None:
    with pytest.raises(jhpo.InvalidArgument, match="rows: expected"):
        jhpo.k_folds(4.0, 2)  # type: ignore[arg-type]
    for seed in (1.5, "a", None):
        with pytest.raises(jhpo.InvalidArgument, match="seed: expected a key"):
            jhpo.k_folds(4, 2, seed=seed)  # type: ignore[arg-type]
    assert jhpo.k_folds(4, 2, seed=3).valid.tolist() == jhpo.k_folds(4, 2, seed=ROOT_3).valid.tolist()
    for labels in (np.zeros(5, int), np.zeros(3, int), np.zeros((4, 1), int)):
        with pytest.raises(jhpo.InvalidArgument, match=r"labels: expected an array of shape \(4,\)"):
            jhpo.k_folds(4, 2, labels=labels)


@pytest.mark.parametrize(("rows", "folds"), [(70, 4), (79, 5), (127, 2)])
def test_the_usual_batch_fits_folds_that_differ_by_a_row(rows: int, folds: int) -> None:
    """The largest fold has 53, 64 or 64 rows, the smallest one less: all rows of a fold that count are its batch."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 3)).astype(np.float32)
    task = jhpo.supervised(
        jhpo.masked_mlp([4], [4], outputs=1),
        lambda hp: optax.sgd(hp["lr"]),
        train=(x, x[:, 0]),
        steps=2,
        loss="regression",
    )
    space = jhpo.Space({"lr": jhpo.Float(1e-3, 0.1, log=True)})
    value = jhpo.minimize(task, space, "random(population=2)", budget=2, folds=folds).value
    whole = dataclasses.replace(task, batch_size=rows, max_batch_size=rows, usual_batch=False)
    assert value == pytest.approx(jhpo.minimize(whole, space, "random(population=2)", budget=2, folds=folds).value)


def test_rows_to_ignore_are_no_class_of_the_folds() -> None:
    """One row that does not count cannot be in each fold; those of a class have to be."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 3)).astype(np.float32), np.arange(60) % 3
    y[5] = -1
    assert jhpo.k_folds(60, 3, labels=y, ignore=-1).valid.shape == (3, 20)
    with pytest.raises(jhpo.InvalidArgument, match="the rows of class -1"):
        jhpo.k_folds(60, 3, labels=y)
    task = jhpo.supervised(
        jhpo.masked_mlp([4], [4], outputs=3), lambda hp: optax.sgd(hp["lr"]), train=(x, y), ignore=-1, steps=2
    )
    space = jhpo.Space({"lr": jhpo.Float(1e-3, 0.1, log=True)})
    assert np.isfinite(jhpo.minimize(task, space, "random(population=2)", budget=2, folds=3).value)
    y[y == 2] = np.where(np.arange((y == 2).sum()) < 2, 2, 1)
    with pytest.raises(jhpo.InvalidArgument, match="at most 2, the rows of class 2"):
        jhpo.k_folds(60, 3, labels=y, ignore=-1)
