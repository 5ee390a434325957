"""A population on a Ray cluster: each actor trains a part of the members on the devices that it has."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jhpo.errors import invalid
from jhpo.evaluation.chunks import joined
from jhpo.evaluation.described import Described
from jhpo.evaluation.executors.clusters import Crew, check_resources, connected, sent, start
from jhpo.evaluation.members import NOTHING_MORE
from jhpo.evaluation.population import Population
from jhpo.process.switches import OF_RESULTS, set_here, settings_here
from jhpo.programs.devices import RayActors
from jhpo.space.space import Space
from jhpo.strategies.base import Evaluation, Request
from jhpo.training.trainable import State, Trainable
from jhpo.version import __version__


class RayPopulation:
    """Evaluates populations by actors on a Ray cluster, with the results of one device.

    All actors use chunks of one size, that of the first actor's choice unless it is given, so that neither their number
    nor the loss of one changes a bit of the results (on the same kind of device).

    Args:
        objective: a trainable or a plain objective.
        space: converts unit rows to hyperparameters.
        actors: how many, with which resources.
        chunk: members evaluated at once by an actor on each of its devices, or None.
        options: of the `Population` of each actor.
    """

    def __init__(
        self,
        objective: Trainable | Callable[..., Any],
        space: Space,
        actors: RayActors,
        chunk: int | str | None = None,
        **options: Any,
    ) -> None:
        if isinstance(chunk, str):
            raise invalid("chunk", "an integer >= 1 or None on a Ray cluster", chunk)
        check_resources(actors.resources)
        self.population = Population(objective, space, chunk=chunk, **options)  # checks, and trains states again
        self.trainable, self.workers = self.population.trainable, actors.workers
        self._settled_for = 0  # members of an actor for which the chunk was chosen
        self._devices = 1  # of an actor
        self._actors, self._task = actors, (objective, space, options)

    @functools.cached_property
    def _crew(self) -> Crew:
        ray, resources = connected(), self._actors.resources
        task = sent(ray, "objective", self._task)
        begin = functools.partial(start, ray, _Trainer, resources, task, settings_here(OF_RESULTS))
        return Crew(ray, "objective", self.workers, resources, begin)

    @property
    def layout(self) -> dict[str, int | None]:
        """The chunk size and the number of devices of an actor; see `Population.layout`."""
        return {"chunk": self.population.chunks.size, "devices": self._devices}

    @property
    def metric(self) -> Any:
        """The metric that is tuned, see `Population`."""
        return self.population.metric

    @property
    def described(self) -> Described:
        """Names of several objectives, and the number of measured constraints."""
        return self.population.described

    def evaluate(
        self, units: ArrayLike, ids: ArrayLike, root: jax.Array, request: Request = NOTHING_MORE
    ) -> Evaluation:
        """Results of unit rows; see `Population.evaluate`.

        Raises:
            InvalidArgument: what one device would raise, or a cluster without room for an actor.
            JhpoError: members whose actor was lost again and again.
        """
        units, ids = self.population.checked(units, ids)
        parts = np.array_split(np.arange(len(units)), min(self.workers, len(units)))
        chunk = self._chunk_for(units[parts[0]])
        key = (np.asarray(jax.random.key_data(root)), str(jax.random.key_impl(root)))
        results = self._crew.each("evaluate", [(chunk, units[rows], ids[rows], key, request) for rows in parts])
        result: Evaluation = joined(results, parts)
        self.population.warn(units, result.value)
        return result

    def _chunk_for(self, units: np.ndarray) -> int:
        """The chunk for an actor with so many members: once chosen it changes only for more of them."""
        chunks = self.population.chunks
        if not chunks.fixed and len(units) > self._settled_for:
            self._settled_for = len(units)
            ((size, self._devices),) = self._crew.each("settle", [(units,)])
            chunks.size = max(size, chunks.size or 0)
            chunks.widths.append(chunks.size)
        assert chunks.size is not None
        return chunks.size

    def states(
        self,
        units: ArrayLike,
        ids: ArrayLike,
        root: jax.Array,
        values: ArrayLike | None = None,
        horizons: ArrayLike = 1.0,
    ) -> list[State]:
        """Trained states of a few members, trained again on this machine; see `Population.states`."""
        return self.population.states(units, ids, root, values, horizons)

    def close(self) -> None:
        """End the actors; `evaluate` starts others."""
        self._crew.close()


class _Trainer:
    """What runs on the cluster: a population on the devices of the actor."""

    def __init__(self, task: tuple[Any, Space, dict[str, Any]], switches: dict[str, Any]) -> None:
        set_here(switches)
        self._objective, self._space, self._options = task
        self._populations: dict[int | None, Population] = {}

    def version(self) -> str:
        return __version__

    def _population(self, chunk: int | None) -> Population:
        if chunk not in self._populations:
            self._populations[chunk] = Population(self._objective, self._space, chunk=chunk, **self._options)
        return self._populations[chunk]

    def settle(self, units: np.ndarray) -> tuple[int | None, int]:
        """The chunk that suits these members, and the number of devices there are."""
        population = self._population(None)
        population.chunks.settle(len(units), population.num_groups, lambda: population.member_bytes(units[0]))
        return population.chunks.size, population.mesh.size

    def evaluate(
        self, chunk: int, units: np.ndarray, ids: np.ndarray, key: tuple[np.ndarray, str], request: Request
    ) -> Evaluation:
        data, implementation = key
        root = jax.random.wrap_key_data(jnp.asarray(data), impl=implementation)
        return self._population(chunk).evaluate(units, ids, root, request)
