"""Dictionaries of arrays as bytes, in the format of `flax.serialization` without flax: its import is most of a second.

An array is an extension type of msgpack: its shape, the name of its dtype, its bytes in rows. Those that msgpack cannot
hold in one piece are cut. Nothing that is read can be executed.
"""

from __future__ import annotations

from typing import Any

import msgpack
import numpy as np

_ARRAY, _SCALAR = 1, 3  # extension types
_CUT = "__msgpack_chunked_array__"  # marks an array in pieces
PIECE_BYTES = 2**30  # of the longest piece; msgpack holds twice as much


def pack_arrays(tree: dict[str, Any], piece: int = PIECE_BYTES) -> bytes:
    """The bytes that ``flax.serialization.msgpack_serialize`` makes.

    Args:
        tree: of NumPy arrays, integers, None, and such dictionaries.
        piece: bytes of the longest piece of an array.

    Raises:
        TypeError: something else is in it.
    """
    return msgpack.packb(_cut(tree, piece), default=_packed, strict_types=True)


def unpack_arrays(data: bytes) -> dict[str, Any]:
    """The inverse of `pack_arrays`; arrays cannot be written to.

    Raises:
        ValueError, TypeError, KeyError or one of msgpack's: the bytes are something else.

    >>> unpack_arrays(pack_arrays({"n": 2, "x": np.arange(3)}))
    {'n': 2, 'x': array([0, 1, 2])}
    """
    tree = msgpack.unpackb(data, ext_hook=_unpacked, raw=False, strict_map_key=False)
    if not isinstance(tree, dict):
        raise ValueError(f"expected a map, got {type(tree).__name__}")
    return _joined(tree)


def _cut(value: Any, piece: int) -> Any:
    if isinstance(value, dict):
        return {k: _cut(v, piece) for k, v in sorted(value.items())}  # as flax orders them
    if not isinstance(value, np.ndarray) or value.nbytes <= piece:
        return value
    flat, step = value.reshape(-1), max(1, piece // value.dtype.itemsize)
    pieces = [flat[i : i + step] for i in range(0, flat.size, step)]
    return {_CUT: True, "shape": _numbered(value.shape), "chunks": _numbered(pieces)}


def _joined(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if _CUT not in value:
        return {k: _joined(v) for k, v in value.items()}
    shape, pieces = ([value[name][str(i)] for i in range(len(value[name]))] for name in ("shape", "chunks"))
    return np.concatenate(pieces).reshape(shape)


def _numbered(values: Any) -> dict[str, Any]:
    return {str(i): x for i, x in enumerate(values)}


def _packed(value: object) -> msgpack.ExtType:
    if not isinstance(value, np.ndarray | np.generic) or value.dtype.hasobject or value.dtype.names:
        raise TypeError(f"expected arrays of numbers, integers and None; got {type(value).__name__}")
    inner = (value.shape, value.dtype.name, value.tobytes())
    return msgpack.ExtType(_ARRAY if isinstance(value, np.ndarray) else _SCALAR, msgpack.packb(inner))


def _unpacked(code: int, data: bytes) -> Any:
    if code not in (_ARRAY, _SCALAR):
        raise ValueError(f"an extension type {code}")
    shape, dtype, content = msgpack.unpackb(data, raw=True)
    array = np.frombuffer(content, np.dtype(dtype.decode())).reshape(shape)
    return array if code == _ARRAY else array[()]
