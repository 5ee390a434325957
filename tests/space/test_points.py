"""Points come as dicts, trials, whole studies and tables, with whatever a table puts where nothing is."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

import jhpo
from jhpo.errors import InvalidArgument, InvalidParameters
from jhpo.space.points import read_points

SPACE = jhpo.Space(
    {
        "lr": jhpo.Float(1e-4, 1.0, log=True),
        "opt": {"kind": jhpo.Choice(["sgd", "adam"]), "m": jhpo.Float(0.0, 0.9, when={"opt.kind": "sgd"})},
        "n": jhpo.Int(1, 9, when={"opt.kind": "adam"}),
        "w": jhpo.Float(0.0, 1.0, shape=2),
        "value": jhpo.Choice([1, 2]),
    }
)


def loss(params):
    return params["lr"]


@pytest.fixture(scope="module")
def old():
    study = jhpo.Study(SPACE, "random", seed=3)
    study.optimize(jhpo.host(loss), budget=8)
    return study


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame of a study as a user has it: columns named as the parameters."""
    columns = [column for column in frame if column.startswith("param_")]
    return frame[columns].rename(columns=lambda column: column.removeprefix("param_"))


class Polars:
    """What is used of a polars frame."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.columns = list(frame.columns)
        rows = frame.astype(object).where(frame.notna(), None).to_dict("records")
        self.to_dicts = lambda: rows

    def __len__(self) -> int:
        return len(self.to_dicts())


@pytest.mark.parametrize(
    "form",
    [
        lambda old: [trial.params for trial in old],
        list,
        lambda old: old,
        lambda old: old.to_frame(),
        lambda old: plain(old.to_frame()),
        lambda old: plain(old.to_frame()).convert_dtypes(),
        lambda old: plain(old.to_frame()).to_dict("records"),
        lambda old: [row for _, row in plain(old.to_frame()).iterrows()],
        lambda old: [row for _, row in old.to_frame().iterrows()],
        lambda old: Polars(plain(old.to_frame())),
    ],
    ids=["dicts", "trials", "study", "frame", "plain frame", "pandas.NA", "records", "series", "frame rows", "polars"],
)
def test_results_from_elsewhere(old, form):
    new = jhpo.Study(SPACE, "random", seed=4)
    given = form(old)
    ids = new.absorb(given, old.to_frame()["value"])
    assert ids == list(range(8))
    for trial, before in zip(new, old, strict=True):
        assert trial.value == before.value
        assert trial.params.keys() == before.params.keys() and trial.params["opt"] == before.params["opt"]
        assert (trial.params["lr"], trial.params["value"]) == (before.params["lr"], before.params["value"])
        np.testing.assert_array_equal(trial.params["w"], before.params["w"])


def test_points_to_begin_with(old):
    table = pd.DataFrame({"lr": [0.01, 0.1, np.nan], "value": [1, 2, 2]})
    result = jhpo.minimize(jhpo.host(loss), SPACE, "random", budget=4, start=table)
    trials = {t.id: t.params for t in result.top(4, states=False)}
    assert [trials[i]["value"] for i in range(3)] == [1, 2, 2] and (trials[0]["lr"], trials[1]["lr"]) == (0.01, 0.1)
    for start in (old.best, [old.best], pd.Series({"lr": 0.25}), [pd.Series({"lr": 0.25, "n": np.nan})]):
        first = jhpo.minimize(jhpo.host(loss), SPACE, "random", budget=1, start=start).best["lr"]
        assert first in (old.best.params["lr"], 0.25)
    study = jhpo.Study(SPACE, "random")
    assert study[study.enqueue(old.best)].params["lr"] == old.best.params["lr"]
    assert study[study.enqueue(pd.Series({"lr": 0.25}))].params["lr"] == 0.25
    frame = old.to_frame()
    assert study[study.enqueue(frame.loc[frame["value"].idxmin()])].params["lr"] == old.best.params["lr"]


def test_errors_say_which_point():
    study = jhpo.Study(SPACE, "random")
    good = {"lr": 0.1, "opt": {"kind": "adam"}, "n": 2, "w": [0.1, 0.2], "value": 1}
    with pytest.raises(InvalidParameters, match=r"params\[1\]: lr: expected a number in \[0.0001, 1.0\], got 7.0"):
        study.absorb([good, {**good, "lr": 7.0}], [0.1, 0.2])
    with pytest.raises(InvalidParameters, match=r"start\[1\]: n: expected"):
        jhpo.minimize(jhpo.host(loss), SPACE, "random", budget=4, start=[{}, {"n": 0}])
    with pytest.raises(InvalidArgument, match=r"values: expected as many as there are points \(0\), got 1"):
        study.absorb([], [0.1])
    assert len(study) == 0
    assert study.absorb([], []) == [] and len(study) == 0
    with pytest.raises(InvalidParameters, match=r"params\[0\]: other: expected one of the parameters"):
        study.absorb(pd.DataFrame([{**good, "other": 1}]), [0.1])


def test_the_columns_of_a_studys_own_frame(old):
    """A parameter named as one of the frame's other columns is not taken from there."""
    assert [point["value"] for point in read_points(SPACE, old.to_frame())] == [t.params["value"] for t in old]


def test_rows_that_are_not_whole_are_no_points():
    """They were NaN, or an index outside a list, for what is not a number."""
    with pytest.raises(InvalidParameters, match=r"unit: expected numbers in \[0, 1\], got array"):
        SPACE.decode(SPACE.encode_some({"lr": 0.1}))


def test_keys_that_have_no_order():
    with pytest.raises(jhpo.InvalidSpace, match="space: expected dicts whose keys are all of one type, as text is"):
        jhpo.Space({3: jhpo.Float(0.0, 1.0), "z": jhpo.Float(0.0, 1.0)})


@pytest.mark.parametrize("name", ["x", "k", "c", "o", "v"])
def test_host_conversions_of_what_is_traced_name_those_for_programs(name: str) -> None:
    space = jhpo.Space({
        "x": jhpo.Float(-5.0, 5.0), "k": jhpo.Int(1, 5), "c": jhpo.Choice(["a", "b"]), "o": jhpo.Ordinal([1, 2, 4]),
        "v": jhpo.Float(0.0, 1.0, shape=(2,)),
    })  # fmt: skip
    params = {"x": 1.0, "k": 2, "c": "a", "o": 2, "v": [0.1, 0.2]}
    known = rf"{name}: expected what is known outside of jit, vmap and scan, got .*; in a program Space\.to_unit"

    def point(value: jax.Array) -> Any:
        return params | {name: [value, value] if name == "v" else value}

    for method in (space.encode, space.encode_some, space.validate):
        with pytest.raises(jhpo.InvalidParameters, match=known):
            jax.vmap(lambda value, method=method: method(point(value)))(jnp.ones(2))
    with pytest.raises(jhpo.InvalidParameters, match=rf"start\[0\]: {known}"):
        jax.jit(lambda z: jhpo.run("random", lambda hp: hp["x"], space, 1, jax.random.key(0), start=[point(z)]))(1.0)
    for name, decode in (("unit", space.decode), ("units", lambda row: space.decode_rows(row[None]))):
        with pytest.raises(
            jhpo.InvalidParameters, match=rf"{name}: expected what is known .*; in a program .*from_unit"
        ):
            jax.jit(decode)(space.default_unit())
