"""Measures by name against scikit-learn, in programs and on the host; and the directions they are tuned in."""

from __future__ import annotations

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import sklearn.metrics as sk

import jhpo
from jhpo import InvalidArgument
from jhpo.training.metrics import NAMES, Metric, measure, named, of_whole
from jhpo.training.supervised import Supervised

LABELS = [n for n in NAMES if n not in ("r2", "mae", "mse", "rmse")]
NUMBERS = ("r2", "mae", "mse", "rmse")


def expected(name: str, logits: np.ndarray, labels: np.ndarray) -> float:
    """scikit-learn's figure, in float64."""
    logits = logits.astype(np.float64)
    classes, predicted = logits.shape[1], logits.argmax(axis=1)
    if name == "error":
        return 1.0 - sk.accuracy_score(labels, predicted)
    if name == "accuracy":
        return sk.accuracy_score(labels, predicted)
    if name == "balanced_accuracy":
        return sk.balanced_accuracy_score(labels, predicted)
    if name == "auc":
        if classes == 2:
            return sk.roc_auc_score(labels, logits[:, 1] - logits[:, 0])
        return sk.roc_auc_score(labels, np.asarray(jax.nn.softmax(logits, axis=1)), multi_class="ovr")
    kind, _, average = name.partition("_")
    average = average or ("binary" if classes == 2 else "macro")
    return getattr(sk, f"{kind}_score")(labels, predicted, average=average, zero_division=0)


def problem(classes: int, n: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Logits and labels: with ties, with rare classes, or with a class that is neither there nor predicted."""
    random = np.random.default_rng(classes * n)
    logits = random.normal(size=(n, classes)).astype(np.float32)
    labels = random.integers(0, classes, n)
    if kind == "ties":
        logits = logits[random.integers(0, n // 3, n)]
    if kind == "rare":
        labels = np.where(random.random(n) < 0.1, labels, 0)
    labels[:classes] = np.arange(classes)
    if kind == "absent":
        labels, logits[:, -1] = labels % max(classes - 1, 1), -50.0
    return logits, labels


def compute(names: list[str], logits: np.ndarray, labels: np.ndarray, live: np.ndarray | None) -> dict[str, jax.Array]:
    """All measures in one program; those of rows as their mean over the live ones."""

    def one(measured: Metric, z: jax.Array, y: jax.Array) -> jax.Array:
        if measured.whole:
            return of_whole("x", measured, z, y, None if live is None else jnp.asarray(live))
        values = measured.function(z, y)
        return values.mean() if live is None else jnp.where(live, values, 0.0).sum() / int(live.sum())

    measures = named(names, "loss", None)
    return jax.jit(lambda z, y: {n: one(m, z, y) for n, m in measures.items()})(logits, labels)


@pytest.mark.parametrize("kind", ["plain", "ties", "rare", "absent"])
@pytest.mark.parametrize(("classes", "n"), [(2, 9), (2, 300), (3, 60), (7, 200)])
@pytest.mark.filterwarnings("ignore:A single label was found", "ignore:.*y_pred contains classes not in y_true")
def test_measures_of_labels_are_those_of_scikit_learn(classes: int, n: int, kind: str) -> None:
    logits, labels = problem(classes, n, kind)
    names = [n for n in LABELS if not (n.endswith("_binary") and classes != 2) and (n, kind) != ("auc", "absent")]
    inside = compute(names, logits, labels.astype(np.int32), None)
    # rows that do not count have labels and logits as well
    wrong = np.concatenate([logits, 9.0 * np.eye(classes, dtype=np.float32)])
    marked = np.concatenate([labels, np.zeros(classes)]).astype(np.int32)
    without = compute(names, wrong, marked, np.arange(n + classes) < n)
    for name in names:
        right = pytest.approx(expected(name, logits, labels), rel=2e-6, abs=2e-6)
        assert inside[name] == right, name
        assert without[name] == right, name
        assert measure(name, logits, labels) == right, name
        if name != "auc" and kind != "absent":
            assert measure(name, logits.argmax(axis=1), labels) == right, name


@pytest.mark.parametrize("shape", [(5,), (60,), (60, 1), (200, 3)])
def test_measures_of_numbers_are_those_of_scikit_learn(shape: tuple[int, ...]) -> None:
    random = np.random.default_rng(1)
    targets = (100.0 + 3.0 * random.normal(size=shape)).astype(np.float32)
    outputs = (targets + random.normal(size=shape)).astype(np.float32)
    inside = compute(list(NUMBERS), outputs, targets, None)
    functions = (sk.r2_score, sk.mean_absolute_error, sk.mean_squared_error, sk.root_mean_squared_error)
    for name, function in zip(NUMBERS, functions):
        right = function(targets.astype(np.float64), outputs.astype(np.float64))
        assert inside[name] == pytest.approx(right, rel=2e-5), name
        assert measure(name, outputs, targets) == pytest.approx(right, rel=1e-12), name


def test_constant_targets_and_probabilities() -> None:
    constant = np.full(20, 0.1, np.float32)
    assert compute(["r2"], constant, constant, None)["r2"] == 1.0
    assert compute(["r2"], constant + 1, constant, None)["r2"] == 0.0
    random = np.random.default_rng(2)
    labels, p = random.integers(0, 2, 50), random.random(50)
    # one output: scores on the host, a logit in a program; tiny probabilities keep their order
    for scores in (p, p * 1e-20):
        assert measure("auc", scores, labels) == pytest.approx(sk.roc_auc_score(labels, scores))
        both = np.stack([1 - scores, scores], axis=1)
        assert measure("auc", both, labels) == pytest.approx(sk.roc_auc_score(labels, scores))
    logit = (p - 0.5)[:, None].astype(np.float32)
    inside = compute(["f1", "auc"], logit, labels.astype(np.int32), None)
    assert inside["f1"] == pytest.approx(sk.f1_score(labels, p > 0.5))
    assert inside["auc"] == pytest.approx(sk.roc_auc_score(labels, p), rel=1e-6)


def test_a_diverged_member_has_no_score() -> None:
    logits, labels = problem(3, 12, "plain")
    logits[4, 1] = np.nan
    found = compute([n for n in LABELS if not n.endswith("_binary")], logits, labels.astype(np.int32), None)
    assert all(np.isnan(value) for value in found.values())
    found = compute(list(NUMBERS), np.array([1.0, np.nan]), np.array([1.0, 2.0]), None)
    assert all(np.isnan(value) for value in found.values())


# -- in supervised ---------------------------------------------------------------------------------------------------

RANDOM = np.random.default_rng(3)
X = RANDOM.normal(size=(90, 4)).astype(np.float32)
Y = (X[:, 0] + X[:, 1] > 0.5).astype(np.int32) + (X[:, 2] > 0.7)
LINE = (lambda key, x: {"w": 0.3 * jax.random.normal(key, (4, 3))}, lambda p, x: x @ p["w"])
SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0, log=True)})


def sgd(hp: dict) -> optax.GradientTransformation:
    return optax.sgd(hp["lr"])


def task(labels: np.ndarray = Y, **options) -> Supervised:
    return jhpo.supervised(
        LINE, sgd, train=(X[:50], labels[:50]), valid=(X[50:], labels[50:]), batch_size=None, steps=2, **options
    )


@pytest.mark.parametrize("eval_batch", [1024, 40, 16, 7])
@pytest.mark.parametrize("ignore", [None, -100])
def test_the_whole_validation_set_counts_whatever_the_blocks(eval_batch: int, ignore: int | None) -> None:
    labels = Y.copy()
    if ignore is not None:
        labels[[3, 55, 60, 89]] = ignore
    names = ["accuracy", "f1", "f1_micro", "balanced_accuracy", "auc"]
    trainable = task(labels, metrics=names, ignore=ignore, eval_batch=eval_batch)

    def outcome(lr: jax.Array) -> tuple[dict, jax.Array]:
        state = trainable.init({"lr": lr}, jax.random.key(0))
        state = trainable.step({"lr": lr}, state, jnp.int32(0))
        return trainable.evaluate({"lr": lr}, state), trainable.predict({"lr": lr}, state, jnp.asarray(X[50:]))

    found, outputs = jax.jit(jax.vmap(outcome))(jnp.array([0.01, 0.1, 1.0], jnp.float32))
    live = labels[50:] != (-100 if ignore is None else ignore)
    for i in range(3):
        for name in names:
            right = expected(name, np.asarray(outputs[i])[live], labels[50:][live])
            assert found[name][i] == pytest.approx(right, rel=2e-6), name


def test_functions_of_rows_and_of_the_whole() -> None:
    def spread(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        assert outputs.shape == (40, 3) and targets.shape == (40,)
        return jnp.std(outputs)

    def share(outputs: jax.Array, targets: jax.Array, live: jax.Array) -> jax.Array:
        return jnp.mean(live.astype(jnp.float32))

    metrics = {
        "spread": jhpo.metrics.whole(spread),
        "top": lambda outputs, targets: outputs.max(axis=1),
        "f": "f1_macro",
    }
    trainable = task(metrics=metrics, eval_batch=7)
    state = trainable.init({"lr": 0.1}, jax.random.key(0))
    outputs = trainable.predict({"lr": 0.1}, state, jnp.asarray(X[50:]))
    found = trainable.evaluate({"lr": 0.1}, state)
    assert set(found) == {"loss", "error", "spread", "top", "f"}
    assert found["spread"] == pytest.approx(float(outputs.std()), rel=1e-5)
    assert found["top"] == pytest.approx(float(outputs.max(axis=1).mean()), rel=1e-5)
    labels = np.where(np.arange(90) % 4 == 2, 255, Y)
    masked = task(labels, ignore=255, metrics={"share": jhpo.metrics.whole(share)})
    assert masked.evaluate({"lr": 0.1}, state)["share"] == pytest.approx((labels[50:] != 255).mean())
    with pytest.raises(InvalidArgument, match=r"metrics: spread: expected a function \(outputs, targets, live\)"):
        task(labels, ignore=255, metrics={"spread": jhpo.metrics.whole(spread)})
    vector = task(metrics={"rows": jhpo.metrics.whole(lambda outputs, targets: outputs)})
    with pytest.raises(InvalidArgument, match="metrics: rows: expected a scalar from a function of the whole"):
        vector.evaluate({"lr": 0.1}, state)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metrics": ["f2"]}, "metrics: f2: expected a function, or one of"),
        ({"metrics": ["r2"]}, "metrics: r2: expected one for classification"),
        ({"metrics": 3}, "metrics: expected names"),
        ({"metric": "f2"}, "metric: expected one of"),
        ({"metrics": ["auc"], "labels": 0 * Y}, "metrics: auc: expected validation labels of at least two classes"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_runs(options: dict, message: str) -> None:
    with pytest.raises(InvalidArgument, match=message):
        task(**options)


def test_binary_scores_need_two_outputs() -> None:
    with pytest.raises(InvalidArgument, match="f1_binary needs two classes, got a model with 3 outputs"):
        jhpo.maximize(task(metric="f1_binary"), SPACE, jhpo.RandomSearch(2), budget=2)


# -- directions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["accuracy", "f1", "auc"])
def test_a_score_is_maximised_everywhere(name: str) -> None:
    trainable, strategy = task(metric=name), jhpo.RandomSearch(8)
    for refused in (
        lambda: jhpo.minimize(trainable, SPACE, strategy, budget=8),
        lambda: jhpo.Study(SPACE, strategy).optimize(trainable, budget=8),
        lambda: jhpo.run(strategy, trainable, SPACE, 1, jax.random.key(0)),
        lambda: jhpo.Tuning(trainable, SPACE, strategy, direction="minimize").run(budget=8),
    ):
        with pytest.raises(InvalidArgument, match=f"'{name}' is a score, the higher the better.*jhpo.maximize"):
            refused()
    best = jhpo.maximize(trainable, SPACE, strategy, budget=8)
    assert best.value == best.history.value.max()
    study = jhpo.Study(SPACE, strategy, direction="maximize")
    study.optimize(trainable, budget=8)
    assert study.best.value == best.value == study.trials.table.value.array.max()
    assert jhpo.Tuning(trainable, SPACE, strategy).run(budget=8).value == best.value


@pytest.mark.parametrize("name", ["loss", "error"])
def test_an_error_is_minimised_everywhere(name: str) -> None:
    trainable, strategy = task(metric=name), jhpo.RandomSearch(4)
    with pytest.raises(InvalidArgument, match=f"'{name}' is an error, the lower the better.*jhpo.minimize"):
        jhpo.maximize(trainable, SPACE, strategy, budget=4)
    assert jhpo.Tuning(trainable, SPACE).direction == "minimize"
    # one of several, chosen where the search begins
    several = task(metrics=["f1"])
    assert jhpo.maximize(several, SPACE, strategy, budget=4, metric="f1").value > 0
    with pytest.raises(InvalidArgument, match="'f1' is a score"):
        jhpo.minimize(several, SPACE, strategy, budget=4, metric="f1")


def test_functions_of_ones_own_say_their_direction_or_go_both_ways() -> None:
    strategy = jhpo.RandomSearch(4)
    silent = {"mine": lambda outputs, targets: outputs[:, 0]}
    for search in (jhpo.minimize, jhpo.maximize):
        assert np.isfinite(search(task(metrics=silent, metric="mine"), SPACE, strategy, budget=4).value)
    stated = {"mine": jhpo.metrics.rows(silent["mine"], higher_is_better=True)}
    with pytest.raises(InvalidArgument, match="'mine' is a score"):
        jhpo.minimize(task(metrics=stated, metric="mine"), SPACE, strategy, budget=4)
    with pytest.raises(InvalidArgument, match="higher_is_better: expected True, False or None"):
        jhpo.metrics.whole(silent["mine"], higher_is_better="yes")


def test_functions_that_the_user_drops_are_collected() -> None:
    class Scale:
        def __call__(self, outputs: jax.Array, targets: jax.Array) -> jax.Array:
            return jnp.std(outputs)

    scale = Scale()
    seen = weakref.ref(scale)
    trainable = task(metrics={"scale": jhpo.metrics.whole(scale, higher_is_better=True)}, metric="scale")
    assert jhpo.maximize(trainable, SPACE, jhpo.RandomSearch(4), budget=4).value > 0
    del scale, trainable
    gc.collect()
    assert seen() is None


# -- on the host -----------------------------------------------------------------------------------------------------


def forecast(params: dict) -> tuple[np.ndarray, np.ndarray]:
    """At the top level of a module, for processes."""
    return (X[50:, 0] > params["cut"]).astype(int), Y[50:] > 0


@pytest.mark.parametrize("kind", ["thread", "process"])
def test_host_functions_return_outputs_and_targets(kind: str) -> None:
    space = jhpo.Space({"cut": jhpo.Float(-2.0, 2.0)})
    objective = jhpo.host(forecast, kind=kind, metric="f1")
    result = jhpo.maximize(objective, space, jhpo.RandomSearch(4), budget=4)
    assert result.value == sk.f1_score(*forecast(result.best)[::-1])
    study = jhpo.Study(space, "random", direction="maximize")
    study.optimize(objective, budget=3)
    assert study.best.value == sk.f1_score(*forecast(study.best.params)[::-1])


def test_host_functions_and_directions() -> None:
    space = jhpo.Space({"cut": jhpo.Float(-2.0, 2.0)})
    with pytest.raises(InvalidArgument, match="'f1' is a score"):
        jhpo.minimize(jhpo.host(forecast, metric="f1"), space, budget=2)
    with pytest.raises(InvalidArgument, match="'auc' is a score"):
        jhpo.Study(space).optimize(jhpo.host(forecast), budget=2, metric="auc")
    with pytest.raises(InvalidArgument, match="metric: expected one of"):
        jhpo.host(forecast, metric="f2")
    error = jhpo.minimize(jhpo.host(forecast), space, jhpo.RandomSearch(2), budget=2, metric="error")
    predicted, labels = forecast(error.best)
    assert error.value == pytest.approx((predicted != labels).mean())
    study = jhpo.Study(space, "random", direction="maximize")
    study.optimize(jhpo.host(lambda params: (Y, Y, Y), metric="f1"), budget=1)
    assert "a pair (outputs, targets) for 'f1'" in study.trials.table.reason[0]
    study.optimize(jhpo.host(lambda params: (np.full(3, 0.5), np.ones(3, int)), metric="f1"), budget=2)
    assert "labels [n], or numbers [n, classes]" in study.trials.table.reason[1]


def test_two_scores_are_two_rows_of_one_output() -> None:
    assert measure("auc", np.array([0.1, 0.9]), np.array([0, 1])) == 1.0


def test_predictions_beyond_narrow_labels_are_wrong() -> None:
    """300 was 44 in uint8."""
    labels = np.array([44, 44, 1], np.uint8)
    assert measure("f1_macro", np.array([300, 300, 1]), labels) < 0.51


def test_the_loss_is_not_replaced_by_a_metric_of_its_name() -> None:
    def make(metrics):
        return jhpo.supervised(LINE, lambda hp: optax.sgd(hp["lr"]), train=(X, Y), metrics=metrics, steps=1)

    assert [name for name, _ in make(["loss", "accuracy"]).metrics] == ["error", "accuracy"]
    for metric in (lambda outputs, targets: abs(outputs).sum(axis=1), "accuracy"):
        with pytest.raises(jhpo.InvalidArgument, match="metrics: expected no metric called 'loss'"):
            make({"loss": metric})


@pytest.mark.parametrize(
    ("name", "outputs", "targets", "words"),
    [
        ("accuracy", np.eye(3, 2), [0, 1, 2], "targets: expected labels below 2, the classes of the outputs, got 2"),
        ("auc", [0.1, 0.2, 0.3], [0, 1, 2], "targets: expected labels below 2"),
        ("f1", [-1, 1], [0, 1], "outputs: expected labels 0, 1, ... as targets have them, got -1"),
        ("f1", 1, 1, "outputs, targets: expected arrays of one length"),
        ("f1", ["a", "b"], [0, 1], "outputs: expected an array of numbers, got 'str"),
        ("r2", [0.0, 1.0], ["a", "b"], "targets: expected numbers for 'r2', got 'str"),
        ("r2", [None, 1.0], [0.0, 1.0], "outputs: expected finite numbers, got 'missing values"),
        ("r2", [[1.0], [1.0, 2.0]], [0.0, 1.0], "outputs: expected outputs in arrays"),
        (["f1"], [0, 1], [0, 1], "metric: expected one of"),
    ],
)
def test_what_cannot_be_measured_is_refused(name, outputs, targets, words: str) -> None:
    with pytest.raises(jhpo.InvalidArgument, match=words):
        measure(name, outputs, targets)


def test_labels_in_a_column_have_as_many_classes_as_there_are_outputs() -> None:
    assert measure("accuracy", np.eye(3), np.arange(3)[:, None]) == 1.0
    assert measure("accuracy", np.array([[-1.0], [1.0]]), [0, 1]) == 1.0
