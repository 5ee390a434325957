"""Augmentation with a tunable strength: random changes of the training inputs, differentiable in the strength."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jhpo.errors import invalid
from jhpo.kernels.trees import Number
from jhpo.keys import check_key
from jhpo.training.networks import AnyModel, Around, Extra, Model, Params, as_model
from jhpo.training.trainable import HP
from jhpo.values.structure import structured


@functools.partial(structured, data=["model"], meta=["change"])
@dataclasses.dataclass(frozen=True)
class _Augmented(Around):
    """A model with augmentation of its training inputs."""

    change: Callable[[HP, jax.Array, jax.Array], jax.Array]

    def apply(
        self, hp: HP, params: Params, extra: Extra, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Extra]:
        """See `jhpo.training.networks.Model.apply`."""
        if train:
            own, key = jax.random.split(key)
            x = self.change(hp, own, x)
        return self.model.apply(hp, params, extra, x, key, train)


def augmented(model: AnyModel, change: Callable[[HP, jax.Array, jax.Array], jax.Array]) -> Model:
    """A model for `jhpo.supervised` with augmentation: ``change(hp, key, x)`` is applied to training batches only.

    A change that multiplies a random number by a strength, as `add_noise` and `shift_images` do, is differentiable with
    respect to the strength, which can be tuned like any other hyperparameter.

    Args:
      model: any model that `jhpo.supervised` accepts.
      change: ``change(hp, key, x) -> x`` of a batch ``[n, ...]``.

    Raises:
      InvalidArgument: ``change`` is not callable, or ``model`` is not a model.

    >>> import jhpo, numpy as np, optax
    >>> line = (lambda key, x: {"w": jnp.zeros((1,))}, lambda p, x: x @ p["w"])
    >>> noisy = augmented(line, lambda hp, key, x: add_noise(key, x, hp["noise"]))
    >>> x = np.ones((8, 1), np.float32)
    >>> task = jhpo.supervised(noisy, lambda hp: optax.sgd(0.1), "regression", train=(x, x[:, 0]), valid=(x, x[:, 0]),
    ...                        batch_size=4, steps=5)
    >>> value, grad, _ = jhpo.hypergrad(task, {"noise": 0.5}, jax.random.key(0))
    >>> bool(grad["noise"] != 0)
    True
    """
    if not callable(change):
        raise invalid("change", "a function of (hp, key, x)", change)
    return _Augmented(as_model(model), change)


def add_noise(key: jax.Array, x: jax.Array, strength: Number) -> jax.Array:
    """``x + strength * normal``, of x's shape and dtype.

    Args:
      key: ``key[]``.
      x: floats.
      strength: a number.

    Raises:
      InvalidArgument: ``x`` are no floats.
    """
    _check_floats(x)
    return x + jnp.asarray(strength, x.dtype) * jax.random.normal(check_key(key), x.shape, x.dtype)


def shift_images(key: jax.Array, x: jax.Array, strength: Number) -> jax.Array:
    """Images ``float[n, height, width, ...]`` shifted by normal distances, bilinearly interpolated and 0 outside.

    Args:
      key: ``key[]``.
      x: the images.
      strength: standard deviation of the shift in pixels.

    Raises:
      InvalidArgument: ``x`` are no floats, or have fewer than three axes.

    >>> x = jnp.arange(9.0).reshape(1, 3, 3)
    >>> bool((shift_images(jax.random.key(0), x, 0.0) == x).all())
    True
    """
    _check_floats(x)
    if x.ndim < 3:
        raise invalid("x", "images [n, height, width, ...]", x.shape)
    distances = jnp.asarray(strength, x.dtype) * jax.random.normal(check_key(key), (x.shape[0], 2), x.dtype)

    def moved(image: jax.Array, by: jax.Array) -> jax.Array:
        for axis in (0, 1):
            # a matrix with two entries per row: interpolation and its derivative are matrix products
            n = image.shape[axis]
            places = jnp.arange(n, dtype=x.dtype)
            gap = jnp.abs(places[:, None] + by[axis] - places[None])
            image = jnp.moveaxis(jnp.tensordot(jnp.maximum(1 - gap, 0), image, (1, axis)), 0, axis)
        return image

    return jax.vmap(moved)(x, distances)


def _check_floats(x: jax.Array) -> None:
    if not jnp.issubdtype(x.dtype, jnp.floating):
        raise invalid("x", "floats", str(x.dtype), note="images of integers become floats by x.astype('float32') / 255")
