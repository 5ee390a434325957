"""Arrays as bytes: flax reads what jhpo writes, and the other way round."""

from __future__ import annotations

import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from flax import serialization

from jhpo.values.packing import pack_arrays, unpack_arrays

TREE = {
    "leaves": {
        "0": np.asarray([[1.5, np.nan], [np.inf, -0.0]], np.float32),
        "1": np.arange(7, dtype=np.uint8)[::2],  # not contiguous
        "2": np.zeros((3, 0)),
        "3": np.asarray(jnp.asarray([1.0, 2.0], jnp.bfloat16)),
        "4": np.asarray(True),
        "5": np.float64(0.25),
        "6": np.arange(12).reshape(3, 4).T,
    },
    "units": np.linspace(0.0, 1.0, 6).reshape(2, 3),
    "growths": 3,
    "nothing": None,
}


def assert_same(found, wanted):
    assert type(found) is type(wanted)
    if isinstance(wanted, dict):
        assert sorted(found) == sorted(wanted)
        for name in wanted:
            assert_same(found[name], wanted[name])
    elif isinstance(wanted, np.ndarray | np.generic):
        assert found.dtype == wanted.dtype and found.shape == wanted.shape and found.tobytes() == wanted.tobytes()
    else:
        assert found == wanted


@pytest.mark.parametrize("piece", [2**30, 16])
def test_bytes_are_those_of_flax(piece, monkeypatch):
    monkeypatch.setattr(serialization, "MAX_CHUNK_SIZE", piece)
    data = pack_arrays(TREE, piece)
    assert data == serialization.msgpack_serialize(TREE)
    assert_same(unpack_arrays(data), TREE)


@pytest.mark.parametrize("value", [object(), np.asarray([None]), np.zeros(1, [("a", "f4")])])
def test_what_is_no_array_of_numbers_is_refused(value):
    with pytest.raises(TypeError, match="expected arrays of numbers"):
        pack_arrays({"x": value})


@pytest.mark.parametrize(
    "data",
    [
        msgpack.packb([1]),
        msgpack.packb({"x": msgpack.ExtType(2, b"")}),
        msgpack.packb({"x": msgpack.ExtType(1, msgpack.packb(((9,), "float32", b"1234")))}),
        pack_arrays(TREE)[:-1],
    ],
    ids=["list", "extension", "size", "cut"],
)
def test_other_bytes_are_refused(data):
    with pytest.raises(ValueError):
        unpack_arrays(data)
