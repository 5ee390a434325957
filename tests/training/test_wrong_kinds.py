"""Arguments of the wrong kind are refused by name before anything is compiled."""

from __future__ import annotations

import numpy as np
import optax
import pytest

import jhpo

X, Y = np.zeros((16, 3), np.float32), np.zeros(16, np.int32)
SPACE = jhpo.Space({"lr": jhpo.Float(1e-3, 1.0)})


def network(**options):
    data = dict(train=(X, Y), valid=(X, Y), steps=3)
    return jhpo.supervised(jhpo.masked_mlp(["w"], [8], outputs=2), lambda hp: optax.sgd(hp["lr"]), **data, **options)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: network(penalty=0.1), "penalty: expected a function, or None, got 0.1"),
        (lambda: network(eval_params="ema"), "eval_params: expected a function, or None, got 'ema'"),
        (lambda: network(independent_batches="no"), "independent_batches: expected True or False, got 'no'"),
        (lambda: network(metric=["accuracy"]), "metric: expected the name of one metric, got ['accuracy']"),
        (
            lambda: jhpo.minimize(lambda hp: hp["lr"], SPACE, metric=["a"]),
            "metric: expected the name of one metric, or",
        ),
        (lambda: jhpo.host(lambda p: p["lr"], metric=["f1"]), "metric: expected one of ["),
        (lambda: jhpo.Study(SPACE, resume="no"), "resume: expected True or False, got 'no'"),
        (lambda: jhpo.Study(SPACE, shared=1), "shared: expected True or False, got 1"),
        (lambda: jhpo.Study(SPACE, fold_by_fold=1), "fold_by_fold: expected True or False, got 1"),
        (lambda: jhpo.Choice(["a", "b"], static="no"), "static: expected True or False, got 'no'"),
        (lambda: jhpo.masked_mlp("w", [8], 2), "widths: expected a list, an entry for each hidden layer, got 'w'"),
        (lambda: jhpo.masked_mlp(["w"], 8, 2), "largest: expected a list, an entry for each hidden layer, got 8"),
        (lambda: jhpo.masked_mlp(["w"], [8], 2, "relu"), "activation: expected a function of an array"),
    ],
)
def test_it_is_refused_by_name(make, message: str) -> None:
    with pytest.raises(jhpo.InvalidArgument) as found:
        make()
    assert str(found.value).startswith(message)
