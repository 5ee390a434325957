"""Greedy selection of an ensemble from a library of models."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from jhpo.kernels.shapes import Array, Float, Int


def greedy_counts(
    outputs: Float[Array, "k *s"], loss: Callable[[jax.Array], jax.Array], rounds: int
) -> tuple[Int[Array, "k"], Float[Array, "rounds"]]:
    """How often each model is in the ensemble that forward selection with replacement finds.

    Every round adds the model with which the mean of the outputs has the lowest loss. A model whose loss is NaN is
    never added.

    Args:
      outputs: ``float[k, ...]``, of k models for the same inputs.
      loss: of the mean of some of them, ``float[...] -> float[]``.
      rounds: models that are added, at least 1.

    Returns:
      The numbers after the best round, ``int32[k]``, and the loss after each, ``float[rounds]``.

    Source: Caruana, Niculescu-Mizil, Crew, Ksikes, "Ensemble selection from libraries of models", ICML 2004, section 2.

    >>> outputs = jnp.array([[1.0, 0.0], [0.0, 1.0], [9.0, 9.0]])
    >>> counts, losses = greedy_counts(outputs, lambda mean: jnp.square(mean - 0.5).sum(), 4)
    >>> counts.tolist(), losses[1].item()
    ([1, 1, 0], 0.0)
    """

    def add(
        carry: tuple[jax.Array, jax.Array], m: jax.Array
    ) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
        total, counts = carry
        # one model after another: all means at once would take k times the memory of the outputs
        found = jax.lax.map(lambda one: loss((total + one) / (m + 1).astype(total.dtype)), outputs)
        best = jnp.argmin(jnp.where(jnp.isnan(found), jnp.inf, found))
        counts = counts.at[best].add(1)
        return (total + outputs[best], counts), (counts, found[best])

    start = (jnp.zeros_like(outputs[0]), jnp.zeros(outputs.shape[0], jnp.int32))
    _, (counts, losses) = jax.lax.scan(add, start, jnp.arange(rounds, dtype=jnp.int32))
    return counts[jnp.argmin(jnp.where(jnp.isnan(losses), jnp.inf, losses))], losses
