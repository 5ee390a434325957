"""Encoding of log entries: msgpack of plain values and little-endian arrays, with a digest and a hash chain.

Nothing that is read can be executed: msgpack has only numbers, text, bytes, lists and maps. Sizes are compared with the
available bytes before anything is allocated, so a file that claims a huge array fails at once.
"""

from __future__ import annotations

import hashlib
import math
from typing import Any, NamedTuple

import msgpack
import numpy as np

from jhpo.errors import StorageError

GENESIS = b"\0" * 16  # the chain value before the first entry
DIGEST_BYTES = 16
_DTYPES = {"<f4", "<f8", "<i4", "<i8", "<u4", "<u8", "|u1", "|b1"}


class Entry(NamedTuple):
    """One entry of the append-only log: an event as it is stored."""

    seq: int  # 0, 1, 2, ...: its position in the log
    kind: str  # "study", "ask", "tell", ...
    body: dict[str, Any]


def pack(body: dict[str, Any]) -> bytes:
    """The bytes of an entry's body; NumPy arrays in it keep dtype and shape."""
    return msgpack.packb(body, use_bin_type=True, default=_pack_array)


def unpack(data: bytes, where: str = "event") -> dict[str, Any]:
    """The inverse of `pack`.

    Raises:
        StorageError: the bytes were not written by `pack`.

    >>> unpack(pack({"id": 3, "value": np.zeros(2)}))
    {'id': 3, 'value': array([0., 0.])}
    """
    try:
        # extension types raise, instead of building an object
        body = msgpack.unpackb(data, raw=False, strict_map_key=False, object_hook=_unpack_array, ext_hook=_refuse)
    except (ValueError, TypeError, KeyError, RecursionError, msgpack.UnpackException) as error:
        raise StorageError(f"{where}: the stored bytes are not what jhpo writes ({error})") from error
    if not isinstance(body, dict):
        raise StorageError(f"{where}: expected a map, got {type(body).__name__}")
    return body


def _pack_array(value: object) -> object:
    if isinstance(value, np.generic):
        return value.item()
    if not isinstance(value, np.ndarray):
        raise TypeError(f"storage holds numbers, text, bytes, lists and maps; got {type(value).__name__}")
    little = np.ascontiguousarray(value, dtype=value.dtype.newbyteorder("<"))
    if little.dtype.str not in _DTYPES:
        raise TypeError(f"storage holds arrays of {sorted(_DTYPES)}; got {value.dtype}")
    return {"__array__": little.dtype.str, "shape": list(value.shape), "data": little.tobytes()}


def _unpack_array(value: dict[Any, Any]) -> Any:
    if "__array__" not in value:
        return value
    dtype, shape, data = value["__array__"], value["shape"], value["data"]
    if dtype not in _DTYPES or not isinstance(data, bytes):
        raise ValueError(f"an array of {dtype!r}")
    if not isinstance(shape, list) or not all(isinstance(s, int) and s >= 0 for s in shape):
        raise ValueError(f"an array of shape {shape!r}")
    if math.prod(shape) * np.dtype(dtype).itemsize != len(data):
        raise ValueError(f"an array of shape {shape} in {len(data)} bytes")
    return np.frombuffer(data, dtype).reshape(shape)


def _refuse(code: int, data: bytes) -> Any:
    raise ValueError(f"an extension type {code}")


def digest(seq: int, kind: str, data: bytes) -> bytes:
    """16-byte digest of a row."""
    return hashlib.blake2b(b"%d:%s:" % (seq, kind.encode()) + data, digest_size=DIGEST_BYTES).digest()


def link(chain: bytes, row_digest: bytes) -> bytes:
    """The chain value after a row, which depends on all rows so far: dropped, doubled or swapped rows are detected."""
    return hashlib.blake2b(chain + row_digest, digest_size=DIGEST_BYTES).digest()


def follow(chain: bytes, expected_seq: int, row: tuple[int, str, bytes, bytes, bytes]) -> bytes:
    """Verifies a stored row ``(seq, kind, data, digest, chain)`` and returns the chain value after it.

    Raises:
        StorageError: the row is missing, damaged or out of order.
    """
    seq, kind, data, row_digest, row_chain = row
    if seq != expected_seq:
        raise StorageError(f"log row {expected_seq} is missing (found row {seq}); try `jhpo repair`")
    if digest(seq, kind, data) != row_digest:
        raise StorageError(f"log row {seq} is damaged: its digest does not match; try `jhpo repair`")
    after = link(chain, row_digest)
    if after != row_chain:
        raise StorageError(f"log row {seq} does not follow the rows before it; try `jhpo repair`")
    return after
