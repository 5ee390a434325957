"""Pytrees as vectors: the floating-point leaves of a tree, their dot products, norms and flat form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

Tree = Any
Number = jax.Array | float  # traced or not


def is_float(leaf: object) -> bool:
    """Whether a leaf is differentiable: not a key, integer, bool, string or function."""
    if not hasattr(leaf, "dtype"):
        return isinstance(leaf, (float, complex))
    return bool(jnp.issubdtype(leaf.dtype, jnp.inexact))


def num_bytes(tree: Tree) -> int:
    """Bytes of all leaves: arrays, or shapes with dtypes.

    >>> num_bytes({"a": jax.ShapeDtypeStruct((3, 2), jnp.float32), "b": jnp.zeros(2, jnp.int8)})
    26
    """
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def split_floats(tree: Tree) -> tuple[list[jax.Array], Callable[[list[jax.Array]], Tree]]:
    """The floating-point leaves of a tree, and a function that rebuilds the tree from such leaves.

    >>> import jax.numpy as jnp
    >>> floats, rebuild = split_floats({"lr": jnp.float32(0.1), "opt": jnp.int32(2)})
    >>> len(floats), rebuild([jnp.float32(0.5)])["opt"].item()
    (1, 2)
    """
    leaves, treedef = jax.tree.flatten(tree)
    chosen = [is_float(leaf) for leaf in leaves]

    def rebuild(floats: list[jax.Array]) -> Tree:
        rest = iter(floats)
        return jax.tree.unflatten(treedef, [next(rest) if c else leaf for c, leaf in zip(chosen, leaves)])

    return [jnp.asarray(leaf) for c, leaf in zip(chosen, leaves) if c], rebuild


def flatten_floats(tree: Tree) -> tuple[jax.Array, Callable[[jax.Array], Tree]]:
    """The floating-point leaves as one vector, and a function from such a vector to the tree.

    The vector has the widest dtype among the leaves; the function restores the dtype of each leaf.
    """
    floats, rebuild = split_floats(tree)
    shapes = [leaf.shape for leaf in floats]
    sizes = np.cumsum([0] + [leaf.size for leaf in floats])
    dtype = jnp.result_type(*[leaf.dtype for leaf in floats]) if floats else jnp.result_type(float)
    flat = jnp.concatenate([leaf.astype(dtype).reshape(-1) for leaf in floats] or [jnp.zeros((0,), dtype)])

    def back(vector: jax.Array) -> Tree:
        parts = [vector[a:b].reshape(s) for a, b, s in zip(sizes[:-1], sizes[1:], shapes)]
        return rebuild([part.astype(leaf.dtype) for part, leaf in zip(parts, floats)])

    return flat, back


def gradient_like(tree: Tree, floats: list[jax.Array]) -> Tree:
    """A gradient with the tree's structure: the given arrays at its floating-point leaves, zeros elsewhere."""
    rest = iter(floats)
    return jax.tree.map(lambda leaf: next(rest) if is_float(leaf) else jnp.zeros(jnp.shape(leaf)), tree)


def dot(a: Tree, b: Tree) -> jax.Array:
    """Inner product over all leaves."""
    parts = jax.tree.map(lambda x, y: jnp.sum(x * y), a, b)
    return jax.tree.reduce(jnp.add, parts)


def norm(a: Tree) -> jax.Array:
    """Euclidean norm over all leaves, scaled by the largest entry so that it neither over- nor underflows."""
    if not jax.tree.leaves(a):
        return jnp.zeros((), jnp.result_type(float))
    largest = jax.tree.reduce(jnp.maximum, jax.tree.map(lambda x: jnp.max(jnp.abs(x), initial=0.0), a))
    scale = jnp.where((largest > 0) & jnp.isfinite(largest), largest, jnp.ones_like(largest))
    total = jax.tree.reduce(jnp.add, jax.tree.map(lambda x: jnp.sum((x / scale.astype(x.dtype)) ** 2), a))
    return scale * jnp.sqrt(total)


def axpy(c: jax.Array | float, x: Tree, y: Tree) -> Tree:
    """``c * x + y``, in the dtypes of x."""
    return jax.tree.map(lambda u, v: jnp.asarray(c, u.dtype) * u + v, x, y)


def scaled(c: jax.Array | float, x: Tree) -> Tree:
    """``c * x``, in the dtypes of x."""
    return jax.tree.map(lambda u: jnp.asarray(c, u.dtype) * u, x)


def normal_like(key: jax.Array, floats: list[jax.Array]) -> list[jax.Array]:
    """Standard normal numbers in the shapes of the leaves."""
    keys = jax.random.split(key, max(len(floats), 1))
    return [jax.random.normal(k, leaf.shape, leaf.dtype) for k, leaf in zip(keys, floats)]
