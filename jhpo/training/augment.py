"""Augmentation whose strength is a hyperparameter: random changes of the training inputs that have a derivative."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jhpo.errors import invalid
from jhpo.kernels.trees import Number
from jhpo.structure import structured
from jhpo.training.networks import Adapted, AnyModel, Extra, Model, Params, as_model
from jhpo.training.trainable import HP


@functools.partial(structured, data=["model"], meta=["change"])
@dataclasses.dataclass(frozen=True)
class _Augmented(Adapted):
    """A model whose inputs are changed while it is trained."""

    model: Model
    change: Callable[[HP, jax.Array, jax.Array], jax.Array]

    def init(self, hp: HP, key: jax.Array, x: jax.Array) -> tuple[Params, Extra]:
        """See `jhpo.training.networks.Model.init`."""
        return self.model.init(hp, key, x)

    def apply(
        self, hp: HP, params: Params, extra: Extra, x: jax.Array, key: jax.Array, train: bool
    ) -> tuple[jax.Array, Extra]:
        """See `jhpo.training.networks.Model.apply`."""
        if train:
            own, key = jax.random.split(key)
            x = self.change(hp, own, x)
        return self.model.apply(hp, params, extra, x, key, train)


def augmented(model: AnyModel, change: Callable[[HP, jax.Array, jax.Array], jax.Array]) -> Model:
    """A model for `jhpo.supervised` whose training batches go through ``change(hp, key, x)``, and others do not.

    Written as a fixed random number times a strength (as `add_noise` and `shift_images` are), a change has a
    derivative in the strength, and the strength is tuned like any other hyperparameter.

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
    """``x + strength * normal``, of x's shape and dtype."""
    return x + jnp.asarray(strength, x.dtype) * jax.random.normal(key, x.shape, x.dtype)


def shift_images(key: jax.Array, x: jax.Array, strength: Number) -> jax.Array:
    """Images ``float[n, height, width, ...]`` moved by normal distances of ``strength`` pixels, bilinearly; 0 outside.

    >>> x = jnp.arange(9.0).reshape(1, 3, 3)
    >>> bool((shift_images(jax.random.key(0), x, 0.0) == x).all())
    True
    """
    if x.ndim < 3:
        raise invalid("x", "images [n, height, width, ...]", x.shape)
    distances = jnp.asarray(strength, x.dtype) * jax.random.normal(key, (x.shape[0], 2), x.dtype)

    def moved(image: jax.Array, by: jax.Array) -> jax.Array:
        for axis in (0, 1):
            # rows of a matrix with two entries each: interpolation is a product, and its derivative is one too
            n = image.shape[axis]
            places = jnp.arange(n, dtype=x.dtype)
            gap = jnp.abs(places[:, None] + by[axis] - places[None])
            image = jnp.moveaxis(jnp.tensordot(jnp.maximum(1 - gap, 0), image, (1, axis)), 0, axis)
        return image

    return jax.vmap(moved)(x, distances)
