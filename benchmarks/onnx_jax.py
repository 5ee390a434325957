"""ONNX graphs of small networks (Gemm, Relu, BatchNormalization, elementwise) as functions that JAX can trace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx


def _known(*values: Any) -> bool:
    return all(isinstance(v, np.ndarray) for v in values)


def _match(a: Any, b: Any) -> tuple[Any, Any]:
    """A constant takes the dtype of the traced operand: the graph mixes float32 with float64 constants."""
    if _known(a) and not _known(b):
        a = jnp.asarray(a.astype(b.dtype))
    elif _known(b) and not _known(a):
        b = jnp.asarray(b.astype(a.dtype))
    return a, b


def _divide(a: Any, b: Any) -> Any:
    return a // b if jnp.issubdtype(a.dtype, jnp.integer) else a / b


def _binary(operation: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    return lambda a, b: operation(*_match(a, b))


def _gather(data: Any, index: Any, axis: int = 0) -> Any:
    if _known(data, index):
        return np.take(data, index, axis=axis)
    return jnp.take(jnp.asarray(data), jnp.asarray(index), axis=axis)


def _gemm(a: Any, b: Any, c: Any, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0) -> Any:
    a, b = (a.T if transA else a), (b.T if transB else b)
    product = jnp.matmul(a, jnp.asarray(b), precision=jax.lax.Precision.HIGHEST)
    return alpha * product + beta * jnp.asarray(c)[None, :]


def _batch_norm(x: Any, scale: Any, bias: Any, mean: Any, var: Any, epsilon: float = 1e-5, **_: Any) -> Any:
    factor = (scale / np.sqrt(var + np.float32(epsilon))).astype(np.float32)
    return (x - mean[None, :]) * factor[None, :] + bias[None, :]


def _slice(x: Any, starts: Any, ends: Any, axes: Any) -> Any:
    window = [slice(None)] * x.ndim
    for start, end, axis in zip(starts, ends, axes):
        window[int(axis)] = slice(int(start), int(end))
    return x[tuple(window)]


def _cast(x: Any, to: int) -> Any:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(to)
    return x.astype(dtype) if _known(x) else x.astype(jax.dtypes.canonicalize_dtype(dtype))


OPERATIONS: Mapping[str, Callable[..., Any]] = {
    "Add": _binary(lambda a, b: a + b),
    "Sub": _binary(lambda a, b: a - b),
    "Mul": _binary(lambda a, b: a * b),
    "Div": _binary(_divide),
    "Neg": lambda x: -x,
    "Exp": lambda x: jnp.exp(x),
    "Log": lambda x: jnp.log(x),
    "Relu": lambda x: jnp.maximum(x, jnp.zeros((), x.dtype)),
    "Sigmoid": jax.nn.sigmoid,
    "Cast": _cast,
    "Constant": lambda value: value,
    "Shape": lambda x: np.asarray(x.shape, np.int64),
    "Gather": _gather,
    "Slice": _slice,
    "Concat": lambda *xs, axis: np.concatenate(xs, axis) if _known(*xs) else jnp.concatenate(xs, axis),
    "Unsqueeze": lambda x, axes: np.expand_dims(x, tuple(axes)) if _known(x) else jnp.expand_dims(x, tuple(axes)),
    "Gemm": _gemm,
    "BatchNormalization": _batch_norm,
}


def onnx_function(path: Path) -> Callable[[Mapping[str, jax.Array]], jax.Array]:
    """The ONNX graph at ``path`` as a traceable function of its named inputs; returns its first output.

    Constants and shapes are folded while tracing. Raises ValueError for an operation that is not in `OPERATIONS`.
    """
    graph = onnx.load(str(path)).graph
    weights = {t.name: onnx.numpy_helper.to_array(t) for t in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type not in OPERATIONS:
            raise ValueError(f"{path}: expected operations among {sorted(OPERATIONS)}, got {node.op_type!r}")
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        tensors = {k: onnx.numpy_helper.to_array(v) for k, v in attributes.items() if isinstance(v, onnx.TensorProto)}
        nodes.append((OPERATIONS[node.op_type], tuple(node.input), node.output[0], {**attributes, **tensors}))
    output = graph.output[0].name

    def apply(inputs: Mapping[str, jax.Array]) -> jax.Array:
        values: dict[str, Any] = {**weights, **inputs}
        for operation, names, target, attributes in nodes:
            values[target] = operation(*(values[n] for n in names), **attributes)
        return values[output]

    return apply
