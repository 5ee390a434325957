"""One integer, decided once: traced and host code agree on every coordinate, and every value has its share."""

from __future__ import annotations

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import jhpo
from jhpo import Choice, Float, Int, InvalidSpace, Ordinal, Space
from jhpo.space.cells import centre_of, edge_of, index_of, index_of_one
from jhpo.space.log_table import STEPS, log_table

INTEGERS = [
    Int(1, 1000),
    Int(0, 10**6),
    Int(-5, 5),
    Int(0, 999_999, step=3),
    Int(1, 8, log=True),
    Int(1, 1000, log=True),
    Int(1, 10**6, log=True),
    Int(10**3, 10**6, log=True),
    Int(10**7, 10**7 + 10, log=True),
    Int(2**31 - 100, 2**31 - 1, log=True),
    Int(2**31 - 100, 2**31 - 1),
]
name = lambda p: f"{p.low}-{p.high}{'-log' if p.log else ''}"  # noqa: E731


def coordinates(parameter: Int, dtype) -> np.ndarray:
    """Random ones, the borders of cells and their neighbours on both sides."""
    rng = np.random.default_rng(0)
    index = rng.integers(0, parameter.cells + 1, 4000)
    edges = edge_of(parameter, index, dtype, np)
    near = [edges, np.nextafter(edges, dtype(0)), np.nextafter(edges, dtype(1)), np.float32(edges).astype(dtype)]
    return np.clip(np.concatenate([rng.random(20_000).astype(dtype), *near, [0.0, 1.0]]), 0, 1).astype(dtype)


@pytest.mark.parametrize("wide", [False, True], ids=["float32", "x64"])
@pytest.mark.parametrize("parameter", INTEGERS, ids=name)
def test_traced_and_host_code_decide_alike(parameter, wide) -> None:
    space = Space({"n": parameter})
    with jax.enable_x64(True) if wide else contextlib.nullcontext():
        units = coordinates(parameter, np.float64 if wide else np.float32)
        traced = np.asarray(jax.jit(space.from_unit)(units[:, None])["n"])
        assert traced.dtype == np.int32
    host = index_of(parameter, units, np).astype(np.int64) * parameter.step + parameter.low
    np.testing.assert_array_equal(traced, host)
    # a strategy in float64, an evaluation in float32 and a storage in float64 see one integer
    np.testing.assert_array_equal(index_of(parameter, units.astype(np.float64), np), index_of(parameter, units, np))
    few = slice(-3000, None, 7)  # one by one; the borders of cells among them
    assert [index_of_one(parameter, u) for u in units[few].tolist()] == index_of(parameter, units[few], np).tolist()
    assert [space.decode(u)["n"] for u in units[few, None]] == host[few].tolist()


@pytest.mark.parametrize(("low", "high"), [(1, 2), (1, 4096), (1, 4097), (7, 10**5), (1, 10**7), (10**9, 10**9 + 3000)])
def test_a_logarithmic_integer_is_that_of_a_search_in_its_table(low: int, high: int) -> None:
    starts = log_table(low, high).starts
    steps = np.concatenate(
        [(starts[:, None] + np.arange(-1, 2)).ravel(), np.random.default_rng(0).integers(0, STEPS, 10**5)]
    )
    steps = np.clip(steps, 0, STEPS - 1)
    wanted = np.searchsorted(starts, steps, side="right") - 1
    for xp in (np, jnp):
        found = np.asarray(index_of(Int(low, high, log=True), (steps / STEPS).astype(np.float32), xp))
        np.testing.assert_array_equal(np.minimum(found, len(starts) - 1), wanted)


@pytest.mark.parametrize("parameter", INTEGERS, ids=name)
def test_every_value_is_reached_from_its_centre(parameter) -> None:
    index = np.unique(np.concatenate([np.arange(0, parameter.cells, max(parameter.cells // 20_000, 1)),
                                      np.arange(max(parameter.cells - 500, 0), parameter.cells)]))  # fmt: skip
    for dtype in (np.float32, np.float64):
        centre = centre_of(parameter, index, dtype, np)
        np.testing.assert_array_equal(index_of(parameter, centre, np), index)
        assert centre.dtype == dtype
    traced = jax.jit(lambda i: centre_of(parameter, i, jnp.float32))(index.astype(np.int32))
    np.testing.assert_array_equal(index_of(parameter, np.asarray(traced), np), index)
    space = Space({"n": parameter})
    snapped = np.asarray(space.snap(traced[:, None]))
    np.testing.assert_array_equal(np.asarray(space.snap(snapped)), snapped)
    some = [int(v) * parameter.step + parameter.low for v in index[:: len(index) // 50 + 1]]
    assert [space.decode(space.encode({"n": v}))["n"] for v in some] == some


@pytest.mark.parametrize("parameter", INTEGERS, ids=name)
def test_every_value_has_the_share_that_its_scale_gives(parameter) -> None:
    n = 200_000
    sample = np.asarray(Space({"n": parameter}).sample(jax.random.key(1), n)["n"], np.int64)
    if parameter.log:
        share = lambda v: np.log1p((v - parameter.low + 1.0) / (parameter.low - 0.5))  # noqa: E731
    else:
        share = lambda v: (v - parameter.low) // parameter.step + 1.0  # noqa: E731
    bins = min(parameter.cells, 50)
    last = parameter.low + parameter.step * (np.linspace(0, parameter.cells - 1, bins + 1)[1:].astype(np.int64))
    last = np.unique(np.concatenate([[parameter.low], last]))
    wanted = np.diff(share(last), prepend=0.0) / share(last[-1]) * n
    found = np.bincount(np.searchsorted(last, sample), minlength=len(last))
    assert stats.chisquare(found, wanted).pvalue > 1e-4
    if parameter.cells <= 1000:
        assert len(np.unique(sample)) == parameter.cells


def test_the_integers_of_a_study_are_those_evaluated() -> None:
    space = Space({"n": Int(1, 10**5), "m": Int(1, 10**5, log=True), "odd": Float(0.0, 1.0, when={"n": [1, 3, 5]})})
    study = jhpo.Study(space, jhpo.RandomSearch(2048), seed=5)
    study.optimize(lambda hp: hp["n"].astype(float) + hp["m"].astype(float) * 1e-6, budget=4096)
    rows = [study[i] for i in range(len(study))]
    wanted = np.float32([t.params["n"] for t in rows]) + np.float32([t.params["m"] for t in rows]) * np.float32(1e-6)
    np.testing.assert_array_equal(np.float32([t.value for t in rows]), wanted)
    assert all(("odd" in t.params) == (t.params["n"] in (1, 3, 5)) for t in rows)


@pytest.mark.parametrize(
    "parameter",
    [
        Int(0, 2**21),
        Int(10**6, 10**7, log=True),
        Int(1, 2**31 - 1, log=True),
        Float(1e9, 1e9 + 1),
        Float(2020, 2020.001),
        Float(-1e30, 1e39),
        Float(0.0, 1e300),
        Float(1e-40, 1e-38, log=True),
        Float(1e-300, 1.0, log=True),
        Float(0.0, 1e-40),
        Float(1.0, 1.0 + 1e-5, log=True),
        Float(0.5, 1 - 1e-9, scale="reverse_log"),
        Float(0.5, 1 - 1e-8, scale="logit"),
        Ordinal([1, 2**40]),
        Ordinal([1.0, 1e39]),
        Ordinal([0.0, 1e-60]),
        Choice([1.0, 1.0 + 1e-9]),
        Choice([-(2**35), 0]),
    ],
    ids=str,
)
def test_what_float32_cannot_resolve_is_refused_by_name(parameter) -> None:
    with pytest.raises(InvalidSpace, match=r"^net\.lr: "):
        Space({"net": {"lr": parameter}, "ok": Float(0.0, 1.0)})


@pytest.mark.parametrize(
    "parameter",
    [Float(1e-30, 1.0, log=True), Float(-1e30, 1e30), Float(0.9, 0.99999, scale="reverse_log"), Float(1e6, 1e6 + 1e3),
     Ordinal([1, 2**40], static=True), Choice([1e-3, 1e3]), Choice([2**30, 0])],
)  # fmt: skip
def test_what_float32_resolves_is_accepted(parameter) -> None:
    space = Space({"x": parameter})
    assert len({float(v) for v in np.asarray(space.sample_unit(jax.random.key(0), 64))[:, 0]}) > 1


@pytest.mark.parametrize("low", [0, 1, 10**6])
def test_log_is_advised_where_it_is_taken(low: int) -> None:
    with pytest.raises(InvalidSpace) as refused:
        Space({"n": Int(low, 3 * 10**6)})
    assert ("log=True" in str(refused.value)) == (low == 10**6)
    if low == 10**6:
        assert Space({"n": Int(low, 3 * 10**6, log=True)}).dim == 1
