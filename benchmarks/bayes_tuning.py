"""Development problems with choices, integers and conditions, and trainings of real models by scikit-learn."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import surrogates
from sklearn.datasets import load_digits, load_iris, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_score
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import jhpo

Mixed = tuple[jhpo.Space, Callable[[Any], jax.Array], float]  # space, function, the lowest value there is
Score = Callable[..., float]  # of hyperparameters, a cross-validated accuracy


def _mixed_ackley() -> Mixed:
    """Five switches and three real coordinates."""
    space = jhpo.Space(
        {**{f"s{i}": jhpo.Choice([0, 1]) for i in range(5)}, **{f"x{i}": jhpo.Float(0.0, 1.0) for i in range(3)}}
    )
    on, centre = (1.0, 0.0, 1.0, 1.0, 0.0), (0.23, 0.71, 0.64)

    def function(hp: Any) -> jax.Array:
        switches = [jnp.abs(hp[f"s{i}"] - on[i]).astype(jnp.float32) for i in range(5)]
        return surrogates.ackley(jnp.stack([*switches, *(4.0 * (hp[f"x{i}"] - centre[i]) for i in range(3))]))

    return space, function, 0.0


def _integers() -> Mixed:
    """Six integers of many and few values, some of them on a logarithmic scale, that interact."""
    space = jhpo.Space({f"n{i}": jhpo.Int(1, (6, 20, 512)[i // 2], log=i // 2 == 2) for i in range(6)})
    best = (2, 5, 6, 14, 24, 230)

    def function(hp: Any) -> jax.Array:
        gaps = [(jnp.float32(hp[f"n{i}"]) - best[i]) / (2.0, 6.0)[i // 2] for i in range(4)]
        gaps += [jnp.log(jnp.float32(hp[f"n{i}"]) / best[i]) for i in (4, 5)]
        z = jnp.stack(gaps)
        return jnp.sum(z * z) + 0.5 * jnp.sum((z[1:] - z[:-1]) ** 2) - 0.3 * jnp.prod(jnp.cos(2.0 * z)) + 0.3

    return space, function, 0.0


def _algorithms() -> Mixed:
    """Three algorithms with parameters of their own; the best one needs the most tuning."""
    space = jhpo.Space(
        {
            "kind": jhpo.Choice(["trees", "kernel", "linear"]),
            "depth": jhpo.Int(1, 12, when={"kind": "trees"}),
            "rate": jhpo.Float(1e-3, 1.0, log=True, when={"kind": "trees"}),
            "cost": jhpo.Float(1e-3, 1e3, log=True, when={"kind": "kernel"}),
            "width": jhpo.Float(1e-4, 1e1, log=True, when={"kind": "kernel"}),
            "penalty": jhpo.Float(1e-5, 1e1, log=True, when={"kind": "linear"}),
            "scaled": jhpo.Choice([False, True]),
        }
    )

    def function(hp: Any) -> jax.Array:
        rate, depth = jnp.log(hp["rate"] / 0.07), (jnp.float32(hp["depth"]) - 7.0) / 4.0
        trees = 0.12 + 0.1 * jnp.tanh(depth * depth + 0.15 * (rate + depth) ** 2)
        a, b = jnp.log(hp["cost"] / 30.0), jnp.log(hp["width"] / 0.004)
        kernel = 0.05 + 0.4 * jnp.tanh(0.1 * (a + b) ** 2 + 0.02 * (a - b) ** 2)
        linear = 0.15 + 0.05 * jnp.tanh(0.1 * jnp.log(hp["penalty"] / 0.02) ** 2)
        scaled = jnp.where(hp["scaled"] == 1, 0.0, 1.0)
        return jnp.stack([trees, kernel + 0.2 * scaled, linear + 0.05 * scaled])[hp["kind"]]

    return space, function, 0.05


def _optimizers() -> Mixed:
    """A training: optimiser, learning rate, batch size, depth, dropout; large rates diverge."""
    space = jhpo.Space(
        {
            "optimizer": jhpo.Choice(["sgd", "adam", "lion"]),
            "rate": jhpo.Float(1e-5, 1.0, log=True),
            "momentum": jhpo.Float(0.0, 0.99, when={"optimizer": "sgd"}),
            "batch": jhpo.Int(16, 512, log=True),
            "layers": jhpo.Int(1, 6),
            "dropout": jhpo.Float(0.0, 0.6),
        }
    )

    def function(hp: Any) -> jax.Array:
        momentum = jnp.where(hp["optimizer"] == 0, hp["momentum"], 0.0)
        target = jnp.asarray([-2.5, -6.5, -8.5], jnp.float32)[hp["optimizer"]] + 0.5 * jnp.log(hp["batch"] / 64.0)
        off = jnp.log(hp["rate"]) - jnp.log1p(-momentum) * 0.7 - target
        floor = jnp.asarray([0.10, 0.12, 0.13], jnp.float32)[hp["optimizer"]]
        layers = (jnp.float32(hp["layers"]) - 4.0) / 3.0
        loss = (
            floor
            + 0.04 * off * off
            + 0.1 * (layers - 0.5 * (hp["dropout"] - 0.2)) ** 2
            + 0.3 * (hp["dropout"] - 0.2) ** 2
        )
        return jnp.where(off > 1.5, 0.9, jnp.minimum(loss, 0.9))

    return space, function, 0.10


# -------------------------------------------------------------------------------------------------------- models


def _accuracy(make: Callable[..., Any], data: tuple[np.ndarray, np.ndarray], folds: int = 3) -> Score:
    split = StratifiedKFold(folds, shuffle=True, random_state=0)

    def score(**hp: Any) -> float:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # short trainings on purpose
            return float(np.mean(cross_val_score(make(**hp), *data, cv=split)))

    return score


def _svc_wine() -> tuple[jhpo.Space, Score]:
    space = jhpo.Space(
        {
            "kernel": jhpo.Choice(["linear", "poly", "rbf"]),
            "C": jhpo.Float(1e-4, 1e3, log=True),
            "gamma": jhpo.Float(1e-5, 1e1, log=True, when={"kernel": ["poly", "rbf"]}),
            "degree": jhpo.Int(2, 5, when={"kernel": "poly"}),
            "coef0": jhpo.Float(0.0, 2.0, when={"kernel": "poly"}),
        }
    )

    def make(kernel: str, C: float, gamma: float = 1.0, degree: int = 2, coef0: float = 0.0) -> Any:
        own = dict(gamma=gamma or 1.0, degree=int(degree or 2), coef0=coef0 or 0.0)
        return make_pipeline(StandardScaler(), SVC(kernel=kernel, C=C, max_iter=20000, **own))

    return space, _accuracy(make, load_wine(return_X_y=True), 5)


def _mlp_iris() -> tuple[jhpo.Space, Score]:
    space = jhpo.Space(
        {
            "rate": jhpo.Float(1e-4, 1.0, log=True),
            "alpha": jhpo.Float(1e-6, 1.0, log=True),
            "units": jhpo.Int(2, 32, log=True),
            "momentum": jhpo.Float(0.0, 0.99),
            "batch": jhpo.Int(8, 64, log=True),
        }
    )

    def make(rate: float, alpha: float, units: int, momentum: float, batch: int) -> Any:
        own = dict(learning_rate_init=rate, alpha=alpha, momentum=momentum, batch_size=int(batch))
        model = MLPClassifier((int(units),), solver="sgd", max_iter=10, tol=0.0, random_state=0, **own)
        return make_pipeline(StandardScaler(), model)

    return space, _accuracy(make, load_iris(return_X_y=True))


def _boosting_wine() -> tuple[jhpo.Space, Score]:
    space = jhpo.Space(
        {
            "learning_rate": jhpo.Float(1e-3, 1.0, log=True),
            "n_estimators": jhpo.Int(2, 20, log=True),
            "max_depth": jhpo.Int(1, 6),
            "subsample": jhpo.Float(0.3, 1.0),
            "max_features": jhpo.Float(0.1, 1.0),
        }
    )
    make = lambda **hp: GradientBoostingClassifier(random_state=0, **hp)  # noqa: E731
    return space, _accuracy(make, load_wine(return_X_y=True))


def _pipeline_digits() -> tuple[jhpo.Space, Score]:
    """A conditional choice: an SVC of all pixels, or of principal components."""
    space = jhpo.Space(
        {
            "reduce": jhpo.Choice([False, True]),
            "components": jhpo.Int(2, 40, log=True, when={"reduce": True}),
            "whiten": jhpo.Choice([False, True], when={"reduce": True}),
            "C": jhpo.Float(1e-3, 1e3, log=True),
            "gamma": jhpo.Float(1e-6, 1e0, log=True),
        }
    )

    def make(reduce: bool, C: float, gamma: float, components: int = 2, whiten: bool = False) -> Any:
        first = [PCA(int(components), whiten=bool(whiten), random_state=0)] if reduce else []
        return make_pipeline(*first, SVC(C=C, gamma=gamma, max_iter=20000))

    x, y = load_digits(return_X_y=True)
    return space, _accuracy(make, (x[:300], y[:300]))


MIXED = {"mixed-ackley8": _mixed_ackley, "integers6": _integers, "algorithms": _algorithms, "optimizers": _optimizers}
MODELS = {
    "svc-wine": _svc_wine,
    "mlp-iris": _mlp_iris,
    "boosting-wine": _boosting_wine,
    "pipeline-digits": _pipeline_digits,
}
