"""Asynchronous successive halving of members that are paused at rungs, and promoted when they are among the best."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jhpo.errors import invalid
from jhpo.kernels import threefry
from jhpo.kernels.order import inverse, lexsort
from jhpo.space.space import Space
from jhpo.strategies.base import (
    Evaluation,
    Ids,
    State,
    Strategy,
    default_dtype,
    feasible_value,
    static_field,
    strategy,
)
from jhpo.strategies.halving import finals
from jhpo.strategies.queue import Queue, asked, empty_queue, taken

_FEWEST = 64  # members for which there is room at first, where nobody says how many there will be


class PromotionState(NamedTuple):
    """The members: there is room for C; r rungs, the end of the training among them; n are trained at a time."""

    space: Space  # static
    queue: Queue | None  # None without a proposer
    units: jax.Array  # float[C, d], in the order in which they began
    value: jax.Array  # float[C, r], at each rung; +inf where a member was not so far, and from where it failed
    done: jax.Array  # int32[C], parts that a member was trained
    rung: jax.Array  # int32[C], to which it is trained, or was
    lost: jax.Array  # bool[C], failed or infeasible: not trained on
    started: jax.Array  # int32[]
    member: jax.Array  # int32[n], of each row of the generation; -1 where the row is empty


@strategy
class Promotion(Strategy):
    """What `jhpo.ASHA` does with trainables; options and errors are documented there.

    In each generation the rows train their members by one part. A row whose member has reached its rung, or has failed,
    is free: it takes the best member at the highest rung of which one waits that is among the best ``1 / eta`` of all
    that have been there, and otherwise a new one.

    Args:
      batch: rows.
      eta: reduction factor.
      interval: steps of a part, and of the first rung.
      proposer: a steady strategy, or None.
      capacity: members at most; None if that is not known.
      max_steps: length of the training.
    """

    batch: int = static_field(default=64)
    eta: int = static_field(default=3)
    interval: int = static_field(default=1)
    proposer: Any = None
    capacity: int | None = static_field(default=None)
    max_steps: int | None = static_field(default=None)
    thaws = True

    @property
    def population(self) -> int:
        return self.batch

    @property
    def rungs_at(self) -> np.ndarray:
        """``int32[r]``: parts after which members are compared, the last of them the whole training.

        >>> Promotion(interval=2, max_steps=25).rungs_at.tolist()
        [1, 3, 9, 13]
        """
        if self.max_steps is None:
            raise invalid("max_steps", "the length of the training (minimize and run know it)", None)
        parts, at = -(-self.max_steps // self.interval), [1]
        while at[-1] * self.eta < parts:
            at.append(at[-1] * self.eta)
        return np.asarray([*at, parts], np.int32)

    # -- protocol -------------------------------------------------------------------------------------------

    def full(self, state: PromotionState) -> bool:
        return self.capacity is None and int(state.started) + self.batch > len(state.done)

    def grow(self, state: PromotionState) -> PromotionState:
        more = self._blank(state.space, len(state.done))
        grown: dict[str, Any] = {name: jnp.concatenate([getattr(state, name), x]) for name, x in more.items()}
        return state._replace(**grown)

    def _blank(self, space: Space, rows: int) -> dict[str, jax.Array]:
        """Columns for members that have not begun."""
        dtype = default_dtype()
        return {
            "units": jnp.zeros((rows, space.dim), dtype),
            "value": jnp.full((rows, len(self.rungs_at)), jnp.asarray(jnp.inf, dtype)),
            "done": jnp.zeros(rows, jnp.int32),
            "rung": jnp.zeros(rows, jnp.int32),
            "lost": jnp.zeros(rows, jnp.bool_),
        }

    def init(self, space: Space, key: jax.Array) -> PromotionState:
        zero, queue = jnp.zeros((), jnp.int32), None
        if self.proposer is not None:
            queue = empty_queue(self.proposer, space, key, default_dtype())
        rows = max(_FEWEST, 2 * self.batch) if self.capacity is None else self.capacity
        return PromotionState(
            space=space,
            queue=queue,
            **self._blank(space, rows),
            started=zero,
            member=jnp.full((self.batch,), -1, jnp.int32),
        )

    def members(self, state: PromotionState) -> Ids:
        return state.member

    def trained(self, state: PromotionState) -> Ids:
        return jnp.where(state.member >= 0, state.done[jnp.maximum(state.member, 0)], 0)

    def ask(self, state: PromotionState, key: jax.Array) -> tuple[jax.Array, PromotionState]:
        capacity, at = len(state.done), jnp.asarray(self.rungs_at)
        own = jnp.maximum(state.member, 0)
        free = (state.member < 0) | state.lost[own] | (state.done[own] >= at[state.rung[own]])
        # free rows take those that wait, then new members while there is room
        line, waiting = self._line(state)
        place = jnp.cumsum(free.astype(jnp.int32)) - 1
        promoted = free & (place < waiting)
        chosen = line[jnp.minimum(place, capacity - 1)]
        number = state.started + place - waiting
        begins = free & ~promoted & (number < capacity)
        member = jnp.where(free, jnp.where(promoted, chosen, jnp.where(begins, number, -1)), state.member)
        count = begins.sum(dtype=jnp.int32)
        new, queue = self._new(state, key, count)
        own = jnp.maximum(member, 0)
        units = jnp.where(begins[:, None], new[jnp.clip(place - waiting, 0, self.batch - 1)], state.units[own])
        return units, state._replace(
            queue=queue,
            units=state.units.at[jnp.where(begins, number, capacity)].set(units, mode="drop"),
            rung=state.rung.at[jnp.where(promoted, chosen, capacity)].add(1, mode="drop"),
            started=state.started + count,
            member=member,
        )

    def tell(self, state: PromotionState, units: jax.Array, result: Evaluation) -> PromotionState:
        capacity, own = len(state.done), jnp.maximum(state.member, 0)
        there = state.member >= 0
        trained = there if result.mask is None else there & result.mask
        # new members for which the search had no room did not begin, their numbers are the last ones
        refused = (there & ~trained & (state.done[own] == 0)).sum(dtype=jnp.int32)
        value, violation = feasible_value(result)
        bad = ~jnp.isfinite(value) | (violation > 0)
        done, rung = state.done[own] + 1, state.rung[own]
        reached = trained & ~bad & (done >= jnp.asarray(self.rungs_at)[rung])
        at = jnp.where(trained, own, capacity)
        return state._replace(
            units=state.units.at[at].set(units.astype(state.units.dtype), mode="drop"),  # given ones may be others
            value=state.value.at[jnp.where(reached, own, capacity), rung].set(
                value.astype(state.value.dtype), mode="drop"
            ),
            done=state.done.at[at].set(done, mode="drop"),
            lost=state.lost.at[at].set(bad, mode="drop"),
            started=state.started - refused,
            member=jnp.where(trained, state.member, -1),
        )

    def _line(self, state: PromotionState) -> tuple[jax.Array, jax.Array]:
        """Members in the order in which they are promoted, ``int32[C]``, and how many of them may be, ``int32[]``."""
        begun = state.done > 0
        reached = begun & (state.done >= jnp.asarray(self.rungs_at)[state.rung])
        count = len(self.rungs_at) - 1

        def at(rung: jax.Array, value: jax.Array) -> tuple[jax.Array, jax.Array]:
            """Who may be promoted from a rung, and every member's rank there."""
            been = (state.rung > rung) | ((state.rung == rung) & (reached | (begun & state.lost)))
            rank = inverse(lexsort((jnp.where(been, value, jnp.inf), ~been)))
            top = been.sum(dtype=jnp.int32) // self.eta
            return (state.rung == rung) & reached & ~state.lost & (rank < top), rank

        may, ranks = jax.vmap(at)(jnp.arange(count, dtype=jnp.int32), state.value[:, :count].T)
        mine = jnp.minimum(state.rung, count - 1)
        rank = jnp.take_along_axis(ranks, mine[None, :], axis=0)[0]
        promotable = may.any(axis=0)
        line = lexsort((rank, -state.rung, ~promotable))
        return line, promotable.sum(dtype=jnp.int32)

    # -- new members ----------------------------------------------------------------------------------------

    def _new(self, state: PromotionState, key: jax.Array, count: jax.Array) -> tuple[jax.Array, Queue | None]:
        """Points of which ``count`` members take the first ones, ``float[n, d]``, and what then waits."""
        k_random, k_ask = threefry.split(key)
        random = state.space.sample_unit(k_random, self.batch, state.units.dtype)
        if state.queue is None:
            return random, None
        return taken(state.queue, count, random, lambda: self.proposed(state, k_ask))

    def proposed(self, state: PromotionState, key: jax.Array) -> tuple[jax.Array, State]:
        """Points of the proposer, ``float[p, d]``, which is told of all members, and its next state.

        Of members that are paused it hears what they would have at the end had they gained as much as the median of
        those that were trained on, with the variance of such gains; the others are being evaluated.
        """
        begun = jnp.arange(len(state.done), dtype=jnp.int32) < state.started
        known = begun & (state.lost | jnp.isfinite(state.value[:, 0]))
        curve = jnp.where(state.lost[:, None], jnp.inf, state.value)
        value, variance = finals(curve, jnp.int32(curve.shape[1] - 1))
        told = Evaluation(jnp.where(known, value, jnp.nan), mask=known, variance=variance)
        assert state.queue is not None
        proposer = self.proposer.prepare(len(state.done) + self.proposer.population)
        return asked(proposer, state.queue, state.space, key, state.units, told, begun & ~known)
