"""Where the states of paused members wait: on the device, or in the memory of the host where they do not fit."""

from __future__ import annotations

import functools
import logging
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.evaluation.paused import rows_of
from jhpo.evaluation.population import Population
from jhpo.keys import is_key, key_of_data, zero_keys
from jhpo.programs.devices import least_memory
from jhpo.training.trainable import State

logger = logging.getLogger("jhpo.population")
_FEWEST = 64  # members for which there is room at first, where nobody says how many there will be


class Shelf:
    """States of members, ``[replicates, ...]`` each, by number; those in training are in a frame beside it.

    Args:
      population: of the trainable.
      frame: states of n rows, a tree of ``[n * replicates, ...]``.
      capacity: members for which there is room at first; the room doubles where it does not suffice.
    """

    def __init__(self, population: Population, frame: State, capacity: int | None) -> None:
        leaves, self._treedef = jax.tree.flatten(frame)
        self._population, self._replicates = population, population.replicates
        self._likes = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in leaves]
        self._rows = len(leaves[0]) // self._replicates if leaves else 0
        self._leaves: list[Any] = []
        self.offloads = False
        self.room = 0  # members
        self._grow(_FEWEST if capacity is None else capacity)

    def swap(self, frame: State, inside: np.ndarray, wanted: np.ndarray) -> State:
        """The frame after members that leave it were put here and others were taken from here.

        Args:
          frame: its arrays are given up.
          inside: ``int[n]``, the member in each row; -1 where there is none.
          wanted: ``int[n]``, the member to be there, put here before; -1 where the row stays as it is.
        """
        most = int(max(inside.max(), wanted.max()))
        while self.room <= most:
            self._grow(2 * self.room)
        leaves = jax.tree.leaves(frame)
        if self.offloads:
            return jax.tree.unflatten(self._treedef, self._on_host(leaves, inside, wanted))
        out, into = (np.asarray(x, np.int32) for x in (inside, wanted))
        self._leaves, leaves = _exchange(self._leaves, leaves, out, into, self._replicates)
        return jax.tree.unflatten(self._treedef, leaves)

    def first_replicate(self, member: int) -> State:
        """The state of replicate 0 of a member, which was put here."""
        at = member * self._replicates
        if not self.offloads:
            return jax.tree.unflatten(self._treedef, [x[at] for x in self._leaves])
        return jax.tree.unflatten(
            self._treedef, [_device(x[at], like) for x, like in zip(self._leaves, self._likes)]
        )  # fmt: skip

    def _on_host(self, leaves: list[Any], inside: np.ndarray, wanted: np.ndarray) -> list[Any]:
        held = [np.array(_data(x)) for x in leaves]
        leave, enter = np.flatnonzero(inside >= 0), np.flatnonzero(wanted >= 0)
        for kept, row in zip(self._leaves, held):
            kept[self._places(inside[leave])] = row[self._places(leave)]
            row[self._places(enter)] = kept[self._places(wanted[enter])]
        return [_device(row, like) for row, like in zip(held, self._likes)]

    def _places(self, members: np.ndarray) -> np.ndarray:
        return (members[:, None] * self._replicates + np.arange(self._replicates)).reshape(-1)

    def _grow(self, room: int) -> None:
        """Make room for so many members, with what is here already."""
        before, missing = self._leaves, (room - self.room) * self._replicates
        if not self.offloads and self._too_large(room):
            self.offloads, before = True, [np.array(_data(x)) for x in before]
        if self.offloads:
            likes = [jax.eval_shape(_data, like) for like in self._likes]
            more: list[Any] = [np.zeros((missing, *like.shape[1:]), like.dtype) for like in likes]
            self._leaves = [np.concatenate(pair) for pair in zip(before, more)] if before else more
        else:
            more = [_blank(missing, like) for like in self._likes]
            self._leaves = [jnp.concatenate(pair) for pair in zip(before, more)] if before else more
        self.room = room

    def _too_large(self, room: int) -> bool:
        """The states of so many members would take more than half of the memory."""
        chunks = self._population.chunks
        each = sum(x.size * x.dtype.itemsize for x in self._likes) // max(self._rows, 1)
        free = chunks.memory or least_memory(self._population.mesh)
        if each * room <= free / 2:
            return False
        notice = (
            f"paused members wait in the memory of the host: their states take {each * room / 2**20:.1f} MiB of the "
            f"{free / 2**20:.1f} MiB that are free on a device"
        )
        logger.warning(notice)
        chunks.notices.append(notice)
        return True


@functools.partial(jax.jit, donate_argnums=(0, 1), static_argnums=4)
def _exchange(
    kept: list[jax.Array], frame: list[jax.Array], out: jax.Array, into: jax.Array, replicates: int
) -> tuple[list[jax.Array], list[jax.Array]]:
    """Flat leaves alone: a structure could hold objects of the user's, which a program must not keep alive."""

    def one(kept: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        put = jnp.where(jnp.repeat(out >= 0, replicates), rows_of(out, replicates), kept.shape[0])
        kept = kept.at[put].set(rows, mode="drop")
        taken = kept[rows_of(jnp.maximum(into, 0), replicates)]
        enters = jnp.repeat(into >= 0, replicates).reshape(-1, *[1] * (rows.ndim - 1))
        return kept, jnp.where(enters, taken, rows)

    pairs = [one(*pair) for pair in zip(kept, frame)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _blank(rows: int, like: jax.ShapeDtypeStruct) -> jax.Array:
    shape = (rows, *like.shape[1:])
    return zero_keys(shape, like) if is_key(like) else jnp.zeros(shape, like.dtype)


def _data(x: Any) -> Any:
    """An array as plain numbers, keys by their data."""
    return jax.random.key_data(x) if is_key(x) else x


def _device(data: np.ndarray, like: jax.ShapeDtypeStruct) -> jax.Array:
    return key_of_data(jnp.asarray(data), like) if is_key(like) else jnp.asarray(data)
